"""`mmbench data prepare`: decode a dataset once, so that training reads windows without decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmbench.cli import _options as options


def prepare(
    name: options.DatasetArgument,
    root: options.Root = None,
    split: options.SplitName = None,
    split_file: options.SplitFile = None,
    optical: options.Optical = None,
    height: options.Height = None,
    dataset_option: options.DatasetOptions = None,
    cache: options.Cache = None,
    delete: Annotated[
        bool,
        typer.Option(
            "--delete",
            help="Delete what was prepared: of this configuration if options of the data are given, else all "
            "of NAME.",
        ),
    ] = False,
) -> None:
    """Decode every tile of a split into uncompressed arrays; training then reads from them, the same pixels.

    What is there already and still valid is kept, so an interrupted run goes on where it was.
    """
    choice = options.DatasetChoice(name, root, split, split_file, optical, height, dataset_option)
    if delete:
        _delete(choice, cache)
        return
    dataset = options.open_dataset(name, options.dataset_keywords(choice), root)
    from mmbench.datasets._prepared import dataset as prepared

    done = prepared.prepare(dataset, name, cache, _say)
    count = len(done.written)
    counts = f"prepared {count} tile{'s' * (count != 1)}, kept {len(done.reused)}"
    typer.echo(f"{counts}: {_size(done.num_bytes)} in {done.folder}")


def _delete(choice: options.DatasetChoice, cache: Path | None) -> None:
    """Delete what was prepared, and say what."""
    from mmbench.datasets._prepared.cache import cache_root, delete
    from mmbench.registry import entry

    entry("dataset", choice.name)
    dataset = None
    if any(value is not None and value != [] for value in choice[1:]):
        dataset = options.construct_dataset(choice.name, options.dataset_keywords(choice), choice.root)
    gone = delete(choice.name, cache, dataset)
    for folder in gone:
        typer.echo(f"deleted {folder}")
    if not gone:
        typer.echo(f"nothing is prepared of {choice.name!r} in {cache_root(cache)}")


def _say(tile_id: str, written: bool, done: int, total: int) -> None:
    """Print a line a tile."""
    typer.echo(f"{done}/{total} tile {tile_id}: {'prepared' if written else 'kept'}", err=True)


def _size(num_bytes: int) -> str:
    """Return a number of bytes for people."""
    gib = num_bytes / 2**30
    return f"{gib:.2f} GiB" if gib >= 1 else f"{num_bytes / 2**20:.1f} MiB"
