"""`mmbench evaluate`: score saved weights under every scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmbench.cli import _options as options
from mmbench.cli._opening import dataset_keywords, open_dataset, with_cache


def evaluate(
    weights: Annotated[Path, typer.Argument(help="A file of 'mmbench train'.")],
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            "-d",
            help="Another dataset with the same modalities, or the .py file of your own.",
            callback=options.dataset_key,
        ),
    ] = None,
    root: options.Root = None,
    split: options.SplitName = None,
    split_file: options.SplitFile = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    device: options.DeviceName = "auto",
    compile_graphs: options.Compile = False,
    progress: options.ProgressStyle = "auto",
) -> None:
    """Score saved weights on the test tiles under every scenario and print the table."""
    options.check_choice("--progress", progress, options.PROGRESS_STYLES)
    from mmbench.compilation import CompiledMethod
    from mmbench.devices import resolve_device, resolve_precision
    from mmbench.errors import DataError
    from mmbench.evaluation import Evaluator
    from mmbench.reporting.progress import display
    from mmbench.weights import load_weights

    method, header = load_weights(weights)
    name = header.dataset if dataset is None else dataset
    keywords: dict[str, Any] = header.dataset_options if name == header.dataset else {}
    given = options.DatasetChoice(name, root, split, split_file)
    opened = open_dataset(name, _revived(keywords | dataset_keywords(given)), root)
    if list(opened.modalities.items()) != list(header.modalities.items()) or (
        opened.num_classes != header.num_classes
    ):
        raise DataError(
            f"dataset {name!r} has modalities {opened.modalities} and {opened.num_classes} classes; "
            f"{weights} was trained on {header.modalities} and {header.num_classes} classes"
        )
    opened = with_cache(opened, name, cache, no_cache)
    place = resolve_device(device)
    precision = resolve_precision(place, header.recipe.training.precision)
    evaluator = Evaluator(opened, header.normalizer, header.recipe.evaluation, place, precision)
    evaluator.check_no_peek(header.method, method.to(place))
    with display(progress) as shown:  # type: ignore[arg-type]
        shown.cell(1, 1, f"{header.method} seed {header.seed}")
        predictor = CompiledMethod(method) if compile_graphs else method
        evaluation = evaluator.evaluate(predictor, lambda *figures: shown.step("test", *figures))
        shown.result(f"{len(opened.split.test)} tiles scored")
    if isinstance(predictor, CompiledMethod):
        typer.echo(f"compiled {predictor.graphs} graphs in {predictor.seconds:.0f} s", err=True)
    _print_scores(header.method, evaluation.headline, opened)


def _revived(keywords: dict[str, Any]) -> dict[str, Any]:
    """Turn a split file's name, stored as text, into a path again."""
    split = keywords.get("split")
    is_file = isinstance(split, str) and Path(split).suffix != ""
    return keywords | ({"split": Path(split)} if is_file else {})  # type: ignore[arg-type]


def _print_scores(method: str, confusions: dict[str, Any], opened: Any) -> None:
    """Print overall scores and the IoU of each class, in %, by scenario."""
    from tabulate import tabulate

    from mmbench.metrics import scores

    names = ["mIoU", "mF1", "OA", *(f"IoU {c}" for c in opened.classes)]
    rows = []
    for scenario, matrices in confusions.items():
        s = scores(matrices.sum(0), opened.scored_classes)
        rows.append(
            [scenario, *("-" if v is None else f"{v * 100:.1f}" for v in (s.miou, s.mf1, s.oa, *s.iou))]
        )
    typer.echo(f"{method} on {opened.title}, split {opened.split_name}, %\n")
    typer.echo(tabulate(rows, headers=["scenario", *names], disable_numparse=True))
