"""`mmbench train`: train one method and save its weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmbench.cli import _options as options
from mmbench.cli._opening import dataset_keywords, open_run
from mmbench.errors import InvalidRecipeError

if TYPE_CHECKING:
    from mmbench.cells import Cell, Run
    from mmbench.weights import Header


@options.takes_dataset
def train(
    method: options.MethodArgument,
    dataset: options.DatasetName,
    choice: options.DatasetChoice,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, .safetensors.")],
    recipe: options.RecipeName = "default",
    overrides: options.Overrides = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    device: options.DeviceName = "auto",
    workers: options.Workers = 0,
    progress: options.ProgressStyle = "auto",
) -> None:
    """Train one method and save its weights; 'mmbench evaluate' scores them."""
    options.check_choice("--progress", progress, options.PROGRESS_STYLES)
    opened = open_run(
        choice,
        recipe,
        overrides,
        [method],
        device=device,
        results=out.parent,
        workers=workers,
        cache=cache,
        no_cache=no_cache,
    )
    if out.is_dir():
        raise InvalidRecipeError(f"--out {out}: is a folder, expected the name of a file to write")
    out.parent.mkdir(parents=True, exist_ok=True)  # a path that cannot be written shows now
    opened.check_tiles()
    from mmbench.cells import Cell
    from mmbench.execution import build_method, train_cell
    from mmbench.reporting.progress import display
    from mmbench.weights import save_weights

    cell = Cell(method, seed)
    with display(progress) as shown:  # type: ignore[arg-type]
        shown.cell(1, 1, str(cell))
        built = build_method(opened, cell)
        result, trials = train_cell(opened, cell, built, lambda phase: partial(shown.step, phase))
        shown.result(f"{result.steps} steps in {result.seconds:.0f} s")
    save_weights(out, built, _header(opened, cell, choice))
    for trial in trials:
        score = "failed" if trial.miou is None else f"mIoU {trial.miou * 100:.1f}"
        typer.echo(
            f"learning rate {trial.learning_rate:g}: {score} on validation tiles after {trial.steps} steps"
            f"{', chosen' * trial.chosen}"
        )
    typer.echo(
        f"weights of the {result.checkpoint['kind']} checkpoint, step {result.checkpoint['step']}: {out}"
    )


def _header(opened: Run, cell: Cell, choice: options.DatasetChoice) -> Header:
    """Return what must stand beside the weights."""
    from mmbench.weights import Header

    keywords = dataset_keywords(choice)
    split = keywords.get("split")
    return Header(
        method=cell.name,
        options=dict(opened.recipe.methods.get(cell.method, {})),
        seed=cell.seed,
        recipe=opened.recipe,
        dataset=opened.dataset_name,
        dataset_options=keywords | ({"split": str(split.resolve())} if isinstance(split, Path) else {}),
        modalities=opened.dataset.modalities,
        num_classes=opened.dataset.num_classes,
        ignore_index=opened.dataset.ignore_index,
        statistics=dict(opened.normalizer.statistics),
    )
