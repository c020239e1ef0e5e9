"""Verification: whether records are what a run would have written, alone and beside those of the same data.

Nothing that a record names is imported or run: it is read as data, within limits of size.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbench.datasets._dataset import Dataset
from mmbench.errors import DataError
from mmbench.records import Record, fingerprint, read_predictions, read_record
from mmbench.registry import entries, find
from mmbench.results.files import (
    LARGEST_PREDICTIONS_BYTES,
    LARGEST_RECORD_BYTES,
    PREDICTIONS,
    companion,
    list_folder,
    require_plain,
)
from mmbench.results.matrices import Matrices, policies_of, read_matrices, score_problems
from mmbench.results.ranking import unproved_cases, why_not_ranked
from mmbench.results.schema import schema_problem
from mmbench.scenarios.scenario import whole_modality_scenarios
from mmbench.settings_files import quote


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file, in one line."""

    path: Path
    words: str

    def __str__(self) -> str:
        return f"{self.path}: {self.words}"


@dataclass(frozen=True)
class SoundRecord:
    """A record with which nothing is wrong by itself.

    Attributes:
        path: Its JSON.
        record_id: Its id.
        done: Whether it is finished.
        ranked: Whether it may stand in a ranked table, whatever it claims.
        convicted: Whether it says that its method broke the protocol.
        data: What two records share that were scored on the same data, as JSON.
        facts: Aspect -> what must be equal for all records of the same data, as JSON.
    """

    path: Path
    record_id: str
    done: bool
    ranked: bool
    convicted: bool
    data: str
    facts: dict[str, str]


@dataclass(frozen=True)
class Verification:
    """What was found in some folders.

    Attributes:
        records: Those that are sound by themselves, folder by folder.
        problems: Of single records, and between records of the same data.
        foreign: What lies beside the records and is none.
    """

    records: tuple[SoundRecord, ...]
    problems: tuple[Problem, ...]
    foreign: tuple[Path, ...]


def verify(folders: Iterable[Path]) -> Verification:
    """Verify every record of some folders.

    Args:
        folders: Of records; sub-folders are not looked into.

    Raises:
        DataError: If a folder is not there or holds no record.
    """
    records: list[SoundRecord] = []
    problems: list[Problem] = []
    foreign: list[Path] = []
    for folder in folders:
        listing = list_folder(folder)
        if not listing.records:
            raise DataError(f"results {folder}: holds no records; expected those of 'mmbench run'")
        foreign += listing.foreign
        for path in listing.records:
            found = verify_record(path)
            if isinstance(found, SoundRecord):
                records.append(found)
            else:
                problems += [Problem(path, words) for words in found]
    return Verification(tuple(records), (*problems, *_disagreements(records)), tuple(foreign))


def require_sound(folders: Sequence[Path]) -> Verification:
    """Verify some folders and refuse them if anything is wrong.

    Raises:
        DataError: Naming the first problem, and how many there are.
    """
    found = verify(folders)
    if found.problems:
        more = f" and {len(found.problems) - 1} more problems" if len(found.problems) > 1 else ""
        names = " ".join(map(str, folders))
        raise DataError(f"{found.problems[0]}{more}; 'mmbench results verify {names}' lists them")
    return found


def read_for_tables(folder: Path) -> list[Record]:
    """Read the records of a folder that tables are made of, in the order of their ids.

    Refused is what no table could say: a record that is not of this schema, was changed after it was written,
    or lacks the proof of no-peek. What a table does say, such as a scenario that is missing, is not; nor are
    the matrices read, against which the scores are held where they are.

    Raises:
        DataError: If the folder is not there, or naming the first record that is refused.
    """
    return [_read_for_tables(path) for path in list_folder(folder).records]


def _read_for_tables(path: Path) -> Record:
    """Read one record for a table."""
    require_plain(path, LARGEST_RECORD_BYTES)
    record = read_record(path)
    if words := _identity_problem(path, record) or _no_peek_problem(record):
        raise refusal(path, words)
    return record


def refusal(path: Path, words: str) -> DataError:
    """Return the error for a record of which no table may be made.

    Args:
        path: Of its JSON.
        words: What is wrong with it.
    """
    return DataError(
        f"record {path}: {words}. Take it out of the folder, or run its cell again; 'mmbench results verify "
        f"{path.parent}' lists all that is wrong"
    )


def verify_record(path: Path) -> SoundRecord | list[str]:
    """Verify one record by itself.

    Args:
        path: Of its JSON.

    Returns:
        What is needed to hold it against others, or what is wrong with it.
    """
    try:
        require_plain(path, LARGEST_RECORD_BYTES)
        record = read_record(path)
        if words := _identity_problem(path, record):
            return [words]
        matrices = read_matrices(path, record) if record.status == "done" else {}
        if companion(path, PREDICTIONS).exists():
            require_plain(companion(path, PREDICTIONS), LARGEST_PREDICTIONS_BYTES)
            read_predictions(path.parent, record)
    except DataError as error:
        return [str(error).removeprefix(f"record {path}: ").removeprefix(f"{path}: ")]
    problems = [*_content_problems(record), *score_problems(record, matrices)]
    counted = policies_of(matrices, list(record.scenarios))
    problems += _truth_problems(counted, record.tiles)
    if problems:
        return problems
    return SoundRecord(
        path=path,
        record_id=record.id,
        done=record.status == "done",
        ranked=record.status == "done" and not why_not_ranked(record),
        convicted=(record.error or {}).get("kind") == "protocol",
        data=json.dumps([record.identity["dataset"], record.identity["labels"]], sort_keys=True),
        facts=_facts(record, counted),
    )


