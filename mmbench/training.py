"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmbench.datasets._dataset import Dataset
from mmbench.devices import autocast
from mmbench.errors import CellFailedError
from mmbench.evaluation import Evaluator
from mmbench.loading import RandomCrops, Windows, training_batches
from mmbench.recipe import TrainingRecipe
from mmbench.scenarios.scenario import draw_patterns, hide
from mmbench.transforms import Normalizer
from mmbench_baselines.method import Batch, Method, uniform_patterns
from mmbench_baselines.optim import TrainingParams

_CURVE_POINTS = 200

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each step with (steps done, steps in all, the latest figures)."""


@dataclass
class TrainingResult:
    """What training leaves behind, besides the trained method.

    Attributes:
        steps: Optimiser steps taken.
        samples: Crops seen.
        seconds: Wall time, validation included.
        curve: Points {step, loss, lr and every term}, averaged over the steps since the point before.
        validation: Points {step, miou}: mean mIoU over the scenarios on the validation tiles.
        checkpoint: {kind: "best" | "last", step}: which weights the method holds now.
    """

    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    checkpoint: dict[str, Any] = field(default_factory=dict)


def train(
    method: Method,
    dataset: Dataset,
    normalizer: Normalizer,
    recipe: TrainingRecipe,
    *,
    seed: int,
    evaluator: Evaluator,
    workers: int = 0,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a method in place and leave it with its chosen weights.

    Which checkpoint: the best mean mIoU over the whole-modality scenarios on the validation tiles; the last
    one where the split has none.

    Args:
        method: On the device to train on.
        dataset: Its training and validation tiles are read.
        normalizer: Fitted on the training tiles.
        recipe: The resolved recipe.
        seed: Crops and patterns are drawn from (seed, step).
        evaluator: Scores the validation tiles.
        workers: Reading processes; they do not change the result.
        progress: Told after each step.

    Raises:
        CellFailedError: If a loss is not finite, naming the step and the terms.
    """
    params = resolve_training(method, recipe)
    device = next(method.parameters()).device
    optimizers = method.configure_optimizers(params.optimizer)
    schedulers = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda step: params.schedule.factor(step, recipe.steps))
        for o in optimizers
    ]
    crops = RandomCrops(
        dataset,
        normalizer,
        window=recipe.window,
        count=recipe.steps * params.accumulation * recipe.batch_size,
        seed=seed,
        photometric=recipe.photometric,
    )
    batches = training_batches(crops, batch_size=recipe.batch_size, workers=workers)
    validate_at = {math.ceil(recipe.steps * (i + 1) / recipe.validations) for i in range(recipe.validations)}
    keeper = _CheckpointKeeper(method)
    meter = _Meter(max(1, recipe.steps // _CURVE_POINTS))
    result = TrainingResult()
    began = time.perf_counter()
    method.train()
    for step in range(recipe.steps):
        lr = optimizers[0].param_groups[0]["lr"]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        for micro in range(params.accumulation):
            number = step * params.accumulation + micro
            batch = _hidden_batch(method, next(batches).to(device), recipe, seed, number, step)
            with autocast(device, recipe.precision):
                terms = method.training_step(batch)
            loss = torch.stack(list(terms.values())).sum()
            meter.add(_finite(terms, loss, step))
            torch.autograd.backward(loss / params.accumulation)
        if recipe.gradient_clip is not None:
            for optimizer in optimizers:  # each its own: generators must not shorten the segmenter's steps
                _clip_gradients(optimizer, recipe.gradient_clip)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
        if (point := meter.point(step + 1, lr, last=step + 1 == recipe.steps)) is not None:
            result.curve.append(point)
        if dataset.split.val and step + 1 in validate_at:
            miou = evaluator.validation_miou(method)
            result.validation.append({"step": step + 1, "miou": miou})
            keeper.offer(miou, step + 1)
            method.train()
        if progress is not None:
            progress(step + 1, recipe.steps, meter.latest | _last_miou(result))
    result.checkpoint = keeper.restore(recipe.steps)
    result.steps = recipe.steps
    result.samples = len(crops)
    result.seconds = time.perf_counter() - began
    return result


def _clip_gradients(optimizer: torch.optim.Optimizer, largest: float) -> None:
    """Scale the gradients of what an optimiser steps down to a joint norm, if theirs is larger."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, largest)


def resolve_training(method: Method, recipe: TrainingRecipe) -> TrainingParams:
    """Return optimiser, schedule and accumulation: the recipe's, or the paper's where it says "method"."""
    paper = method.paper_training
    return TrainingParams(
        optimizer=paper.optimizer if recipe.optimizer == "method" else recipe.optimizer,
        schedule=paper.schedule if recipe.schedule == "method" else recipe.schedule,
        accumulation=paper.accumulation if recipe.accumulation == "method" else recipe.accumulation,
    )


def _hidden_batch(
    method: Method, windows: Windows, recipe: TrainingRecipe, seed: int, number: int, step: int
) -> Batch:
    """Draw the presence patterns of a batch and hide what is absent."""
    distribution = (
        method.patterns(step, recipe.steps)
        if recipe.patterns == "method" or method.keeps_patterns
        else uniform_patterns(len(method.modalities))
    )
    present = draw_patterns(distribution, len(windows.target), seed, number).to(windows.target.device)
    return Batch(
        images=hide(windows.images, present),
        present=present,
        target=windows.target,
        complete=windows.images if method.sees_hidden_in_training else None,
    )


def _finite(terms: dict[str, Tensor], loss: Tensor, step: int) -> dict[str, float]:
    """Return the terms as numbers.

    Raises:
        CellFailedError: If their sum is not finite.
    """
    values = {name: float(term.detach()) for name, term in terms.items()}
    if not math.isfinite(float(loss.detach())):
        bad = ", ".join(f"{name}={value}" for name, value in values.items() if not math.isfinite(value))
        raise CellFailedError(
            f"loss is not finite at step {step + 1}: {bad or 'the sum overflows'}; "
            "lower the learning rate or set training.gradient_clip"
        )
    return values


def _last_miou(result: TrainingResult) -> dict[str, float]:
    """Return the latest validation score, if there is one, for the progress display."""
    return {"miou": result.validation[-1]["miou"]} if result.validation else {}


class _Meter:
    """Averages the loss terms between the points of the learning curve."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._sums: dict[str, float] = {}
        self._count = 0
        self.latest: dict[str, float] = {}

    def add(self, terms: dict[str, float]) -> None:
        self.latest = {"loss": sum(terms.values())}
        for name, value in (self.latest | terms).items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def point(self, step: int, lr: float, *, last: bool) -> dict[str, float] | None:
        if step % self._every and not last:
            return None
        means = {name: value / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return {"step": step, "lr": lr} | means


class _CheckpointKeeper:
    """Keeps a copy of the best weights on the CPU."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._best: tuple[float, int, dict[str, Tensor]] | None = None

    def offer(self, score: float, step: int) -> None:
        if self._best is None or score > self._best[0]:
            state = {k: v.detach().cpu().clone() for k, v in self._method.state_dict().items()}
            self._best = (score, step, state)

    def restore(self, last_step: int) -> dict[str, Any]:
        if self._best is None:
            return {"kind": "last", "step": last_step}
        _, step, state = self._best
        self._method.load_state_dict(state)
        return {"kind": "best", "step": step}
