"""A roofline plot: each part of a method by its arithmetic intensity, under what the machine can do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mmbench.profiling.figure_style import (
    COLOURS,
    MUTED,
    SMALL,
    STYLE,
    Heading,
    conditions,
    part_words,
    short,
)
from mmbench.profiling.part_times import Phase, part_seconds
from mmbench.profiling.report import Case, MethodProfile, Settings, Share, Work
from mmbench.profiling.roofline import Roofs

_WIDTH, _PLOT_WIDTH, _PLOT_HEIGHT, _LEFT, _FOOT = 6.4, 2.75, 2.3, 0.45, 0.36
"""Inches."""
_COLUMNS = (1.06, 1.73, 1.94, 2.14)
"""Of the list beside the plot, in widths of the plot: where names begin and the three numbers end."""
_GIGA = 1e9
_CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0.3, "alpha": 0.85}
_STEPS = (1.0, 2.0, 5.0)
_LABEL_STEP = 0.062
"""Least distance between two labels, as a share of the plot's height."""
_LARGEST_DOT = 260.0
"""Area, points², of a part that takes the whole time."""
_WHOLE = "whole"


@dataclass(frozen=True)
class _Point:
    """A part, or the whole, in the scenario in which it does most.

    Attributes:
        intensity: FLOP per byte.
        speed: FLOP/s.
        time: Share of the scenario's time.
    """

    name: str
    scenario: str
    intensity: float
    speed: float
    time: float


def draw_roofline(
    method: MethodProfile,
    settings: Settings,
    batch_size: int,
    roofs: Roofs,
    phase: Phase = "inference",
) -> Figure:
    """Draw the parts of a method, and the whole, under the roofs of a machine.

    A part is drawn in the scenario in which it does the most FLOP. The bytes are those that its operators
    read and write, each as if alone; what a cache saves of them lifts a point above the slanted roof.

    Args:
        method: Profiled, with times.
        settings: Of the profile.
        batch_size: Whose cases are drawn.
        roofs: Of the machine, threads and precision that the profile was taken with.
        phase: Inference, or forward and backward of a training step.

    Raises:
        ValueError: If nothing was timed at this batch size, or nothing timed does any FLOP.
    """
    cases = [case for case in method.cases if case.batch_size == batch_size]
    points, without = _points(cases, phase)
    if not points:
        raise ValueError(
            f"draw_roofline: {method.name} has no timed part with FLOP at batch size {batch_size}; "
            "profile it with times"
        )
    idle = f"; without FLOP, not drawn: {', '.join(without)}" if without else ""
    words = "one forward" if phase == "inference" else "forward and backward of a training step"
    below = (
        f"{conditions(method, settings, batch_size)}; {words}, each part in the scenario with most "
        f"FLOP (named where it is not full); the larger a dot, the more time it takes{idle}. "
        f"{roofs.words[0].upper()}{roofs.words[1:]}. Bytes as each operator reads and writes them: "
        "above the slanted roof, a cache served some"
    )
    heading = Heading(f"{method.title}: how near its parts come to the machine's limits", below, _WIDTH)
    height = heading.height + 0.3 + _PLOT_HEIGHT + _FOOT
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, height))
        FigureCanvasAgg(figure)
        axes = figure.add_axes((_LEFT / _WIDTH, _FOOT / height, _PLOT_WIDTH / _WIDTH, _PLOT_HEIGHT / height))
        _scale(axes, points, roofs)
        _draw_roofs(axes, roofs)
        _draw_points(axes, points)
        _label(axes, points, roofs)
        heading.write(figure)
    return figure


def _points(cases: list[Case], phase: Phase) -> tuple[list[_Point], list[str]]:
    """Return what can be drawn, and the names of timed parts that do no FLOP."""
    best: dict[str, _Point] = {}
    most: dict[str, int] = {}
    timed: dict[str, None] = {}
    for case in cases:
        seconds = {share.name: part_seconds(case, share, phase) for share in case.parts}
        in_all = sum(value or 0.0 for value in seconds.values())
        everything = Share(name=_WHOLE, costs=case.costs)
        for share in (*case.parts, everything):
            work = _work(share, phase)
            taken = in_all if share is everything else seconds[share.name]
            if not taken:
                continue
            timed[share.name] = None
            if work.flops > most.get(share.name, 0) and work.bytes:
                most[share.name] = work.flops
                best[share.name] = _Point(
                    share.name, case.scenario, work.flops_per_byte, work.flops / taken, taken / in_all
                )
    return list(best.values()), [name for name in timed if name not in best]


def _work(share: Share, phase: Phase) -> Work:
    """Return what was counted of a part in a phase."""
    return share.costs.inference if phase == "inference" else share.costs.training


def _scale(axes: Axes, points: list[_Point], roofs: Roofs) -> None:
    """Set logarithmic axes, as roofline plots have, around the points, the ridge and the upper roof."""
    intensities = [point.intensity for point in points]
    speeds = [point.speed / _GIGA for point in points]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*_round_range([*intensities, roofs.ridge / 4, roofs.ridge * 6]))
    axes.set_ylim(
        *_round_range([min(speeds) / 2, *speeds, roofs.flops_per_second / _GIGA])
    )  # words at the foot
    axes.set_xlabel("arithmetic intensity (FLOP per byte read or written)", labelpad=2)
    axes.set_ylabel("speed (GFLOP/s)", labelpad=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=_STEPS))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.grid(visible=True, color="#ececec", linewidth=0.5, zorder=0)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)


