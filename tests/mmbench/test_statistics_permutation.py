"""Swapping tiles between two methods, against every swap written out and the sign flips of a mean."""

import itertools

import numpy as np
import pytest

from mmbench.metrics import marginals, scores
from mmbench.statistics import column_scorer, swap_tiles, tile_contributions

SCORE = column_scorer("miou", (0, 1))
FIRST, SECOND = np.random.default_rng(5).integers(0, 500, (2, 2, 5, 1, 3, 3))  # two seeds, five tiles


def _difference(first, second):
    """The difference of mIoU, mean over seeds, of matrices (S, T, K, K) summed over tiles."""
    return np.mean(
        [
            scores(a, (0, 1)).miou - scores(b, (0, 1)).miou
            for a, b in zip(first.sum(1), second.sum(1), strict=True)
        ]
    )


def test_the_p_value_is_the_share_of_swaps_with_a_difference_as_large_written_out():
    first, second = FIRST[:, :, 0], SECOND[:, :, 0]
    observed, as_large = abs(_difference(first, second)), 0
    for swapped in itertools.product((False, True), repeat=5):
        chosen = np.array(swapped)[None, :, None, None]
        found = _difference(np.where(chosen, second, first), np.where(chosen, first, second))
        as_large += abs(found) >= observed - 1e-12
    test = swap_tiles(marginals(FIRST), marginals(SECOND), SCORE)
    assert test.exact
    assert test.p_values[0] == as_large / 2**5
    assert test.difference[0] == pytest.approx(_difference(first, second))


def test_for_a_mean_of_equal_tiles_it_is_the_sign_flip_test():
    hits = np.array([[900, 800, 700, 640, 810, 760], [850, 820, 600, 600, 790, 700]])
    matrices = np.zeros((2, 1, 6, 1, 2, 2), dtype=np.int64)
    matrices[:, 0, :, 0, 0, 0], matrices[:, 0, :, 0, 0, 1] = hits, 1000 - hits
    differences = hits[0] - hits[1]
    flips = np.array(list(itertools.product((1, -1), repeat=6)))
    expected = np.mean(np.abs(flips @ differences) >= abs(differences.sum()))
    test = swap_tiles(*marginals(matrices), column_scorer("oa", (0,)))
    assert test.p_values[0] == expected


def test_equal_methods_have_p_1_and_a_difference_on_every_tile_the_smallest_p():
    counts = marginals(FIRST)
    assert swap_tiles(counts, counts, SCORE).p_values == pytest.approx(1.0)
    better = np.zeros((1, 8, 1, 2, 2), dtype=np.int64)
    better[..., 0, 0], better[..., 1, 1] = 90, 90
    better[..., 0, 1] = better[..., 1, 0] = 10
    worse = better[..., ::-1]
    test = swap_tiles(marginals(better), marginals(worse), SCORE)
    assert test.p_values[0] == test.smallest == 2 / 2**8


def test_many_tiles_are_swapped_at_random_with_the_observed_one_counted_and_the_same_every_time():
    first, second = np.random.default_rng(1).integers(0, 500, (2, 1, 40, 1, 3, 3))
    first = first + 400 * np.eye(3, dtype=int)
    test, again = (swap_tiles(marginals(first), marginals(second), SCORE, draws=99) for _ in range(2))
    assert not test.exact
    assert test.p_values[0] == test.smallest == 1 / 100
    assert np.array_equal(test.p_values, again.p_values)


def test_random_swaps_come_close_to_all_swaps(monkeypatch):
    first, second = np.random.default_rng(2).integers(0, 500, (2, 1, 10, 1, 3, 3))
    exact = swap_tiles(marginals(first), marginals(second), SCORE)
    monkeypatch.setattr("mmbench.statistics.permutation._MOST_EXACT_TILES", 0)
    drawn = swap_tiles(marginals(first), marginals(second), SCORE)
    assert exact.exact
    assert not drawn.exact
    assert drawn.p_values[0] == pytest.approx(exact.p_values[0], abs=0.02)


def test_an_undefined_score_has_no_p_value():
    counts = marginals(FIRST * 0)
    assert np.isnan(swap_tiles(counts, counts, SCORE).p_values).all()


def test_contributions_of_a_mean_are_its_terms_and_add_up_to_the_difference():
    hits = np.array([[900, 800, 700], [850, 820, 600]])
    matrices = np.zeros((2, 1, 3, 1, 2, 2), dtype=np.int64)
    matrices[:, 0, :, 0, 0, 0], matrices[:, 0, :, 0, 0, 1] = hits, 1000 - hits
    found = tile_contributions(*marginals(matrices), column_scorer("oa", (0,)))
    assert found[:, 0] == pytest.approx([50 / 3000, -20 / 3000, 100 / 3000])


def test_contributions_of_a_pooled_score_add_up_to_the_difference_nearly():
    found = tile_contributions(marginals(FIRST), marginals(SECOND), SCORE)[:, 0]
    assert found.sum() == pytest.approx(_difference(FIRST[:, :, 0], SECOND[:, :, 0]), rel=0.05)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="the same seeds and tiles"):
        swap_tiles(marginals(FIRST), marginals(SECOND[:1]), SCORE)
