"""What the launches of `modal_fuse` share: the problem of a call, block sizes, pieces, fresh maps.

Axes: B batch, M modality, C channel of one modality, K channels of all, O channel of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from mmbench_kernels._triton import _launch
from mmbench_kernels._triton._launch import Config
from mmbench_kernels._triton._map_tiles import MapView, is_channels_last

# Into so many pieces the pixels of a map are cut for sums: with a few modalities and samples, enough programs
# for a large GPU, and few enough to be joined by one. By the size of a map alone, so that a sample's bits do
# not depend on its batch.
MOST_PIECES = 128

# Fewer pixels to a piece would cost more for the partial sums of the weights than for the pixels.
LEAST_PIECE_PIXELS = 256

PRECISIONS = {"highest": "ieee", "high": "tf32x3", "medium": "tf32"}
"""How float32 is multiplied, by `torch.get_float32_matmul_precision()`."""


@dataclass(frozen=True)
class Problem:
    """What a call fixes besides its tensors.

    Args:
        slots: Which of the M modalities have a map.
        widths: C of all M.
        groups: "channel" or "sample".
        eps: Added to the variance.
        negative_slope: Of the rectifier.
        missing: "zero" or "drop".
    """

    slots: Sequence[int]
    widths: Sequence[int]
    groups: str
    eps: float
    negative_slope: float
    missing: str

    @property
    def first_columns(self) -> tuple[int, ...]:
        """Where each modality's channels begin among the K, and K."""
        return tuple(accumulate(self.widths, initial=0))

    @property
    def per_channel(self) -> bool:
        """Whether each channel has statistics of its own."""
        return self.groups == "channel"

    @property
    def filled(self) -> bool:
        """Whether missing maps count as zeros; in channels of their own, zeros stay zero and add nothing."""
        return self.groups == "sample" and self.missing == "zero"


def power_of_two(size: int, least: int = 1) -> int:
    """Return the smallest power of two that is no smaller than size and least."""
    return max(least, 1 << (size - 1).bit_length())


def moments_config(channels: int) -> Config:
    """Return how the moments of a map are taken."""
    block = min(power_of_two(channels), 32)
    return Config({"BLOCK_P": 2048 // block, "BLOCK_C": block}, num_warps=4)


# float32 without tensor cores keeps whole rows of both factors in registers: its tiles are smaller. The
# factors of tl.dot are 16 wide or more.


def mix_config(dtype: torch.dtype, precision: str, widths: Sequence[int], outputs: int) -> Config:
    """Return how the maps are mixed, with the `dot_precision` of the dtype."""
    block_o = power_of_two(outputs, 16)
    block_c = min(power_of_two(max(widths), 16), 32)
    constants = {"BLOCK_P": 128 if block_o <= 32 else 64, "BLOCK_C": block_c, "BLOCK_O": block_o}
    if dtype == torch.float32 and block_o > 32:
        return Config({**constants, "BLOCK_C": 16}, num_warps=8 if precision == "ieee" else 4)
    return Config(constants, num_warps=4)


def sums_config(dtype: torch.dtype, outputs: int) -> Config:
    """Return how the sums of backward are taken."""
    block_o = power_of_two(outputs, 16)
    constants = {"BLOCK_P": 64, "BLOCK_C": 16, "BLOCK_O": block_o}
    if dtype == torch.float32 and block_o > 16:
        return Config({**constants, "BLOCK_P": 32}, num_warps=4 if block_o <= 64 else 8)
    return Config(constants, num_warps=4)


def maps_config(dtype: torch.dtype, channels: int, outputs: int) -> Config:
    """Return how the gradient of a map is written."""
    block_o = power_of_two(outputs, 16)
    block_c = 16 if dtype == torch.float32 else min(power_of_two(channels, 16), 32)
    constants = {"BLOCK_P": 128 if block_o <= 32 else 64, "BLOCK_C": block_c, "BLOCK_O": block_o}
    return Config(constants, num_warps=8 if dtype == torch.float32 and block_o > 32 else 4)


STATISTICS_CONFIG = Config({"BLOCK": 1024}, num_warps=4)


def cut(pixels: int, least: int) -> tuple[int, int]:
    """Return how many pieces some pixels are cut into, and the pixels of one, a multiple of least."""
    pixels_each = least * _launch.ceil_div(_launch.ceil_div(pixels, MOST_PIECES), least)
    return _launch.ceil_div(pixels, pixels_each), pixels_each


def dot_precision(dtype: torch.dtype) -> str:
    """Return how tl.dot is to multiply; half precision is exact in the tensor cores whatever is asked."""
    return PRECISIONS[torch.get_float32_matmul_precision()] if dtype == torch.float32 else "ieee"


def map_arguments(view: MapView | None, prefix: str = "") -> dict[str, Any]:
    """Return the arguments of a kernel for a map, or for none; for the gradient, with a prefix."""
    batch, channel, row, pixel = (None,) * 4 if view is None else view.strides
    return {
        f"{prefix or 'x_'}ptr": None if view is None else view.x,
        f"{prefix}batch_stride": batch,
        f"{prefix}channel_stride": channel,
        f"{prefix}row_stride": row,
        f"{prefix}pixel_stride": pixel,
        f"{prefix.upper()}LAYOUT": None if view is None else view.layout,
    }


def presence_arguments(present: Tensor | None) -> dict[str, Any]:
    """Return the arguments of a kernel for present, (B, M) bool or None."""
    batch_stride, slot_stride = (None, None) if present is None else present.stride()
    return {
        "present_ptr": None if present is None else present.view(torch.uint8),
        "present_batch_stride": batch_stride,
        "present_slot_stride": slot_stride,
    }


def dense_map(like: Tensor, channels: int) -> Tensor:
    """Return an uninitialised map of so many channels, channels-last if `like` is."""
    batch, _, height, width = like.shape
    return _launch.empty(
        (batch, channels, height, width),
        dtype=like.dtype,
        device=like.device,
        channels_last=is_channels_last(like),
    )
