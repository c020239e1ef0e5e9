"""Options that several verbs share, and opening what they name."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from mmbench.errors import InvalidRecipeError

if TYPE_CHECKING:
    from mmbench.cells import Run
    from mmbench.datasets._dataset import Dataset


def dataset_key(name_or_file: str | None) -> str | None:
    """Return a dataset's name; one that is given as a file is added under its name first."""
    from mmbench.registry import key

    return None if name_or_file is None else key("dataset", name_or_file)


def method_key(name_or_file: str) -> str:
    """Return a method's name; one that is given as a file is added under its name first."""
    from mmbench.registry import key

    return key("method", name_or_file)


_A_DATASET = "A dataset of 'mmbench list', or the .py file of your own."
_A_METHOD = "A method of 'mmbench list', or the .py file of your own."
DatasetName = Annotated[str, typer.Option("--dataset", "-d", help=_A_DATASET, callback=dataset_key)]
DatasetArgument = Annotated[str, typer.Argument(help=_A_DATASET, callback=dataset_key)]
MethodArgument = Annotated[str, typer.Argument(help=_A_METHOD, callback=method_key)]
MethodNames = Annotated[
    str, typer.Option("--methods", "-m", help="Names (or your .py files) separated by commas, or 'all'.")
]
RecipeName = Annotated[str, typer.Option("--recipe", "-r", help="A shipped recipe, or a .yaml file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a key of the recipe: training.steps=100. May be repeated."),
]
Root = Annotated[
    Path | None,
    typer.Option("--root", help="The dataset's folder; else $MMBENCH_DATA/NAME, else your data folder."),
]
SplitName = Annotated[str | None, typer.Option("--split", help="A named split of the dataset.")]
SplitFile = Annotated[
    Path | None, typer.Option("--split-file", help="Your own split: YAML with train, val, test.")
]
Optical = Annotated[str | None, typer.Option("--optical", help="irrg or rgb, where the dataset has both.")]
Height = Annotated[str | None, typer.Option("--height", help="ndsm or dsm, where the dataset has both.")]
DatasetOptions = Annotated[
    list[str] | None,
    typer.Option("--dataset-option", help="Another option of the dataset, as seed=1. May be repeated."),
]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder of prepared pixels; else $MMBENCH_CACHE, else your cache folder."),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Read the files, whatever is prepared.")]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Reading processes; the result is the same.")]
Results = Annotated[Path, typer.Option("--results", help="Folder of the records.")]
ProgressStyle = Annotated[str, typer.Option("--progress", help="auto, rich, plain or off.")]

PROGRESS_STYLES = ("auto", "rich", "plain", "off")


class DatasetChoice(NamedTuple):
    """What the command line says about the data."""

    name: str
    root: Path | None
    split: str | None
    split_file: Path | None
    optical: str | None
    height: str | None
    options: list[str] | None


def dataset_keywords(choice: DatasetChoice) -> dict[str, Any]:
    """Return the keyword arguments of the dataset's constructor, without the root.

    Raises:
        UnknownNameError: If there is no such dataset.
        InvalidRecipeError: If it has no such option, or two splits are given.
    """
    from mmbench.registry import find
    from mmbench.settings_files import parse_yaml, quote

    if choice.split is not None and choice.split_file is not None:
        raise InvalidRecipeError("--split and --split-file were both given; expected one of them")
    keywords: dict[str, Any] = {}
    for item in choice.options or []:
        key, separator, value = item.partition("=")
        if not separator:
            raise InvalidRecipeError(f"--dataset-option {item!r}: expected key=value, as in seed=1")
        try:
            keywords[key] = parse_yaml(value)
        except ValueError as error:
            raise InvalidRecipeError(f"--dataset-option {quote(item)}: the value is {error}") from error
    named = {
        "split": choice.split if choice.split_file is None else choice.split_file,
        "optical": choice.optical,
        "height": choice.height,
    }
    keywords |= {key: value for key, value in named.items() if value is not None}
    known = [p for p in inspect.signature(find("dataset", choice.name)).parameters if p != "root"]
    for key in keywords:
        if key not in known:
            raise InvalidRecipeError(
                f"dataset {choice.name!r} has no option {key!r}; it has: {', '.join(known)}"
            )
    return keywords


def construct_dataset(name: str, keywords: dict[str, Any], root: Path | None) -> Dataset:
    """Return a dataset with the keywords of `dataset_keywords`, whether all its files are there or not.

    Raises:
        InvalidRecipeError: If it does not accept a value.
    """
    from mmbench.registry import find

    dataset_class = find("dataset", name)
    _check_types(name, dataset_class, keywords)
    try:
        return dataset_class(**keywords, root=root)
    except (TypeError, ValueError) as error:
        words = ", ".join(f"{key}={value!r}" for key, value in keywords.items())
        raise InvalidRecipeError(f"dataset {name!r} with {words}: {error}") from error


