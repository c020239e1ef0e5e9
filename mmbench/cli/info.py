"""`mmbench info NAME`: the card of a method, a dataset or a recipe."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated

import typer

from mmbench.cli import _options as options
from mmbench.errors import InvalidRecipeError, UnknownNameError

if TYPE_CHECKING:
    from mmbench.datasets._files import TileFile


_FORMATS = ("console", "markdown")


def show(
    name: Annotated[
        str | None, typer.Argument(help="A method, dataset or recipe of 'mmbench list'.", show_default=False)
    ] = None,
    all_methods: Annotated[
        bool, typer.Option("--all-methods", help="The cards of all methods of mmbench, without plug-ins.")
    ] = False,
    style: Annotated[
        str, typer.Option("--format", "-f", help="console, or for methods markdown.")
    ] = "console",
) -> None:
    """Say what a method, a dataset or a recipe is."""
    from mmbench.recipe import recipe_names
    from mmbench.registry import VARIANT_MARK, entries, names

    options.check_choice("--format", style, _FORMATS)
    if name is not None and name.endswith(".py"):
        name = _added(name)
    if (name is None) != all_methods:
        raise InvalidRecipeError("expected a name, as in 'mmbench info gemmnet', or --all-methods")
    if name is None:
        own = [key for key, entry in sorted(entries("method").items()) if entry.origin == "mmbench"]
        _show_methods(own, style)
    elif (method := name.partition(VARIANT_MARK)[0]) in names("method"):
        if name != method:
            _refuse_unknown_variant(name)
        _show_methods([method], style, document=False)
    elif name not in (known := [*names("dataset"), *recipe_names()]):
        raise UnknownNameError("name", name, [*names("method"), *known])
    elif style != "console":
        raise InvalidRecipeError(f"--format {style} is for methods; {name!r} is none")
    elif name in names("dataset"):
        _show_dataset(name)
    else:
        _show_recipe(name)


def _refuse_unknown_variant(name: str) -> None:
    """Raise where a method, whose card names its variants, has none of that name."""
    from mmbench.cells import variant_options

    variant_options(name)


def _added(file: str) -> str:
    """Add a file of the user's as what it holds, a method or a dataset, and return its name."""
    from pathlib import Path

    from mmbench.registry import add_file, entries, find
    from mmbench_baselines.method import Method

    name = add_file("dataset", Path(file))
    if issubclass(find("dataset", name), Method):
        entries("dataset").pop(name)
        return add_file("method", Path(file))
    return name


def _show_methods(names: list[str], style: str, *, document: bool = True) -> None:
    """Print the cards of methods."""
    from mmbench.reporting.card_texts import console_card, markdown_card, markdown_document
    from mmbench.reporting.cards import method_card

    cards = [method_card(name) for name in names]
    if style == "markdown":
        typer.echo(markdown_document(cards) if document else markdown_card(cards[0]))
    else:
        typer.echo("\n\n\n".join(map(console_card, cards)))


def _show_dataset(name: str) -> None:
    """Print a dataset's facts and how to get it."""
    from mmbench.registry import find

    dataset = find("dataset", name)
    typer.echo(f"{name}: {dataset.title}\n\nhomepage {dataset.homepage}\nlicence  {dataset.licence}")
    typer.echo(f"pixel    {dataset.gsd_m} m\nclasses  {', '.join(dataset.classes)}")
    for split, tiles in dataset.splits.items():
        counts = ", ".join(f"{len(tiles.role(role))} {role}" for role in ("train", "val", "test"))
        typer.echo(f"split    {split}: {counts} tiles")
    known = [
        f"{p.name} = {p.default!r}"
        for p in inspect.signature(dataset).parameters.values()
        if p.name not in ("root", "split")
    ]
    typer.echo(f"\noptions (--dataset-option, or --optical and --height)\n{_bullets(known)}")
    if dataset.request:
        typer.echo(f"\n{dataset.request}")
        _show_files(name)


def _show_files(name: str) -> None:
    """Say how many files of each kind the default split needs, and how many are there."""
    from tabulate import tabulate

    from mmbench.registry import find

    dataset = find("dataset", name)()
    kinds: dict[str, list[TileFile]] = {}
    for file in dataset.files():
        kinds.setdefault(file.kind, []).append(file)
    rows = [
        [kind, str(len(files)), str(sum(file.path is not None for file in files)), files[0].expected]
        for kind, files in kinds.items()
    ]
    typer.echo(
        f"\nfiles of split {dataset.split_name} ({' + '.join(dataset.modalities)}), "
        f"looked for in {getattr(dataset, 'root', None)}\n"
    )
    typer.echo(tabulate(rows, headers=["kind", "needed", "found", "the first"], disable_numparse=True))
    typer.echo(f"\nmmbench data check {name} looks at each of them")


def _show_recipe(name: str) -> None:
    """Print a recipe."""
    import yaml

    from mmbench.recipe import load_recipe

    typer.echo(yaml.safe_dump(load_recipe(name).model_dump(mode="json"), sort_keys=False))


def _bullets(lines: list[str] | tuple[str, ...]) -> str:
    return "\n".join(f"  - {line}" for line in lines) or "  - nothing"
