"""Intervals, tests, groups and floors keep their promises where the truth is known, because it is made.

Every case draws methods, seeds and tiles anew from a world in which tiles are hard or easy for all, a method
suits some tiles and not others, a training ends well or badly, and a cell has noise of its own.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import norm

from mmbench.metrics import marginals, pooled_score
from mmbench.statistics import (
    column_scorer,
    estimates,
    holm,
    resample,
    resolvable_difference,
    swap_tiles,
    tie_groups,
)

CLASSES = 3
PIXELS = 20_000
DRAWS = 200
SCORE = column_scorer("miou", range(CLASSES))


@dataclass(frozen=True)
class World:
    """How far accuracies lie apart, as standard deviations of their logit."""

    taste: float = 0.0  # of a method on a tile, the same for all its seeds
    luck: float = 0.0  # of a training, the same on all tiles
    noise: float = 0.0  # of one training on one tile
    hardness: float = 0.5  # of a tile, the same for all

    def counts(self, generator, gaps, num_seeds, num_tiles):
        """(N, S, T, 1, 3, K) of N methods whose mean logits differ by `gaps`."""
        shape = (len(gaps), num_seeds, num_tiles)
        logits = (
            1.2
            + np.reshape(gaps, (-1, 1, 1))
            + generator.normal(0, self.hardness, (1, 1, num_tiles))
            + generator.normal(0, self.taste, (len(gaps), 1, num_tiles))
            + generator.normal(0, self.luck, (len(gaps), num_seeds, 1))
            + generator.normal(0, self.noise, shape)
        )
        truth = generator.dirichlet([3] * CLASSES, num_tiles) * PIXELS
        return _counts(logits, truth)

    def difference(self, gap):
        """The difference of mean scores that the gap makes with endless tiles and seeds."""
        generator = np.random.default_rng(1)
        num_tiles = 2000
        spread = np.hypot(self.taste, self.noise)
        lucky = self.luck * norm.ppf((np.arange(20) + 0.5) / 20)
        shared = 1.2 + generator.normal(0, np.hypot(self.hardness, spread), num_tiles)
        logits = np.reshape([gap, 0.0], (2, 1, 1)) + lucky[:, None] + shared
        counts = _counts(logits, generator.dirichlet([3] * CLASSES, num_tiles) * PIXELS)
        first, second = pooled_score(counts.sum(2)[:, :, 0], "miou", range(CLASSES)).mean(1)
        return first - second


def _counts(logits, truth):
    """Counts of matrices in which the right class is found with a probability, else any other alike."""
    right = 1 / (1 + np.exp(-logits))[..., None, None]
    hit = np.eye(CLASSES, dtype=bool)
    matrices = truth[:, :, None] * np.where(hit, right, (1 - right) / (CLASSES - 1))
    return marginals(np.rint(matrices).astype(np.int64)[..., None, :, :])


def _difference(counts, generator_seed):
    """The distribution of the first method's score minus the second's."""
    seeds = range(counts.shape[1])
    first, second = (resample(c, seeds, SCORE, draws=DRAWS, generator_seed=generator_seed) for c in counts)
    return first - second


def _repeat(world, gaps, num_seeds, num_tiles, times):
    """Yield (number of the repetition, counts) of studies that were each made anew."""
    for number in range(times):
        generator = np.random.default_rng([number, num_seeds, num_tiles])
        yield number, world.counts(generator, gaps, num_seeds, num_tiles)


@pytest.mark.parametrize(
    ("world", "num_seeds", "num_tiles", "at_most"),
    [
        (World(taste=0.3), 3, 4, 0.99),
        (World(taste=0.3), 5, 17, 0.98),
        (World(luck=0.3), 3, 8, 0.98),
        (World(taste=0.2, luck=0.2, noise=0.1), 3, 8, 0.99),
        (World(taste=0.2, luck=0.2, noise=0.1), 5, 17, 0.99),
        # Noise of single cells is counted three times over: wide, but never too narrow.
        (World(noise=0.3), 5, 17, 1.0),
    ],
)
def test_95_percent_intervals_hold_the_true_difference_in_95_percent_of_studies(
    world, num_seeds, num_tiles, at_most
):
    true, times = world.difference(0.4), 300
    held = 0
    for number, counts in _repeat(world, [0.4, 0.0], num_seeds, num_tiles, times):
        low, high = estimates(_difference(counts, number))[0].interval()
        held += low <= true <= high
    # Three standard deviations of the share of 300 studies are 3.8 points.
    assert 0.912 <= held / times <= at_most


def test_percentiles_of_the_draws_would_hold_it_too_rarely_with_three_seeds():
    held, world, times = 0, World(luck=0.3), 300
    true = world.difference(0.4)
    for number, counts in _repeat(world, [0.4, 0.0], 3, 8, times):
        low, high = np.quantile(_difference(counts, number).draws[:, 0], [0.025, 0.975])
        held += low <= true <= high
    assert held / times < 0.9


def test_one_seed_cannot_know_how_trainings_differ_and_its_intervals_are_too_narrow():
    held, world, times = 0, World(taste=0.1, luck=0.3), 200
    for number, counts in _repeat(world, [0.0, 0.0], 1, 17, times):
        low, high = estimates(_difference(counts, number))[0].interval()
        held += low <= 0 <= high
    assert held / times < 0.5


@pytest.mark.parametrize(("num_seeds", "num_tiles"), [(3, 8), (5, 17)])
def test_swapping_tiles_finds_a_difference_where_there_is_none_in_5_percent_of_studies(num_seeds, num_tiles):
    world, times = World(taste=0.3, noise=0.1), 400
    found = [
        swap_tiles(*counts, SCORE, draws=200, generator_seed=number).p_values[0]
        for number, counts in _repeat(world, [0.0, 0.0], num_seeds, num_tiles, times)
    ]
    assert 0.01 <= np.mean(np.array(found) <= 0.05) <= 0.083  # 5 % and three standard deviations
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.08)


def test_swapping_tiles_finds_a_planted_difference():
    found = [
        swap_tiles(*counts, SCORE, draws=200).p_values[0]
        for _, counts in _repeat(World(taste=0.2, noise=0.1), [0.4, 0.0], 3, 17, 50)
    ]
    assert np.mean(np.array(found) <= 0.05) > 0.95


def _top_group(counts, generator_seed):
    """The top group of several methods, as a table finds it."""
    seeds = range(counts.shape[1])
    drawn = [resample(c, seeds, SCORE, draws=DRAWS, generator_seed=generator_seed) for c in counts]
    pairs = list(combinations(range(len(counts)), 2))
    p_values = [estimates(drawn[a] - drawn[b])[0].p_value for a, b in pairs]
    separated = np.zeros((len(counts),) * 2, dtype=bool)
    for (a, b), p_value in zip(pairs, holm(p_values), strict=True):
        separated[a, b] = separated[b, a] = p_value < 0.05
    return tie_groups([d.estimate[0] for d in drawn], separated).top


def test_of_five_equal_methods_one_leaves_the_top_group_in_at_most_5_percent_of_studies():
    times = 120
    split = sum(
        len(_top_group(counts, number)) < 5
        for number, counts in _repeat(World(taste=0.2, luck=0.1), [0.0] * 5, 5, 17, times)
    )
    assert split / times <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / times)


def test_the_top_group_holds_the_equals_and_not_the_clearly_worse():
    times, right = 30, 0
    for number, counts in _repeat(World(taste=0.2, luck=0.1), [0.8, 0.8, 0.0, 0.0], 5, 17, times):
        right += set(_top_group(counts, number)) == {0, 1}
    assert right / times > 0.85


def test_a_difference_as_large_as_the_floor_is_found_in_80_percent_of_studies():
    world, times = World(taste=0.3), 300
    floors = [
        resolvable_difference(estimates(_difference(counts, number))[0])
        for number, counts in _repeat(world, [0.0, 0.0], 3, 17, 100)
    ]
    floor = float(np.sqrt(np.mean(np.square(floors))))
    gap = 0.1
    for _ in range(4):  # towards the gap whose difference is the floor
        gap *= floor / world.difference(gap)
    found = sum(
        estimates(_difference(counts, number))[0].p_value < 0.05
        for number, counts in _repeat(world, [gap, 0.0], 3, 17, times)
    )
    assert found / times == pytest.approx(0.8, abs=0.08)
