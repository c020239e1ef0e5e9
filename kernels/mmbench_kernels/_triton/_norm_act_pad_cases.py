"""The configurations of `norm_act_pad` that are compiled ahead of time, and what their machine code may need.

Every tile stands once with sample statistics over a reflected border, as in GEMMNet, or with channel
statistics, scale, shift and zeros, as in mmFormer; sizes are those of a map of 512 x 512 or 8 x 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmbench_kernels._triton._aot import AotCase, Gates
from mmbench_kernels._triton._doubled_maps_backward import TAPS, halve_kernel
from mmbench_kernels._triton._launch import Config
from mmbench_kernels._triton._norm_act_pad_sums import sums_kernel
from mmbench_kernels._triton._padded_maps import (
    CHUNK_TILES,
    PACKED_TILES,
    PLANAR_TILES,
    alignment,
    slots_at_once,
    tile_config,
)
from mmbench_kernels._triton.norm_act_pad import apply_kernel, moments_kernel
from mmbench_kernels._triton.norm_act_pad_backward import gradient_kernel

DTYPES = ("fp32", "fp16", "bf16")
BLOCKS_PER_SM = 4
"""Of 128 threads: enough in flight for the memory, at no more than 128 registers a thread."""

_STRIDES = ("batch_stride", "channel_stride", "row_stride", "pixel_stride")


@dataclass(frozen=True)
class Shape:
    """What a case is compiled for; affine stands for channel statistics, scale, shift and zeros around."""

    packed: bool
    channels: int
    side: int
    affine: bool

    @property
    def name(self) -> str:
        """The words that tell it from the others."""
        layout = "channels-last" if self.packed else "planar"
        return f"{layout} {self.channels}x{self.side}x{self.side} {'affine' if self.affine else 'plain'}"

    def config(self, border: int = 0, *, folds: bool = False) -> Config:
        """Return the tile for a map with so many pixels more on each side."""
        return tile_config(self.packed, self.channels, (self.side + 2 * border) ** 2, folds=folds)

    def addressing(self, prefix: str = "") -> tuple[dict[str, str], dict[str, Any], list[str]]:
        """Return the types of a map's strides, the values of those that are constant, the aligned ones."""
        # A stride of 1 is a constant to Triton. Rows of packed maps are found from the pixel's number.
        one = "channel_stride" if self.packed else "pixel_stride"
        names = [prefix + name for name in _STRIDES]
        types = {name: "i32" for name in names if name != prefix + one}
        return types, {prefix + one: 1}, [prefix + "batch_stride", prefix + "row_stride"]


