"""`modal_attention` as operators of the dispatcher: `mmbench::modal_attention` and its backward.

One sample at a time, each with the tokens that it has: patterns may be mixed, and what else is in the batch
does not change a sample's bits.

Axes: B batch, H head, N token, D width of a head, M modality.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from mmbench_kernels.ops import _counter_hash
from mmbench_kernels.ops._registration import declare
from mmbench_kernels.ops._tiled_attention import Dropout, attend, attend_backward


def _samples(
    q: Tensor, present: Tensor | None, lengths: list[int], skips_queries: bool
) -> Iterator[tuple[int, Tensor | slice, Tensor | slice]]:
    """Yield each sample that has keys: its row of the batch, its queries' tokens and its keys'."""
    everything = slice(None)
    if present is not None:
        attended = present.repeat_interleave(torch.tensor(lengths, device=present.device), dim=1)  # (B, N)
    for sample in range(q.shape[0] if q.numel() else 0):
        if present is None:
            yield sample, everything, everything
        elif len(keys := attended[sample].nonzero().squeeze(1)):
            yield sample, keys if skips_queries else everything, keys


def _working_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _dropout_of(
    seed: Tensor | None,
    q: Tensor,
    sample: int,
    queries: Tensor | slice,
    keys: Tensor | slice,
    dropout_p: float,
) -> Dropout | None:
    if seed is None or dropout_p == 0:
        return None
    rows, columns = _counter_hash.line_hashes(seed, sample, q.shape[1], q.shape[2])
    return Dropout(rows[:, queries], columns[:, keys], dropout_p)


def _own(x: Tensor, sample: int, tokens: Tensor | slice) -> Tensor:
    """Return (H, n, D) of one sample, to compute with."""
    return x[sample][:, tokens].to(_working_dtype(x))


def _stored_by_token(x: Tensor) -> Tensor:
    """Return zeros (B, H, N, D), stored as (B, N, H, D)."""
    batch, heads, tokens, width = x.shape
    return x.new_zeros((batch, tokens, heads, width)).transpose(1, 2)


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    present: Tensor | None,
    lengths: list[int],
    skips_queries: bool,
    dropout_p: float,
    seed: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    out, lse = _stored_by_token(q), q.new_full(q.shape[:3], -math.inf, dtype=_working_dtype(q))
    for sample, queries, keys in _samples(q, present, lengths, skips_queries):
        dropout = _dropout_of(seed, q, sample, queries, keys, dropout_p)
        own_q, own_k, own_v = _own(q, sample, queries), _own(k, sample, keys), _own(v, sample, keys)
        result, logarithm = attend(own_q, own_k, own_v, scale, dropout)
        out[sample][:, queries] = result.to(out.dtype)
        lse[sample][:, queries] = logarithm
    return out, lse


def _backward(
    grad_out: Tensor,
    grad_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    present: Tensor | None,
    lengths: list[int],
    skips_queries: bool,
    dropout_p: float,
    seed: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    grads = _stored_by_token(q), _stored_by_token(q), _stored_by_token(q)
    for sample, queries, keys in _samples(q, present, lengths, skips_queries):
        dropout = _dropout_of(seed, q, sample, queries, keys, dropout_p)
        own_q, own_k, own_v = _own(q, sample, queries), _own(k, sample, keys), _own(v, sample, keys)
        grad = _own(grad_out, sample, queries)
        delta = (grad * _own(out, sample, queries)).sum(2)
        if grad_lse is not None:
            delta -= grad_lse[sample][:, queries]
        logarithm = lse[sample][:, queries]
        values = attend_backward(grad, delta, own_q, own_k, own_v, logarithm, scale, dropout)
        for target, tokens, value in zip(grads, (queries, keys, keys), values, strict=True):
            target[sample][:, tokens] = value.to(target.dtype)
    return grads


def _forward_fake(q: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    return _stored_by_token(q), q.new_empty(q.shape[:3], dtype=_working_dtype(q))


def _backward_fake(
    grad_out: Tensor, grad_lse: Tensor | None, q: Tensor, *arguments: Any
) -> tuple[Tensor, ...]:
    return _stored_by_token(q), _stored_by_token(q), _stored_by_token(q)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, present, ctx.lengths, ctx.skips_queries, ctx.dropout_p, seed, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, *output, present, seed)
    ctx.set_materialize_grads(False)


def declare_attention(
    name: str, forward: Callable[..., Any], backward: Callable[..., Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Declare `mmbench::NAME` and `mmbench::NAME_backward`, alike whatever computes them.

    Args:
        name: Of the operator.
        forward: (q, k, v, present, lengths, skips_queries, dropout_p, seed, scale) to the result,
            (B, H, N, D) stored as (B, N, H, D), and the logarithm of the denominator, (B, H, N). With
            `present` None nothing is absent; with `seed` None nothing is dropped.
        backward: (grad_out, grad_lse or None, q, k, v, result, logarithm, the options from `present` on) to
            the gradients to q, k and v, stored as the result.
    """
    options = "Tensor? present, int[] lengths, bool skips_queries, float dropout_p, Tensor? seed, float scale"
    run_backward = declare(
        f"{name}_backward(Tensor grad_out, Tensor? grad_lse, Tensor q, Tensor k, Tensor v, Tensor out, "
        f"Tensor lse, {options}) -> (Tensor, Tensor, Tensor)",
        backward,
        _backward_fake,
    )

    def differentiate(ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None) -> tuple[Any, ...]:
        q, k, v, out, lse, present, seed = ctx.saved_tensors
        if grad_out is None:
            grad_out = torch.zeros_like(out)
        given = present, ctx.lengths, ctx.skips_queries, ctx.dropout_p, seed, ctx.scale
        return *run_backward(grad_out, grad_lse, q, k, v, out, lse, *given), *(None for _ in given)

    run_forward = declare(
        f"{name}(Tensor q, Tensor k, Tensor v, {options}) -> (Tensor, Tensor)",
        forward,
        _forward_fake,
        backward=differentiate,
        setup_context=_save,
    )
    return run_forward, run_backward


modal_attention_forward, modal_attention_backward = declare_attention("modal_attention", _forward, _backward)
