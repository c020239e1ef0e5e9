"""The hash of `ops/_counter_hash.py` in Triton, bit for bit: which entries of a softmax matrix are dropped.

The hashes of rows and columns are stored, 8 bytes a token: threads that hold a piece of the softmax matrix
each need the hashes of many rows or columns, and to absorb a place again in each of them costs more
instructions than the attention itself.

Axes: B batch, H head, N token.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmbench_kernels._triton import _launch

_GOLDEN = tl.constexpr(0x9E3779B9)
_PAIR_MULTIPLIER = tl.constexpr(0x9E3779B1)
_CONFIG = _launch.Config({"BLOCK": 256}, num_warps=4)


@triton.jit
def _absorb(state, word):
    """Return uint32 states after one more word, uint32 or int64 below 2**32."""
    x = (state ^ word.to(tl.uint32)) + _GOLDEN
    x = (x ^ (x >> 16)) * 0x85EBCA6B
    x = (x ^ (x >> 13)) * 0xC2B2AE35
    return x ^ (x >> 16)


@triton.jit(do_not_specialize=["heads", "tokens"])
def line_hashes_kernel(
    seed_ptr,  # (), int64
    rows_ptr,  # (B, H, N) int32, written
    columns_ptr,  # (B, H, N) int32, written
    heads,  # H
    tokens,  # N
    BLOCK: tl.constexpr,
):
    """Write the hashes of the rows and columns of all heads; a program has BLOCK places of one head."""
    blocks = tl.cdiv(tokens, BLOCK)
    line = tl.program_id(0) // blocks  # of the B · H heads
    places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    seed = tl.load(seed_ptr)
    state = _absorb(tl.zeros((), tl.uint32), seed & 0xFFFFFFFF)
    state = _absorb(state, (seed >> 32) & 0xFFFFFFFF)
    state = _absorb(_absorb(state, line // heads), line % heads)
    rows = _absorb(_absorb(state, tl.full((), 1, tl.uint32)), places)
    columns = _absorb(_absorb(state, tl.full((), 2, tl.uint32)), places)
    where = line.to(tl.int64) * tokens + places
    tl.store(rows_ptr + where, rows.to(tl.int32, bitcast=True), mask=places < tokens)
    tl.store(columns_ptr + where, columns.to(tl.int32, bitcast=True), mask=places < tokens)


@triton.jit
def are_kept(rows, columns, threshold):
    """Return which pairs are kept.

    Args:
        rows: int32 hashes.
        columns: int32 hashes that broadcast with them.
        threshold: int32, the least hash of a kept pair.
    """
    product = (rows ^ columns).to(tl.uint32, bitcast=True) * _PAIR_MULTIPLIER
    return product.to(tl.int32, bitcast=True) >= threshold


def line_hashes(seed: Tensor, batch: int, heads: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Return the hashes of the rows and of the columns, each (B, H, N) int32.

    Args:
        seed: int64, one number; its device is that of the result.
        batch: B, not 0.
        heads: H, not 0.
        tokens: N, not 0.
    """
    rows, columns = _launch.empty((2, batch, heads, tokens), dtype=torch.int32, device=seed.device).unbind(0)
    grid = (batch * heads * _launch.ceil_div(tokens, _CONFIG.constants["BLOCK"]),)
    with _launch.on_device_of(seed):
        line_hashes_kernel[grid](seed, rows, columns, heads, tokens, **_CONFIG.keywords())
    return rows, columns
