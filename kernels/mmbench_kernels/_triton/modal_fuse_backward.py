"""The kernels of `modal_fuse`, backward: partial sums of what the norm and the weights need, then the maps.

With d = ∂L/∂x̂, also of zeros in place of a missing map,
∂L/∂x = (d - mean(d) - x̂·mean(d·x̂)) / sqrt(var + eps).
Both kernels take x̂ and d again from the map, its statistics and the gradient, and keep nothing between them.
Axes: B batch, M modality, C channel of one modality, K channels of all, O channel of the result, H W pixels;
S pieces of a map's pixels; P pixels, C channels of a tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from mmbench_kernels._triton.modal_fuse import is_present, rectified


@triton.jit
def load_matrix(weight_ptr, outputs, columns, inside, output_stride, input_stride, OUTPUTS: tl.constexpr):
    """Return the (O, C) weights of some channels, zero outside."""
    pointers = weight_ptr + outputs[:, None] * output_stride + columns.to(tl.int64)[None, :] * input_stride
    return tl.load(pointers, mask=(outputs < OUTPUTS)[:, None] & inside[None, :], other=0.0)


@triton.jit
def slope_of(x, negative_slope):
    """Return the derivative of the leaky rectifier at x."""
    return tl.where(x > 0.0, 1.0, negative_slope)


@triton.jit(do_not_specialize=["batch", "slot", "first_column", "pieces"])
def sums_kernel(
    gradient_ptr,  # (B, O, H, W)
    x_ptr,  # (B, C, H, W), or None: no sample has the modality
    present_ptr,  # (B, M) uint8, or None: all samples have all maps
    weight_ptr,  # (O, K)
    statistics_ptr,  # (3, B, groups) float64
    norm_sums_ptr,  # (2, B, K, S) float32: Σd and Σd·x̂
    weight_sums_ptr,  # (B·S, O, K) float32
    bias_sums_ptr,  # (B·S, O) float32, or None: not wanted
    gradient_batch_stride,
    gradient_channel_stride,
    gradient_row_stride,
    gradient_pixel_stride,
    batch_stride,
    channel_stride,
    row_stride,
    pixel_stride,
    present_batch_stride,
    present_slot_stride,
    weight_output_stride,
    weight_input_stride,
    slot,
    first_column,
    batch,
    width,
    pixel_count,
    pieces,
    piece_pixels,
    negative_slope,
    CHANNELS: tl.constexpr,
    COLUMNS: tl.constexpr,  # K
    OUTPUTS: tl.constexpr,
    LAYOUT: tl.constexpr,
    GRADIENT_LAYOUT: tl.constexpr,
    PER_CHANNEL: tl.constexpr,
    FILLED: tl.constexpr,  # whether the zeros of a missing map count
    PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """Write the sums over one piece of the pixels, for one modality. Grid: (B·S, blocks of channels)."""
    row = tl.program_id(0).to(tl.int64)
    sample = tl.program_id(0) // pieces
    piece = tl.program_id(0) - sample * pieces
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channels < CHANNELS
    columns = first_column + channels
    outputs = tl.arange(0, BLOCK_O)
    first = piece * piece_pixels
    last = tl.minimum(first + piece_pixels, pixel_count)
    there = is_present(x_ptr, present_ptr, sample, slot, present_batch_stride, present_slot_stride)
    counts = there | FILLED
    totals = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    products = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    shares = tl.zeros((BLOCK_O, BLOCK_C), tl.float32)
    bias_shares = tl.zeros((BLOCK_O,), tl.float32)
    if counts | (bias_sums_ptr is not None):
        matrix = load_matrix(
            weight_ptr, outputs, columns, inside, weight_output_stride, weight_input_stride, OUTPUTS
        )
        high, low, rstd = load_statistics(
            statistics_ptr, sample, batch, columns, inside, COLUMNS, PER_CHANNEL
        )
        gradient_ptr += sample.to(tl.int64) * gradient_batch_stride
        for start in range(first, last, BLOCK_P):
            pixels = start + tl.arange(0, BLOCK_P)
            gradient = load_tile(
                gradient_ptr, pixels, outputs, start >= 0, gradient_channel_stride, gradient_row_stride,
                gradient_pixel_stride, width, pixel_count, OUTPUTS, GRADIENT_LAYOUT,
            )  # fmt: skip
            if x_ptr is None:
                x = tl.zeros((BLOCK_P, BLOCK_C), gradient.dtype)
            else:
                x = load_tile(
                    x_ptr + sample.to(tl.int64) * batch_stride, pixels, channels, there, channel_stride,
                    row_stride, pixel_stride, width, pixel_count, CHANNELS, LAYOUT,
                )  # fmt: skip
            value = normalised(x, high, low, rstd)
            active = rectified(value, negative_slope).to(gradient.dtype)
            shares = tl.dot(tl.trans(gradient), active, shares, input_precision=PRECISION)
            back = tl.dot(gradient, matrix.to(gradient.dtype), input_precision=PRECISION)
            back *= slope_of(value, negative_slope)
            totals += back
            products += back * value
            bias_shares += tl.sum(gradient.to(tl.float32), 0)
    norm_sums_ptr += (sample.to(tl.int64) * COLUMNS + columns) * pieces + piece
    tl.store(norm_sums_ptr, tl.where(counts, tl.sum(totals, 0), 0.0), mask=inside)
    norm_sums_ptr += batch.to(tl.int64) * COLUMNS * pieces
    tl.store(norm_sums_ptr, tl.where(counts, tl.sum(products, 0), 0.0), mask=inside)
    weight_sums_ptr += row * OUTPUTS * COLUMNS + outputs[:, None] * COLUMNS + columns[None, :]
    written = (outputs < OUTPUTS)[:, None] & inside[None, :]
    tl.store(weight_sums_ptr, tl.where(counts, shares, 0.0), mask=written)
    if bias_sums_ptr is not None:
        first_block = (outputs < OUTPUTS) & (tl.program_id(1) == 0)
        tl.store(bias_sums_ptr + row * OUTPUTS + outputs, bias_shares, mask=first_block)


@triton.jit(do_not_specialize=["batch", "slot", "first_column"])
def maps_kernel(
    gradient_ptr,  # (B, O, H, W)
    x_ptr,  # (B, C, H, W)
    present_ptr,  # (B, M) uint8 or None
    weight_ptr,  # (O, K)
    statistics_ptr,  # (3, B, groups) float64
    norm_means_ptr,  # (2, B, groups) float32: means of d and of d·x̂
    result_ptr,  # (B, C, H, W), dense
    gradient_batch_stride,
    gradient_channel_stride,
    gradient_row_stride,
    gradient_pixel_stride,
    batch_stride,
    channel_stride,
    row_stride,
    pixel_stride,
    present_batch_stride,
    present_slot_stride,
    weight_output_stride,
    weight_input_stride,
    slot,
    first_column,
    batch,
    width,
    pixel_count,
    tiles,
    negative_slope,
    CHANNELS: tl.constexpr,
    COLUMNS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    LAYOUT: tl.constexpr,
    GRADIENT_LAYOUT: tl.constexpr,
    PACKED: tl.constexpr,  # whether the result is channels-last
    PER_CHANNEL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """Write the gradient of a tile of one map, zero where it is missing. Grid: (B·tiles,)."""
    sample = tl.program_id(0) // tiles
    pixels = (tl.program_id(0) - sample * tiles) * BLOCK_P + tl.arange(0, BLOCK_P)
    outputs = tl.arange(0, BLOCK_O)
    there = is_present(x_ptr, present_ptr, sample, slot, present_batch_stride, present_slot_stride)
    gradient = load_tile(
        gradient_ptr + sample.to(tl.int64) * gradient_batch_stride, pixels, outputs, there,
        gradient_channel_stride, gradient_row_stride, gradient_pixel_stride, width, pixel_count,
        OUTPUTS, GRADIENT_LAYOUT,
    )  # fmt: skip
    x_ptr += sample.to(tl.int64) * batch_stride
    result_ptr += sample.to(tl.int64) * pixel_count * CHANNELS
    groups = COLUMNS if PER_CHANNEL else 1
    for start in range(0, CHANNELS, BLOCK_C):
        channels = start + tl.arange(0, BLOCK_C)
        inside = channels < CHANNELS
        columns = first_column + channels
        result = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
        if there:
            matrix = load_matrix(
                weight_ptr, outputs, columns, inside, weight_output_stride, weight_input_stride, OUTPUTS
            )
            high, low, rstd = load_statistics(
                statistics_ptr, sample, batch, columns, inside, COLUMNS, PER_CHANNEL
            )
            means = norm_means_ptr + sample.to(tl.int64) * groups + (columns if PER_CHANNEL else columns * 0)
            mean = tl.load(means, mask=inside, other=0.0)
            product = tl.load(means + batch.to(tl.int64) * groups, mask=inside, other=0.0)
            x = load_tile(
                x_ptr, pixels, channels, there, channel_stride, row_stride, pixel_stride, width, pixel_count,
                CHANNELS, LAYOUT,
            )  # fmt: skip
            value = normalised(x, high, low, rstd)
            back = tl.dot(gradient, matrix.to(gradient.dtype), input_precision=PRECISION)
            back *= slope_of(value, negative_slope)
            result = (back - mean[None, :] - value * product[None, :]) * rstd[None, :]
        store_tile(result_ptr, result, pixels, channels, pixel_count, CHANNELS, PACKED)


def backward(
    gradient: Tensor,
    features: Sequence[Tensor],
    weight: Tensor,
    statistics: Tensor,
    present: Tensor | None,
    problem: configs.Problem,
    *,
    with_bias: bool,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Launch the backward kernels.

    Args:
        gradient: (B, O, H, W) of any strides.
        features: The maps that there are, each (B, C, H, W), none empty.
        weight: (O, K).
        statistics: What `forward` returned.
        present: (B, M) bool or None.
        problem: The rest.
        with_bias: Whether the gradient of a bias is wanted.

    Returns:
        The gradients of the maps, channels-last where the map is, of weight (O, K) and of bias (O,) float32,
        or (0,) where it is not wanted.
    """
    views: list[MapView | None] = [None] * len(problem.widths)
    for slot, each in zip(problem.slots, features, strict=True):
        views[slot] = MapView.of(each)
    shared = {
        **configs.map_arguments(MapView.of(gradient), prefix="gradient_"),
        **configs.presence_arguments(present),
        "weight_ptr": weight,
        "weight_output_stride": weight.stride(0),
        "weight_input_stride": weight.stride(1),
        "statistics_ptr": statistics,
        "batch": len(gradient),
        "width": gradient.shape[3],
        "pixel_count": gradient.shape[2] * gradient.shape[3],
        "negative_slope": problem.negative_slope,
        "COLUMNS": problem.first_columns[-1],
        "OUTPUTS": len(weight),
        "PER_CHANNEL": problem.per_channel,
        "PRECISION": configs.dot_precision(gradient.dtype),
    }
    with _launch.on_device_of(gradient):
        norm_sums, of_weight, of_bias = _take_sums(views, gradient, shared, problem, with_bias)
        grouped = norm_sums.view(2, *statistics.shape[1:], -1)
        norm_means = (grouped.sum(-1, dtype=torch.float64) / statistics[2]).float()
        of_maps = [configs.dense_map(each, each.shape[1]) for each in features]
        for slot, result in zip(problem.slots, of_maps, strict=True):
            _write_map(views[slot], slot, result, norm_means, shared, problem)
    return of_maps, of_weight, of_bias


