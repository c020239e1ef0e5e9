"""`mmbench info NAME`: the card of a method, a dataset or a recipe."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

from mmbench.errors import UnknownNameError


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


def _show_recipe(name: str) -> None:
    """Print a recipe."""
    import yaml

    from mmbench.recipe import load_recipe

    typer.echo(yaml.safe_dump(load_recipe(name).model_dump(mode="json"), sort_keys=False))


def _bullets(lines: list[str] | tuple[str, ...]) -> str:
    return "\n".join(f"  - {line}" for line in lines) or "  - nothing"
