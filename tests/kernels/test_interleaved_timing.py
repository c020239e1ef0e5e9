"""The timing of the operators' benchmarks: turns, sets of inputs, stages and their summary."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from interleaved import CpuStopwatch, Effort, Stage, Timing, sets_for, time_interleaved

ONE_ROUND = Effort(warm_up_ms=0, least=1, most=1, seconds=0)


class CountingStopwatch:
    """Runs stages and says that each took a second."""

    def laps(self, stages: Sequence[Stage]) -> list[float]:
        for stage in stages:
            stage()
        return [1.0 for _ in stages]


def noted(calls, name):
    return lambda number: [lambda: calls.append((name, number))]


def test_forms_take_turns_and_every_second_round_goes_backwards():
    calls: list[tuple[str, int]] = []
    effort = Effort(warm_up_ms=0, least=3, most=3, seconds=0)
    forms = {name: noted(calls, name) for name in "abc"}
    time_interleaved(forms, CountingStopwatch(), effort, sets=1)
    assert "".join(name for name, _ in calls) == "abc" + "abc" + "cba" + "abc"  # the first is the warm-up


def test_every_form_meets_every_set_of_inputs_in_turn():
    calls: list[tuple[str, int]] = []
    effort = Effort(warm_up_ms=0, least=5, most=5, seconds=0)
    time_interleaved({"a": noted(calls, "a")}, CountingStopwatch(), effort, sets=2)
    assert [number for _, number in calls[1:]] == [0, 1, 0, 1, 0]


def test_stages_are_timed_one_by_one_and_what_prepares_them_is_not():
    prepared = []

    def prepare(number):
        prepared.append(number)
        return [lambda: None, lambda: None]

    laps = time_interleaved({"a": prepare}, CountingStopwatch(), ONE_ROUND, sets=1)
    assert laps == {"a": [[1.0, 1.0]]}
    assert prepared == [0, 0]


def test_a_form_warms_up_until_it_has_worked_long_enough():
    calls: list[tuple[str, int]] = []
    effort = Effort(warm_up_ms=2500, least=1, most=1, seconds=0)
    time_interleaved({"a": noted(calls, "a")}, CountingStopwatch(), effort, sets=1)
    assert len(calls) == 3 + 1  # a second each


def test_rounds_end_when_the_time_is_over_but_not_before_the_least():
    calls: list[tuple[str, int]] = []
    effort = Effort(warm_up_ms=0, least=4, most=100, seconds=-1)
    laps = time_interleaved({"a": noted(calls, "a")}, CountingStopwatch(), effort, sets=1)
    assert len(laps["a"]) == 4


@pytest.mark.parametrize(("least", "most"), [(0, 1), (2, 1)])
def test_an_effort_that_measures_nothing_is_refused(least, most):
    with pytest.raises(ValueError, match="expected 1 <= least <= most"):
        Effort(warm_up_ms=0, least=least, most=most, seconds=1)


@pytest.mark.parametrize(
    ("of_set", "cache", "cap", "expected"),
    [(10, 100, 10**6, 20), (30, 100, 10**6, 7), (300, 100, 10**6, 1), (10, 100, 55, 5), (100, 100, 50, 1)],
)
def test_the_sets_exceed_the_cache_twice_as_far_as_memory_goes(of_set, cache, cap, expected):
    assert sets_for(of_set, cache, cap) == expected


def test_a_set_of_nothing_is_refused():
    with pytest.raises(ValueError, match="0 bytes, expected 1 or more"):
        sets_for(0, 100, 100)


def test_a_summary_is_the_median_and_the_fifths_in_milliseconds():
    timing = Timing.of([0.005, 0.001, 0.003, 0.002, 0.004, 0.006])
    assert timing.rounds == 6
    assert (timing.p20_ms, timing.median_ms, timing.p80_ms) == pytest.approx((2, 3.5, 5))


def test_the_wall_clock_gives_one_lap_a_stage(monkeypatch):
    times = iter([1.0, 3.0, 3.5])
    monkeypatch.setattr("interleaved.time.perf_counter", lambda: next(times))
    assert CpuStopwatch().laps([lambda: None, lambda: None]) == [2.0, 0.5]
