"""What a prepared part holds and what it was made from: enough to tell damage from staleness.

A file of the place, length and time that were noted is taken for the one that was hashed; any other one is
hashed again. So only a change that keeps a length and a time, such as a fault of the disk, goes unseen by a
run; `prepare` hashes every array whatever its time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from mmbench.datasets._digest import file_sha256
from mmbench.datasets._prepared.cache import flush
from mmbench.datasets._prepared.stored_array import StoredArray

PartName = Literal["images", "full", "eroded"]

_FILE = "manifest.json"


class SourceFile(BaseModel):
    """A file that pixels came from, as it was then."""

    model_config = ConfigDict(extra="forbid")

    path: str
    num_bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Look at a file and hash it.

        Raises:
            OSError: If it cannot be read.
        """
        status = path.stat()
        return cls(
            path=os.path.realpath(path),
            num_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            sha256=file_sha256(path),
        )

    def is_unchanged(self) -> bool:
        """Whether the file in that place has the length and the time that were noted.

        Raises:
            OSError: If it is gone.
        """
        status = Path(self.path).stat()
        return (status.st_size, status.st_mtime_ns) == (self.num_bytes, self.mtime_ns)


class ArrayFile(BaseModel):
    """An array of the part, as it was written."""

    model_config = ConfigDict(extra="forbid")

    shape: list[int]
    dtype: str
    num_bytes: int
    mtime_ns: int
    sha256: str


class Manifest(BaseModel):
    """What a part holds and what it was made from; written last."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = 2
    tile_id: str
    part: PartName
    sources: list[SourceFile]
    arrays: dict[str, ArrayFile]

    @classmethod
    def load(cls, place: Path) -> Self:
        """Read the manifest of a part.

        Raises:
            OSError: If it cannot be read.
            ValueError: If it is none of this schema.
        """
        return cls.model_validate_json((place / _FILE).read_bytes())

    def save(self, place: Path) -> None:
        """Write it to the folder of a part."""
        (place / _FILE).write_text(self.model_dump_json(indent=1), encoding="utf-8")
        flush(place / _FILE)

    def replace(self, place: Path, temporary: Path) -> None:
        """Put it in the place of an older one, by way of a folder on the same disk."""
        self.save(temporary)
        (temporary / _FILE).replace(place / _FILE)


def array_path(place: Path, name: str) -> Path:
    """Return the file of an array of a part; names may hold anything."""
    return place / f"{quote(name, safe='')}.npy"


def describe_array(array: StoredArray, sha256: str) -> ArrayFile:
    """Note an array that was just written."""
    return ArrayFile(
        shape=list(array.shape),
        dtype=array.dtype.str,
        num_bytes=array.num_bytes,
        mtime_ns=array.path.stat().st_mtime_ns,
        sha256=sha256,
    )


def confirm_arrays(
    noted: Mapping[str, ArrayFile], arrays: Mapping[str, StoredArray], *, verify: bool
) -> dict[str, ArrayFile] | None:
    """Return the arrays of a part as they are now, or None if one is not what was written.

    Args:
        noted: What the manifest says.
        arrays: The same names, opened.
        verify: Hash every array; else only one that was written to since, by its time.

    Raises:
        OSError: If one cannot be read.
    """
    now: dict[str, ArrayFile] = {}
    for name, array in arrays.items():
        expected = noted[name]
        form = (list(array.shape), array.dtype.str, array.num_bytes)
        if form != (expected.shape, expected.dtype, expected.num_bytes):
            return None
        mtime_ns = array.path.stat().st_mtime_ns
        must_hash = verify or mtime_ns != expected.mtime_ns
        if must_hash and file_sha256(array.path) != expected.sha256:
            return None
        now[name] = expected.model_copy(update={"mtime_ns": mtime_ns})
    return now


def confirm_sources(noted: Sequence[SourceFile], paths: Sequence[Path]) -> list[SourceFile] | None:
    """Return the files of a part as they are now, or None if one of them holds something else.

    A file of the same place, length and time is taken for the same; another one must have the same hash.
    """
    if len(noted) != len(paths):
        return None
    try:
        if any(source.num_bytes != path.stat().st_size for source, path in zip(noted, paths, strict=True)):
            return None
        now = []
        for source, path in zip(noted, paths, strict=True):
            same = source.path == os.path.realpath(path) and source.is_unchanged()
            now.append(source if same else SourceFile.of(path))
    except OSError:
        return None
    hashes = [source.sha256 for source in noted]
    return now if [source.sha256 for source in now] == hashes else None
