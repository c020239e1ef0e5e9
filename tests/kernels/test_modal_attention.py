"""modal_attention against its definition, written out in float64 loops, and where that is strained."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmbench_kernels import modal_attention
from mmbench_kernels.ops import _attention_operator, _tiled_attention
from mmbench_kernels.ops.modal_attention import modal_attention_qkvpacked, modal_attention_reference

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


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"mode": "skip"}, ValueError, "mode is 'skip'"),
        ({"mode": "skip_keys"}, ValueError, "present is None"),
        ({"present": torch.ones(2, 2), "mode": "skip_keys"}, TypeError, "present is torch.float32"),
        ({"present": torch.ones(3, 2).bool()}, ValueError, r"present \(3, 2\)"),
        ({"present": torch.ones(2, 4).bool()}, ValueError, r"modality_len gives \[1, 1, 1, 1\]"),
        ({"present": torch.ones(2, 2).bool(), "modality_len": [2, 5]}, ValueError, "sum to N = 6"),
        ({"dropout_p": 0.5, "seed": torch.tensor(1.0)}, TypeError, "seed is torch.float32"),
        ({"dropout_p": 0.5, "seed": torch.tensor([1, 2])}, ValueError, "seed .* one number"),
        ({"backend": "triton"}, RuntimeError, "the device is cpu, expected cuda"),
        ({"backend": "cuda"}, ValueError, "backend is 'cuda'"),
    ],
)
def test_modal_attention_names_the_option_it_cannot_take(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    q, k, v = random_qkv(2, 1, 6, 3)
    with pytest.raises(error, match=words):
        modal_attention(q, k, v, **options)
    with pytest.raises(TypeError, match=r"k is torch\.float32"):
        modal_attention(q, k.float(), v)
    with pytest.raises(TypeError, match=r"q is torch\.int64"):
        modal_attention(q.long(), k.long(), v.long())
    with pytest.raises(ValueError, match=r"qkv \(2, 1, 6, 3\)"):
        modal_attention_qkvpacked(q)


# --- modes, dropout, tiles: against the oracle -------------------------------------------------------------

MODES = ["full", "skip_keys", "skip_tokens"]


def gradients(out: Tensor, inputs: tuple[Tensor, ...], seed: int = 3) -> tuple[Tensor, ...]:
    """Return the gradients of a random weighting of an output, always the same one."""
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.autograd.grad((out.double() * weights).sum(), inputs)


def assert_near(values: tuple[Tensor, ...], references: tuple[Tensor, ...], bound: float) -> None:
    for value, reference in zip(values, references, strict=True):
        scale = max(reference.detach().norm().item(), 1e-6)
        assert (value.detach().double() - reference.detach()).norm().item() <= bound * scale


def patterns(count: int) -> Tensor:
    """Return all 2^M rows of `present`."""
    return torch.tensor(list(itertools.product([False, True], repeat=count)))


@pytest.mark.parametrize("dropout_p", [0.0, 0.2])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_pattern_in_one_batch_equals_the_oracle(count: int, mode: str, dropout_p: float) -> None:
    present = patterns(count)
    lengths = [3, 5, 1, 4][:count]
    inputs = tuple(x.requires_grad_() for x in random_qkv(len(present), 2, sum(lengths), 5))
    options: dict[str, Any] = {"present": present, "modality_len": lengths, "mode": mode}
    options |= {"dropout_p": dropout_p, "seed": 9}
    out, lse = modal_attention(*inputs, return_lse=True, **options)
    expected, expected_lse = modal_attention_reference(*inputs, **options)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(lse, expected_lse, rtol=0, atol=1e-13)
    assert_near(gradients(out, inputs), gradients(expected, inputs), 1e-13)
    if mode != "full":
        assert not out[0].any()
        assert bool((lse[0] == -math.inf).all())
        assert all(not grad[0].any() for grad in gradients(modal_attention(*inputs, **options), inputs))


@pytest.mark.parametrize("tile", [64, 1 << 18])
@pytest.mark.parametrize("tokens", [1, 17, 64, 97, 1000, 1025])
def test_odd_sizes_and_tiles_are_as_exact_as_float32_allows(
    tokens: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tile == 64 and tokens > 100:
        tile = 5000  # five rows or so a tile
    monkeypatch.setattr(_tiled_attention, "_TILE_ENTRIES", tile)
    exact = random_qkv(1, 3, tokens, 32)
    inputs = tuple(x.float().requires_grad_() for x in exact)
    reference = tuple(x.requires_grad_() for x in exact)
    options: dict[str, Any] = {"dropout_p": 0.1, "seed": 5}
    out, expected = modal_attention(*inputs, **options), modal_attention_reference(*reference, **options)[0]
    assert_near((out,), (expected,), 2e-6)
    if tokens > 1:  # one key: the gradients to q and k are zero, and rounding is all there is
        assert_near(gradients(out, inputs), gradients(expected, reference), 5e-6)


@pytest.mark.parametrize("width", [16, 32, 40, 64])
@pytest.mark.parametrize(
    ("dtype", "bounds"), [(torch.float32, (2e-6, 5e-6)), (torch.bfloat16, (8e-3, 1.6e-2))]
)
def test_widths_and_types_stay_within_their_rounding(
    width: int, dtype: torch.dtype, bounds: tuple[float, float]
) -> None:
    inputs = tuple(x.to(dtype).requires_grad_() for x in random_qkv(2, 2, 50, width))
    reference = tuple(x.detach().double().requires_grad_() for x in inputs)
    present = torch.tensor([[True, False], [True, True]])
    for options in ({"mode": "full"}, {"mode": "skip_keys"}):
        settings: dict[str, Any] = {"present": present, "dropout_p": 0.1, "seed": 5, **options}
        out = modal_attention(*inputs, **settings)
        expected = modal_attention_reference(*reference, **settings)[0]
        assert out.dtype == dtype
        assert_near((out,), (expected,), bounds[0])
        assert_near(gradients(out, inputs), gradients(expected, reference), bounds[1])


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("mode", MODES)
def test_modes_with_dropout_have_the_gradient_of_their_values(mode: str, dropout_p: float) -> None:
    inputs = tuple(t.requires_grad_() for t in random_qkv(2, 1, 4, 2))
    present = torch.tensor([[True, False], [True, True]])
    options: dict[str, Any] = {"present": present, "modality_len": [1, 3], "mode": mode}

    def call(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        out, lse = modal_attention(q, k, v, dropout_p=dropout_p, seed=2, return_lse=True, **options)
        return out, lse.masked_fill(lse == -math.inf, 0)

    assert torch.autograd.gradcheck(call, inputs)


def test_the_same_seed_drops_the_same_entries_in_every_mode_and_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = 24
    zeros, identity = torch.zeros(2, 3, tokens, tokens), torch.eye(tokens).expand(2, 3, -1, -1)
    present = torch.tensor([[True, False, True], [False, True, True]])
    kept = {}
    for mode, entries in itertools.product(MODES, (1, 100, 1 << 18)):
        monkeypatch.setattr(_tiled_attention, "_TILE_ENTRIES", entries)
        options: dict[str, Any] = {"present": present, "mode": mode, "dropout_p": 0.5, "seed": 1}
        kept[mode, entries] = modal_attention(zeros, zeros, identity, **options) != 0
    attended = present.repeat_interleave(tokens // 3, dim=1)
    keys = kept["full", 1] & attended[:, None, None, :]
    assert 0.4 < kept["full", 1].double().mean() < 0.6
    for entries in (1, 100, 1 << 18):
        assert torch.equal(kept["full", entries], kept["full", 1])
        assert torch.equal(kept["skip_keys", entries], keys)
        assert torch.equal(kept["skip_tokens", entries], keys & attended[:, None, :, None])


def test_the_seed_comes_from_the_generator_and_only_where_something_is_dropped() -> None:
    q, k, v = random_qkv(1, 2, 9, 4)
    state = torch.get_rng_state()
    modal_attention(q, k, v)
    modal_attention(q, k, v, dropout_p=0.5, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    first = modal_attention(q, k, v, dropout_p=0.5)
    second = modal_attention(q, k, v, dropout_p=0.5)
    torch.set_rng_state(state)
    assert torch.equal(modal_attention(q, k, v, dropout_p=0.5), first)
    assert not torch.equal(first, second)
    given = [
        modal_attention(q, k, v, dropout_p=0.5, seed=seed) for seed in (3, torch.tensor(3), torch.tensor([3]))
    ]
    assert torch.equal(given[0], given[1])
    assert torch.equal(given[0], given[2])


@pytest.mark.parametrize("mode", MODES)
def test_a_sample_among_other_patterns_has_the_bits_that_it_has_alone(mode: str) -> None:
    present = patterns(2)
    packed = torch.randn(len(present), 34, 3, 4, 16).requires_grad_()
    together = modal_attention_qkvpacked(packed, present=present, mode=mode)
    (gradient,) = gradients(together, (packed,))
    for sample in range(len(present)):
        rows = slice(sample, sample + 1)
        alone = modal_attention_qkvpacked(packed[rows], present=present[rows], mode=mode)
        assert torch.equal(alone, together[rows])
    again = modal_attention_qkvpacked(packed, present=present, mode=mode)
    assert torch.equal(gradients(again, (packed,))[0], gradient)


def test_what_is_skipped_is_not_read() -> None:
    q, k, v = random_qkv(2, 2, 8, 4)
    present = torch.tensor([[True, False], [False, False]])
    absent = ~present.repeat_interleave(4, dim=1)[:, None, :, None]
    dirty = tuple(x.masked_fill(absent, math.nan).requires_grad_() for x in (q, k, v))
    options: dict[str, Any] = {"present": present, "mode": "skip_tokens", "dropout_p": 0.2, "seed": 4}
    out = modal_attention(*dirty, **options)
    assert torch.equal(out, modal_attention(q, k, v, **options))
    for grad in gradients(out, dirty):
        assert bool(grad.isfinite().all())
        assert not grad.masked_select(absent).any()


def test_packed_expanded_and_transposed_inputs_and_gradients_give_the_same_numbers() -> None:
    packed = torch.randn(2, 9, 3, 4, 8).requires_grad_()
    q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
    options: dict[str, Any] = {"dropout_p": 0.2, "seed": 4}
    plain = tuple(x.detach().contiguous().requires_grad_() for x in (q, k, v))
    expected = modal_attention(*plain, **options)
    out = modal_attention_qkvpacked(packed, **options)
    assert out.transpose(1, 2).is_contiguous()
    assert torch.equal(out, expected)
    (value,) = gradients(out, (packed,))
    reference = torch.stack([grad.transpose(1, 2) for grad in gradients(expected, plain)], dim=2)
    torch.testing.assert_close(value, reference, rtol=0, atol=1e-6)
    columns = tuple(x.detach().mT.contiguous().mT for x in plain)  # the last stride is not 1
    assert torch.equal(modal_attention(*columns, **options), expected)
    shared = plain[1].detach()[:1, :1].expand(2, 4, -1, -1)
    whole = modal_attention(plain[0], shared.contiguous(), plain[2], **options)
    assert torch.equal(modal_attention(plain[0], shared, plain[2], **options), whole)
    # The gradient of a sum is one number with strides of zero.
    summed = torch.autograd.grad(modal_attention(*plain, **options).sum(), plain)
    dense = torch.autograd.grad(modal_attention(*plain, **options), plain, torch.ones(2, 4, 9, 8))
    assert_near(summed, tuple(x.double() for x in dense), 1e-6)


@pytest.mark.parametrize("subset", [(0,), (1,), (2,), (0, 2)])
def test_gradients_may_be_asked_of_some_inputs_only(subset: tuple[int, ...]) -> None:
    inputs = [x.requires_grad_(place in subset) for place, x in enumerate(random_qkv(1, 2, 7, 4))]
    wanted = tuple(inputs[place] for place in subset)
    options: dict[str, Any] = {"dropout_p": 0.2, "seed": 4}
    expected = gradients(modal_attention_reference(*inputs, **options)[0], wanted)
    assert_near(gradients(modal_attention(*inputs, **options), wanted), expected, 1e-13)


# --- what an operator owes to torch ------------------------------------------------------------------------


def test_nothing_of_the_size_of_the_matrix_is_saved_for_backward() -> None:
    batch, heads, tokens, width = 2, 4, 256, 16
    packed = torch.randn(batch, tokens, 3, heads, width).requires_grad_()
    storages = {}

    def pack(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        modal_attention_qkvpacked(packed, dropout_p=0.1)
    of_tokens = batch * heads * tokens * 4
    assert sum(storages.values()) == of_tokens * (3 * width + width + 1) + 8  # q k v, result, lse, seed


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_the_operators_pass_the_checks_of_torch(dropout_p: float) -> None:
    inputs = tuple(x.requires_grad_() for x in random_qkv(2, 1, 4, 2))
    seed = torch.tensor(3) if dropout_p else None
    options = (torch.tensor([[True, False], [True, True]]), [2, 2], True, dropout_p, seed, 0.5)
    torch.library.opcheck(_attention_operator.modal_attention_forward, (*inputs, *options))
    out, lse = _attention_operator.modal_attention_forward(*(x.detach() for x in inputs), *options)
    plain = tuple(x.detach() for x in inputs)
    arguments = (torch.randn_like(out), None, *plain, out, lse, *options)
    torch.library.opcheck(_attention_operator.modal_attention_backward, arguments)


@pytest.mark.parametrize("mode", ["full", "skip_tokens"])
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_a_whole_graph_compiles_to_the_same_numbers(mode: str, dropout_p: float) -> None:
    inputs = tuple(x.float().requires_grad_() for x in random_qkv(2, 2, 6, 4))
    present = torch.tensor([[True, False], [True, True]])

    def call(q: Tensor, k: Tensor, v: Tensor, seed: Tensor, present: Tensor) -> Tensor:
        return modal_attention(q, k, v, present=present, mode=mode, dropout_p=dropout_p, seed=seed) * 2

    expected = call(*inputs, torch.tensor(3), present)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")(*inputs, torch.tensor(3), present)
    torch.testing.assert_close(compiled, expected)
    assert_near(gradients(compiled, inputs), tuple(x.double() for x in gradients(expected, inputs)), 1e-6)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_gradients_of_gradients_raise(dropout_p: float) -> None:
    inputs = tuple(x.float().requires_grad_() for x in random_qkv(1, 2, 6, 8))
    out = modal_attention(*inputs, dropout_p=dropout_p)
    (grad,) = torch.autograd.grad(out.square().sum(), inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match=r"not implemented"):
        grad.sum().backward()


def test_autocast_gives_its_own_type_in_every_mode() -> None:
    inputs = tuple(x.float().requires_grad_() for x in random_qkv(2, 2, 6, 8))
    present = torch.ones(2, 2, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for mode in MODES:
            out = modal_attention(*inputs, present=present, mode=mode)
            assert out.dtype == torch.bfloat16
            assert all(grad.dtype == torch.float32 for grad in gradients(out, inputs))


def test_extreme_scores_with_dropout_keep_finite_gradients() -> None:
    inputs = tuple(t.float().requires_grad_() for t in random_qkv(1, 2, 6, 4, scale=1e4))
    out = modal_attention(*inputs, dropout_p=0.3, seed=1)
    assert bool(out.isfinite().all())
    assert all(bool(grad.isfinite().all()) for grad in gradients(out, inputs))


@pytest.mark.parametrize("shape", [(0, 2, 6, 4), (2, 2, 0, 4), (2, 0, 6, 4)])
def test_what_is_empty_stays_empty_in_every_mode(shape: tuple[int, ...]) -> None:
    inputs = tuple(x.requires_grad_() for x in random_qkv(*shape))
    present = torch.ones(shape[0], 2, dtype=torch.bool)
    for mode in MODES:
        out = modal_attention(*inputs, present=present, mode=mode, dropout_p=0.2)
        assert out.shape == shape
        assert all(grad.shape == shape for grad in gradients(out, inputs))
