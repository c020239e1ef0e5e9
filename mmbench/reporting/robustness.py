"""What one number says of all scenarios: expected score, retained share, drop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmbench.metrics import Metric
from mmbench.reporting.rows import Row, SeedResult
from mmbench.statistics import Summary, summarise

MISSING_RATES = (0.05, 0.1, 0.2, 0.5)
"""Of the expected score; the protocol's."""


@dataclass(frozen=True)
class Robustness:
    """Of one row, each figure within a seed first, then over the seeds; in %.

    Attributes:
        expected: One for each of `MISSING_RATES`; None where a scenario has no score.
        retained: Mean score with a modality missing over that with all; None also where that is not > 0.
        drop: The latter less the former, in points.
    """

    expected: tuple[Summary | None, ...]
    retained: Summary | None
    drop: Summary | None


def robustness(row: Row, metric: Metric, modalities: Sequence[str]) -> Robustness:
    """Summarise a row over its scenarios.

    Args:
        row: With a score of every scenario.
        metric: Which score.
        modalities: Of the data set; a scenario's name says which of them are present.
    """
    seeds = [
        {
            name: values[metric] * 100
            for name, values in result.scenarios.items()
            if values[metric] is not None
        }
        for result in row.results
    ]
    expected = [[expected_score(scores, modalities, rate) for scores in seeds] for rate in MISSING_RATES]
    pairs = [(scores.get("full"), _mean_missing(scores)) for scores in seeds]
    retained = [100 * left / full if full and full > 0 and left is not None else None for full, left in pairs]
    drop = [full - left if full is not None and left is not None else None for full, left in pairs]
    return Robustness(tuple(map(_summary, expected)), _summary(retained), _summary(drop))


def _defined(result: SeedResult, metric: Metric) -> dict[str, float]:
    """Return the scores of a seed by scenario, in %."""
    found = {name: values[metric] for name, values in result.scenarios.items()}
    return {name: value * 100 for name, value in found.items() if value is not None}


def expected_score(scores: Mapping[str, float], modalities: Sequence[str], rate: float) -> float | None:
    """Return the expected score where each modality is missing with some probability, independently.

    Having none is left out: the probabilities of the other subsets are scaled to 1.

    Args:
        scores: Scenario -> score.
        modalities: Of the data set.
        rate: Probability in [0, 1) that a modality is missing.

    Returns:
        In the unit of the scores; None unless every non-empty subset has one.
    """
    if len(scores) < 2 ** len(modalities) - 1:
        return None
    weights = {name: _probability(name, len(modalities), rate) for name in scores}
    return sum(weights[name] * value for name, value in scores.items()) / sum(weights.values())


def _probability(scenario: str, modalities: int, rate: float) -> float:
    """Return how probable it is that exactly the modalities of a scenario are there."""
    present = modalities if scenario == "full" else scenario.count("+") + 1
    probability: float = rate ** (modalities - present) * (1 - rate) ** present
    return probability


def _mean_missing(scores: Mapping[str, float]) -> float | None:
    """Return the mean over the scenarios in which something is missing."""
    values = [value for name, value in scores.items() if name != "full"]
    return sum(values) / len(values) if values else None


def _summary(values: Sequence[float | None]) -> Summary | None:
    """Summarise over seeds, unless one has no value."""
    known = [value for value in values if value is not None]
    return summarise(known) if known and len(known) == len(values) else None
