"""The shipped configurations of `modal_fuse`, to be compiled ahead of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mmbench_kernels._triton import _modal_fuse_configs as configs
from mmbench_kernels._triton import modal_fuse, modal_fuse_backward
from mmbench_kernels._triton._aot import AotCase, Gates

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# What is multiplied, C and O of the maps, their memory format. float32 is what runs out of registers: without
# tensor cores (ieee), or with three products in the place of one (tf32x3). Half precision has room to spare.
PROBLEMS = (
    ("fp32", "ieee", 8, "packed"),
    ("fp32", "ieee", 64, "flat"),
    ("fp32", "ieee", 128, "packed"),
    ("fp32", "tf32x3", 128, "packed"),
    ("fp32", "tf32", 128, "packed"),
    ("fp16", "ieee", 8, "flat"),
    ("fp16", "ieee", 128, "packed"),
    ("bf16", "ieee", 32, "packed"),
)

_STRIDES = ("batch_stride", "channel_stride", "row_stride", "pixel_stride")


def aot_cases() -> list[AotCase]:
    """Return the configurations: the thinnest and the widest maps of each kind, and what lies between."""
    cases = [_statistics(), _mix("fp16", "ieee", [32] * modal_fuse.MAPS, "flat")]
    for dtype, precision, width, layout in PROBLEMS:
        cases += [
            _mix(dtype, precision, [width] * 2, layout),
            _sums(dtype, precision, width, layout),
            _maps(dtype, precision, width, layout),
        ]
        if precision == "ieee":  # no product, and no tile by the width of the result
            cases.append(_moments(dtype, width, layout))
    return cases


def _statistics() -> AotCase:
    signature = {"partial_ptr": "*fp64", "statistics_ptr": "*fp64", "eps": "fp32"}
    signature |= dict.fromkeys(("batch", "entries", "groups"), "i32")
    return AotCase(
        name="statistics",
        kernel=modal_fuse.statistics_kernel,
        signature=signature,
        constants={},
        config=configs.STATISTICS_CONFIG,
        dtype="fp32",
    )


def _moments(dtype: str, width: int, layout: str) -> AotCase:
    described = _Arguments()
    described.map("x_ptr", "", dtype, width, layout)
    described.present()
    described.integers("slot", "first_column", "batch", "columns", "width", "pieces")
    described.integers("pixel_count", "piece_pixels", aligned=True)
    described.pointers(partial_ptr="*fp64")
    constants = {"CHANNELS": width, "FILLED": True}
    return described.case(
        f"moments {dtype} {width} {layout}",
        modal_fuse.moments_kernel,
        configs.moments_config(width),
        dtype,
        constants,
        Gates(wide_loads=True),
    )


def _mix(dtype: str, precision: str, widths: Sequence[int], layout: str) -> AotCase:
    outputs = widths[0]
    described = _Arguments()
    layouts = []
    for slot in range(modal_fuse.MAPS):
        names = [f"{each}{slot}" for each in ("sample", "channel", "row", "pixel")]
        if slot < len(widths):
            described.strided(f"map{slot}_ptr", names, dtype, widths[slot], layout)
            layouts.append(layout)
        else:
            described.constants |= dict.fromkeys((f"map{slot}_ptr", *names))
    described.present()
    described.matrix(dtype)
    described.pointers(bias_ptr=f"*{dtype}", statistics_ptr="*fp64", y_ptr=f"*{dtype}")
    described.integers("batch", "width", "tiles")
    described.integers("pixel_count", aligned=True)
    problem = configs.Problem((), widths, "sample", 1e-5, 0.2, "zero")
    constants = {
        "WIDTHS": tuple(widths),
        "FIRST_COLUMNS": problem.first_columns,
        "LAYOUTS": tuple(layouts),
        "OUTPUTS": outputs,
        "PACKED": layout == "packed",
        "PER_CHANNEL": False,
        "FILLED": True,
        "PRECISION": precision,
    }
    return described.case(
        f"mix {dtype} {precision} {len(widths)}x{outputs} {layout}",
        modal_fuse.mix_kernel,
        configs.mix_config(DTYPES[dtype], precision, widths, outputs),
        dtype,
        constants,
        Gates(tensor_cores=_multiplies_in_tensor_cores(dtype, precision), wide_loads=True, wide_stores=True),
    )


def _sums(dtype: str, precision: str, width: int, layout: str) -> AotCase:
    described = _backward_arguments(dtype, width, layout)
    described.pointers(norm_sums_ptr="*fp32", weight_sums_ptr="*fp32", bias_sums_ptr="*fp32")
    described.integers("pieces")
    described.integers("piece_pixels", aligned=True)
    return described.case(
        f"sums {dtype} {precision} {width} {layout}",
        modal_fuse_backward.sums_kernel,
        configs.sums_config(DTYPES[dtype], width),
        dtype,
        _backward_constants(width, precision) | {"FILLED": True},
        Gates(tensor_cores=_multiplies_in_tensor_cores(dtype, precision), wide_loads=True),
    )


def _maps(dtype: str, precision: str, width: int, layout: str) -> AotCase:
    described = _backward_arguments(dtype, width, layout)
    described.pointers(norm_means_ptr="*fp32", result_ptr=f"*{dtype}")
    described.integers("tiles")
    return described.case(
        f"maps {dtype} {precision} {width} {layout}",
        modal_fuse_backward.maps_kernel,
        configs.maps_config(DTYPES[dtype], width, width),
        dtype,
        _backward_constants(width, precision) | {"PACKED": layout == "packed"},
        Gates(tensor_cores=_multiplies_in_tensor_cores(dtype, precision), wide_loads=True, wide_stores=True),
    )


def _backward_arguments(dtype: str, width: int, layout: str) -> _Arguments:
    described = _Arguments()
    described.map("x_ptr", "", dtype, width, layout)
    described.map("gradient_ptr", "gradient_", dtype, width, layout)
    described.present()
    described.matrix(dtype)
    described.pointers(statistics_ptr="*fp64")
    described.integers("slot", "first_column", "batch", "width")
    described.integers("pixel_count", aligned=True)
    return described


def _backward_constants(width: int, precision: str) -> dict[str, Any]:
    return {
        "CHANNELS": width,
        "COLUMNS": 2 * width,
        "OUTPUTS": width,
        "PER_CHANNEL": False,
        "PRECISION": precision,
    }


def _multiplies_in_tensor_cores(dtype: str, precision: str) -> bool:
    return dtype != "fp32" or precision != "ieee"


class _Arguments:
    """The arguments of a kernel while they are put together."""

    def __init__(self) -> None:
        self.signature: dict[str, str] = {}
        self.constants: dict[str, Any] = {}
        self.aligned: list[str] = []

    def pointers(self, **types: str) -> None:
        """Add pointers to fresh memory, which is aligned."""
        self.signature |= types
        self.aligned += types

    def integers(self, *names: str, aligned: bool = False) -> None:
        """Add sizes or strides."""
        self.signature |= dict.fromkeys(names, "i32")
        self.aligned += names if aligned else ()

    def strided(self, pointer: str, strides: Sequence[str], dtype: str, width: int, layout: str) -> None:
        """Add a map and its strides of samples, channels, rows and pixels, those of a dense map."""
        batch, channel, row, pixel = strides
        self.pointers(**{pointer: f"*{dtype}"})
        self.integers(batch, row, aligned=True)
        if layout == "flat":
            self.integers(channel, aligned=True)
            self.constants[pixel] = 1
        else:
            self.integers(pixel, aligned=width % 16 == 0)
            self.constants[channel] = 1

    def map(self, pointer: str, prefix: str, dtype: str, width: int, layout: str) -> None:
        """Add a map as `configs.map_arguments` does."""
        self.strided(pointer, [f"{prefix}{each}" for each in _STRIDES], dtype, width, layout)
        self.constants[f"{prefix.upper()}LAYOUT"] = layout

    def present(self) -> None:
        """Add which modalities are present."""
        self.pointers(present_ptr="*u8")
        self.integers("present_batch_stride")
        self.constants["present_slot_stride"] = 1

    def matrix(self, dtype: str) -> None:
        """Add the weights and the slope of the rectifier."""
        self.pointers(weight_ptr=f"*{dtype}")
        self.integers("weight_output_stride", aligned=True)
        self.constants["weight_input_stride"] = 1
        self.signature["negative_slope"] = "fp32"

    def case(
        self, name: str, kernel: Any, config: Any, dtype: str, constants: dict[str, Any], gates: Gates
    ) -> AotCase:
        """Return the case, with the kernel's own constants."""
        return AotCase(
            name=name,
            kernel=kernel,
            signature=self.signature,
            constants=self.constants | constants,
            config=config,
            dtype=dtype,
            aligned=self.aligned,
            gates=gates,
        )
