"""Kernels of `norm_act_pad`: partial moments, then normalise, rectify and pad in one pass.

Two launches a source. The moments of each chunk are taken about a value near its mean, and joined in float64
by every program of the second launch in the same order: results repeat bit for bit, and values far from
zero cost no digits.

Axes: B batch, C channels of a source, K channels of all, H W pixels; P pixels and C channels of a tile;
S partials of a group (slots), G groups of a sample: K, or 1 (columns).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmbench_kernels._triton import _launch
from mmbench_kernels._triton._aot import AotCase
from mmbench_kernels._triton._map_tiles import is_channels_last
from mmbench_kernels._triton._padded_maps import (
    CHUNK_TILES,
    Source,
    alignment,
    grid,
    inner_pixels,
    load_affine,
    load_source,
    slots_at_once,
    slots_of,
    sources_of,
    store_dense,
    tile_config,
    tile_of_program,
)


@triton.jit
def moments_kernel(
    x_ptr,  # (B, C, H, W), or (B, C, H/2, W/2) if DOUBLED
    partials_ptr,  # (B, 4, S, G) float32: count, centre, mean less centre, sum of squares about the mean
    batch_stride,
    channel_stride,
    row_stride,
    pixel_stride,
    height,
    width,
    slots,  # S
    first_slot,  # of this source, where the group is the sample
    FIRST_CHANNEL: tl.constexpr,  # of this source among the K
    CHANNELS: tl.constexpr,
    LAYOUT: tl.constexpr,
    DOUBLED: tl.constexpr,
    COLUMNS: tl.constexpr,  # G
    PER_CHANNEL: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Write the moments of one chunk of pixels: of each channel, or of all channels of the tile together."""
    pixel_count = height * width
    chunk, block, sample = tile_of_program(pixel_count, CHANNELS, BLOCK_P, BLOCK_C, CHUNK)
    channels = block * BLOCK_C + tl.arange(0, BLOCK_C)
    x_ptr += sample.to(tl.int64) * batch_stride
    begin = chunk * (BLOCK_P * CHUNK)
    end = tl.minimum(begin + BLOCK_P * CHUNK, pixel_count)
    # About the mean of the first tile, (mean - centre)² is at most var times the tiles of a chunk. That tile
    # is read again below, from the cache.
    x = load_source(
        x_ptr,
        begin + tl.arange(0, BLOCK_P),
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
    centre = tl.sum(x, axis=0)[None, :] / tl.minimum(end - begin, BLOCK_P)
    if not PER_CHANNEL:
        own_channels = tl.minimum(CHANNELS - block * BLOCK_C, BLOCK_C)
        centre = tl.zeros((1, BLOCK_C), tl.float32) + tl.sum(centre) / own_channels
    first = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    second = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for start in range(begin, end, BLOCK_P):
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
        inside = (pixels < pixel_count)[:, None] & (channels < CHANNELS)[None, :]
        x = tl.where(inside, x - centre, 0.0)
        first += x
        second += x * x
    count = (end - begin).to(tl.float32)
    partials_ptr += sample.to(tl.int64) * 4 * slots * COLUMNS
    rows = slots * COLUMNS
    if PER_CHANNEL:
        mean = tl.sum(first, axis=0) / count
        place = partials_ptr + chunk * COLUMNS + FIRST_CHANNEL + channels
        own = channels < CHANNELS
        tl.store(place, mean * 0 + count, mask=own)
        tl.store(place + rows, tl.sum(centre, axis=0), mask=own)
        tl.store(place + 2 * rows, mean, mask=own)
        tl.store(place + 3 * rows, tl.sum(second, axis=0) - mean * mean * count, mask=own)
    else:
        blocks: tl.constexpr = (CHANNELS + BLOCK_C - 1) // BLOCK_C
        count *= own_channels
        mean = tl.sum(first) / count
        place = partials_ptr + first_slot + chunk * blocks + block
        tl.store(place, count)
        tl.store(place + rows, tl.max(centre))
        tl.store(place + 2 * rows, mean)
        tl.store(place + 3 * rows, tl.sum(second) - mean * mean * count)


@triton.jit
def joined_moments(
    partials_ptr,  # (4, S, G) of one sample
    columns,  # (n,) int32 among the G
    slots,  # S
    eps,
    COLUMNS: tl.constexpr,
    SLOTS_AT_ONCE: tl.constexpr,
):
    """Return the mean and 1/sqrt(var + eps) of n groups, float64."""
    rows = slots * COLUMNS
    inside = columns < COLUMNS
    origin = tl.load(partials_ptr + rows + columns, mask=inside, other=0.0).to(tl.float64)
    count = tl.zeros((columns.shape[0],), tl.float64)
    first, second = count, count
    for start in range(0, slots, SLOTS_AT_ONCE):
        places = start + tl.arange(0, SLOTS_AT_ONCE)
        pointers = partials_ptr + places[:, None] * COLUMNS + columns[None, :]
        mask = (places < slots)[:, None] & inside[None, :]
        n = tl.load(pointers, mask=mask, other=0.0).to(tl.float64)
        mean = tl.load(pointers + rows, mask=mask, other=0.0).to(tl.float64)
        mean += tl.load(pointers + 2 * rows, mask=mask, other=0.0).to(tl.float64)
        squares = tl.load(pointers + 3 * rows, mask=mask, other=0.0).to(tl.float64)
        distance = mean - origin[None, :]
        count += tl.sum(n, axis=0)
        first += tl.sum(n * distance, axis=0)
        second += tl.sum(squares + n * distance * distance, axis=0)
    count = tl.maximum(count, 1.0)
    distance = first / count
    variance = tl.maximum(second / count - distance * distance, 0.0)
    return origin + distance, 1.0 / tl.sqrt(variance + eps)


@triton.jit
def apply_kernel(
    x_ptr,  # (B, C, H, W), or (B, C, H/2, W/2) if DOUBLED
    y_ptr,  # (B, K, H + 2·PAD, W + 2·PAD), dense
    partials_ptr,  # (B, 4, S, G) float32, of `moments_kernel`
    mean_ptr,  # (B, G) float64, written by one program a group
    rstd_ptr,  # (B, G) float64, likewise
    weight_ptr,  # (K,) or None
    bias_ptr,  # (K,) or None
    batch_stride,
    channel_stride,
    row_stride,
    pixel_stride,
    height,
    width,
    slots,  # S
    eps,
    slope,
    FIRST_CHANNEL: tl.constexpr,  # of this source among the K
    CHANNELS: tl.constexpr,
    LAYOUT: tl.constexpr,
    DOUBLED: tl.constexpr,
    TOTAL: tl.constexpr,  # K
    PER_CHANNEL: tl.constexpr,
    PAD: tl.constexpr,
    REFLECT: tl.constexpr,
    PACKED: tl.constexpr,  # whether y is channels-last
    ALIGNMENT: tl.constexpr,  # of the planes of y
    SLOTS_AT_ONCE: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Write one chunk of pixels of y."""
    pixel_count = (height + 2 * PAD) * (width + 2 * PAD)
    chunk, block, sample = tile_of_program(pixel_count, CHANNELS, BLOCK_P, BLOCK_C, CHUNK)
    channels = block * BLOCK_C + tl.arange(0, BLOCK_C)
    x_ptr += sample.to(tl.int64) * batch_stride
    groups: tl.constexpr = TOTAL if PER_CHANNEL else 1
    columns = FIRST_CHANNEL + channels if PER_CHANNEL else tl.arange(0, 1)
    own = columns < (FIRST_CHANNEL + CHANNELS if PER_CHANNEL else 1)
    partials_ptr += sample.to(tl.int64) * 4 * slots * groups
    mean, rstd = joined_moments(partials_ptr, columns, slots, eps, groups, SLOTS_AT_ONCE)
    writes = own & (chunk == 0)
    if not PER_CHANNEL:
        writes = writes & (block + FIRST_CHANNEL == 0)
    statistic = sample.to(tl.int64) * groups + columns
    tl.store(mean_ptr + statistic, mean, mask=writes)
    tl.store(rstd_ptr + statistic, rstd, mask=writes)
    # In two parts, as a mean far from zero has more digits than one float32 holds.
    high = mean.to(tl.float32)
    low = (mean - high.to(tl.float64)).to(tl.float32)[None, :]
    high, scale = high[None, :], rstd.to(tl.float32)[None, :]
    factor, shift = load_affine(weight_ptr, bias_ptr, FIRST_CHANNEL + channels, channels < CHANNELS)
    begin = chunk * (BLOCK_P * CHUNK)
    for start in range(begin, tl.minimum(begin + BLOCK_P * CHUNK, pixel_count), BLOCK_P):
        pixels = start + tl.arange(0, BLOCK_P)
        inner = inner_pixels(pixels, height, width, PAD, REFLECT)
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
        y = ((x - high) - low) * scale * factor + shift
        y = tl.where(y > 0, y, slope * y)
        if PAD > 0 and not REFLECT:
            y = tl.where((inner < height * width)[:, None], y, 0.0)
        store_dense(
            y_ptr, y, sample, pixels, channels, pixel_count, FIRST_CHANNEL, CHANNELS, TOTAL, PACKED, ALIGNMENT
        )


def forward(
    maps: Sequence[Tensor],
    doubled: Sequence[bool],
    weight: Tensor | None,
    bias: Tensor | None,
    groups: str,
    eps: float,
    slope: float,
    pad: int,
    pad_mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch the kernels.

    Args:
        maps: (B, C, H, W) each, or (B, C, H/2, W/2) where doubled; any strides.
        doubled: Which of them are doubled in size.
        weight: (K,) or None.
        bias: (K,) or None.
        groups: "channel" or "sample".
        eps: Added to the variance.
        slope: Below zero.
        pad: Pixels added on each side.
        pad_mode: "reflect" or "zeros", where pad is not 0.

    Returns:
        y (B, K, H + 2·pad, W + 2·pad) in the memory format of the first map; mean and 1/sqrt(var + eps),
        (B, K or 1) float64.
    """
    sources = list(sources_of(maps, doubled))
    x, packed, per_channel = maps[0], is_channels_last(maps[0]), groups == "channel"
    batch, total = x.shape[0], sum(each.shape[1] for each in maps)
    height, width = (size * (2 if doubled[0] else 1) for size in x.shape[2:])
    padded = (height + 2 * pad) * (width + 2 * pad)
    y = _launch.empty(
        (batch, total, height + 2 * pad, width + 2 * pad),
        dtype=x.dtype,
        device=x.device,
        channels_last=packed,
    )
    columns = total if per_channel else 1
    mean = _launch.empty((batch, columns), dtype=torch.float64, device=x.device)
    rstd = _launch.empty((batch, columns), dtype=torch.float64, device=x.device)
    if y.numel() == 0:
        return y, mean, rstd
    size = {"height": height, "width": width}
    with _launch.on_device_of(x):
        partials = _moments(sources, total, size, per_channel, packed)
        for source in sources:
            config = tile_config(packed, source.channels, padded)
            apply_kernel[grid(config, batch, source.channels, padded)](
                y_ptr=y,
                partials_ptr=partials,
                mean_ptr=mean,
                rstd_ptr=rstd,
                weight_ptr=weight,
                bias_ptr=bias,
                slots=partials.shape[2],
                eps=eps,
                slope=slope,
                TOTAL=total,
                PER_CHANNEL=per_channel,
                PAD=pad,
                REFLECT=pad_mode == "reflect",
                PACKED=packed,
                ALIGNMENT=alignment(padded),
                SLOTS_AT_ONCE=slots_at_once(config, per_channel),
                CHUNK=CHUNK_TILES,
                **size,
                **source.arguments(),
                **config.keywords(),
            )
    return y, mean, rstd


def _moments(
    sources: Sequence[Source], total: int, size: dict[str, int], per_channel: bool, packed: bool
) -> Tensor:
    """Return the partial moments of all sources, (B, 4, S, G) float32."""
    pixels, x = size["height"] * size["width"], sources[0].view.x
    first_slots, slots, even = slots_of(sources, packed, pixels, per_channel)
    columns = total if per_channel else 1
    partials = _launch.empty((len(x), 4, slots, columns), dtype=torch.float32, device=x.device)
    if not even:
        partials.zero_()
    for source, first_slot in zip(sources, first_slots, strict=True):
        config = tile_config(packed, source.channels, pixels)
        moments_kernel[grid(config, len(x), source.channels, pixels)](
            partials_ptr=partials,
            slots=slots,
            first_slot=first_slot,
            COLUMNS=columns,
            PER_CHANNEL=per_channel,
            CHUNK=CHUNK_TILES,
            **size,
            **source.arguments(),
            **config.keywords(),
        )
    return partials


def aot_cases() -> list[AotCase]:
    """Return every shipped configuration, of the backward pass too."""
    from mmbench_kernels._triton._norm_act_pad_cases import cases

    return cases()
