"""The loop: reproducible, accumulates, stops on NaN, keeps the best checkpoint, hides by the protocol."""

import math

import pytest
import torch
from torch import nn

from mmbench import training
from mmbench.errors import CellFailedError
from mmbench.evaluation import Evaluator
from mmbench_baselines.method import Method, Output
from mmbench_baselines.optim import OptimizerParams, ScheduleParams, TrainingParams


class Probe(Method):
    """A per-pixel classifier that remembers what it was trained on."""

    title = paper = source = "test"
    paper_training = TrainingParams(OptimizerParams("sgd", lr=0.5, momentum=0.9), ScheduleParams("poly"), 2)

    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.head = nn.Conv2d(sum(modalities.values()), num_classes, 1)
        self.seen, self.scale = [], 1.0

    def forward(self, images, present):
        return Output(self.head(torch.cat(list(images.values()), 1)))

    def loss(self, output, batch):
        self.seen.append(batch)
        ce = nn.functional.cross_entropy(output.logits, batch.target, ignore_index=self.ignore_index)
        return {"ce": ce * self.scale}

    def patterns(self, step, total_steps):
        return {(True, step >= total_steps // 2): 1.0}


class SeesHidden(Probe):
    @property
    def sees_hidden_in_training(self):
        return True


@pytest.fixture
def train_probe(small_dataset, normalizer, short_recipe):
    def run(method_class=Probe, seed=0, setup=None, **changes):
        recipe = short_recipe.training.model_copy(update=changes)
        evaluator = Evaluator(
            small_dataset, normalizer, short_recipe.evaluation, torch.device("cpu"), "float32"
        )
        torch.manual_seed(seed)
        method = method_class(small_dataset.modalities, small_dataset.num_classes)
        if setup is not None:
            setup(method)
        result = training.train(method, small_dataset, normalizer, recipe, seed=seed, evaluator=evaluator)
        return method, result

    return run


def test_the_same_seed_trains_the_same_weights_and_another_seed_others(train_probe):
    first, second, other = (train_probe(seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_absent_slots_reach_the_method_overwritten_and_complete_is_withheld(train_probe):
    method, _ = train_probe()
    hidden = 0
    for batch in method.seen:
        assert batch.complete is None
        for column, image in enumerate(batch.images.values()):
            absent = ~batch.present[:, column]
            hidden += int(absent.sum())
            assert not image[absent].any()
            assert image[~absent].any()
    assert hidden > 0


def test_a_method_that_declares_it_gets_the_complete_images(train_probe):
    method, _ = train_probe(SeesHidden)
    for batch in method.seen:
        for column, name in enumerate(batch.images):
            assert all(image.any() for image in batch.complete[name])
            there = batch.present[:, column]
            assert torch.equal(batch.images[name][there], batch.complete[name][there])


def test_light_by_option_reaches_the_optical_images_and_leaves_heights_and_targets(train_probe):
    plain, lit = (train_probe(SeesHidden, photometric=strength)[0] for strength in (0.0, 0.4))
    for a, b in zip(plain.seen, lit.seen, strict=True):
        assert torch.equal(a.target, b.target)
        assert torch.equal(a.present, b.present)
        assert torch.equal(a.complete["ndsm"], b.complete["ndsm"])
        assert not torch.equal(a.complete["irrg"], b.complete["irrg"])


def test_the_papers_patterns_follow_the_step_of_the_budget(train_probe):
    method, _ = train_probe(steps=4, patterns="method", accumulation=2)
    both = [bool(batch.present.all()) for batch in method.seen]
    assert both == [False] * 4 + [True] * 4


class KeepsPatterns(Probe):
    keeps_patterns = True


def test_a_control_that_is_defined_by_its_hiding_keeps_it_under_every_recipe(train_probe):
    control, _ = train_probe(KeepsPatterns, steps=4, patterns="protocol", accumulation=2)
    assert [bool(batch.present.all()) for batch in control.seen] == [False] * 4 + [True] * 4
    method, _ = train_probe(Probe, steps=4, patterns="protocol", accumulation=2)
    assert len({tuple(row) for batch in method.seen for row in batch.present.tolist()}) == 3


class TwoOptimizers(Probe):
    """Beside the classifier, a number whose gradient is as large as one likes."""

    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.loud, self.loudness = nn.Parameter(torch.zeros(())), 1.0

    def loss(self, output, batch):
        return super().loss(output, batch) | {"loud": self.loudness * self.loud}

    def configure_optimizers(self, params):
        return [torch.optim.SGD(self.head.parameters(), lr=0.1), torch.optim.SGD([self.loud], lr=0.1)]


def test_the_gradients_of_each_optimiser_are_clipped_apart(train_probe):
    changes = {"steps": 2, "gradient_clip": 0.5, "schedule": ScheduleParams()}
    quiet, _ = train_probe(TwoOptimizers, **changes)
    shouted, _ = train_probe(TwoOptimizers, setup=lambda method: setattr(method, "loudness", 1e6), **changes)
    assert torch.equal(quiet.head.weight, shouted.head.weight)
    assert float(shouted.loud.detach()) == pytest.approx(-2 * 0.1 * 0.5, rel=1e-5)


def test_accumulation_averages_the_gradients_of_its_micro_batches(train_probe, small_dataset):
    sgd = OptimizerParams("sgd", lr=1.0)
    settings = {
        "optimizer": sgd,
        "schedule": ScheduleParams(),
        "gradient_clip": None,
        "patterns": "method",
    }

    # Full pattern from the first step on: then two micro-batches of 2 are one batch of 4.
    def setup(method):
        method.patterns = lambda step, total: {(True, True): 1.0}
        method.ignore_index = 254  # nothing is ignored, so means over micro-batches are means over the batch

    one = train_probe(steps=1, batch_size=4, accumulation=1, setup=setup, **settings)[0]
    two = train_probe(steps=1, batch_size=2, accumulation=2, setup=setup, **settings)[0]
    assert len(two.seen) == 2
    assert torch.allclose(one.head.weight, two.head.weight, atol=1e-6)


def test_method_settings_come_from_the_paper_only_where_the_recipe_says_so(small_dataset, short_recipe):
    method = Probe(small_dataset.modalities, 6)
    mine = training.resolve_training(method, short_recipe.training)
    assert mine.optimizer.name == "adamw"
    assert mine.accumulation == 1
    paper = short_recipe.training.model_copy(
        update={"optimizer": "method", "schedule": "method", "accumulation": "method"}
    )
    assert training.resolve_training(method, paper) == Probe.paper_training


def test_a_loss_that_is_not_finite_stops_training_and_says_where(train_probe):
    def setup(method):
        method.scale = math.nan

    with pytest.raises(CellFailedError, match=r"not finite at step 1: ce=nan; lower the learning rate"):
        train_probe(setup=setup)


def test_the_best_validation_checkpoint_is_restored(train_probe, monkeypatch):
    scores = iter([0.3, 0.5, 0.4])
    weights = []

    def fake(self, method):
        weights.append(method.head.weight.detach().clone())
        return next(scores)

    monkeypatch.setattr(Evaluator, "validation_miou", fake)
    method, result = train_probe(steps=3, validations=3)
    assert result.checkpoint == {"kind": "best", "step": 2}
    assert torch.equal(method.head.weight, weights[1])
    assert not torch.equal(method.head.weight, weights[2])
    assert [v["miou"] for v in result.validation] == [0.3, 0.5, 0.4]


def test_without_validation_tiles_the_last_checkpoint_is_used_and_recorded_so(
    train_probe, small_dataset, monkeypatch
):
    import dataclasses

    monkeypatch.setattr(small_dataset, "split", dataclasses.replace(small_dataset.split, val=()))
    _, result = train_probe()
    assert result.checkpoint == {"kind": "last", "step": 3}
    assert result.validation == []


def test_the_learning_curve_has_a_point_a_step_with_every_term(train_probe):
    _, result = train_probe()
    assert [point["step"] for point in result.curve] == [1, 2, 3]
    assert all(point["loss"] == pytest.approx(point["ce"]) for point in result.curve)
    assert result.curve[0]["lr"] > result.curve[2]["lr"] > 0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ScheduleParams("constant"), [1, 1, 1, 1]),
        (ScheduleParams("poly", power=1.0), [1, 0.75, 0.5, 0.25]),
        (ScheduleParams("cosine"), [1, 0.5 + math.sqrt(2) / 4, 0.5, 0.5 - math.sqrt(2) / 4]),
        (ScheduleParams("warm_restarts", period=2), [1, 0.5, 1, 0.5]),
        (ScheduleParams("constant", warmup=3), [0.25, 0.5, 0.75, 1]),
    ],
)
def test_schedules_give_the_factors_worked_by_hand(schedule, expected):
    assert [schedule.factor(step, 4) for step in range(4)] == pytest.approx(expected)


def test_warm_restarts_equal_torchs_own_scheduler():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    oracle = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=15)
    for step in range(40):
        assert ScheduleParams("warm_restarts").factor(step, 40) == pytest.approx(oracle.get_last_lr()[0])
        optimizer.step()
        oracle.step()
