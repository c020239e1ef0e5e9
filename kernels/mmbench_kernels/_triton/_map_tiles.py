"""Maps as matrices of pixels by channels, wherever their values lie, and tiles of them.

Axes: B batch, C channel, K channels of all modalities, H W pixels; P pixels and C channels of a tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import triton
import triton.language as tl
from torch import Tensor

Layout = Literal["packed", "flat", "strided"]


@dataclass(frozen=True)
class MapView:
    """A map (B, C, H, W) as a kernel addresses it; nothing is copied.

    `layout` says how the offset of pixel p = h·W + w is found. "packed": p·C, the channels of a pixel side
    by side and nothing between pixels, so that the compiler knows how far wide loads may reach; "flat": p
    times a stride, as in contiguous maps; "strided": from h and w, as in a window of a larger map.
    """

    x: Tensor
    layout: Layout

    @staticmethod
    def of(x: Tensor) -> MapView:
        """Return the view of a map by the strides that it has."""
        _, channels, height, width = x.shape
        _, of_channel, of_row, of_pixel = x.stride()
        step = of_row if width == 1 else of_pixel
        if width > 1 and height > 1 and of_row != width * of_pixel:
            return MapView(x, "strided")
        if channels > 1 and of_channel == 1 and step == channels:
            return MapView(x, "packed")
        return MapView(x, "flat")

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """The steps from sample to sample, channel to channel, row to row and pixel to pixel of a row."""
        batch, channel, row, pixel = self.x.stride()
        return batch, channel, row, row if self.x.shape[3] == 1 else pixel


def is_channels_last(x: Tensor) -> bool:
    """Return whether the channels of a pixel stand side by side, as its gradient and result then do."""
    return x.shape[1] > 1 and x.stride(1) == 1


@triton.jit
def load_tile(
    x_ptr,  # the map of one sample
    pixels,  # (P,) int32
    channels,  # (C,) int32
    allowed,  # scalar bool: where it is not, nothing is read
    channel_stride,
    row_stride,
    pixel_stride,
    width,
    pixel_count,
    CHANNELS: tl.constexpr,
    LAYOUT: tl.constexpr,
):
    """Return (P, C) values of a map, zero beyond its ends."""
    # 64 bits: a sample may hold more than 2³¹ values.
    if LAYOUT == "packed":
        offsets = pixels.to(tl.int64) * CHANNELS
    elif LAYOUT == "flat":
        offsets = pixels.to(tl.int64) * pixel_stride
    else:
        rows = pixels // width
        offsets = rows.to(tl.int64) * row_stride + (pixels - rows * width).to(tl.int64) * pixel_stride
    pointers = x_ptr + channels.to(tl.int64)[None, :] * channel_stride + offsets[:, None]
    inside = (pixels < pixel_count)[:, None] & (channels < CHANNELS)[None, :]
    return tl.load(pointers, mask=inside & allowed, other=0.0)


@triton.jit
def store_tile(
    y_ptr,  # the dense map of one sample
    values,  # (P, C)
    pixels,
    channels,
    pixel_count,
    CHANNELS: tl.constexpr,
    PACKED: tl.constexpr,
):
    """Write (P, C) values to a dense map, channels innermost if PACKED."""
    if PACKED:
        pointers = y_ptr + pixels.to(tl.int64)[:, None] * CHANNELS + channels[None, :]
    else:
        pointers = y_ptr + channels.to(tl.int64)[None, :] * pixel_count + pixels[:, None]
    inside = (pixels < pixel_count)[:, None] & (channels < CHANNELS)[None, :]
    tl.store(pointers, values.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def load_statistics(
    statistics_ptr,  # (3, B, groups) float64: mean, 1/sqrt(var + eps), count
    sample,
    batch,
    columns,  # (C,) int32, channels among the K
    inside,  # (C,) bool
    COLUMNS: tl.constexpr,  # K
    PER_CHANNEL: tl.constexpr,
):
    """Return (C,) float32 each: the mean, what float32 leaves of it, and 1/sqrt(var + eps); zero outside."""
    groups = COLUMNS if PER_CHANNEL else 1
    pointers = statistics_ptr + sample.to(tl.int64) * groups + (columns if PER_CHANNEL else columns * 0)
    mean = tl.load(pointers, mask=inside, other=0.0)
    rstd = tl.load(pointers + batch.to(tl.int64) * groups, mask=inside, other=0.0)
    high = mean.to(tl.float32)
    return high, (mean - high.to(tl.float64)).to(tl.float32), rstd.to(tl.float32)


@triton.jit
def normalised(x, high, low, rstd):
    """Return (x - mean) / sqrt(var + eps), (P, C) float32; the mean comes in two parts as it may be large."""
    return ((x.to(tl.float32) - high[None, :]) - low[None, :]) * rstd[None, :]
