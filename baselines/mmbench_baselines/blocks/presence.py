"""Which samples of a batch have a modality: the one place where the values of `present` decide what runs.

A compiled method cannot look at values. Whoever compiles says which pattern every sample has, with
`assume_pattern`; a graph is then one of that pattern.
Axes: B batch, M modality.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_assumed: tuple[bool, ...] | None = None


@contextmanager
def assume_pattern(pattern: tuple[bool, ...]) -> Iterator[None]:
    """Promise that every sample of every batch has one pattern; `present` is then not looked at.

    Args:
        pattern: One bool a modality.
    """
    global _assumed
    before, _assumed = _assumed, pattern
    try:
        yield
    finally:
        _assumed = before


def rows_where(condition: Tensor) -> Tensor:
    """Return the int64 indices of the rows for which a (B,) bool condition holds."""
    return condition.nonzero().squeeze(1)


def rows_with(present: Tensor, column: int) -> Tensor:
    """Return the int64 indices of the samples that have a modality.

    Args:
        present: (B, M) bool.
        column: The modality's.
    """
    if _assumed is None:
        return rows_where(present[:, column])
    return torch.arange(len(present) if _assumed[column] else 0, device=present.device)


def rows_without(present: Tensor, column: int) -> Tensor:
    """Return the int64 indices of the samples that lack a modality; see `rows_with`."""
    if _assumed is None:
        return rows_where(~present[:, column])
    return torch.arange(0 if _assumed[column] else len(present), device=present.device)


def absent_pairs(present: Tensor, *, beside: int) -> Tensor:
    """Return the absent pairs, each at sample · M + modality, int64, whose sample has some others.

    Args:
        present: (B, M) bool.
        beside: How many modalities at least the sample has.
    """
    batch_size, count = present.shape
    if _assumed is None:
        return rows_where((~present & (present.sum(1, keepdim=True) >= beside)).flatten())
    absent = [column for column in range(count) if not _assumed[column] and sum(_assumed) >= beside]
    pairs = [sample * count + column for sample in range(batch_size) for column in absent]
    return torch.tensor(pairs, dtype=torch.int64, device=present.device)


def all_have(present: Tensor, column: int) -> bool:
    """Whether every sample has a modality; see `rows_with`."""
    return bool(present[:, column].all()) if _assumed is None else _assumed[column]


def each_has_one(present: Tensor) -> bool:
    """Whether every sample has some modality; see `rows_with`."""
    return bool(present.any(dim=1).all()) if _assumed is None else any(_assumed)


def subsets_of(present: Tensor) -> dict[tuple[bool, ...], Tensor]:
    """Return pattern -> the int64 indices of its samples, for the patterns that occur, in a fixed order.

    Args:
        present: (B, M) bool.
    """
    if _assumed is not None:
        return {_assumed: torch.arange(len(present), device=present.device)}
    codes = (present.long() << torch.arange(present.shape[1], device=present.device)).sum(1)  # (B,)
    return {
        tuple(bool(code >> column & 1) for column in range(present.shape[1])): rows_where(codes == code)
        for code in torch.unique(codes).tolist()
    }