SHAPES = (
    Shape(packed=True, channels=max(PACKED_TILES) // 8, side=512, affine=False),
    Shape(packed=True, channels=max(PACKED_TILES), side=64, affine=True),
    Shape(packed=False, channels=8, side=512, affine=False),
    Shape(packed=False, channels=max(PLANAR_TILES) // 32, side=8, affine=True),
)


def cases() -> list[AotCase]:
    """Return the cases of both passes, for every dtype."""
    return [case for dtype in DTYPES for shape in SHAPES for case in _of_shape(shape, dtype)]


def _of_shape(shape: Shape, dtype: str) -> Iterator[AotCase]:
    yield _moments(shape, dtype)
    yield _apply(shape, dtype)
    yield _sums(shape, dtype)
    yield _gradient(shape, dtype, doubled=False)
    if not shape.affine:
        yield _gradient(shape, dtype, doubled=True)
        yield _halve(shape, dtype)


def _case(
    what: str,
    kernel: Any,
    shape: Shape,
    dtype: str,
    *,
    types: Mapping[str, str],
    constants: Mapping[str, Any],
    config: Config,
    aligned: list[str],
    gates: Gates,
) -> AotCase:
    """Return a case with the arguments that all kernels but the last have in common."""
    own_types, own_constants, own_aligned = shape.addressing()
    return AotCase(
        name=f"{what} {shape.name} {dtype}",
        kernel=kernel,
        signature={**own_types, "height": "i32", "width": "i32", **types},
        constants={
            "CHANNELS": shape.channels,
            "LAYOUT": "packed" if shape.packed else "flat",
            "CHUNK": CHUNK_TILES,
            **own_constants,
            **constants,
        },
        config=config,
        dtype=dtype,
        # Planes of 512² and 8² pixels are multiples of 16, those of 514² are not.
        aligned=[*own_aligned, *(() if shape.packed else ("channel_stride",)), "height", "width", *aligned],
        gates=gates,
    )


def _source(shape: Shape, doubled: bool = False) -> dict[str, Any]:
    return {"FIRST_CHANNEL": 0, "DOUBLED": doubled, "PER_CHANNEL": shape.affine}


def _border(shape: Shape) -> dict[str, Any]:
    return {"TOTAL": shape.channels, "PAD": 1, "REFLECT": not shape.affine}


def _affine(shape: Shape) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the types of scale and shift, or that they are None."""
    names = ("weight_ptr", "bias_ptr")
    return (dict.fromkeys(names, "*fp32"), {}) if shape.affine else ({}, dict.fromkeys(names))


def _moments(shape: Shape, dtype: str) -> AotCase:
    return _case(
        "moments",
        moments_kernel,
        shape,
        dtype,
        types={"x_ptr": f"*{dtype}", "partials_ptr": "*fp32", "slots": "i32", "first_slot": "i32"},
        constants={"COLUMNS": shape.channels if shape.affine else 1, **_source(shape)},
        config=shape.config(),
        aligned=["x_ptr", "partials_ptr"],
        gates=Gates(blocks_per_sm=BLOCKS_PER_SM, tensor_cores=False, wide_loads=True),
    )


def _apply(shape: Shape, dtype: str) -> AotCase:
    types, constants = _affine(shape)
    padded, config = (shape.side + 2) ** 2, shape.config(border=1)
    return _case(
        "apply",
        apply_kernel,
        shape,
        dtype,
        types={
            "x_ptr": f"*{dtype}",
            "y_ptr": f"*{dtype}",
            "partials_ptr": "*fp32",
            "mean_ptr": "*fp64",
            "rstd_ptr": "*fp64",
            "slots": "i32",
            "eps": "fp32",
            "slope": "fp32",
            **types,
        },
        constants={
            "PACKED": shape.packed,
            "ALIGNMENT": alignment(padded),
            "SLOTS_AT_ONCE": slots_at_once(config, shape.affine),
            **_source(shape),
            **_border(shape),
            **constants,
        },
        config=config,
        aligned=["x_ptr", "y_ptr", "partials_ptr", "mean_ptr", "rstd_ptr"],
        gates=Gates(
            blocks_per_sm=BLOCKS_PER_SM,
            tensor_cores=False,
            # A planar row that moves by the border is aligned in x or in y, never in both: y it is. Its
            # planes start at multiples of 4 values.
            wide_loads=shape.packed,
            wide_stores=shape.packed or dtype == "fp32",
        ),
    )


def _gradient_types(shape: Shape, dtype: str) -> tuple[dict[str, str], dict[str, Any], list[str]]:
    """Return what the kernels of the backward pass have in common."""
    types, constants, aligned = shape.addressing("grad_")
    affine_types, affine_constants = _affine(shape)
    types |= {
        "grad_ptr": f"*{dtype}",
        "x_ptr": f"*{dtype}",
        "sums_ptr": "*fp32",
        "mean_ptr": "*fp64",
        "rstd_ptr": "*fp64",
        "slots": "i32",
        "slope": "fp32",
        **affine_types,
    }
    constants |= {
        "GRAD_LAYOUT": "packed" if shape.packed else "flat",
        "SUMS_PER_CHANNEL": shape.affine,
        **_border(shape),
        **affine_constants,
    }
    # The rows and planes of a padded map are multiples of 16 only by chance.
    return (
        types,
        constants,
        ["grad_ptr", "x_ptr", "sums_ptr"] if not shape.packed else [*aligned, "grad_ptr", "x_ptr"],
    )


def _sums(shape: Shape, dtype: str) -> AotCase:
    types, constants, aligned = _gradient_types(shape, dtype)
    return _case(
        "sums",
        sums_kernel,
        shape,
        dtype,
        types={**types, "first_slot": "i32"},
        constants={**constants, **_source(shape)},
        config=shape.config(border=1),
        aligned=aligned,
        gates=Gates(blocks_per_sm=BLOCKS_PER_SM, tensor_cores=False, wide_loads=shape.packed),
    )


def _gradient(shape: Shape, dtype: str, *, doubled: bool) -> AotCase:
    types, constants, aligned = _gradient_types(shape, dtype)
    config = shape.config(folds=True)
    return _case(
        "gradient of a doubled map" if doubled else "gradient",
        gradient_kernel,
        shape,
        dtype,
        types={**types, "result_ptr": f"*{dtype}"},
        constants={
            "PACKED": shape.packed,
            "ALIGNMENT": alignment(shape.side**2),
            "SLOTS_AT_ONCE": slots_at_once(config, shape.affine),
            **constants,
            **_source(shape, doubled),
        },
        config=config,
        aligned=[*aligned, "result_ptr"],
        gates=Gates(
            blocks_per_sm=BLOCKS_PER_SM - 1,  # what is gathered takes registers
            tensor_cores=False,
            # A planar tile gives a thread four values: 16 bytes of float32, 8 of half precision. Those of a
            # doubled map do not stand together.
            wide_loads=shape.packed or (dtype == "fp32" and not doubled),
            wide_stores=shape.packed or dtype == "fp32",
        ),
    )


def _halve(shape: Shape, dtype: str) -> AotCase:
    return _case(
        "halve",
        halve_kernel,
        shape,
        dtype,
        types={"grad_ptr": f"*{dtype}", "result_ptr": f"*{dtype}"},
        constants={"PACKED": shape.packed, "ALIGNMENT": alignment(shape.side**2), "TAPS": TAPS},
        config=shape.config(),
        aligned=["grad_ptr", "result_ptr"],
        gates=Gates(
            blocks_per_sm=BLOCKS_PER_SM if shape.packed else BLOCKS_PER_SM - 1,
            tensor_cores=False,
            wide_loads=shape.packed,  # the taps of neighbouring pixels of a plane are two apart
            wide_stores=shape.packed or dtype == "fp32",
        ),
    )
