"""`mmbench data prepare`: decode a dataset once, so that training reads windows without decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmbench.cli import _options as options
from mmbench.cli._opening import construct_dataset, dataset_keywords, open_dataset


@options.takes_dataset
def prepare(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A dataset of 'mmbench list', or the .py file of your own; to --delete, a lost one too.",
        ),
    ],
    choice: options.DatasetChoice,
    cache: options.Cache = None,
    delete: Annotated[
        bool,
        typer.Option(
            "--delete",
            help="Delete what was prepared: all of NAME; of one configuration if options of the data are "
            "given; of that, what was read from the files in DIR with --root DIR.",
        ),
    ] = False,
) -> None:
    """Decode every tile of a split into uncompressed arrays; training then reads from them, the same pixels.

    What is there already and still valid is kept, so an interrupted run goes on where it was.
    """
    is_gone = delete and dataset.endswith(".py") and not Path(dataset).exists()
    name = Path(dataset).stem if is_gone else options.dataset_key(dataset) or dataset
    choice = choice._replace(name=name)
    if delete:
        _delete(choice, cache)
        return
    opened = open_dataset(name, dataset_keywords(choice), choice.root)
    from mmbench.datasets._prepared import dataset as prepared
    from mmbench.datasets._prepared.cache import size_words

    done = prepared.prepare(opened, name, cache, _say)
    count = len(done.written)
    counts = f"prepared {count} tile{'s' * (count != 1)}, kept {len(done.reused)}"
    typer.echo(f"{counts}: {size_words(done.num_bytes)} in {done.folder}")


def _delete(choice: options.DatasetChoice, cache: Path | None) -> None:
    """Delete what was prepared, and say what."""
    from mmbench.datasets._prepared.cache import delete
    from mmbench.datasets._prepared.dataset import delete_root
    from mmbench.datasets._user_folders import cache_root
    from mmbench.registry import entry

    if all(value is None or value == [] for value in choice[1:]):
        gone = delete(choice.name, cache)
        if not gone:  # what is left of a dataset that is gone can be deleted, a misspelt name is refused
            entry("dataset", choice.name)
    else:
        dataset = construct_dataset(choice.name, dataset_keywords(choice), choice.root)
        if choice.root is None:
            gone = delete(choice.name, cache, dataset)
        else:
            gone = delete_root(dataset, choice.name, choice.root, cache)
    for folder in gone:
        typer.echo(f"deleted {folder}")
    if not gone:
        typer.echo(f"nothing is prepared of {choice.name!r} in {cache_root(cache)}")


def _say(tile_id: str, written: bool, done: int, total: int) -> None:
    """Print a line a tile."""
    typer.echo(f"{done}/{total} tile {tile_id}: {'prepared' if written else 'kept'}", err=True)
