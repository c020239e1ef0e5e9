"""`mmbench doctor`: what this machine has, and what of mmbench can run on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import typer

from mmbench.cli.data._json import STANDARD_OUTPUT, JsonTarget, write_json

Facts = Mapping[str, str]


def doctor(json: JsonTarget = None) -> None:
    """Say which versions, device, operators and data there are here; changes nothing, always ends with 0."""
    report = {"versions": _versions(), "device": _device(), "operators": _operators(), "data": _data()}
    if json is not None:
        write_json(report, json)
    if json != STANDARD_OUTPUT:
        typer.echo("\n\n".join(_section(title, facts) for title, facts in report.items()))


def _versions() -> Facts:
    """Return the versions that decide what runs."""
    import platform

    import torch

    from mmbench._version import __version__

    return {
        "mmbench": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _device() -> Facts:
    """Return what `--device auto` takes, and what it has."""
    from mmbench.devices import environment, resolve_device, resolve_precision

    device = resolve_device("auto")
    facts = environment(device)
    return {
        "device": facts["device"],
        "precision": resolve_precision(device, "auto"),
        "cores": str(facts["cores"]),
        "memory": f"{facts['memory_gib']} GiB",
        "allocator": facts["allocator"],
    }


def _operators() -> Facts:
    """Return whether Triton's operators are usable, and why not."""
    from mmbench_kernels._availability import describe

    return dict(describe())


def _data() -> Facts:
    """Return for every dataset whether its files are found."""
    from mmbench.registry import entries

    return dict(_datasets(sorted(entries("dataset"))))


def _datasets(names: list[str]) -> Iterator[tuple[str, str]]:
    from mmbench.cli._opening import open_dataset
    from mmbench.errors import MMBenchError

    for name in names:
        try:
            dataset = open_dataset(name, {}, None)
        except MMBenchError as error:
            yield name, f"no: {error}"
        else:
            yield name, f"yes: {len(dataset.split.tiles)} tiles of split {dataset.split_name}"


def _section(title: str, facts: Facts) -> str:
    """Return a title and its facts, one a line."""
    width = max(map(len, facts), default=0)
    return "\n".join([title, *(f"  {name:{width}}  {words}" for name, words in facts.items())])
