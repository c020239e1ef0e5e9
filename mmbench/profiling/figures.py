"""Where time, arithmetic and memory of a method go, as a figure: a row is a part, a bar a scenario.

Nothing here touches pyplot: a figure is an object of its own and leaves no state behind.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmbench.profiling.figure_style import (
    COLOURS,
    LINE,
    MUTED,
    SMALL,
    STYLE,
    TINY,
    Heading,
    conditions,
    part_words,
    short,
    unit_of,
)
from mmbench.profiling.part_times import Phase, part_seconds
from mmbench.profiling.report import Case, MethodProfile, Settings, Share

_BAR, _GAP, _FOOT = 0.085, 0.075, 0.2
"""Heights in inches: a bar, between parts, what is below the panels."""
_NAMES, _PANEL, _BETWEEN_PHASES = 1.05, 1.0, 0.12
"""Widths in inches: the parts' names, a panel, between the panels of two phases."""
_LETTERS_OF_A_NAME = 18
"""Of a part, in a line."""
_ROOM = 2.05
"""Width of a panel in lengths of its longest bar: behind it stand its value and its share."""


@dataclass(frozen=True)
class _Quantity:
    """What a panel shows.

    Attributes:
        name: Its heading.
        units: (unit, how much of what `of_part` gives one is), smallest first.
        of_part: Its value for a part of a case, None if it was not measured.
    """

    name: str
    units: tuple[tuple[str, float], ...]
    of_part: Callable[[Case, Share], float | None]


_TIME = (("ms", 1e-3), ("s", 1.0))
_FLOP = (("MFLOP", 1e6), ("GFLOP", 1e9), ("TFLOP", 1e12))
_BYTES = (("MB", 1e6), ("GB", 1e9))
_KEPT = (("MiB", 2.0**20), ("GiB", 2.0**30))


_QUANTITIES: dict[Phase, tuple[_Quantity, ...]] = {
    "inference": (
        _Quantity("time", _TIME, lambda case, share: part_seconds(case, share, "inference")),
        _Quantity("arithmetic", _FLOP, lambda _, share: share.costs.inference.flops),
        _Quantity("memory traffic", _BYTES, lambda _, share: share.costs.inference.bytes),
    ),
    "training": (
        _Quantity("time", _TIME, lambda case, share: part_seconds(case, share, "training")),
        _Quantity("arithmetic", _FLOP, lambda _, share: share.costs.training.flops),
        _Quantity("memory kept", _KEPT, lambda _, share: share.costs.saved_bytes),
    ),
}
_PHASE_NAMES: dict[Phase, str] = {"inference": "inference", "training": "training step"}


def draw_costs(
    method: MethodProfile,
    settings: Settings,
    batch_size: int,
    phases: Sequence[Phase] = ("inference", "training"),
) -> Figure:
    """Draw where time, FLOP and memory go, by part and scenario.

    Of more than four scenarios, `full` and those with the least and the most FLOP are drawn.

    Args:
        method: Profiled.
        settings: Of the profile.
        batch_size: Whose cases are drawn.
        phases: One makes a figure of about a column's width (up to 4.0 in), two of a page's (up to 7.2 in).

    Raises:
        ValueError: If there is no case of this batch size.
    """
    cases = [case for case in method.cases if case.batch_size == batch_size]
    if not cases:
        there = sorted({case.batch_size for case in method.cases})
        raise ValueError(f"draw_costs: {method.name} was not profiled at batch size {batch_size}; at {there}")
    shown = _shown(cases)
    panels = [(phase, q) for phase in phases for q in _QUANTITIES[phase] if _known(shown, q)]
    parts = list(dict.fromkeys(share.name for case in shown for share in case.parts))
    between = _BETWEEN_PHASES * len({phase for phase, _ in panels[1:]} - {panels[0][0]})
    width = _NAMES + _PANEL * len(panels) + between
    selection = f" ({len(shown)} of {len(cases)} drawn)" if len(shown) < len(cases) else ""
    heading = Heading(
        f"{method.title}: where the cost of a batch goes",
        f"{conditions(method, settings, batch_size)}; "
        f"a bar is a scenario, named by the modalities present{selection}; "
        "a figure in grey is the part's share of that scenario's total",
        width,
    )
    rows_height = (len(shown) * _BAR + _GAP) * len(parts)
    height = heading.height + (len(shown) + 2.7) * LINE + rows_height + _FOOT
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        left = _NAMES
        for index, (phase, quantity) in enumerate(panels):
            first_of_phase = index == 0 or panels[index - 1][0] != phase
            left += _BETWEEN_PHASES if first_of_phase and index else 0.0
            box = (left / width, _FOOT / height, (_PANEL - 0.12) / width, rows_height / height)
            axes = figure.add_axes(box)
            _draw_panel(axes, shown, parts, quantity, phase if first_of_phase else None)
            if index == 0:
                _name_rows(axes, parts)
            left += _PANEL
        heading.write(figure)
    return figure


