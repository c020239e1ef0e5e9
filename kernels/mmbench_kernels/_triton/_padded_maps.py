"""What the kernels of `norm_act_pad` share: which tile a program has, where its values come from, launches.

A map is a matrix of pixels by channels. A source may be a map of half the size that is doubled while it is
read, bilinearly with aligned corners; the doubled map never lies in memory.

Axes: B batch, C channels of a source, K channels of all sources, H W pixels of the map before padding;
P pixels and C channels of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from mmbench_kernels._triton._launch import Config, ceil_div
from mmbench_kernels._triton._map_tiles import MapView, load_tile

PACKED_TILES = {8: Config({"BLOCK_P": 256, "BLOCK_C": 8}, 4), 64: Config({"BLOCK_P": 32, "BLOCK_C": 64}, 4)}
"""Tiles of channels-last maps, by the most channels that they are for; the last is for more, too."""

PLANAR_TILES = {
    64: Config({"BLOCK_P": 64, "BLOCK_C": 32}, 4),
    2048: Config({"BLOCK_P": 2048, "BLOCK_C": 1}, 4),
}
"""Tiles of maps with pixels innermost, by the most pixels that they are for; the last is for more, too."""

PLANAR_FOLDED_TILES = {
    64: Config({"BLOCK_P": 64, "BLOCK_C": 8}, 4),
    512: Config({"BLOCK_P": 512, "BLOCK_C": 1}, 4),
}
"""The same where each value is gathered from up to nine places, which takes registers for each."""

CHUNK_TILES = 8
"""Tiles that one program works off one after the other."""

SLOT_BLOCK = 512
"""Partial sums that a program reads at a time when it joins them."""


@dataclass(frozen=True)
class Source:
    """One of the maps that are joined on C, as the kernels address it.

    Args:
        view: The map, of half the size where it is doubled.
        doubled: Whether it is doubled in size.
        first_channel: Its place among the K.
    """

    view: MapView
    doubled: bool
    first_channel: int

    @property
    def channels(self) -> int:
        """C."""
        return int(self.view.x.shape[1])

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that say where its values lie."""
        batch, channel, row, pixel = self.view.strides
        return {
            "x_ptr": self.view.x,
            "batch_stride": batch,
            "channel_stride": channel,
            "row_stride": row,
            "pixel_stride": pixel,
            "FIRST_CHANNEL": self.first_channel,
            "CHANNELS": self.channels,
            "LAYOUT": self.view.layout,
            "DOUBLED": self.doubled,
        }


def sources_of(maps: Sequence[Tensor], doubled: Sequence[bool]) -> Iterator[Source]:
    """Yield the sources in their order."""
    first = 0
    for x, is_doubled in zip(maps, doubled, strict=True):
        yield Source(MapView.of(x), is_doubled, first)
        first += x.shape[1]


def tile_config(packed: bool, channels: int, pixels: int, *, folds: bool = False) -> Config:
    """Return the tile for a source.

    Args:
        packed: Whether the map that the kernel writes, or reads in order, is channels-last.
        channels: C.
        pixels: Of that map.
        folds: Whether the kernel gathers what was mirrored.
    """
    planar = PLANAR_FOLDED_TILES if folds else PLANAR_TILES
    tiles, size = (PACKED_TILES, channels) if packed else (planar, pixels)
    return next((config for most, config in tiles.items() if size <= most), tiles[max(tiles)])


def chunk_pixels(config: Config) -> int:
    """Return the pixels that one program works off."""
    return CHUNK_TILES * config.constants["BLOCK_P"]


def grid(config: Config, batch: int, channels: int, pixels: int) -> tuple[int]:
    """Return the programs of a launch: chunks of pixels, by blocks of channels, by samples."""
    return (batch * ceil_div(channels, config.constants["BLOCK_C"]) * ceil_div(pixels, chunk_pixels(config)),)


def slots_of(
    sources: Sequence[Source], packed: bool, pixels: int, per_channel: bool
) -> tuple[list[int], int, bool]:
    """Return where each source's partial sums start, how many a group has, and whether all are written.

    A partial sum of a channel is that of a chunk of pixels. One of a sample is that of a chunk and a block of
    channels, so sources stand one behind the other.
    """
    configs = [tile_config(packed, source.channels, pixels) for source in sources]
    own = [ceil_div(pixels, chunk_pixels(config)) for config in configs]
    if per_channel:
        return [0] * len(own), max(own), len(set(own)) == 1
    for index, (source, config) in enumerate(zip(sources, configs, strict=True)):
        own[index] *= ceil_div(source.channels, config.constants["BLOCK_C"])
    return [sum(own[:index]) for index in range(len(own))], sum(own), True


def slots_at_once(config: Config, per_channel: bool) -> int:
    """Return how many partial sums of each group a program reads at a time."""
    return SLOT_BLOCK // config.constants["BLOCK_C"] if per_channel else SLOT_BLOCK


def alignment(pixels: int) -> int:
    """Return by which power of two up to 16 the planes of a map with so many pixels start."""
    return min(pixels & -pixels, 16)


