"""From a confusion matrix to IoU, F1, overall accuracy and kappa.

A confusion matrix has the truth in rows and the prediction in columns, int64 pixel counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Confusion = NDArray[np.int64]
Counts = NDArray[np.float64]
"""Hits, truth and guess of each class, (..., 3, K); see `marginals`."""
Metric = Literal["miou", "mf1", "oa", "kappa"]
ClassMetric = Literal["iou", "f1"]
METRICS: tuple[Metric, ...] = get_args(Metric)
CLASS_METRICS: tuple[ClassMetric, ...] = get_args(ClassMetric)

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
    counts = marginals(confusion)
    pooled = {metric: _defined(pooled_score(counts, metric, scored_classes)) for metric in METRICS}
    by_class = {name: tuple(map(_defined, class_scores(counts, name))) for name in CLASS_METRICS}
    return Scores(**pooled, **by_class)  # type: ignore[arg-type]


def marginals(confusions: NDArray[np.integer]) -> Counts:
    """Return what the scores need of confusion matrices: of each class the hits, the truth and the guesses.

    They add up as the matrices do, so (weighted) sums over tiles may be taken of them, at half the cost.

    Args:
        confusions: (..., K, K), the truth in rows.

    Returns:
        (..., 3, K) float64: hits, truth, guess. Exact, as pixel counts stay below 2^53.
    """
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    return np.stack([hits, confusions.sum(-1), confusions.sum(-2)], axis=-2).astype(np.float64)


def class_scores(counts: Counts, metric: ClassMetric) -> NDArray[np.float64]:
    """Compute the IoU or F1 of every class.

    Args:
        counts: (..., 3, K), see `marginals`.
        metric: "iou" or "f1".

    Returns:
        (..., K) in [0, 1]; NaN where the class is absent from the truth.
    """
    hits, truth, guess = np.moveaxis(counts, -2, 0)
    present = truth > 0
    found, pixels = (hits, truth + guess - hits) if metric == "iou" else (2 * hits, truth + guess)
    return np.where(present, found / np.where(present, pixels, 1), np.nan)


def pooled_score(counts: Counts, metric: Metric, scored_classes: Sequence[int]) -> NDArray[np.float64]:
    """Compute one score of many matrices at once.

    Args:
        counts: (..., 3, K), see `marginals`.
        metric: One of `METRICS`.
        scored_classes: The classes in the means; one that is absent from the truth is left out, and as all
            methods have the same truth, for all of them.

    Returns:
        (...) in [0, 1] (kappa from -1); NaN where nothing is there to score.
    """
    if metric in ("miou", "mf1"):
        values = class_scores(counts[..., list(scored_classes)], "iou" if metric == "miou" else "f1")
        present = np.isfinite(values)
        number = present.sum(-1)
        mean = np.where(present, values, 0.0).sum(-1) / np.maximum(number, 1)
        return np.where(number > 0, mean, np.nan)
    hits, truth, guess = np.moveaxis(counts, -2, 0)
    total = truth.sum(-1)
    divisor = np.where(total > 0, total, np.nan)
    agreement = hits.sum(-1) / divisor
    if metric == "oa":
        return np.asarray(agreement)
    chance = (truth * guess).sum(-1) / divisor**2
    return np.asarray((agreement - chance) / np.where(chance < 1, 1 - chance, np.nan))


def _defined(value: NDArray[np.float64] | float) -> float | None:
    """Return a score as a number, None for NaN."""
    return None if np.isnan(value) else float(value)
