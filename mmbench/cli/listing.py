"""`mmbench list`: what there is."""

from __future__ import annotations

import typer

from mmbench.registry import entries


def list_names() -> None:
    """List the methods, datasets and recipes."""
    for kind in ("method", "dataset"):
        typer.echo(f"{kind}s")
        found = entries(kind)
        width = max(map(len, found), default=0)
        for name, item in sorted(found.items()):
            origin = "" if item.origin == "mmbench" else f"  [{item.origin}]"
            typer.echo(f"  {name:{width}}  {item.title}{origin}")
    from mmbench.recipe import load_recipe, recipe_names

    typer.echo("recipes")
    width = max(map(len, recipe_names()))
    for name in recipe_names():
        typer.echo(f"  {name:{width}}  {load_recipe(name).description}")
