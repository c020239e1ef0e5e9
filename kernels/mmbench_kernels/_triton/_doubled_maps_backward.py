"""The kernel of the gradient of a bilinear doubling: each pixel gathers from all that it was spread to.

Axes: B batch, C channels, H W pixels of the map before it was doubled; P pixels and C channels of a tile.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from mmbench_kernels._triton._map_tiles import MapView, load_tile
from mmbench_kernels._triton._padded_maps import (
    CHUNK_TILES,
    Source,
    alignment,
    grid,
    store_dense,
    tile_config,
    tile_of_program,
)

TAPS = 5
"""Rows of a doubled map, at most, that one row of the map is spread to."""


@triton.jit
def halve_kernel(
    grad_ptr,  # (B, C, 2·H, 2·W) dense: the gradient of the doubled map
    result_ptr,  # (B, C, H, W) dense
    batch_stride,
    channel_stride,
    row_stride,
    pixel_stride,
    height,  # H, of the map that was doubled
    width,
    CHANNELS: tl.constexpr,
    LAYOUT: tl.constexpr,
    PACKED: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    TAPS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Write one chunk of the gradient of a map that was doubled, gathered from all it was spread to."""
    pixel_count = height * width
    chunk, block, sample = tile_of_program(pixel_count, CHANNELS, BLOCK_P, BLOCK_C, CHUNK)
    channels = block * BLOCK_C + tl.arange(0, BLOCK_C)
    grad_ptr += sample.to(tl.int64) * batch_stride
    begin = chunk * (BLOCK_P * CHUNK)
    for start in range(begin, tl.minimum(begin + BLOCK_P * CHUNK, pixel_count), BLOCK_P):
        pixels = start + tl.arange(0, BLOCK_P)
        rows = pixels // width
        columns = pixels - rows * width
        first_row, first_column = first_tap(rows, height), first_tap(columns, width)
        total = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
        for tap in range(TAPS * TAPS):
            row, column = first_row + tap // TAPS, first_column + tap % TAPS
            share = tap_weight(row, rows, height) * tap_weight(column, columns, width)
            place = tl.where(
                (share > 0) & (pixels < pixel_count), row * (2 * width) + column, 4 * pixel_count
            )
            part = load_tile(
                grad_ptr,
                place,
                channels,
                True,
                channel_stride,
                row_stride,
                pixel_stride,
                2 * width,
                4 * pixel_count,
                CHANNELS,
                LAYOUT,
            )
            total += share[:, None] * part.to(tl.float32)
        store_dense(
            result_ptr, total, sample, pixels, channels, pixel_count, 0, CHANNELS, CHANNELS, PACKED, ALIGNMENT
        )


@triton.jit
def first_tap(place, size):
    """Return the first row of the doubled map that a row is spread to: u·(h - 1) / (2h - 1) > place - 1."""
    return tl.where(place > 0, (place - 1) * (2 * size - 1) // tl.maximum(size - 1, 1) + 1, 0)


@triton.jit
def tap_weight(tap, place, size):
    """Return the share that row `tap` of the doubled map has of row `place`, 0 beyond the end."""
    distance = tl.abs(tap * (size - 1) - place * (2 * size - 1))
    share = 1 - distance.to(tl.float32) / (2 * size - 1)
    return tl.where((tap < 2 * size) & (distance < 2 * size - 1), share, 0.0)


def halve(grad: Tensor, result: Tensor, packed: bool) -> None:
    """Write the gradient of a map from that of the map in twice its size.

    Args:
        grad: (B, C, 2·H, 2·W) dense.
        result: (B, C, H, W) dense, written to.
        packed: Whether both are channels-last.
    """
    batch, channels, height, width = result.shape
    config = tile_config(packed, channels, height * width)
    arguments = Source(MapView.of(grad), False, 0).arguments()
    halve_kernel[grid(config, batch, channels, height * width)](
        grad_ptr=grad,
        result_ptr=result,
        height=height,
        width=width,
        PACKED=packed,
        ALIGNMENT=alignment(height * width),
        TAPS=TAPS,
        CHUNK=CHUNK_TILES,
        **{name: arguments[name] for name in arguments if name not in ("x_ptr", "FIRST_CHANNEL", "DOUBLED")},
        **config.keywords(),
    )
