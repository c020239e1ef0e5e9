"""Scores of resampled seeds and tiles: matrices are summed with drawn weights, then scored.

Every seed is scored on the same tiles, so a draw holds some seeds and some tiles and takes every pair of them
(seeds do not get tiles of their own: then what is hard about a tile would seem to average out over seeds). Of
n seeds or tiles, n - 1 are drawn: with n the variance comes out too small by (n - 1) / n, a third for three
seeds (Rao and Wu, Resampling inference with complex survey data, 1988). What is neither of the seed nor of
the tile but of one seed on one tile is counted once for seeds, once for tiles and once for both: where that
noise dominates, the spread is too large, never too small (Owen, The pigeonhole bootstrap, 2007).

Axes: R draws, S seeds, T tiles, C scenarios, K classes, X figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmbench.metrics import Counts
from mmbench.statistics.scorers import Scorer

DEFAULT_DRAWS = 10_000
_CHUNK_NUMBERS = 2**18
"""Of summed counts held at a time: what fits a cache is scored twice as fast as what does not."""
_TILES, _SEEDS = 0, 1
"""First words of the generators' keys: tiles and seeds are drawn apart."""


@dataclass(frozen=True)
class Distribution:
    """A method's figures, or the difference of two methods', and what resampling makes of them.

    Attributes:
        estimate: (X,) mean over seeds of the figures of the whole split.
        draws: (R, X) with seeds and tiles drawn.
        tile_draws: (R, X) with tiles drawn and every seed as it is.
        seed_draws: (R, X) with seeds drawn and every tile as it is.
        num_tiles: T; with one nothing can be drawn of tiles.
        num_seeds: S, the smaller number in a difference; with one nothing can be drawn of seeds.
    """

    estimate: NDArray[np.float64]
    draws: NDArray[np.float64]
    tile_draws: NDArray[np.float64]
    seed_draws: NDArray[np.float64]
    num_tiles: int
    num_seeds: int

    def __sub__(self, other: Distribution) -> Distribution:
        """Return the difference, draw by draw; both must be resampled with the same draws of tiles.

        Raises:
            ValueError: If they cannot be.
        """
        if self.draws.shape != other.draws.shape or self.num_tiles != other.num_tiles:
            raise ValueError(
                f"draws x figures are {self.draws.shape} over {self.num_tiles} tiles and {other.draws.shape} "
                f"over {other.num_tiles}; expected the same draws, figures and tiles"
            )
        return Distribution(
            self.estimate - other.estimate,
            self.draws - other.draws,
            self.tile_draws - other.tile_draws,
            self.seed_draws - other.seed_draws,
            self.num_tiles,
            min(self.num_seeds, other.num_seeds),
        )


def resample(
    counts: Counts,
    seeds: Sequence[int],
    score: Scorer,
    *,
    draws: int = DEFAULT_DRAWS,
    generator_seed: int = 0,
) -> Distribution:
    """Resample one method's seeds and tiles.

    The draws of tiles depend on `generator_seed` and the number of tiles alone, those of seeds also on which
    seeds there are. So two methods with the same seeds are paired in both, whatever else is resampled.

    Args:
        counts: (S, T, C, 3, K), see `metrics.marginals`.
        seeds: Of the cells, S of them.
        score: Turns sums over tiles into figures.
        draws: R.
        generator_seed: Of the draws.

    Raises:
        ValueError: If the number of seeds is not that of the counts.
    """
    num_seeds, num_tiles = counts.shape[:2]
    if len(seeds) != num_seeds:
        raise ValueError(f"counts of {num_seeds} seeds, and the seeds {tuple(seeds)}; expected as many")
    tile_weights = _draw_weights(num_tiles, draws, [generator_seed, _TILES])
    seed_weights = _draw_weights(num_seeds, draws, [generator_seed, _SEEDS, *seeds])
    whole = _figures(counts, np.ones((1, num_tiles)), score)[0]  # (S, X)
    drawn = _figures(counts, tile_weights, score)  # (R, S, X)
    return Distribution(
        estimate=whole.mean(0),
        draws=np.einsum("rs,rsx->rx", seed_weights, drawn) / seed_weights.sum(1, keepdims=True),
        tile_draws=drawn.mean(1),
        seed_draws=seed_weights @ whole / seed_weights.sum(1, keepdims=True),
        num_tiles=num_tiles,
        num_seeds=num_seeds,
    )


def _draw_weights(number: int, draws: int, key: Sequence[int]) -> NDArray[np.float64]:
    """Return how often each of n is among n - 1 drawn with replacement, (R, n); of one, that one."""
    if number == 1:
        return np.ones((draws, 1))
    generator = np.random.default_rng(list(key))
    return generator.multinomial(number - 1, np.full(number, 1 / number), size=draws).astype(np.float64)


def _figures(counts: Counts, weights: NDArray[np.float64], score: Scorer) -> NDArray[np.float64]:
    """Return the figures of every seed under every weighting of the tiles, (R, S, X)."""
    by_tile = np.moveaxis(counts, 1, 0)
    flat = by_tile.reshape(len(by_tile), -1)
    step = max(1, _CHUNK_NUMBERS // flat.shape[1])
    return np.concatenate(
        [
            score((weights[start : start + step] @ flat).reshape(-1, *by_tile.shape[1:]))
            for start in range(0, len(weights), step)
        ]
    )
