"""The slow side of the speed ratios computes what the released GEMMNet computes, in float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from published_forms import published_forms
from straightforward import Straightforward

from mmbench_baselines.gemmnet import GEMMNet
from mmbench_baselines.method import Batch

MODALITIES = {"irrg": 3, "ndsm": 1}
SCENARIOS = {"full": (True, True), "irrg": (True, False), "ndsm": (False, True)}
ROUNDING = 1e-10  # the two sides add in another order


def released(size: int = 48) -> GEMMNet:
    """A small released GEMMNet in float64 without dropout, its parameters all different from their start."""
    torch.manual_seed(0)
    method = GEMMNet(
        MODALITIES,
        5,
        base_width=2,
        token_width=16,
        hidden_width=32,
        heads=4,
        generator_width=4,
        discriminator_width=4,
        train_size=size,
        dropout=0.0,
        preset="released",
    ).double()
    random = np.random.RandomState(0)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.from_numpy(0.3 * random.standard_normal(tuple(parameter.shape))))
        for name, buffer in method.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return method


def batch_of(scenario: str, size: int = 48) -> Batch:
    random = np.random.RandomState(1)
    complete = {n: torch.from_numpy(random.uniform(-1, 1, (2, c, size, size))) for n, c in MODALITIES.items()}
    present = torch.tensor([SCENARIOS[scenario]] * 2)
    images = {
        name: torch.where(present[:, column, None, None, None], image, 7.0)
        for column, (name, image) in enumerate(complete.items())
    }
    target = torch.from_numpy(random.randint(0, 5, (2, size, size)))
    target[1][target[1] == 4] = 0  # a class that one sample has not
    return Batch(images, present, target, complete)


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    one, other = one.detach(), other.detach()
    return bool((one - other).abs().max() <= ROUNDING * max(1.0, float(other.abs().max())))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_training_step_has_the_terms_gradients_and_running_statistics_of_the_released_preset(scenario):
    ours, batch = released(), batch_of(scenario)
    theirs = copy.deepcopy(ours)
    expected = ours.training_step(batch)
    terms = Straightforward(theirs).training_step(batch)
    assert terms.keys() == expected.keys()
    assert {name for name in terms if not close(terms[name], expected[name])} == set()
    torch.stack(list(expected.values())).sum().backward()
    torch.stack(list(terms.values())).sum().backward()
    for (name, one), (_, other) in zip(theirs.named_parameters(), ours.named_parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        assert one.grad is None or close(one.grad, other.grad), name
    for (name, one), (_, other) in zip(theirs.named_buffers(), ours.named_buffers(), strict=True):
        assert close(one.double(), other.double()), name


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_evaluation_has_the_probabilities_of_the_released_preset(scenario):
    method, batch = released().eval(), batch_of(scenario)
    with torch.no_grad():
        expected = method(batch.images, batch.present).logits.softmax(1)
        given = Straightforward(method).predict(batch.images, batch.present)
    assert close(given, expected)


def test_an_evaluation_of_mixed_samples_generates_each_samples_own_missing_modality():
    method, batch = released().eval(), batch_of("full")
    present = torch.tensor([[True, False], [False, True]])
    with torch.no_grad():
        expected = method(batch.images, present).logits.softmax(1)
        given = Straightforward(method).predict(batch.images, present)
    assert close(given, expected)


def test_the_hidden_work_is_done_in_evaluation_and_training():
    """What is dropped must run, or the ratios would be measured against something else."""
    method, calls = released(), []
    for name, module in method.named_modules():
        if name.startswith(
            ("fusion.decoder.side_heads.", "generators.irrg.downs.0.conv", "modality_decoder.head")
        ):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    side, batch = Straightforward(method), batch_of("full")
    side.training_step(batch)
    assert calls.count("generators.irrg.downs.0.conv") == 1
    assert calls.count("modality_decoder.head") == 2
    calls.clear()
    method.eval()
    side.predict(batch.images, batch.present)
    assert len([name for name in calls if "side_heads" in name]) == 4


@pytest.mark.parametrize("name", ["mmformer", "shaspec", "ae", "cgan"])
def test_another_method_gives_the_same_terms_with_the_published_forms(name):
    from mmbench.registry import find

    widths = {
        "mmformer": {"token_width": 16, "hidden_width": 16, "heads": 4, "dropout": 0.0},
        "shaspec": {"width": 8},
    }
    torch.manual_seed(0)
    method = find("method", name)(MODALITIES, 5, **widths.get(name, {})).double()
    other, batch = copy.deepcopy(method), batch_of("full", 64)
    expected = method.training_step(batch)
    with published_forms() as replaced:
        terms = other.training_step(batch)
    assert any("multiscale_seg_loss" in place for place in replaced)
    assert {term for term in terms if not torch.allclose(terms[term], expected[term], rtol=1e-8)} == set()
