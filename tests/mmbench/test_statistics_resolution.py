"""The resolution floor and what it would take to lower it."""

import numpy as np
import pytest
from scipy.stats import nct
from scipy.stats import t as student

from mmbench.statistics import Estimate, needed, resolvable_difference


def _estimate(value=0.0, tile=0.01, seed=0.01, tiles=8, seeds=3, rest=0.0):
    return Estimate(value, float(np.sqrt(tile**2 + seed**2 + rest**2)), tile, seed, tiles, seeds)


def test_with_endless_freedom_the_floor_is_2_8_standard_errors():
    # 1.960 + 0.842 for 5 % and 80 %.
    assert resolvable_difference(_estimate(tiles=10**6, seeds=10**6)) == pytest.approx(
        2.802 * np.sqrt(2) * 0.01, rel=1e-3
    )


@pytest.mark.parametrize("tiles", [2, 3, 8, 17])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_at_the_floor_the_t_test_has_that_power(tiles, power):
    estimate = _estimate(seed=0.0, tiles=tiles, seeds=1)
    distance = resolvable_difference(estimate, power=power) / estimate.standard_error
    critical = student.ppf(0.975, tiles - 1)
    assert nct.sf(critical, tiles - 1, distance) == pytest.approx(power, abs=2e-3)


def test_a_stricter_level_and_more_power_ask_for_a_larger_difference():
    usual = resolvable_difference(_estimate())
    assert resolvable_difference(_estimate(), alpha=0.01) > usual
    assert resolvable_difference(_estimate(), power=0.9) > usual


def test_without_a_spread_there_is_no_floor():
    assert resolvable_difference(Estimate(0.1, None, 0.0, 0.0, 1, 1)) is None


def test_what_is_needed_resolves_the_difference_and_one_less_does_not():
    found = needed(_estimate(seed=0.005), 0.035)
    floors = [
        resolvable_difference(_estimate(seed=0.005, tile=0.01 * np.sqrt(8 / number), tiles=number))
        for number in (found.tiles, found.tiles - 1)
    ]
    assert floors[0] <= 0.035 < floors[1]
    floors = [
        resolvable_difference(_estimate(seed=0.005 * np.sqrt(3 / number), seeds=number))
        for number in (found.seeds, found.seeds - 1)
    ]
    assert floors[0] <= 0.035 < floors[1]


def test_no_less_is_needed_than_there_is():
    found = needed(_estimate(), 0.5)
    assert (found.seeds, found.tiles) == (3, 8)


def test_enough_tiles_are_found_though_far_more_would_leave_only_the_freedom_of_three_seeds():
    def floor(tiles):
        return resolvable_difference(_estimate(tile=0.012 * np.sqrt(8 / tiles), seed=0.007, tiles=tiles))

    found = needed(_estimate(tile=0.012, seed=0.007), 0.036)
    assert floor(found.tiles) <= 0.036 < floor(found.tiles - 1)
    assert floor(10_000) > 0.036


def test_where_tiles_alone_leave_too_much_spread_no_number_of_seeds_is_enough():
    assert needed(_estimate(tile=0.05, seed=0.01), 0.03).seeds is None
    assert needed(_estimate(tile=0.01, seed=0.05), 0.03).tiles is None


def test_one_seed_says_nothing_of_how_many_are_needed():
    found = needed(_estimate(seed=0.0, seeds=1), 0.005)
    assert found.seeds is None
    assert found.tiles > 8


def test_noise_of_single_cells_is_lowered_by_more_of_either():
    quiet, noisy = _estimate(tile=0.001, seed=0.001), _estimate(tile=0.001, seed=0.001, rest=0.02)
    assert needed(noisy, 0.02).seeds > needed(quiet, 0.02).seeds
    assert needed(noisy, 0.02).tiles > 8


def test_an_equal_pair_can_never_be_told_apart():
    found = needed(_estimate(), 0.0)
    assert (found.seeds, found.tiles) == (None, None)
