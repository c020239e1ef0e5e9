"""Running a recorded cell again: what must be asked for.

Of a record only data are used: a method or a dataset is found by its name among those that are installed,
never by a path that a record holds.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mmbench.cells import option_defaults
from mmbench.errors import CellFailedError, DataError, UnknownNameError
from mmbench.recipe import Recipe, explain
from mmbench.records import Record, read_record
from mmbench.registry import find
from mmbench.results.files import list_folder
from mmbench.results.verification import verify_record
from mmbench.settings_files import parse_yaml, quote

_DEVICES = ("cpu", "cuda", "mps")
_MOST_THREADS = 1024
_WORD = re.compile(r"[\w.+-]+", re.ASCII)
_NOT_RECORDED = ("root", "split")
"""Arguments of a dataset that say where it lies and which tiles are used: no options of its pixels."""


@dataclass(frozen=True)
class Request:
    """What makes a run the recorded one.

    Attributes:
        method: Its name.
        dataset: Its name.
        dataset_options: As the command line takes them, "key=value".
        split: The name of the split, or "" where it was a file of somebody's own.
        recipe: A recipe file's content, with the recorded settings and options.
        seed: Of the cell.
        device: Kind of the device, "cpu", "cuda" or "mps".
        threads: Of the processor, on which the digits of a training depend; None where not recorded.
        compiled: Whether compiled graphs were scored.
    """

    method: str
    dataset: str
    dataset_options: tuple[str, ...]
    split: str
    recipe: str
    seed: int
    device: str
    threads: int | None
    compiled: bool

    def command(self, recipe_file: Path, results: Path, device: str, *more: str) -> str:
        """Return the command that runs the cell.

        Args:
            recipe_file: Holds `recipe`.
            results: Folder for the new record.
            device: Where to run.
            more: Further arguments, as where the data lie.
        """
        words = ["mmbench", "run", "--methods", self.method, "--dataset", self.dataset]
        words += [word for option in self.dataset_options for word in ("--dataset-option", option)]
        words += ["--split", self.split] if self.split else []
        words += ["--recipe", str(recipe_file), "--seeds", str(self.seed), "--device", device]
        words += [*(["--compile"] if self.compiled else []), *more, "--results", str(results)]
        threads = f"OMP_NUM_THREADS={self.threads} " if self.threads and device == "cpu" else ""
        return threads + shlex.join(words)


def find_finished(results: Path, record_id: str) -> Record:
    """Return a finished record by its id or the first digits of it, verified.

    Raises:
        UnknownNameError: If there is none, or there are several.
        DataError: If the folder is not there or the record is not sound.
        CellFailedError: If it is of a cell that failed.
    """
    paths = list_folder(results).records
    found = [path for path in paths if record_id and path.stem.startswith(record_id)]
    if len(found) != 1:
        hint = (
            f"the records of {results}" if not found else f"{len(found)} records begin so; give more digits"
        )
        raise UnknownNameError("record", record_id, [path.stem for path in found or paths], hint=hint)
    problems = verify_record(found[0])
    if isinstance(problems, list):
        raise DataError(f"{found[0]}: {problems[0]}; a record that is not sound is not run again")
    record = read_record(found[0])
    if record.error is not None:
        raise CellFailedError(
            f"record {record.id} is of a failed cell ({quote(record.error['message'])}); it has no scores to "
            "compare. Run the cell with 'mmbench run'"
        )
    return record


def request(record: Record) -> Request:
    """Return what must be asked for to run a record's cell again.

    Raises:
        UnknownNameError: If its method or dataset is not installed here.
        CellFailedError: If this version has no such settings or options.
    """
    identity = record.identity
    name, dataset = identity["method"]["name"], identity["dataset"]["name"]
    recipe = {
        "name": f"reproduction of {record.id}",
        "description": f"The settings of a record of recipe {record.recipe_name}.",
        "ranked": False,
        **identity["recipe"],
        "methods": {name: _set_options(name, identity["method"]["options"])},
    }
    _require_possible(record.id, recipe, option_defaults(find("method", name)))
    split = str(record.provenance.get("split", ""))
    threads = record.environment.get("threads")
    return Request(
        method=name,
        dataset=dataset,
        dataset_options=tuple(_dataset_options(dataset, identity["dataset"])),
        split=split if split in find("dataset", dataset).splits else "",
        recipe=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
        seed=identity["seed"],
        device=_device_kind(str(record.environment.get("device", ""))),
        threads=threads if isinstance(threads, int) and 0 < threads <= _MOST_THREADS else None,
        compiled="compiled" in record.provenance,
    )


def _require_possible(record_id: str, recipe: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse settings and options that this version does not have.

    Raises:
        CellFailedError: Naming them.
    """
    gone = [key for options in recipe["methods"].values() for key in options if key not in defaults]
    words = f"the method has no option {quote(gone)}" if gone else ""
    try:
        Recipe.model_validate_json(json.dumps(recipe))
    except ValidationError as error:
        words = explain(error)
    if words:
        raise CellFailedError(
            f"record {record_id} cannot be run by this version: {words}. Use the version that made it"
        )


def _device_kind(words: str) -> str:
    """Return the kind of a device from the words for it, "auto" if they are of none."""
    kind = words.split(" ")[0].partition(":")[0]
    return kind if kind in _DEVICES else "auto"


def _set_options(name: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded options of a method that are not its defaults here."""
    defaults = json.loads(json.dumps(option_defaults(find("method", name))))
    return {key: value for key, value in recorded.items() if key not in defaults or defaults[key] != value}


def _dataset_options(name: str, recorded: Mapping[str, Any]) -> Iterator[str]:
    """Yield the recorded options of a dataset: those of its identity that its constructor takes."""
    for key in inspect.signature(find("dataset", name)).parameters:
        if key in recorded and key not in _NOT_RECORDED:
            value = recorded[key]
            plain = isinstance(value, str) and _WORD.fullmatch(value) and parse_yaml(value) == value
            yield f"{key}={value if plain else json.dumps(value)}"
