"""Cards of methods: the facts that a reader of a table asks for, beside its scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from mmbench.cells import option_defaults
from mmbench.registry import VARIANT_MARK, entry, find
from mmbench.scenarios.scenario import whole_modality_scenarios
from mmbench_baselines.method import Method
from mmbench_baselines.optim import OptimizerParams, ScheduleParams, TrainingParams

MODALITIES, NUM_CLASSES = {"irrg": 3, "ndsm": 1}, 6
"""What the parameters are counted for."""
_STEPS = 900
"""In which the phases of a training's hiding are looked for."""
_MOST_PHASES = 3


@dataclass(frozen=True)
class Built:
    """What shows when a method is built for `MODALITIES` and `NUM_CLASSES` with default options.

    Attributes:
        parameters: In all.
        parts: Part -> parameters.
        sees_hidden: Whether training sees the content of hidden modalities.
        patterns: What training sees under recipe paper.
    """

    parameters: int
    parts: Mapping[str, int]
    sees_hidden: bool
    patterns: str


@dataclass(frozen=True)
class Card:
    """What is known of a method.

    Attributes:
        name: The registry's key.
        summary: The first line of the class's docstring.
        origin: What brings it; see `registry.Entry`.
        sizes: What images it takes.
        built: None if the method does not take `MODALITIES`.
        refusal: Why not.
        training: Optimiser, schedule and accumulation under recipe paper.
        options: Option -> default.
        variants: Name -> options that differ.
    """

    name: str
    title: str
    summary: str
    paper: str
    source: str
    licence: str
    parity: str
    beware: str
    deviations: tuple[str, ...]
    origin: str
    sizes: str
    built: Built | None
    refusal: str
    training: str
    options: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]

    @property
    def facts(self) -> dict[str, str]:
        """Return the facts that are one text each, by what they say."""
        facts = {
            "paper": self.paper,
            "authors' code": self.source,
            "licence": self.licence or "not stated",
            "reproduced": self.parity or "not stated",
            "image sizes": self.sizes,
            "optimiser under paper": self.training,
        }
        if self.built:
            facts["patterns under paper"] = self.built.patterns
            sees = "yes, as a target" if self.built.sees_hidden else "no"
            facts["training sees hidden content"] = sees
        if self.variants:
            facts["variants"] = "; ".join(
                f"{self.name}{VARIANT_MARK}{variant} ({', '.join(f'{k}={v!r}' for k, v in options.items())})"
                for variant, options in self.variants.items()
            )
        return facts | ({"beware": self.beware} if self.beware else {})

    @property
    def option_words(self) -> list[str]:
        """Return `name = default` of each option."""
        return [f"{key} = {value!r}" for key, value in self.options.items()]


def method_card(name: str) -> Card:
    """Return the card of a method; its networks are built without memory.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    method_class = find("method", name)
    built, refusal = None, ""
    try:
        built = _build(method_class)
    except ValueError as error:  # for other modalities only: its other facts are still worth a card
        refusal = str(error)
    multiple, minimum = method_class.size_multiple, method_class.size_minimum
    return Card(
        name=name,
        title=method_class.title,
        summary=(method_class.__doc__ or "").partition("\n")[0],
        paper=method_class.paper,
        source=method_class.source,
        licence=method_class.licence,
        parity=method_class.parity,
        beware=method_class.beware,
        deviations=method_class.deviations,
        origin=entry("method", name).origin,
        sizes="any" if minimum == 1 else f"multiples of {multiple}, at least {minimum} pixels",
        built=built,
        refusal=refusal,
        training=_describe_training(method_class.paper_training),
        options=option_defaults(method_class),
        variants=method_class.variants,
    )


def _build(method_class: type[Method]) -> Built:
    """Build a method without memory and look at it."""
    with torch.device("meta"), _no_initial_values():
        method = method_class(MODALITIES, NUM_CLASSES)
    return Built(
        parameters=_count([method]),
        parts={part: _count(modules) for part, modules in method.parts().items()},
        sees_hidden=method.sees_hidden_in_training,
        patterns=_describe_patterns(method),
    )


@contextmanager
def _no_initial_values() -> Iterator[None]:
    """Draw no weights, inside: without memory there is nowhere to keep them.

    Torch would import its compiler to do nothing, two seconds of a report.
    """
    torch.Tensor.normal_ = lambda self, *args, **kwargs: self  # type: ignore[method-assign]
    try:
        yield
    finally:
        del torch.Tensor.normal_  # what it inherits is there again


def _count(modules: Sequence[nn.Module]) -> int:
    """Return the number of parameters; what modules share counts once."""
    return sum(p.numel() for p in {p for module in modules for p in module.parameters()})


def _describe_patterns(method: Method) -> str:
    """Say which modalities the samples of a training have, and from when, under the method's own hiding."""
    phases: list[tuple[int, str]] = []
    before = None
    for step in range(_STEPS):
        distribution = method.patterns(step, _STEPS)
        if distribution == before:
            continue
        before = distribution
        words = _describe_distribution(distribution, list(method.modalities))
        if not phases or phases[-1][1] != words:
            phases.append((step, words))
    if len(phases) == 1:
        return phases[0][1]
    if len(phases) > _MOST_PHASES:
        return f"from {phases[0][1]} to {phases[-1][1]}, in {len(phases)} phases"
    return "; ".join(f"from {100 * step / _STEPS:.0f} % of the steps {words}" for step, words in phases)


def _describe_distribution(distribution: Mapping[tuple[bool, ...], float], modalities: Sequence[str]) -> str:
    """Return "full 1/3, irrg 2/3", or "full in every sample"."""
    shares = {pattern: Fraction(share).limit_denominator(1000) for pattern, share in distribution.items()}
    scenarios = [s for s in whole_modality_scenarios(modalities) if shares.get(s.present, 0) > 0]
    if len(scenarios) == 1:
        return f"{scenarios[0].name} in every sample"
    return ", ".join(f"{s.name} {shares[s.present]}" for s in scenarios)


def _describe_training(params: TrainingParams) -> str:
    """Return optimiser, schedule and accumulation: "sgd lr=0.001 momentum=0.99; poly power=0.9"."""
    shape = {"poly": ("power",), "warm_restarts": ("period",)}.get(params.schedule.name, ())
    parts = [_describe_settings(params.optimizer, ("lr",)), _describe_settings(params.schedule, shape)]
    if params.accumulation > 1:
        parts.append(f"{params.accumulation} micro-batches a step")
    return "; ".join(parts)


def _describe_settings(settings: OptimizerParams | ScheduleParams, always: Sequence[str]) -> str:
    """Return a name with the fields that are not their default, and those asked for always."""
    values = {f.name: (getattr(settings, f.name), f.default) for f in dataclasses.fields(settings)}
    words = [
        f"{key}={value}"
        for key, (value, default) in values.items()
        if key != "name" and (key in always or value != default)
    ]
    return " ".join([settings.name, *words])
