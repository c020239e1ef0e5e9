"""Triton's `norm_act_pad` against its definition in float64, in the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mmbench_kernels import norm_act_pad, stats
from mmbench_kernels.ops.norm_act_pad import Up2
from tests.kernels.norm_act_pad_problems import compare, random_affine

CHANNELS_LAST, CONTIGUOUS = torch.channels_last, torch.contiguous_format
EVERY_FORMAT = pytest.mark.parametrize("memory_format", [CONTIGUOUS, CHANNELS_LAST], ids=["planar", "packed"])
EVERY_GROUP = pytest.mark.parametrize("groups", ["sample", "channel"])


@EVERY_GROUP
@EVERY_FORMAT
@pytest.mark.parametrize(
    ("pad", "pad_mode"), [(1, "reflect"), (3, "reflect"), (2, "zeros"), (2, "none"), (0, "reflect")]
)
def test_it_equals_its_definition_with_every_border(
    groups: str, memory_format: Any, pad: int, pad_mode: str
) -> None:
    x = (torch.randn(2, 2, 5, 4) + 1).to(memory_format=memory_format)
    y = compare(x, groups=groups, pad=pad, pad_mode=pad_mode)
    assert y.is_contiguous(memory_format=memory_format)


@EVERY_GROUP
@EVERY_FORMAT
def test_scale_and_shift_and_their_gradients_are_right(groups: str, memory_format: Any) -> None:
    x = torch.randn(2, 5, 6, 3).to(memory_format=memory_format)
    weight, bias = random_affine(5)
    weight[1] = 0  # its channel is the shift alone
    compare(x, affine=(weight, bias), groups=groups, eps=1e-3, negative_slope=0.01)


@EVERY_GROUP
def test_a_shift_without_a_scale_and_a_scale_without_a_shift_work(groups: str) -> None:
    x = torch.randn(1, 3, 4, 4)
    weight, bias = random_affine(3)
    one = torch.ones(3)
    options: dict[str, Any] = {"groups": groups, "backend": "triton"}
    scaled = norm_act_pad(x, weight=weight, **options)
    assert torch.equal(scaled, norm_act_pad(x, weight=weight, bias=0 * one, **options))
    shifted = norm_act_pad(x, bias=bias, **options)
    assert torch.equal(shifted, norm_act_pad(x, weight=one, bias=bias, **options))


@EVERY_GROUP
@pytest.mark.parametrize("shape", [(1, 1, 2, 5), (1, 16, 33, 1), (1, 8, 2, 2), (1, 127, 2, 3)])
@EVERY_FORMAT
def test_odd_sizes_and_many_channels_are_right(
    groups: str, shape: tuple[int, ...], memory_format: Any
) -> None:
    x = torch.randn(shape).to(memory_format=memory_format)
    compare(x, groups=groups, pad_mode="reflect" if min(shape[2:]) > 1 else "zeros")


@EVERY_GROUP
@pytest.mark.parametrize(
    ("shape", "memory_format"), [((1, 2, 150, 150), CONTIGUOUS), ((1, 12, 31, 33), CHANNELS_LAST)]
)
def test_several_chunks_and_tiles_join_to_one_map(
    groups: str, shape: tuple[int, ...], memory_format: Any
) -> None:
    # A slope from left to right, so that chunks and tiles have other means than the whole.
    x = torch.randn(shape) + torch.linspace(0, 20, shape[3])
    compare(x.to(memory_format=memory_format), groups=groups)


@EVERY_GROUP
@EVERY_FORMAT
def test_a_mean_of_a_thousand_deviations_costs_no_digits(groups: str, memory_format: Any) -> None:
    compare((torch.randn(2, 3, 9, 7) + 1000).to(memory_format=memory_format), groups=groups)


@EVERY_GROUP
def test_half_precision_has_its_statistics_in_float32(groups: str) -> None:
    x = (torch.randn(2, 3, 9, 7) + 3).half()
    compare(x, groups=groups)
    compare(x.to(memory_format=CHANNELS_LAST), affine=random_affine(3), groups=groups)


@EVERY_GROUP
@EVERY_FORMAT
def test_a_constant_map_becomes_the_shift_and_gives_finite_gradients(groups: str, memory_format: Any) -> None:
    x = torch.full((2, 3, 4, 4), 0.1).to(memory_format=memory_format).requires_grad_()
    bias = torch.tensor([1.0, 0.0, -1.0])
    y = norm_act_pad(x, groups=groups, weight=torch.ones(3), bias=bias, backend="triton")
    expected = torch.tensor([1.0, 0.0, -0.2])[:, None, None].expand_as(y)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)
    y.square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_strides_of_every_kind_are_read_in_place() -> None:
    base = torch.randn(1, 3, 6, 10)
    before = stats.copies
    wide = base.to(memory_format=CHANNELS_LAST)
    for x in (
        base[:, :, 1:5, 2:7],  # a window
        base[:, 1:3],  # some channels
        base[..., ::2],
        base.transpose(2, 3),
        wide[:, :, 1:5, 2:7],
        wide[:, 1:3],
        base[:, :, :1].expand(-1, -1, 4, -1),
        base[:, :, :3, :1].expand(2, -1, -1, 5),
    ):
        compare(x, groups="sample")
    assert stats.copies == before


def test_gradients_of_every_stride_are_read_in_place() -> None:
    x = torch.randn(2, 2, 4, 5)
    for grad in (
        torch.ones(()).expand(2, 2, 6, 7),
        torch.randn(2, 2, 7, 6).transpose(2, 3),
        torch.randn(2, 2, 6, 9)[..., 1:8],
        torch.randn(2, 2, 6, 7).to(memory_format=CHANNELS_LAST),
    ):
        compare(x, groups="channel", grad=grad, affine=random_affine(2))
    compare(x.to(memory_format=CHANNELS_LAST), groups="sample", grad=torch.randn(2, 2, 6, 7))


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
def test_each_argument_alone_has_the_gradient_that_it_has_with_the_others(
    wanted: tuple[bool, ...],
) -> None:
    arguments = (torch.randn(2, 3, 4, 4), *random_affine(3))

    def gradients(needed: Sequence[bool]) -> list[Tensor]:
        x, weight, bias = (
            each.clone().requires_grad_(need) for each, need in zip(arguments, needed, strict=True)
        )
        y = norm_act_pad(x, groups="sample", weight=weight, bias=bias, backend="triton")
        y.square().sum().backward()
        return [each.grad for each in (x, weight, bias) if each.grad is not None]

    alone, together = gradients(wanted), gradients((True, True, True))
    assert len(alone) == 1
    assert torch.equal(alone[0], together[wanted.index(True)])


def test_an_empty_batch_gives_an_empty_map_and_zero_gradients() -> None:
    x, weight = torch.randn(0, 2, 4, 5, requires_grad=True), torch.ones(2, requires_grad=True)
    y = norm_act_pad(x, groups="channel", weight=weight, backend="triton")
    assert y.shape == (0, 2, 6, 7)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert torch.equal(weight.grad, torch.zeros(2))  # type: ignore[arg-type]


def test_only_the_input_and_its_statistics_are_kept_for_backward() -> None:
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        norm_act_pad(x, groups="channel", backend="triton")
    assert sum(kept.values()) == 4 * x.numel() + 2 * 8 * 2 * 3


def test_a_run_repeats_bit_for_bit_and_a_sample_does_not_see_its_batch() -> None:
    x = torch.randn(3, 2, 9, 8)

    def run(part: Tensor) -> list[Tensor]:
        part = part.clone().requires_grad_()
        y = norm_act_pad(part, groups="sample", backend="triton")
        return [y.detach(), *torch.autograd.grad(y.square().sum(), part)]

    whole, again, alone = run(x), run(x), run(x[1:2])
    assert all(torch.equal(one, two) for one, two in zip(whole, again, strict=True))
    assert all(torch.equal(one[1:2], two) for one, two in zip(whole, alone, strict=True))


@EVERY_GROUP
@EVERY_FORMAT
@pytest.mark.parametrize("pad_mode", ["reflect", "zeros"])
def test_sources_are_joined_and_doubled_as_they_are_read(
    groups: str, memory_format: Any, pad_mode: str
) -> None:
    skip = torch.randn(2, 2, 6, 4).to(memory_format=memory_format)
    half = (torch.randn(2, 2, 3, 2) + 2).to(memory_format=memory_format)
    y = compare([skip, Up2(half)], groups=groups, pad_mode=pad_mode)
    assert y.is_contiguous(memory_format=memory_format)


@EVERY_GROUP
def test_sources_have_scale_and_shift_of_their_own_channels(groups: str) -> None:
    sources = [Up2(torch.randn(1, 2, 2, 4)), torch.randn(1, 9, 4, 8), torch.randn(1, 1, 4, 8)]
    compare(sources, affine=random_affine(12), groups=groups)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (3, 5)])
def test_maps_of_one_and_two_rows_are_doubled_rightly(size: tuple[int, int]) -> None:
    compare([Up2(torch.randn(1, 3, *size))], groups="sample", pad_mode="zeros")


@EVERY_FORMAT
def test_torch_accepts_the_operator_and_compiles_it_whole(memory_format: Any) -> None:
    skip = torch.randn(1, 2, 4, 2).to(memory_format=memory_format).requires_grad_()
    half = torch.randn(1, 2, 2, 1).to(memory_format=memory_format).requires_grad_()
    weight = torch.randn(4, requires_grad=True)
    arguments = ([skip, half], [False, True], weight, None, "sample", 1e-5, 0.2, 1, "reflect")
    torch.library.opcheck(torch.ops.mmbench.norm_act_pad_triton.default, arguments)

    def call() -> Tensor:
        return norm_act_pad([skip, Up2(half)], groups="sample", weight=weight, backend="triton")

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")()
    assert torch.equal(compiled, call())
    found, wanted = (
        torch.autograd.grad(each.square().sum(), (skip, half, weight)) for each in (compiled, call())
    )
    assert all(torch.equal(one, two) for one, two in zip(found, wanted, strict=True))


def test_a_gradient_of_the_gradient_raises() -> None:
    x = torch.randn(1, 2, 3, 3, requires_grad=True)
    y = norm_act_pad(x, groups="sample", backend="triton")
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="gradients of gradients"):
        gradient.sum().backward()


def far_from_zero() -> list[Tensor | Up2]:
    return [torch.randn(1, 1, 5, 7) + 1000, torch.randn(1, 1, 5, 7) + 1003]


def doubled_and_near() -> list[Tensor | Up2]:
    return [Up2(torch.randn(1, 2, 3, 4))]


FORWARD, BACKWARD = "norm_act_pad", "norm_act_pad_backward"
HALVE, SUMS = "_doubled_maps_backward", "_norm_act_pad_sums"


@pytest.mark.parametrize(
    ("make", "module", "old", "new"),
    [
        (far_from_zero, FORWARD, "tl.where(inside, x - centre, 0.0)", "x - centre"),
        (far_from_zero, FORWARD, "squares + n * distance * distance", "squares"),
        (far_from_zero, FORWARD, "* scale * factor + shift", "* factor + shift"),
        (far_from_zero, FORWARD, "((x - high) - low)", "(x - high)"),
        (far_from_zero, BACKWARD, "columns >= width - 1 - PAD", "columns >= width - PAD"),
        (far_from_zero, BACKWARD, "(rows >= 1) & (rows <= PAD)", "(rows >= 1) & (rows < PAD)"),
        (far_from_zero, BACKWARD, "- normalised * slant", ""),
        (far_from_zero, BACKWARD, "1 if PER_CHANNEL else TOTAL)", "1)"),
        (far_from_zero, SUMS, "product += d * normalised", "product += d"),
        (doubled_and_near, HALVE, "distance < 2 * size - 1", "distance < 2 * size - 3"),
    ],
)
def test_a_mistake_in_a_kernel_is_seen(
    mutate: Callable[[str, str, str], None],
    make: Callable[[], list[Tensor | Up2]],
    module: str,
    old: str,
    new: str,
) -> None:
    mutate(module, old, new)
    with pytest.raises(AssertionError):
        compare(make(), groups="sample")


@pytest.mark.parametrize("make", [far_from_zero, doubled_and_near])
def test_without_the_mistake_the_same_cases_are_right(
    make: Callable[[], list[Tensor | Up2]],
) -> None:
    compare(make(), groups="sample")
