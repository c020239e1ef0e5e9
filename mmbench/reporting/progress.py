"""Progress of a run: a live display on a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

Style = Literal["auto", "rich", "plain", "off"]
_LINE_EVERY_S = 30.0


class Display(Protocol):
    """What a run tells about its cells."""

    def cell(self, number: int, total: int, name: str) -> None:
        """Say that a cell begins."""

    def step(self, phase: str, done: int, total: int, figures: dict[str, float]) -> None:
        """Say how far the cell is."""

    def result(self, line: str) -> None:
        """Say how a cell ended."""


class _Off:
    """Says nothing."""

    def cell(self, number: int, total: int, name: str) -> None: ...

    def step(self, phase: str, done: int, total: int, figures: dict[str, float]) -> None: ...

    def result(self, line: str) -> None: ...


class _Plain:
    """Prints a line when a cell begins and ends, and every 30 s between."""

    def __init__(self) -> None:
        self._name, self._began, self._last = "", 0.0, 0.0

    def cell(self, number: int, total: int, name: str) -> None:
        self._name, self._began = f"[{number}/{total}] {name}", time.monotonic()
        self._last = self._began
        _say(f"{self._name}: started")

    def step(self, phase: str, done: int, total: int, figures: dict[str, float]) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_S:
            self._last = now
            _say(f"{self._name}: {phase} {done}/{total}, {_words(figures)}{now - self._began:.0f} s")

    def result(self, line: str) -> None:
        _say(f"{self._name}: {line}")


class _Rich:
    """Draws two bars: the cells, and the steps of the current one."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._cells = progress.add_task("cells", total=None, figures="")
        self._steps = progress.add_task("", total=None, figures="")
        self._name, self._phase, self._began = "", "", 0.0

    def cell(self, number: int, total: int, name: str) -> None:
        self._name, self._phase = name, ""
        self._progress.update(self._cells, completed=number - 1, total=total)

    def step(self, phase: str, done: int, total: int, figures: dict[str, float]) -> None:
        if phase != self._phase:
            self._phase, self._began = phase, time.monotonic()
            self._progress.reset(self._steps, description=f"{self._name}, {phase}", total=total, figures="")
        rate = done / max(time.monotonic() - self._began, 1e-9)
        unit = "steps/s" if phase in ("search", "train") else "tiles/s"
        self._progress.update(
            self._steps, completed=done, total=total, figures=f"{_words(figures)}{rate:.2f} {unit}"
        )

    def result(self, line: str) -> None:
        self._progress.advance(self._cells)
        self._progress.console.print(f"{self._name}: {line}", highlight=False, markup=False)


@contextmanager
def display(style: Style) -> Iterator[Display]:
    """Open the display of a style; "auto" is rich on a terminal and plain elsewhere."""
    if style == "auto":
        style = "rich" if sys.stderr.isatty() else "plain"
    if style == "off":
        yield _Off()
    elif style == "plain":
        yield _Plain()
    else:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            yield _Rich(progress)


def _words(figures: dict[str, float]) -> str:
    """Return "loss 1.234, miou 0.456, "."""
    return "".join(f"{name} {value:.3f}, " for name, value in figures.items())


def _say(line: str) -> None:
    """Write a line to the error stream at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
