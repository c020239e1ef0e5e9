"""How a method's cost grows, part by part, on logarithmic axes: the slope is the exponent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from mmbench.profiling.figure_style import COLOURS, MUTED, SMALL, STYLE, Heading, part_words
from mmbench.profiling.sweep import ATTENTION, WHOLE, Growth, Sweep

_PANELS = (
    ("FLOP", "GFLOP of a forward", 1e9),
    ("latency", "latency (ms)", 1e-3),
    ("kept memory", "kept memory (MiB)", 2.0**20),
)
"""Figure of a sweep, heading, what one unit is."""
_AXES_NAMES = {
    "size": "side of the images (pixels)",
    "batch": "images in a batch",
    "modalities": "modalities",
}
_LEFT, _PLOT, _LABELS, _HEIGHT, _FOOT = 0.42, 1.25, 1.8, 2.0, 0.36
"""Inches: left of a plot, its width, the names right of it, its height, below it."""
_STEP = 0.058
"""Least distance between two names, as a share of the height."""
_EMPHASIS: dict[str, dict[str, Any]] = {
    WHOLE: {"color": "black", "linewidth": 1.4},
    ATTENTION: {"color": COLOURS[1], "linewidth": 1.4, "linestyle": (0, (4, 1.5))},
}


def draw_growth(sweep: Sweep, conditions: str) -> Figure:
    """Draw FLOP, latency and kept memory over the swept quantity, as far as they are known.

    Args:
        sweep: Fitted, of one scenario.
        conditions: What was not swept.
    """
    known = [panel for panel in _PANELS if any(panel[0] in growth.laws for growth in sweep.growths)]
    width = len(known) * (_LEFT + _PLOT + _LABELS)
    heading = Heading(
        f"{sweep.method.title}: how its cost grows",
        f"scenario {sweep.scenario}, {conditions}; behind each name the exponent of the power law, "
        "a → b: over all values, and between the last two"
        + ("; 2 is linear in pixels and tokens, 4 quadratic" if sweep.quantity == "size" else ""),
        width,
    )
    height = heading.height + 0.3 + _HEIGHT + _FOOT
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        for index, (name, words, unit) in enumerate(known):
            left = index * (_LEFT + _PLOT + _LABELS) + _LEFT
            axes = figure.add_axes((left / width, _FOOT / height, _PLOT / width, _HEIGHT / height))
            _draw(axes, sweep, name, unit)
            axes.set_title(words, loc="left", fontsize=7.0, weight="bold")
        heading.write(figure)
    return figure


def _draw(axes: Axes, sweep: Sweep, figure: str, unit: float) -> None:
    """Draw one figure of every part that has it."""
    drawn = [growth for growth in sweep.growths if figure in growth.laws]
    for growth in drawn:
        style = _EMPHASIS.get(growth.name, {"color": COLOURS[0], "linewidth": 0.8, "alpha": 0.8})
        values = [value / unit for value in growth.values[figure]]
        axes.plot(sweep.values, values, marker="o", markersize=2.0, zorder=3, **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator([float(value) for value in sweep.values]))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel(_AXES_NAMES[sweep.quantity], labelpad=2)
    axes.grid(visible=True, color="#ececec", linewidth=0.5, zorder=0)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    _name(axes, drawn, figure, unit)


def _name(axes: Axes, growths: Sequence[Growth], figure: str, unit: float) -> None:
    """Write each line's name and exponent right of its end, apart from each other."""
    heights = {}
    for growth in growths:
        last = axes.transData.transform((1.0, growth.values[figure][-1] / unit))
        heights[growth.name] = float(axes.transAxes.inverted().transform(last)[1])
    below = -1.0
    for growth in sorted(growths, key=lambda growth: heights[growth.name]):
        law = growth.laws[figure]
        place = below = max(heights[growth.name], below + _STEP)
        exponent = f"{law.exponent:.2f}"
        if abs(law.last_exponent - law.exponent) >= 0.05:
            exponent += f" → {law.last_exponent:.2f}"
        weight = "bold" if growth.name in _EMPHASIS else "normal"
        axes.plot(
            [1.0, 1.05],
            [heights[growth.name], place],
            transform=axes.transAxes,
            clip_on=False,
            color=MUTED,
            lw=0.4,
        )
        axes.text(
            1.07,
            place,
            f"{part_words(growth.name)}  {exponent}",
            transform=axes.transAxes,
            fontsize=SMALL,
            va="center",
            weight=weight,
        )