def _identity_problem(path: Path, record: Record) -> str:
    """Say what keeps a record from being looked at any closer: its form, its name or its id."""
    if words := schema_problem(record):
        return words
    if record.id != path.stem:
        return f"holds the record {quote(record.id)}; expected the one that its name says"
    if record.id != (found := fingerprint(record.identity)):
        return f"its identity has the id {found}: the record was changed after it was written"
    return ""


def _content_problems(record: Record) -> Iterator[str]:
    """Yield what a record says that a run would not have written."""
    # A claim is held against the recipe in the identity; that no-peek was not proved is said below.
    if record.ranked and (words := why_not_ranked(record)) and not unproved_cases(record):
        yield f"claims to be ranked, but {words}, by the settings in its identity"
    if record.status == "failed":
        return
    scenarios = [s.name for s in whole_modality_scenarios(list(record.identity["dataset"]["modalities"]))]
    if lacking := [name for name in scenarios if name not in record.scenarios]:
        yield f"lacks the scenarios {quote(lacking)}; every subset of the modalities is scored"
    if words := _no_peek_problem(record):
        yield words
    if not record.tiles or len(set(record.tiles)) < len(record.tiles):
        yield f"names the test tiles {quote(record.tiles)}; expected different ones"
    yield from _dataset_problems(record)


def _no_peek_problem(record: Record) -> str:
    """Say where it was not proved of a finished record that its method looks at nothing hidden."""
    unproved = unproved_cases(record) if record.status == "done" else []
    return f"no-peek was not proved in {quote(unproved)}; no table may hold it" if unproved else ""


def _dataset_problems(record: Record) -> Iterator[str]:
    """Yield where a record differs from what is known of one of mmbench's own datasets."""
    identity = record.identity["dataset"]
    known = entries("dataset").get(identity["name"])
    if known is None or known.origin != "mmbench":  # nobody's code is imported because a record names it
        return
    dataset: type[Dataset] = find("dataset", identity["name"])
    left_out = {"clutter"} if identity.get("label_mode") == "five-class" else set()
    classes = [name for name in dataset.classes if name not in left_out]
    if record.classes != classes:
        yield f"names the classes {quote(record.classes)}; {identity['name']} has {quote(classes)}"
    if record.scored_classes != list(dataset.scored_classes):
        yield (
            f"takes its means over the classes {record.scored_classes}; "
            f"{identity['name']} over {list(dataset.scored_classes)}"
        )
    split = dataset.splits.get(str(record.provenance.get("split")))
    if split is not None and record.tiles != list(split.test):
        yield (
            f"was scored on the tiles {quote(record.tiles)}; split {record.provenance['split']} "
            f"has {quote(list(split.test))}"
        )


def _truth_problems(counted: dict[str, Matrices], tiles: Sequence[str]) -> Iterator[str]:
    """Yield where the scenarios of a record disagree on how many pixels of a class a tile has."""
    for policy, matrices in counted.items():
        first, *others = matrices.items()
        for name, values in others:
            differing = (values.sum(2) != first[1].sum(2)).any(1)
            if differing.any():
                under = f" under {policy} labels" if policy else ""
                yield (
                    f"scenarios {quote(first[0])} and {quote(name)} count the truth of tile "
                    f"{quote(tiles[int(differing.argmax())])} differently{under}; it does not depend on "
                    "what a method is given"
                )


def _facts(record: Record, counted: dict[str, Matrices]) -> dict[str, str]:
    """Return what must be equal for all finished records of the same data."""
    if record.status == "failed":
        return {}
    facts: dict[str, Any] = {
        "test tiles": record.tiles,
        "classes": record.classes,
        "classes in the means": record.scored_classes,
    }
    for policy, matrices in counted.items():
        under = f" under {policy} labels" if policy else ""
        facts[f"pixels of each class on each tile{under}"] = next(iter(matrices.values())).sum(2).tolist()
    return {aspect: json.dumps(value) for aspect, value in facts.items()}


def _disagreements(records: Sequence[SoundRecord]) -> Iterator[Problem]:
    """Yield the records that differ from most others of the same data in what these must share."""
    found: defaultdict[tuple[str, str], list[SoundRecord]] = defaultdict(list)
    for record in records:
        for aspect in record.facts:
            found[record.data, aspect].append(record)
    for (_, aspect), group in found.items():
        usual, _ = Counter(record.facts[aspect] for record in group).most_common(1)[0]
        witness = next(record for record in group if record.facts[aspect] == usual)
        for record in group:
            if record.facts[aspect] != usual:
                yield Problem(
                    record.path,
                    f"its {aspect} are not those of {witness.path}, which was scored on the same data; "
                    "one of them is wrong, and neither can be held against the other",
                )
