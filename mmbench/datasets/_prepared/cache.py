"""Where prepared pixels lie: one folder a dataset and configuration, made whole and deleted with care.

A folder is told from a stranger's by its marker file. What is being written or deleted stands in a folder
whose name says which process does it, so that the rests of a killed one can be cleared.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmbench.datasets._dataset import Dataset
from mmbench.datasets._user_folders import cache_root
from mmbench.errors import EnvironmentMissingError, InvalidRecipeError
from mmbench.registry import entry
from mmbench.sources import hash_sources, with_private_imports

LAYOUT_VERSION = 2
"""Raised when the folder is laid out anew: older ones are then not found."""
MARKER = "mmbench-prepared.json"

_HOST = re.sub(r"[^A-Za-z0-9]+", "_", platform.node()) or "host"
_TEMPORARY = re.compile(r"\.part-(?P<host>\w+)-(?P<pid>\d+)-[0-9a-f]{8}")
_ATTEMPTS = 10


def describe(dataset: Dataset, name: str) -> dict[str, Any]:
    """Return all that decides which pixels come out of the same files: options, modalities and the code.

    Raises:
        UnknownNameError: If the registry has no dataset of that name.
    """
    return {
        "layout": LAYOUT_VERSION,
        "dataset": name,
        "identity": dataset.identity,
        "modalities": dataset.modalities,
        "code": hash_sources(with_private_imports(entry("dataset", name).sources)),
    }


def prepared_folder(dataset: Dataset, name: str, cache: Path | None = None) -> Path:
    """Return the folder of a dataset as it is configured, whether it is there or not."""
    text = json.dumps(describe(dataset, name), sort_keys=True)
    return cache_root(cache) / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def make_folder(dataset: Dataset, name: str, cache: Path | None = None) -> Path:
    """Return the folder of `prepared_folder`, made with its marker if it is not there.

    Raises:
        InvalidRecipeError: If something else has its name, or the cache is a file.
    """
    folder = prepared_folder(dataset, name, cache)
    if os.path.lexists(folder.parent) and not folder.parent.is_dir():
        raise InvalidRecipeError(
            f"{folder.parent} is no folder; expected one for prepared pixels, or a new name: choose it with "
            "--cache or $MMBENCH_CACHE"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(folder.parent, only_marked=True)
    if not _is_marked(folder, name):
        with temporary_folder(folder.parent) as part:
            text = json.dumps(describe(dataset, name), indent=1)
            (part / MARKER).write_text(text, encoding="utf-8")
            flush(part / MARKER)
            move_into_place(part, folder, keep=lambda: require_marked(folder, name))
    _clear_abandoned(folder)
    return folder


def delete(name: str, cache: Path | None = None, dataset: Dataset | None = None) -> list[Path]:
    """Delete what was prepared of a dataset.

    Args:
        name: The registry's key.
        cache: As for `cache_root`.
        dataset: Delete only the folder of this configuration; None is every one of that name.

    Returns:
        The folders that are gone.

    Raises:
        InvalidRecipeError: If a folder of such a name was not made by `prepare`; then nothing is deleted.
    """
    root = cache_root(cache)
    if not root.is_dir():
        return []
    if dataset is not None:
        wanted = [prepared_folder(dataset, name, cache)]
    else:
        form = re.compile(rf"{re.escape(name)}-[0-9a-f]{{16}}")
        wanted = sorted(path for path in root.iterdir() if form.fullmatch(path.name))
    found = [path for path in wanted if os.path.lexists(path)]
    for path in found:
        require_marked(path, name)
    for path in found:
        remove(path, root)
    _clear_abandoned(root, only_marked=True)
    return found


def remove(path: Path, parent: Path) -> None:
    """Remove a folder that readers may look for, so that none finds half of it.

    Args:
        path: The folder; that it is ours has been made sure of.
        parent: On the same disk, where a rest would be cleared.
    """
    going = parent / _temporary_name()
    with suppress(FileNotFoundError):  # another process was faster
        path.rename(going)
        _remove(going)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Say what it means when a folder of prepared pixels cannot be written to any more.

    Raises:
        EnvironmentMissingError: If its disk ran full, or it was deleted.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EnvironmentMissingError(
                f"{folder}: its disk, or your share of it, ran full; the tiles that are finished are kept. "
                "Free some and run the same command again, or choose another disk with --cache or "
                "$MMBENCH_CACHE"
            ) from error
        inside = isinstance(error.filename, str) and Path(error.filename).is_relative_to(folder.parent)
        if isinstance(error, FileNotFoundError) and inside:
            raise EnvironmentMissingError(
                f"{folder}: it, or a part of it, was deleted meanwhile; run the same command again"
            ) from error
        raise


def size_words(num_bytes: int) -> str:
    """Return a number of bytes for people."""
    if num_bytes >= 2**30:
        return f"{num_bytes / 2**30:.2f} GiB"
    return f"{num_bytes / 2**20:.1f} MiB" if num_bytes >= 2**20 // 10 else f"{num_bytes} bytes"


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Make a folder of this process, and remove what is still there at the end, whatever happened."""
    path = parent / _temporary_name()
    path.mkdir()
    try:
        yield path
    finally:
        if path.is_dir():
            _remove(path)


def move_into_place(part: Path, target: Path, keep: Callable[[], bool]) -> bool:
    """Rename a whole folder to where it is looked for.

    Args:
        part: A `temporary_folder` beside the target, or one inside of it.
        target: Its parent is there.
        keep: Asked where the target is there already: whether that one stays and this one goes.

    Returns:
        Whether it was moved.

    Raises:
        EnvironmentMissingError: If other processes keep putting theirs there.
    """
    for _ in range(_ATTEMPTS):
        try:
            part.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EACCES):
                raise
            if not os.path.lexists(target):
                raise
        else:
            flush(target.parent)
            return True
        if keep():
            return False
        remove(target, part.parent)
    raise EnvironmentMissingError(f"{target}: other processes keep replacing it; let one of them prepare")


def flush(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to its disk."""
    if path.is_dir() and os.name != "posix":
        return  # only there can a folder be opened
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary_name() -> str:
    return f".part-{_HOST}-{os.getpid()}-{secrets.token_hex(4)}"


def _is_marked(folder: Path, name: str) -> bool:
    """Whether a folder, no link to one, is that of a dataset's prepared pixels."""
    if folder.is_symlink() or not (folder / MARKER).is_file():
        return False
    try:
        content = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("dataset") == name


def require_marked(folder: Path, name: str) -> bool:
    """Refuse a folder that is not ours."""
    if not _is_marked(folder, name):
        raise InvalidRecipeError(
            f"{folder} was not made by 'mmbench data prepare {name}': expected a folder, not a link, that "
            f"holds {MARKER}. Move it away, or choose another folder with --cache"
        )
    return True


def _clear_abandoned(parent: Path, *, only_marked: bool = False) -> None:
    """Remove the temporary folders of processes of this machine that are gone."""
    import psutil

    for path in parent.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match is None or match["host"] != _HOST or psutil.pid_exists(int(match["pid"])):
            continue
        if path.is_symlink() or not path.is_dir():
            continue
        if not only_marked or (path / MARKER).is_file() or not any(path.iterdir()):
            _remove(path)


def _remove(folder: Path) -> None:
    """Remove a folder, its marker last, so that a rest is still known to be ours; links are not followed."""
    for child in folder.iterdir():
        if child.name == MARKER:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
    (folder / MARKER).unlink(missing_ok=True)
    folder.rmdir()