def _check_types(name: str, dataset_class: type[Dataset], keywords: dict[str, Any]) -> None:
    """Refuse values of other types than the constructor's annotations: "no" is not False.

    Raises:
        InvalidRecipeError: Naming the option, what came and what was expected.
    """
    from typing import get_type_hints

    from pydantic import ConfigDict, TypeAdapter, ValidationError

    hints = get_type_hints(dataset_class.__init__)
    for key, value in keywords.items():
        if key not in hints:
            continue
        try:
            TypeAdapter(hints[key], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            words = error.errors()[0]["msg"].lower()
            raise InvalidRecipeError(f"dataset {name!r}: {key} is {value!r}; {words}") from error


def open_dataset(name: str, keywords: dict[str, Any], root: Path | None) -> Dataset:
    """Return a dataset as `construct_dataset` does, with all its files.

    Raises:
        DataError: If files are missing.
        InvalidRecipeError: If it does not accept a value.
    """
    dataset = construct_dataset(name, keywords, root)
    dataset.require_files()
    return dataset


def with_cache(dataset: Dataset, name: str, cache: Path | None, no_cache: bool) -> Dataset:
    """Return a dataset that reads prepared pixels where there are valid ones, unless that is not wanted.

    Raises:
        InvalidRecipeError: If a cache and none are asked for, or the one that is given is no folder.
    """
    if no_cache:
        if cache is not None:
            raise InvalidRecipeError("--cache and --no-cache were both given; expected one of them")
        return dataset
    if cache is not None and not cache.is_dir():
        found = "is a file" if cache.exists() else "is not there"
        raise InvalidRecipeError(
            f"--cache {cache} {found}; expected a folder with what 'mmbench data prepare {name}' wrote: "
            "prepare it first, or leave --cache out"
        )
    from mmbench.datasets._prepared.dataset import open_prepared

    return open_prepared(dataset, name, cache)


def open_run(
    choice: DatasetChoice,
    recipe_name: str,
    overrides: list[str] | None,
    methods: list[str],
    *,
    device: str,
    results: Path,
    workers: int = 0,
    cache: Path | None = None,
    no_cache: bool = False,
) -> Run:
    """Check every name and option, then open the data: nothing is trained before all is known to be right."""
    from mmbench.registry import entry

    for name in methods:
        entry("method", name)
    entry("dataset", choice.name)
    check_device_name(device)
    from mmbench.recipe import load_recipe

    recipe = load_recipe(recipe_name, overrides or [])
    dataset = open_dataset(choice.name, dataset_keywords(choice), choice.root)
    from mmbench.cells import Run, check_options
    from mmbench.devices import resolve_device

    check_options(recipe, methods, dataset)
    return Run(
        dataset_name=choice.name,
        dataset=with_cache(dataset, choice.name, cache, no_cache),
        recipe=recipe,
        device=resolve_device(device),
        results=results,
        workers=workers,
        command=shlex.join(["mmbench", *sys.argv[1:]]),
    )


def check_device_name(name: str) -> None:
    """Refuse what is no device's name; whether the device is there is found out later.

    Raises:
        InvalidRecipeError: Naming the forms there are.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise InvalidRecipeError(f"--device {name!r}: expected auto, cpu, cuda, cuda:N or mps")


def parse_methods(text: str) -> list[str]:
    """Return the methods of a comma-separated list; "all" is every one.

    Raises:
        InvalidRecipeError: If there is none.
    """
    from mmbench.registry import names

    given = [name.strip() for name in text.split(",") if name.strip()]
    found = names("method") if text == "all" else [method_key(name) for name in given]
    if not found:
        raise InvalidRecipeError(f"--methods {text!r}: expected names separated by commas, or 'all'")
    return list(dict.fromkeys(found))


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of a comma-separated list.

    Raises:
        InvalidRecipeError: If one is not a whole number from 0.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InvalidRecipeError(f"--seeds {text!r}: expected whole numbers separated by commas, as in 0,1,2")
    return list(dict.fromkeys(int(part) for part in parts))


def check_choice(option: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a value that is not one of a few.

    Raises:
        InvalidRecipeError: Naming those there are.
    """
    if value not in known:
        raise InvalidRecipeError(f"{option} {value!r}: expected one of {', '.join(known)}")
