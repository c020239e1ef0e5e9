"""Heads and targets for Triton's `multiscale_seg_loss`, and the comparison of its results with float64."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmbench_kernels import multiscale_seg_loss
from mmbench_kernels.ops.multiscale_seg_loss import multiscale_seg_loss_reference

LIMITS = {torch.float32: (1e-6, 1e-5), torch.float16: (1e-6, 1e-3), torch.bfloat16: (1e-6, 8e-3)}
"""Relative Frobenius errors of the loss, always float32, and of each gradient, of the dtype of the heads."""

OPTIONS: list[dict[str, Any]] = [
    dict(zip(("interp", "clamp", "align_corners", "dice_classes"), values, strict=True))
    for values in itertools.product(("logit", "prob"), (None, (0.05, 0.6)), (False, True), ("present", "all"))
]


def random_heads(
    batch: int,
    classes: int,
    sizes: Sequence[tuple[int, int]],
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> list[Tensor]:
    return [
        (2 * torch.randn(batch, classes, height, width)).to(device, dtype).requires_grad_()
        for height, width in sizes
    ]


def random_target(*shape: int, classes: int, device: str = "cpu") -> Tensor:
    """Return a target that lacks the last class, where there are two or more, a fifth of it ignored."""
    target = torch.randint(0, max(classes - 1, 1), shape)
    return torch.where(torch.rand(shape) < 0.2, 255, target).to(device)


def layouts(head: Tensor) -> dict[str, Tensor]:
    """Return a head in memory of other orders; a slice lies in NaN."""
    batch, classes, height, width = head.shape
    memory = head.new_full((batch + 1, classes + 2, height + 3, 2 * width + 1), torch.nan)
    sliced = memory[1:, 1:-1, 2:-1, 1::2]
    sliced.copy_(head.detach())
    return {
        "channels-last": head.to(memory_format=torch.channels_last),
        "transposed": head.mT.contiguous().mT,
        "sliced": sliced,
        "expanded": head[:, :, :1].expand_as(head),
    }


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the relative Frobenius error, or the absolute one where nothing is expected."""
    distance = (found.double() - expected).norm()
    return float(distance / expected.norm() if expected.any() else distance)


def compare(heads: Sequence[Tensor], target: Tensor, **options: Any) -> None:
    """Hold both terms of every head, and the gradient of a random mix of them, against the definition."""
    given = [head.detach().requires_grad_() for head in heads]
    exact = [head.detach().double().requires_grad_() for head in heads]
    upstream = torch.randn(len(heads), 2).to(target.device)
    table = multiscale_seg_loss(given, target, backend="triton", **options)[1]
    expected = multiscale_seg_loss_reference(exact, target, **options)[1]
    of_loss, of_gradient = LIMITS[heads[0].dtype]
    assert table.dtype == torch.float32
    assert relative_error(table.detach(), expected.detach()) <= of_loss
    found = torch.autograd.grad((table * upstream).sum(), given)
    wanted = torch.autograd.grad((expected * upstream.double()).sum(), exact)
    for head, ours, theirs in zip(heads, found, wanted, strict=True):
        assert ours.dtype == head.dtype
        assert relative_error(ours, theirs) <= of_gradient, tuple(head.shape)
