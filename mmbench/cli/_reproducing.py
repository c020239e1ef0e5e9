"""`mmbench results reproduce`: a recorded cell run again, and held against its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmbench.cli import _options as options
from mmbench.cli._opening import open_run
from mmbench.errors import CellFailedError, InvalidRecipeError, ProtocolError
from mmbench.settings_files import quote

if TYPE_CHECKING:
    from mmbench.cells import Run
    from mmbench.records import Record
    from mmbench.results.reproduction import Request

_OWN_METHOD = "The .py file of the method, where it is one of somebody's own."
_OWN_DATASET = "The .py file of the dataset, where it is one of somebody's own."


def reproduce(
    record_id: Annotated[str, typer.Argument(metavar="ID", help="Of the record, or its first digits.")],
    results: options.Results = Path("results"),
    into: Annotated[
        Path | None, typer.Option("--into", help="A new folder for the new run; else reproduced/ID.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print recipe and command, run nothing.")
    ] = False,
    root: options.Root = None,
    split_file: options.SplitFile = None,
    method_file: Annotated[Path | None, typer.Option("--method-file", help=_OWN_METHOD)] = None,
    dataset_file: Annotated[Path | None, typer.Option("--dataset-file", help=_OWN_DATASET)] = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    device: Annotated[str | None, typer.Option("--device", help="Else the recorded kind.")] = None,
    workers: options.Workers = 0,
    progress: options.ProgressStyle = "auto",
) -> None:
    """Run a recorded cell again and compare the matrices bit by bit.

    Exit code 0 if they are identical, or if the code has changed since, which is said first; 5 if the cell
    cannot be run as it was, or the same code gives other matrices; 6 if the method now breaks the protocol.
    """
    options.check_choice("--progress", progress, options.PROGRESS_STYLES)
    if method_file is not None:
        options.method_key(str(method_file))
    if dataset_file is not None:
        options.dataset_key(str(dataset_file))
    from mmbench.results.differences import changed_code
    from mmbench.results.reproduction import find_finished, request

    record = find_finished(results, record_id)
    wanted, changed = request(record), changed_code(record)
    place = into or Path("reproduced") / record.id
    recipe_file, on = place / f"{record.id}.yaml", device or wanted.device
    _say(record, wanted, changed, wanted.command(recipe_file, place, on, *_about_data(root, split_file)))
    if dry_run:
        typer.echo(f"nothing was written: save the recipe above as {recipe_file} before the command")
        return
    _write_new(recipe_file, wanted.recipe)
    split = None if split_file else wanted.split or None
    choice = options.DatasetChoice(
        wanted.dataset, root, split, split_file, dataset_option=list(wanted.dataset_options)
    )
    with _threads(wanted.threads if on == "cpu" else None):
        opened = open_run(
            choice,
            str(recipe_file),
            None,
            [wanted.method],
            device=on,
            results=place,
            workers=workers,
            cache=cache,
            no_cache=no_cache,
            compiled=wanted.compiled,
        )
        again = _run(opened, record, wanted, progress)
    _compare(results, record, place, again, changed)


def _write_new(recipe_file: Path, recipe: str) -> None:
    """Write a recipe into a folder that must be new.

    Raises:
        InvalidRecipeError: If the folder holds anything.
    """
    place = recipe_file.parent
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InvalidRecipeError(f"--into {place}: holds files; expected a new or an empty folder")
    place.mkdir(parents=True, exist_ok=True)
    recipe_file.write_text(recipe, encoding="utf-8")


def _about_data(root: Path | None, split_file: Path | None) -> list[str]:
    """Return the arguments that say where the data lie."""
    given = (("--root", root), ("--split-file", split_file))
    return [word for option, path in given if path is not None for word in (option, str(path))]


def _say(record: Record, wanted: Request, changed: list[str], command: str) -> None:
    """Print the recipe, the command, and what is no longer as it was."""
    typer.echo(f"{wanted.recipe}\n{command}\n")
    if changed:
        typer.echo(f"the code has changed since: {', '.join(changed)}; other scores are to be expected")
    else:
        typer.echo("the code is that of the record")
    typer.echo(
        f"recorded with torch {quote(record.environment.get('torch'))} on "
        f"{quote(record.environment.get('device'))}"
    )


def _run(opened: Run, record: Record, wanted: Request, progress: str) -> Record:
    """Run the cell once it is known to be the recorded one.

    Raises:
        CellFailedError: If it cannot be run as it was, or fails.
        ProtocolError: If its method breaks the protocol.
    """
    from mmbench.cells import Cell, identity
    from mmbench.execution import run_cell
    from mmbench.reporting.progress import display
    from mmbench.results.differences import other_changes

    cell = Cell(wanted.method, wanted.seed)
    if others := other_changes(record.identity, identity(opened, cell)):
        raise CellFailedError(
            f"record {record.id} cannot be run here as it was: {'; '.join(others[:3])}. Give the data, the "
            "split file or the device that it was made with"
        )
    opened.check_tiles()
    with display(progress) as shown:  # type: ignore[arg-type]
        shown.cell(1, 1, str(cell))
        again = run_cell(opened, cell, shown.step)
        shown.result(f"{again.status}, record {again.id}")
    if again.status == "failed":
        error = again.error or {}
        kind = ProtocolError if error.get("kind") == "protocol" else CellFailedError
        raise kind(f"record {record.id}: the new run failed: {error.get('message', '')}")
    return again


def _compare(results: Path, record: Record, place: Path, again: Record, changed: list[str]) -> None:
    """Print how the new matrices compare with the recorded ones.

    Raises:
        CellFailedError: If they differ and the code does not.
    """
    from mmbench.records import read_confusions
    from mmbench.results.differences import compare

    differences = compare(record, read_confusions(results, record), again, read_confusions(place, again))
    for difference in differences:
        typer.echo(difference)
    differing = [difference.scenario for difference in differences if difference.moved]
    if not differing:
        typer.echo(f"identical: all matrices of record {record.id}, bit by bit")
    elif changed:
        typer.echo(f"different, as the code is ({', '.join(changed)})")
    else:
        raise CellFailedError(
            f"record {record.id} was not reproduced: {', '.join(differing)} differ and the code does not. "
            f"torch {quote(record.environment.get('torch'))} -> {again.environment['torch']}, device "
            f"{quote(record.environment.get('device'))} -> {again.environment['device']}; matrices repeat to "
            "the bit on the CPU with the same torch and threads"
        )


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Compute with the recorded number of threads inside: the digits of a training depend on it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
