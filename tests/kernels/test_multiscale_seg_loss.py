"""multiscale_seg_loss against its definition, written out in float64 loops, and where that is strained."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmbench_kernels import multiscale_seg_loss
from mmbench_kernels.ops import _seg_loss_bands
from mmbench_kernels.ops.multiscale_seg_loss import multiscale_seg_loss_reference

Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def naive_softmax(logits: Array) -> Array:
    out = np.zeros_like(logits)
    for b, i, j in itertools.product(*(range(n) for n in (logits.shape[0], *logits.shape[2:]))):
        column = [float(v) for v in logits[b, :, i, j]]
        powers = [math.exp(v - max(column)) for v in column]
        out[b, :, i, j] = [power / math.fsum(powers) for power in powers]
    return out


def naive_bilinear(x: Array, size: tuple[int, int], align_corners: bool) -> Array:
    def corners(index: int, source: int, target: int) -> tuple[int, int, float]:
        if align_corners:
            position = index * (source - 1) / (target - 1) if target > 1 else 0.0
        else:
            position = max(0.0, (index + 0.5) * source / target - 0.5)
        low = min(int(position), source - 1)
        return low, min(low + 1, source - 1), position - low

    out = np.zeros((*x.shape[:2], *size))
    for i, j in itertools.product(*(range(n) for n in size)):
        top, bottom, down = corners(i, x.shape[2], size[0])
        left, right, across = corners(j, x.shape[3], size[1])
        upper = (1 - across) * x[:, :, top, left] + across * x[:, :, top, right]
        lower = (1 - across) * x[:, :, bottom, left] + across * x[:, :, bottom, right]
        out[:, :, i, j] = (1 - down) * upper + down * lower
    return out


def naive_head_loss(
    logits: Array,
    target: NDArray[np.int64],
    *,
    clamp: tuple[float, float] | None = None,
    dice_eps: float = 1e-7,
    dice_classes: str = "present",
    interp: str = "logit",
    align_corners: bool = False,
    ignore_index: int = 255,
) -> tuple[float, float]:
    """Return CE and Dice as the docstring defines them, a pixel at a time."""
    size = (target.shape[1], target.shape[2])
    if interp == "prob":
        p = naive_bilinear(naive_softmax(logits), size, align_corners)
    else:
        p = naive_softmax(naive_bilinear(logits, size, align_corners))
    classes = range(logits.shape[1])
    entropy, counted_pixels = [], 0
    overlap, predicted, truth = (dict.fromkeys(classes, 0.0) for _ in range(3))
    for b in range(len(target)):
        valid = [int(t) for t in target[b].flatten() if t != ignore_index]
        counted_pixels += len(valid)
        for i, j in itertools.product(*(range(n) for n in size)):
            k = int(target[b, i, j])
            if k == ignore_index:
                continue
            weight = 1 - valid.count(k) / len(valid)
            probability = float(p[b, k, i, j])
            inside = min(max(probability, clamp[0]), clamp[1]) if clamp else probability
            entropy.append(-weight * math.log(inside))
            overlap[k] += probability
            truth[k] += 1
            for other in classes:
                predicted[other] += float(p[b, other, i, j])
    counted = [k for k in classes if dice_classes == "all" or truth[k] > 0]
    losses = [1 - 2 * overlap[k] / (predicted[k] + truth[k] + dice_eps) for k in counted]
    return math.fsum(entropy) / counted_pixels, math.fsum(losses) / len(counted)


def random_target(*shape: int, classes: int = 4, ignored: float = 0.2) -> Tensor:
    """Return a target in which sample 0 lacks class 1, every sample lacks the last, and some are ignored."""
    target = torch.randint(0, classes - 1, shape)
    target[0][target[0] == 1] = 0
    return torch.where(torch.rand(shape) < ignored, 255, target)


OPTIONS = [
    {},
    {"clamp": (0.05, 0.6), "dice_classes": "all"},
    {"interp": "prob", "align_corners": True},
    {"interp": "prob", "clamp": (0.005, 1.0)},
    {"align_corners": True, "dice_eps": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_multiscale_seg_loss_equals_its_definition(options: dict[str, Any]) -> None:
    heads = [torch.randn(2, 4, h, w, dtype=torch.float64) * 2 for h, w in ((6, 9), (3, 5), (1, 1))]
    target = random_target(2, 6, 9)
    total, table = multiscale_seg_loss(heads, target, **options)
    expected = np.array([naive_head_loss(head.numpy(), target.numpy(), **options) for head in heads])
    np.testing.assert_allclose(table.numpy(), expected, rtol=0, atol=1e-13)
    assert total.item() == pytest.approx(expected.sum(), abs=1e-13)


@pytest.mark.parametrize("options", OPTIONS)
def test_multiscale_seg_loss_has_the_gradient_of_its_values(options: dict[str, Any]) -> None:
    heads = tuple(
        torch.randn(2, 4, h, w, dtype=torch.float64, requires_grad=True) for h, w in ((5, 3), (2, 3))
    )
    target = random_target(2, 5, 3)
    # The table, not the sum: each term of each head has a gradient of its own.
    assert torch.autograd.gradcheck(lambda *h: multiscale_seg_loss(h, target, **options)[1], heads)


EVERY_OPTION = [
    dict(zip(("interp", "clamp", "align_corners", "dice_classes"), values, strict=True))
    for values in itertools.product(("logit", "prob"), (None, (0.05, 0.6)), (False, True), ("present", "all"))
]
SIZES = ((4, 5), (13, 17), (13, 9), (13, 17), (1, 1), (20, 30))


@pytest.mark.parametrize("options", EVERY_OPTION)
@pytest.mark.parametrize("rows", [1, 5, 13])
def test_the_bands_add_up_to_the_reference(
    options: dict[str, Any], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_seg_loss_bands, "_BAND_ELEMENTS", rows * len(SIZES) * 4 * 17)
    heads = [torch.randn(2, 4, h, w, dtype=torch.float64, requires_grad=True) for h, w in SIZES]
    target, upstream = random_target(2, 13, 17), torch.randn(len(SIZES), 2, dtype=torch.float64)
    target[:, :5][target[:, :5] == 255] = 0  # bands with and without ignored pixels
    table = multiscale_seg_loss(heads, target, **options)[1]
    expected = multiscale_seg_loss_reference(heads, target, **options)[1]
    torch.testing.assert_close(table, expected, rtol=1e-13, atol=1e-14)
    ours = torch.autograd.grad((table * upstream).sum(), heads)
    theirs = torch.autograd.grad((expected * upstream).sum(), heads)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("interp", ["logit", "prob"])
def test_float32_gradients_are_near_float64_at_the_size_of_a_window(interp: Any) -> None:
    heads = [torch.randn(1, 6, 256 >> s, 256 >> s, requires_grad=True) for s in range(3)]
    doubles = [head.detach().double().requires_grad_() for head in heads]
    target = torch.randint(0, 6, (1, 256, 256))
    clamp = (0.005, 1.0) if interp == "prob" else None
    total = multiscale_seg_loss(heads, target, interp=interp, clamp=clamp, align_corners=True)[0]
    expected = multiscale_seg_loss_reference(doubles, target, interp=interp, clamp=clamp, align_corners=True)[
        0
    ]
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    pairs = zip(torch.autograd.grad(total, heads), torch.autograd.grad(expected, doubles), strict=True)
    for single, double in pairs:
        assert (single.double() - double).norm() < 1e-5 * double.norm()


@pytest.mark.parametrize("options", EVERY_OPTION[::3])
def test_the_operator_is_well_behaved_under_the_dispatcher(options: dict[str, Any]) -> None:
    heads = [torch.randn(2, 4, h, w, dtype=torch.float64, requires_grad=True) for h, w in ((5, 3), (2, 3))]
    flags = (options["clamp"], 1e-7, options["dice_classes"] == "all", options["interp"] == "prob", True, 255)
    clamp = None if flags[0] is None else list(flags[0])
    operator = torch.ops.mmbench.multiscale_seg_loss.default
    torch.library.opcheck(operator, (heads, random_target(2, 5, 3), clamp, *flags[1:]))


@pytest.mark.parametrize("options", [{}, {"interp": "prob", "clamp": (0.005, 1.0)}])
def test_a_compiled_graph_holds_the_operator_whole(options: dict[str, Any]) -> None:
    heads = [torch.randn(2, 4, h, w, requires_grad=True) for h, w in ((6, 5), (3, 3))]
    target = random_target(2, 6, 5)

    def function(*given: Tensor) -> Tensor:
        return multiscale_seg_loss([2 * head for head in given], target, **options)[0]

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    eager, graph = function(*heads), compiled(*heads)
    torch.testing.assert_close(graph, eager)
    torch.testing.assert_close(torch.autograd.grad(graph, heads), torch.autograd.grad(eager, heads))


def test_backward_keeps_the_logits_and_a_byte_a_pixel() -> None:
    heads = [torch.randn(2, 6, 64 >> s, 64 >> s, requires_grad=True) for s in range(3)]
    target = torch.randint(0, 6, (2, 64, 64))
    inputs = {head.untyped_storage().data_ptr() for head in heads}
    kept: dict[int, int] = {}

    def note(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in inputs:
            kept[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        multiscale_seg_loss(heads, target)
        ours = sum(kept.values())
        kept.clear()
        multiscale_seg_loss_reference(heads, target)
    assert target.numel() <= ours < target.numel() + 1024
    assert ours < sum(kept.values()) / 50


def test_no_probability_of_the_size_of_the_target_is_made_for_a_coarse_head() -> None:
    # At the size of the target, the probabilities of the heads are 48 MiB; the target itself is 4 MiB.
    heads = [torch.randn(2, 3, 256, 256) for _ in range(8)]
    target = torch.randint(0, 3, (2, 512, 512))
    with torch.profiler.profile(profile_memory=True) as profiler:
        multiscale_seg_loss(heads, target)
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    peak = max(itertools.accumulate(change for _, change in sorted(changes, key=lambda pair: pair[0])))
    assert 2**20 < peak < 30 * 2**20


@pytest.mark.parametrize("interp", ["logit", "prob"])
def test_two_runs_give_the_same_bits(interp: Any) -> None:
    heads = [torch.randn(2, 5, 96 >> s, 96 >> s, requires_grad=True) for s in range(3)]
    target = random_target(2, 96, 96, classes=5)
    runs = []
    for _ in range(2):
        total, table = multiscale_seg_loss(heads, target, interp=interp)
        runs.append((table, *torch.autograd.grad(total, heads)))
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


def test_backward_may_run_twice_but_not_through_itself() -> None:
    head = torch.randn(1, 3, 4, 4, requires_grad=True)
    total, _ = multiscale_seg_loss([head], torch.randint(0, 3, (1, 4, 4)))
    first = torch.autograd.grad(total, head, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(total, head, retain_graph=True)[0], first)
    (again,) = torch.autograd.grad(total, head, create_graph=True)
    with pytest.raises(RuntimeError, match="gradients of gradients"):
        again.sum().backward()


def test_a_head_that_needs_no_gradient_gets_none() -> None:
    frozen, free = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4, requires_grad=True)
    multiscale_seg_loss([frozen, free], torch.randint(0, 3, (1, 4, 4)))[0].backward()
    assert frozen.grad is None
    assert free.grad is not None


def test_an_empty_batch_gives_zero_and_an_empty_gradient() -> None:
    heads = [torch.randn(0, 3, n, n, requires_grad=True) for n in (4, 2)]
    total, table = multiscale_seg_loss(heads, torch.zeros(0, 4, 4, dtype=torch.int64))
    total.backward()
    assert total.item() == 0
    assert table.shape == (2, 2)
    assert heads[1].grad is not None
    assert heads[1].grad.shape == (0, 3, 2, 2)


@pytest.mark.parametrize("ignore_index", [255, -7, 0])
def test_a_target_of_bytes_means_the_same(ignore_index: int) -> None:
    logits, target = (
        torch.randn(2, 4, 6, 5),
        random_target(2, 6, 5, ignored=0.2 if ignore_index == 255 else 0),
    )
    expected = multiscale_seg_loss([logits], target, ignore_index=ignore_index)[1]
    assert torch.equal(multiscale_seg_loss([logits], target.byte(), ignore_index=ignore_index)[1], expected)


@pytest.mark.parametrize("classes", [1, 2, 32, 300])
def test_any_number_of_classes_is_taken(classes: int) -> None:
    head = torch.randn(2, classes, 7, 6, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, classes, (2, 7, 6))
    pair = [
        form([head], target, ignore_index=-1) for form in (multiscale_seg_loss, multiscale_seg_loss_reference)
    ]
    torch.testing.assert_close(pair[0][1], pair[1][1], rtol=1e-13, atol=1e-14)
    ours, theirs = (torch.autograd.grad(total, head)[0] for total, _ in pair)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("value", [0.0, 1e4, -3.3])
def test_constant_logits_cost_the_logarithm_of_the_number_of_classes(value: float) -> None:
    # 262144 equal terms: a plain running sum in float32 would be off by 1e-3.
    logits = torch.full((1, 4, 512, 512), value)
    target = torch.zeros(1, 512, 512, dtype=torch.int64)
    target[:, 256:] = 1
    table = multiscale_seg_loss([logits, logits[..., ::2, ::2]], target)[1]
    dice = 1 - 2 * 0.125 / (0.25 + 0.5)
    expected = torch.tensor([[math.log(4) / 2, dice]] * 2)
    torch.testing.assert_close(table, expected, rtol=1e-6, atol=0)


def test_a_probability_that_underflows_still_costs_its_logit() -> None:
    logits = torch.tensor([[300.0, 0.0], [0.0, 300.0]]).view(1, 2, 1, 2).requires_grad_()  # (B, K, 1, pixels)
    table = multiscale_seg_loss([logits], torch.tensor([[[1, 0]]]))[1]
    assert table[0, 0].item() == pytest.approx(150)
    torch.autograd.backward(table[0, 0])
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([0.25, -0.25, -0.25, 0.25])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_get_gradients_of_their_dtype(dtype: torch.dtype) -> None:
    heads = [torch.randn(1, 3, n, n).to(dtype).requires_grad_() for n in (8, 4)]
    target = random_target(1, 8, 8, classes=3)
    gradients = torch.autograd.grad(multiscale_seg_loss(heads, target)[0], heads)
    wide = [head.detach().float().requires_grad_() for head in heads]
    expected = torch.autograd.grad(multiscale_seg_loss(wide, target)[0], wide)
    for given, exact in zip(gradients, expected, strict=True):
        assert given.dtype == dtype
        torch.testing.assert_close(given, exact.to(dtype))


def test_multiscale_seg_loss_has_no_gradient_where_the_clamp_holds() -> None:
    # One pixel of each class, so that both count; Dice has a gradient everywhere, hence CE alone.
    logits = torch.tensor([[20.0, 0.0], [-20.0, 0.0]], requires_grad=True)  # (K, pixels)
    target = torch.tensor([[[1, 0]]])
    _, table = multiscale_seg_loss([logits.view(1, 2, 1, 2)], target, clamp=(0.005, 1.0))
    table[0, 0].backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[:, 0], torch.zeros(2))
    assert logits.grad[0, 1].item() < 0


def test_ignored_pixels_and_their_logits_change_nothing() -> None:
    logits = torch.randn(2, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    target = random_target(2, 6, 5)
    ignored = target == 255
    total, table = multiscale_seg_loss([logits], target)
    total.backward()
    assert logits.grad is not None
    assert not logits.grad.movedim(1, -1)[ignored].any()
    other = torch.where(ignored[:, None], 1e4 * torch.randn_like(logits), logits)
    assert torch.equal(multiscale_seg_loss([other], target)[1], table)
    renamed = torch.where(ignored, -7, target)
    assert torch.equal(multiscale_seg_loss([logits], renamed, ignore_index=-7)[1], table)


def test_a_class_of_the_range_may_be_the_ignored_one() -> None:
    logits, target = torch.randn(2, 4, 6, 5), random_target(2, 6, 5, ignored=0)
    masked = torch.where(target == 0, 255, target)
    table = multiscale_seg_loss([logits], target, ignore_index=0)[1]
    assert torch.equal(table, multiscale_seg_loss([logits], masked)[1])


@pytest.mark.parametrize("dice_classes", ["present", "all"])
def test_a_batch_without_valid_pixels_gives_zero_and_no_gradient(dice_classes: Any) -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    total, table = multiscale_seg_loss([logits], torch.full((2, 4, 4), 255), dice_classes=dice_classes)
    total.backward()
    assert total.item() == 0
    assert not table.any()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_sample_without_valid_pixels_gives_nothing_to_the_batch() -> None:
    logits, target = torch.randn(2, 4, 6, 5, dtype=torch.float64), random_target(2, 6, 5)
    target[1] = 255
    both, alone = multiscale_seg_loss([logits], target)[1], multiscale_seg_loss([logits[:1]], target[:1])[1]
    torch.testing.assert_close(both, alone, rtol=1e-14, atol=0)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_multiscale_seg_loss_survives_extreme_logits(options: dict[str, Any], dtype: torch.dtype) -> None:
    logits = (torch.randn(2, 4, 6, 6, dtype=dtype).sign() * 1e4).requires_grad_()
    total, table = multiscale_seg_loss([logits, logits[..., ::2, ::2]], random_target(2, 6, 6), **options)
    total.backward()
    assert torch.isfinite(table).all()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_its_logit() -> None:
    target = torch.tensor([[[0, 1], [2, 0]]])
    sure = torch.nn.functional.one_hot(target, 3).movedim(-1, 1) * 1e4
    total, _ = multiscale_seg_loss([sure.float()], target)
    assert total.item() == pytest.approx(0, abs=1e-6)
    # Every pixel is taken for the next class: -log p = 1e4 with weights 1/2, 3/4, 3/4, 1/2 over 4 pixels.
    _, table = multiscale_seg_loss([sure.roll(1, dims=1).float()], target)
    assert table[0].tolist() == pytest.approx([1e4 * 2.5 / 4, 1])


def test_multiscale_seg_loss_in_float32_is_near_float64_at_the_size_of_a_window() -> None:
    logits = torch.randn(1, 6, 512, 512) * 3
    target = torch.randint(0, 6, (1, 512, 512))
    target[:, :300] = 0  # one large class, whose sums are long
    single = multiscale_seg_loss([logits], target)[1]
    double = multiscale_seg_loss([logits.double()], target)[1]
    torch.testing.assert_close(single.double(), double, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_cost_no_precision_of_the_counts(dtype: torch.dtype) -> None:
    logits = torch.randn(1, 3, 300, 300).to(dtype)  # 90 000 pixels do not fit float16
    target = torch.randint(0, 3, (1, 300, 300))
    half = multiscale_seg_loss([logits], target)[1]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, multiscale_seg_loss([logits.float()], target)[1], rtol=1e-6, atol=0)


def test_multiscale_seg_loss_does_not_depend_on_strides_or_write_its_inputs() -> None:
    logits, target = torch.randn(2, 4, 6, 5, dtype=torch.float64), random_target(2, 6, 5)
    kept = logits.clone(), target.clone()
    expected = multiscale_seg_loss([logits], target)[1]
    strided = logits.to(memory_format=torch.channels_last)
    turned = target.transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(multiscale_seg_loss([strided], turned)[1], expected, rtol=1e-14, atol=0)
    window = torch.randn(2, 7, 9, 11, dtype=torch.float64)[:, 1:5, 2:8, 3:8].copy_(logits)
    torch.testing.assert_close(multiscale_seg_loss([window], target)[1], expected, rtol=1e-14, atol=0)
    row = logits[:, :, :1].expand(-1, -1, 6, -1)
    plain = multiscale_seg_loss([row.contiguous()], target)[1]
    torch.testing.assert_close(multiscale_seg_loss([row], target)[1], plain, rtol=1e-14, atol=0)
    assert torch.equal(logits, kept[0])
    assert torch.equal(target, kept[1])


@pytest.mark.parametrize(
    ("shapes", "target", "words"),
    [
        ((), torch.zeros(1, 4, 4).long(), "logits is empty"),
        (((1, 3, 4, 4), (1, 2, 4, 4)), torch.zeros(1, 4, 4).long(), r"logits\[1\].*\(1, 3, h, w\)"),
        (((2, 3, 4, 4),), torch.zeros(1, 4, 4).long(), r"logits\[0\].*\(1, 3, h, w\)"),
        (((3,),), torch.zeros(1, 4, 4).long(), r"logits\[0\] is \(3,\)"),
        (((1, 3, 4, 4),), torch.zeros(1, 1, 4, 4).long(), r"target is \(1, 1, 4, 4\)"),
        (((1, 3, 4, 4),), torch.zeros(1, 4, 4), r"float32, expected \(B, H, W\) torch.int64"),
        (((1, 3, 4, 4),), torch.full((1, 4, 4), 3), r"target holds \[3\], expected 0..2"),
        (((1, 3, 4, 4),), torch.full((1, 4, 4), -1), r"target holds \[-1\]"),
    ],
)
def test_multiscale_seg_loss_names_what_it_cannot_take(
    shapes: tuple[tuple[int, ...], ...], target: Tensor, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        multiscale_seg_loss([torch.zeros(shape) for shape in shapes], target)


def test_multiscale_seg_loss_refuses_what_it_does_not_know() -> None:
    logits, target = torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"logits\[1\] is torch.float64 .* expected torch.float32"):
        multiscale_seg_loss([logits, logits.double()], target)
    with pytest.raises(ValueError, match="interp is 'nearest'"):
        multiscale_seg_loss([logits], target, interp="nearest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dice_classes is 'some'"):
        multiscale_seg_loss([logits], target, dice_classes="some")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="'triton' cannot run"):
        multiscale_seg_loss([logits], target, backend="triton")
    with pytest.raises(ValueError, match="backend is 'cuda'"):
        multiscale_seg_loss([logits], target, backend="cuda")  # type: ignore[arg-type]
