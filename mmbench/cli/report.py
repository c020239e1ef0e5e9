"""`mmbench report`: tables, exports and everything at once, from stored records."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmbench.cli import _options as options
from mmbench.cli import _scoring as shared
from mmbench.errors import InvalidRecipeError

if TYPE_CHECKING:
    from mmbench.reporting.bundle import Report
    from mmbench.reporting.table_model import Table

_FORMATS = ("console", "markdown", "latex", "csv", "json", "html")
_VIEWS = ("scenario", "class", "summary", "cost", "tradeoff", "subsets", "regime")


def report(
    results: Annotated[Path, typer.Argument(help="Folder of the records.")] = Path("results"),
    style: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="console, markdown, latex, html (the page; with --view that table), csv (tidy rows; with "
            "--view that table) or json.",
        ),
    ] = "console",
    view: Annotated[
        str | None, typer.Option("--view", help=f"{', '.join(_VIEWS)}; scenario where a format needs one.")
    ] = None,
    metric: shared.MetricName = "miou",
    labels: shared.LabelPolicy = None,
    dataset: shared.OnlyDataset = None,
    recipe: shared.OnlyRecipe = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to a file.")] = None,
    everything: Annotated[
        Path | None, typer.Option("--all", help="Write every view in every format into this folder.")
    ] = None,
    cost: Annotated[
        list[Path] | None,
        typer.Option("--cost", help="A profile's JSON: its costs beside the scores. May be repeated."),
    ] = None,
    root: options.Root = None,
    split_file: options.SplitFile = None,
) -> None:
    """Make tables, or a page, from stored records; runs nothing.

    --root and --split-file say where the data lie, for the pictures of tiles.
    """
    options.check_choice("--format", style, _FORMATS)
    shared.check_scoring(metric, labels)
    if view is not None:
        options.check_choice("--view", view, _VIEWS)
    _check_together(style, view, out, everything, cost)
    made = _read(results, metric, labels, dataset, recipe, may_be_empty=bool(cost))
    made = _with_place(made, root, split_file, pictures=everything is not None or _is_page(style, view, cost))
    if everything is not None:
        from mmbench.reporting.bundle import write_all

        written = write_all(made, everything)
        for path in written:
            typer.echo(f"wrote {path}", err=True)
        _warn_of_others(written)
        return
    text = _text(made, style, view, cost or [])
    if out is None:
        typer.echo(text.removesuffix("\n"))
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {out}", err=True)


def _check_together(
    style: str, view: str | None, out: Path | None, everything: Path | None, cost: list[Path] | None
) -> None:
    """Refuse options of which one would have no effect.

    Raises:
        InvalidRecipeError: Naming both.
    """
    if everything is not None and (out or view or cost or style != "console"):
        raise InvalidRecipeError(
            "--all writes all there is; expected it without --format, --view, --out and --cost"
        )
    if style == "json" and (view or cost):
        raise InvalidRecipeError(
            "--format json holds the numbers of all views; expected it without --view and --cost"
        )
    if cost and view not in (None, "cost"):
        raise InvalidRecipeError(f"--cost makes a table of its own; expected it without --view {view}")


def _warn_of_others(written: list[Path]) -> None:
    """Say that files of an earlier report lie among those of this one."""
    others = {path for folder in {p.parent for p in written} for path in folder.iterdir() if path.is_file()}
    if left := sorted(others - set(written)):
        typer.echo(
            f"warning: not of this report, though beside it: {left[0]}"
            f"{f' and {len(left) - 1} more files' if len(left) > 1 else ''}; use a new folder",
            err=True,
        )


def _is_page(style: str, view: str | None, cost: list[Path] | None) -> bool:
    """Whether the page is asked for, and not a table."""
    return style == "html" and view is None and not cost


def _with_place(made: Report, root: Path | None, split_file: Path | None, *, pictures: bool) -> Report:
    """Return a report that knows where its data lie.

    Raises:
        InvalidRecipeError: If it was said where and there are no pictures, or data of several datasets.
    """
    from dataclasses import replace

    from mmbench.reporting.data_places import DataPlace

    place = DataPlace(root, split_file)
    if place.is_said and not pictures:
        raise InvalidRecipeError(
            "--root and --split-file are for pictures of tiles; expected them with --all or --format html"
        )
    place.check_fits(made.records)
    return replace(made, place=place)


def _read(
    results: Path,
    metric: str,
    labels: str | None,
    dataset: str | None,
    recipe: str | None,
    *,
    may_be_empty: bool,
) -> Report:
    """Read the records that were asked for and group them.

    Raises:
        DataError: If there is none, or their matrices are needed and missing.
    """
    from mmbench.reporting.bundle import Report
    from mmbench.reporting.leaderboard import leaderboards
    from mmbench.reporting.rescoring import rescored
    from mmbench.reporting.selection import read_matching
    from mmbench.reporting.standings import with_standings

    records = read_matching(results, dataset, recipe, may_be_empty=may_be_empty)
    if labels is not None:
        records = rescored(results, records, labels)
    boards = [
        with_standings(board, results, records, labels)
        for board in leaderboards(records, metric, labels)  # type: ignore[arg-type]
    ]
    return Report(results, records, boards, _command(results, metric, labels, dataset, recipe))


def _command(results: Path, metric: str, labels: str | None, dataset: str | None, recipe: str | None) -> str:
    """Return the command that reads the same records in the same way."""
    words = ["mmbench", "report", str(results), "--metric", metric]
    for name, value in (("--labels", labels), ("--dataset", dataset), ("--recipe", recipe)):
        words += [name, value] if value is not None else []
    return shlex.join(words)


def _text(made: Report, style: str, view: str | None, cost: list[Path]) -> str:
    """Return what was asked for in one format, ending with a new line."""
    from mmbench.reporting.bundle import tables_text
    from mmbench.reporting.exports import report_json, tidy_csv

    if style == "json":
        return report_json(made.boards, made.command)
    if style == "csv" and view is None and not cost:
        return tidy_csv(made.boards)
    if _is_page(style, view, cost):
        return made.page()
    tables = _cost_tables(made, cost) if cost else made.tables(view or "scenario")
    return tables_text(tables, style)


def _cost_tables(made: Report, cost: list[Path]) -> list[Table]:
    """Return the tables that hold profiles beside scores."""
    from mmbench.profiling.report import read_report
    from mmbench.reporting.cost import collect_costs, cost_table

    costs = collect_costs([read_report(path) for path in cost])
    return [cost_table(board, costs) for board in made.boards] or [cost_table(None, costs)]
