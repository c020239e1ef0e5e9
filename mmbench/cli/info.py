"""`mmbench info NAME`: the card of a method, a dataset or a recipe."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated

import typer

from mmbench.errors import UnknownNameError

if TYPE_CHECKING:
    from mmbench.datasets._files import TileFile


def show(name: Annotated[str, typer.Argument(help="A method, dataset or recipe of 'mmbench list'.")]) -> None:
    """Say what a method, a dataset or a recipe is."""
    from mmbench.recipe import recipe_names
    from mmbench.registry import names

    if name in names("method"):
        _show_method(name)
    elif name in names("dataset"):
        _show_dataset(name)
    elif name in recipe_names():
        _show_recipe(name)
    else:
        raise UnknownNameError("name", name, [*names("method"), *names("dataset"), *recipe_names()])


def _show_method(name: str) -> None:
    """Print a method's card."""
    from mmbench.cells import option_defaults
    from mmbench.registry import entry, find

    method = find("method", name)
    typer.echo(f"{name}: {method.title}\n")
    typer.echo(f"paper    {method.paper}\nsource   {method.source}\nfrom     {entry('method', name).origin}")
    typer.echo(f"sizes    multiples of {method.size_multiple}, at least {method.size_minimum} pixels")
    typer.echo(f"\ndiffers from its source in\n{_bullets(method.deviations)}")
    defaults = [f"{key} = {value!r}" for key, value in option_defaults(method).items()]
    typer.echo(f"\noptions (recipe: methods.{name})\n{_bullets(defaults)}")


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
