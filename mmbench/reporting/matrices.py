"""The confusion matrices of several methods, side by side: what intervals and tests are made of.

Axes: S seeds, T tiles, C scenarios, K classes (truth in rows, prediction in columns).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import DataError
from mmbench.metrics import Counts, marginals
from mmbench.records import Record
from mmbench.reporting.rescoring import policy_confusions
from mmbench.reporting.rows import MEAN, WORST, label_of
from mmbench.statistics import Scorer


@dataclass(frozen=True)
class MethodMatrices:
    """What one method (with its options) scored.

    Attributes:
        label: As in a leaderboard.
        seeds: In rising order.
        matrices: (S, T, C, K, K) int64 pixel counts.
    """

    label: str
    seeds: tuple[int, ...]
    matrices: NDArray[np.int64]

    @property
    def counts(self) -> Counts:
        """What the scores need of the matrices, (S, T, C, 3, K); see `metrics.marginals`."""
        return marginals(self.matrices)

    def of_seeds(self, seeds: Sequence[int]) -> MethodMatrices:
        """Return the part of some of the seeds.

        Args:
            seeds: In rising order, each among those there are.
        """
        chosen = [self.seeds.index(seed) for seed in seeds]
        return MethodMatrices(self.label, tuple(seeds), self.matrices[chosen])

    def tile_scores(self, score: Scorer) -> NDArray[np.float64]:
        """Return the figures of each tile by itself, means over seeds, (T, X); NaN where one is undefined."""
        return np.asarray(score(self.counts).mean(0))


@dataclass(frozen=True)
class ScoreBoard:
    """Methods that were scored on the same pixels.

    Attributes:
        tiles: T names.
        scenarios: C names.
        classes: K names.
        scored_classes: Numbers of the classes in the means.
        methods: In the order of their first records.
    """

    tiles: tuple[str, ...]
    scenarios: tuple[str, ...]
    classes: tuple[str, ...]
    scored_classes: tuple[int, ...]
    methods: tuple[MethodMatrices, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """What `statistics.column_scorer` scores: the scenarios, then their mean and the worst of them."""
        return (*self.scenarios, MEAN, WORST)

    def method(self, label: str) -> MethodMatrices:
        """Return one method by its label, which must be there."""
        return next(method for method in self.methods if method.label == label)


def load_matrices(results: Path, records: Sequence[Record], policy: str | None = None) -> ScoreBoard:
    """Read the matrices of some records and check that they can be held against each other.

    Args:
        results: Folder of the records.
        records: Finished ones of one leaderboard; one for each method (with its options) and seed.
        policy: One of `rescoring.LABEL_POLICIES`; None is that of the records' scores.

    Raises:
        DataError: If there is none, matrices are missing or damaged or lack the policy, or two records differ
            in tiles, scenarios, classes or in what the truth is.
        ValueError: If two records are of one method and seed.
    """
    if not records:
        raise DataError(
            f"no finished records in {results}; expected those of 'mmbench run --results {results}'"
        )
    first = records[0]
    for record in records[1:]:
        _check_alike(first, record)
    read = [
        np.stack([found[name] for name in first.scenarios], axis=1)
        for found in (policy_confusions(results, record, policy) for record in records)
    ]
    truth = read[0][:, :1].sum(-1)  # (T, 1, K)
    for record, matrices in zip(records, read, strict=True):
        if not np.array_equal(matrices.sum(-1), np.broadcast_to(truth, matrices.shape[:-1])):
            raise DataError(
                f"record {record.id} ({label_of(record)}, seed {record.identity['seed']}) and record "
                f"{first.id} differ in how many pixels of a tile belong to a class; expected the same truth. "
                "'mmbench results verify' says which of them is damaged"
            )
    return ScoreBoard(
        tiles=tuple(first.tiles),
        scenarios=tuple(first.scenarios),
        classes=tuple(first.classes),
        scored_classes=tuple(first.scored_classes),
        methods=_by_method(records, read),
    )


def reason_of(error: DataError, results: Path) -> str:
    """Say why matrices cannot be used, without where they lie here: what is made of it goes elsewhere.

    Args:
        error: Its reason.
        results: Folder of the records.
    """
    return str(error).replace(f"{results}{os.sep}", "")


def _check_alike(first: Record, record: Record) -> None:
    """Refuse two records whose matrices do not stand for the same things."""
    for what in ("tiles", "classes", "scored_classes"):
        came, expected = getattr(record, what), getattr(first, what)
        if came != expected:
            raise DataError(
                f"record {record.id} has {what} {came}, record {first.id} {expected}; expected the same"
            )
    if set(record.scenarios) != set(first.scenarios):
        raise DataError(
            f"record {record.id} has the scenarios {', '.join(record.scenarios)}, record {first.id} "
            f"{', '.join(first.scenarios)}; run the cell that lacks some again"
        )


def _by_method(records: Sequence[Record], read: Sequence[NDArray[np.int64]]) -> tuple[MethodMatrices, ...]:
    """Put the matrices of each method's seeds together."""
    found: dict[str, dict[int, NDArray[np.int64]]] = {}
    for record, matrices in zip(records, read, strict=True):
        seed, of_label = record.identity["seed"], found.setdefault(label_of(record), {})
        if seed in of_label:
            raise ValueError(f"two records of {label_of(record)}, seed {seed}; expected one")
        of_label[seed] = matrices
    return tuple(
        MethodMatrices(label, tuple(sorted(by_seed)), np.stack([by_seed[seed] for seed in sorted(by_seed)]))
        for label, by_seed in found.items()
    )
