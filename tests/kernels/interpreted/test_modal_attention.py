"""The kernels of modal_attention against its definition in float64: every pattern, layout and tail."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmbench_kernels import modal_attention, stats
from mmbench_kernels._triton import _attention_call, _attention_configs, _counter_hash, _token_rows
from mmbench_kernels.ops import _counter_hash as torch_hash
from mmbench_kernels.ops import _modal_attention_triton as operators
from mmbench_kernels.ops.modal_attention import modal_attention_qkvpacked, modal_attention_reference
from tests.kernels.modal_attention_problems import (
    MODES,
    assert_close,
    errors,
    patterns,
    random_qkv,
    relative_error,
)

DTYPES = (torch.float32, torch.float16)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("mode", MODES)
def test_every_pattern_of_unequal_modalities_in_one_batch_equals_the_definition(
    mode: str, dropout_p: float
) -> None:
    inputs = random_qkv(4, 1, 43, 12)
    options: dict[str, Any] = {"present": patterns(2), "modality_len": [18, 25], "mode": mode}
    assert_close(inputs, dropout_p=dropout_p, seed=-5, scale=0.4, **options)


@pytest.mark.parametrize("mode", MODES[1:])
def test_all_patterns_of_four_modalities_find_the_runs_of_what_is_present(mode: str) -> None:
    present = patterns(4)
    inputs = random_qkv(len(present), 1, 16, 4)
    # One modality has no tokens at all.
    assert_close(inputs, present=present, modality_len=[5, 0, 4, 7], mode=mode, dropout_p=0.2, seed=3)


@pytest.mark.parametrize(
    ("width", "dtype"),
    [(1, torch.float32), (32, torch.float32), (40, torch.float32), (40, torch.float16), (128, torch.float16)],
)
def test_every_width_of_a_head_is_padded_to_a_tile(width: int, dtype: torch.dtype) -> None:
    present = torch.tensor([[True, False], [True, True]])
    inputs = random_qkv(2, 1, 34, width, dtype=dtype)
    copies = stats.copies
    assert_close(inputs, present=present, mode="skip_keys", dropout_p=0.1, seed=2)
    # Queries, keys, values and the result; for backward those, its gradient, and three gradients of its own.
    assert stats.copies == copies + (0 if width in _attention_configs.WIDTHS else 4 + 8)


def test_a_padded_result_is_stored_like_any_other() -> None:
    q, k, v = (x.requires_grad_() for x in random_qkv(2, 3, 5, 12))
    out = modal_attention(q, k, v, backend="triton")
    grads = torch.autograd.grad(out, (q, k, v), torch.ones_like(out))
    assert all(
        x.transpose(1, 2).is_contiguous() and x.untyped_storage().nbytes() == 1440 for x in (out, *grads)
    )


@pytest.mark.parametrize(
    ("tokens", "dtype"),
    # Of one token in half precision, the gradients are what rounding leaves of a difference of equals.
    [*((tokens, torch.float32) for tokens in (1, 17, 64, 97)), (64, torch.float16), (130, torch.float16)],
)
def test_odd_numbers_of_tokens_have_right_tails(tokens: int, dtype: torch.dtype) -> None:
    inputs = random_qkv(1, 1, tokens, 16, dtype=dtype)
    assert_close(inputs, dropout_p=0.1, seed=2**40 + 1)


def test_several_samples_and_heads_do_not_mix() -> None:
    present = torch.tensor([[False, True], [True, False]])
    assert_close(random_qkv(2, 2, 10, 8), present=present, mode="skip_tokens", dropout_p=0.2, seed=6)


@pytest.mark.parametrize("shape", [(0, 2, 6, 4), (2, 2, 0, 4), (2, 0, 6, 4)])
def test_what_is_empty_stays_empty(shape: tuple[int, ...]) -> None:
    inputs = [x.requires_grad_() for x in random_qkv(*shape)]
    present = torch.ones(shape[0], 2, dtype=torch.bool)
    out, lse = modal_attention(
        *inputs, present=present, mode="skip_keys", dropout_p=0.2, return_lse=True, backend="triton"
    )
    assert (out.shape, lse.shape) == (shape, shape[:3])
    assert all(grad.shape == shape for grad in torch.autograd.grad(out.sum(), inputs))


@pytest.mark.parametrize("scale", [-0.7, 0.0])
def test_a_scale_may_turn_the_order_of_scores_round_or_make_them_equal(scale: float) -> None:
    assert_close(random_qkv(1, 2, 37, 8), scale=scale)


def test_scores_far_from_zero_and_equal_ones_keep_their_digits() -> None:
    for shift in (30.0, -30.0):
        q, k, v = random_qkv(1, 1, 40, 16)
        # A shift that all keys have in common changes the scores and their maximum, not the weights.
        inputs = (
            torch.cat([q[..., :15], torch.ones(1, 1, 40, 1)], 3),
            torch.cat([k[..., :15], torch.full((1, 1, 40, 1), shift)], 3),
            v,
        )
        assert errors(inputs, scale=1.0, dropout_p=0.1, seed=1)[0] < 2e-5
    constant = torch.full((1, 1, 40, 16), 3.0)
    assert_close((constant, constant, torch.randn(1, 1, 40, 16)), dropout_p=0.1, seed=1)


def test_extreme_scores_choose_one_key_and_keep_finite_gradients() -> None:
    q, k, v = (x.requires_grad_() for x in random_qkv(1, 1, 40, 16))
    out = modal_attention(q * 1e4, k, v, backend="triton")
    best = (q.double() @ k.double().transpose(2, 3)).argmax(3)
    torch.testing.assert_close(out, v.gather(2, best[..., None].expand_as(v)), rtol=1e-4, atol=1e-4)
    assert all(bool(grad.isfinite().all()) for grad in torch.autograd.grad(out.sum(), (q, k, v)))


def test_what_is_skipped_is_not_read() -> None:
    q, k, v = random_qkv(3, 1, 40, 8)
    present = torch.tensor([[True, False], [False, False], [False, True]])
    absent = ~present.repeat_interleave(20, dim=1)[:, None, :, None]
    dirty = [x.masked_fill(absent, math.nan).requires_grad_() for x in (q, k, v)]
    clean = [x.requires_grad_() for x in (q, k, v)]
    options: dict[str, Any] = {"present": present, "mode": "skip_tokens", "dropout_p": 0.2, "seed": 4}
    out = modal_attention(*dirty, backend="triton", **options)
    assert torch.equal(out, modal_attention(*clean, backend="triton", **options))
    gradient = torch.randn_like(out)
    found = torch.autograd.grad(out, dirty, gradient.masked_fill(absent, math.nan))
    wanted = torch.autograd.grad(modal_attention(*clean, backend="triton", **options), clean, gradient)
    for value, expected in zip(found, wanted, strict=True):
        assert torch.equal(value, expected)
        assert not value.masked_select(absent).any()


# --- dropout -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1, -(2**63), 2**32, 0x1234567887654321])
def test_the_hashes_of_rows_and_columns_have_the_bits_of_the_definition(seed: int) -> None:
    found = _counter_hash.line_hashes(torch.tensor(seed), 2, 3, 17)
    for sample in range(2):
        for value, expected in zip(
            found, torch_hash.line_hashes(torch.tensor(seed), sample, 3, 17), strict=True
        ):
            assert torch.equal(value[sample], expected)


@pytest.mark.parametrize("dropout_p", [1e-9, 0.1, 0.5, 0.999, 1 - 2**-40])
def test_the_same_entries_are_dropped_as_on_the_path_of_torch(dropout_p: float) -> None:
    tokens = 40
    zeros, identity = torch.zeros(2, 1, tokens, tokens), torch.eye(tokens).expand(2, 1, -1, -1)
    present = torch.tensor([[True, False], [True, True]])
    for mode in MODES:
        options: dict[str, Any] = {"present": present, "mode": mode, "dropout_p": dropout_p, "seed": 12}
        kept, expected = (
            modal_attention(zeros, zeros, identity, backend=backend, **options) != 0
            for backend in ("triton", "torch")
        )
        assert torch.equal(kept, expected)


# --- memory ------------------------------------------------------------------------------------------------


def test_packed_tensors_are_taken_and_stored_without_copies() -> None:
    packed = torch.randn(2, 21, 3, 2, 16).requires_grad_()
    options: dict[str, Any] = {"dropout_p": 0.2, "seed": 4, "backend": "triton"}
    copies = stats.copies
    out = modal_attention_qkvpacked(packed, **options)
    (found,) = torch.autograd.grad(out.sum(), packed)  # a gradient whose strides are all zero
    assert out.transpose(1, 2).is_contiguous()
    assert stats.copies == copies + 1  # only that gradient: its innermost stride is not 1 either
    plain = [x.detach().contiguous().requires_grad_() for x in packed.permute(2, 0, 3, 1, 4).unbind(0)]
    expected = modal_attention(*plain, **options)
    assert torch.equal(out, expected)
    wanted = torch.autograd.grad(expected, plain, torch.ones_like(expected).contiguous())
    assert torch.equal(found, torch.stack([x.transpose(1, 2) for x in wanted], 2))


def test_strided_sliced_and_expanded_tensors_give_the_same_bits() -> None:
    q, k, v = random_qkv(2, 2, 21, 16)
    options: dict[str, Any] = {"dropout_p": 0.2, "seed": 4, "backend": "triton"}
    expected = modal_attention(q, k, v, **options)
    wider = torch.randn(2, 2, 25, 32)
    wider[:, :, 3:24, 4:20] = q
    copies = stats.copies
    assert torch.equal(modal_attention(wider[:, :, 3:24, 4:20], k, v, **options), expected)
    shared = k[:1, :1].expand(2, 2, -1, -1)
    whole = modal_attention(q, shared.contiguous(), v, **options)
    assert torch.equal(modal_attention(q, shared, v, **options), whole)
    assert stats.copies == copies
    columns = [x.mT.contiguous().mT for x in (q, k, v)]
    assert torch.equal(modal_attention(*columns, **options), expected)
    assert stats.copies == copies + 3
    for width, first in ((32, 1), (33, 4)):  # rows that begin between 16 bytes
        ragged = torch.zeros(2, 2, 21, width)
        ragged[..., first : first + 16] = q
        assert torch.equal(modal_attention(ragged[..., first : first + 16], k, v, **options), expected)
    assert stats.copies == copies + 5
    present = torch.tensor([[True, True], [False, False], [False, True], [True, False]])[::2]
    mode: dict[str, Any] = {"mode": "skip_keys", "modality_len": [9, 12], **options}
    strided = modal_attention(q, k, v, present=present, **mode)
    assert torch.equal(strided, modal_attention(q, k, v, present=present.contiguous(), **mode))


@pytest.mark.parametrize("subset", [(0,), (1,), (2,), (0, 2)])
def test_gradients_may_be_asked_of_some_inputs_only(subset: tuple[int, ...]) -> None:
    inputs = [x.requires_grad_(place in subset) for place, x in enumerate(random_qkv(1, 1, 9, 4))]
    wanted = [inputs[place] for place in subset]
    options: dict[str, Any] = {"dropout_p": 0.2, "seed": 4}
    losses = (
        out.square().sum() + lse.square().sum()
        for out, lse in (
            modal_attention(*inputs, return_lse=True, backend="triton", **options),
            modal_attention_reference(*(x.double() for x in inputs), **options),
        )
    )
    for value, reference in zip(*(torch.autograd.grad(loss, wanted) for loss in losses), strict=True):
        assert relative_error(value, reference.double()) < 5e-6


def test_only_inputs_result_logarithm_and_seed_are_saved_for_backward() -> None:
    batch, heads, tokens, width = 2, 2, 20, 16
    packed = torch.randn(batch, tokens, 3, heads, width).requires_grad_()
    storages = {}

    def pack(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        modal_attention_qkvpacked(packed, dropout_p=0.1, backend="triton")
    assert sum(storages.values()) == batch * heads * tokens * 4 * (3 * width + width + 1) + 8


# --- which path is taken, and what an operator owes to torch -----------------------------------------------


class Names(TorchDispatchMode):
    """Writes down which of this package's operators are called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        if function.namespace == "mmbench":
            self.seen.append(function._schema.name.partition("::")[2])
        return function(*arguments, **(named or {}))


