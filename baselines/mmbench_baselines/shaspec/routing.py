"""Which rows ShaSpec encodes, and which row stands for each modality of each sample.

A row is one modality's image of one sample; rows are ordered by modality, then by sample.
Axes: B batch, M modality, R row, A pair of sample and modality whose substitute is a mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mmbench_baselines.blocks.presence import absent_pairs, rows_with

Substitute = Literal["mean", "first"]


@dataclass(frozen=True)
class Routing:
    """The way from rows to the (B·M) pairs of a batch; a pair is at sample · M + modality.

    Attributes:
        samples: For each modality, the samples whose image is encoded, int64.
        own: (B·M,) int64, the pair's own row; where it is not encoded, the first present modality's.
        substitute: (B·M,) int64, the own row of a present pair, the first present one's of an absent pair.
        averaged: (A,) int64, the absent pairs that take the mean of several rows instead.
        sources: (A, M) int64, the rows in that mean.
        shares: (A, M) float, their shares; 0 for absent modalities.
    """

    samples: list[Tensor]
    own: Tensor
    substitute: Tensor
    averaged: Tensor
    sources: Tensor
    shares: Tensor

    def substituted(self, rows: Tensor) -> Tensor:
        """Return what each pair has or, where it is absent, takes: (R, …) to (B·M, …)."""
        taken = rows.index_select(0, self.substitute)
        if not len(self.averaged):
            return taken
        shares = self.shares.to(rows.dtype)
        mean = torch.zeros_like(taken[: len(self.averaged)])
        for modality in range(shares.shape[1]):
            share = shares[:, modality].view(-1, *[1] * (rows.ndim - 1))
            mean = mean + share * rows.index_select(0, self.sources[:, modality])
        return taken.index_copy(0, self.averaged, mean)


def route(present: Tensor, *, skip_absent: bool, substitute: Substitute) -> Routing:
    """Plan a batch.

    Args:
        present: (B, M) bool, at least one per sample.
        skip_absent: Whether absent modalities get no row.
        substitute: What an absent modality takes: the "mean" of the sample's present ones or the "first".
    """
    batch_size, count = present.shape
    encoded = present if skip_absent else torch.ones_like(present)
    row = (encoded.T.flatten().cumsum(0) - 1).view(count, batch_size).T  # (B, M)
    first = row.gather(1, present.int().argmax(1, keepdim=True))  # (B, 1)
    from_first = torch.where(present, row, first)
    available = present.sum(1, keepdim=True)
    averaged = absent_pairs(present, beside=2 if substitute == "mean" else count)
    sample = averaged // count
    return Routing(
        samples=[
            rows_with(present, column) if skip_absent else torch.arange(batch_size, device=present.device)
            for column in range(count)
        ],
        own=torch.where(encoded, row, first).flatten(),
        substitute=from_first.flatten(),
        averaged=averaged,
        sources=from_first[sample],
        shares=(present / available)[sample],
    )
