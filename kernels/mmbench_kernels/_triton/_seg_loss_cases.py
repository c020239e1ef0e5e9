"""Every shipped configuration of the kernels of `multiscale_seg_loss`, to be compiled ahead of time.

Axes: K class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmbench_kernels._triton import _seg_loss_plan as plan
from mmbench_kernels._triton import multiscale_seg_loss as forward
from mmbench_kernels._triton import multiscale_seg_loss_backward as backward
from mmbench_kernels._triton._aot import AotCase, Gates
from mmbench_kernels._triton._launch import Config
from mmbench_kernels.ops._multiscale_seg_loss_triton import MOST_CLASSES

_HEADS = (("fp32", 6), ("fp16", 6), ("bf16", 6), ("fp32", 2), ("fp32", 32))
"""Dtype and number of classes: those of the data sets in each dtype, and the fewest and the most."""

_STRIDES = {"batch_stride": "i32", "class_stride": "i32", "row_stride": "i32"}
_AXES = dict.fromkeys(plan.AXIS_ARGUMENTS, "i32")
_SIZES = {"height": "i32", "width": "i32"}
_LIMITS = {"low": "fp32", "high": "fp32"}
_FACTORS = {"codes_ptr": "*u8", "scale_ptr": "*fp32", "slopes_ptr": "*fp32"}


def cases() -> list[AotCase]:
    """Return them all."""
    found = list(_encode_cases())
    for dtype, num_classes in _HEADS:
        found += _full_cases(dtype, num_classes)
        found += _coarse_cases(dtype, num_classes)
    return found


def _encode_cases() -> Iterator[AotCase]:
    for dtype, kind in (("i64", "int64"), ("u8", "uint8")):
        signature = {
            "target_ptr": f"*{dtype}",
            "codes_ptr": "*u8",
            "counts_ptr": "*i32",
            "batch_stride": "i32",
            "row_stride": "i32",
            **_SIZES,
            "ignore_index": "i32",
        }
        aligned = ("target_ptr", "codes_ptr", "counts_ptr", "batch_stride", "row_stride", "width")
        for num_classes in (6, MOST_CLASSES):
            yield AotCase(
                name=f"encode-{kind}-{num_classes}",
                kernel=forward.encode_kernel,
                signature=signature,
                constants={"column_stride": 1, "CLASSES": num_classes},
                config=plan.encode_config(num_classes),
                dtype="fp32",
                aligned=aligned,
                gates=Gates(max_registers=128, tensor_cores=False, wide_loads=dtype == "i64"),
            )


def _full_cases(dtype: str, num_classes: int) -> Iterator[AotCase]:
    config = plan.full_config(num_classes)
    head = {"head_ptr": f"*{dtype}"}
    sums = {**head, "codes_ptr": "*u8", "weights_ptr": "*fp32", "sums_ptr": "*fp32"}
    slopes = {**head, **_FACTORS, "gradient_ptr": f"*{dtype}"}
    # Four neighbours of 2 bytes are a load of 8 bytes, which is as wide as those dtypes get here.
    wide = dtype == "fp32"
    for name, kernel, pointers, stores in (
        ("sums", forward.full_sums_kernel, sums, False),
        ("gradient", backward.full_gradient_kernel, slopes, wide),
    ):
        yield _head_case(
            f"full-{name}",
            kernel,
            {**pointers, **_STRIDES, **_SIZES, **_LIMITS},
            {"column_stride": 1, "LIMITED": True},
            config,
            dtype,
            num_classes,
            Gates(max_registers=168, tensor_cores=False, wide_loads=wide, wide_stores=stores),
        )


def _coarse_cases(dtype: str, num_classes: int) -> Iterator[AotCase]:
    head = {"head_ptr": f"*{dtype}"}
    sums = {**head, "codes_ptr": "*u8", "weights_ptr": "*fp32", "sums_ptr": "*fp32"}
    slopes = {**head, **_FACTORS, "partials_ptr": "*fp32"}
    common = {**_STRIDES, **_SIZES, **_AXES, **_LIMITS}
    for source in (256, 32, 4):
        config = plan.coarse_config(num_classes, plan.Axis.between(source, 512, align_corners=False))
        for interp in ("logit", "prob"):
            constants = {"column_stride": 1, "LIMITED": True, "PROBABILITIES": interp == "prob"}
            for name, kernel, signature in (
                ("sums", forward.coarse_sums_kernel, {**sums, **common}),
                ("gradient", backward.coarse_gradient_kernel, {**slopes, **common, "slots": "i32"}),
            ):
                yield _head_case(
                    f"coarse-{name}-{interp}-{source}",
                    kernel,
                    signature,
                    constants,
                    config,
                    dtype,
                    num_classes,
                    Gates(max_registers=255, tensor_cores=False),
                )


def _head_case(
    name: str,
    kernel: Any,
    signature: dict[str, str],
    constants: dict[str, Any],
    config: Config,
    dtype: str,
    num_classes: int,
    gates: Gates,
) -> AotCase:
    """Return the case of a kernel that reads a head."""
    pointers = [each for each in signature if each.endswith("_ptr")]
    return AotCase(
        name=f"{name}-{dtype}-{num_classes}",
        kernel=kernel,
        signature=signature,
        constants={**constants, "CLASSES": num_classes},
        config=config,
        dtype=dtype,
        aligned=[*pointers, *_STRIDES, *([] if "row_step" in signature else ["width"])],
        gates=gates,
    )
