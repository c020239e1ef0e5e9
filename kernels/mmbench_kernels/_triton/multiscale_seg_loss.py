"""The forward kernels of `multiscale_seg_loss`: the classes of the target, and sums over its pixels.

Nothing of the size of the target is written but one byte a pixel. Each program leaves its own sums, which are
then added in a fixed order in float64: no atomics, the same bits in every run.

Axes: G head, B batch, K class, padded to a power of two inside the kernels; H W pixels of the target, h w
pixels of a head; P program of a sample, L lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmbench_kernels._triton import _launch
from mmbench_kernels._triton._seg_loss_cells import (
    cell_of,
    columns_of,
    cost_of_logits,
    cost_of_probabilities,
    ends_of,
    first_of,
    load_corner,
    share_of_next,
)
from mmbench_kernels._triton._seg_loss_plan import AXIS_ARGUMENTS, Plan, encode_config
from mmbench_kernels.ops._seg_loss_bands import LossForm

if TYPE_CHECKING:
    from mmbench_kernels._triton._aot import AotCase


@triton.jit(do_not_specialize=["ignore_index", "height"])
def encode_kernel(
    target_ptr,  # (B, H, W) int64 or uint8
    codes_ptr,  # (B, H, W) uint8, dense: the class, or K where a pixel is ignored or its class is unknown
    counts_ptr,  # (B, P, K + 1) int32: pixels of each class, and of unknown ones
    batch_stride,
    row_stride,
    column_stride,
    height,  # H
    width,  # W
    ignore_index,
    CLASSES: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Name and count the classes of ROWS x BLOCK pixels. Grid: (blocks of columns, blocks of rows, B)."""
    sample = tl.program_id(2).to(tl.int64)
    row = tl.program_id(1).to(tl.int64) * ROWS
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    classes = tl.arange(0, PADDED)
    target_ptr += sample * batch_stride + row * row_stride
    codes_ptr += (sample * height + row) * width
    counts = tl.zeros((PADDED, BLOCK), tl.int32)
    unknown = tl.zeros((BLOCK,), tl.int32)
    for _ in range(tl.minimum(height - row, ROWS)):
        label = tl.load(target_ptr + column * column_stride, mask=inside, other=0).to(tl.int64)
        counts_here = inside & (label != ignore_index)
        known = (label >= 0) & (label < CLASSES)
        code = tl.where(counts_here & known, label, CLASSES).to(tl.int32)
        tl.store(codes_ptr + column, code.to(tl.uint8), mask=inside)
        counts += (code[None, :] == classes[:, None]).to(tl.int32)
        unknown += (counts_here & (known == 0)).to(tl.int32)
        target_ptr += row_stride
        codes_ptr += width
    counts_ptr += (
        (sample * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)
    ) * (CLASSES + 1)
    tl.store(counts_ptr + classes, tl.sum(counts, 1), mask=classes < CLASSES)
    tl.store(counts_ptr + CLASSES, tl.sum(unknown, 0))


@triton.jit
def store_sums(sums_ptr, sample, overlap, predicted, entropy, CLASSES: tl.constexpr, PADDED: tl.constexpr):
    """Add up the lanes of a program and write its row of sums_ptr, (B, P, 2·K + 1)."""
    classes = tl.arange(0, PADDED)
    sums_ptr += ((sample * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)) * (
        2 * CLASSES + 1
    )
    tl.store(sums_ptr + classes, tl.sum(overlap, 1), mask=classes < CLASSES)
    tl.store(sums_ptr + CLASSES + classes, tl.sum(predicted, 1), mask=classes < CLASSES)
    tl.store(sums_ptr + 2 * CLASSES, tl.sum(entropy, 0))


