"""Holm's correction against worked tables, and groups worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench.statistics import holm, tie_groups


def test_holm_gives_the_adjusted_p_values_of_a_worked_table():
    # In order: 0.005 x 4, 0.01 x 3, 0.03 x 2, then 0.04 x 1, which may not fall below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_rejects_what_demsar_rejects_in_his_table_of_three_comparisons():
    # Demšar 2006, page 20: p of 0.016, 0.019 and 0.607 against C4.5 are held against 0.017, 0.025 and 0.05
    # (at alpha = 0.05): the first two are rejected.
    assert list(holm([0.016, 0.019, 0.607]) <= 0.05) == [True, True, False]


def test_one_p_value_stays_and_none_passes_1():
    assert holm([0.2]) == pytest.approx([0.2])
    assert holm([0.9, 0.8, 0.7]) == pytest.approx([1.0, 1.0, 1.0])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_lies_between_p_and_bonferroni_and_steps_down(p_values):
    adjusted, values = holm(p_values), np.array(p_values)
    assert (adjusted >= values).all()
    assert (adjusted <= np.minimum(len(values) * values, 1.0) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(values, kind="stable")]) >= 0).all()
    # The step-down procedure itself: reject in order until one is not below alpha / (those left).
    rejected = np.zeros(len(values), dtype=bool)
    for left, number in zip(range(len(values), 0, -1), np.argsort(values, kind="stable"), strict=True):
        if values[number] * left > 0.05:
            break
        rejected[number] = True
    assert np.array_equal(adjusted <= 0.05, rejected)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(wrong):
    with pytest.raises(ValueError, match=r"expected numbers in \[0, 1\]"):
        holm([0.5, wrong])


def _separated(number, *pairs):
    found = np.zeros((number, number), dtype=bool)
    for a, b in pairs:
        found[a, b] = found[b, a] = True
    return found


def test_groups_are_what_is_tied_with_the_best_then_with_the_best_of_the_rest():
    # In order 2, 0, 3, 1, 4: 2 is tied with 0 only, then 3 with 1 only.
    values = [70.0, 55.0, 72.0, 60.0, 20.0]
    pairs = [(2, 3), (2, 1), (2, 4), (0, 4), (3, 4), (1, 4)]
    groups = tie_groups(values, _separated(5, *pairs))
    assert groups.top == (2, 0)
    assert groups.second == (3, 1)


def test_an_uncertain_method_is_tied_with_the_best_though_a_better_one_is_not():
    groups = tie_groups([72.0, 60.0, 50.0], _separated(3, (0, 1)))
    assert groups.top == (0, 2)
    assert groups.second == (1,)


def test_where_nothing_is_separated_all_are_on_top_and_there_is_no_second_group():
    groups = tie_groups([1.0, 3.0, 2.0], _separated(3))
    assert groups.top == (1, 2, 0)
    assert groups.second == ()
    assert tie_groups([], np.zeros((0, 0), dtype=bool)).top == ()
