"""The kernels of `modal_fuse`, forward: partial moments of each map, statistics, and one pass that mixes.

A missing map counts as zeros or not at all, and is not read. Axes: B batch, M modality, C channel of one
modality, K channels of all, O channel of the result, H W pixels; S pieces of a map's pixels; P pixels and
C channels of a tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmbench_kernels._triton import _launch
from mmbench_kernels._triton import _modal_fuse_configs as configs
from mmbench_kernels._triton._map_tiles import (
    MapView,
    is_channels_last,
    load_statistics,
    load_tile,
    normalised,
    store_tile,
)

if TYPE_CHECKING:
    from mmbench_kernels._triton._aot import AotCase


@triton.jit(do_not_specialize=["batch", "slot", "first_column", "pieces"])
def moments_kernel(
    x_ptr,  # (B, C, H, W), or None: no sample has the modality
    present_ptr,  # (B, M) uint8, or None: all samples have all maps
    partial_ptr,  # (3, B, K, S) float64: count, mean, sum of squared differences from it
    batch_stride,
    channel_stride,
    row_stride,
    pixel_stride,
    present_batch_stride,
    present_slot_stride,
    slot,  # which of the M
    first_column,  # where its channels begin among the K
    batch,
    columns,  # K
    width,  # W
    pixel_count,  # H·W
    pieces,  # S
    piece_pixels,  # pixels of a piece, a multiple of BLOCK_P
    CHANNELS: tl.constexpr,
    LAYOUT: tl.constexpr,
    FILLED: tl.constexpr,  # whether the zeros of a missing map count
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Write the moments of one piece of a map, each channel by itself.

    Grid: (B·S, blocks of channels).
    """
    sample = tl.program_id(0) // pieces
    piece = tl.program_id(0) - sample * pieces
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    first = piece * piece_pixels
    last = tl.minimum(first + piece_pixels, pixel_count)
    there = is_present(x_ptr, present_ptr, sample, slot, present_batch_stride, present_slot_stride)
    count = (last - first).to(tl.float32)
    mean = tl.zeros((BLOCK_C,), tl.float64)
    squares = tl.zeros((BLOCK_C,), tl.float32)
    if x_ptr is not None:  # noqa: SIM102 - the compiler decides this one, the kernel the next
        if there:
            lanes = tl.arange(0, BLOCK_P)
            x_ptr += sample.to(tl.int64) * batch_stride
            x = load_tile(
                x_ptr, first + lanes, channels, there, channel_stride, row_stride, pixel_stride, width,
                pixel_count, CHANNELS, LAYOUT,
            ).to(tl.float32)  # fmt: skip
            # Values are taken from their mean in the first tile, which float32 subtracts without loss: a mean
            # far from zero costs no digits.
            shift = tl.sum(x, 0) / tl.minimum(count, BLOCK_P)
            centre = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
            spread = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
            steps = 0.0
            for start in range(first, last, BLOCK_P):
                x = load_tile(
                    x_ptr, start + lanes, channels, there, channel_stride, row_stride, pixel_stride, width,
                    pixel_count, CHANNELS, LAYOUT,
                ).to(tl.float32)  # fmt: skip
                steps += 1.0
                value = x - shift[None, :]
                change = tl.where((start + lanes < last)[:, None], value - centre, 0.0)
                centre += change * (1.0 / steps)
                spread += change * (value - centre)
            of_lane = tl.cdiv(tl.maximum(last - first - lanes, 0), BLOCK_P).to(tl.float32)[:, None]
            middle = tl.sum(centre * of_lane, 0) / count
            apart = centre - middle[None, :]
            squares = tl.sum(spread + of_lane * apart * apart, 0)
            mean = shift.to(tl.float64) + middle.to(tl.float64)
    if not FILLED:
        count = tl.where(there, count, 0.0)
    row = sample.to(tl.int64) * columns + first_column + channels
    pointers = partial_ptr + row * pieces + piece
    plane = batch.to(tl.int64) * columns * pieces
    inside = channels < CHANNELS
    tl.store(pointers, tl.zeros((BLOCK_C,), tl.float64) + count, mask=inside)
    tl.store(pointers + plane, mean, mask=inside)
    tl.store(pointers + 2 * plane, squares.to(tl.float64), mask=inside)


@triton.jit
def is_present(x_ptr, present_ptr, sample, slot, batch_stride, slot_stride):
    """Return whether a sample has a modality, scalar bool; a modality without a map is in none."""
    if x_ptr is None:
        there = sample < 0
    elif present_ptr is None:
        there = sample >= 0
    else:
        there = tl.load(present_ptr + sample.to(tl.int64) * batch_stride + slot * slot_stride) != 0
    return there


