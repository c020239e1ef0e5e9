"""Channels-last maps as rows of W·C values, walked in pieces that stay in the cache.

A row holds the values of all channels of all its pixels: a constant of each channel becomes a row of its own,
and every elementwise step runs over long contiguous memory, however few channels there are.
Axes: B batch, n samples of a block, C channel, H W pixels.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Groups = Literal["channel", "sample"]

# Values in a piece: a float32 piece of 1 MiB stays in the cache, and is large against the price of a call.
PIECE = 1 << 18

# A mean this many standard deviations from zero costs float32 the last digits of E[x²] - E[x]² and of
# x·scale + offset: the values are then shifted by the mean, and both are taken again.
FAR = 8.0


# Below this many values in a sample the calls cost more than the cache saves, and torch's own operators win.
WORTH_PIECES = 1 << 20


class Block(NamedTuple):
    """One sample, as a slice, and the pieces of its rows to walk it by.

    One at a time, so that a sample's bits do not depend on its batch.
    """

    samples: slice
    pieces: list[slice]


def worth_pieces(values: int, device: torch.device) -> bool:
    """Return whether samples of so many values are faster in pieces: large ones on a CPU."""
    return device.type == "cpu" and values >= WORTH_PIECES


def is_fused_by_compiler(device: torch.device) -> bool:
    """Return whether torch.compile is at work for inference on a CPU, where its fused loops win."""
    return device.type == "cpu" and torch.compiler.is_compiling() and not torch.is_grad_enabled()


def as_rows(x: Tensor) -> Tensor:
    """Return (B, C, H, W) as (B, H, W·C); a copy unless x is channels-last."""
    x = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    return x.reshape(x.shape[0], x.shape[1], x.shape[2] * x.shape[3])


def empty_map(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Return an uninitialised channels-last (B, channels, height, width) map."""
    return like.new_empty(like.shape[0], height, width, channels).permute(0, 3, 1, 2)


def empty_dense_map(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Return an uninitialised dense (B, channels, height, width) map, channels-last if `like` is."""
    if like.shape[1] > 1 and like.stride(1) == 1:
        return empty_map(like, channels, height, width)
    return like.new_empty(like.shape[0], channels, height, width)


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of statistics and intermediate values: float32, or float64 for float64."""
    return torch.promote_types(x.dtype, torch.float32)


def blocks(samples: slice, height: int, row: int) -> list[Block]:
    """Cut each of some samples of `height` rows of `row` values into pieces."""
    step = max(1, min(height, PIECE * torch.get_num_threads() // max(1, row)))
    pieces = [slice(start, min(start + step, height)) for start in range(0, height, step)]
    return [Block(slice(start, start + 1), pieces) for start in range(samples.start, samples.stop)]


def channel_sums(columns: Tensor, channels: int) -> Tensor:
    """Return the float64 sums over the width of (n, W·C) sums over the height: (n, C)."""
    return columns.double().view(columns.shape[0], -1, channels).sum(1)


def over_width(values: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Repeat (n, C) along a row: (n, 1, W·C)."""
    tiled = values.to(dtype).unsqueeze(1).expand(-1, width, -1)
    return tiled.reshape(values.shape[0], 1, -1)


def group_mean(values: Tensor, groups: str) -> Tensor:
    """Return the mean over the group of each channel, (n, C) for (n, C)."""
    return values if groups == "channel" else values.mean(1, keepdim=True).expand_as(values)


class Scratch:
    """Two pieces of memory used again and again, as fresh memory costs more than the arithmetic on it."""

    def __init__(self, like: Tensor, block: Block, extra_rows: int = 0) -> None:
        """Reserve for the pieces of a block's (B, H, W·C) rows, with so many rows more."""
        shape = (block.samples.stop - block.samples.start, block.pieces[0].stop + extra_rows, like.shape[2])
        self.first, self.second = (like.new_empty(shape, dtype=compute_dtype(like)) for _ in range(2))

    def cast(self, part: Tensor) -> Tensor:
        """Return a piece in the dtype of computation; where that differs, a copy in `second`."""
        if part.dtype == self.second.dtype:
            return part
        return self.second[: len(part), : part.shape[1]].copy_(part)


def power_sums(rows: Tensor, pieces: list[slice], channels: int, scratch: Scratch) -> tuple[Tensor, Tensor]:
    """Return the sums over the pixels of x and of x², each (n, C) float64."""
    total = rows.new_zeros(rows.shape[0], rows.shape[2], dtype=scratch.first.dtype)
    square = scratch.first[: len(rows)].zero_()
    for piece in pieces:
        part = scratch.cast(rows[:, piece])
        total += part.sum(1)
        accumulator = square[:, : part.shape[1]]
        torch.addcmul(accumulator, part, part, out=accumulator)
    return channel_sums(total, channels), channel_sums(square.sum(1), channels)


def far_from_zero(mean: Tensor, square: Tensor) -> bool:
    """Return whether float32 sums of x and x² may be too coarse for the variance."""
    return bool((mean * mean > FAR * FAR * (square - mean * mean)).any())
