"""`mmbench data synth`: a synthetic city as a true ISPRS folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mmbench.cli import _options as options

_LAYOUTS = ("potsdam", "vaihingen")


def synth(
    out: Annotated[Path, typer.Argument(help="The folder to write; must be new or empty.")],
    layout: Annotated[str, typer.Option("--layout", help="potsdam or vaihingen.")],
    size: Annotated[int, typer.Option("--size", min=64, help="Side of a tile, pixels.")] = 256,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    storage: Annotated[
        str,
        typer.Option(
            "--storage",
            help="How TIFFs are stored: uncompressed, lzw, lzw-one-strip, lzw-tiled, deflate, jpeg "
            "(of pictures of three channels), bigtiff.",
        ),
    ] = "uncompressed",
) -> None:
    """Write a synthetic city as a true ISPRS folder, with every tile of the official split, small."""
    options.check_choice("--layout", layout, _LAYOUTS)
    from mmbench.datasets._synthesis import write_isprs_folder

    written = write_isprs_folder(layout, out, size=size, seed=seed, storage=storage)  # type: ignore[arg-type]
    typer.echo(
        f"wrote {len(written)} files to {out}; try: mmbench run --methods gemmnet --dataset {layout} "
        f"--root {shlex.quote(str(out))} --recipe smoke"
    )
