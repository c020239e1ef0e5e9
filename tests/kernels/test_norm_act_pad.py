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
from torch.nn import functional as F

from mmbench_kernels import norm_act_pad
from mmbench_kernels.ops import _rows
from mmbench_kernels.ops.norm_act_pad import Up2, norm_act_pad_reference

Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def least_values(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send small samples through the pieces too, or, where a test asks for both paths, none."""
    monkeypatch.setattr("mmbench_kernels.ops._rows.WORTH_PIECES", getattr(request, "param", 0))


BOTH_PATHS = pytest.mark.parametrize("least_values", [0, 1 << 60], ids=["pieces", "plain"], indirect=True)


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
@BOTH_PATHS
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
@BOTH_PATHS
def test_norm_act_pad_has_the_gradient_of_its_values(groups: Any, pad_mode: Any) -> None:
    x = torch.randn(2, 3, 3, 5, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(2, 3, dtype=torch.float64).requires_grad_().unbind()

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return norm_act_pad(x, groups=groups, weight=weight, bias=bias, pad_mode=pad_mode)

    assert torch.autograd.gradcheck(call, (x, weight, bias))


@BOTH_PATHS
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
@BOTH_PATHS
def test_norm_act_pad_in_float32_is_near_float64_even_far_from_zero(groups: Any, memory_format: Any) -> None:
    # Torch's own operators, for small samples, lose two digits at 1000 standard deviations from zero.
    limits = {0.0: 1e-6, 5.0: 1e-6, 1000.0: 1e-6 if _rows.WORTH_PIECES == 0 else 5e-5}
    for offset, limit in limits.items():
        x = (torch.randn(2, 3, 32, 32) + offset).to(memory_format=memory_format).requires_grad_()
        y = norm_act_pad(x, groups=groups)
        doubled = x.detach().double().requires_grad_()
        expected = norm_act_pad_reference(doubled, groups)
        assert relative_error(y.detach(), expected.detach()) < limit
        seed = torch.randn_like(y)
        (found,) = torch.autograd.grad(y, x, seed)
        (wanted,) = torch.autograd.grad(expected, doubled, seed.double())
        assert relative_error(found, wanted) < 5 * limit


@pytest.mark.parametrize("groups", ["channel", "sample"])
@BOTH_PATHS
def test_norm_act_pad_maps_a_constant_input_to_the_bias(groups: Any) -> None:
    x = torch.full((2, 3, 4, 4), 7.0, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    y = norm_act_pad(x, groups=groups, weight=torch.ones(3).double(), bias=bias, pad_mode="none")
    expected = torch.tensor([1.0, 0.0, -0.2], dtype=torch.float64)[:, None, None].expand(2, 3, 4, 4)
    assert torch.equal(y, expected)
    y.square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@BOTH_PATHS
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
        ((1, 3, 4, 5), {"groups": "channel", "negative_slope": -1.0}, r"-1\.0.*0 or more"),
        ((1, 3, 4, 5), {"groups": "channel", "weight": torch.ones(4)}, r"weight.*\(4,\).*\(3,\)"),
        ((1, 3, 4, 5), {"groups": "channel", "backend": "cuda"}, "'cuda'.*'auto'"),
    ],
)
def test_norm_act_pad_names_what_it_cannot_take(
    shape: tuple[int, ...], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        norm_act_pad(torch.zeros(shape), **options)


@pytest.mark.parametrize("groups", ["channel", "sample"])
@pytest.mark.parametrize("negative_slope", [0.0, 0.2])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(("size", "pad"), [((2, 5), 1), ((5, 3), 2), ((31, 33), 3)])
@BOTH_PATHS
def test_norm_act_pad_has_the_reference_s_gradients_on_every_path(
    groups: Any, negative_slope: float, affine: bool, size: tuple[int, int], pad: int
) -> None:
    x = (torch.randn(3, 4, *size, dtype=torch.float64) + 1).requires_grad_()
    options: dict[str, Any] = {"groups": groups, "negative_slope": negative_slope, "pad": pad}
    leaves = [x]
    if affine:
        weight, bias = torch.randn(2, 4, dtype=torch.float64).unbind()
        weight[1] = 0  # x̂ cannot be had from y
        options |= {"weight": weight.requires_grad_(), "bias": bias.requires_grad_()}
        leaves += [weight, bias]
    for pad_mode in ("reflect", "zeros", "none"):
        y = norm_act_pad(x, pad_mode=pad_mode, **options)  # type: ignore[arg-type]
        expected = norm_act_pad_reference(x, pad_mode=pad_mode, **options)  # type: ignore[arg-type]
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
        seed = torch.randn_like(y)
        found, wanted = (torch.autograd.grad(each, leaves, seed) for each in (y, expected))
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)


def test_norm_act_pad_in_pieces_gives_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 4, 7, 5, dtype=torch.float64, requires_grad=True)

    def run() -> list[Tensor]:
        y = norm_act_pad(x, groups="sample", pad=2)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), x)]

    whole = run()
    monkeypatch.setattr("mmbench_kernels.ops._rows.PIECE", 45)
    torch.testing.assert_close(run(), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("negative_slope", [0.0, 0.2])
@BOTH_PATHS
def test_norm_act_pad_takes_half_precision_s_statistics_in_float32(
    dtype: torch.dtype, negative_slope: float
) -> None:
    x = (torch.randn(2, 3, 32, 32) + 30).to(dtype).requires_grad_()
    y = norm_act_pad(x, groups="sample", negative_slope=negative_slope)
    doubled = x.detach().double().requires_grad_()
    expected = norm_act_pad_reference(doubled, "sample", negative_slope=negative_slope)
    assert y.dtype == dtype
    assert relative_error(y.detach(), expected.detach()) < 8e-3
    seed = torch.randn_like(y)
    (found,) = torch.autograd.grad(y, x, seed)
    (wanted,) = torch.autograd.grad(expected, doubled, seed.double())
    assert relative_error(found, wanted) < 1.6e-2


@BOTH_PATHS
def test_norm_act_pad_takes_gradients_and_inputs_of_stride_zero() -> None:
    x = torch.randn(1, 3, 4, 1, dtype=torch.float64).expand(2, -1, -1, 5).requires_grad_()
    y = norm_act_pad(x, groups="channel")
    y.sum().backward()
    expected = torch.autograd.grad(norm_act_pad_reference(x, "channel").sum(), x)[0]
    torch.testing.assert_close(x.grad, expected, rtol=0, atol=1e-12)


@BOTH_PATHS
def test_norm_act_pad_joins_sources_and_doubles_those_marked() -> None:
    skip, half = (
        torch.randn(2, c, s, s, dtype=torch.float64, requires_grad=True) for c, s in ((3, 8), (2, 4))
    )
    y = norm_act_pad([skip, Up2(half)], groups="sample")
    up = F.interpolate(half, scale_factor=2, mode="bilinear", align_corners=True)
    expected = norm_act_pad_reference(torch.cat((skip, up), dim=1), "sample")
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    seed = torch.randn_like(y)
    found, wanted = (torch.autograd.grad(each, (skip, half), seed) for each in (y, expected))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"\(2, 2, 4, 4\).*equal B, H and W"):
        norm_act_pad([skip, half], groups="sample")
    with pytest.raises(ValueError, match="empty list"):
        norm_act_pad([], groups="sample")


@pytest.mark.parametrize(("negative_slope", "inputs_kept"), [(0.2, 0), (0.0, 1)])
def test_norm_act_pad_keeps_for_backward_its_result_which_the_convolution_keeps_anyway(
    negative_slope: float, inputs_kept: int
) -> None:
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        y = norm_act_pad(x, groups="sample", negative_slope=negative_slope)
        F.conv2d(y, torch.randn(3, 3, 3, 3))
    statistics = 2 * 8 * (1 + inputs_kept)  # 1/std, and the mean with x, of two samples, float64
    # A convolution whose weight needs no gradient keeps its weight alone.
    assert sum(kept.values()) == 4 * (y.numel() + inputs_kept * x.numel() + 81) + statistics


@BOTH_PATHS
def test_norm_act_pad_repeats_bit_for_bit() -> None:
    x = torch.randn(2, 8, 64, 64, requires_grad=True)
    runs = []
    for _ in range(2):
        y = norm_act_pad(x, groups="sample")
        runs.append((y.detach(), *torch.autograd.grad(y.square().sum(), x)))
    assert all(torch.equal(one, two) for one, two in zip(*runs, strict=True))


@pytest.mark.parametrize("affine", [False, True])
def test_torch_accepts_norm_act_pad_and_compiles_it_whole(affine: bool) -> None:
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, dtype=torch.float64, requires_grad=True) if affine else None
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True) if affine else None
    arguments = (x, weight, bias, "sample", 1e-5, 0.2, 1, "reflect")
    torch.library.opcheck(torch.ops.mmbench.norm_act_pad.default, arguments)

    def call() -> Tensor:
        return norm_act_pad(x, groups="sample", weight=weight, bias=bias)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")()
    assert torch.equal(compiled, call())
    found, wanted = (torch.autograd.grad(each.square().sum(), x)[0] for each in (compiled, call()))
    assert torch.equal(found, wanted)


def test_a_gradient_of_norm_act_pad_s_gradient_and_triton_raise() -> None:
    x = torch.randn(2, 3, 5, 4, requires_grad=True)
    y = norm_act_pad(x, groups="sample")
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="gradients of gradients"):
        gradient.sum().backward()
    with pytest.raises(RuntimeError, match=r"the device is cpu, expected cuda.*backend='auto'"):
        norm_act_pad(x, groups="sample", backend="triton")
