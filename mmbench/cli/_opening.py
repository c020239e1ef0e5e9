"""Opening what the command line names: every name and option is checked before anything is trained."""

from __future__ import annotations

import inspect
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmbench.cli._options import DatasetChoice, check_device_name
from mmbench.errors import InvalidRecipeError

if TYPE_CHECKING:
    from mmbench.cells import Run
    from mmbench.datasets._dataset import Dataset


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
    for item in choice.dataset_option or []:
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
    compiled: bool = False,
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
    from mmbench.cells import Run, check_options, with_variants
    from mmbench.devices import resolve_device

    recipe = with_variants(recipe, methods)
    check_options(recipe, methods, dataset)
    return Run(
        dataset_name=choice.name,
        dataset=with_cache(dataset, choice.name, cache, no_cache),
        recipe=recipe,
        device=resolve_device(device),
        results=results,
        workers=workers,
        compiled=compiled,
        command=shlex.join(["mmbench", *sys.argv[1:]]),
    )
