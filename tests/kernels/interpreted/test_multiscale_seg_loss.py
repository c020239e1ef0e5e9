"""The Triton kernels of multiscale_seg_loss in the interpreter, against the definition in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from triton.runtime.errors import InterpreterError

from mmbench_kernels import multiscale_seg_loss
from mmbench_kernels._triton import _launch
from mmbench_kernels._triton._seg_loss_plan import Axis, Plan
from mmbench_kernels.ops._seg_loss_bands import LossForm
from tests.kernels.multiscale_seg_loss_problems import (
    OPTIONS,
    compare,
    layouts,
    random_heads,
    random_target,
)


@pytest.mark.parametrize("options", OPTIONS)
def test_loss_and_gradient_are_those_of_the_definition(options: dict[str, Any]) -> None:
    # Of the target's size, smaller by no whole number, and larger on one side only.
    compare(random_heads(1, 3, ((4, 5), (3, 2), (1, 7))), random_target(1, 4, 5, classes=3), **options)


@pytest.mark.parametrize(
    ("classes", "interp"), [(1, "logit"), (2, "prob"), (6, "logit"), (6, "prob"), (17, "logit"), (32, "prob")]
)
def test_every_number_of_classes_up_to_32_is_taken(classes: int, interp: str) -> None:
    heads = random_heads(1, classes, ((3, 4), (2, 3)))
    compare(heads, random_target(1, 3, 4, classes=classes), interp=interp)


@pytest.mark.parametrize(
    ("size", "head"),
    [
        ((1, 1), (3, 2)),
        ((1, 14), (1, 9)),
        ((9, 1), (4, 1)),
        ((2, 17), (2, 5)),
        ((17, 2), (5, 2)),  # several blocks of rows, in which the same pixels of the head end and begin
        ((17, 1), (1, 3)),
        ((2, 33), (1, 2)),  # cells cut into parts
        ((1, 3), (5, 8)),  # pixels of the head that no pixel of the target reads
    ],
)
@pytest.mark.parametrize("align_corners", [False, True])
def test_sizes_meet_at_the_borders_of_blocks(
    size: tuple[int, int], head: tuple[int, int], align_corners: bool
) -> None:
    # 32 classes leave room for 8 lanes, so that few pixels are many blocks.
    heads = random_heads(1, 32, (head,))
    compare(heads, random_target(1, *size, classes=32), align_corners=align_corners)


def test_a_wide_head_of_the_size_of_the_target_is_cut_into_blocks() -> None:
    compare(random_heads(1, 2, ((2, 130),)), random_target(1, 2, 130, classes=2))


def test_samples_do_not_mix() -> None:
    target = random_target(3, 2, 3, classes=3)
    target[-1] = torch.where(target[-1] == 0, 1, target[-1])
    compare(random_heads(3, 3, ((2, 3), (2, 2))), target)


def test_an_empty_batch_gives_zero_and_an_empty_gradient() -> None:
    heads = [torch.randn(0, 3, n, n, requires_grad=True) for n in (4, 2)]
    total, table = multiscale_seg_loss(heads, torch.zeros(0, 4, 4, dtype=torch.int64), backend="triton")
    gradients = torch.autograd.grad(total, heads)
    assert total.item() == 0
    assert table.shape == (2, 2)
    assert gradients[1].shape == (0, 3, 2, 2)


@pytest.mark.parametrize("interp", ["logit", "prob"])
def test_half_precision_costs_only_the_rounding_of_the_results(interp: str) -> None:
    heads = random_heads(1, 3, ((3, 4), (2, 3)), torch.float16)
    compare(heads, random_target(1, 3, 4, classes=3), interp=interp)


@pytest.mark.parametrize("layout", ["channels-last", "transposed", "sliced", "expanded"])
def test_heads_of_any_strides_are_read_where_they_lie(layout: str) -> None:
    heads = [layouts(head)[layout] for head in random_heads(2, 3, ((3, 4), (2, 3)))]
    compare(heads, random_target(2, 3, 4, classes=3), interp="prob")  # reads heads in every kernel


def test_targets_of_any_strides_and_of_bytes_mean_the_same() -> None:
    heads, target = random_heads(2, 3, ((3, 4),)), random_target(2, 3, 4, classes=3)
    expected = multiscale_seg_loss(heads, target, backend="triton")[1]
    apart = torch.full((2, 6, 9), 7)
    apart[:, ::2, 1::2] = target
    for same in (target.byte(), target.mT.contiguous().mT, apart[:, ::2, 1::2]):
        assert torch.equal(multiscale_seg_loss(heads, same, backend="triton")[1], expected)


def test_a_class_of_the_range_or_a_number_below_it_may_be_the_ignored_one() -> None:
    heads, target = random_heads(1, 3, ((3, 4),)), random_target(1, 3, 4, classes=3)
    expected = multiscale_seg_loss(heads, target, backend="triton")[1]
    renamed = torch.where(target == 255, -7, target)
    found = multiscale_seg_loss(heads, renamed, ignore_index=-7, backend="triton")[1]
    assert torch.equal(found, expected)
    compare(heads, torch.where(target == 255, 0, target), ignore_index=1)


@pytest.mark.parametrize("dice_classes", ["present", "all"])
def test_a_batch_without_valid_pixels_gives_zero_and_no_gradient(dice_classes: Any) -> None:
    heads = random_heads(2, 3, ((2, 3), (1, 2)))
    target = torch.full((2, 2, 3), 255)
    total, table = multiscale_seg_loss(heads, target, dice_classes=dice_classes, backend="triton")
    assert total.item() == 0
    assert not table.any()
    assert not any(gradient.any() for gradient in torch.autograd.grad(total, heads))


# numpy, under the interpreter, warns of inf - inf and the like; what comes of it is not used.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("fill", [torch.nan, torch.inf, -torch.inf])
def test_logits_under_ignored_pixels_are_of_no_account(fill: float) -> None:
    (head,), target = random_heads(2, 3, ((4, 5),)), random_target(2, 4, 5, classes=3)
    ignored = (target == 255)[:, None]
    filled, clean = (torch.where(ignored, value, head.detach()).requires_grad_() for value in (fill, 0.0))
    results = [multiscale_seg_loss([each], target, backend="triton")[0] for each in (filled, clean)]
    assert torch.equal(*results)
    gradients = [torch.autograd.grad(*pair)[0] for pair in zip(results, (filled, clean), strict=True)]
    assert torch.equal(*gradients)
    assert not gradients[0].masked_select(ignored).any()


@pytest.mark.parametrize("options", OPTIONS[::4])
def test_extreme_logits_stay_finite(options: dict[str, Any]) -> None:
    heads = [(1e4 * head.detach().sign()).requires_grad_() for head in random_heads(1, 3, ((3, 4), (2, 3)))]
    target = random_target(1, 3, 4, classes=3)
    total, table = multiscale_seg_loss(heads, target, backend="triton", **options)
    assert torch.isfinite(table).all()
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(total, heads))


def test_a_probability_that_underflows_still_costs_its_logit() -> None:
    logits = torch.tensor([[300.0, 0.0], [0.0, 300.0]]).view(1, 2, 1, 2)  # (B, K, 1, pixels)
    compare([logits], torch.tensor([[[1, 0]]]))
    table = multiscale_seg_loss([logits], torch.tensor([[[1, 0]]]), backend="triton")[1]
    assert table[0, 0].item() == pytest.approx(150)


def test_constant_logits_cost_the_logarithm_of_the_number_of_classes() -> None:
    heads = [torch.full((1, 4, height, width), -3.3) for height, width in ((4, 3), (2, 2))]
    compare(heads, random_target(1, 4, 3, classes=4))


def test_only_heads_that_need_a_gradient_get_one() -> None:
    heads = random_heads(1, 3, ((2, 3), (1, 2), (2, 2)))
    heads[0].requires_grad_(False)
    heads[2].requires_grad_(False)
    multiscale_seg_loss(heads, random_target(1, 2, 3, classes=3), backend="triton")[0].backward()
    assert [head.grad is not None for head in heads] == [False, True, False]


def test_a_gradient_that_is_expanded_or_of_other_strides_means_the_same() -> None:
    heads = random_heads(1, 3, ((2, 3), (2, 2)))
    table = multiscale_seg_loss(heads, random_target(1, 2, 3, classes=3), backend="triton")[1]
    runs = [
        torch.autograd.grad(table, heads, upstream, retain_graph=True)
        for upstream in (torch.ones(2, 2), torch.ones(()).expand(2, 2), torch.ones(2, 4)[:, ::2])
    ]
    assert all(torch.equal(*pair) for run in runs[1:] for pair in zip(runs[0], run, strict=True))


@pytest.mark.parametrize("interp", ["logit", "prob"])
def test_two_runs_give_the_same_bits(interp: Any) -> None:
    heads = random_heads(1, 3, ((9, 2), (3, 3)))
    target = random_target(1, 9, 2, classes=3)
    runs = []
    for _ in range(2):
        total, table = multiscale_seg_loss(heads, target, interp=interp, backend="triton")
        runs.append((table, *torch.autograd.grad(total, heads)))
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))


@pytest.mark.parametrize("wrong", [3, -1, 2**32, 254])
def test_a_class_outside_of_the_range_is_named(wrong: int) -> None:
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    target[0, 3, 3] = wrong
    with pytest.raises(ValueError, match=rf"target holds \[{wrong}\], expected 0..2"):
        multiscale_seg_loss(random_heads(1, 3, ((4, 4),)), target, backend="triton")


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ((1, 33, 4, 4), torch.float32, "the logits have 33 classes, expected 32 or fewer"),
        ((1, 3, 4, 4), torch.float64, "the dtype is float64"),
    ],
)
def test_what_the_kernels_cannot_do_is_named_and_left_to_torch(
    shape: tuple[int, ...], dtype: torch.dtype, reason: str
) -> None:
    heads, target = [torch.randn(shape, dtype=dtype)], torch.zeros(1, 4, 4, dtype=torch.int64)
    with pytest.raises(RuntimeError, match=f"multiscale_seg_loss: backend 'triton' cannot run: .*{reason}"):
        multiscale_seg_loss(heads, target, backend="triton")
    by_torch = multiscale_seg_loss(heads, target, backend="torch")[1]
    assert torch.equal(multiscale_seg_loss(heads, target)[1], by_torch)


def test_heads_too_large_for_positions_of_32_bits_are_named() -> None:
    heads = [torch.zeros(1, 1, 1, 1).expand(1, 2, 1, 40_000)]
    target = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(1, 1, 40_001)
    with pytest.raises(RuntimeError, match=r"logits\[0\] and target are too large together"):
        multiscale_seg_loss(heads, target, backend="triton")


def test_nothing_of_the_size_of_a_coarse_heads_probabilities_is_allocated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allocate, taken = _launch.empty, []

    def note(*arguments: Any, **named: Any) -> Tensor:
        memory: Tensor = allocate(*arguments, **named)
        taken.append(memory.nbytes)
        return memory

    monkeypatch.setattr(_launch, "empty", note)
    heads = random_heads(1, 32, ((4, 6), (2, 3)))
    target = random_target(1, 8, 12, classes=32)
    torch.autograd.grad(multiscale_seg_loss(heads, target, interp="prob", backend="triton")[0], heads)
    assert 8 * 12 <= max(taken) < 4 * 32 * 8 * 12  # float32


@pytest.mark.parametrize("ratio", [2, 4, 8, 16, 128])
def test_what_is_kept_between_the_kernels_is_less_than_the_target(ratio: int) -> None:
    for align_corners, classes in itertools.product((False, True), (2, 6, 32)):
        head = torch.empty(2, classes, 512 // ratio, 512 // ratio, device="meta")
        codes = torch.empty(2, 512, 512, dtype=torch.uint8, device="meta")
        plan = Plan.of(head, codes, LossForm(None, False, align_corners))
        assert plan.rows is not None
        constants = plan.config.constants
        cells = constants["LANES"] // constants["PARTS"]
        kept = plan.grid[1] * plan.rows.slots(constants["ROWS"]) * plan.grid[0] * (cells + 1)
        assert kept < 512 * 512


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("source", "size"), [(1, 1), (1, 7), (4, 9), (9, 4), (5, 5), (2, 64), (3, 1), (7, 8)]
)
def test_cells_are_where_interpolation_reads(source: int, size: int, align_corners: bool) -> None:
    axis = Axis.between(source, size, align_corners)
    ramp = torch.eye(source, dtype=torch.float64).view(1, source, 1, source)
    weights = F.interpolate(ramp, (1, size), mode="bilinear", align_corners=align_corners)[0, :, 0]
    for x in range(size):
        place = x * axis.step + axis.offset
        cell, share = place // axis.unit, place % axis.unit / axis.unit
        assert 0 <= cell < axis.cells
        share = 1.0 if cell == 0 else 0.0 if cell == source else share
        expected = torch.zeros(source, dtype=torch.float64)
        expected[max(cell - 1, 0)] += 1 - share
        expected[min(cell, source - 1)] += share
        torch.testing.assert_close(weights[:, x], expected, rtol=0, atol=1e-15)


def test_the_operator_is_well_behaved_under_the_dispatcher() -> None:
    heads = random_heads(1, 2, ((3, 3), (2, 2)))
    operator = torch.ops.mmbench.multiscale_seg_loss_triton.default
    options = ([0.05, 0.6], 1e-7, True, True, False, 255)
    torch.library.opcheck(operator, (heads, random_target(1, 3, 3, classes=2), *options))


def test_a_compiled_graph_holds_the_operator_whole() -> None:
    heads = random_heads(1, 3, ((4, 4), (2, 2)))
    target = random_target(1, 4, 4, classes=3)

    def function(*given: Tensor) -> Tensor:
        return multiscale_seg_loss([2 * head for head in given], target, backend="triton")[0]

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    eager, graph = function(*heads), compiled(*heads)
    torch.testing.assert_close(graph, eager)
    torch.testing.assert_close(torch.autograd.grad(graph, heads), torch.autograd.grad(eager, heads))


def test_what_the_mistakes_below_are_seen_by_passes_without_one() -> None:
    compare(random_heads(1, 32, ((9, 9), (3, 8))), random_target(1, 9, 9, classes=32))


FORWARD, BACKWARD = "multiscale_seg_loss", "multiscale_seg_loss_backward"


@pytest.mark.parametrize(
    ("module", "right", "wrong"),
    [
        (FORWARD, "counts_here & known", "known"),
        (FORWARD, "top_left + down * (low_left - top_left)", "top_left + down * (low_left - top_right)"),
        (FORWARD, "- first_cell + 1", "- first_cell"),
        (FORWARD, "other=0.0).to(tl.float32)\n        valid", "other=0.0).to(tl.float32) * 2\n        valid"),
        (BACKWARD, "to_left = kept_left", "to_left = 0.0 * kept_left"),
        (BACKWARD, "(1.0 - down) * moment", "down * moment"),
        (BACKWARD, "both = inside & (next_block != block)", "both = inside & (next_block < 0)"),
        (BACKWARD, "cell == CELLS - 1", "cell < 0"),
        (BACKWARD, "tl.maximum(cell - 1, 0), (PADDED", "cell, (PADDED"),
        (BACKWARD, "first_of(row + 2,", "first_of(row + 1,"),
    ],
)
def test_a_mistake_in_a_kernel_is_seen(
    mutate: Callable[[str, str, str], None], module: str, right: str, wrong: str
) -> None:
    heads, target = random_heads(1, 32, ((9, 9), (3, 8))), random_target(1, 9, 9, classes=32)
    mutate(module, right, wrong)
    with pytest.raises((AssertionError, InterpreterError)):
        compare(heads, target)
