"""Digests of files: a quick one on gigabytes, from sizes and samples of the bytes, and a complete one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_BLOCK = 4096
_BLOCKS_PER_FILE = 64


def sample_digest(paths: Iterable[Path]) -> str:
    """Return 16 hexadecimal digits that tell other data of the same names apart.

    Of each file the size and up to 64 evenly spaced blocks of 4 KiB count, the first and the last among
    them: other pixels, another compression or a repaired download show, a few edited pixels may not.

    Args:
        paths: Files in a fixed order; where they lie does not count.
    """
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        last = max(0, size - _BLOCK)
        with path.open("rb") as stream:
            for offset in sorted({last * i // (_BLOCKS_PER_FILE - 1) for i in range(_BLOCKS_PER_FILE)}):
                stream.seek(offset)
                digest.update(stream.read(_BLOCK))
    return digest.hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a whole file, 64 hexadecimal digits.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
