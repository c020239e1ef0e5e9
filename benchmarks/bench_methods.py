"""Seconds of an inference and of a training step of every method, for each presence pattern."""

from __future__ import annotations

import pytest
import torch

from mmbench.registry import find, names
from mmbench.scenarios.scenario import hide, whole_modality_scenarios
from mmbench_baselines.method import Batch
from mmbench_baselines.optim import OptimizerParams

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MODALITIES = {"irrg": 3, "ndsm": 1}
SIDE = 128
SCENARIOS = {s.name: s for s in whole_modality_scenarios(list(MODALITIES))}


def _method(name):
    torch.manual_seed(0)
    return find("method", name)(MODALITIES, 6).to(DEVICE)


def _images(batch_size):
    return {
        name: torch.rand(batch_size, c, SIDE, SIDE, device=DEVICE) * 2 - 1 for name, c in MODALITIES.items()
    }


def _wait():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", names("method"))
def test_inference(benchmark, name, scenario):
    benchmark.group = f"inference, batch 1, {SIDE}x{SIDE}, {scenario}"
    method = _method(name).eval()
    present = SCENARIOS[scenario].rows(1, DEVICE)
    images = hide(_images(1), present)

    @torch.inference_mode()
    def infer():
        method(images, present)
        _wait()

    benchmark.pedantic(infer, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", names("method"))
def test_training_step(benchmark, name, scenario):
    benchmark.group = f"training step, batch 2, {SIDE}x{SIDE}, {scenario}"
    method = _method(name).train()
    optimizers = method.configure_optimizers(OptimizerParams())
    present = SCENARIOS[scenario].rows(2, DEVICE)
    images = _images(2)
    target = torch.randint(0, 6, (2, SIDE, SIDE), device=DEVICE)
    complete = images if method.sees_hidden_in_training else None
    batch = Batch(hide(images, present), present, target, complete)

    def step():
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(method.training_step(batch).values())).sum())
        for optimizer in optimizers:
            optimizer.step()
        _wait()

    benchmark.pedantic(step, rounds=3, warmup_rounds=1)
