"""Whether a stream of LZW codes can be decoded at all.

A decoder that trusts its codes reads outside its table on a damaged stream, which ends the process instead of
raising. The widths of codes depend only on how many came since the table was cleared, so a whole run of them
is checked at once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CLEAR, _END = 256, 257
_FIRST_FREE = 258
_MAX_WIDTH = 12
_TABLE = 1 << _MAX_WIDTH


def check_lzw(data: bytes) -> None:
    """Refuse a TIFF LZW stream with a code that stands for nothing yet.

    Args:
        data: One strip or tile as it stands in the file.

    Raises:
        ValueError: If it does not begin by clearing the table, holds such a code, or overfills the table.
    """
    offsets, widths, largest = _runs()
    padded = np.frombuffer(data + bytes(4), np.uint8)
    position, end = 0, 8 * len(data)
    if end < 9 or _codes(padded, np.array([0]), np.array([9]))[0] != _CLEAR:
        raise ValueError("its LZW codes do not begin with one that clears the table")
    while position + 9 <= end:
        count = int(np.searchsorted(offsets + widths, end - position, side="right"))
        codes = _codes(padded, position + offsets[:count], widths[:count])
        special = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        stop = int(special[0]) if special.size else count
        if (codes[:stop] > largest[:stop]).any():
            raise ValueError("it holds an LZW code that stands for nothing")
        if special.size == 0:
            if count == len(offsets):
                raise ValueError("its LZW table is full and never cleared")
            return
        if codes[stop] == _END:
            return
        position += int(offsets[stop] + widths[stop])


@cache
def _runs() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return of each code after a clearing one: first bit, width in bits, largest that is defined."""
    order = np.arange(_TABLE - _FIRST_FREE + 2)
    # The table has all that came before the last; the code may name the entry that is just being made.
    largest = np.where(order == 0, _CLEAR - 1, _FIRST_FREE - 1 + order)
    # TIFF widens its codes one entry early.
    widths = np.clip(np.ceil(np.log2(_FIRST_FREE + order + 1)), 9, _MAX_WIDTH).astype(np.int64)
    return np.concatenate([[0], np.cumsum(widths)[:-1]]), widths, largest


def _codes(padded: NDArray[np.uint8], bits: NDArray[Any], widths: NDArray[Any]) -> NDArray[np.int64]:
    """Return the codes that begin at some bits, most significant bit first."""
    first = bits >> 3
    word = sum(padded[first + i].astype(np.int64) << (24 - 8 * i) for i in range(4))
    result: NDArray[np.int64] = (word >> (32 - (bits & 7) - widths)) & ((1 << widths) - 1)
    return result
