"""Resampling: scores of many matrices are those of each, draws are paired and repeatable, words honest."""

import time

import numpy as np
import pytest

from mmbench.metrics import METRICS, class_scores, marginals, pooled_score, scores
from mmbench.statistics import Estimate, class_scorer, column_scorer, estimates, resample

MATRICES = np.random.default_rng(0).integers(0, 1000, (3, 5, 2, 4, 4))  # seeds, tiles, scenarios, K, K
SCORED = (0, 1, 2)
SCORE = column_scorer("miou", SCORED)


@pytest.mark.parametrize("metric", METRICS)
def test_scores_of_many_matrices_at_once_are_those_of_each(metric):
    found = pooled_score(marginals(MATRICES), metric, SCORED)
    for place in np.ndindex(*found.shape):
        assert found[place] == getattr(scores(MATRICES[place], SCORED), metric)


def test_a_class_that_is_absent_from_the_truth_is_left_out_of_the_mean_and_has_no_score_of_its_own():
    matrix = np.array([[4, 0, 1], [0, 5, 0], [0, 0, 0]])
    counts = marginals(np.stack([matrix, np.zeros((3, 3), int)]))
    assert pooled_score(counts, "miou", (0, 1, 2)) == pytest.approx([(4 / 5 + 1) / 2, np.nan], nan_ok=True)
    assert class_scores(counts, "iou")[0] == pytest.approx([4 / 5, 1, np.nan], nan_ok=True)


@pytest.mark.parametrize("metric", METRICS)
def test_the_columns_are_the_scenarios_then_their_mean_and_worst_within_a_seed(metric):
    distribution = resample(marginals(MATRICES), (0, 1, 2), column_scorer(metric, SCORED), draws=2)
    by_seed = np.array(
        [
            [getattr(scores(m, SCORED), metric) for m in np.moveaxis(of_seed, 1, 0).sum(1)]
            for of_seed in MATRICES
        ]
    )
    expected = [*by_seed.mean(0), by_seed.mean(1).mean(), by_seed.min(1).mean()]
    assert distribution.estimate == pytest.approx(expected, abs=1e-12)


def test_a_scenario_without_a_score_does_not_enter_mean_and_worst():
    counts = marginals(MATRICES).copy()
    counts[:, :, 1] = 0
    full, none, mean, worst = resample(counts, (0, 1, 2), SCORE, draws=2).estimate
    assert np.isnan(none)
    assert full == mean == worst


def test_classes_are_scored_in_a_scenario_or_by_their_mean_and_worst_over_all():
    counts = marginals(MATRICES.sum((0, 1)))  # (C, 3, K)
    by_scenario = class_scores(counts, "f1")
    for column, expected in enumerate([*by_scenario, by_scenario.mean(0), by_scenario.min(0)]):
        assert class_scorer("f1", column, 2)(counts) == pytest.approx(expected)


def test_a_draw_sums_matrices_before_it_scores_them():
    # Two tiles: a draw of one of them must give the score of that tile alone, whatever the other is.
    counts = marginals(MATRICES[:1, :2])
    alone = SCORE(counts[0])
    draws = resample(counts, (0,), SCORE, draws=50).draws
    for draw in draws:
        assert any(np.allclose(draw, of_tile, atol=1e-12) for of_tile in alone)
    assert len(np.unique(draws[:, 0].round(12))) == 2