@pytest.mark.parametrize(
    ("shape", "options", "names"),
    [
        ((2, 1, 6, 4), {}, []),
        ((2, 1, 6, 4), {"backend": "triton"}, ["modal_attention_triton"]),
        ((2, 1, 6, 4), {"dropout_p": 0.1}, ["modal_attention_triton"]),
        ((2, 1, 6, 4), {"return_lse": True}, ["modal_attention_triton"]),
        ((2, 1, 6, 4), {"mode": "skip_keys", "present": torch.ones(2, 2).bool()}, ["modal_attention_triton"]),
        ((2, 1, 6, 4), {"dropout_p": 0.1, "backend": "torch"}, ["modal_attention"]),
        ((2, 1, 6, 65), {"dropout_p": 0.1}, ["modal_attention"]),
        ((2, 1, 17, 4), {"mode": "skip_keys", "present": torch.ones(2, 17).bool()}, ["modal_attention"]),
        ((2, 1, 17, 4), {"mode": "full", "present": torch.ones(2, 17).bool()}, []),
    ],
)
def test_auto_takes_the_kernels_where_they_can_run_and_have_something_to_gain(
    shape: tuple[int, ...], options: dict[str, Any], names: list[str]
) -> None:
    with Names() as mode:
        modal_attention(*random_qkv(*shape), **options)
    assert mode.seen == names


