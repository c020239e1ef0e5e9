"""The gradient of `norm_act_pad`: two sums of each group, then the kernel of the gradient, a gather.

With d = ∂L/∂(x̂·weight + bias), folded back over the border, and w the weight, ∂L/∂x is
(d·w - mean(d·w) - x̂·mean(d·w·x̂)) / sqrt(var + eps). The gradient walks over the map and gathers what was
mirrored. Nothing is added to memory that another program adds to: results repeat bit for bit.

Axes: B batch, C channels of a source, K channels of all, H W pixels; P pixels and C channels of a tile;
S partial sums of a group (slots), G groups of sums in a sample: K, or 1 (columns).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmbench_kernels._triton import _launch
from mmbench_kernels._triton._doubled_maps_backward import halve
from mmbench_kernels._triton._map_tiles import is_channels_last, load_tile
from mmbench_kernels._triton._norm_act_pad_sums import (
    gradient_arguments,
    gradient_sums,
    joined_sums,
    load_moments,
)
from mmbench_kernels._triton._padded_maps import (
    CHUNK_TILES,
    Source,
    alignment,
    grid,
    load_affine,
    load_source,
    slots_at_once,
    sources_of,
    store_dense,
    tile_config,
    tile_of_program,
)


@triton.jit
def load_row_folded(
    grad_ptr,  # one sample
    rows,  # (P,) int32, of the padded map
    columns,  # (P,) int32, of the map
    valid,  # (P,) bool
    channels,  # (C,) int32
    channel_stride,
    row_stride,
    pixel_stride,
    height,
    width,
    CHANNELS: tl.constexpr,
    LAYOUT: tl.constexpr,
    PAD: tl.constexpr,
    REFLECT: tl.constexpr,
):
    """Return (P, C) float32: what a padded row holds for each column, with what was mirrored from it."""
    padded_width = width + 2 * PAD
    padded = (height + 2 * PAD) * padded_width
    total = tl.zeros((rows.shape[0], channels.shape[0]), tl.float32)
    # The column itself, its mirror beyond the left end, its mirror beyond the right end.
    for copy in tl.static_range(3 if REFLECT and PAD > 0 else 1):
        if copy == 0:
            there, place = valid, columns
        elif copy == 1:
            there, place = valid & (columns >= 1) & (columns <= PAD), -columns
        else:
            there = valid & (columns >= width - 1 - PAD) & (columns <= width - 2)
            place = 2 * (width - 1) - columns
        pixels = tl.where(there, rows * padded_width + place + PAD, padded)
        total += load_tile(
            grad_ptr,
            pixels,
            channels,
            True,
            channel_stride,
            row_stride,
            pixel_stride,
            padded_width,
            padded,
            CHANNELS,
            LAYOUT,
        ).to(tl.float32)
    return total


@triton.jit
def gradient_kernel(
    grad_ptr,  # (B, C, H + 2·PAD, W + 2·PAD), the part of this source
    x_ptr,  # (B, C, H, W), or (B, C, H/2, W/2) if DOUBLED
    result_ptr,  # (B, C, H, W) dense
    sums_ptr,  # (B, 2, S, G) float32, of `sums_kernel`
    mean_ptr,  # (B, K or 1) float64
    rstd_ptr,  # (B, K or 1) float64
    weight_ptr,  # (K,) or None
    bias_ptr,  # (K,) or None
    grad_batch_stride,
    grad_channel_stride,
    grad_row_stride,
    grad_pixel_stride,
    batch_stride,
    channel_stride,
    row_stride,
    pixel_stride,
    height,
    width,
    slots,  # S
    slope,
    GRAD_LAYOUT: tl.constexpr,
    FIRST_CHANNEL: tl.constexpr,  # of this source among the K
    CHANNELS: tl.constexpr,
    LAYOUT: tl.constexpr,
    DOUBLED: tl.constexpr,
    TOTAL: tl.constexpr,  # K
    PER_CHANNEL: tl.constexpr,
    SUMS_PER_CHANNEL: tl.constexpr,
    PAD: tl.constexpr,
    REFLECT: tl.constexpr,
    PACKED: tl.constexpr,  # whether the result is channels-last
    ALIGNMENT: tl.constexpr,  # of the planes of the result
    SLOTS_AT_ONCE: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Write one chunk of pixels of ∂L/∂x; where x is doubled, of ∂L/∂(doubled x)."""
    pixel_count = height * width
    chunk, block, sample = tile_of_program(pixel_count, CHANNELS, BLOCK_P, BLOCK_C, CHUNK)
    channels = block * BLOCK_C + tl.arange(0, BLOCK_C)
    own = channels < CHANNELS
    columns_of_all = FIRST_CHANNEL + channels
    grad_ptr += sample.to(tl.int64) * grad_batch_stride
    x_ptr += sample.to(tl.int64) * batch_stride
    high, low, scale = load_moments(
        mean_ptr, rstd_ptr, sample, columns_of_all, own, TOTAL if PER_CHANNEL else 1, PER_CHANNEL
    )
    factor, shift = load_affine(weight_ptr, bias_ptr, columns_of_all, own)
    sums_ptr += sample.to(tl.int64) * 2 * slots * (TOTAL if SUMS_PER_CHANNEL else 1)
    constant, slant = joined_sums(
        sums_ptr, weight_ptr, columns_of_all, own, slots, TOTAL, PER_CHANNEL, SUMS_PER_CHANNEL, SLOTS_AT_ONCE
    )
    count = pixel_count.to(tl.float32) * (1 if PER_CHANNEL else TOTAL)
    constant, slant = constant / count, slant / count
    begin = chunk * (BLOCK_P * CHUNK)
    for start in range(begin, tl.minimum(begin + BLOCK_P * CHUNK, pixel_count), BLOCK_P):
        pixels = start + tl.arange(0, BLOCK_P)
        x = load_source(
            x_ptr,
            pixels,
            channels,
            channel_stride,
            row_stride,
            pixel_stride,
            height,
            width,
            CHANNELS,
            LAYOUT,
            DOUBLED,
        )
        if PAD == 0:
            grad = load_tile(
                grad_ptr,
                pixels,
                channels,
                True,
                grad_channel_stride,
                grad_row_stride,
                grad_pixel_stride,
                width,
                pixel_count,
                CHANNELS,
                GRAD_LAYOUT,
            ).to(tl.float32)
        else:
            valid = pixels < pixel_count
            rows = pixels // width
            columns = pixels - rows * width
            grad = load_row_folded(
                grad_ptr,
                rows + PAD,
                columns,
                valid,
                channels,
                grad_channel_stride,
                grad_row_stride,
                grad_pixel_stride,
                height,
                width,
                CHANNELS,
                GRAD_LAYOUT,
                PAD,
                REFLECT,
            )
            last_row = (tl.minimum(start + BLOCK_P, pixel_count) - 1) // width
            if REFLECT and (start // width <= PAD or last_row >= height - 1 - PAD):
                grad += load_row_folded(
                    grad_ptr,
                    PAD - rows,
                    columns,
                    valid & (rows >= 1) & (rows <= PAD),
                    channels,
                    grad_channel_stride,
                    grad_row_stride,
                    grad_pixel_stride,
                    height,
                    width,
                    CHANNELS,
                    GRAD_LAYOUT,
                    PAD,
                    REFLECT,
                )
                mirrored_below = valid & (rows >= height - 1 - PAD) & (rows <= height - 2)
                grad += load_row_folded(
                    grad_ptr,
                    2 * (height - 1) - rows + PAD,
                    columns,
                    mirrored_below,
                    channels,
                    grad_channel_stride,
                    grad_row_stride,
                    grad_pixel_stride,
                    height,
                    width,
                    CHANNELS,
                    GRAD_LAYOUT,
                    PAD,
                    REFLECT,
                )
        normalised = ((x - high) - low) * scale
        d = tl.where(normalised * factor + shift > 0, grad, slope * grad) * factor
        result = (d - constant - normalised * slant) * scale
        store_dense(
            result_ptr,
            result,
            sample,
            pixels,
            channels,
            pixel_count,
            0,
            CHANNELS,
            CHANNELS,
            PACKED,
            ALIGNMENT,
        )


def backward(
    grad: Tensor,
    maps: Sequence[Tensor],
    doubled: Sequence[bool],
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    groups: str,
    slope: float,
    pad: int,
    pad_mode: str,
) -> tuple[list[Tensor], Tensor | None]:
    """Launch the kernels.

    Args:
        grad: (B, K, H + 2·pad, W + 2·pad), any strides.
        maps: As in `norm_act_pad.forward`, as are doubled, weight, bias, groups, slope, pad and pad_mode.
        doubled: Which of the maps are doubled in size.
        weight: (K,) or None.
        bias: (K,) or None.
        mean: (B, K or 1) float64, of the forward pass.
        rstd: (B, K or 1) float64, likewise.
        groups: "channel" or "sample".
        slope: Below zero.
        pad: Pixels added on each side.
        pad_mode: "reflect" or "zeros", where pad is not 0.

    Returns:
        The gradient of each map, dense in its memory format; and those of bias and weight, (2, K) float64, or
        None if there is neither.
    """
    sources = list(sources_of(maps, doubled))
    results = [_dense_like(x, x.shape[2], x.shape[3]) for x in maps]
    affine = weight is not None or bias is not None
    if grad.numel() == 0:
        return results, grad.new_zeros((2, grad.shape[1]), dtype=torch.float64) if affine else None
    height, width = (size - 2 * pad for size in grad.shape[2:])
    shared = {
        "mean_ptr": mean,
        "rstd_ptr": rstd,
        "weight_ptr": weight,
        "bias_ptr": bias,
        "height": height,
        "width": width,
        "slope": slope,
        "TOTAL": grad.shape[1],
        "PER_CHANNEL": groups == "channel",
        "SUMS_PER_CHANNEL": groups == "channel" or affine,
        "PAD": pad,
        "REFLECT": pad_mode == "reflect",
        "CHUNK": CHUNK_TILES,
    }
    with _launch.on_device_of(grad):
        sums = gradient_sums(grad, sources, shared)
        for source, result in zip(sources, results, strict=True):
            _gradient(grad, source, result, sums, shared)
    return results, sums.sum((0, 2), dtype=torch.float64) if affine else None


def _gradient(grad: Tensor, source: Source, result: Tensor, sums: Tensor, shared: dict[str, Any]) -> None:
    """Write the gradient of one source."""
    x, height, width = source.view.x, shared["height"], shared["width"]
    packed = is_channels_last(x)
    target = _dense_like(x, height, width) if source.doubled else result
    config = tile_config(packed, source.channels, height * width, folds=True)
    gradient_kernel[grid(config, len(x), source.channels, height * width)](
        result_ptr=target,
        sums_ptr=sums,
        slots=sums.shape[2],
        PACKED=packed,
        ALIGNMENT=alignment(height * width),
        SLOTS_AT_ONCE=slots_at_once(config, shared["PER_CHANNEL"]),
        **shared,
        **gradient_arguments(grad, source),
        **source.arguments(),
        **config.keywords(),
    )
    if source.doubled:
        halve(target, result, packed)


def _dense_like(x: Tensor, height: int, width: int) -> Tensor:
    """Return uninitialised memory for a map of the channels, dtype and memory format of x."""
    shape = (*x.shape[:2], height, width)
    return _launch.empty(shape, dtype=x.dtype, device=x.device, channels_last=is_channels_last(x))