@triton.jit
def tile_of_program(
    pixel_count, CHANNELS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, CHUNK: tl.constexpr
):
    """Return which chunk of pixels, block of channels and sample the program has, each a scalar."""
    chunks = tl.cdiv(pixel_count, BLOCK_P * CHUNK)
    blocks: tl.constexpr = (CHANNELS + BLOCK_C - 1) // BLOCK_C
    program = tl.program_id(0)
    rest = program // chunks
    return program - rest * chunks, rest % blocks, rest // blocks


@triton.jit
def mirrored(place, size):
    """Return places with those beyond either end reflected into 0..size - 1."""
    place = tl.abs(place)
    return tl.where(place >= size, 2 * (size - 1) - place, place)


@triton.jit
def inner_pixels(
    pixels,  # (P,) int32, flat places in the padded map
    height,
    width,
    PAD: tl.constexpr,
    REFLECT: tl.constexpr,
):
    """Return (P,) int32: the flat place in the map of what stands at a padded place; H·W for nothing."""
    if PAD == 0:
        inner = pixels
    else:
        padded_width = width + 2 * PAD
        rows = pixels // padded_width
        columns = pixels - rows * padded_width - PAD
        rows -= PAD
        beyond = rows >= height + PAD
        if REFLECT:
            rows, columns = mirrored(rows, height), mirrored(columns, width)
        else:
            beyond |= (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
        inner = tl.where(beyond, height * width, rows * width + columns)
    return inner


@triton.jit
def load_source(
    x_ptr,  # one sample of the source
    pixels,  # (P,) int32, flat places in the map of H x W; H·W and more for nothing
    channels,  # (C,) int32
    channel_stride,
    row_stride,
    pixel_stride,
    height,
    width,
    CHANNELS: tl.constexpr,
    LAYOUT: tl.constexpr,
    DOUBLED: tl.constexpr,
):
    """Return (P, C) float32 values of the source, zero where there is nothing."""
    if DOUBLED:
        low_height, low_width = height // 2, width // 2
        rows = pixels // width
        columns = pixels - rows * width
        valid = pixels < height * width
        # Aligned corners put row u of 2h at u·(h - 1) / (2h - 1), in whole numbers: rounding the quotient
        # would cost weights far from the origin their last digits.
        up, down = rows * (low_height - 1), columns * (low_width - 1)
        top, left = up // (height - 1), down // (width - 1)
        below = (up - top * (height - 1)).to(tl.float32) / (height - 1)
        right = (down - left * (width - 1)).to(tl.float32) / (width - 1)
        values = tl.zeros((pixels.shape[0], channels.shape[0]), tl.float32)
        for corner in tl.static_range(4):
            row, column = (
                tl.minimum(top + corner // 2, low_height - 1),
                tl.minimum(left + corner % 2, low_width - 1),
            )
            share = (below if corner // 2 else 1 - below) * (right if corner % 2 else 1 - right)
            place = tl.where(valid, row * low_width + column, low_height * low_width)
            part = load_tile(
                x_ptr,
                place,
                channels,
                True,
                channel_stride,
                row_stride,
                pixel_stride,
                low_width,
                low_height * low_width,
                CHANNELS,
                LAYOUT,
            )
            values += share[:, None] * part.to(tl.float32)
    else:
        values = load_tile(
            x_ptr,
            pixels,
            channels,
            True,
            channel_stride,
            row_stride,
            pixel_stride,
            width,
            height * width,
            CHANNELS,
            LAYOUT,
        ).to(tl.float32)
    return values


@triton.jit
def store_dense(
    y_ptr,  # the whole map (B, TOTAL, rows, columns)
    values,  # (P, C)
    sample,
    pixels,  # (P,) int32
    channels,  # (C,) int32 of the source
    pixel_count,
    FIRST_CHANNEL: tl.constexpr,
    CHANNELS: tl.constexpr,
    TOTAL: tl.constexpr,
    PACKED: tl.constexpr,
    ALIGNMENT: tl.constexpr,
):
    """Write a tile into a dense map, channels innermost if PACKED."""
    inside = (pixels < pixel_count)[:, None] & (channels < CHANNELS)[None, :]
    if PACKED:
        start = sample.to(tl.int64) * pixel_count * TOTAL + FIRST_CHANNEL
        offsets = pixels.to(tl.int64)[:, None] * TOTAL + channels[None, :]
    else:
        # So the compiler sees by what each plane is aligned; of a number it only looks whether 16 divides it.
        plane = (pixel_count // ALIGNMENT).to(tl.int64) * ALIGNMENT
        start = (sample.to(tl.int64) * TOTAL + FIRST_CHANNEL) * plane
        offsets = channels.to(tl.int64)[None, :] * plane + pixels[:, None]
    tl.store(y_ptr + start + offsets, values.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def load_affine(
    weight_ptr,  # (K,) or None for 1
    bias_ptr,  # (K,) or None for 0
    columns,  # (C,) int32 among the K
    inside,  # (C,) bool
):
    """Return (1, C) float32 factors and (1, C) float32 shifts."""
    factor = tl.full((1, columns.shape[0]), 1.0, tl.float32)
    shift = tl.zeros((1, columns.shape[0]), tl.float32)
    if weight_ptr is not None:
        factor = tl.load(weight_ptr + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
    if bias_ptr is not None:
        shift = tl.load(bias_ptr + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
    return factor, shift
