"""The files of records: what a folder holds, and how large a file may be.

A record is `ID.json`; beside it stand its companions and, where it was made, `ID.log`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mmbench.errors import DataError

MATRICES, PREDICTIONS = ".safetensors", ".predictions.npz"
COMPANIONS = (MATRICES, PREDICTIONS)
"""Endings of the files that belong to a record and are written before it."""

LARGEST_RECORD_BYTES = 16 * 2**20
"""A record takes 0.1 MB: its learning curve has 200 points whatever the budget. The rest is for methods with
hundreds of loss terms; beyond, reading it would cost more memory than a table of thousands of records."""
LARGEST_MATRICES_BYTES = 256 * 2**20
"""Fifteen scenarios (four modalities), a thousand tiles, 20 classes and two label policies take 96 MB."""
LARGEST_PREDICTIONS_BYTES = 512 * 2**20
"""Even unpacked, 512 x 512 bytes a tile and scenario, 17 tiles and three scenarios take 13 MB."""

_ID = re.compile("[0-9a-f]{16}")
_OWN_ENDINGS = (".json", ".log", *COMPANIONS)


@dataclass(frozen=True)
class Listing:
    """What a folder of records holds.

    Attributes:
        records: The JSON files, in the order of their ids.
        foreign: All else: other files, folders, and companions whose record is not there.
    """

    records: tuple[Path, ...]
    foreign: tuple[Path, ...]


def list_folder(folder: Path) -> Listing:
    """Tell the records of a folder from what else lies there; sub-folders are not looked into.

    Raises:
        DataError: If there is no such folder.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "is not there"
        raise DataError(f"results {folder}: {found}; expected a folder of records of 'mmbench run'")
    paths = sorted(folder.iterdir())
    ids = {path.stem for path in paths if path.suffix == ".json" and _ID.fullmatch(path.stem)}
    own = {f"{record_id}{ending}" for record_id in ids for ending in _OWN_ENDINGS}
    return Listing(
        records=tuple(folder / f"{record_id}.json" for record_id in sorted(ids)),
        foreign=tuple(path for path in paths if path.name not in own),
    )


def companion(record: Path, ending: str) -> Path:
    """Return the place of one of the `COMPANIONS` of a record's JSON."""
    return record.with_name(f"{record.stem}{ending}")


def require_plain(path: Path, largest_bytes: int) -> None:
    """Refuse, before it is read, what is no plain file of a sensible size.

    A link or a pipe in somebody else's folder could lead anywhere or never end.

    Raises:
        DataError: Saying what it is, and what was expected.
    """
    if path.is_symlink() or not path.is_file():
        found = "a link" if path.is_symlink() else "no file" if path.exists() else "missing"
        raise DataError(f"{path}: is {found}; expected a plain file. Copy the record again, or run its cell")
    size = path.stat().st_size
    if size > largest_bytes:
        raise DataError(
            f"{path}: has {size} bytes, expected at most {largest_bytes}: mmbench writes none so large"
        )
