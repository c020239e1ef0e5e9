"""Autocast reaches what the operators are given, never what they compute."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmbench_kernels import modal_attention, modal_fuse, multiscale_seg_loss, norm_act_pad


@pytest.fixture(autouse=True)
def every_size_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmbench_kernels.ops._rows.WORTH_PIECES", 0)


def _attend(x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)[:, None]  # (B, 1, N, C)
    return modal_attention(tokens, tokens, tokens, dropout_p=0.1, seed=1)


CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "norm_act_pad": lambda x: norm_act_pad(x, groups="sample"),
    "modal_fuse": lambda x: modal_fuse([x, x], torch.linspace(-1, 1, 32).view(4, 8), groups="channel"),
    "modal_attention": _attend,
    "multiscale_seg_loss": lambda x: multiscale_seg_loss(
        [x, x[:, :, :4, :4]], torch.arange(128).view(2, 8, 8) % 4, clamp=(0.005, 1.0), interp="prob"
    )[0],
}


@pytest.mark.parametrize("name", CALLS)
def test_under_autocast_an_operator_has_the_bits_that_it_has_outside(name: str) -> None:
    torch.manual_seed(0)
    found = []
    for enabled in (False, True):
        x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        # What attention is given is lowered before it computes, as with torch's own.
        x = (x.bfloat16() if name == "modal_attention" else x).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = CALLS[name](x)
        (gradient,) = torch.autograd.grad(y.float().square().sum(), x)
        found.append((y.detach(), gradient))
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


@pytest.mark.parametrize("name", CALLS)
def test_bfloat16_comes_near_float32_and_has_finite_gradients(name: str) -> None:
    exact = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    lowered = exact.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = CALLS[name](lowered)
    y.float().sum().backward()
    torch.testing.assert_close(y.float(), CALLS[name](exact), rtol=0.05, atol=0.05)
    assert lowered.grad is not None
    assert lowered.grad.isfinite().all()