def _round_range(values: list[float]) -> tuple[float, float]:
    """Return numbers of the form 1, 2 or 5 · 10^n around some values, with room for a dot at either end."""
    steps = [step * 10.0**power for power in range(-9, 10) for step in _STEPS]
    low = max(step for step in steps if step <= min(values) / 1.25)
    return low, min(step for step in steps if step >= max(values) * 1.25)


def _draw_roofs(axes: Axes, roofs: Roofs) -> None:
    """Draw both roofs, each with what it says along it."""
    left, right = axes.get_xlim()
    low, _ = axes.get_ylim()
    start = max(left, low * _GIGA / roofs.bytes_per_second)
    top = roofs.flops_per_second / _GIGA
    corners = [start, roofs.ridge, right]
    axes.plot(corners, [roofs.attainable(x) / _GIGA for x in corners], color="black", linewidth=1.0, zorder=2)
    above: dict[str, Any] = {"textcoords": "offset points", "fontsize": SMALL, "zorder": 4, "bbox": _CLEAR}
    words = f"matrix product {short(top)} GFLOP/s"
    axes.annotate(words, (right, top), (-2, 3), ha="right", **above)
    axes.plot([roofs.ridge] * 2, [low, top], color=MUTED, linewidth=0.6, linestyle=(0, (3, 3)), zorder=1)
    foot: dict[str, Any] = above | {"color": MUTED, "va": "bottom"}
    axes.annotate("← memory limits", (roofs.ridge, low), (-3, 2), ha="right", **foot)
    axes.annotate(
        f"arithmetic limits →\nridge {short(roofs.ridge)} FLOP/byte", (roofs.ridge, low), (3, 2), **foot
    )
    middle = math.sqrt(start * roofs.ridge)
    axes.annotate(
        f"memory {short(roofs.bytes_per_second / _GIGA)} GB/s",
        (middle, roofs.attainable(middle) / _GIGA),
        (-3, 4),
        ha="center",
        va="center",
        rotation=math.degrees(math.atan(_slope(axes))),
        rotation_mode="anchor",
        **above,
    )


def _slope(axes: Axes) -> float:
    """Return inches up per inch right of a line of slope 1 in logarithms."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    up = _PLOT_HEIGHT / math.log10(high / low)
    return up / (_PLOT_WIDTH / math.log10(right / left))


def _draw_points(axes: Axes, points: list[_Point]) -> None:
    """Draw a dot a part, the whole as a black diamond."""
    for point in points:
        whole = point.name == _WHOLE
        axes.scatter(
            point.intensity,
            point.speed / _GIGA,
            s=30.0 if whole else max(4.0, _LARGEST_DOT * point.time),
            marker="D" if whole else "o",
            color="black" if whole else COLOURS[0],
            alpha=0.75,
            linewidth=0,
            zorder=3,
        )


def _label(axes: Axes, points: list[_Point], roofs: Roofs) -> None:
    """Name each point in a list beside the plot, at its height where there is room, and join the two."""
    points = sorted(points, key=lambda point: point.speed)
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    heights = [math.log10(point.speed / _GIGA / low) / math.log10(high / low) for point in points]
    beside: dict[str, Any] = {"transform": axes.transAxes, "fontsize": SMALL, "va": "center"}
    for place, words in zip(_COLUMNS[1:], ("GFLOP/s", "of the roof", "of the time"), strict=True):
        axes.text(place, 1.04, words, ha="right", color=MUTED, **beside)
    for point, height, place in zip(points, heights, _spread(heights), strict=True):
        scenario = "" if point.scenario == "full" else f" ({point.scenario})"
        reached = f"{100 * point.speed / roofs.attainable(point.intensity):.0f} %"
        weight = "bold" if point.name == _WHOLE else "normal"
        name = f"{part_words(point.name)}{scenario}"
        axes.text(_COLUMNS[0], place, name, weight=weight, **beside)
        axes.text(_COLUMNS[1], place, short(point.speed / _GIGA), ha="right", weight=weight, **beside)
        axes.text(_COLUMNS[2], place, reached, ha="right", weight=weight, **beside)
        axes.text(_COLUMNS[3], place, f"{100 * point.time:.0f} %", ha="right", weight=weight, **beside)
        across = math.log10(point.intensity / left) / math.log10(right / left)
        joint = ([across, 1.0, _COLUMNS[0] - 0.01], [height, place, place])
        axes.plot(*joint, transform=axes.transAxes, clip_on=False, color="#a0a0a0", linewidth=0.4, zorder=1)


def _spread(heights: list[float]) -> list[float]:
    """Return ascending heights moved apart to the least distance, none above the top of the plot."""
    places: list[float] = []
    for height in heights:
        places.append(max(height, places[-1] + _LABEL_STEP) if places else height)
    ceiling = 1.0
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - _LABEL_STEP
    return places
