"""Rows of tokens, for kernels that leave absent ones out: which there are, how they are read and written.

A slot is the place of a modality in the sequence. Availability is read from memory as one bit a slot: nothing
of size N is stored, and no kernel is compiled for a pattern.

Axes: B batch, H head, M modality, N token, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor

SLOTS = 16
"""How many modalities there may be."""

_SLOTS = tl.constexpr(SLOTS)


@triton.jit
def program_place(heads, tokens, BLOCK: tl.constexpr):
    """Return this program's line of the B · H heads, its sample and head, int64, and its first row, int32."""
    blocks = tl.cdiv(tokens, BLOCK)
    line = tl.program_id(0) // blocks
    return (
        line.to(tl.int64),
        (line // heads).to(tl.int64),
        (line % heads).to(tl.int64),
        tl.program_id(0) % blocks * BLOCK,
    )


@triton.jit
def read_presence(present_ptr, starts_ptr, sample, stride_sample, stride_slot, slots, tokens):
    """Return a sample's bits of presence, one a slot, and the first token of each of 16 slots.

    Args:
        present_ptr: (B, M) uint8, 1 where a modality is present.
        starts_ptr: (M,) int32, the first token of each slot.
        sample: Its row of `present`, int64.
        stride_sample: Of `present`.
        stride_slot: Of `present`.
        slots: M.
        tokens: N, the start of slots that there are not.
    """
    slot = tl.arange(0, _SLOTS)
    here = present_ptr + sample * stride_sample + slot * stride_slot
    present = tl.load(here, mask=slot < slots, other=0).to(tl.int32)
    starts = tl.load(starts_ptr + slot, mask=slot < slots, other=tokens)
    return tl.sum(present << slot, 0), starts


@triton.jit
def next_run(slot, bits, starts, covered, tokens):
    """Return begin and end of the run of present tokens from a slot on; the same where none begins there.

    Slots that stand together are one run, for each run costs a tail. What is before `covered`, the end of
    the run before, belongs to that.
    """
    slots = tl.arange(0, _SLOTS)
    begin = tl.maximum(tl.sum(tl.where(slots == slot, starts, 0), 0), covered)
    ends_it = (slots > slot) & (((bits >> slots) & 1) == 0)
    end = tl.maximum(tl.min(tl.where(ends_it, starts, tokens), 0), begin)
    return begin, tl.where(((bits >> slot) & 1) == 1, end, begin)


@triton.jit
def are_present(rows, bits, starts_ptr, slots, tokens):
    """Return which of (n,) rows, places in the sequence, belong to a present slot."""
    present = rows < 0
    for slot in range(slots):
        if ((bits >> slot) & 1) == 1:
            begin = tl.load(starts_ptr + slot)
            end = tl.load(starts_ptr + slot + 1, mask=slot + 1 < slots, other=tokens)
            present |= (begin <= rows) & (rows < end)
    return present


@triton.jit
def load_rows(corner, stride, inside, SHAPE: tl.constexpr, MASKED: tl.constexpr):
    """Return rows of (N, D).

    Args:
        corner: Pointer to column 0 of the first row.
        stride: Between rows.
        inside: Which rows to read if MASKED; the others are zeros.
        SHAPE: Rows and columns of the result.
        MASKED: Whether there are rows that may not be read.
    """
    places = corner + (tl.arange(0, SHAPE[0])[:, None] * stride + tl.arange(0, SHAPE[1])[None, :])
    return tl.load(places, mask=inside[:, None], other=0.0) if MASKED else tl.load(places)


@triton.jit
def store_rows(ptr, values, sample, head, rows, heads, tokens):
    """Write rows (n, D) of one head into (B, N, H, D), those that there are."""
    WIDTH: tl.constexpr = values.shape[1]
    corners = ptr + ((sample * tokens + rows) * heads + head) * WIDTH
    places = corners[:, None] + tl.arange(0, WIDTH)[None, :]
    tl.store(places, values.to(ptr.dtype.element_ty), mask=(rows < tokens)[:, None])


def slot_starts(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Return the first token of each slot, (M,) int32.

    Written by the device itself: a copy from the host would wait, and could not be captured in a graph.
    """
    if len(set(lengths)) == 1 and lengths[0]:
        return torch.arange(0, sum(lengths), lengths[0], dtype=torch.int32, device=device)
    starts = torch.empty(len(lengths), dtype=torch.int32, device=device)
    for slot, start in enumerate(accumulate(lengths[:-1], initial=0)):
        starts[slot].fill_(start)
    return starts
