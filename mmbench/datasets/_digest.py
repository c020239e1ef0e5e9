"""Hashes of whole files, remembered so that gigabytes are read for them once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmbench.datasets._user_folders import cache_root
from mmbench.errors import DataError

_MEMORY = "file-hashes.json"


def files_digest(paths: Sequence[Path]) -> str:
    """Return 16 hexadecimal digits that change with any byte of any of the files.

    A file of the same place, length, time and inode as when it was last hashed is not read again; what is
    remembered stands in the user's cache folder.

    Args:
        paths: Files in a fixed order; where they lie does not count.

    Raises:
        DataError: If one cannot be read.
    """
    memory = cache_root() / _MEMORY
    known = _read_memory(memory)
    digest, fresh = hashlib.sha256(), {}
    for path in paths:
        try:
            status, place = path.stat(), os.path.realpath(path)
            stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
            entry = known.get(place)
            if not (isinstance(entry, list) and len(entry) == 4 and entry[:3] == stamp):
                fresh[place] = entry = [*stamp, file_sha256(path)]
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}). Check its rights and the disk"
            ) from error
        digest.update(str(entry[3]).encode())
    if fresh:
        _write_memory(memory, _read_memory(memory) | fresh)
    return digest.hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a whole file, 64 hexadecimal digits.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_memory(memory: Path) -> dict[str, Any]:
    """Return what is remembered; nothing where that cannot be read."""
    with suppress(OSError, ValueError):
        content = json.loads(memory.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _write_memory(memory: Path, content: dict[str, Any]) -> None:
    """Remember, if the folder can be written: without it the next run only takes longer."""
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=memory.parent, prefix=f".{memory.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(content, stream)
            Path(name).replace(memory)
        finally:
            Path(name).unlink(missing_ok=True)
