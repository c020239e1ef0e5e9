"""The figures of a leaderboard: what each module draws, filled with the scores of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
from matplotlib.figure import Figure

from mmbench.metrics import ClassMetric, class_scores
from mmbench.reporting.comparison import CLASS_METRICS
from mmbench.reporting.figures.classes import draw_classes
from mmbench.reporting.figures.curves import draw_curves, expected_curve, expected_rates
from mmbench.reporting.figures.ranks import bootstrap_ranks, draw_ranks
from mmbench.reporting.figures.scores import Interval, ScoreRow, draw_scores
from mmbench.reporting.figures.tradeoff import CostPoint, draw_tradeoff
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.matrices import MethodMatrices, ScoreBoard
from mmbench.reporting.robustness import MISSING_RATES
from mmbench.reporting.rows import CLASS_METRIC_NAMES, MEAN, METRIC_NAMES
from mmbench.statistics import LEVEL, Distribution, column_scorer, estimates, resample

_DRAWS = 2_000
"""An interval is a standard deviation, known to 2 % then."""
_MOST_CURVES = 14
"""Lines that one plot can hold and a reader tell apart."""


class BoardFigures:
    """Draws what can be drawn of one leaderboard: its complete rows."""

    def __init__(self, board: Leaderboard, matrices: ScoreBoard) -> None:
        """Resample seeds and tiles, once for all figures.

        Args:
            board: Has at least one row.
            matrices: Of the records of its rows.
        """
        self._board, self._matrices = board, matrices
        score = column_scorer(board.metric, matrices.scored_classes)
        methods = [matrices.method(row.label) for row in board.rows]
        self._resampled = [resample(m.counts, m.seeds, score, draws=_DRAWS) for m in methods]
        self._intervals = [_intervals(matrices, distribution) for distribution in self._resampled]

    def draw(self) -> dict[str, Figure]:
        """Return the figures by name; one that its rows give nothing for is left out."""
        drawers: dict[str, Callable[[], Figure | None]] = {
            "scores": self._scores,
            "expected": self._expected,
            "ranks": self._ranks,
            "tradeoff": self._tradeoff,
            "classes": self._classes,
        }
        drawn = {name: draw() for name, draw in drawers.items()}
        return {name: figure for name, figure in drawn.items() if figure is not None}

    @cached_property
    def _names(self) -> list[str]:
        """What the rows are called: by their methods, with the options only where that leaves two alike."""
        methods = [row.method for row in self._board.rows]
        return [row.method if methods.count(row.method) == 1 else row.label for row in self._board.rows]

    @property
    def _metric(self) -> str:
        return METRIC_NAMES[self._board.metric]

    @property
    def _basis(self) -> str:
        """What was drawn for the intervals, in words."""
        found = [e for d in self._resampled for e in estimates(d) if e is not None]
        return found[0].basis if found else "nothing"

    def _below(self, *words: str) -> str:
        """Return where the scores come from, what is special to a figure, and what keeps it from ranking."""
        caveat = f"not for a leaderboard: {self._board.unranked}" if self._board.unranked else ""
        mixed = "rows were made by different versions of the code" if self._board.mixed_code else ""
        return "; ".join(part for part in (self._board.conditions, *words, caveat, mixed) if part)

    def _scores(self) -> Figure | None:
        """Draw scores by scenario, and their mean where there are several."""
        scenarios = self._matrices.scenarios
        columns = (*scenarios, MEAN) if len(scenarios) > 1 else scenarios
        rows = [ScoreRow(name, found) for name, found in zip(self._names, self._intervals, strict=True)]
        return draw_scores(
            rows,
            columns,
            title=f"{self._metric} by scenario",
            below=self._below(f"lines: {LEVEL * 100:g} % intervals from {self._basis}"),
            axis=f"{self._metric} (%)",
        )

    def _expected(self) -> Figure | None:
        """Draw the expected score over the rate at which modalities are missing."""
        if len(self._board.modalities) < 2:
            return None
        found = [
            expected_curve(name, self._scenario_scores(intervals), self._board.modalities)
            for name, intervals in zip(self._names, self._intervals, strict=True)
        ]
        curves = [curve for curve in found if curve is not None]
        if not curves:
            return None
        shown = curves[:_MOST_CURVES]
        some = f"the first {len(shown)} of {len(curves)} rows" if len(shown) < len(curves) else ""
        return draw_curves(
            shown,
            expected_rates(),
            title="Expected score where modalities are missing",
            below=self._below("each modality is missing independently, never all of them", some),
            axis=f"expected {self._metric} (%)",
            marked=MISSING_RATES,
        )

    def _scenario_scores(self, intervals: Mapping[str, Interval]) -> dict[str, float]:
        """Return scenario -> score of one row, without mean and worst."""
        return {s: intervals[s].value for s in self._matrices.scenarios if s in intervals}

    def _ranks(self) -> Figure | None:
        """Draw the ranks by mean score, and the groups that a test found."""
        column = self._matrices.columns.index(MEAN)
        draws = np.stack([d.draws[:, column] for d in self._resampled], axis=1)
        if draws.shape[1] < 2 or not np.isfinite(draws).all():
            return None
        standing = self._board.standings.get(MEAN, {})
        named = list(zip(self._names, self._board.rows, strict=True))
        groups = [[name for name, row in named if standing.get(row.label) == n] for n in (1, 2)]
        shown = [group for group in groups if len(group) > 1]
        bars = (
            "thick bars: not told from the best of them by a test, which unlike the draws allows for how few "
            "seeds and tiles there are"
        )
        return draw_ranks(
            self._names,
            bootstrap_ranks(draws),
            title="How sure is the order?",
            below=self._below(
                f"ranks by mean {self._metric} in {len(draws)} draws of {self._basis}",
                "pale bars: how often a method has a rank; line: 95 % of the draws",
                bars if shown else "",
            ),
            groups=shown,
        )

    def _tradeoff(self) -> Figure | None:
        """Draw mean scores over the FLOP of a forward, or the parameters where a row does not hold it."""
        counted = all(row.flops for row in self._board.rows)
        points = [
            CostPoint(name, cost, found[MEAN].value, found[MEAN].low, found[MEAN].high)
            for name, row, found in zip(self._names, self._board.rows, self._intervals, strict=True)
            if MEAN in found and (cost := (row.flops or 0) / 1e9 if counted else row.parameters / 1e6) > 0
        ]
        if not points:
            return None
        return draw_tradeoff(
            points,
            title="Accuracy against cost",
            below=self._below(f"lines: {LEVEL * 100:g} % intervals from {self._basis}"),
            cost_axis="GFLOP of a window, all modalities (log scale)"
            if counted
            else "parameters (M, log scale)",
            score_axis=f"mean {self._metric} (%)",
        )

    def _classes(self) -> Figure | None:
        """Draw the scores of every class, means over seeds."""
        metric = CLASS_METRICS[self._board.metric]
        classes, scored = self._matrices.classes, self._matrices.scored_classes
        by_scenario = {
            scenario: {
                name: _class_means(self._matrices.method(row.label), metric, number)
                for name, row in zip(self._names, self._board.rows, strict=True)
            }
            for number, scenario in enumerate(self._matrices.scenarios)
        }
        return draw_classes(
            by_scenario,
            classes,
            title=f"{CLASS_METRIC_NAMES[metric]} (%) of every class",
            below=self._below(
                "means over seeds; bold: the best of a column", "in brackets: not in the means"
            ),
            unscored=[name for number, name in enumerate(classes) if number not in scored],
        )


def _intervals(matrices: ScoreBoard, distribution: Distribution) -> dict[str, Interval]:
    """Return column -> score and interval in %, without those that are undefined."""
    found = {}
    for column, estimate in zip(matrices.columns, estimates(distribution), strict=True):
        if estimate is not None:
            low, high = estimate.interval() or (None, None)
            bounds = [None if end is None else 100 * end for end in (low, high)]
            found[column] = Interval(100 * estimate.value, *bounds)
    return found


def _class_means(method: MethodMatrices, metric: ClassMetric, scenario: int) -> list[float | None]:
    """Return the score of each class over all tiles in %, the mean over seeds; None where it is absent."""
    values = class_scores(method.counts.sum(1)[:, scenario], metric).mean(0)
    return [None if np.isnan(value) else 100 * float(value) for value in values]
