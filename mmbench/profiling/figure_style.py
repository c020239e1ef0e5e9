"""What the figures of a profile share: sizes, colours, headings, words for parts and numbers, saving.

Nothing here touches pyplot: a figure is an object of its own and leaves no state behind.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from mmbench.errors import InvalidRecipeError
from mmbench.profiling.report import MethodProfile, Settings

FIGURE_FORMATS = (".png", ".svg", ".pdf")
STYLE: dict[Any, Any] = {
    "font.size": 7.0,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "xtick.major.size": 2.0,
    "ytick.major.width": 0.5,
    "ytick.major.size": 2.0,
    "svg.hashsalt": "mmbench",
    "pdf.fonttype": 42,
    "text.parse_math": False,
}
"""Sizes in points at the width that is printed: a paper's text must not be smaller. Fonts stay text in a PDF
(many publishers refuse Type 3), and a dollar in a method's name is a dollar."""
SMALL, TINY = 6.0, 5.5
MUTED = "#595959"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
"""Of scenarios: blue, orange, green, purple of Okabe and Ito, told apart by colour-blind readers."""
LINE = 0.105
"""Height of a line of small text, inches."""
_LETTERS_PER_INCH = 21
"""Of small text, on average."""
_PART_WORDS = {
    "intra": "transformer in each modality",
    "inter": "transformer across modalities",
    "other": "other (in no part)",
}
"""Names of parts that several methods have and that say nothing to a reader of a figure alone."""


class Heading:
    """A title at the upper left corner of a figure and lines below it that say how the figures were taken."""

    def __init__(self, title: str, below: str, width: float) -> None:
        """Break the lines.

        Args:
            title: One line.
            below: Broken into as many lines as it needs.
            width: Of the figure, inches.
        """
        self.title = title
        self.lines = textwrap.wrap(below, int(width * _LETTERS_PER_INCH))

    @property
    def height(self) -> float:
        """What it takes of the figure's height, inches."""
        return 0.19 + len(self.lines) * LINE

    def write(self, figure: Figure) -> None:
        """Write it."""
        width, height = figure.get_size_inches()
        figure.text(0.05 / width, 1 - 0.15 / height, self.title, fontsize=8.5, weight="bold")
        for index, line in enumerate(self.lines):
            place = 1 - (0.27 + index * LINE) / height
            figure.text(0.05 / width, place, line, color=MUTED, fontsize=SMALL)


def part_words(name: str) -> str:
    """Return a part's name as a reader of the figure alone understands it."""
    return _PART_WORDS.get(name, name.replace("_", " ").replace(".", " "))


def conditions(method: MethodProfile, settings: Settings, batch_size: int) -> str:
    """Return size, batch, device, threads, dtype and the options that were set, in one line."""
    threads = "" if "thread" in settings.device else f", {settings.threads} threads"
    options = "".join(f", {key}={value}" for key, value in sorted(method.options.items()))
    return (
        f"{settings.size} × {settings.size}, batch {batch_size}, {settings.device}{threads}, "
        f"{settings.precision}, torch {settings.torch}{options}"
    )


def unit_of(units: Sequence[tuple[str, float]], value: float) -> tuple[str, float]:
    """Return the largest unit of which a value is at least one; the smallest if there is none."""
    fitting = [unit for unit in units if value >= unit[1]]
    return fitting[-1] if fitting else units[0]


def short(value: float) -> str:
    """Return three significant digits, at most two decimals."""
    if value == 0:
        return "0"
    if value < 0.01:
        return "<0.01"
    decimals = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{decimals}f}"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix; the same figure gives the same file.

    Raises:
        InvalidRecipeError: If it is none of the formats.
    """
    suffix = path.suffix.lower()
    if suffix not in FIGURE_FORMATS:
        raise InvalidRecipeError(f"figure {path}: expected a name that ends with {', '.join(FIGURE_FORMATS)}")
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": None}
    # Lighter than the default: panels of tiles come out no larger, and it is less work.
    faster: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if suffix == ".png" else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(path, dpi=300, metadata=undated[suffix], **faster)
