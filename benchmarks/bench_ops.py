"""The operators against their textbook form, on the device that is there.

Compare rows of one run only: `pytest benchmarks/ --benchmark-only`.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from mmbench_kernels import modal_attention, multiscale_seg_loss, norm_act_pad

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _synchronised(function):
    """Wait for the device, so that a GPU's work is timed and not its queueing."""

    def timed():
        result = function()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return result

    return timed


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _norm_textbook(x):
    mean = x.mean((2, 3), keepdim=True)
    variance = x.var((2, 3), unbiased=False, keepdim=True)
    return F.pad(F.leaky_relu((x - mean) / (variance + 1e-5).sqrt(), 0.2), (1, 1, 1, 1), mode="reflect")


@pytest.mark.benchmark(group="norm_act_pad 2x8x256x256")
@pytest.mark.parametrize("form", ["operator", "textbook"])
def test_norm_act_pad(benchmark, form):
    x = torch.randn(2, 8, 256, 256, device=DEVICE)
    operator = lambda: norm_act_pad(x, groups="channel")  # noqa: E731
    textbook = lambda: _norm_textbook(x)  # noqa: E731
    assert torch.allclose(operator(), textbook(), atol=1e-4)
    benchmark(_synchronised(operator if form == "operator" else textbook))


@pytest.mark.benchmark(group="modal_attention 2x8x1024x32")
@pytest.mark.parametrize("form", ["operator", "textbook"])
def test_modal_attention(benchmark, form):
    q, k, v = (torch.randn(2, 8, 1024, 32, device=DEVICE) for _ in range(3))
    operator = lambda: modal_attention(q, k, v)  # noqa: E731
    textbook = lambda: torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(32), -1) @ v  # noqa: E731
    assert torch.allclose(operator(), textbook(), atol=1e-4)
    benchmark(_synchronised(operator if form == "operator" else textbook))


def _loss_textbook(heads, target):
    total = 0.0
    y = F.one_hot(target, heads[0].shape[1]).permute(0, 3, 1, 2).float()
    weight = 1 - y.mean((2, 3))
    for head in heads:
        p = F.interpolate(head, size=target.shape[-2:], mode="bilinear", align_corners=False).softmax(1)
        ce = -(weight[:, :, None, None] * y * p.log()).sum(1).mean()
        dice = 1 - (2 * (p * y).sum((0, 2, 3)) / (p.sum((0, 2, 3)) + y.sum((0, 2, 3)) + 1e-7)).mean()
        total = total + ce + dice
    return total


@pytest.mark.benchmark(group="multiscale_seg_loss 4 heads 2x6x256x256, forward and backward")
@pytest.mark.parametrize("form", ["operator", "textbook"])
def test_multiscale_seg_loss(benchmark, form):
    heads = [torch.randn(2, 6, 256 >> s, 256 >> s, device=DEVICE, requires_grad=True) for s in range(4)]
    target = torch.randint(0, 6, (2, 256, 256), device=DEVICE)
    forms = {
        "operator": lambda: multiscale_seg_loss(heads, target)[0],
        "textbook": lambda: _loss_textbook(heads, target),
    }
    assert torch.allclose(forms["operator"](), forms["textbook"](), atol=1e-4)
    benchmark(_synchronised(lambda: torch.autograd.grad(forms[form](), heads)))
