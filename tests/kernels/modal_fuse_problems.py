"""Inputs of modal_fuse, and how far its Triton kernels are from the definition in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmbench_kernels import modal_fuse
from mmbench_kernels.ops.modal_fuse import modal_fuse_reference

# Relative Frobenius errors of the result and of the gradients.
LIMITS = {torch.float32: (1e-6, 5e-6), torch.float16: (1e-3, 2e-3), torch.bfloat16: (8e-3, 1.6e-2)}


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Return |value - reference| / |reference|, or |value| where the reference is zero."""
    reference = reference.detach()
    norm = float(reference.norm())
    return float((value.detach().to(reference) - reference).norm()) / (norm or 1.0)


def inputs(
    widths: Sequence[int],
    batch: int,
    size: tuple[int, int] = (5, 7),
    outputs: int = 5,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return random maps around 1, weight (O, K) and bias."""
    maps = [(torch.randn(batch, width, *size) + 1).to(device, dtype) for width in widths]
    weight, bias = torch.randn(outputs, sum(widths)), torch.randn(outputs)
    return maps, weight.to(device, dtype), bias.to(device, dtype)


def errors(
    maps: Sequence[Tensor], weight: Tensor, bias: Tensor, present: Tensor | None = None, **options: Any
) -> tuple[float, float]:
    """Return the error of the result, and the largest of the errors of all gradients."""
    leaves = [each.detach().requires_grad_() for each in (*maps, weight, bias)]
    doubled = [each.detach().double().requires_grad_() for each in leaves]
    fused = modal_fuse(leaves[:-2], leaves[-2], leaves[-1], present=present, backend="triton", **options)
    if present is None:
        present = torch.ones(len(maps[0]), len(maps), dtype=torch.bool)
    expected = modal_fuse_reference(doubled[:-2], doubled[-2], doubled[-1], present, **options)
    seed = torch.randn_like(fused)
    found = torch.autograd.grad(fused, leaves, seed)
    wanted = torch.autograd.grad(expected, doubled, seed.double())
    assert fused.dtype == maps[0].dtype
    assert [each.dtype for each in found] == [each.dtype for each in leaves]
    return relative_error(fused, expected), max(map(relative_error, found, wanted))


def assert_close(*arguments: Any, **options: Any) -> None:
    """Hold both `errors` to the limits of the maps' dtype."""
    forward, gradients = errors(*arguments, **options)
    limits = LIMITS[arguments[0][0].dtype]
    assert forward < limits[0]
    assert gradients < limits[1]
