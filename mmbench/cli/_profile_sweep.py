"""`mmbench profile --sweep`: a profile at each value of a quantity, and the exponents of what grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mmbench.cli._profile_views import Outputs, ProfileOne, file_stem, raise_failures
from mmbench.errors import CellFailedError

if TYPE_CHECKING:
    from mmbench.profiling.report import ProfileReport, Settings
    from mmbench.profiling.sweep import Sweep


def show_sweeps(
    quantity: str,
    names: Sequence[str],
    settings: Settings,
    profile: ProfileOne,
    outputs: Outputs,
    batch_sizes: Sequence[int] | None,
    largest: int | None,
) -> None:
    """Profile each method over the values of a quantity, print the exponents and write the files.

    Args:
        quantity: "size", "batch" or "modalities".
        names: Methods.
        settings: Of what is not swept.
        profile: Profiles one method.
        outputs: Where to.
        batch_sizes: Values of a batch sweep, None for its own.
        largest: Side of the largest images of a size sweep, None for its own.

    Raises:
        InvalidRecipeError: If there is no such quantity.
        CellFailedError: After the others, if a method takes fewer than two of its values.
    """
    from mmbench.profiling.report import ProfileReport
    from mmbench.profiling.sweep import sweep_method, sweep_values, take_modalities
    from mmbench.profiling.sweep_report import write_sweeps
    from mmbench.reporting.growth import growth_table
    from mmbench.reporting.tables import RENDERERS

    known, values = sweep_values(quantity, batch_sizes, largest)
    first = settings.batch_sizes[:1]

    def at(value: int) -> Settings:
        modalities = take_modalities(settings.modalities, value) if known == "modalities" else {}
        changes: dict[str, dict[str, Any]] = {
            "size": {"size": value, "batch_sizes": first},
            "batch": {"batch_sizes": (value,)},
            "modalities": {"modalities": modalities, "batch_sizes": first},
        }
        return settings.model_copy(update=changes[known])

    reports: list[ProfileReport] = []
    sweeps: list[Sweep] = []
    failures: list[str] = []
    for name in names:

        def report_at(value: int, name: str = name) -> ProfileReport:
            typer.echo(f"profiling {name} at {known} {value} …", err=True)
            reports.append(ProfileReport(settings=at(value), methods=(profile(name, at(value)),)))
            return reports[-1]

        try:
            found = sweep_method(known, values, report_at)
        except CellFailedError as error:
            failures.append(f"{name}: {error}")
            continue
        for sweep in found:
            typer.echo(RENDERERS[outputs.style](growth_table(sweep, _conditions(known, settings))) + "\n")
        sweeps += found
    if sweeps and outputs.json_file is not None:
        write_sweeps(outputs.json_file, known, reports, sweeps)
        typer.echo(f"wrote {outputs.json_file}", err=True)
    if outputs.figures is not None:
        _write_figures(outputs.figures, sweeps, _conditions(known, settings))
    raise_failures(failures)


def _write_figures(folder: Path, sweeps: Sequence[Sweep], conditions: str) -> None:
    """Draw each method's growth in its first scenario, in which all modalities are there."""
    from mmbench.profiling.figure_style import save_figure
    from mmbench.profiling.growth_figure import draw_growth

    drawn: set[str] = set()
    for sweep in sweeps:
        stem = file_stem(f"{sweep.method.name}-growth-{sweep.quantity}")
        if stem in drawn:
            continue
        drawn.add(stem)
        figure = draw_growth(sweep, conditions)
        for suffix in (".svg", ".png"):
            path = folder / f"{stem}{suffix}"
            save_figure(figure, path)
            typer.echo(f"wrote {path}", err=True)


def _conditions(quantity: str, settings: Settings) -> str:
    """Return what was not swept, for the title of a table."""
    words = {
        "size": f"{settings.size} x {settings.size}",
        "batch": f"batch {settings.batch_sizes[0]}",
        "modalities": f"{len(settings.modalities)} modalities",
    }
    kept = [text for name, text in words.items() if name != quantity]
    return ", ".join([*kept, settings.device, settings.precision])
