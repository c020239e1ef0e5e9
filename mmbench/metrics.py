"""From a confusion matrix to IoU, F1, overall accuracy and kappa.

A confusion matrix has the truth in rows and the prediction in columns, int64 pixel counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Confusion = NDArray[np.int64]

_CHUNK_PIXELS = 2**20
"""Counted at a time: a tile has 36 million pixels, and counting takes 8 bytes for each."""


@dataclass(frozen=True)
class Scores:
    """Scores of one confusion matrix, in [0, 1]; None where a class (or everything) is absent from the truth.

    Attributes:
        miou: Mean IoU over the scored classes that occur in the truth.
        mf1: Mean F1 over the same.
        oa: Share of correct pixels over all classes.
        kappa: Cohen's kappa over all classes.
        iou: IoU of every class.
        f1: F1 of every class.
    """

    miou: float | None
    mf1: float | None
    oa: float | None
    kappa: float | None
    iou: tuple[float | None, ...]
    f1: tuple[float | None, ...]


def confusion_matrix(
    target: NDArray[np.integer], prediction: NDArray[np.integer], num_classes: int, ignore_index: int
) -> Confusion:
    """Count truth against prediction over the pixels that are not ignored.

    Args:
        target: Class indices in [0, K) or ignore_index, any shape.
        prediction: Class indices in [0, K), the same shape.
        num_classes: K.
        ignore_index: Target value that counts nowhere.

    Returns:
        (K, K) int64.

    Raises:
        ValueError: If the shapes differ or a class is out of range.
    """
    if target.shape != prediction.shape:
        raise ValueError(f"target is {target.shape}, prediction {prediction.shape}; expected equal shapes")
    counts = np.zeros(num_classes**2, dtype=np.int64)
    truths, guesses = target.reshape(-1), prediction.reshape(-1)
    for start in range(0, truths.size, _CHUNK_PIXELS):
        truth, guess = (values[start : start + _CHUNK_PIXELS] for values in (truths, guesses))
        valid = truth != ignore_index
        counts += _count_pairs(truth[valid], guess[valid], num_classes)
    return counts.reshape(num_classes, num_classes)


def _count_pairs(
    truth: NDArray[np.integer], guess: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """Return how often each truth x K + guess occurs."""
    for name, values in (("target", truth), ("prediction", guess)):
        if values.size and not (values.min() >= 0 and values.max() < num_classes):
            raise ValueError(
                f"{name} has classes {values.min()}..{values.max()}, expected 0..{num_classes - 1}"
            )
    # One byte a pixel where every pair fits: an eighth of the memory to move.
    kind = np.uint8 if num_classes**2 <= 256 else np.int64
    pairs = np.multiply(truth, num_classes, dtype=kind, casting="unsafe")
    np.add(pairs, guess, out=pairs, dtype=kind, casting="unsafe")
    return np.bincount(pairs, minlength=num_classes**2).astype(np.int64)


def scores(confusion: Confusion, scored_classes: Sequence[int]) -> Scores:
    """Compute every score of a confusion matrix (summed over tiles before, never averaged after).

    Args:
        confusion: (K, K) int64.
        scored_classes: The classes in the means; pixels predicted as any other class still count as errors.
    """
    total = int(confusion.sum())
    hits = np.diag(confusion).astype(np.float64)
    truth, guess = confusion.sum(1).astype(np.float64), confusion.sum(0).astype(np.float64)
    present = truth > 0
    iou = hits / np.where(present, truth + guess - hits, 1)
    f1 = 2 * hits / np.where(present, truth + guess, 1)
    counted = [k for k in scored_classes if present[k]]
    agreement = hits.sum() / total if total else None
    chance = float((truth * guess).sum()) / total**2 if total else None
    kappa = None
    if agreement is not None and chance is not None and chance < 1:
        kappa = float((agreement - chance) / (1 - chance))
    return Scores(
        miou=float(iou[counted].mean()) if counted else None,
        mf1=float(f1[counted].mean()) if counted else None,
        oa=None if agreement is None else float(agreement),
        kappa=kappa,
        iou=tuple(float(v) if p else None for v, p in zip(iou, present, strict=True)),
        f1=tuple(float(v) if p else None for v, p in zip(f1, present, strict=True)),
    )
