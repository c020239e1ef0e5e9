"""Attention over the tokens of all modalities in Triton, forward; backward is `modal_attention_backward`.

Nothing of size N x N leaves a program, and the key blocks of absent modalities are neither read nor computed.
Exponentials are powers of 2; a row's maximum is kept as its scores times log2(e).

Axes: B batch, H head, N token, D width of a head, M modality.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmbench_kernels._triton import _launch
from mmbench_kernels._triton._aot import AotCase
from mmbench_kernels._triton._attention_call import (
    Options,
    kernel_rows,
    precision,
    programs,
    stored_by_token,
    strides,
    without_padding,
)
from mmbench_kernels._triton._attention_configs import forward_config
from mmbench_kernels._triton._counter_hash import are_kept
from mmbench_kernels._triton._token_rows import (
    are_present,
    load_rows,
    next_run,
    program_place,
    read_presence,
    store_rows,
)

_LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit(do_not_specialize=["heads", "tokens", "slots", "threshold"])
def forward_kernel(
    q_ptr,  # (B, H, N, D)
    k_ptr,  # (B, H, N, D)
    v_ptr,  # (B, H, N, D)
    present_ptr,  # (B, M) uint8, or None: everything is present
    starts_ptr,  # (M,) int32, the first token of each modality, or None
    row_hashes_ptr,  # (B, H, N) int32, or None: nothing is dropped
    column_hashes_ptr,  # (B, H, N) int32, or None
    out_ptr,  # (B, N, H, D), written
    lse_ptr,  # (B, H, N) float32, written
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
    scale_log2,  # the absolute value of the scores' factor, times log2(e)
    sign,  # of the scores' factor, 1.0 or -1.0
    threshold,  # int32, see `are_kept`
    keep_scale,  # the factor of kept weights
    SKIPS_QUERIES: tl.constexpr,  # whether rows of absent modalities are zeros
    PRECISION: tl.constexpr,  # of products of float32
    BLOCK_M: tl.constexpr,  # queries of a program
    BLOCK_N: tl.constexpr,  # keys of a step
    WIDTH: tl.constexpr,  # D, a power of 2, 16 or more
):
    """Write the result and the logarithm of the denominator for BLOCK_M queries of one head."""
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
    q = load_rows(q_ptr, stride_qn, active, (BLOCK_M, WIDTH), True)
    q = (q * sign).to(q.dtype)  # then the largest score has the largest product
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    out = tl.zeros((BLOCK_M, WIDTH), tl.float32)
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
                candidates = products
                if tail:
                    candidates = tl.where(inside[None, :], products, float("-inf"))
                new_top = tl.maximum(top, tl.max(candidates, 1) * scale_log2)
                base = tl.where(new_top == float("-inf"), 0.0, new_top)
                exponents = products * scale_log2 - base[:, None]
                if tail:
                    exponents = tl.where(inside[None, :], exponents, float("-inf"))
                weights = tl.exp2(exponents)
                shrink = tl.exp2(top - base)
                total = total * shrink + tl.sum(weights, 1)
                if row_hashes_ptr is not None:
                    column_hashes = tl.load(column_hashes_ptr + keys, mask=inside, other=0)
                    kept = are_kept(row_hashes[:, None], column_hashes[None, :], threshold)
                    # A factor, not a choice: the compiler would move a choice behind the rounding to half
                    # precision, where it takes halves of registers apart.
                    weights *= kept.to(tl.float32)
                out = tl.dot(weights.to(v.dtype), v, out * shrink[:, None], input_precision=PRECISION)
                top = new_top
    some = active & (total > 0)
    total = tl.where(some, total, 1.0)
    out = tl.where(some[:, None], out * (keep_scale / total)[:, None], 0.0)
    store_rows(out_ptr, out, sample, head, rows, heads, tokens)
    lse = tl.where(some, (top + tl.log2(total)) * _LN_2, float("-inf"))
    tl.store(lse_ptr + line * tokens + rows, lse, mask=rows < tokens)


def attend(q: Tensor, k: Tensor, v: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    """Return the result, (B, H, N, D) stored as (B, N, H, D), and (B, H, N) logarithms of the denominators.

    Args:
        q: (B, H, N, D) float32, float16 or bfloat16, D at most 128, any strides.
        k: (B, H, N, D).
        v: (B, H, N, D).
        options: The rest.
    """
    lse = _launch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    if q.numel() == 0:
        return stored_by_token(q), lse
    width = q.shape[3]
    q, k, v = (kernel_rows(x) for x in (q, k, v))
    out = stored_by_token(q)
    config = forward_config(q.dtype, q.shape[3], precision(q.dtype, q.shape[3]))
    with _launch.on_device_of(q):
        forward_kernel[programs(q, config.constants["BLOCK_M"])](
            q_ptr=q,
            k_ptr=k,
            v_ptr=v,
            out_ptr=out,
            lse_ptr=lse,
            scale_log2=abs(options.scale) * math.log2(math.e),
            sign=math.copysign(1.0, options.scale),
            **strides("q", q),
            **strides("k", k),
            **strides("v", v),
            **options.arguments(q),
            **config.keywords(),
        )
    return without_padding(out, width), lse


def aot_cases() -> list[AotCase]:
    """Return every shipped configuration, those of backward too."""
    from mmbench_kernels._triton import _modal_attention_cases  # which imports this module

    return _modal_attention_cases.aot_cases()
