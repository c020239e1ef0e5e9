"""The sums that the gradient of `norm_act_pad` needs: of d and of d·x̂ over each group, in parts.

d is ∂L/∂(x̂·weight + bias). The sums walk over the padded map, where a border pixel has the x of the inner one
that it mirrors, and each program writes a part of its own.

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
from mmbench_kernels._triton._map_tiles import MapView, is_channels_last, load_tile
from mmbench_kernels._triton._padded_maps import (
    Source,
    grid,
    inner_pixels,
    load_affine,
    load_source,
    slots_of,
    tile_config,
    tile_of_program,
)


@triton.jit
def load_moments(
    mean_ptr, rstd_ptr, sample, columns, inside, GROUPS: tl.constexpr, PER_CHANNEL: tl.constexpr
):
    """Return (1, C) float32 each: the mean, what float32 leaves of it, and 1/sqrt(var + eps)."""
    places = sample.to(tl.int64) * GROUPS + (columns if PER_CHANNEL else columns * 0)
    mean = tl.load(mean_ptr + places, mask=inside, other=0.0)
    rstd = tl.load(rstd_ptr + places, mask=inside, other=0.0)
    high = mean.to(tl.float32)
    low = (mean - high.to(tl.float64)).to(tl.float32)
    return high[None, :], low[None, :], rstd.to(tl.float32)[None, :]


@triton.jit
def sums_kernel(
    grad_ptr,  # (B, C, H + 2·PAD, W + 2·PAD), the part of this source
    x_ptr,  # (B, C, H, W), or (B, C, H/2, W/2) if DOUBLED
    sums_ptr,  # (B, 2, S, G) float32: Σd and Σd·x̂
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
    first_slot,  # of this source, where G is 1
    slope,
    GRAD_LAYOUT: tl.constexpr,
    FIRST_CHANNEL: tl.constexpr,  # of this source among the K
    CHANNELS: tl.constexpr,
    LAYOUT: tl.constexpr,
    DOUBLED: tl.constexpr,
    TOTAL: tl.constexpr,  # K
    PER_CHANNEL: tl.constexpr,  # whether the moments are
    SUMS_PER_CHANNEL: tl.constexpr,
    PAD: tl.constexpr,
    REFLECT: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Write the sums of one chunk of padded pixels: of each channel, or of the tile's channels together."""
    padded_width = width + 2 * PAD
    padded = (height + 2 * PAD) * padded_width
    chunk, block, sample = tile_of_program(padded, CHANNELS, BLOCK_P, BLOCK_C, CHUNK)
    channels = block * BLOCK_C + tl.arange(0, BLOCK_C)
    own = channels < CHANNELS
    grad_ptr += sample.to(tl.int64) * grad_batch_stride
    x_ptr += sample.to(tl.int64) * batch_stride
    high, low, scale = load_moments(
        mean_ptr, rstd_ptr, sample, FIRST_CHANNEL + channels, own, TOTAL if PER_CHANNEL else 1, PER_CHANNEL
    )
    factor, shift = load_affine(weight_ptr, bias_ptr, FIRST_CHANNEL + channels, own)
    total = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    product = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    begin = chunk * (BLOCK_P * CHUNK)
    for start in range(begin, tl.minimum(begin + BLOCK_P * CHUNK, padded), BLOCK_P):
        pixels = start + tl.arange(0, BLOCK_P)
        inner = inner_pixels(pixels, height, width, PAD, REFLECT)
        grad = load_tile(
            grad_ptr,
            pixels,
            channels,
            True,
            grad_channel_stride,
            grad_row_stride,
            grad_pixel_stride,
            padded_width,
            padded,
            CHANNELS,
            GRAD_LAYOUT,
        ).to(tl.float32)
        x = load_source(
            x_ptr,
            inner,
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
        normalised = ((x - high) - low) * scale
        d = tl.where(normalised * factor + shift > 0, grad, slope * grad)
        if PAD > 0 and not REFLECT:
            d = tl.where((inner < height * width)[:, None], d, 0.0)
        total += d
        product += d * normalised
    sums_ptr += sample.to(tl.int64) * 2 * slots * (TOTAL if SUMS_PER_CHANNEL else 1)
    if SUMS_PER_CHANNEL:
        place = sums_ptr + chunk * TOTAL + FIRST_CHANNEL + channels
        tl.store(place, tl.sum(total, axis=0), mask=own)
        tl.store(place + slots * TOTAL, tl.sum(product, axis=0), mask=own)
    else:
        blocks: tl.constexpr = (CHANNELS + BLOCK_C - 1) // BLOCK_C
        place = sums_ptr + first_slot + chunk * blocks + block
        tl.store(place, tl.sum(total))
        tl.store(place + slots, tl.sum(product))


@triton.jit
def joined_sums(
    sums_ptr,  # (2, S, G) of one sample
    weight_ptr,  # (K,) or None
    columns,  # (C,) int32 among the K
    inside,  # (C,) bool
    slots,
    TOTAL: tl.constexpr,  # K
    PER_CHANNEL: tl.constexpr,
    SUMS_PER_CHANNEL: tl.constexpr,
    SLOTS_AT_ONCE: tl.constexpr,
):
    """Return Σd·w and Σd·w·x̂ of the group of each column, (1, C) float32 or (1, 1)."""
    sum_columns: tl.constexpr = TOTAL if SUMS_PER_CHANNEL else 1
    size = slots * sum_columns
    if PER_CHANNEL:
        first = tl.zeros((columns.shape[0],), tl.float32)
        second = tl.zeros((columns.shape[0],), tl.float32)
        for start in range(0, slots, SLOTS_AT_ONCE):
            places = start + tl.arange(0, SLOTS_AT_ONCE)
            pointers = sums_ptr + places[:, None] * TOTAL + columns[None, :]
            mask = (places < slots)[:, None] & inside[None, :]
            first += tl.sum(tl.load(pointers, mask=mask, other=0.0), axis=0)
            second += tl.sum(tl.load(pointers + size, mask=mask, other=0.0), axis=0)
        factor, _ = load_affine(weight_ptr, None, columns, inside)
        first, second = first[None, :] * factor, second[None, :] * factor
    else:
        first = tl.zeros((1, 1), tl.float32)
        second = tl.zeros((1, 1), tl.float32)
        for start in range(0, size, SLOTS_AT_ONCE):
            places = start + tl.arange(0, SLOTS_AT_ONCE)
            mask = places < size
            factor, _ = load_affine(weight_ptr, None, places % sum_columns, mask)
            first += tl.sum(tl.load(sums_ptr + places, mask=mask, other=0.0)[None, :] * factor)
            second += tl.sum(tl.load(sums_ptr + size + places, mask=mask, other=0.0)[None, :] * factor)
    return first, second


def gradient_sums(grad: Tensor, sources: Sequence[Source], shared: dict[str, Any]) -> Tensor:
    """Launch `sums_kernel` for each source.

    Args:
        grad: (B, K, H + 2·PAD, W + 2·PAD), any strides.
        sources: Of the forward pass.
        shared: The keyword arguments that the kernels of all sources have in common.

    Returns:
        The partial sums of each group, (B, 2, S, G) float32.
    """
    batch, total, padded = grad.shape[0], grad.shape[1], grad.shape[2] * grad.shape[3]
    packed, per_channel = is_channels_last(sources[0].view.x), shared["SUMS_PER_CHANNEL"]
    first_slots, slots, even = slots_of(sources, packed, padded, per_channel)
    shape = (batch, 2, slots, total if per_channel else 1)
    sums = _launch.empty(shape, dtype=torch.float32, device=grad.device)
    if not even:
        sums.zero_()
    for source, first_slot in zip(sources, first_slots, strict=True):
        config = tile_config(packed, source.channels, padded)
        sums_kernel[grid(config, batch, source.channels, padded)](
            sums_ptr=sums,
            slots=slots,
            first_slot=first_slot,
            **shared,
            **gradient_arguments(grad, source),
            **source.arguments(),
            **config.keywords(),
        )
    return sums


def gradient_arguments(grad: Tensor, source: Source) -> dict[str, Any]:
    """Return the keyword arguments that say where the gradient of a source's part of y lies."""
    part = MapView.of(grad.narrow(1, source.first_channel, source.channels))
    names = ("grad_batch_stride", "grad_channel_stride", "grad_row_stride", "grad_pixel_stride")
    return {"grad_ptr": part.x, "GRAD_LAYOUT": part.layout, **dict(zip(names, part.strides, strict=True))}
