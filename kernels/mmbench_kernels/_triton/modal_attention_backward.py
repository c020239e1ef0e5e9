"""Attention over the tokens of all modalities in Triton, backward: three kernels, each output written once.

Weights are computed again from the scores and the stored logarithm of the denominator.

Axes: B batch, H head, N token, D width of a head, M modality.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmbench_kernels._triton import _launch
from mmbench_kernels._triton._attention_call import (
    Options,
    kernel_rows,
    precision,
    programs,
    stored_by_token,
    strides,
    without_padding,
)
from mmbench_kernels._triton._attention_configs import delta_config, key_value_config, query_config
from mmbench_kernels._triton._counter_hash import are_kept
from mmbench_kernels._triton._token_rows import (
    are_present,
    load_rows,
    next_run,
    program_place,
    read_presence,
    store_rows,
)

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["heads", "tokens"])
def delta_kernel(
    grad_out_ptr,  # (B, H, N, D)
    out_ptr,  # (B, H, N, D)
    grad_lse_ptr,  # (B, H, N) float32, or None: zeros
    delta_ptr,  # (B, H, N) float32, written
    stride_gb,
    stride_gh,
    stride_gn,
    stride_ob,
    stride_oh,
    stride_on,
    heads,  # H
    tokens,  # N
    BLOCK_M: tl.constexpr,  # queries of a program
    WIDTH: tl.constexpr,  # D, a power of 2, 16 or more
):
    """Write the sum over D of gradient times result, less the gradient to the logarithm."""
    line, sample, head, first_row = program_place(heads, tokens, BLOCK_M)
    rows = first_row + tl.arange(0, BLOCK_M)
    inside = rows < tokens
    grad_out_ptr += sample * stride_gb + head * stride_gh + first_row.to(tl.int64) * stride_gn
    out_ptr += sample * stride_ob + head * stride_oh + first_row.to(tl.int64) * stride_on
    grad_out = load_rows(grad_out_ptr, stride_gn, inside, (BLOCK_M, WIDTH), True)
    out = load_rows(out_ptr, stride_on, inside, (BLOCK_M, WIDTH), True)
    delta = tl.sum(grad_out.to(tl.float32) * out.to(tl.float32), 1)
    if grad_lse_ptr is not None:
        delta -= tl.load(grad_lse_ptr + line * tokens + rows, mask=inside, other=0.0)
    tl.store(delta_ptr + line * tokens + rows, delta, mask=inside)


@triton.jit(do_not_specialize=["heads", "tokens", "slots", "threshold"])
def grad_query_kernel(
    grad_out_ptr,  # (B, H, N, D)
    q_ptr,  # (B, H, N, D)
    k_ptr,  # (B, H, N, D)
    v_ptr,  # (B, H, N, D)
    lse_ptr,  # (B, H, N) float32
    delta_ptr,  # (B, H, N) float32
    present_ptr,  # (B, M) uint8, or None: everything is present
    starts_ptr,  # (M,) int32, the first token of each modality, or None
    row_hashes_ptr,  # (B, H, N) int32, or None: nothing is dropped
    column_hashes_ptr,  # (B, H, N) int32, or None
    grad_q_ptr,  # (B, N, H, D), written
    stride_gb,
    stride_gh,
    stride_gn,
    stride_qb,
    stride_qh,
    stride_qn,
    stride_kb,
    stride_kh,
    stride_kn,
    stride_vb,
    stride_vh,
    stride_vn,
    stride_pb,
    stride_pm,
    heads,  # H
    tokens,  # N
    slots,  # M
    scale,  # of the scores
    threshold,  # int32, see `are_kept`
    keep_scale,  # the factor of kept weights
    SKIPS_QUERIES: tl.constexpr,  # whether rows of absent modalities have no gradient
    PRECISION: tl.constexpr,  # of products of float32
    BLOCK_M: tl.constexpr,  # queries of a program
    BLOCK_N: tl.constexpr,  # keys of a step
    WIDTH: tl.constexpr,  # D, a power of 2, 16 or more
):
    """Write the gradient to BLOCK_M queries of one head, in steps over the keys."""
    line, sample, head, first_row = program_place(heads, tokens, BLOCK_M)
    rows = first_row + tl.arange(0, BLOCK_M)
    active = rows < tokens
    begin, end, runs = 0, tokens, 1
    if present_ptr is not None:
        bits, starts = read_presence(present_ptr, starts_ptr, sample, stride_pb, stride_pm, slots, tokens)
        runs, end = slots, 0
        if SKIPS_QUERIES:
            active = are_present(rows, bits, starts_ptr, slots, tokens)
            runs = tl.where(tl.max(active.to(tl.int32), 0) == 1, slots, 0)
    if row_hashes_ptr is not None:
        row_hashes = tl.load(row_hashes_ptr + line * tokens + rows, mask=active, other=0)
        column_hashes_ptr += line * tokens
    k_ptr += sample * stride_kb + head * stride_kh
    v_ptr += sample * stride_vb + head * stride_vh
    q_ptr += sample * stride_qb + head * stride_qh + first_row.to(tl.int64) * stride_qn
    grad_out_ptr += sample * stride_gb + head * stride_gh + first_row.to(tl.int64) * stride_gn
    q = load_rows(q_ptr, stride_qn, active, (BLOCK_M, WIDTH), True)
    grad_out = load_rows(grad_out_ptr, stride_gn, active, (BLOCK_M, WIDTH), True)
    # The weights of rows that are not there are 2 to the power of -inf.
    lse = tl.load(lse_ptr + line * tokens + rows, mask=active, other=float("inf")) * _LOG2_E
    delta = tl.load(delta_ptr + line * tokens + rows, mask=active, other=0.0)
    grad_q = tl.zeros((BLOCK_M, WIDTH), tl.float32)
    for slot in range(runs):
        if present_ptr is not None:
            begin, end = next_run(slot, bits, starts, end, tokens)
        whole = begin + (end - begin) // BLOCK_N * BLOCK_N
        for tail in tl.static_range(2):  # the blocks that the run fills, then what is left of it
            blocks = tl.minimum(end - whole, 1) if tail else (end - begin) // BLOCK_N
            for block in tl.range(blocks, num_stages=1 if tail else None):
                first = whole if tail else begin + block * BLOCK_N
                keys = first + tl.arange(0, BLOCK_N)
                inside = keys < end
                place = tl.cast(first, tl.int64)
                k = load_rows(k_ptr + place * stride_kn, stride_kn, inside, (BLOCK_N, WIDTH), tail)
                v = load_rows(v_ptr + place * stride_vn, stride_vn, inside, (BLOCK_N, WIDTH), tail)
                products = tl.dot(q, tl.trans(k), input_precision=PRECISION)
                exponents = products * (scale * _LOG2_E) - lse[:, None]
                if tail:
                    exponents = tl.where(inside[None, :], exponents, float("-inf"))
                weights = tl.exp2(exponents)
                grads = tl.dot(grad_out, tl.trans(v), input_precision=PRECISION)
                if row_hashes_ptr is not None:
                    column_hashes = tl.load(column_hashes_ptr + keys, mask=inside, other=0)
                    kept = are_kept(row_hashes[:, None], column_hashes[None, :], threshold)
                    grads = tl.where(kept, grads, 0.0)
                grads = weights * (grads * keep_scale - delta[:, None])
                grad_q = tl.dot(grads.to(k.dtype), k, grad_q, input_precision=PRECISION)
    grad_q = tl.where(active[:, None], grad_q * scale, 0.0)
    store_rows(grad_q_ptr, grad_q, sample, head, rows, heads, tokens)


@triton.jit(do_not_specialize=["heads", "tokens", "slots", "threshold"])
def grad_key_value_kernel(
    grad_out_ptr,  # (B, H, N, D)
    q_ptr,  # (B, H, N, D)
    k_ptr,  # (B, H, N, D)
    v_ptr,  # (B, H, N, D)
    lse_ptr,  # (B, H, N) float32
    delta_ptr,  # (B, H, N) float32
    present_ptr,  # (B, M) uint8, or None: everything is present
    starts_ptr,  # (M,) int32, the first token of each modality, or None
    row_hashes_ptr,  # (B, H, N) int32, or None: nothing is dropped
    column_hashes_ptr,  # (B, H, N) int32, or None
    grad_k_ptr,  # (B, N, H, D), written
    grad_v_ptr,  # (B, N, H, D), written
    stride_gb,
    stride_gh,
    stride_gn,
    stride_qb,
    stride_qh,
    stride_qn,
    stride_kb,
    stride_kh,
    stride_kn,
    stride_vb,
    stride_vh,
    stride_vn,
    stride_pb,
    stride_pm,
    heads,  # H
    tokens,  # N
    slots,  # M
    scale,  # of the scores
    threshold,  # int32, see `are_kept`
    keep_scale,  # the factor of kept weights
    SKIPS_QUERIES: tl.constexpr,  # whether rows of absent modalities have no gradient
    PRECISION: tl.constexpr,  # of products of float32
    BLOCK_M: tl.constexpr,  # queries of a step
    BLOCK_N: tl.constexpr,  # keys of a program
    WIDTH: tl.constexpr,  # D, a power of 2, 16 or more
):
    """Write the gradients to BLOCK_N keys and values of one head, in steps over the queries.

    The tiles are (keys, queries): what multiplies the gradient and the queries is then the left factor.
    """
    line, sample, head, first_key = program_place(heads, tokens, BLOCK_N)
    keys = first_key + tl.arange(0, BLOCK_N)
    active = keys < tokens
    begin, end, runs = 0, tokens, 1
    if present_ptr is not None:
        bits, starts = read_presence(present_ptr, starts_ptr, sample, stride_pb, stride_pm, slots, tokens)
        active = are_present(keys, bits, starts_ptr, slots, tokens)
        runs = tl.max(active.to(tl.int32), 0)
        if SKIPS_QUERIES:
            runs, end = runs * slots, 0
    if row_hashes_ptr is not None:
        column_hashes = tl.load(column_hashes_ptr + line * tokens + keys, mask=active, other=0)
        row_hashes_ptr += line * tokens
    lse_ptr += line * tokens
    delta_ptr += line * tokens
    q_ptr += sample * stride_qb + head * stride_qh
    grad_out_ptr += sample * stride_gb + head * stride_gh
    k_ptr += sample * stride_kb + head * stride_kh + first_key.to(tl.int64) * stride_kn
    v_ptr += sample * stride_vb + head * stride_vh + first_key.to(tl.int64) * stride_vn
    k = load_rows(k_ptr, stride_kn, active, (BLOCK_N, WIDTH), True)
    v = load_rows(v_ptr, stride_vn, active, (BLOCK_N, WIDTH), True)
    grad_k = tl.zeros((BLOCK_N, WIDTH), tl.float32)
    grad_v = tl.zeros((BLOCK_N, WIDTH), tl.float32)
    for slot in range(runs):
        if SKIPS_QUERIES and present_ptr is not None:
            begin, end = next_run(slot, bits, starts, end, tokens)
        whole = begin + (end - begin) // BLOCK_M * BLOCK_M
        for tail in tl.static_range(2):  # the blocks that the run fills, then what is left of it
            blocks = tl.minimum(end - whole, 1) if tail else (end - begin) // BLOCK_M
            for block in tl.range(blocks, num_stages=1 if tail else None):
                first = whole if tail else begin + block * BLOCK_M
                rows = first + tl.arange(0, BLOCK_M)
                inside = rows < end
                place = tl.cast(first, tl.int64)
                q = load_rows(q_ptr + place * stride_qn, stride_qn, inside, (BLOCK_M, WIDTH), tail)
                grad_out = load_rows(
                    grad_out_ptr + place * stride_gn, stride_gn, inside, (BLOCK_M, WIDTH), tail
                )
                # The weights of rows that are not there are 2 to the power of -inf.
                lse = tl.load(lse_ptr + rows, mask=inside, other=float("inf")) * _LOG2_E
                delta = tl.load(delta_ptr + rows, mask=inside, other=0.0)
                products = tl.dot(k, tl.trans(q), input_precision=PRECISION)
                weights = tl.exp2(products * (scale * _LOG2_E) - lse[None, :])
                grads = tl.dot(v, tl.trans(grad_out), input_precision=PRECISION)
                dropped = weights
                if row_hashes_ptr is not None:
                    row_hashes = tl.load(row_hashes_ptr + rows, mask=inside, other=0)
                    kept = are_kept(row_hashes[None, :], column_hashes[:, None], threshold)
                    factors = kept.to(tl.float32)  # and not a choice, as in forward
                    dropped = weights * factors
                    grads *= factors
                grads = weights * (grads * keep_scale - delta[None, :])
                grad_v = tl.dot(dropped.to(v.dtype), grad_out, grad_v, input_precision=PRECISION)
                grad_k = tl.dot(grads.to(k.dtype), q, grad_k, input_precision=PRECISION)
    grad_k = tl.where(active[:, None], grad_k * scale, 0.0)
    grad_v = tl.where(active[:, None], grad_v * keep_scale, 0.0)
    store_rows(grad_k_ptr, grad_k, sample, head, keys, heads, tokens)
    store_rows(grad_v_ptr, grad_v, sample, head, keys, heads, tokens)


def attend_backward(
    grad_out: Tensor,
    grad_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    options: Options,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients to q, k and v, each (B, H, N, D) stored as (B, N, H, D); see `attend`.

    Args:
        grad_out: (B, H, N, D), gradient to the result, any strides.
        grad_lse: (B, H, N), gradient to the logarithm of the denominator, or None.
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, D).
        out: (B, H, N, D), what `attend` returned.
        lse: (B, H, N), what `attend` returned.
        options: Those of `attend`.
    """
    if q.numel() == 0:
        return stored_by_token(q), stored_by_token(q), stored_by_token(q)
    width = q.shape[3]
    grad_out, q, k, v, out = (kernel_rows(x) for x in (grad_out, q, k, v, out))
    grads = stored_by_token(q), stored_by_token(q), stored_by_token(q)
    with _launch.on_device_of(q):
        shared = {
            "grad_out_ptr": grad_out,
            "q_ptr": q,
            "k_ptr": k,
            "v_ptr": v,
            "lse_ptr": lse.contiguous(),
            "delta_ptr": _delta(grad_out, out, grad_lse),
            "scale": options.scale,
            **strides("g", grad_out),
            **strides("q", q),
            **strides("k", k),
            **strides("v", v),
            **options.arguments(q),
        }
        config = query_config(q.dtype, q.shape[3], precision(q.dtype, q.shape[3]))
        grid = programs(q, config.constants["BLOCK_M"])
        grad_query_kernel[grid](grad_q_ptr=grads[0], **shared, **config.keywords())
        config = key_value_config(q.dtype, q.shape[3], precision(q.dtype, q.shape[3]))
        grid = programs(q, config.constants["BLOCK_N"])
        grad_key_value_kernel[grid](grad_k_ptr=grads[1], grad_v_ptr=grads[2], **shared, **config.keywords())
    grad_q, grad_k, grad_v = (without_padding(x, width) for x in grads)
    return grad_q, grad_k, grad_v


def _delta(grad_out: Tensor, out: Tensor, grad_lse: Tensor | None) -> Tensor:
    """Return (B, H, N) float32, see `delta_kernel`."""
    delta = _launch.empty(out.shape[:3], dtype=torch.float32, device=out.device)
    config = delta_config(out.shape[3])
    heads, tokens = out.shape[1:3]
    delta_kernel[programs(out, config.constants["BLOCK_M"])](
        grad_out_ptr=grad_out,
        out_ptr=out,
        grad_lse_ptr=None if grad_lse is None else grad_lse.contiguous(),
        delta_ptr=delta,
        heads=heads,
        tokens=tokens,
        **strides("g", grad_out),
        **strides("o", out),
        **config.keywords(),
    )
    return delta
