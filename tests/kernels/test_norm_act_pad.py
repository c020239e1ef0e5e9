"""norm_act_pad against its definition, written out in float64 loops, and where that is strained."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmbench_kernels import norm_act_pad

Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def relative_error(value: Tensor, reference: Tensor) -> float:
    return float((value.double() - reference).norm() / reference.norm())


def naive_norm_act_pad(
    x: Array, groups: str, weight: Array, bias: Array, eps: float, slope: float, pad: int, pad_mode: str
) -> Array:
    samples, channels, height, width = x.shape
    pad = 0 if pad_mode == "none" else pad
    out = np.zeros((samples, channels, height + 2 * pad, width + 2 * pad))
    for b, c in itertools.product(range(samples), range(channels)):
        values = [float(v) for v in (x[b, c] if groups == "channel" else x[b]).flatten()]
        mean = math.fsum(values) / len(values)
        variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
        for i, j in itertools.product(range(out.shape[2]), range(out.shape[3])):
            row, column = i - pad, j - pad
            if pad_mode == "reflect":
                row, column = reflected(row, height), reflected(column, width)
            elif not (0 <= row < height and 0 <= column < width):
                continue
            y = (x[b, c, row, column] - mean) / math.sqrt(variance + eps) * weight[c] + bias[c]
            out[b, c, i, j] = y if y > 0 else slope * y
    return out


def reflected(index: int, size: int) -> int:
    index = -index if index < 0 else index
    return 2 * (size - 1) - index if index >= size else index


@pytest.mark.parametrize("groups", ["channel", "sample"])
@pytest.mark.parametrize(("pad", "pad_mode"), [(1, "reflect"), (2, "reflect"), (2, "zeros"), (3, "none")])
def test_norm_act_pad_equals_its_definition(groups: Any, pad: int, pad_mode: Any) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64) * 2 + 1
    weight, bias = torch.randn(2, 3, dtype=torch.float64)
    options: dict[str, Any] = {"groups": groups, "eps": 1e-3, "pad": pad, "pad_mode": pad_mode}
    y = norm_act_pad(x, weight=weight, bias=bias, negative_slope=0.3, **options)
    expected = naive_norm_act_pad(x.numpy(), groups, weight.numpy(), bias.numpy(), 1e-3, 0.3, pad, pad_mode)
    np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-13)
    plain = norm_act_pad(x, negative_slope=0.3, **options)
    expected = naive_norm_act_pad(x.numpy(), groups, np.ones(3), np.zeros(3), 1e-3, 0.3, pad, pad_mode)
    np.testing.assert_allclose(plain.numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("groups", ["channel", "sample"])
@pytest.mark.parametrize("pad_mode", ["reflect", "zeros", "none"])
def test_norm_act_pad_has_the_gradient_of_its_values(groups: Any, pad_mode: Any) -> None:
    x = torch.randn(2, 3, 3, 5, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(2, 3, dtype=torch.float64).requires_grad_().unbind()

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return norm_act_pad(x, groups=groups, weight=weight, bias=bias, pad_mode=pad_mode)

    assert torch.autograd.gradcheck(call, (x, weight, bias))


def test_norm_act_pad_does_not_depend_on_strides_or_write_its_input() -> None:
    x = torch.randn(2, 4, 6, 5) + 30
    before, expected = x.clone(), norm_act_pad(x, groups="channel")
    strided = (
        x.to(memory_format=torch.channels_last),
        torch.cat((x, x), dim=3)[..., :5],
        x.transpose(2, 3).contiguous().transpose(2, 3),
    )
    for same in strided:
        torch.testing.assert_close(norm_act_pad(same, groups="channel"), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(x, before)


@pytest.mark.parametrize("groups", ["channel", "sample"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_norm_act_pad_in_float32_is_near_float64_even_far_from_zero(groups: Any, memory_format: Any) -> None:
    for offset, limit in ((0.0, 1e-6), (1000.0, 1e-4)):  # 1e-4: float32 holds 1000 to 6e-5
        x = (torch.randn(2, 3, 32, 32) + offset).to(memory_format=memory_format)
        y = norm_act_pad(x, groups=groups)
        assert relative_error(y, norm_act_pad(x.double(), groups=groups)) < limit


@pytest.mark.parametrize("groups", ["channel", "sample"])
def test_norm_act_pad_maps_a_constant_input_to_the_bias(groups: Any) -> None:
    x = torch.full((2, 3, 4, 4), 7.0, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    y = norm_act_pad(x, groups=groups, weight=torch.ones(3).double(), bias=bias, pad_mode="none")
    expected = torch.tensor([1.0, 0.0, -0.2], dtype=torch.float64)[:, None, None].expand(2, 3, 4, 4)
    assert torch.equal(y, expected)
    y.square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_norm_act_pad_takes_one_pixel_of_one_sample_and_an_empty_batch() -> None:
    bias = torch.tensor([2.0, -1.0])
    y = norm_act_pad(
        torch.randn(1, 2, 1, 1), groups="channel", weight=torch.ones(2), bias=bias, pad_mode="none"
    )
    torch.testing.assert_close(y.flatten(), torch.tensor([2.0, -0.2]))
    assert norm_act_pad(torch.randn(0, 2, 4, 5), groups="channel").shape == (0, 2, 6, 7)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((3, 4, 5), {"groups": "channel"}, r"\(3, 4, 5\).*\(B, C, H, W\)"),
        ((1, 3, 4, 5), {"groups": "batch"}, "'batch'.*'channel' or 'sample'"),
        ((1, 3, 4, 5), {"groups": "channel", "pad_mode": "edge"}, "'edge'.*'reflect'"),
        ((1, 3, 4, 5), {"groups": "channel", "pad": 4}, "pad 4.*4x5"),
        ((1, 3, 4, 5), {"groups": "channel", "pad": -1}, "pad is -1"),
    ],
)
def test_norm_act_pad_names_what_it_cannot_take(
    shape: tuple[int, ...], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        norm_act_pad(torch.zeros(shape), **options)
