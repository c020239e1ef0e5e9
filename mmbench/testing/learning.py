"""What training may use, and what it must give: terms, gradients, optimisers, in either precision."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NoReturn

import torch
from torch import Tensor

from mmbench.testing._examples import every_pattern, example_batch, left_alone, scenarios_of, tensors_of
from mmbench.testing._require import require
from mmbench_baselines.method import Batch, Method
from mmbench_baselines.optim import OptimizerParams

_ROWS = 2  # of a batch of one pattern


def check_training(method: Method) -> None:
    """Require finite terms and gradients for every pattern, and optimisers that step.

    Batches of a single modality and of all leave the most parts of a method without a sample; a batch of all
    patterns has the others. The method is trained by it, a few steps.
    """
    optimizers = method.configure_optimizers(OptimizerParams(lr=1e-4))
    require(len(optimizers) >= 1, "configure_optimizers returned none, expected at least one")
    held = Counter(id(p) for o in optimizers for group in o.param_groups for p in group["params"])
    wrong = {n: held[id(p)] for n, p in method.named_parameters() if p.requires_grad and held[id(p)] != 1}
    require(
        not wrong,
        f"optimisers hold {dict(list(wrong.items())[:3])} times; "
        "each trainable parameter must be in exactly one",
    )
    method.train()
    for scenario in scenarios_of(method):
        if 1 < sum(scenario.present) < len(scenario.present):
            continue
        rows = scenario.rows(_ROWS, torch.device("cpu"))
        _learn(method, example_batch(method, rows), f"scenario {scenario.name!r}")
        for optimizer in optimizers:
            optimizer.step()
    mixed = example_batch(method, every_pattern(method))
    _learn(method, mixed, "a batch of all patterns")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = method.training_step(mixed)
    _check_gradients(method, terms, "a batch of all patterns under bfloat16 autocast")
    method.zero_grad(set_to_none=True)


def _learn(method: Method, batch: Batch, where: str) -> None:
    """Require a training step that writes to none of its inputs, and its gradients."""
    with left_alone(tensors_of(batch), "training_step"):
        terms = method.training_step(batch)
        _check_gradients(method, terms, where)


def _check_gradients(method: Method, terms: Mapping[str, Tensor], where: str) -> None:
    """Require finite, named, scalar terms; leave their gradients in the method."""
    require(terms, f"{where}: training_step returned no terms")
    for name, term in terms.items():
        require(term.ndim == 0, f"loss term {name!r} has shape {tuple(term.shape)}, expected a scalar")
        value = float(term.detach())
        require(math.isfinite(value), f"{where}: loss term {name!r} is {value}")
    method.zero_grad(set_to_none=True)
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    gradients = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
    require(gradients, f"{where}: no parameter has a gradient")
    for name, gradient in gradients.items():
        require(bool(gradient.isfinite().all()), f"{where}: gradient of {name} is not finite")


class _Withheld(Mapping[str, Tensor]):
    """Stands where hidden images could be read, and raises when they are."""

    def __init__(self, words: str) -> None:
        self._words = words

    def _refuse(self, *_: object) -> NoReturn:
        raise AssertionError(self._words)

    def __getitem__(self, name: str) -> Tensor:
        self._refuse()

    def __iter__(self) -> Iterator[str]:
        self._refuse()

    def __len__(self) -> int:
        self._refuse()


def check_declaration(method: Method) -> None:
    """Require that the hidden images are read by training_step alone, and only where that is declared."""
    subject = copy.deepcopy(method).train()
    batch = example_batch(subject, every_pattern(subject))
    if not subject.sees_hidden_in_training:
        words = "training_step reads batch.complete; declare it by sees_hidden_in_training, or do without"
        subject.training_step(Batch(batch.images, batch.present, batch.target, _Withheld(words)))
    words = "loss reads batch.complete; only training_step may, where sees_hidden_in_training is True"
    output = subject(batch.images, batch.present)
    subject.loss(output, Batch(batch.images, batch.present, batch.target, _Withheld(words)))
