"""Scenarios, drawing patterns from (seed, step), hiding."""

import collections

import pytest
import torch

from mmbench.scenarios.scenario import draw_patterns, hide, whole_modality_scenarios
from mmbench_baselines.method import uniform_patterns


def test_scenarios_are_the_non_empty_subsets_named_by_what_is_present():
    scenarios = whole_modality_scenarios(["irrg", "ndsm", "dsm"])
    assert [s.name for s in scenarios] == [
        "full", "irrg+ndsm", "irrg+dsm", "ndsm+dsm", "irrg", "ndsm", "dsm",
    ]  # fmt: skip
    assert scenarios[1].present == (True, True, False)


def test_hiding_overwrites_absent_slots_only_and_leaves_the_input_alone():
    images = {"irrg": torch.ones(2, 3, 4, 4), "ndsm": torch.full((2, 1, 4, 4), float("nan"))}
    present = torch.tensor([[True, False], [False, True]])
    hidden = hide(images, present)
    assert hidden["irrg"][0].eq(1).all()
    assert hidden["irrg"][1].eq(0).all()
    assert hidden["ndsm"][0].eq(0).all()  # even NaN does not survive hiding
    assert hidden["ndsm"][1].isnan().all()
    assert images["irrg"].eq(1).all()
    assert images["ndsm"].isnan().all()


def test_patterns_depend_on_seed_and_step_alone():
    distribution = uniform_patterns(2)
    first = draw_patterns(distribution, 16, seed=1, step=2)
    assert torch.equal(first, draw_patterns(distribution, 16, seed=1, step=2))
    assert not torch.equal(first, draw_patterns(distribution, 16, seed=1, step=3))
    assert not torch.equal(first, draw_patterns(distribution, 16, seed=2, step=2))


def test_patterns_are_drawn_per_sample_with_their_probabilities():
    distribution = {(True, True): 0.5, (True, False): 0.3, (False, True): 0.2}
    rows = draw_patterns(distribution, 20_000, seed=0, step=0)
    counts = collections.Counter(map(tuple, rows.tolist()))
    for pattern, probability in distribution.items():
        assert counts[pattern] / 20_000 == pytest.approx(probability, abs=0.015)


@pytest.mark.parametrize(
    ("distribution", "message"),
    [({(False, False): 1.0}, "no modality"), ({(True, True): 0.5}, "expected 1")],
)
def test_improper_distributions_are_refused(distribution, message):
    with pytest.raises(ValueError, match=message):
        draw_patterns(distribution, 1, seed=0, step=0)
