"""`mmbench data stats`: class shares, ranges and the training statistics of a split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mmbench.cli import _options as options
from mmbench.cli._opening import dataset_keywords, open_dataset
from mmbench.cli.data._json import STANDARD_OUTPUT, JsonTarget, write_json

if TYPE_CHECKING:
    from mmbench.data_statistics import DataStatistics


@options.takes_dataset
def stats(
    name: options.DatasetArgument,
    choice: options.DatasetChoice,
    json: JsonTarget = None,
    progress: options.ProgressStyle = "auto",
) -> None:
    """Count classes and ranges over every tile of a split, and compute the training statistics."""
    options.check_choice("--progress", progress, options.PROGRESS_STYLES)
    dataset = open_dataset(name, dataset_keywords(choice), choice.root)
    from mmbench.data_statistics import data_statistics
    from mmbench.reporting.progress import display

    with display(progress) as shown:  # type: ignore[arg-type]
        shown.cell(1, 1, f"statistics of {name}")
        found = data_statistics(
            dataset, name=name, progress=lambda done, total: shown.step("tiles", done, total, {})
        )
        shown.result(f"{len(dataset.split.tiles)} tiles read")
    if json is not None:
        write_json(found.as_dict(), json)
    if json != STANDARD_OUTPUT:
        typer.echo("\n\n".join([_classes(found), _ranges(found), _training(found)]))


def _classes(found: DataStatistics) -> str:
    """Return the table of class shares, a column a role."""
    headers = ["", *found.roles]
    roles = list(found.roles.values())
    rows = [
        ["tiles", *(str(role.tiles) for role in roles)],
        ["labels", *(role.labels for role in roles)],
        ["pixels", *(str(role.pixels) for role in roles)],
        ["ignored, % of all", *(_percent(role.ignored_share) for role in roles)],
        *(
            [f"{name}, % of labelled", *(_percent(role.class_shares[name]) for role in roles)]
            for name in roles[0].classes
        ),
    ]
    return _table(headers, rows)


def _ranges(found: DataStatistics) -> str:
    """Return the table of ranges, a row a role and channel."""
    rows = [
        [modality, str(number), role, _number(c.low), _number(c.high), _number(c.mean), _percent(c.clipped)]
        for modality in found.training
        for role, of_role in found.roles.items()
        for number, c in enumerate(of_role.channels[modality])
    ]
    return _table(["modality", "channel", "role", "min", "max", "mean", "clipped, %"], rows)


def _training(found: DataStatistics) -> str:
    """Return the table of what normalisation uses."""
    rows = [
        [modality, str(number), *map(_number, values)]
        for modality, s in found.training.items()
        for number, values in enumerate(zip(s.low, s.high, s.mean, s.scale, strict=True))
    ]
    return _table(["training", "channel", "clip low", "clip high", "mean", "scale"], rows)


def _table(headers: list[str], rows: list[list[str]]) -> str:
    from tabulate import tabulate

    return tabulate(rows, headers=headers, disable_numparse=True)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.2f}"


def _number(value: float) -> str:
    return f"{value:.4g}"
