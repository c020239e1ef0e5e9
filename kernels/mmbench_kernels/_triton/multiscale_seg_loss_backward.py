"""The backward kernels of `multiscale_seg_loss`: the gradient to a head, gathered from the target's pixels.

A head of the target's size gets it pixel by pixel. For any other a program takes some rows of the target, one
block of cells wide, and adds up what falls to the pixels of the head around; `gather_kernel` then adds the
few programs that meet at a pixel. No pixel of the target is worked on twice, nothing is added atomically, and
what is written in between is about the size of the head: (1 + 2·H / (h·ROWS)) times.

Axes: B batch, K class, padded to a power of two inside the kernels; H W pixels of the target, h w pixels of a
head; L lane; R block of rows, S slot of it: pixel row of the head that it reaches; N block of cells, C + 1
pixels of the head that it reaches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmbench_kernels._triton import _launch
from mmbench_kernels._triton._seg_loss_cells import (
    cell_of,
    columns_of,
    ends_of,
    first_of,
    load_corner,
    share_of_next,
    slope_of_logits,
    slope_of_probabilities,
    softmax,
)
from mmbench_kernels._triton._seg_loss_plan import AXIS_ARGUMENTS, Plan, gather_config
from mmbench_kernels.ops._seg_loss_bands import LossForm


@triton.jit(do_not_specialize=["height"])
def full_gradient_kernel(
    head_ptr,  # (B, K, H, W)
    codes_ptr,  # (B, H, W) uint8, class or K
    scale_ptr,  # (B, K) float32, gradient to -log p by class of the target
    slopes_ptr,  # (2, K) float32, gradient to Σ p y and to Σ p
    gradient_ptr,  # (B, K, H, W), dense
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
    """Write the gradient of ROWS x BLOCK pixels. Grid: (column blocks, row blocks, B)."""
    sample = tl.program_id(2).to(tl.int64)
    row = tl.program_id(1).to(tl.int64) * ROWS
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    classes = tl.arange(0, PADDED)[:, None]
    exists = classes < CLASSES
    every = tl.load(slopes_ptr + CLASSES + classes, mask=exists, other=0.0)
    head_ptr += sample * batch_stride + row * row_stride
    offsets = classes.to(tl.int64) * class_stride + column[None, :].to(tl.int64) * column_stride
    codes_ptr += (sample * height + row) * width
    gradient_ptr += (sample * CLASSES * height + row) * width
    places = classes.to(tl.int64) * height * width + column[None, :]
    for _ in range(tl.minimum(height - row, ROWS)):
        code = tl.load(codes_ptr + column, mask=inside, other=CLASSES).to(tl.int32)
        z = tl.load(head_ptr + offsets, mask=exists & inside[None, :], other=0.0).to(tl.float32)
        valid = code < CLASSES
        own = (code[None, :] == classes) & exists
        pull = tl.load(scale_ptr + sample * CLASSES + code, mask=valid, other=0.0)
        hit = tl.load(slopes_ptr + code, mask=valid, other=0.0)
        p = softmax(tl.where(exists, z, float("-inf")))
        slope = slope_of_logits(p, own, valid, pull, hit, every, low, high, LIMITED)
        tl.store(
            gradient_ptr + places, slope.to(gradient_ptr.dtype.element_ty), mask=exists & inside[None, :]
        )
        head_ptr += row_stride
        codes_ptr += width
        gradient_ptr += width


@triton.jit(do_not_specialize=[*AXIS_ARGUMENTS, "height", "width", "slots"])
def coarse_gradient_kernel(
    head_ptr,  # (B, K, h, w)
    codes_ptr,  # (B, H, W) uint8, class or K
    scale_ptr,  # (B, K) float32, gradient to -log p by class of the target
    slopes_ptr,  # (2, K) float32, gradient to Σ p y and to Σ p
    partials_ptr,  # (B, R, S, K, N, C + 1) float32
    batch_stride,
    class_stride,
    row_stride,
    column_stride,
    height,  # H
    width,  # W
    slots,  # S
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
    """Write what ROWS rows of the target give to the head, to its logits or, under PROBABILITIES, to those.

    Grid: (N, R, B).
    """
    sample = tl.program_id(2).to(tl.int64)
    classes = tl.arange(0, PADDED)[:, None]
    exists = classes < CLASSES
    every = tl.load(slopes_ptr + CLASSES + classes, mask=exists, other=0.0)
    head_ptr += sample * batch_stride
    codes_ptr += sample * height * width
    scale_ptr += sample * CLASSES
    class_offsets = classes.to(tl.int64) * class_stride
    cell, begin, end = columns_of(
        tl.program_id(0), column_step, column_offset, column_unit, width, LANES, PARTS
    )
    left, right = ends_of(cell, column_source, column_stride)
    steps = tl.max(end - begin, 0)
    first_row = tl.program_id(1) * ROWS
    end_row = tl.minimum(first_row + ROWS, height)
    first_cell = cell_of(first_row, row_step, row_offset, row_unit)
    partials_ptr += (
        (sample * tl.num_programs(1) + tl.program_id(1))
        * slots
        * CLASSES
        * (tl.num_programs(0) * (LANES // PARTS + 1))
    )
    # What a cell gives to the pixels below it is kept for the next cell, which gives to the same ones.
    kept_left = tl.zeros((PADDED, LANES), tl.float32)
    kept_right = tl.zeros((PADDED, LANES), tl.float32)
    for slot in range(slots):
        cell_row = first_cell + slot
        # The last slots may lie below the head, where there is no row of the target.
        above, below = ends_of(cell_row, row_source, row_stride)
        top_left = load_corner(head_ptr + above, class_offsets, exists, left, PROBABILITIES)
        top_right = load_corner(head_ptr + above, class_offsets, exists, right, PROBABILITIES)
        low_left = load_corner(head_ptr + below, class_offsets, exists, left, PROBABILITIES)
        low_right = load_corner(head_ptr + below, class_offsets, exists, right, PROBABILITIES)
        to_left = kept_left
        to_right = kept_right
        kept_left = tl.zeros((PADDED, LANES), tl.float32)
        kept_right = tl.zeros((PADDED, LANES), tl.float32)
        row = tl.maximum(first_of(cell_row, row_step, row_offset, row_unit, height), first_row)
        stop = tl.minimum(first_of(cell_row + 1, row_step, row_offset, row_unit, height), end_row)
        for _ in range(row, stop):
            down = share_of_next(row, cell_row, row_source, row_step, row_offset, row_unit)
            start = top_left + down * (low_left - top_left)
            change = top_right + down * (low_right - top_right) - start
            total = tl.zeros((PADDED, LANES), tl.float32)
            moment = tl.zeros((PADDED, LANES), tl.float32)
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
                pull = tl.load(scale_ptr + code, mask=valid, other=0.0)
                hit = tl.load(slopes_ptr + code, mask=valid, other=0.0)
                if PROBABILITIES:
                    slope = slope_of_probabilities(x, own, valid, pull, hit, every, low, high)
                else:
                    p = softmax(tl.where(exists, x, float("-inf")))
                    slope = slope_of_logits(p, own, valid, pull, hit, every, low, high, LIMITED)
                total += slope
                moment += across[None, :] * slope
            to_left += (1.0 - down) * (total - moment)
            to_right += (1.0 - down) * moment
            kept_left += down * (total - moment)
            kept_right += down * moment
            row += 1
        store_slot(partials_ptr, to_left, to_right, CLASSES, PADDED, LANES, PARTS)
        partials_ptr += CLASSES * tl.num_programs(0) * (LANES // PARTS + 1)


@triton.jit
def store_slot(
    slot_ptr,  # (K, N, C + 1) float32
    to_left,  # (K, L), what each lane gives to the pixel left of its cell
    to_right,  # (K, L), and to the one right of it
    CLASSES: tl.constexpr,
    PADDED: tl.constexpr,
    LANES: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Write what a block of cells gives to each of the C + 1 pixels around its C cells."""
    CELLS: tl.constexpr = LANES // PARTS
    if PARTS > 1:
        to_left = tl.sum(tl.reshape(to_left, (PADDED, CELLS, PARTS)), 2)
        to_right = tl.sum(tl.reshape(to_right, (PADDED, CELLS, PARTS)), 2)
    cell = tl.arange(0, CELLS)[None, :]
    classes = tl.arange(0, PADDED)[:, None]
    # The pixel between two cells gets from both.
    before = tl.broadcast_to(tl.maximum(cell - 1, 0), (PADDED, CELLS))
    to_pixel = to_left + tl.where(cell > 0, tl.gather(to_right, before, 1), 0.0)
    places = slot_ptr + (classes * tl.num_programs(0) + tl.program_id(0)) * (CELLS + 1) + cell
    exists = classes < CLASSES
    tl.store(places, to_pixel, mask=exists & (cell >= 0))
    tl.store(places + 1, to_right, mask=exists & (cell == CELLS - 1))


