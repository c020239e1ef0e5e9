"""Options that several verbs share, and what their values may be."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer

from mmbench.errors import InvalidRecipeError


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
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Score with compiled graphs: faster after minutes of compiling, equal but for rounding.",
    ),
]
Results = Annotated[Path, typer.Option("--results", help="Folder of the records.")]
ProgressStyle = Annotated[str, typer.Option("--progress", help="auto, rich, plain or off.")]

PROGRESS_STYLES = ("auto", "rich", "plain", "off")


class DatasetChoice(NamedTuple):
    """What the command line says about the data; `takes_dataset` gives a verb the options behind it."""

    name: str
    root: Root = None
    split: SplitName = None
    split_file: SplitFile = None
    optical: Optical = None
    height: Height = None
    dataset_option: DatasetOptions = None


def takes_dataset(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb, in place of its parameter `choice`, the options that say which data to read.

    Args:
        verb: With the parameters `choice` and `dataset` or `name`, the dataset's name.
    """
    own = inspect.signature(verb, eval_str=True).parameters
    hints = get_type_hints(DatasetChoice, include_extras=True)
    fields = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
        for name, default in DatasetChoice._field_defaults.items()
    ]
    given = [p for name, parameter in own.items() for p in (fields if name == "choice" else [parameter])]
    name_of_name = "dataset" if "dataset" in own else "name"

    @functools.wraps(verb)
    def with_choice(**values: Any) -> None:
        about_data = {field.name: values.pop(field.name) for field in fields}
        verb(**values, choice=DatasetChoice(values[name_of_name], **about_data))

    # The option parser reads this in place of the verb's own.
    with_choice.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in given]
    )
    return with_choice


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