def test_what_the_kernels_cannot_do_is_said() -> None:
    for dtype, width, limit in ((torch.float32, 65, 64), (torch.float16, 129, 128)):
        wide = random_qkv(1, 1, 6, width, dtype=dtype)
        with pytest.raises(RuntimeError, match=f"the width of a head is {width}, expected 1 to {limit} in"):
            modal_attention(*wide, backend="triton")
    present = torch.ones(1, 17).bool()
    with pytest.raises(RuntimeError, match="present has 17 modalities, expected at most 16"):
        modal_attention(*random_qkv(1, 1, 17, 4), present=present, mode="skip_keys", backend="triton")
    known = _attention_configs.WIDTHS[-1], _attention_configs.FLOAT32_WIDTH, _token_rows.SLOTS
    assert known == (operators.WIDEST, operators.WIDEST_FLOAT32, operators.SLOTS)


def test_the_operators_pass_the_checks_of_torch() -> None:
    inputs = [x.requires_grad_() for x in random_qkv(2, 1, 4, 2)]
    options = (torch.tensor([[True, False], [True, True]]), [2, 2], True, 0.3, torch.tensor(3), 0.5)
    torch.library.opcheck(operators.modal_attention_triton_forward, (*inputs, *options))
    plain = [x.detach() for x in inputs]
    out, lse = operators.modal_attention_triton_forward(*plain, *options)
    arguments = (torch.randn_like(out), None, *plain, out, lse, *options)
    torch.library.opcheck(operators.modal_attention_triton_backward, arguments)