@triton.jit(do_not_specialize=[*AXIS_ARGUMENTS, "height", "slots", "row_blocks", "cell_blocks"])
def gather_kernel(
    head_ptr,  # (B, K, h, w)
    partials_ptr,  # (B, R, S, K, N, C + 1) float32
    gradient_ptr,  # (B, K, h, w), dense
    batch_stride,
    class_stride,
    row_stride,
    column_stride,
    height,  # H
    slots,  # S
    row_blocks,  # R
    cell_blocks,  # N
    row_source,  # h, and how the rows of the target lie on it: see Axis
    row_step,
    row_offset,
    row_unit,
    column_source,  # w
    CLASSES: tl.constexpr,
    PADDED: tl.constexpr,
    PROBABILITIES: tl.constexpr,  # whether the partials are to probabilities
    ROWS: tl.constexpr,  # of a row block
    CELLS: tl.constexpr,  # C
    BLOCK: tl.constexpr,
):
    """Write the gradient of a piece of a row of the head. Grid: (blocks of columns, h, B)."""
    sample = tl.program_id(2).to(tl.int64)
    row = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    classes = tl.arange(0, PADDED)[:, None]
    inside = (classes < CLASSES) & (column < column_source)
    # Pixel j lies left of cell j + 1 and right of cell j; two blocks have a part of it if they part those.
    block = column // CELLS
    place = (classes * cell_blocks + block) * (CELLS + 1) + column - block * CELLS + 1
    next_block = (column + 1) // CELLS
    next_place = (classes * cell_blocks + next_block) * (CELLS + 1)
    both = inside & (next_block != block)
    first = first_of(row, row_step, row_offset, row_unit, height)
    stop = first_of(row + 2, row_step, row_offset, row_unit, height)
    row_block = first // ROWS
    slot_size = CLASSES * cell_blocks * (CELLS + 1)
    total = tl.zeros((PADDED, BLOCK), tl.float32)
    for _ in range(row_block, (stop + ROWS - 1) // ROWS):
        slot = row - cell_of(row_block * ROWS, row_step, row_offset, row_unit) + 1
        reached = (slot >= 0) & (slot < slots)
        slot_ptr = partials_ptr + ((sample * row_blocks + row_block) * slots + slot) * slot_size
        total += tl.load(slot_ptr + place, mask=inside & reached, other=0.0)
        total += tl.load(slot_ptr + next_place, mask=both & reached, other=0.0)
        row_block += 1
    if PROBABILITIES:
        head_ptr += sample * batch_stride + row.to(tl.int64) * row_stride
        offsets = classes.to(tl.int64) * class_stride + column.to(tl.int64) * column_stride
        z = tl.load(head_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
        p = softmax(tl.where(classes < CLASSES, z, float("-inf")))
        total = p * (total - tl.sum(p * total, 0)[None, :])
    gradient_ptr += (sample * CLASSES * row_source + row) * column_source
    places = classes.to(tl.int64) * row_source * column_source + column
    tl.store(gradient_ptr + places, total.to(gradient_ptr.dtype.element_ty), mask=inside)


def differentiate(
    logits: Sequence[Tensor], codes: Tensor, scale: Tensor, slopes: Tensor, form: LossForm
) -> list[Tensor]:
    """Return the gradient of the loss to every head.

    Args:
        logits: One (B, K, h, w) a head, of one dtype and any strides.
        codes: (B, H, W) uint8, dense: class, or K where a pixel is ignored.
        scale: (G, B, K), gradient to -log p of the target's class, by class of the target.
        slopes: (G, 2, K), gradient to Σ p y and to Σ p of each class.
        form: See there.

    Returns:
        (B, K, h, w) a head, dense.
    """
    if not codes.numel():
        return [head.new_zeros(head.shape) for head in logits]
    scale, slopes = scale.float(), slopes.float()
    with _launch.on_device_of(codes):
        return [
            _differentiate_head(head, codes, scale[index], slopes[index], form)
            for index, head in enumerate(logits)
        ]


def _differentiate_head(head: Tensor, codes: Tensor, scale: Tensor, slopes: Tensor, form: LossForm) -> Tensor:
    plan = Plan.of(head, codes, form)
    gradient = _launch.empty(head.shape, dtype=head.dtype, device=head.device)
    batch, num_classes, height, width = head.shape
    keywords = plan.keywords(num_classes)
    if plan.rows is None or plan.columns is None:
        full_gradient_kernel[plan.grid](
            head, codes, scale, slopes, gradient, *head.stride(), height, width, **keywords
        )
        return gradient
    constants = plan.config.constants
    slots, cells = plan.rows.slots(constants["ROWS"]), constants["LANES"] // constants["PARTS"]
    shape = (batch, plan.grid[1], slots, num_classes, plan.grid[0], cells + 1)
    partials = _launch.empty(shape, dtype=torch.float32, device=head.device)
    coarse_gradient_kernel[plan.grid](
        head, codes, scale, slopes, partials, *head.stride(), *codes.shape[1:], slots, **keywords
    )
    config = gather_config(num_classes)
    gather_kernel[(_launch.ceil_div(width, config.constants["BLOCK"]), height, batch)](
        head, partials, gradient, *head.stride(), codes.shape[1], slots, plan.grid[1], plan.grid[0],
        **plan.rows.arguments("row"), column_source=width, CLASSES=num_classes,
        PROBABILITIES=form.probabilities, ROWS=constants["ROWS"], CELLS=cells, **config.keywords(),
    )  # fmt: skip
    return gradient
