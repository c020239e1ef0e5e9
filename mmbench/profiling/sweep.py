"""How cost grows with the size of the images, the batch or the number of modalities: one profile a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from mmbench.errors import CellFailedError, InvalidRecipeError
from mmbench.profiling.part_times import part_seconds
from mmbench.profiling.power_law import PowerLaw, fit_power_law
from mmbench.profiling.report import Case, MethodProfile, ProfileReport, Share

Quantity = Literal["size", "batch", "modalities"]

SWEPT: dict[Quantity, tuple[int, ...]] = {
    "size": (128, 192, 256, 384, 512),
    "batch": (1, 2, 4, 8),
    "modalities": (1, 2, 3, 4),
}
"""The values of each quantity: the side in pixels, images, modalities."""
_GRID = 16
"""Pixels: most methods take multiples of it."""
WHOLE = "whole"
ATTENTION = "attention products"
_ATTENTION_KIND = "attention"
"""Of operators: what `mmbench.profiling.operators` calls the products of queries, keys and values."""


@dataclass(frozen=True)
class Figure:
    """A figure whose growth is fitted.

    Attributes:
        name: For a column.
        of_share: Its value for a part of a case, None where it was not measured.
        of_case: For the whole.
    """

    name: str
    of_share: Callable[[Case, Share], float | None]
    of_case: Callable[[Case], float | None]


def _nothing(case: Case, share: Share) -> None:
    """Return None: the figure is known of the whole only."""


FIGURES = (
    Figure("FLOP", lambda _, share: share.costs.inference.flops, lambda case: case.costs.inference.flops),
    Figure(
        "latency",
        lambda case, share: part_seconds(case, share, "inference"),
        lambda case: case.latency.p50_ms / 1e3 if case.latency else None,
    ),
    Figure(
        "training FLOP", lambda _, share: share.costs.training.flops, lambda case: case.costs.training.flops
    ),
    Figure(
        "training step",
        lambda case, share: part_seconds(case, share, "training"),
        lambda case: case.step_seconds,
    ),
    Figure("kept memory", lambda _, share: share.costs.saved_bytes, lambda case: case.costs.saved_bytes),
    Figure("peak memory", _nothing, lambda case: case.memory.inference_bytes if case.memory else None),
)
"""The first two and the last of inference, the others of a training step."""


@dataclass(frozen=True)
class Growth:
    """How one part grows, or the whole, or the attention products of all parts.

    Attributes:
        name: Which.
        values: Figure -> value at each swept value, where all were measured.
        laws: Figure -> fit; a figure that is 0 somewhere has none.
    """

    name: str
    values: dict[str, tuple[float, ...]] = field(default_factory=dict)
    laws: dict[str, PowerLaw] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """The growth of one method in one scenario.

    Attributes:
        method: With its options.
        quantity: What was swept.
        values: In ascending order.
        scenario: Its name.
        growths: The whole, then the parts, then the attention products.
        refused: Value -> why the method does not take it.
    """

    method: MethodProfile
    quantity: Quantity
    values: tuple[int, ...]
    scenario: str
    growths: tuple[Growth, ...]
    refused: Mapping[int, str] = field(default_factory=dict)


def sweep_values(
    quantity: str, batch_sizes: Sequence[int] | None = None, largest: int | None = None
) -> tuple[Quantity, tuple[int, ...]]:
    """Return a quantity, now known to be one, and its values.

    Args:
        quantity: Its name.
        batch_sizes: Values of "batch" in place of its own.
        largest: Side in pixels of the largest images of "size"; the others keep their ratio to it, in
            multiples of 16.

    Raises:
        InvalidRecipeError: If it cannot be swept, or over fewer than two values.
    """
    known = next((known for known in SWEPT if known == quantity), None)
    if known is None:
        raise InvalidRecipeError(f"--sweep {quantity!r}: expected one of {', '.join(get_args(Quantity))}")
    values = SWEPT[known]
    if known == "batch" and batch_sizes is not None:
        values = tuple(sorted(set(batch_sizes)))
    if known == "size" and largest is not None:
        smaller = (largest * side // (max(values) * _GRID) * _GRID for side in values[:-1])
        values = tuple(dict.fromkeys([*(side for side in smaller if side), largest]))
    if len(values) < 2:
        raise InvalidRecipeError(f"--sweep {quantity} over {values}: expected at least two values")
    return known, values


def take_modalities(modalities: Mapping[str, int], count: int) -> dict[str, int]:
    """Return as many modalities, name -> channels: a dataset's first ones, then stand-ins like its last.

    No pixel of a stand-in exists; a profile needs none.
    """
    taken = dict(list(modalities.items())[:count])
    channels = list(modalities.values())[-1]
    return taken | {f"extra{number}": channels for number in range(len(taken) + 1, count + 1)}


def sweep_method(
    quantity: Quantity, values: Iterable[int], profile_at: Callable[[int], ProfileReport]
) -> list[Sweep]:
    """Profile one method at each value and fit how its figures grow.

    Args:
        quantity: What `profile_at` changes.
        values: At least two that the method takes.
        profile_at: Value -> profile of the one method. A CellFailedError, InvalidRecipeError or ValueError
            means that the method, or the machine, does not take the value.

    Returns:
        One sweep for each scenario that every profile has.

    Raises:
        CellFailedError: If the method takes fewer than two of the values.
    """
    reports: dict[int, ProfileReport] = {}
    refused: dict[int, str] = {}
    for value in sorted(values):
        try:
            reports[value] = profile_at(value)
        except (CellFailedError, InvalidRecipeError, ValueError) as error:
            refused[value] = str(error)
    if len(reports) < 2:
        value, why = next(iter(refused.items()))
        raise CellFailedError(
            f"--sweep {quantity}: the method takes {list(reports) or 'none'} of {sorted(values)}, "
            f"expected at least two (at {value}: {why}). Choose another method or quantity"
        )
    return fit_sweep(quantity, reports, refused)


def fit_sweep(
    quantity: Quantity, reports: Mapping[int, ProfileReport], refused: Mapping[int, str] | None = None
) -> list[Sweep]:
    """Fit the growth over profiles of one method, each taken at one value of a quantity.

    Args:
        quantity: What differs between the profiles.
        reports: Value -> profile; of a batch sweep, of that batch size, of others, of one batch size.
        refused: Value -> why there is no profile.

    Returns:
        One sweep for each scenario that every profile has.
    """
    by_scenario: dict[str, dict[int, Case]] = {}
    for value, report in sorted(reports.items()):
        (method,) = report.methods
        wanted = value if quantity == "batch" else min(case.batch_size for case in method.cases)
        for case in method.cases:
            if case.batch_size == wanted:
                by_scenario.setdefault(case.scenario, {})[value] = case
    last = reports[max(reports)].methods[0]
    return [
        Sweep(last, quantity, tuple(cases), scenario, _growths(cases), dict(refused or {}))
        for scenario, cases in by_scenario.items()
        if len(cases) == len(reports)
    ]


def _growths(cases: Mapping[int, Case]) -> tuple[Growth, ...]:
    """Fit every figure of the whole, of each part, and of the attention products."""
    at = list(cases)
    whole = {figure.name: [figure.of_case(case) for case in cases.values()] for figure in FIGURES}
    growths = [_growth(WHOLE, at, whole)]
    names = dict.fromkeys(share.name for case in cases.values() for share in case.parts)
    for name in names:
        shares = [(case, _find(case.parts, name)) for case in cases.values()]
        growths.append(_growth(name, at, _figures_of(shares)))
    attention = [(case, _find(case.operators, _ATTENTION_KIND)) for case in cases.values()]
    if any(share is not None for _, share in attention):
        growths.append(_growth(ATTENTION, at, _figures_of(attention)))
    return tuple(growths)


def _find(shares: Sequence[Share], name: str) -> Share | None:
    """Return the share of that name."""
    return next((share for share in shares if share.name == name), None)


def _figures_of(shares: Sequence[tuple[Case, Share | None]]) -> dict[str, list[float | None]]:
    """Return figure -> its values; a part that is not there costs nothing."""
    return {
        figure.name: [0.0 if share is None else figure.of_share(case, share) for case, share in shares]
        for figure in FIGURES
    }


def _growth(name: str, at: Sequence[int], figures: Mapping[str, Sequence[float | None]]) -> Growth:
    """Fit what was measured everywhere and is 0 nowhere."""
    values = {
        figure: tuple(value for value in row if value is not None)
        for figure, row in figures.items()
        if None not in row
    }
    laws = {figure: fit_power_law(at, row) for figure, row in values.items() if min(row) > 0}
    return Growth(name, values, laws)
