"""What `mmbench profile` makes of profiles: tables, files, figures; and the values of an option."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import typer

from mmbench.errors import CellFailedError, InvalidRecipeError

if TYPE_CHECKING:
    from mmbench.profiling.report import MethodProfile, ProfileReport, Settings
    from mmbench.recipe import Recipe

ProfileOne = Callable[[str, "Settings"], "MethodProfile"]
"""(method, settings) -> its profile."""


@dataclass(frozen=True)
class Outputs:
    """Where a profile goes besides the terminal.

    Attributes:
        style: Format of the tables.
        json_file: Gets all figures.
        trace: Gets a chrome trace.
        figures: Folder of the figures.
    """

    style: str
    json_file: Path | None
    trace: Path | None
    figures: Path | None

    def check_writable(self) -> None:
        """Make the folders; raise OSError now, not after minutes of profiling, where one is not writable."""
        for path in (self.json_file, self.trace):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                was_there = path.exists()
                path.open("a").close()
                if not was_there:
                    path.unlink()
        if self.figures is not None:
            self.figures.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.figures):
                pass

    def trace_of(self, method: str, value: str, *, alone: bool) -> Path | None:
        """Return the trace of one of several profiles: the method and an option's value are in its name."""
        if self.trace is None or alone:
            return self.trace
        words = "-".join(part.replace(":", "-") for part in (method, value) if part)
        return self.trace.with_name(f"{self.trace.stem}-{words}{self.trace.suffix}")


def show_report(report: ProfileReport, outputs: Outputs, device: str) -> None:
    """Print the tables of a profile, one of all methods first, and write its files."""
    from mmbench.profiling.report import write_report
    from mmbench.reporting.profile_summary import summary_table
    from mmbench.reporting.profile_tables import profile_tables
    from mmbench.reporting.tables import RENDERERS

    tables = [summary_table(report), *profile_tables(report)]
    typer.echo("\n\n".join(RENDERERS[outputs.style](table) for table in tables))
    if outputs.json_file is not None:
        write_report(outputs.json_file, report)
        typer.echo(f"wrote {outputs.json_file}", err=True)
    for path in [] if outputs.figures is None else write_figures(outputs.figures, report, device):
        typer.echo(f"wrote {path}", err=True)


def write_figures(folder: Path, report: ProfileReport, device: str) -> list[Path]:
    """Draw where each method's cost goes and, of what was timed, its roofline, at the first batch size.

    Args:
        folder: Gets METHOD-cost.svg and METHOD-roofline.svg, and the same as .png.
        report: Of methods with their options; what tells two profiles of one method apart stands in the name.
        device: On which the roofs are measured.
    """
    import torch

    from mmbench.devices import resolve_device
    from mmbench.profiling.figure_style import save_figure
    from mmbench.profiling.figures import draw_costs
    from mmbench.profiling.roofline import measure_roofs
    from mmbench.profiling.roofline_figure import draw_roofline
    from mmbench.reporting.profile_tables import method_labels

    settings, batch_size = report.settings, report.settings.batch_sizes[0]
    roofs = None
    if settings.timed:
        dtype = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
        roofs = measure_roofs(resolve_device(device), dtype=dtype)
    written = []
    for method, label in zip(report.methods, method_labels(report), strict=True):
        stem = file_stem(label)
        drawn = {"cost": draw_costs(method, settings, batch_size)}
        if roofs is not None:
            drawn["roofline"] = draw_roofline(method, settings, batch_size, roofs)
        for what, figure in drawn.items():
            for suffix in (".svg", ".png"):
                written.append(folder / f"{stem}-{what}{suffix}")
                save_figure(figure, written[-1])
    return written


def file_stem(label: str) -> str:
    """Return a row's label as the beginning of a file's name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", label).strip("-")


def ablated(recipe: Recipe, name: str, option: str) -> list[Recipe]:
    """Return a recipe for each value of a method's option that has a few named ones.

    Raises:
        InvalidRecipeError: If the method has no such option, or it is a number or of other kind.
    """
    from mmbench.cells import option_defaults
    from mmbench.registry import find

    method_class = find("method", name)
    hints = get_type_hints(method_class.__init__)
    values = {key: _named_values(hints.get(key)) for key in option_defaults(method_class)}
    if not values.get(option):
        there = ", ".join(key for key, found in values.items() if found) or "none"
        raise InvalidRecipeError(
            f"--ablation {option!r}: method {name!r} has no such option with named values; it has: {there}"
        )
    own = recipe.methods.get(name, {})
    return [
        recipe.model_copy(update={"methods": {**recipe.methods, name: {**own, option: value}}})
        for value in values[option]
    ]


def _named_values(hint: Any) -> tuple[Any, ...]:
    """Return the values of a Literal, also of one that may be None; nothing of other types."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(
        value for branch in get_args(hint) if get_origin(branch) is Literal for value in get_args(branch)
    )


def raise_failures(failures: list[str]) -> None:
    """Raise CellFailedError if a method could not be profiled, saying each; to be called after the output."""
    if failures:
        raise CellFailedError("; ".join(failures))
