"""The kernels of modal_fuse against zeros joined, normalised and mixed in float64, on every layout."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mmbench_kernels import modal_fuse, stats
from mmbench_kernels.ops.modal_fuse import modal_fuse_reference
from tests.kernels.modal_fuse_problems import assert_close, errors, inputs, relative_error

GROUPS_AND_MISSING = list(itertools.product(("sample", "channel"), ("zero", "drop")))

CONFIGS = "mmbench_kernels._triton._modal_fuse_configs"


@pytest.mark.parametrize(("groups", "missing"), GROUPS_AND_MISSING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_it_equals_its_definition_with_all_gradients_for_every_pattern(
    groups: str, missing: str, dtype: torch.dtype
) -> None:
    patterns = torch.tensor(list(itertools.product((True, False), repeat=2)))
    patterns = patterns if missing == "zero" else patterns[:-1]
    assert_close(*inputs((3, 2), len(patterns), dtype=dtype), patterns, groups=groups, missing=missing)


@pytest.mark.parametrize(("groups", "missing"), GROUPS_AND_MISSING)
def test_four_modalities_of_different_widths_each_find_their_own_weights(groups: str, missing: str) -> None:
    present = torch.tensor([[True, False, True, True], [False, True, False, True]])
    assert_close(*inputs((2, 1, 3, 4), 2, (3, 4)), present, groups=groups, missing=missing)


@pytest.mark.parametrize(
    ("size", "widths", "outputs"),
    [
        ((1, 1), (3, 2), 1),
        ((1, 9), (1, 1), 3),
        ((9, 1), (1, 4), 3),
        ((12, 23), (16, 8), 16),  # more than one piece and tile, of which the last is not full
        ((4, 5), (33, 2), 20),  # more channels than a block
        ((3, 3), (127, 1), 65),
    ],
)
def test_odd_sizes_leave_no_pixel_and_no_channel_out(
    size: tuple[int, int], widths: tuple[int, ...], outputs: int
) -> None:
    assert_close(*inputs(widths, 1, size, outputs), groups="sample")


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_pieces_of_a_map_of_one_tile_or_more_are_joined_in_their_place(
    pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{CONFIGS}.LEAST_PIECE_PIXELS", 128)
    monkeypatch.setattr(f"{CONFIGS}.MOST_PIECES", pieces)
    maps, weight, bias = inputs((16, 16), 2, (20, 31), 8)
    maps[0] = maps[0] + torch.arange(20.0)[:, None]  # the pieces' means differ
    assert_close(maps, weight, bias, torch.tensor([[True, True], [True, False]]), groups="sample")


@pytest.mark.parametrize("groups", ["sample", "channel"])
def test_a_mean_of_a_thousand_standard_deviations_costs_no_digit(groups: str) -> None:
    maps, weight, bias = inputs((4, 4), 2, (16, 33))
    assert_close([each + 1000 for each in maps], weight, bias, groups=groups)


def test_zeros_count_in_statistics_that_are_taken_far_from_zero() -> None:
    maps, weight, bias = inputs((20, 1), 2, (8, 8))
    present = torch.tensor([[True, False], [True, True]])
    assert_close([maps[0] + 1000, maps[1]], weight, bias, present, groups="sample")


def _window(x: Tensor) -> Tensor:
    return torch.nn.functional.pad(x, (3, 2, 1, 1))[:, :, 1:-1, 3:-2]


def _some_channels(x: Tensor) -> Tensor:
    return torch.cat((x, x), 1).to(memory_format=torch.channels_last)[:, : x.shape[1]]


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels-last": lambda x: x.to(memory_format=torch.channels_last),
    "a window": _window,
    "a window of channels-last": lambda x: _window(x.to(memory_format=torch.channels_last)),
    "some channels of channels-last": _some_channels,
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "every other pixel": lambda x: torch.stack((x, x), -1).flatten(3)[..., ::2],
    "expanded over the batch": lambda x: x[:1].expand_as(x),
    "expanded over the pixels": lambda x: x[..., :1, :1].expand_as(x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_map_is_read_where_it_lies_whatever_its_strides(layout: str) -> None:
    maps, weight, bias = inputs((3, 2), 2, (4, 6))
    copies = stats.copies
    first = LAYOUTS[layout](maps[0])
    assert_close([first, maps[1]], weight, bias, groups="sample")
    assert stats.copies == copies


@pytest.mark.parametrize("layout", ["channels-last", "a window", "transposed", "expanded over the pixels"])
def test_a_gradient_is_read_where_it_lies_whatever_its_strides(layout: str) -> None:
    maps, weight, bias = inputs((3, 2), 2, (4, 6))
    leaves = [each.requires_grad_() for each in (*maps, weight, bias)]
    fused = modal_fuse(maps, weight, bias, groups="sample", backend="triton")
    seed = LAYOUTS[layout](torch.randn(fused.shape))
    found = torch.autograd.grad(fused, leaves, seed, retain_graph=True)
    wanted = torch.autograd.grad(fused, leaves, seed.contiguous())
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", ["channels-last", "some channels of channels-last"])
def test_result_and_gradients_have_the_memory_format_of_their_map(layout: str) -> None:
    maps, weight, bias = inputs((3, 2), 2, (4, 6))
    first = LAYOUTS[layout](maps[0]).requires_grad_()
    fused = modal_fuse([first, maps[1].requires_grad_()], weight, bias, groups="sample", backend="triton")
    assert fused.is_contiguous(memory_format=torch.channels_last)
    one, two = torch.autograd.grad(fused.sum(), (first, maps[1]))
    assert one.is_contiguous(memory_format=torch.channels_last)
    assert two.is_contiguous()
    assert modal_fuse(maps, weight, bias, groups="sample", backend="triton").is_contiguous()


@pytest.mark.parametrize(("groups", "missing"), GROUPS_AND_MISSING)
def test_a_missing_map_is_never_read(groups: Any, missing: Any) -> None:
    maps, weight, bias = inputs((3, 2), 2)
    present = torch.tensor([[True, False], [True, False]])
    options: dict[str, Any] = {
        "present": present, "groups": groups, "missing": missing, "backend": "triton"
    }  # fmt: skip
    poisoned = torch.full_like(maps[1], torch.nan)
    results = []
    for second in (maps[1], poisoned, None):
        leaves = [each.detach().requires_grad_() for each in (maps[0], weight, bias)]
        hidden = [] if second is None else [second.requires_grad_()]
        fused = modal_fuse([leaves[0], second], leaves[1], leaves[2], **options)
        first, of_weight, of_bias, *of_hidden = torch.autograd.grad(fused.square().sum(), [*leaves, *hidden])
        assert all(torch.equal(each, torch.zeros_like(each)) for each in of_hidden)
        results.append([fused.detach(), first, of_weight, of_bias])
    assert all(each.isfinite().all() for each in results[1])
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize("groups", ["sample", "channel"])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_where_nothing_is_present_zeros_give_the_bias(groups: Any, eps: float) -> None:
    maps, weight, bias = inputs((3, 2), 2)
    maps = [each.index_fill(0, torch.tensor(1), torch.nan).requires_grad_() for each in maps]
    present = torch.tensor([[True, True], [False, False]])
    fused = modal_fuse(maps, weight, bias, present=present, groups=groups, eps=eps, backend="triton")
    assert torch.equal(fused[1], bias[:, None, None].expand_as(fused[1]))
    assert all(not each[1].any() for each in torch.autograd.grad(fused.sum(), maps))


@pytest.mark.parametrize("groups", ["sample", "channel"])
def test_a_constant_map_becomes_the_bias(groups: Any) -> None:
    maps, weight, bias = inputs((3, 2), 1)
    constant = [torch.full_like(each, 3.0) for each in maps]
    fused = modal_fuse(constant, weight, bias, groups=groups, backend="triton")
    torch.testing.assert_close(fused, bias[None, :, None, None].expand_as(fused), rtol=0, atol=1e-4)


def test_the_gradients_asked_for_do_not_depend_on_which_others_are() -> None:
    maps, weight, bias = inputs((3, 2), 2)
    leaves = [*maps, weight, bias]
    seed = torch.randn(2, 5, 5, 7)

    def gradients(chosen: Sequence[int]) -> dict[int, Tensor]:
        given = [each.detach().requires_grad_(i in chosen) for i, each in enumerate(leaves)]
        fused = modal_fuse(given[:2], given[2], given[3], groups="sample", backend="triton")
        wanted = [given[i] for i in chosen]
        return dict(zip(chosen, torch.autograd.grad(fused, wanted, seed), strict=True))

    everything = gradients(range(4))
    for chosen in ((0,), (1, 3), (2,)):
        assert all(torch.equal(each, everything[i]) for i, each in gradients(chosen).items())


def test_a_result_that_nothing_depends_on_leaves_the_inputs_without_gradient() -> None:
    maps, weight, bias = inputs((3, 2), 1, (2, 2))
    leaves = [each.requires_grad_() for each in (*maps, weight, bias)]
    fused = modal_fuse(maps, weight, bias, groups="sample", backend="triton")
    undefined = torch._C._functions.UndefinedGrad()(fused)
    assert torch.autograd.grad(undefined.sum(), leaves, allow_unused=True) == (None,) * 4


def test_without_bias_the_rest_is_the_same() -> None:
    maps, weight, bias = inputs((3, 2), 2)
    results = []
    for given in (None, torch.zeros_like(bias)):
        leaves = [each.detach().requires_grad_() for each in (*maps, weight)]
        fused = modal_fuse(leaves[:2], leaves[2], given, groups="sample", backend="triton")
        results.append([fused.detach(), *torch.autograd.grad(fused.square().sum(), leaves)])
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_a_convolution_s_weight_and_float32_weights_of_half_maps_are_taken() -> None:
    maps, _, _ = inputs((3, 2), 2, dtype=torch.float16)
    weight, bias = torch.randn(5, 5, 1, 1, requires_grad=True), torch.randn(5, requires_grad=True)
    fused = modal_fuse(maps, weight, bias, groups="sample", backend="triton")
    doubled = [each.detach().double().requires_grad_() for each in (weight, bias)]
    present = torch.ones(2, 2, dtype=torch.bool)
    expected = modal_fuse_reference(
        [each.double() for each in maps], doubled[0].flatten(1), doubled[1], present, "sample"
    )
    assert fused.dtype == torch.float16
    assert relative_error(fused, expected) < 1e-3
    seed = torch.randn_like(fused)
    found = torch.autograd.grad(fused, (weight, bias), seed)
    assert [each.dtype for each in found] == [torch.float32] * 2
    assert found[0].shape == weight.shape
    wanted = torch.autograd.grad(expected, doubled, seed.double())
    assert max(map(relative_error, found, wanted)) < 2e-3


def test_a_sample_s_bits_do_not_depend_on_its_batch() -> None:
    maps, weight, bias = inputs((3, 2), 3)
    whole = modal_fuse(maps, weight, bias, groups="sample", backend="triton")
    alone = modal_fuse([each[1:2] for each in maps], weight, bias, groups="sample", backend="triton")
    assert torch.equal(whole[1:2], alone)


def test_an_empty_batch_is_empty_and_has_zero_gradients() -> None:
    maps, weight, bias = inputs((3, 2), 0)
    leaves = [each.requires_grad_() for each in (*maps, weight, bias)]
    fused = modal_fuse(maps, weight, bias, groups="sample", backend="triton")
    assert fused.shape == (0, 5, 5, 7)
    found = torch.autograd.grad(fused.sum(), leaves)
    assert [each.shape for each in found] == [each.shape for each in leaves]
    assert not any(each.any() for each in found)


def test_torch_accepts_the_operator_and_compiles_it_whole() -> None:
    maps, weight, bias = inputs((3, 2), 2, (2, 3))
    leaves = [each.requires_grad_() for each in (*maps, weight, bias)]
    present = torch.tensor([[True, True], [False, True]])
    arguments = (maps, weight, bias, present, [0, 1], [3, 2], "sample", 1e-5, 0.2, "zero")
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.mmbench.modal_fuse_triton.default, arguments, test_utils=checks)

    def call() -> Tensor:
        return modal_fuse(maps, weight, bias, present=present, groups="sample")

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")()
    assert torch.equal(compiled, call())
    found, wanted = (torch.autograd.grad(each.square().sum(), leaves) for each in (compiled, call()))
    assert all(torch.equal(one, two) for one, two in zip(found, wanted, strict=True))


def test_backward_keeps_the_inputs_and_three_numbers_a_group() -> None:
    maps, weight, bias = inputs((3, 2), 2)
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return saved

    leaves = [each.requires_grad_() for each in (*maps, weight)]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        modal_fuse(maps, weight, bias, groups="sample", backend="triton")
    assert sum(kept.values()) == sum(4 * each.numel() for each in leaves) + 3 * 2 * 8


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"features": [torch.zeros(2, 3, 4, 6), None], "present": torch.ones(2, 2, dtype=torch.bool)},
         ValueError, r"features\[1\] is None, but sample 0"),
        ({"missing": "drop", "present": torch.tensor([[True, True], [False, False]])},
         ValueError, r"sample 1 has no modality present.*missing='zero'"),
        ({"features": [torch.zeros(2, 1, 4, 6)] * 5}, RuntimeError, "5 modalities, expected 4 or fewer"),
        ({"features": [torch.zeros(2, 129, 4, 6)], "weight": torch.zeros(5, 129)},
         RuntimeError, r"\[129\] channels.*expected 1 to 128"),
        ({"weight": torch.zeros(5, 5).double()}, RuntimeError, "float64"),
    ],
)  # fmt: skip
def test_it_names_what_it_cannot_take(change: dict[str, Any], error: type[Exception], words: str) -> None:
    maps, weight, bias = inputs((3, 2), 2, (4, 6))
    arguments = {"features": maps, "weight": weight, "bias": bias, "groups": "sample", "backend": "triton"}
    with pytest.raises(error, match=words):
        modal_fuse(**{**arguments, **change})


def test_auto_leaves_to_torch_what_the_kernels_cannot_do() -> None:
    maps, weight, bias = inputs((1,) * 5, 2)
    expected = modal_fuse(maps, weight, bias, groups="sample", backend="torch")
    assert torch.equal(modal_fuse(maps, weight, bias, groups="sample"), expected)


MISTAKES = {
    "the slope is left out": ("modal_fuse", "tl.where(x > 0.0, x, x * negative_slope)", "x"),
    "the tail of a tile is taken as zeros": (
        "modal_fuse",
        "tl.where((start + lanes < last)[:, None], value - centre, 0.0)",
        "value - centre",
    ),
    "every modality takes the weights of the first": (
        "modal_fuse",
        "columns = FIRST_COLUMNS[m] + channels",
        "columns = FIRST_COLUMNS[0] + channels",
    ),
    "presence is read from a wrong slot": (
        "modal_fuse", "slot * slot_stride) != 0", "(1 - slot) * slot_stride) != 0"
    ),
    "zeros in place of a missing map add nothing": (
        "modal_fuse", "                if not there:", "                if there:"
    ),
    "the pieces' means are not compared": (
        "modal_fuse", "squares += weight * apart * apart", "squares += weight * apart * 0.0"
    ),
    "zeros in place of a missing map have no gradient": (
        "modal_fuse_backward", "counts = there | FILLED", "counts = there"
    ),
    "the mean of d·x̂ is left out": (
        "modal_fuse_backward", "- value * product[None, :]", "- 0.0 * product[None, :]"
    ),
    "the slope is left out backward": (
        "modal_fuse_backward", "tl.where(x > 0.0, 1.0, negative_slope)", "tl.where(x > 0.0, 1.0, 1.0)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_kernel_is_seen(
    mistake: str, mutate: Callable[[str, str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{CONFIGS}.MOST_PIECES", 1)  # of two tiles
    maps, weight, bias = inputs((8, 8), 2, (17, 19))
    maps[0] = maps[0] + 4 * (torch.arange(17) > 10)[:, None]
    present = torch.tensor([[True, True], [True, False]])
    mutate(*MISTAKES[mistake])
    forward, gradients = errors(maps, weight, bias, present, groups="sample")
    assert forward > 1e-6 or gradients > 5e-6