def test_the_same_call_gives_the_same_draws_and_another_seed_others():
    counts = marginals(MATRICES)
    first, again, other = (resample(counts, (0, 1, 2), SCORE, draws=20, generator_seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.draws, again.draws)
    assert not np.array_equal(first.draws, other.draws)


def test_methods_with_the_same_seeds_share_every_draw_so_equal_methods_never_differ():
    counts = marginals(MATRICES)
    difference = resample(counts, (0, 1, 2), SCORE, draws=20) - resample(counts, (0, 1, 2), SCORE, draws=20)
    assert not difference.draws.any()
    (estimate, *_) = estimates(difference)
    assert (estimate.value, estimate.interval(), estimate.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_other_seeds_are_drawn_apart_but_tiles_together():
    counts = marginals(MATRICES)
    difference = resample(counts, (0, 1, 2), SCORE, draws=20) - resample(counts, (3, 4, 5), SCORE, draws=20)
    assert difference.seed_draws.any()
    assert not difference.tile_draws.any()


def test_as_many_tiles_minus_one_are_drawn_so_that_the_variance_is_that_of_a_mean():
    # One class, seeds alike, tiles of equal size: the score is a mean, whose standard error is known.
    share = np.random.default_rng(3).uniform(0.2, 0.9, 9)
    hits = np.rint(1000 * share)
    matrices = np.zeros((1, 9, 1, 2, 2), dtype=np.int64)
    matrices[0, :, 0, 0, 0], matrices[0, :, 0, 0, 1] = hits, 1000 - hits
    (accuracy, *_) = estimates(resample(marginals(matrices), (0,), column_scorer("oa", (0,)), draws=20_000))
    expected = (hits / 1000).std(ddof=1) / np.sqrt(9)
    assert accuracy.standard_error == pytest.approx(expected, rel=0.02)
    assert accuracy.freedom == 8


def test_of_a_single_seed_only_tiles_are_drawn_and_the_words_say_so():
    counts = marginals(MATRICES)
    (one_seed, *_) = estimates(resample(counts[:1], (0,), SCORE, draws=20))
    assert one_seed.seed_error == 0
    assert "5 tiles only: with one seed" in one_seed.basis
    (one_tile, *_) = estimates(resample(counts[:, :1], (0, 1, 2), SCORE, draws=20))
    assert one_tile.tile_error == 0
    assert "3 seeds only: with one tile" in one_tile.basis
    (neither, *_) = estimates(resample(counts[:1, :1], (0,), SCORE, draws=20))
    assert (neither.standard_error, neither.interval(), neither.p_value) == (None, None, None)


def test_interval_and_p_value_follow_from_t_worked_by_hand():
    # 4 degrees of freedom: t = 2.776 at 95 %, and a value of 2.776 errors has p = 0.05.
    estimate = Estimate(2.776 * 0.5, 0.5, 0.5, 0.0, num_tiles=5, num_seeds=1)
    assert estimate.interval() == pytest.approx((0.0, 2.776), abs=1e-3)
    assert estimate.p_value == pytest.approx(0.05, abs=1e-4)


def test_degrees_of_freedom_are_satterthwaites():
    # (4 + 1)^2 / (4^2 / 7 + 1^2 / 2), with variances of 4 from 8 tiles and 1 from 3 seeds.
    assert Estimate(0, 2.3, 2.0, 1.0, num_tiles=8, num_seeds=3).freedom == pytest.approx(
        25 / (16 / 7 + 1 / 2)
    )


def test_an_undefined_figure_has_no_estimate():
    assert estimates(resample(marginals(MATRICES * 0), (0, 1, 2), SCORE, draws=3)) == [None] * 4


def test_seeds_must_be_as_many_as_the_counts():
    with pytest.raises(ValueError, match="counts of 3 seeds"):
        resample(marginals(MATRICES), (0, 1), SCORE)


def test_other_tiles_cannot_be_subtracted():
    counts = marginals(MATRICES)
    with pytest.raises(ValueError, match="the same draws, figures and tiles"):
        resample(counts, (0, 1, 2), SCORE, draws=3) - resample(counts[:, :4], (0, 1, 2), SCORE, draws=3)


def test_ten_thousand_draws_of_ten_methods_five_seeds_and_seventeen_tiles_take_seconds():
    matrices = np.random.default_rng(0).integers(0, 10**6, (10, 5, 17, 3, 6, 6))
    start = time.process_time()
    for of_method in matrices:
        resample(marginals(of_method), range(5), column_scorer("miou", range(5)), draws=10_000)
    assert time.process_time() - start < 10
