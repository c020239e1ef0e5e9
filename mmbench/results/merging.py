"""Merging: the records of several folders in one, each once, byte for byte as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile

from mmbench.errors import DataError
from mmbench.records import read_record, write_whole
from mmbench.results.files import COMPANIONS, companion, list_folder
from mmbench.results.verification import require_sound


@dataclass(frozen=True)
class Merge:
    """What a merge did.

    Attributes:
        copied: Folder -> how many of its records were copied.
        repeated: How often a record came that was there already.
    """

    copied: dict[Path, int]
    repeated: int


def merge(folders: Sequence[Path], into: Path) -> Merge:
    """Copy the records of some folders, with what stands beside them, into one.

    All is verified before anything is written, together with what the folder holds already. A merge that was
    cut short is finished by the same call.

    Args:
        folders: Where records lie; logs and foreign files stay there.
        into: Made if it is not there; what it holds is kept.

    Raises:
        DataError: If a record is not sound, or two of one id differ; then nothing is written.
    """
    holds_records = into.is_dir() and bool(list_folder(into).records)
    sources = [*([into] if holds_records else []), *folders]
    require_sound(sources)
    places = _places(sources)
    _require_no_conflict(places)
    copied = dict.fromkeys(folders, 0)
    for paths in places.values():
        _complete(paths, into)
        if paths[0].parent != into:
            copied[paths[0].parent] += 1
    return Merge(copied, sum(len(paths) - 1 for paths in places.values()))


def _places(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Return id -> where it lies, in the order of the folders; a folder that is named twice counts once."""
    places: dict[str, list[Path]] = {}
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() not in seen:
            seen.add(folder.resolve())
            for path in list_folder(folder).records:
                places.setdefault(path.stem, []).append(path)
    return places


def _complete(paths: Sequence[Path], into: Path) -> None:
    """Copy a record and its companions from wherever they are; what stands there already is left alone."""
    for ending in (*COMPANIONS, ".json"):  # the record last: it never stands without its matrices
        target = into / f"{paths[0].stem}{ending}"
        source = next((s for path in paths if (s := companion(path, ending)).exists()), None)
        if source is not None and not target.exists():
            write_whole(target, partial(copyfile, source))


def _require_no_conflict(places: dict[str, list[Path]]) -> None:
    """Refuse ids under which different files lie.

    Raises:
        DataError: Naming both files of the first, and how many more there are.
    """
    conflicts = [
        (first, other)
        for first, *others in places.values()
        for other in others
        if any(
            _differ(companion(first, ending), companion(other, ending)) for ending in (".json", *COMPANIONS)
        )
    ]
    if conflicts:
        first, other = conflicts[0]
        more = f" ({len(conflicts) - 1} more records differ)" if len(conflicts) > 1 else ""
        raise DataError(
            f"{first} and {other} are records of one cell and differ {_where(first, other)}{more}; nothing "
            "was merged. Take the one that is not wanted out of its folder, and merge again"
        )


def _differ(one: Path, other: Path) -> bool:
    """Whether two files hold different bytes; a companion may stand beside one record only."""
    return one.exists() and other.exists() and one.read_bytes() != other.read_bytes()


def _where(one: Path, other: Path) -> str:
    """Say in what two records of one id differ."""
    first, second = (read_record(path).model_dump() for path in (one, other))
    keys = [key for key in first if first[key] != second[key]]
    scores = "; their scores are equal" if "scenarios" not in keys and first["status"] == "done" else ""
    return f"in {', '.join(keys) or 'what stands beside them'}{scores}"
