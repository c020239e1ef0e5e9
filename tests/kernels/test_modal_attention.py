"""modal_attention against its definition, written out in float64 loops, and where that is strained."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmbench_kernels import modal_attention

Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def relative_error(value: Tensor, reference: Tensor) -> float:
    return float((value.double() - reference).norm() / reference.norm())


def naive_attention(q: Array, k: Array, v: Array) -> Array:
    out = np.zeros_like(q)
    tokens, width = q.shape[2:]
    for b, h, i in itertools.product(*(range(n) for n in q.shape[:3])):
        scores = [float(q[b, h, i] @ k[b, h, j]) / math.sqrt(width) for j in range(tokens)]
        weights = [math.exp(score - max(scores)) for score in scores]
        for j in range(tokens):
            out[b, h, i] += weights[j] / math.fsum(weights) * v[b, h, j]
    return out


def random_qkv(*shape: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = torch.randn(3, *shape, dtype=torch.float64)
    return q * scale, k, v


@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (1, 1, 1, 1), (1, 2, 17, 3)])
def test_modal_attention_equals_its_definition(shape: tuple[int, ...]) -> None:
    q, k, v = random_qkv(*shape)
    expected = naive_attention(q.numpy(), k.numpy(), v.numpy())
    np.testing.assert_allclose(modal_attention(q, k, v).numpy(), expected, rtol=0, atol=1e-13)
    # The smallest dropout there is: nothing is dropped, but the path that can drop is taken.
    tiny = modal_attention(q, k, v, dropout_p=1e-300)
    np.testing.assert_allclose(tiny.numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dropout_p", [0.0, 0.4])
def test_modal_attention_has_the_gradient_of_its_values(dropout_p: float) -> None:
    inputs = tuple(t.requires_grad_() for t in random_qkv(1, 2, 5, 3))

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(1)  # the same entries are dropped in every evaluation
        return modal_attention(q, k, v, dropout_p=dropout_p)

    assert torch.autograd.gradcheck(call, inputs)


def test_modal_attention_does_not_depend_on_strides() -> None:
    packed = torch.randn(2, 9, 3, 4, 8, dtype=torch.float64)  # (B, N, 3, H, D)
    q, k, v = packed.permute(2, 0, 3, 1, 4)
    assert not q.is_contiguous()
    expected = modal_attention(q.contiguous(), k.contiguous(), v.contiguous())
    torch.testing.assert_close(modal_attention(q, k, v), expected, rtol=0, atol=1e-14)
    shared = v[:, :, :1].expand_as(v)  # stride 0: every value is the same, so is every mean of them
    torch.testing.assert_close(modal_attention(q, k, shared), shared.contiguous(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dropout_p", [0.0, 1e-300])
def test_modal_attention_survives_extreme_scores(dropout_p: float) -> None:
    q, k, v = (t.float().requires_grad_() for t in random_qkv(1, 2, 6, 4, scale=1e4))
    out = modal_attention(q, k, v, dropout_p=dropout_p)
    best = (q.double() @ k.double().transpose(2, 3)).argmax(3)  # the softmax is a choice
    torch.testing.assert_close(out, v.gather(2, best[..., None].expand_as(v)), rtol=1e-4, atol=1e-4)
    out.sum().backward()
    assert all(t.grad is not None and torch.isfinite(t.grad).all() for t in (q, k, v))


def test_modal_attention_in_float32_is_near_float64() -> None:
    q, k, v = random_qkv(2, 8, 65, 32)
    for dropout_p in (0.0, 1e-300):
        single = modal_attention(q.float(), k.float(), v.float(), dropout_p=dropout_p)
        assert single.dtype == torch.float32
        assert relative_error(single, modal_attention(q, k, v)) < 2e-6


def test_modal_attention_drops_at_the_asked_rate_and_rescales_what_is_kept() -> None:
    tokens, dropout_p = 128, 0.3
    # Equal scores and an identity of values: the output is the softmax matrix itself, each entry 1 / N.
    zeros = torch.zeros(4, 8, tokens, tokens)
    identity = torch.eye(tokens).expand_as(zeros)
    matrix = modal_attention(zeros, zeros, identity, dropout_p=dropout_p) * tokens
    kept = matrix != 0
    torch.testing.assert_close(matrix[kept], torch.full_like(matrix[kept], 1 / (1 - dropout_p)))
    deviation = math.sqrt(dropout_p * (1 - dropout_p) / kept.numel())
    assert abs(float(kept.double().mean()) - (1 - dropout_p)) < 4 * deviation
    for axis in range(4):  # not the same entries for every sample, head, query or key
        assert not torch.equal(kept.select(axis, 0), kept.select(axis, 1))
    again = modal_attention(zeros, zeros, identity, dropout_p=dropout_p) * tokens
    assert not torch.equal(matrix, again)


def test_modal_attention_takes_an_empty_batch() -> None:
    empty = torch.zeros(0, 2, 5, 4)
    assert modal_attention(empty, empty, empty).shape == (0, 2, 5, 4)
    assert modal_attention(empty, empty, empty, dropout_p=0.5).shape == (0, 2, 5, 4)


@pytest.mark.parametrize(
    ("shapes", "dropout_p", "words"),
    [
        (((1, 2, 3), (1, 2, 3), (1, 2, 3)), 0.0, r"q \(1, 2, 3\).*\(B, H, N, D\)"),
        (((1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)), 0.0, r"k \(1, 2, 5, 4\).*equal shapes"),
        (((1, 2, 3, 4),) * 3, 1.0, "dropout_p is 1.0"),
        (((1, 2, 3, 4),) * 3, -0.1, "dropout_p is -0.1"),
    ],
)
def test_modal_attention_names_what_it_cannot_take(
    shapes: tuple[tuple[int, ...], ...], dropout_p: float, words: str
) -> None:
    q, k, v = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=words):
        modal_attention(q, k, v, dropout_p=dropout_p)
