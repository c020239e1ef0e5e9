"""Optimiser and schedule settings that a paper or a recipe names, and how to build them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class OptimizerParams:
    """An optimiser by name; fields that it does not have are ignored by it."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (read by pydantic when a recipe holds one)

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    amsgrad: bool = False
    momentum: float = 0.0
    nesterov: bool = False


@dataclass(frozen=True)
class ScheduleParams:
    """A learning-rate schedule, as a factor on the starting rate per optimiser step.

    constant: 1. poly: (1 - t/T)^power. cosine: half a cosine over T. warm_restarts: half a cosine every
    `period` steps. `warmup` is the number of steps over which the factor first rises linearly.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    name: Literal["constant", "poly", "cosine", "warm_restarts"] = "constant"
    power: float = 0.9
    period: int = 15
    warmup: int = 0

    def factor(self, step: int, total_steps: int) -> float:
        """Return the factor on the learning rate before optimiser step `step` of `total_steps`."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = min(1.0, (step - self.warmup) / max(1, total_steps - self.warmup))
        if self.name == "poly":
            return float((1 - done) ** self.power)
        if self.name == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        if self.name == "warm_restarts":
            return 0.5 * (1 + math.cos(math.pi * (step % self.period) / self.period))
        return 1.0


@dataclass(frozen=True)
class TrainingParams:
    """How a paper trains its method: optimiser, schedule, micro-batches per optimiser step."""

    optimizer: OptimizerParams = OptimizerParams()
    schedule: ScheduleParams = ScheduleParams()
    accumulation: int = 1


def build_optimizer(parameters: Iterable[nn.Parameter], params: OptimizerParams) -> torch.optim.Optimizer:
    """Build the named optimiser over the given parameters."""
    import torch  # here, so that reading a recipe does not load it

    parameters = list(parameters)
    if params.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=params.lr,
            momentum=params.momentum,
            nesterov=params.nesterov,
            weight_decay=params.weight_decay,
        )
    kind = torch.optim.AdamW if params.name == "adamw" else torch.optim.Adam
    return kind(
        parameters,
        lr=params.lr,
        betas=params.betas,
        amsgrad=params.amsgrad,
        weight_decay=params.weight_decay,
    )
