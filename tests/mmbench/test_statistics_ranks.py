"""Friedman and Nemenyi against scipy, Demšar's published example and tables, and where they do not hold."""

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from mmbench.statistics import compare_ranks, nemenyi_distance

# AUC of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets: Demšar 2006, table 6. In the last row but one he
# ranks two values that he prints as 0.975 second and third, so they differ before rounding.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_demsars_example_gives_his_average_ranks_and_critical_distance():
    found = compare_ranks(DEMSAR)
    assert found.average_ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.critical_distance == pytest.approx(1.25, abs=5e-3)
    # He has chi-square = 9.28 without a correction for ties, here there is one: it can only be larger.
    uncorrected = 12 * 14 / (4 * 5) * (np.sum(found.average_ranks**2) - 4 * 5**2 / 4)
    assert uncorrected == pytest.approx(9.28, abs=5e-3)
    assert found.chi_square == pytest.approx(friedmanchisquare(*DEMSAR.T).statistic)
    assert found.chi_square > uncorrected
    assert found.p_value < 0.05
    assert not found.reason


@pytest.mark.parametrize(
    ("num_methods", "published"),
    [
        (2, 1.960),
        (3, 2.343),
        (4, 2.569),
        (5, 2.728),
        (6, 2.850),
        (7, 2.949),
        (8, 3.031),
        (9, 3.102),
        (10, 3.164),
    ],
)
def test_the_critical_values_are_those_of_demsars_table_5(num_methods, published):
    blocks = 20
    unit = np.sqrt(num_methods * (num_methods + 1) / (6 * blocks))
    assert nemenyi_distance(num_methods, blocks) / unit == pytest.approx(published, abs=2e-3)


@pytest.mark.parametrize("seed", range(5))
def test_the_statistic_is_scipys_with_and_without_ties(seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 8 if seed % 2 else 10**6, (15, 5))
    assert compare_ranks(scores).chi_square == pytest.approx(friedmanchisquare(*scores.T).statistic)


@pytest.mark.parametrize("shape", [(11, 3), (17, 10)])
def test_the_level_is_held_with_few_methods_and_blocks(shape):
    generator, times = np.random.default_rng(0), 400
    found = [compare_ranks(generator.random(shape)).p_value <= 0.05 for _ in range(times)]
    assert np.mean(found) == pytest.approx(0.05, abs=0.033)


def test_too_few_blocks_or_methods_give_ranks_but_no_test_and_say_why():
    few_blocks = compare_ranks(DEMSAR[:10])
    assert few_blocks.reason == "10 blocks; the test needs 11 or more"
    assert (few_blocks.chi_square, few_blocks.p_value, few_blocks.critical_distance) == (None, None, None)
    assert few_blocks.average_ranks.sum() == pytest.approx(1 + 2 + 3 + 4)
    assert compare_ranks(DEMSAR[:, :2]).reason == "2 methods; the test needs 3 or more"


def test_ties_everywhere_are_no_test_and_the_same_order_everywhere_is_certain():
    assert compare_ranks(np.ones((12, 3))).reason == "all methods tie in every block"
    assert compare_ranks(np.tile([3.0, 2.0, 1.0], (12, 1))).p_value == 0.0


@pytest.mark.parametrize("wrong", [np.zeros((0, 3)), np.array([1.0, 2.0]), np.full((12, 3), np.nan)])
def test_scores_without_blocks_or_that_are_not_finite_are_refused(wrong):
    with pytest.raises(ValueError, match="a row a block, a column a method"):
        compare_ranks(wrong)