@triton.jit(do_not_specialize=["height"])
def full_sums_kernel(
    head_ptr,  # (B, K, H, W)
    codes_ptr,  # (B, H, W) uint8, class or K
    weights_ptr,  # (B, K) float32
    sums_ptr,  # (B, P, 2·K + 1) float32: Σ p y, Σ p, -Σ w log p
    batch_stride,
    class_stride,
    row_stride,
    column_stride,
    height,
    width,
    low,  # range of p inside the logarithm
    high,
    CLASSES: tl.constexpr,
    PADDED: tl.constexpr,
    LIMITED: tl.constexpr,  # whether low and high hold
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sum over ROWS x BLOCK pixels of a head of the target's size. Grid: (column blocks, row blocks, B)."""
    sample = tl.program_id(2).to(tl.int64)
    row = tl.program_id(1).to(tl.int64) * ROWS
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    classes = tl.arange(0, PADDED)[:, None]
    exists = classes < CLASSES
    head_ptr += sample * batch_stride + row * row_stride
    offsets = classes.to(tl.int64) * class_stride + column[None, :].to(tl.int64) * column_stride
    codes_ptr += (sample * height + row) * width
    overlap = tl.zeros((PADDED, BLOCK), tl.float32)
    predicted = tl.zeros((PADDED, BLOCK), tl.float32)
    entropy = tl.zeros((BLOCK,), tl.float32)
    for _ in range(tl.minimum(height - row, ROWS)):
        code = tl.load(codes_ptr + column, mask=inside, other=CLASSES).to(tl.int32)
        z = tl.load(head_ptr + offsets, mask=exists & inside[None, :], other=0.0).to(tl.float32)
        valid = code < CLASSES
        own = (code[None, :] == classes) & exists
        weight = tl.load(weights_ptr + sample * CLASSES + code, mask=valid, other=0.0)
        p, cost = cost_of_logits(tl.where(exists, z, float("-inf")), own, low, high, LIMITED)
        overlap += tl.where(own, p, 0.0)
        predicted += tl.where(valid[None, :], p, 0.0)
        entropy += tl.where(valid, weight * cost, 0.0)
        head_ptr += row_stride
        codes_ptr += width
    store_sums(sums_ptr, sample, overlap, predicted, entropy, CLASSES, PADDED)


@triton.jit(do_not_specialize=[*AXIS_ARGUMENTS, "height", "width"])
def coarse_sums_kernel(
    head_ptr,  # (B, K, h, w)
    codes_ptr,  # (B, H, W) uint8, class or K
    weights_ptr,  # (B, K) float32
    sums_ptr,  # (B, P, 2·K + 1) float32: Σ p y, Σ p, -Σ w log p
    batch_stride,
    class_stride,
    row_stride,
    column_stride,
    height,  # H
    width,  # W
    row_source,  # h, and how the rows of the target lie on it: see Axis
    row_step,
    row_offset,
    row_unit,
    column_source,  # w
    column_step,
    column_offset,
    column_unit,
    low,  # range of p inside the logarithm
    high,
    CLASSES: tl.constexpr,
    PADDED: tl.constexpr,
    LIMITED: tl.constexpr,  # whether low and high hold
    PROBABILITIES: tl.constexpr,  # whether probabilities are interpolated, not logits
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
    PARTS: tl.constexpr,  # of the columns of a cell, one a lane
):
    """Sum over ROWS rows of the target, a block of cells wide. Grid: (blocks of cells, row blocks, B)."""
    sample = tl.program_id(2).to(tl.int64)
    classes = tl.arange(0, PADDED)[:, None]
    exists = classes < CLASSES
    head_ptr += sample * batch_stride
    codes_ptr += sample * height * width
    weights_ptr += sample * CLASSES
    class_offsets = classes.to(tl.int64) * class_stride
    cell, begin, end = columns_of(
        tl.program_id(0), column_step, column_offset, column_unit, width, LANES, PARTS
    )
    left, right = ends_of(cell, column_source, column_stride)
    steps = tl.max(end - begin, 0)
    first_row = tl.program_id(1) * ROWS
    end_row = tl.minimum(first_row + ROWS, height)
    first_cell = cell_of(first_row, row_step, row_offset, row_unit)
    cells = cell_of(end_row - 1, row_step, row_offset, row_unit) - first_cell + 1
    overlap = tl.zeros((PADDED, LANES), tl.float32)
    predicted = tl.zeros((PADDED, LANES), tl.float32)
    entropy = tl.zeros((LANES,), tl.float32)
    for number in range(cells):
        cell_row = first_cell + number
        above, below = ends_of(cell_row, row_source, row_stride)
        top_left = load_corner(head_ptr + above, class_offsets, exists, left, PROBABILITIES)
        top_right = load_corner(head_ptr + above, class_offsets, exists, right, PROBABILITIES)
        low_left = load_corner(head_ptr + below, class_offsets, exists, left, PROBABILITIES)
        low_right = load_corner(head_ptr + below, class_offsets, exists, right, PROBABILITIES)
        row = tl.maximum(first_of(cell_row, row_step, row_offset, row_unit, height), first_row)
        stop = tl.minimum(first_of(cell_row + 1, row_step, row_offset, row_unit, height), end_row)
        for _ in range(row, stop):
            down = share_of_next(row, cell_row, row_source, row_step, row_offset, row_unit)
            start = top_left + down * (low_left - top_left)
            change = top_right + down * (low_right - top_right) - start
            for shift in range(steps):
                column = begin + shift
                inside = column < end
                across = share_of_next(column, cell, column_source, column_step, column_offset, column_unit)
                x = start + across[None, :] * change
                code = tl.load(codes_ptr + row.to(tl.int64) * width + column, mask=inside, other=CLASSES).to(
                    tl.int32
                )
                valid = code < CLASSES
                own = (code[None, :] == classes) & exists
                if PROBABILITIES:
                    p = x
                    cost = cost_of_probabilities(p, own, low, high)
                else:
                    z = tl.where(exists, x, float("-inf"))
                    p, cost = cost_of_logits(z, own, low, high, LIMITED)
                weight = tl.load(weights_ptr + code, mask=valid, other=0.0)
                overlap += tl.where(own, p, 0.0)
                predicted += tl.where(valid[None, :], p, 0.0)
                entropy += tl.where(valid, weight * cost, 0.0)
            row += 1
    store_sums(sums_ptr, sample, overlap, predicted, entropy, CLASSES, PADDED)


def encode(target: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Launch `encode_kernel`.

    Args:
        target: (B, H, W) int64 or uint8, of any strides.
        num_classes: K, at most 255.
        ignore_index: Value of the pixels that count nowhere.

    Returns:
        (B, H, W) uint8, the class of each pixel, K where it is ignored or unknown, and (B, K + 1) int64: the
        number of pixels of each class and of those whose class is unknown.
    """
    batch, height, width = target.shape
    config = encode_config(num_classes)
    blocks = (
        _launch.ceil_div(size, config.constants[name]) for size, name in ((width, "BLOCK"), (height, "ROWS"))
    )
    grid = (*blocks, batch)
    codes = _launch.empty(target.shape, dtype=torch.uint8, device=target.device)
    counts = _launch.empty(
        (batch, grid[0] * grid[1], num_classes + 1), dtype=torch.int32, device=target.device
    )
    if target.numel():
        with _launch.on_device_of(target):
            encode_kernel[grid](
                target, codes, counts, *target.stride(), height, width, ignore_index, CLASSES=num_classes,
                **config.keywords(),
            )  # fmt: skip
    return codes, counts.sum(1)


def sum_over_pixels(
    logits: Sequence[Tensor], codes: Tensor, weights: Tensor, form: LossForm
) -> tuple[Tensor, Tensor]:
    """Return what the loss needs to know of every head, summed over valid pixels.

    Args:
        logits: One (B, K, h, w) a head, of one dtype and any strides.
        codes: (B, H, W) uint8, dense: class, or K where a pixel is ignored.
        weights: (B, K) of a class in a sample.
        form: See there.

    Returns:
        -Σ w log p of the target's class, (G,), and for each class Σ p y and Σ p, (G, 2, K); float64.
    """
    weights = weights.float()
    with _launch.on_device_of(codes):
        heads = [_sum_head(head, codes, weights, form) for head in logits]
    total = torch.stack(heads)  # (G, 2·K + 1)
    return total[:, -1], total[:, :-1].unflatten(1, (2, -1)).contiguous()


def _sum_head(head: Tensor, codes: Tensor, weights: Tensor, form: LossForm) -> Tensor:
    """Return Σ p y, Σ p and -Σ w log p of one head, (2·K + 1,) float64."""
    batch, height, width = codes.shape
    num_classes = head.shape[1]
    plan = Plan.of(head, codes, form)
    kernel = full_sums_kernel if plan.rows is None else coarse_sums_kernel
    shape = (batch, plan.grid[0] * plan.grid[1], 2 * num_classes + 1)
    sums = _launch.empty(shape, dtype=torch.float32, device=head.device)
    if codes.numel():
        kernel[plan.grid](
            head, codes, weights, sums, *head.stride(), height, width, **plan.keywords(num_classes)
        )
    return sums.sum((0, 1), dtype=torch.float64)


def aot_cases() -> list[AotCase]:
    """Return every shipped configuration of the kernels, forward and backward."""
    from mmbench_kernels._triton import _seg_loss_cases

    return _seg_loss_cases.aot_cases()
