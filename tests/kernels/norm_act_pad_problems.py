"""Problems for Triton's `norm_act_pad`, and the comparison of its result and gradients with float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmbench_kernels import norm_act_pad
from mmbench_kernels.ops.norm_act_pad import Up2, norm_act_pad_reference

LIMITS = {torch.float32: (1e-6, 5e-6), torch.float16: (1e-3, 2e-3), torch.bfloat16: (8e-3, 1.6e-2)}
"""Relative Frobenius errors of the result and of each gradient."""


def relative_error(value: Tensor, expected: Tensor) -> float:
    return float((value.double() - expected).norm() / expected.norm())


def doubled_map(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def compare(
    x: Tensor | Sequence[Tensor | Up2],
    *,
    affine: tuple[Tensor, Tensor] | None = None,
    grad: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Hold result and all gradients against the definition; return the result."""
    sources = [x] if isinstance(x, Tensor) else list(x)
    maps = [each.x if isinstance(each, Up2) else each for each in sources]
    leaves = [each.detach().requires_grad_() for each in (*maps, *(affine or ()))]
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    weight, bias = leaves[len(maps) :] or (None, None)
    given: Any = [
        Up2(leaf) if isinstance(each, Up2) else leaf for leaf, each in zip(leaves, sources, strict=False)
    ]
    y = norm_act_pad(
        given[0] if isinstance(x, Tensor) else given, weight=weight, bias=bias, backend="triton", **options
    )
    joined = torch.cat(
        [
            doubled_map(leaf) if isinstance(each, Up2) else leaf
            for leaf, each in zip(wide, sources, strict=False)
        ],
        dim=1,
    )
    wide_weight, wide_bias = wide[len(maps) :] or (None, None)
    expected = norm_act_pad_reference(joined, weight=wide_weight, bias=wide_bias, **options)
    grad = torch.randn_like(y) if grad is None else grad
    found, wanted = (
        torch.autograd.grad(one, inputs, seed)
        for one, inputs, seed in ((y, leaves, grad), (expected, wide, grad.double()))
    )
    forward, backward = LIMITS[maps[0].dtype]
    assert y.dtype == maps[0].dtype
    assert relative_error(y.detach(), expected.detach()) < forward
    for one, other, leaf in zip(found, wanted, leaves, strict=True):
        assert one.dtype == leaf.dtype
        assert relative_error(one, other) < backward
    return y.detach()


def random_affine(channels: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    return torch.randn(channels, device=device), torch.randn(channels, device=device)