def test_a_whole_graph_compiles_to_the_same_numbers() -> None:
    inputs = [x.requires_grad_() for x in random_qkv(2, 1, 6, 4)]
    present = torch.tensor([[True, False], [True, True]])

    def call(q: Tensor, k: Tensor, v: Tensor, seed: Tensor, present: Tensor) -> Tensor:
        return modal_attention(q, k, v, present=present, mode="skip_keys", dropout_p=0.3, seed=seed) * 2

    expected = call(*inputs, torch.tensor(3), present)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")(*inputs, torch.tensor(3), present)
    assert torch.equal(compiled, expected)
    found, wanted = (torch.autograd.grad(x.square().sum(), inputs) for x in (compiled, expected))
    assert all(map(torch.equal, found, wanted))


def test_the_same_call_gives_the_same_bits_and_a_sample_those_that_it_has_alone() -> None:
    present = torch.tensor([[True, False], [True, True]])
    inputs = random_qkv(2, 1, 36, 8)
    options: dict[str, Any] = {"mode": "skip_keys", "return_lse": True, "backend": "triton"}
    together = modal_attention(*inputs, present=present, **options)
    assert all(map(torch.equal, together, modal_attention(*inputs, present=present, **options)))
    for sample in range(2):
        rows = slice(sample, sample + 1)
        alone = modal_attention(*(x[rows] for x in inputs), present=present[rows], **options)
        assert all(torch.equal(value[rows], one) for value, one in zip(together, alone, strict=True))


