"""`mmbench results …`: records that came from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmbench.cli._reproducing import reproduce
from mmbench.errors import DataError, InvalidRecipeError
from mmbench.settings_files import quote

app = typer.Typer(
    help="Verify, merge, anonymise and reproduce records.", no_args_is_help=True, rich_markup_mode=None
)
app.command("reproduce")(reproduce)

Folders = Annotated[list[Path], typer.Argument(help="Folders of records.")]


@app.command("verify")
def verify(folders: Folders) -> None:
    """Check records as a stranger's: form, sizes, ids, every score against its matrices, no-peek.

    Nothing that a record names is run. Exit code 4, with a line for each problem, if anything is wrong.
    """
    from mmbench.results.verification import verify as verify_all

    found = verify_all(folders)
    for problem in found.problems:
        typer.echo(problem)
    for path in found.foreign:
        typer.echo(f"not a record, left alone: {quote(str(path))}", err=True)
    wrong = len({problem.path for problem in found.problems})
    total = len({*(r.path for r in found.records), *(problem.path for problem in found.problems)})
    if found.problems:
        raise DataError(f"{wrong} of {total} records are not what a run writes; the lines above say why")
    done = sum(record.done for record in found.records)
    convicted = sum(record.convicted for record in found.records)
    typer.echo(
        f"{total} records: {done} finished, every score follows from its matrices and no-peek was proved; "
        f"{total - done} failed, {convicted} of them for breaking the protocol; "
        f"{sum(record.ranked for record in found.records)} may stand in a ranked table"
    )


@app.command("merge")
def merge(
    folders: Folders,
    into: Annotated[Path, typer.Option("--into", help="Folder that gets them; made if it is not there.")],
) -> None:
    """Copy the records of several folders into one, each once; all are verified first."""
    from mmbench.results.merging import merge as merge_all

    merged = merge_all(folders, into)
    for folder, count in merged.copied.items():
        typer.echo(f"{count} records from {folder}")
    typer.echo(f"{sum(merged.copied.values())} copied into {into}, {merged.repeated} were there already")


@app.command("export")
def export(
    results: Annotated[Path, typer.Argument(help="Folder of the records.")],
    into: Annotated[Path, typer.Option("--into", help="A new or an empty folder.")],
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Without names, paths, times of day and command lines.")
    ] = False,
) -> None:
    """Write copies of records that do not tell who ran them, or where; ids and scores stay."""
    if not anonymous:
        raise InvalidRecipeError(
            "results export writes anonymous copies: expected --anonymous. For copies as they are use "
            f"'mmbench results merge {results} --into {into}'"
        )
    from mmbench.results.export import export_anonymous

    exported = export_anonymous(results, into)
    for doubt in exported.doubts:
        typer.echo(f"look again: {doubt}", err=True)
    typer.echo(f"{exported.count} anonymous records in {into}")
