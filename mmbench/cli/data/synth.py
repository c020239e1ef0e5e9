"""`mmbench data …`: what can be done with datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmbench.cli import _options as options

app = typer.Typer(help="Work with datasets.", no_args_is_help=True, rich_markup_mode=None)
_LAYOUTS = ("potsdam", "vaihingen")


@app.callback()
def _group() -> None:
    """Keep `data` a group while it has one verb."""


@app.command("synth")
def synth(
    out: Annotated[Path, typer.Argument(help="The folder to write; must be new or empty.")],
    layout: Annotated[str, typer.Option("--layout", help="potsdam or vaihingen.")],
    size: Annotated[int, typer.Option("--size", min=64, help="Side of a tile, pixels.")] = 256,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
) -> None:
    """Write a synthetic city as a true ISPRS folder, with every tile of the official split, small."""
    options.check_choice("--layout", layout, _LAYOUTS)
    from mmbench.datasets._synthesis import write_isprs_folder

    written = write_isprs_folder(layout, out, size=size, seed=seed)  # type: ignore[arg-type]
    typer.echo(
        f"wrote {len(written)} files to {out}; try: mmbench run --methods gemmnet --dataset {layout} "
        f"--root {out} --recipe smoke"
    )