@triton.jit(do_not_specialize=["batch"])
def statistics_kernel(
    partial_ptr,  # (3, B, K, S) float64, what moments_kernel wrote
    statistics_ptr,  # (3, B, groups) float64: mean, 1/sqrt(var + eps), count
    batch,
    entries,  # K·S of a sample, or S of a channel
    eps,
    groups,  # 1 or K
    BLOCK: tl.constexpr,
):
    """Join the pieces of a group of channels. Grid: (B·groups,)."""
    group = tl.program_id(0).to(tl.int64)
    partial_ptr += group * entries
    plane = batch.to(tl.int64) * groups * entries
    places = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float64)
    count = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, entries, BLOCK):
        inside = start + places < entries
        weight = tl.load(partial_ptr + start + places, mask=inside, other=0.0)
        count += weight
        total += weight * tl.load(partial_ptr + plane + start + places, mask=inside, other=0.0)
    number = tl.maximum(tl.sum(count, 0), 1.0)
    mean = tl.sum(total, 0) / number
    squares = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, entries, BLOCK):
        inside = start + places < entries
        weight = tl.load(partial_ptr + start + places, mask=inside, other=0.0)
        apart = tl.load(partial_ptr + plane + start + places, mask=inside, other=0.0) - mean
        squares += weight * apart * apart
        squares += tl.load(partial_ptr + 2 * plane + start + places, mask=inside, other=0.0)
    variance = tl.sum(squares, 0) / number + eps
    # Of nothing but zeros, without eps, nothing is left to divide by.
    rstd = 1.0 / tl.sqrt(tl.where(variance == 0.0, 1.0, variance))
    plane = batch.to(tl.int64) * groups
    tl.store(statistics_ptr + group, mean)
    tl.store(statistics_ptr + plane + group, rstd)
    tl.store(statistics_ptr + 2 * plane + group, number)


@triton.jit(do_not_specialize=["batch"])
def mix_kernel(
    map0_ptr,  # (B, C, H, W), or None: no sample has the modality, or there are fewer
    map1_ptr,
    map2_ptr,
    map3_ptr,
    sample0,  # the strides of the first map's samples, channels, rows and pixels
    channel0,
    row0,
    pixel0,
    sample1,
    channel1,
    row1,
    pixel1,
    sample2,
    channel2,
    row2,
    pixel2,
    sample3,
    channel3,
    row3,
    pixel3,
    present_ptr,  # (B, M) uint8 or None
    weight_ptr,  # (O, K)
    bias_ptr,  # (O,) or None
    statistics_ptr,  # (3, B, groups) float64
    y_ptr,  # (B, O, H, W), dense
    present_batch_stride,
    present_slot_stride,
    weight_output_stride,
    weight_input_stride,
    batch,
    width,
    pixel_count,
    tiles,  # of a sample
    negative_slope,
    WIDTHS: tl.constexpr,  # M times C
    FIRST_COLUMNS: tl.constexpr,  # M + 1 ends among the K
    LAYOUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    PACKED: tl.constexpr,  # whether y is channels-last
    PER_CHANNEL: tl.constexpr,
    FILLED: tl.constexpr,  # whether a missing modality adds what zeros become
    PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """Normalise, rectify and mix a tile of pixels of all maps. Grid: (B·tiles,)."""
    maps = (map0_ptr, map1_ptr, map2_ptr, map3_ptr)
    strides = (
        (sample0, channel0, row0, pixel0),
        (sample1, channel1, row1, pixel1),
        (sample2, channel2, row2, pixel2),
        (sample3, channel3, row3, pixel3),
    )
    sample = tl.program_id(0) // tiles
    pixels = (tl.program_id(0) - sample * tiles) * BLOCK_P + tl.arange(0, BLOCK_P)
    outputs = tl.arange(0, BLOCK_O)
    mixed = tl.zeros((BLOCK_P, BLOCK_O), tl.float32)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + outputs, mask=outputs < OUTPUTS, other=0.0)
        mixed += bias.to(tl.float32)[None, :]
    for m in tl.static_range(len(WIDTHS)):
        there = is_present(maps[m], present_ptr, sample, m, present_batch_stride, present_slot_stride)
        for start in range(0, WIDTHS[m], BLOCK_C):
            channels = start + tl.arange(0, BLOCK_C)
            inside = channels < WIDTHS[m]
            columns = FIRST_COLUMNS[m] + channels
            matrix = tl.load(
                weight_ptr
                + columns.to(tl.int64)[:, None] * weight_input_stride
                + outputs[None, :] * weight_output_stride,
                mask=inside[:, None] & (outputs < OUTPUTS)[None, :],
                other=0.0,
            )
            high, low, rstd = load_statistics(
                statistics_ptr, sample, batch, columns, inside, FIRST_COLUMNS[-1], PER_CHANNEL
            )
            if maps[m] is not None:  # noqa: SIM102 - the compiler decides this one, the kernel the next
                if there:
                    x = load_tile(
                        maps[m] + sample.to(tl.int64) * strides[m][0], pixels, channels, there,
                        strides[m][1], strides[m][2], strides[m][3], width, pixel_count,
                        WIDTHS[m], LAYOUTS[m],
                    )  # fmt: skip
                    active = rectified(normalised(x, high, low, rstd), negative_slope)
                    # The tensor cores take two operands of one type, that of the maps.
                    mixed = tl.dot(active.to(x.dtype), matrix.to(x.dtype), mixed, input_precision=PRECISION)
            if FILLED:  # noqa: SIM102
                if not there:
                    active = rectified((0.0 - high - low) * rstd, negative_slope)
                    mixed += tl.sum(active[:, None] * matrix.to(tl.float32), 0)[None, :]
    y_ptr += sample.to(tl.int64) * pixel_count * OUTPUTS
    store_tile(y_ptr, mixed, pixels, outputs, pixel_count, OUTPUTS, PACKED)