def test_products_of_float32_follow_the_setting_of_torch() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        found = {}
        for setting in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(setting)
            found[setting] = [_attention_call.precision(torch.float32, width) for width in (32, 64)]
            assert _attention_call.precision(torch.float16, 128) == "ieee"
    finally:
        torch.set_float32_matmul_precision(before)
    assert found == {"highest": ["ieee"] * 2, "high": ["tf32x3", "ieee"], "medium": ["tf32"] * 2}


def test_the_starts_of_modalities_are_the_sums_of_the_lengths_before() -> None:
    device = torch.device("cpu")
    for lengths in ([4, 4, 4], [3, 0, 5], [0, 2], [7], [5, 0]):
        starts = _token_rows.slot_starts(lengths, device)
        assert starts.tolist() == [sum(lengths[:slot]) for slot in range(len(lengths))]
        assert starts.dtype == torch.int32


# --- mistakes that must show -------------------------------------------------------------------------------

FORWARD, BACKWARD = "modal_attention", "modal_attention_backward"
MISTAKES = [
    (FORWARD, "out * shrink[:, None]", "out"),
    (FORWARD, "total * shrink +", "total +"),
    (FORWARD, "out * (keep_scale / total)", "out * (1.0 / total)"),
    (FORWARD, "inside = keys < end", "inside = keys < end - 1"),
    (FORWARD, "products * scale_log2 - base", "products - base"),
    (FORWARD, "next_run(slot, bits, starts, end, tokens)", "next_run(slot, bits >> 1, starts, end, tokens)"),
    (FORWARD, "are_kept(row_hashes[:, None],", "are_kept(row_hashes[:, None] + 1,"),
    (FORWARD, "head * stride_kh", "0 * stride_kh"),
    (BACKWARD, "grad_q * scale", "grad_q"),
    (BACKWARD, "grad_v * keep_scale", "grad_v"),
    (BACKWARD, "(grads * keep_scale - delta[:, None])", "grads * keep_scale"),
    (BACKWARD, "(grads * keep_scale - delta[None, :])", "grads * keep_scale"),
    (BACKWARD, "dropped = weights * factors", "dropped = weights"),
    (BACKWARD, "inside = rows < end", "inside = rows < end - 1"),
    (BACKWARD, "runs, end = runs * slots, 0", "runs, end = runs * slots - 1, 0"),
]


@pytest.mark.parametrize(("module", "old", "new"), MISTAKES, ids=[new for _, _, new in MISTAKES])
def test_a_mistake_in_a_kernel_does_not_pass(
    module: str, old: str, new: str, mutate: Callable[[str, str, str], None]
) -> None:
    mutate(module, old, new)
    assert max(errors_where_everything_is_used()) > 1e-3


def test_without_a_mistake_the_same_comparison_passes() -> None:
    assert max(errors_where_everything_is_used()) < 5e-6


def errors_where_everything_is_used() -> tuple[float, float]:
    inputs = random_qkv(1, 2, 75, 8)
    options: dict[str, Any] = {"present": torch.tensor([[False, True]]), "modality_len": [5, 70]}
    return errors(inputs, dropout_p=0.3, seed=3, mode="skip_tokens", **options)
