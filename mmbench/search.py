"""The small search for a learning rate that a recipe may give every method alike, on validation tiles."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from mmbench import training
from mmbench.datasets._dataset import Dataset
from mmbench.errors import CellFailedError
from mmbench.evaluation import Evaluator
from mmbench.recipe import TrainingRecipe
from mmbench.transforms import Normalizer
from mmbench_baselines.method import Method
from mmbench_baselines.optim import OptimizerParams


@dataclass(frozen=True)
class Trial:
    """One short training.

    Attributes:
        learning_rate: Its own.
        steps: Optimiser steps.
        miou: Mean mIoU over the scenarios on the validation tiles; None if it failed.
        seconds: Wall time.
        error: Why it failed; empty if it did not.
        chosen: Whether the method is trained with this rate.
    """

    learning_rate: float
    steps: int
    miou: float | None
    seconds: float
    error: str = ""
    chosen: bool = False


def search_learning_rate(
    build: Callable[[], Method],
    dataset: Dataset,
    normalizer: Normalizer,
    recipe: TrainingRecipe,
    *,
    seed: int,
    evaluator: Evaluator,
    workers: int = 0,
    progress: training.Progress | None = None,
) -> tuple[TrainingRecipe, list[Trial]]:
    """Train briefly with each learning rate of the recipe's search and take the best.

    Every trial starts from the same weights and sees the same crops. Of equal scores the earlier rate wins.
    The random state of torch is left as it was: training goes on as if the rate had stood in the recipe.

    Args:
        build: Returns the method with its first weights; called once a trial.
        dataset: Its training tiles are trained on, its validation tiles decide; that it has some is for
            `cells.check_options` to see to.
        normalizer: Fitted on the training tiles.
        recipe: With or without a search.
        seed: Of crops and patterns.
        evaluator: Scores the validation tiles.
        workers: Reading processes.
        progress: Told after each step of each trial.

    Returns:
        The recipe to train with, and the trials; the recipe itself and none where it asks for no search.

    Raises:
        CellFailedError: If every trial fails.
    """
    search = recipe.search
    if search is None:
        return recipe, []
    trials = []
    devices = [evaluator.device] if evaluator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        for rate in search.learning_rates:
            tried = _with_rate(recipe, rate).model_copy(update={"steps": search.steps, "validations": 1})
            began, miou, why = time.perf_counter(), None, ""
            try:
                result = training.train(
                    build(),
                    dataset,
                    normalizer,
                    tried,
                    seed=seed,
                    evaluator=evaluator,
                    workers=workers,
                    progress=progress,
                )
                miou = result.validation[-1]["miou"]
            except CellFailedError as error:  # a rate that is too large is what a search is to find out
                why = str(error)
            trials.append(Trial(rate, search.steps, miou, round(time.perf_counter() - began, 1), why))
    best = _best(trials)
    marked = [replace(trial, chosen=trial is best) for trial in trials]
    return _with_rate(recipe, best.learning_rate), marked


def _best(trials: list[Trial]) -> Trial:
    """Return the first of the trials with the best score.

    Raises:
        CellFailedError: If every trial failed.
    """
    scored = [(trial.miou, trial) for trial in trials if trial.miou is not None]
    if not scored:
        rates = ", ".join(f"{trial.learning_rate:g}" for trial in trials)
        raise CellFailedError(f"training failed with every learning rate ({rates}): {trials[-1].error}")
    return max(scored, key=lambda pair: pair[0])[1]


def _with_rate(recipe: TrainingRecipe, rate: float) -> TrainingRecipe:
    """Return a recipe without a search whose optimiser has a learning rate."""
    if not isinstance(recipe.optimizer, OptimizerParams):  # the recipe itself allows no search then
        raise TypeError(f"optimizer is {recipe.optimizer!r}, expected its parameters")
    return recipe.model_copy(update={"optimizer": replace(recipe.optimizer, lr=rate), "search": None})
