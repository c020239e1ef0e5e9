"""`mmbench data check`: every file that a split needs, what was found and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mmbench.cli import _options as options
from mmbench.cli._opening import construct_dataset, dataset_keywords
from mmbench.cli.data._json import STANDARD_OUTPUT, JsonTarget, write_json

if TYPE_CHECKING:
    from mmbench.datasets._checking import CheckReport, TileReport
    from mmbench.datasets._files import FileReport

_HEADERS = (
    *("tile", "role", "kind", "file", "rows x columns", "channels", "dtype", "storage"),
    *("range", "sha256", "state"),
)
_HASH_DIGITS = 12
_NONE = "-"


@options.takes_dataset
def check(
    name: options.DatasetArgument,
    choice: options.DatasetChoice,
    quick: Annotated[bool, typer.Option("--quick", help="Read headers only: no pixels, no hashes.")] = False,
    json: JsonTarget = None,
    progress: options.ProgressStyle = "auto",
) -> None:
    """Look at every file of a split as a run would, and say what is wrong and what to do.

    Exit code 4 when the split cannot run.
    """
    options.check_choice("--progress", progress, options.PROGRESS_STYLES)
    dataset = construct_dataset(name, dataset_keywords(choice), choice.root)
    from mmbench.datasets._checking import check as examine_all
    from mmbench.errors import DataError
    from mmbench.reporting.progress import display

    files = dataset.files()
    if files and all(file.path is None for file in files):
        dataset.require_files()  # a table of nothing would hide the one thing to do
    with display(progress) as shown:  # type: ignore[arg-type]
        shown.cell(1, 1, f"check {name}")
        report = examine_all(
            dataset,
            name=name,
            content=not quick,
            progress=lambda done, total: shown.step("tiles", done, total, {}),
        )
        shown.result(f"{len(report.tiles)} tiles checked")
    if json is not None:
        write_json(report.as_dict(), json)
    if json != STANDARD_OUTPUT:
        _print(report)
    if not report.can_run:
        raise DataError(_verdict(report, name))


def _print(report: CheckReport) -> None:
    """Print the table, the problems, the notes and how many tiles can be used."""
    from tabulate import tabulate

    rows = [row for tile in report.tiles for row in _rows(tile)]
    typer.echo(tabulate(rows, headers=_HEADERS, disable_numparse=True))
    for title, lines in (("problems", report.problems), ("notes", report.notes)):
        if lines:
            typer.echo(f"\n{title}")
        for line in lines:
            typer.echo(f"  - {line}")
    basis = "" if report.content else ", as far as headers show (--quick reads no pixels)"
    typer.echo(f"\ncan run: {report.sound_tiles} of {len(report.tiles)} tiles{basis}")


def _rows(tile: TileReport) -> Iterator[list[str]]:
    """Yield a row a file, and one for the tile where it has no files or something is wrong with it alone."""
    for found in tile.files:
        file = found.file
        yield [
            *(tile.tile_id, tile.role, file.kind),
            "not found" if file.path is None else file.path.name,
            _size(found.size),
            _NONE if found.channels is None else str(found.channels),
            found.dtype or _NONE,
            found.storage or _NONE,
            _range(found),
            (found.sha256 or _NONE)[:_HASH_DIGITS],
            "WRONG" if found.problems else "note" if found.notes else "ok",
        ]
    if tile.problems or not tile.files:
        state = "WRONG" if tile.problems else "ok"
        yield [tile.tile_id, tile.role, "tile", _NONE, _size(tile.size), *([_NONE] * 5), state]


def _size(size: tuple[int, int] | None) -> str:
    return _NONE if size is None else f"{size[0]} x {size[1]}"


def _range(found: FileReport) -> str:
    if found.low is None or found.high is None:
        return _NONE
    return f"{found.low:g} to {found.high:g}"


def _verdict(report: CheckReport, name: str) -> str:
    """Say in one line why the split cannot run."""
    count, tiles = len(report.problems), len(report.tiles)
    or_else = ", or list the other tiles in a split file" if report.sound_tiles else ""
    return (
        f"dataset {name!r}: {count} problem{'s' * (count > 1)} in {tiles - report.sound_tiles} of "
        f"{tiles} tiles of split {report.heading['split']['name']}, named in the report. Mend them{or_else}"
    )