def _shown(cases: Sequence[Case]) -> list[Case]:
    """Return at most four cases, in their order."""
    if len(cases) <= len(COLOURS):
        return list(cases)
    by_work = sorted(cases, key=lambda case: case.costs.inference.flops)
    return [case for case in cases if case in (cases[0], by_work[0], by_work[-1])]


def _known(cases: Sequence[Case], quantity: _Quantity) -> bool:
    """Whether a figure was measured for any part."""
    return any(quantity.of_part(case, share) is not None for case in cases for share in case.parts)


def _draw_panel(
    axes: Axes, cases: Sequence[Case], parts: Sequence[str], quantity: _Quantity, phase: Phase | None
) -> None:
    """Draw one figure of every part and scenario; its total of each scenario stands above, in its colour.

    Args:
        axes: As wide and high as the bars may be.
        cases: One a colour.
        parts: One a row.
        quantity: What is drawn.
        phase: Its name is written above the panel.
    """
    values = [{share.name: quantity.of_part(case, share) or 0.0 for share in case.parts} for case in cases]
    unit, one = unit_of(quantity.units, max(max(by_part.values(), default=0.0) for by_part in values))
    rows = [[by_part.get(part, 0.0) / one for by_part in values] for part in parts]
    longest = max(map(max, rows)) or 1.0
    band = len(cases) * _BAR + _GAP
    totals = [sum(column) for column in zip(*rows, strict=True)]
    for index, row in enumerate(rows):
        _draw_row(axes, row, totals, index * band, longest, shaded=index % 2 == 0)
    for index, (case, total) in enumerate(zip(cases, totals, strict=True)):
        _write_key(axes, len(cases) - 1 - index, COLOURS[index], f"{case.scenario} {short(total)} {unit}")
    above: dict[str, Any] = {"transform": axes.transAxes}
    axes.text(0, _above(axes, len(cases) + 0.3), f"{quantity.name} ({unit})", color=MUTED, **above)
    if phase is not None:
        axes.text(0, _above(axes, len(cases) + 1.4), _PHASE_NAMES[phase], weight="bold", **above)
    axes.set_ylim(band * len(parts), 0)
    axes.set_xlim(0, longest * _ROOM)
    axes.set_xticks([0, longest], ["0", short(longest)], fontsize=TINY, color=MUTED)
    axes.set_yticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _draw_row(
    axes: Axes, row: Sequence[float], totals: Sequence[float], top: float, longest: float, *, shaded: bool
) -> None:
    """Draw the bars of one part, each with its value and its share of the scenario's total, or one 0."""
    band = len(row) * _BAR + _GAP
    if shaded:
        axes.axhspan(top, top + band, color="#f2f2f2", linewidth=0, zorder=0)
    beside = longest * 0.03
    for index, (value, total) in enumerate(zip(row, totals, strict=True)):
        place = top + (_GAP + _BAR) / 2 + index * _BAR
        axes.barh(place, value, height=_BAR * 0.86, color=COLOURS[index], zorder=2)
        style: dict[str, Any] = {"va": "center_baseline", "fontsize": TINY}
        if any(row):
            colour = "black" if value else MUTED
            axes.text(value + beside, place, short(value), color=colour, **style)
        if value:
            axes.text(
                longest * (_ROOM - 0.02), place, _percent(value / total), color=MUTED, ha="right", **style
            )
    if not any(row):
        axes.text(beside, top + band / 2, "0", va="center", fontsize=TINY, color=MUTED)


def _percent(share: float) -> str:
    """Return a share without decimals."""
    return "<1 %" if share < 0.005 else f"{100 * share:.0f} %"


def _above(axes: Axes, lines: float) -> float:
    """Return the height, in the coordinates of the axes, of a line of small text above them."""
    figure = axes.get_figure()
    inches = axes.get_position().height * (figure.get_figheight() if isinstance(figure, Figure) else 1.0)
    return 1 + (lines * LINE + 0.03) / inches


def _write_key(axes: Axes, line: int, colour: str, words: str) -> None:
    """Write the total of a scenario above a panel, behind a square of its colour: the key to the bars."""
    height = _above(axes, line)
    axes.text(0, height, "■", transform=axes.transAxes, color=colour, fontsize=SMALL)
    axes.text(0.1, height, words, transform=axes.transAxes, fontsize=SMALL)


def _name_rows(axes: Axes, parts: Sequence[str]) -> None:
    """Write the parts' names beside the first panel."""
    band = axes.get_ylim()[0] / len(parts)
    for row, part in enumerate(parts):
        place = (row + 0.5) * band
        words = textwrap.fill(part_words(part), _LETTERS_OF_A_NAME)
        axes.text(-0.06, place, words, transform=axes.get_yaxis_transform(), ha="right", va="center")
