"""What a cell leaves behind: one JSON, and beside it its confusion matrices and some of its predictions.

A record's id is the fingerprint of everything that can change its scores, so a finished cell is found again
and a changed recipe, option, split or line of code never reuses an old one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

import mmbench_baselines
import mmbench_kernels
from mmbench.errors import DataError
from mmbench.predictions import Predictions, load_predictions, save_predictions
from mmbench.recipe import explain
from mmbench.registry import Entry
from mmbench.settings_files import quote
from mmbench.sources import hash_sources, with_private_imports

PROTOCOL_VERSION = 1
_HERE = Path(__file__).parent
_ID = re.compile("[0-9a-f]{16}")
_LOOP = (
    "devices.py",
    "evaluation.py",
    "execution.py",
    "imputation.py",
    "loading.py",
    "metrics.py",
    "scenarios/*.py",
    "search.py",
    "tile_reader.py",
    "training.py",
    "transforms.py",
    "truth.py",
    "windows.py",
)


class Record(BaseModel):
    """One cell, as stored.

    Attributes:
        id: The fingerprint of `identity`.
        status: "done", or "failed" with the reason in `error`.
        identity: Everything that can change the scores; see `cells.identity`.
        recipe_name: The recipe's name, for people.
        ranked: Whether the recipe is the ranked one.
        method: Facts for people: title, origin, set options, parameters, what training sees.
        scenarios: In the order of the matrices, scenario -> scores, of the summed matrix.
        tiles: Test tiles, in the order of the matrices.
        training: Budget spent, learning curve, validation, checkpoint.
        no_peek: The cases that were proved.
        imputation: Of a method that generates images: modality -> mean absolute error on the test tiles, of
            its images and of the training mean, in normalised units.
        profile: Parameters, and by scenario the FLOP, bytes and launches of a forward over one window; see
            `profiling.record_profile`. None where they are not known, as in records from before they were.
        environment: Machine and versions; recorded, not part of the identity.
        provenance: Command, time, seconds.
        error: Kind and message of a failure.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    id: str
    status: Literal["done", "failed"]
    identity: dict[str, Any]
    recipe_name: str
    ranked: bool
    method: dict[str, Any]
    classes: list[str]
    scored_classes: list[int]
    scenarios: dict[str, dict[str, Any]] = {}
    tiles: list[str] = []
    training: dict[str, Any] = {}
    no_peek: list[str] = []
    imputation: dict[str, dict[str, float]] = {}
    profile: dict[str, Any] | None = None
    environment: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    error: dict[str, str] | None = None


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Return the id of an identity: 16 hexadecimal digits of the SHA-256 of its canonical JSON."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def code_hash(method: Entry, dataset: Entry) -> dict[str, str]:
    """Return the hashes of the code that makes a score: the method, what it is built on, the loop, the data.

    Comments, docstrings and layout do not count.
    """
    baselines, kernels = (Path(p.__file__ or "").parent for p in (mmbench_baselines, mmbench_kernels))
    shared = [*(baselines / "blocks").rglob("*.py"), baselines / "method.py", baselines / "optim.py"]
    loop = [f for name in _LOOP for f in sorted(_HERE.glob(name))]
    return {
        "method": hash_sources(method.sources),
        "blocks": hash_sources(shared),
        "operators": hash_sources(kernels.rglob("*.py")),
        "loop": hash_sources(loop),
        "dataset": hash_sources(with_private_imports(dataset.sources)),
    }


def record_path(results: Path, record_id: str) -> Path:
    """Return where a record is stored."""
    return results / f"{record_id}.json"


def predictions_path(results: Path, record_id: str) -> Path:
    """Return where a record's predictions are stored; records from before they were have none."""
    return results / f"{record_id}.predictions.npz"


