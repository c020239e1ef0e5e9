"""modal_fuse against zeros joined, normalised and mixed in float64, for every pattern of presence."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mmbench_kernels import modal_fuse
from mmbench_kernels.ops.modal_fuse import modal_fuse_reference

CASES = [
    (groups, missing, widths)
    for groups in ("sample", "channel")
    for missing in ("zero", "drop")
    for widths in ((3,), (3, 2), (2, 1, 3, 2))
]


@pytest.fixture(autouse=True)
def least_values(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send small samples through the pieces too, or, where a test asks for both paths, none."""
    monkeypatch.setattr("mmbench_kernels.ops._rows.WORTH_PIECES", getattr(request, "param", 0))


BOTH_PATHS = pytest.mark.parametrize("least_values", [0, 1 << 60], ids=["pieces", "plain"], indirect=True)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def relative_error(value: Tensor, reference: Tensor) -> float:
    return float((value.detach().double() - reference.detach()).norm() / reference.detach().norm())


def patterns(modalities: int, missing: str) -> Tensor:
    """Return all patterns, the empty one last and only where it has a meaning."""
    rows = list(itertools.product((True, False), repeat=modalities))
    return torch.tensor(rows if missing == "zero" else rows[:-1])


def inputs(
    widths: tuple[int, ...], batch: int, size: tuple[int, int] = (4, 6), outputs: int = 5, **options: Any
) -> tuple[list[Tensor], Tensor, Tensor]:
    options = {"dtype": torch.float64, **options}
    maps = [torch.randn(batch, width, *size, **options) + 1 for width in widths]
    return maps, torch.randn(outputs, sum(widths), **options), torch.randn(outputs, **options)


@pytest.mark.parametrize(("groups", "missing", "widths"), CASES)
@BOTH_PATHS
def test_it_equals_its_definition_with_all_gradients_for_every_pattern(
    groups: Any, missing: Any, widths: tuple[int, ...]
) -> None:
    present = patterns(len(widths), missing)
    maps, weight, bias = inputs(widths, len(present))
    leaves = [each.requires_grad_() for each in (*maps, weight, bias)]
    fused = modal_fuse(maps, weight, bias, present=present, groups=groups, missing=missing)
    expected = modal_fuse_reference(maps, weight, bias, present, groups, missing=missing)
    torch.testing.assert_close(fused, expected, rtol=0, atol=1e-12)
    seed = torch.randn_like(fused)
    found, wanted = torch.autograd.grad(fused, leaves, seed), torch.autograd.grad(expected, leaves, seed)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("missing", ["zero", "drop"])