def _take_sums(
    views: Sequence[MapView | None],
    gradient: Tensor,
    shared: dict[str, Any],
    problem: configs.Problem,
    with_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the partial sums of d and d·x̂, (2, B, K, S), and the gradients of weight and bias."""
    (batch, outputs), columns = gradient.shape[:2], shared["COLUMNS"]
    pieces, piece_pixels = configs.cut(shared["pixel_count"], configs.LEAST_PIECE_PIXELS)
    rows = batch * pieces
    shapes = (2, batch, columns, pieces), (rows, outputs, columns), (rows, outputs if with_bias else 0)
    norm_sums, weight_sums, bias_sums = (
        _launch.empty(shape, dtype=torch.float32, device=gradient.device) for shape in shapes
    )
    for slot, (view, channels) in enumerate(zip(views, problem.widths, strict=True)):
        config = configs.sums_config(gradient.dtype, outputs)
        sums_kernel[(rows, _launch.ceil_div(channels, config.constants["BLOCK_C"]))](
            **shared,
            **configs.map_arguments(view),
            norm_sums_ptr=norm_sums,
            weight_sums_ptr=weight_sums,
            bias_sums_ptr=bias_sums if with_bias and slot == 0 else None,
            slot=slot,
            first_column=problem.first_columns[slot],
            pieces=pieces,
            piece_pixels=piece_pixels,
            CHANNELS=channels,
            FILLED=problem.filled,
            **config.keywords(),
        )
    return norm_sums, weight_sums.sum(0), bias_sums.sum(0)


def _write_map(
    view: MapView | None,
    slot: int,
    result: Tensor,
    norm_means: Tensor,
    shared: dict[str, Any],
    problem: configs.Problem,
) -> None:
    """Write the gradient of one map to `result`."""
    channels = problem.widths[slot]
    config = configs.maps_config(result.dtype, channels, shared["OUTPUTS"])
    tiles = _launch.ceil_div(shared["pixel_count"], config.constants["BLOCK_P"])
    maps_kernel[(shared["batch"] * tiles,)](
        **shared,
        **configs.map_arguments(view),
        norm_means_ptr=norm_means,
        result_ptr=result,
        slot=slot,
        first_column=problem.first_columns[slot],
        tiles=tiles,
        CHANNELS=channels,
        PACKED=is_channels_last(result),
        **config.keywords(),
    )
