"""`mmbench report`: tables from stored records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmbench.cli import _options as options

_FORMATS = ("console", "markdown", "latex")
_METRICS = ("miou", "mf1", "oa", "kappa")


def report(
    results: Annotated[Path, typer.Argument(help="Folder of the records.")] = Path("results"),
    style: Annotated[str, typer.Option("--format", "-f", help="console, markdown or latex.")] = "console",
    metric: Annotated[str, typer.Option("--metric", help="miou, mf1, oa or kappa.")] = "miou",
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Only this dataset.")] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", "-r", help="Only this recipe.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to a file.")] = None,
    cost: Annotated[
        list[Path] | None,
        typer.Option("--cost", help="A profile's JSON: its costs beside the scores. May be repeated."),
    ] = None,
) -> None:
    """Make tables from stored records; runs nothing."""
    options.check_choice("--format", style, _FORMATS)
    options.check_choice("--metric", metric, _METRICS)
    from mmbench.errors import DataError
    from mmbench.records import read_records
    from mmbench.reporting.leaderboard import leaderboards
    from mmbench.reporting.tables import RENDERERS, leaderboard_table

    wanted = [
        record
        for record in read_records(results)
        if dataset in (None, record.identity["dataset"]["name"]) and recipe in (None, record.recipe_name)
    ]
    if not wanted and not cost:
        raise DataError(f"no records in {results} match; expected those of 'mmbench run --results {results}'")
    boards = leaderboards(wanted, metric)  # type: ignore[arg-type]
    if cost:
        from mmbench.profiling.report import read_report
        from mmbench.reporting.cost import collect_costs, cost_table

        costs = collect_costs([read_report(path) for path in cost])
        tables = [cost_table(board, costs) for board in boards] or [cost_table(None, costs)]
    else:
        tables = [leaderboard_table(board) for board in boards]
    text = "\n\n".join(RENDERERS[style](table) for table in tables)
    if out is None:
        typer.echo(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
        typer.echo(f"wrote {out}", err=True)
