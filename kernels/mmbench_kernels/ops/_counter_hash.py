"""Dropout without a stored mask: whether an entry is kept is a hash of its place, in 32-bit integers.

Any device, tile size and order of work gives the same entries, and a backward pass asks again instead of
storing them. All arithmetic is modulo 2**32, unsigned unless said otherwise:

    mix(x):             x ^= x >> 16; x *= 0x85EBCA6B; x ^= x >> 13; x *= 0xC2B2AE35; x ^= x >> 16
    absorb(state, w):   mix((state ^ w) + 0x9E3779B9)
    head(b, h):         absorb(absorb(absorb(absorb(0, seed mod 2**32), seed >> 32), b), h)
    row(b, h, i):       absorb(absorb(head(b, h), 1), i)
    column(b, h, j):    absorb(absorb(head(b, h), 2), j)
    kept(b, h, i, j):   int32((row ^ column) * 0x9E3779B1) >= round(dropout_p * 2**32) - 2**31, both signed

The seed is an int64 taken modulo 2**64. Kept entries are divided by the probability that the threshold gives,
1 - round(dropout_p * 2**32) / 2**32; the rounded number is at most 2**32 - 1. Only the last line is done for
each pair: one xor, one multiplication, one comparison. Two rows of one head never have the same hash, for
`absorb` is a bijection of `w`.

Axes: B batch, H head, N token.
"""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 1 << 32
_GOLDEN = 0x9E3779B9
_PAIR_MULTIPLIER = 0x9E3779B1 - _WORD  # as a signed number
_ROW, _COLUMN = 1, 2


def drop_count(dropout_p: float) -> int:
    """Return how many of the 2**32 hashes drop an entry."""
    return min(round(dropout_p * _WORD), _WORD - 1)


def keep_scale(dropout_p: float) -> float:
    """Return the factor of kept entries, the inverse of the probability with which they are kept."""
    return _WORD / (_WORD - drop_count(dropout_p))


def line_hashes(seed: Tensor, sample: int, heads: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Return the hashes of the rows and of the columns of one sample, each (H, N) int32.

    Args:
        seed: int64, one number; its device is that of the result.
        sample: b.
        heads: H.
        tokens: N.
    """
    state = torch.zeros((1, 1), dtype=torch.int64, device=seed.device)
    for word in (seed & (_WORD - 1), (seed >> 32) & (_WORD - 1), sample, _count(heads, seed)[:, None]):
        state = _absorb(state, word)
    place = _count(tokens, seed)
    return tuple(_as_int32(_absorb(_absorb(state, line), place)) for line in (_ROW, _COLUMN))  # type: ignore[return-value]


def keep(rows: Tensor, columns: Tensor, dropout_p: float, *, out: Tensor) -> Tensor:
    """Write 1 where an entry is kept and 0 where it is dropped.

    Args:
        rows: (..., n) int32 hashes.
        columns: (..., m) int32 hashes.
        dropout_p: Probability of dropping an entry.
        out: (..., n, m) int32.
    """
    torch.bitwise_xor(rows[..., :, None], columns[..., None, :], out=out)
    return out.mul_(_PAIR_MULTIPLIER).ge_(drop_count(dropout_p) - _WORD // 2)


def _absorb(state: Tensor, word: Tensor | int) -> Tensor:
    x = ((state ^ word) + _GOLDEN) & (_WORD - 1)
    # int64 products wrap modulo 2**64, so their low 32 bits are right.
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & (_WORD - 1)
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & (_WORD - 1)
    return x ^ (x >> 16)


def _count(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, dtype=torch.int64, device=like.device)


def _as_int32(x: Tensor) -> Tensor:
    return torch.where(x < _WORD // 2, x, x - _WORD).to(torch.int32)
