"""Problems for the kernels of modal_attention and how far they may be from the definition in float64.

Shared by what runs in the interpreter and what runs on a GPU.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmbench_kernels import modal_attention
from mmbench_kernels.ops.modal_attention import modal_attention_reference

# Relative Frobenius errors: forward, gradients.
LIMITS = {torch.float32: (2e-6, 5e-6), torch.float16: (1e-3, 2e-3), torch.bfloat16: (8e-3, 1.6e-2)}
MODES = ("full", "skip_keys", "skip_tokens")


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Return |value - reference| / |reference|, or |value| where the reference is zero."""
    norm = float(reference.detach().norm())
    return float((value.detach().double() - reference.detach()).norm()) / (norm or 1.0)


def random_qkv(
    *shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values (B, H, N, D)."""
    q, k, v = (torch.randn(shape).to(device, dtype) for _ in range(3))
    return q, k, v


def patterns(count: int) -> Tensor:
    """Return all 2^M rows of `present`."""
    return torch.tensor(list(itertools.product([False, True], repeat=count)))


def finite(lse: Tensor) -> Tensor:
    """Return zeros in place of -inf, so that a norm and a gradient can be taken."""
    return lse.masked_fill(lse == -math.inf, 0)


def errors(inputs: Sequence[Tensor], **options: Any) -> tuple[float, float]:
    """Return the larger error of result and logarithm, and the largest of the gradients'."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    doubled = [x.detach().double().requires_grad_() for x in inputs]
    out, lse = modal_attention(*leaves, return_lse=True, backend="triton", **options)
    expected, expected_lse = modal_attention_reference(*doubled, **options)
    assert (out.dtype, lse.dtype) == (inputs[0].dtype, torch.float32)
    assert torch.equal(lse == -math.inf, expected_lse == -math.inf)
    weights = torch.randn(out.shape).to(out), torch.randn(lse.shape).to(lse)
    found = torch.autograd.grad((out, finite(lse)), leaves, weights)
    wanted = torch.autograd.grad((expected, finite(expected_lse)), doubled, [w.double() for w in weights])
    forward = max(relative_error(out, expected), relative_error(finite(lse), finite(expected_lse)))
    return forward, max(map(relative_error, found, wanted))


def assert_close(inputs: Sequence[Tensor], **options: Any) -> None:
    """Hold result, logarithm and all gradients to the limits of their dtype."""
    forward, gradients = errors(inputs, **options)
    limits = LIMITS[inputs[0].dtype]
    assert forward < limits[0]
    assert gradients < limits[1]
