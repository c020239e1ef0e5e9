"""The shipped configurations of `multiscale_seg_loss`, to be compiled ahead of time.

Axes: K class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmbench_kernels._triton import _seg_loss_plan as plan
from mmbench_kernels._triton import multiscale_seg_loss as forward
from mmbench_kernels._triton import multiscale_seg_loss_backward as backward
from mmbench_kernels._triton._aot import AotCase, Gates
from mmbench_kernels._triton._launch import Config
from mmbench_kernels.ops._multiscale_seg_loss_triton import MOST_CLASSES

ITEM_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}

# K of the data sets, in every dtype, and the most: it is what runs out of registers.
FULL = (("fp32", 6), ("fp16", 6), ("bf16", 6), ("fp32", MOST_CLASSES))

# Dtype, K, pixels of the head on a side to 512 of the target, what is interpolated. From 256 to 4 pixels,
# cells are cut into more and more parts, which are added up in other ways.
COARSE = (
    ("fp32", 6, 256, "logit"),
    ("fp16", 6, 32, "prob"),
    ("bf16", 6, 4, "logit"),
    ("fp32", MOST_CLASSES, 256, "logit"),
    ("fp32", MOST_CLASSES, 32, "prob"),
)

_STRIDES = ("batch_stride", "class_stride", "row_stride")
_FACTORS = ("codes_ptr", "scale_ptr", "slopes_ptr")


def aot_cases() -> list[AotCase]:
    """Return the configurations: heads of the target's size and of smaller ones, few classes and many."""
    cases = [_encode("i64", 6), _encode("u8", MOST_CLASSES)]
    for dtype, num_classes in FULL:
        cases += [_full_sums(dtype, num_classes), _full_gradient(dtype, num_classes)]
    for each in COARSE:
        cases += [_coarse_sums(*each), _coarse_gradient(*each)]
    return [*cases, _gather("fp32", MOST_CLASSES, "prob"), _gather("fp16", 6, "logit")]


def _encode(dtype: str, num_classes: int) -> AotCase:
    pointers = {"target_ptr": f"*{dtype}", "codes_ptr": "*u8", "counts_ptr": "*i32"}
    integers = ("batch_stride", "row_stride", "height", "width", "ignore_index")
    return AotCase(
        name=f"encode {dtype} {num_classes}",
        kernel=forward.encode_kernel,
        signature={**pointers, **dict.fromkeys(integers, "i32")},
        constants={"column_stride": 1, "CLASSES": num_classes},
        config=plan.encode_config(num_classes),
        dtype="fp32",
        aligned=(*pointers, "batch_stride", "row_stride", "width"),
        gates=Gates(blocks_per_sm=16, tensor_cores=False, wide_loads=dtype == "i64"),
    )


def _full_sums(dtype: str, num_classes: int) -> AotCase:
    config = plan.full_config(num_classes, ITEM_BYTES[dtype])
    return _head_case(
        f"full sums {dtype} {num_classes}",
        forward.full_sums_kernel,
        dtype,
        ("codes_ptr", "weights_ptr", "sums_ptr"),
        config,
        {"CLASSES": num_classes, "LIMITED": True},
        _gates(8, num_classes, config.constants["BLOCK"], wide_loads=True),
    )


def _full_gradient(dtype: str, num_classes: int) -> AotCase:
    config = plan.full_config(num_classes, ITEM_BYTES[dtype])
    return _head_case(
        f"full gradient {dtype} {num_classes}",
        backward.full_gradient_kernel,
        dtype,
        (*_FACTORS, "gradient_ptr"),
        config,
        {"CLASSES": num_classes, "LIMITED": True},
        _gates(9, num_classes, config.constants["BLOCK"], wide_loads=True, wide_stores=True),
    )


def _coarse_sums(dtype: str, num_classes: int, source: int, interp: str) -> AotCase:
    config = _coarse_config(num_classes, source)
    return _head_case(
        f"coarse sums {dtype} {num_classes} {source} {interp}",
        forward.coarse_sums_kernel,
        dtype,
        ("codes_ptr", "weights_ptr", "sums_ptr"),
        config,
        {"CLASSES": num_classes, "LIMITED": True, "PROBABILITIES": interp == "prob"},
        _gates(9, num_classes, config.constants["LANES"]),
        integers=("height", "width", *plan.AXIS_ARGUMENTS),
    )


def _coarse_gradient(dtype: str, num_classes: int, source: int, interp: str) -> AotCase:
    config = _coarse_config(num_classes, source)
    return _head_case(
        f"coarse gradient {dtype} {num_classes} {source} {interp}",
        backward.coarse_gradient_kernel,
        dtype,
        (*_FACTORS, "partials_ptr"),
        config,
        {"CLASSES": num_classes, "LIMITED": True, "PROBABILITIES": interp == "prob"},
        _gates(9, num_classes, config.constants["LANES"]),
        integers=("height", "width", "slots", *plan.AXIS_ARGUMENTS),
    )


def _gather(dtype: str, num_classes: int, interp: str) -> AotCase:
    blocks = _coarse_config(num_classes, 256).constants
    cells = blocks["LANES"] // blocks["PARTS"]
    rows = [name for name in plan.AXIS_ARGUMENTS if name.startswith("row_")]
    return _head_case(
        f"gather {dtype} {num_classes} {interp}",
        backward.gather_kernel,
        dtype,
        ("partials_ptr", "gradient_ptr"),
        plan.gather_config(num_classes),
        {
            "CLASSES": num_classes,
            "PROBABILITIES": interp == "prob",
            "ROWS": blocks["ROWS"],
            "CELLS": cells,
        },
        Gates(blocks_per_sm=12, tensor_cores=False),
        integers=("height", "slots", "row_blocks", "cell_blocks", "column_source", *rows),
        reals=(),
    )


def _gates(blocks_per_sm: int, num_classes: int, pixels: int, **wide: bool) -> Gates:
    """Return what a kernel may need that works on so many pixels at once."""
    # Per pixel, for the classes of the data sets; more would cost more time than the loads.
    most = 200.0 if num_classes == 6 else None
    return Gates(
        blocks_per_sm=blocks_per_sm,
        tensor_cores=False,
        max_instructions_per_pair=most,
        pairs=pixels,
        **wide,
    )


def _coarse_config(num_classes: int, source: int) -> Config:
    return plan.coarse_config(num_classes, plan.Axis.between(source, 512, align_corners=False))


def _head_case(
    name: str,
    kernel: Any,
    dtype: str,
    pointers: Sequence[str],
    config: Config,
    constants: Mapping[str, Any],
    gates: Gates,
    *,
    integers: Sequence[str] = ("height", "width"),
    reals: Sequence[str] = ("low", "high"),
) -> AotCase:
    """Return the case of a kernel that reads a head, whose pixels of a row are neighbours in memory."""
    kinds = {"codes_ptr": "*u8", "gradient_ptr": f"*{dtype}"}
    signature = {
        "head_ptr": f"*{dtype}",
        **{pointer: kinds.get(pointer, "*fp32") for pointer in pointers},
        **dict.fromkeys((*_STRIDES, *integers), "i32"),
        **dict.fromkeys(reals, "fp32"),
    }
    # Only where neighbouring pixels are read together does the compiler ask for the width.
    known = {"width"} - {*getattr(kernel, "do_not_specialize", ())}
    return AotCase(
        name=name,
        kernel=kernel,
        signature=signature,
        constants={"column_stride": 1, **constants},
        config=config,
        dtype=dtype,
        aligned=("head_ptr", *pointers, *_STRIDES, *(known & signature.keys())),
        gates=gates,
    )
