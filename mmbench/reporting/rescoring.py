"""Scores under another label policy, from the stored matrices; nothing is run again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import DataError
from mmbench.metrics import scores
from mmbench.records import Record, read_confusions

FIVE_CLASS = "five-class"
LABEL_POLICIES = ("eroded", "full", FIVE_CLASS)
"""Labels without the borders of objects, as the protocol tests; all; the first without unscored classes."""


def rescored(results: Path, records: Sequence[Record], policy: str) -> list[Record]:
    """Return records whose scores are those of a label policy; failed ones stay as they are.

    Args:
        results: Folder of the records and their matrices.
        records: Of this folder.
        policy: One of `LABEL_POLICIES`.

    Raises:
        DataError: If the matrices of a record are missing or damaged, or lack the policy.
    """
    return [_rescored(results, record, policy) if record.status == "done" else record for record in records]


def without_unscored_truth(matrices: NDArray[np.int64], scored_classes: Sequence[int]) -> NDArray[np.int64]:
    """Drop the pixels whose truth is a class that is not scored; predictions of it still count as errors.

    Args:
        matrices: (..., K, K) int64, the truth in rows.
        scored_classes: The classes in the means.

    Returns:
        (..., K, K) int64, new.
    """
    kept = np.zeros(matrices.shape[-1], dtype=bool)
    kept[list(scored_classes)] = True
    return np.where(kept[:, None], matrices, 0)


def policy_confusions(results: Path, record: Record, policy: str | None) -> dict[str, NDArray[np.int64]]:
    """Read the matrices of a finished record under a label policy, scenario -> (tiles, K, K) int64.

    Args:
        results: Folder of the record.
        record: Whose matrices.
        policy: One of `LABEL_POLICIES`; None is that of the record's scores.

    Raises:
        DataError: If they are missing or damaged, or lack the policy.
    """
    if policy != FIVE_CLASS:
        return read_confusions(results, record, policy)
    if len(record.scored_classes) == len(record.classes):
        raise DataError(
            f"record {record.id}: every class is scored, so there is nothing to leave out; "
            "choose --labels eroded"
        )
    return {
        name: without_unscored_truth(matrices, record.scored_classes)
        for name, matrices in read_confusions(results, record).items()
    }


def _rescored(results: Path, record: Record, policy: str) -> Record:
    """Return a record with the scores of its matrices under a policy."""
    found = policy_confusions(results, record, policy)
    scenarios = {name: asdict(scores(m.sum(0), record.scored_classes)) for name, m in found.items()}
    return record.model_copy(update={"scenarios": scenarios})