def write_record(
    results: Path,
    record: Record,
    confusions: Mapping[str, NDArray[np.int64]] | None = None,
    predictions: Predictions | None = None,
) -> Path:
    """Store a record; what stands beside it first, so that a record never stands without it.

    Args:
        results: Folder, made if it is not there.
        record: To be stored under its id.
        confusions: Scenario -> (tiles, K, K) int64, counted against the labels of the record's scores; under
            `matrix_name` those against other labels.
        predictions: Of every tile and scenario.

    Returns:
        The path of the JSON.
    """
    path = record_path(results, record.id)
    if confusions is not None:
        write_whole(path.with_suffix(".safetensors"), lambda part: save_file(dict(confusions), part))
    if predictions is not None:
        beside = predictions_path(results, record.id)
        write_whole(beside, lambda part: save_predictions(part, predictions))
    text = record.model_dump_json(indent=1)
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
    return path


def matrix_name(scenario: str, policy: str) -> str:
    """Return the name of matrices counted against other labels than those of the record's scores."""
    return f"{scenario}@{policy}"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, flush it to disk and rename it there: whole or not at all.

    Args:
        path: Its place; the folder is made if it is not there.
        write: Writes the content into the file it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    part = Path(name)
    try:
        write(part)
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.chmod(0o644)  # mkstemp makes it private
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_record(path: Path) -> Record:
    """Read one record.

    Raises:
        DataError: If the file is not a record of this schema, or holds a number that is not finite. JSON has
            no word for one: a run writes null, and what is made of records must be JSON as well.
    """
    try:
        record = Record.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise DataError(f"record {path}: {explain(error)}; it was not written by this version") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"record {path}: cannot be read ({error})") from error
    if (keys := _not_finite(dict(record))) is not None:
        raise DataError(
            f"record {path}: {quote('.'.join(keys))} is not a finite number; a run writes null there. Take "
            "the record out of the folder, or run its cell again"
        )
    return record


def _not_finite(value: Any) -> list[str] | None:
    """Return the keys that lead to the first number that is not finite, None if all are."""
    if isinstance(value, float):
        return None if math.isfinite(value) else []
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        if (keys := _not_finite(child)) is not None:
            return [str(key), *keys]
    return None


def read_records(results: Path) -> list[Record]:
    """Read every record of a folder, in the order of their ids; other files are left alone."""
    return [read_record(path) for path in sorted(results.glob("*.json")) if _ID.fullmatch(path.stem)]


def read_confusions(results: Path, record: Record, policy: str | None = None) -> dict[str, NDArray[np.int64]]:
    """Read the matrices of a finished record, scenario -> (tiles, K, K) int64.

    Args:
        results: Folder of the record.
        record: Whose matrices.
        policy: Of the labels that they were counted against; None is that of the record's scores.

    Raises:
        DataError: If the file is missing, damaged or of another shape than the record says, or lacks the
            policy, as files from before there were several do.
    """
    path = record_path(results, record.id).with_suffix(".safetensors")
    try:
        matrices = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"matrices {path}: cannot be read ({error}); run the cell again") from error
    is_headline = policy in (None, record.identity.get("labels", {}).get("test"))
    names = {s: s if policy is None or is_headline else matrix_name(s, policy) for s in record.scenarios}
    if not is_headline and not matrices.keys() & names.values():
        raise DataError(
            f"matrices {path}: none were counted against {policy!r} labels; expected them of a cell run by "
            "this version, where the dataset has these labels of its test tiles. Run the cell again"
        )
    expected = (len(record.tiles), len(record.classes), len(record.classes))
    for name in names.values():
        if name not in matrices or matrices[name].shape != expected:
            raise DataError(f"matrices {path}: {name!r} is missing or not {expected}; run the cell again")
    return {scenario: matrices[name] for scenario, name in names.items()}


def read_predictions(results: Path, record: Record) -> Predictions:
    """Read the predictions of a finished record.

    Raises:
        DataError: If the file is missing, as of records from before predictions were stored, damaged, too
            large or of another form than the record says.
    """
    path = predictions_path(results, record.id)
    return load_predictions(path, record.tiles, list(record.scenarios), len(record.classes))
