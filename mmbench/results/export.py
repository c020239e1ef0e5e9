"""Anonymous copies of records, for a review that must not learn who ran them.

What a reviewer needs stays: scores, matrices, settings, ids, versions, the kind of device and its threads,
how long training took. Command lines, times of day, the machine's size, paths and names go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbench.errors import DataError, InvalidRecipeError
from mmbench.records import Record, read_predictions, read_record, write_record
from mmbench.registry import entries, find
from mmbench.results.files import PREDICTIONS, companion
from mmbench.results.matrices import read_matrices
from mmbench.results.scrubbing import names_here, names_in, names_left, place_left, scrub
from mmbench.results.verification import require_sound
from mmbench.settings_files import quote

_KEPT_ENVIRONMENT = ("python", "torch", "platform", "device", "threads", "allocator")
_KEPT_PROVENANCE = ("mmbench", "pixels", "compiled", "label_policies")
_MMBENCH = "mmbench"
PLUG_IN, OWN_SPLIT = "plug-in", "own split"
"""In place of where a method came from, and of the name of somebody's split file."""


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        count: Records that were written.
        doubts: What may still tell who ran a record and could not be changed, a sentence each.
    """

    count: int
    doubts: tuple[str, ...]


def export_anonymous(results: Path, into: Path) -> Export:
    """Write anonymous copies of all records of a folder; their ids stay, so tables and comparisons do too.

    Matrices and predictions are written anew from their values: whatever else a file carried stays behind.

    Args:
        results: Folder of the records.
        into: A new or an empty folder.

    Raises:
        DataError: If a record is not sound, or a path stands where it cannot be taken out, as in its
            identity, for which its id stands; then nothing is written.
        InvalidRecipeError: If `into` holds anything.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise InvalidRecipeError(f"--into {into}: holds files; expected a new or an empty folder")
    originals = {sound.path: read_record(sound.path) for sound in require_sound([results]).records}
    names = names_here().union(*(names_in(record.model_dump()) for record in originals.values()))
    starts = sorted({_start(record) for record in originals.values()})
    copies = {
        path: _anonymous(path, record, names, starts.index(_start(record)) + 1)
        for path, record in originals.items()
    }
    doubts = [words for path, copy in copies.items() if (words := _doubt(path, copy, names))]
    for path, copy in copies.items():
        done = copy.status == "done"
        has_predictions = done and companion(path, PREDICTIONS).exists()
        write_record(
            into,
            copy,
            read_matrices(path, copy) if done else None,
            read_predictions(path.parent, copy) if has_predictions else None,
        )
    return Export(len(copies), tuple(doubts))


def _start(record: Record) -> str:
    """Return when a record was started, as it was written down."""
    return str(record.provenance.get("started", ""))


def _anonymous(path: Path, record: Record, names: set[str], number: int) -> Record:
    """Return a copy without what tells who ran it, and where.

    Args:
        path: For the error.
        record: The original.
        names: Of users and hosts.
        number: Its place in the order of the starts. It stands in place of the time: of two records of a cell
            a table takes the later.
    """
    facts = ("title", "note")
    method = record.method | {key: scrub(record.method[key], names) for key in facts if key in record.method}
    if method.get("origin", _MMBENCH) != _MMBENCH:
        method["origin"] = PLUG_IN
    changes = {
        "method": method,
        "recipe_name": scrub(record.recipe_name, names),
        "training": _without_trial_errors(record.training),
        "environment": _kept(record.environment, _KEPT_ENVIRONMENT, names),
        "provenance": {
            **_kept(record.provenance, _KEPT_PROVENANCE, names),
            "split": _split_name(record),
            "started": f"{number:06d}",
        },
        "error": record.error and {key: scrub(words, names) for key, words in record.error.items()},
    }
    copy = record.model_copy(update=changes)
    if words := place_left(copy.model_dump()):
        raise DataError(
            f"{path}: {quote(words)} tells where it was run, and stands where it cannot be taken out, as in "
            "the identity for which the id stands; nothing was exported. Run the cell again without it"
        )
    return copy


def _doubt(path: Path, copy: Record, names: set[str]) -> str:
    """Say which names of users or hosts are still words of a copy, as in the name of a method; "" if none."""
    left = names_left(copy.model_dump(), names)
    return f"{path.name} still says {quote(sorted(left))}: look whether that tells who ran it" if left else ""


def _kept(facts: dict[str, Any], keys: Sequence[str], names: set[str]) -> dict[str, Any]:
    """Return the facts that may stay, their words scrubbed."""
    kept = {key: facts[key] for key in keys if key in facts}
    return {key: scrub(fact, names) if isinstance(fact, str) else fact for key, fact in kept.items()}


def _without_trial_errors(training: dict[str, Any]) -> dict[str, Any]:
    """Return what training left behind; of a trial's error, whether there was one."""
    if "trials" not in training:
        return training
    trials = [trial | {"error": "failed"} if trial.get("error") else trial for trial in training["trials"]]
    return training | {"trials": trials}


def _split_name(record: Record) -> str:
    """Return the name of a split that ships; that of somebody's own file may say whose it is."""
    name = str(record.provenance.get("split", ""))
    known = entries("dataset").get(record.identity["dataset"]["name"])
    is_shipped = known is not None and known.origin == _MMBENCH and name in find("dataset", known.name).splits
    return name if is_shipped else OWN_SPLIT
