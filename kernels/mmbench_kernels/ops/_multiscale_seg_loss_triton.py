"""`multiscale_seg_loss` by Triton's kernels, as operators of their own.

The kernels are imported at the first launch. Axes: G head, B batch, K class, H W pixels of the target, h w
pixels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmbench_kernels.ops._seg_loss_bands import LossForm
from mmbench_kernels.ops._seg_loss_operator import Passes, declare_loss
from mmbench_kernels.ops._seg_loss_terms import refuse_unknown_classes

MOST_CLASSES = 32
"""A pixel's classes stay in the registers of a few threads up to here."""

_MOST_PIXELS = 2**31
"""Offsets inside a sample's target, and positions on the common unit of an axis, are int32."""


def limits(logits: Sequence[Tensor], target: Tensor) -> list[str]:
    """Return what of a call the kernels cannot do, each a sentence without its point."""
    found = []
    if (num_classes := logits[0].shape[1]) > MOST_CLASSES:
        found.append(f"the logits have {num_classes} classes, expected {MOST_CLASSES} or fewer")
    for index, head in enumerate(logits):
        sizes = tuple(zip(head.shape[2:], target.shape[1:], strict=True))
        if any(2 * (source + 256) * (size + 1) >= _MOST_PIXELS for source, size in sizes):
            found.append(f"logits[{index}] and target are too large together for 32-bit positions")
        if 0 in head.shape[1:]:
            found.append(f"logits[{index}] has no classes or no pixels")
    return found


def _encode(target: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return the class of each pixel and the number of pixels of each class, see `Passes.encode`.

    Raises:
        ValueError: If the target holds a class outside [0, K) and is on the CPU. On CUDA the device finds it:
            looking would make the host wait. It then prints the reason, and the next call that waits fails.
    """
    from mmbench_kernels._triton import multiscale_seg_loss as kernels

    codes, tally = kernels.encode(target, num_classes, ignore_index)
    unknown = tally[:, num_classes].sum()
    if target.is_cuda:
        torch._assert_async(
            unknown == 0,
            f"multiscale_seg_loss: target holds a class that is neither in 0..{num_classes - 1} nor "
            f"ignore_index {ignore_index}",
        )
    elif int(unknown):
        refuse_unknown_classes(target, num_classes, ignore_index)
    return codes, tally[:, :num_classes].double()


def _sum_over_pixels(
    logits: Sequence[Tensor], codes: Tensor, weights: Tensor, form: LossForm
) -> tuple[Tensor, Tensor]:
    from mmbench_kernels._triton import multiscale_seg_loss as kernels

    return kernels.sum_over_pixels(logits, codes, weights, form)


def _differentiate(
    logits: Sequence[Tensor], codes: Tensor, scale: Tensor, slopes: Tensor, form: LossForm
) -> list[Tensor]:
    from mmbench_kernels._triton import multiscale_seg_loss_backward as kernels

    return kernels.differentiate(logits, codes, scale, slopes, form)


multiscale_seg_loss_triton = declare_loss(
    "multiscale_seg_loss_triton", Passes(_encode, _sum_over_pixels, _differentiate)
)