@triton.jit
def rectified(x, negative_slope):
    """Return the leaky rectifier of x."""
    return tl.where(x > 0.0, x, x * negative_slope)


MAPS = 4
"""As many modalities as mix_kernel has arguments for."""


def forward(
    features: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor | None,
    present: Tensor | None,
    problem: configs.Problem,
) -> tuple[Tensor, Tensor]:
    """Launch the forward kernels.

    Args:
        features: The maps that there are, each (B, C, H, W) of any strides, none empty.
        weight: (O, K).
        bias: (O,) or None.
        present: (B, M) bool or None.
        problem: The rest.

    Returns:
        (B, O, H, W), channels-last if the first map is, and (3, B, K or 1) float64: mean, 1/sqrt(var + eps)
        and number of values of each group.
    """
    y = configs.dense_map(features[0], len(weight))
    views: list[MapView | None] = [None] * len(problem.widths)
    for slot, each in zip(problem.slots, features, strict=True):
        views[slot] = MapView.of(each)
    with _launch.on_device_of(y):
        statistics = _take_statistics(views, y, present, problem)
        _mix(views, weight, bias, present, statistics, y, problem)
    return y, statistics


def _take_statistics(
    views: Sequence[MapView | None], like: Tensor, present: Tensor | None, problem: configs.Problem
) -> Tensor:
    """Return (3, B, groups) float64."""
    batch, _, height, width = like.shape
    columns, pixels = problem.first_columns[-1], height * width
    settings = [configs.moments_config(channels) for channels in problem.widths]
    pieces, piece_pixels = configs.cut(pixels, max(each.constants["BLOCK_P"] for each in settings))
    partial = _launch.empty((3, batch, columns, pieces), dtype=torch.float64, device=like.device)
    for slot, (view, channels, config) in enumerate(zip(views, problem.widths, settings, strict=True)):
        blocks = _launch.ceil_div(channels, config.constants["BLOCK_C"])
        moments_kernel[(batch * pieces, blocks)](
            **configs.map_arguments(view),
            **configs.presence_arguments(present),
            partial_ptr=partial,
            slot=slot,
            first_column=problem.first_columns[slot],
            batch=batch,
            columns=columns,
            width=width,
            pixel_count=pixels,
            pieces=pieces,
            piece_pixels=piece_pixels,
            CHANNELS=channels,
            FILLED=problem.filled,
            **config.keywords(),
        )
    groups = columns if problem.per_channel else 1
    statistics = _launch.empty((3, batch, groups), dtype=torch.float64, device=like.device)
    statistics_kernel[(batch * groups,)](
        partial_ptr=partial,
        statistics_ptr=statistics,
        batch=batch,
        entries=columns * pieces // groups,
        eps=problem.eps,
        groups=groups,
        **configs.STATISTICS_CONFIG.keywords(),
    )
    return statistics


def _mix(
    views: Sequence[MapView | None],
    weight: Tensor,
    bias: Tensor | None,
    present: Tensor | None,
    statistics: Tensor,
    y: Tensor,
    problem: configs.Problem,
) -> None:
    """Write y."""
    batch, outputs, height, width = y.shape
    precision = configs.dot_precision(y.dtype)
    config = configs.mix_config(y.dtype, precision, problem.widths, outputs)
    tiles = _launch.ceil_div(height * width, config.constants["BLOCK_P"])
    arguments: dict[str, Any] = {}
    for slot in range(MAPS):
        view = views[slot] if slot < len(views) else None
        arguments[f"map{slot}_ptr"] = None if view is None else view.x
        names = (f"{each}{slot}" for each in ("sample", "channel", "row", "pixel"))
        arguments.update(zip(names, (None,) * 4 if view is None else view.strides, strict=True))
    mix_kernel[(batch * tiles,)](
        **arguments,
        **configs.presence_arguments(present),
        weight_ptr=weight,
        bias_ptr=bias,
        statistics_ptr=statistics,
        y_ptr=y,
        weight_output_stride=weight.stride(0),
        weight_input_stride=weight.stride(1),
        batch=batch,
        width=width,
        pixel_count=height * width,
        tiles=tiles,
        negative_slope=problem.negative_slope,
        WIDTHS=tuple(problem.widths),
        FIRST_COLUMNS=problem.first_columns,
        LAYOUTS=tuple(None if view is None else view.layout for view in views),
        OUTPUTS=outputs,
        PACKED=is_channels_last(y),
        PER_CHANNEL=problem.per_channel,
        FILLED=problem.filled,
        PRECISION=precision,
        **config.keywords(),
    )


def aot_cases() -> list[AotCase]:
    """Return every shipped configuration."""
    from mmbench_kernels._triton import _modal_fuse_cases  # which imports this module

    return _modal_fuse_cases.aot_cases()