@pytest.mark.parametrize("groups", ["sample", "channel"])
@BOTH_PATHS
def test_it_has_the_gradient_of_its_values(groups: Any, missing: Any) -> None:
    maps, weight, bias = inputs((2, 1), 2, (3, 2), 2)
    present = torch.tensor([[True, True], [False, True]])

    def call(a: Tensor, b: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return modal_fuse([a, b], weight, bias, present=present, groups=groups, missing=missing)

    leaves = [each.requires_grad_() for each in (*maps, weight, bias)]
    assert torch.autograd.gradcheck(call, leaves)


@pytest.mark.parametrize("groups", ["sample", "channel"])
@pytest.mark.parametrize("missing", ["zero", "drop"])
@BOTH_PATHS
def test_a_missing_map_is_never_read(groups: Any, missing: Any) -> None:
    maps, weight, bias = inputs((3, 2), 2)
    present = torch.tensor([[True, False], [True, False]])
    options: dict[str, Any] = {"present": present, "groups": groups, "missing": missing}
    expected = modal_fuse(maps, weight, bias, **options)
    poisoned = [maps[0].requires_grad_(), torch.full_like(maps[1], float("nan"), requires_grad=True)]
    fused = modal_fuse(poisoned, weight.requires_grad_(), bias, **options)
    assert torch.equal(fused, expected)
    fused.square().sum().backward()  # type: ignore[no-untyped-call]
    assert maps[0].grad is not None
    assert poisoned[1].grad is not None
    assert weight.grad is not None
    assert torch.isfinite(maps[0].grad).all()
    assert not poisoned[1].grad.any()
    assert torch.isfinite(weight.grad).all()
    assert torch.equal(modal_fuse([maps[0], None], weight, bias, **options), expected)


@pytest.mark.parametrize("groups", ["sample", "channel"])
@BOTH_PATHS
def test_where_nothing_is_present_zeros_give_the_bias_and_drop_refuses(groups: Any) -> None:
    maps, weight, bias = inputs((3, 2), 2)
    present = torch.tensor([[True, True], [False, False]])
    fused = modal_fuse(maps, weight, bias, present=present, groups=groups)
    assert torch.equal(fused[1], bias[:, None, None].expand_as(fused[1]))
    with pytest.raises(ValueError, match=r"sample 1 has no modality present.*missing='zero'"):
        modal_fuse(maps, weight, bias, present=present, groups=groups, missing="drop")


@pytest.mark.parametrize("groups", ["sample", "channel"])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_float32_is_within_a_millionth_even_far_from_zero(groups: Any, offset: float) -> None:
    maps, weight, bias = inputs((8, 8), 2, (33, 32), 8, dtype=torch.float32)
    maps = [each + offset for each in maps]
    leaves = [each.requires_grad_() for each in (*maps, weight, bias)]
    present = torch.ones(2, 2, dtype=torch.bool)
    fused = modal_fuse(maps, weight, bias, groups=groups)
    doubled = [each.detach().double().requires_grad_() for each in leaves]
    expected = modal_fuse_reference(doubled[:2], doubled[2], doubled[3], present, groups)
    assert relative_error(fused, expected) < 1e-6
    seed = torch.randn_like(fused)
    found = torch.autograd.grad(fused, leaves, seed)
    wanted = torch.autograd.grad(expected, doubled, seed.double())
    assert max(map(relative_error, found, wanted)) < 5e-6


@BOTH_PATHS
def test_zeros_count_in_statistics_that_are_taken_far_from_zero() -> None:
    # So few zeros among values near 1000 leave the mean more standard deviations away than float32 takes.
    maps, weight, bias = inputs((80, 1), 1, (8, 8), dtype=torch.float32)
    maps[0] = maps[0] + 1000
    present = torch.tensor([[True, False]])
    leaves = [each.requires_grad_() for each in (*maps, weight)]
    fused = modal_fuse(maps, weight, bias, present=present, groups="sample")
    doubled = [each.detach().double().requires_grad_() for each in leaves]
    expected = modal_fuse_reference(doubled[:2], doubled[2], bias.double(), present, "sample")
    assert relative_error(fused, expected) < 1e-6
    (found,) = torch.autograd.grad(fused.sum(), weight)
    (wanted,) = torch.autograd.grad(expected.sum(), doubled[2])
    assert relative_error(found, wanted) < 5e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@BOTH_PATHS
def test_half_precision_takes_statistics_in_float32(dtype: torch.dtype) -> None:
    maps, weight, bias = inputs((4, 4), 2, (32, 32), 4, dtype=dtype)
    maps = [(each + 30).requires_grad_() for each in maps]
    fused = modal_fuse(maps, weight, bias, groups="sample")
    doubled = [each.detach().double().requires_grad_() for each in maps]
    present = torch.ones(2, 2, dtype=torch.bool)
    expected = modal_fuse_reference(doubled, weight.double(), bias.double(), present, "sample")
    assert fused.dtype == dtype
    assert relative_error(fused, expected) < 8e-3
    seed = torch.randn_like(fused)
    found = torch.autograd.grad(fused, maps, seed)
    wanted = torch.autograd.grad(expected, doubled, seed.double())
    assert max(map(relative_error, found, wanted)) < 1.6e-2


@BOTH_PATHS
def test_strides_change_nothing_and_inputs_are_not_written() -> None:
    maps, weight, bias = inputs((4, 3), 3, (6, 5))
    before, expected = maps[0].clone(), modal_fuse(maps, weight, bias, groups="sample")
    for first in (
        maps[0].to(memory_format=torch.channels_last),
        torch.cat((maps[0], maps[0]), dim=3)[..., :5],
        maps[0].transpose(2, 3).contiguous().transpose(2, 3),
    ):
        torch.testing.assert_close(modal_fuse([first, maps[1]], weight, bias, groups="sample"), expected)
    expanded = maps[0][:1].expand(3, -1, -1, -1)
    same = modal_fuse([expanded, maps[1]], weight, bias, groups="sample")
    torch.testing.assert_close(
        same, modal_fuse([expanded.contiguous(), maps[1]], weight, bias, groups="sample")
    )
    assert torch.equal(maps[0], before)


def test_pieces_of_a_large_map_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, weight, bias = inputs((4, 3), 3, (7, 5))
    present = torch.tensor([[True, True], [True, True], [False, True]])
    leaves = [each.requires_grad_() for each in (*maps, weight, bias)]

    def run() -> list[Tensor]:
        fused = modal_fuse(maps, weight, bias, present=present, groups="sample")
        return [fused.detach(), *torch.autograd.grad(fused, leaves, torch.ones_like(fused))]

    whole = run()
    monkeypatch.setattr("mmbench_kernels.ops._rows.PIECE", 50)
    torch.testing.assert_close(run(), whole, rtol=0, atol=1e-12)


@BOTH_PATHS
def test_two_runs_agree_bit_for_bit_and_an_empty_batch_is_empty() -> None:
    maps, weight, bias = inputs((8, 8), 2, (32, 32), dtype=torch.float32)
    one, two = (modal_fuse(maps, weight, bias, groups="sample") for _ in range(2))
    assert torch.equal(one, two)
    empty = [each[:0].requires_grad_() for each in maps]
    fused = modal_fuse(empty, weight, bias, groups="sample")
    assert fused.shape == (0, 5, 32, 32)
    fused.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("missing", ["zero", "drop"])
def test_torch_accepts_the_operator_and_compiles_it_whole(missing: Any) -> None:
    maps, weight, bias = inputs((3, 2), 2)
    leaves = [each.requires_grad_() for each in (*maps, weight, bias)]
    present = torch.tensor([[True, True], [False, True]])
    arguments = (maps, weight, bias, present, [0, 1], [3, 2], "sample", 1e-5, 0.2, missing)
    torch.library.opcheck(torch.ops.mmbench.modal_fuse.default, arguments)

    def call() -> Tensor:
        return modal_fuse(maps, weight, bias, present=present, groups="sample", missing=missing)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")()
    assert torch.equal(compiled, call())
    found, wanted = (torch.autograd.grad(each.square().sum(), leaves) for each in (compiled, call()))
    assert all(torch.equal(one, two) for one, two in zip(found, wanted, strict=True))


def test_backward_keeps_the_maps_and_no_activation() -> None:
    maps, weight, bias = inputs((4, 4), 2, (8, 8), dtype=torch.float32)
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return saved

    maps = [each.to(memory_format=torch.channels_last).requires_grad_() for each in maps]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        modal_fuse(maps, weight.requires_grad_(), bias, groups="sample")
    inputs_kept = 4 * (2 * maps[0].numel() + weight.numel())
    assert sum(kept.values()) == inputs_kept + 2 * 2 * 8  # mean and 1/std of two samples, float64


def test_a_gradient_of_a_gradient_raises() -> None:
    maps, weight, bias = inputs((3, 2), 2)
    fused = modal_fuse([each.requires_grad_() for each in maps], weight, bias, groups="sample")
    (gradient,) = torch.autograd.grad(fused.square().sum(), maps[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="gradients of gradients"):
        gradient.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"groups": "batch"}, ValueError, "'batch'.*'channel' or 'sample'"),
        ({"missing": "skip"}, ValueError, "'skip'.*'zero' or 'drop'"),
        ({"negative_slope": -0.1}, ValueError, r"-0\.1.*0 or more"),
        ({"backend": "triton"}, RuntimeError, "the device is cpu, expected cuda.*backend='auto'"),
        ({"backend": "cuda"}, ValueError, "'cuda'.*'auto', 'torch' or 'triton'"),
        ({"present": torch.ones(3, 2, dtype=torch.bool)}, ValueError, r"\(3, 2\).*\(2, 2\)"),
        ({"present": torch.ones(2, 2)}, TypeError, r"float32.*torch\.bool"),
        ({"weight": torch.zeros(5, 6)}, ValueError, r"6 input channels.*\[3, 2\]"),
        ({"bias": torch.zeros(4)}, ValueError, r"\(4,\), expected \(5,\)"),
        ({"features": [None, None]}, ValueError, "no map"),
        ({"features": [torch.zeros(2, 3, 4, 4), torch.zeros(2, 2, 4, 5)]}, ValueError, "equal B, H and W"),
        (
            {"features": [torch.zeros(2, 3, 4, 4), torch.zeros(2, 2, 4, 4).double()]},
            TypeError,
            "one floating-point dtype",
        ),
        (
            {"features": [torch.zeros(2, 3, 4, 6), None], "present": torch.ones(2, 2, dtype=torch.bool)},
            ValueError,
            r"features\[1\] is None, but sample 0",
        ),
    ],
)
@BOTH_PATHS
def test_it_names_what_it_cannot_take(change: dict[str, Any], error: type[Exception], words: str) -> None:
    maps, weight, bias = inputs((3, 2), 2, dtype=torch.float32)
    arguments: dict[str, Any] = {"features": maps, "weight": weight, "bias": bias, "groups": "sample"}
    with pytest.raises(error, match=words):
        modal_fuse(**{**arguments, **change})
