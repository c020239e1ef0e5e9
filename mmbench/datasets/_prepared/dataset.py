"""Prepared pixels: every tile decoded once into uncompressed arrays, from which windows are read.

They are the dataset's own pixels to the bit; a tile whose files have changed since is read from its files.
"""

from __future__ import annotations

import inspect
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from mmbench.datasets._dataset import Dataset, Labels, Sample, Window, require_inside
from mmbench.datasets._files import FileReport, TileFile
from mmbench.datasets._prepared.cache import (
    delete,
    explained,
    make_folder,
    prepared_folder,
    remove,
    require_marked,
    size_words,
)
from mmbench.datasets._prepared.manifest import PartName
from mmbench.datasets._prepared.parts import TileParts, parts_of_root, tile_parts
from mmbench.datasets._prepared.stored_array import StoredArray
from mmbench.errors import EnvironmentMissingError

_LOG = logging.getLogger("mmbench")
_HEADROOM_BYTES = 2**26
"""Room for headers and manifests, and for the disk not to run full."""
_NAMED_TILES = 5

Progress = Callable[[str, bool, int, int], None]
"""Called after each tile with (tile id, whether it was written, tiles done, tiles in all)."""


@dataclass(frozen=True)
class Summary:
    """What `prepare` did.

    Attributes:
        folder: Where the pixels lie.
        written: The tiles that were read from their files.
        reused: The tiles that were there already.
        num_bytes: Of all of them.
    """

    folder: Path
    written: tuple[str, ...]
    reused: tuple[str, ...]
    num_bytes: int


class PreparedDataset(Dataset):
    """A dataset some of whose tiles are read from prepared arrays; all else is the dataset's."""

    def __init__(self, dataset: Dataset, tiles: Mapping[str, Mapping[str, StoredArray]]) -> None:
        """Wrap a dataset.

        Args:
            dataset: Reads what is not prepared.
            tiles: Tile -> modality, or "target" -> pixels; the target has the labels of the tile's role.
        """
        self.dataset = dataset
        self._tiles = dict(tiles)
        # A dataset's facts are the attributes that its contract declares; a class's own default hides none.
        for fact in inspect.get_annotations(Dataset):
            setattr(self, fact, getattr(dataset, fact))

    @property
    def prepared_tiles(self) -> tuple[str, ...]:
        """The tiles that are read from prepared arrays."""
        return tuple(self._tiles)

    @property
    def identity(self) -> dict[str, Any]:
        """The dataset's: where pixels are read from does not change them."""
        return self.dataset.identity

    @cached_property
    def files_digest(self) -> str | None:
        """The dataset's."""
        return self.dataset.files_digest

    def size(self, tile_id: str) -> tuple[int, int]:
        """Return (H, W) of a tile, pixels."""
        if tile_id in self._tiles:
            height, width = self._tiles[tile_id]["target"].shape
            return height, width
        return self.dataset.size(tile_id)

    def read(self, tile_id: str, window: Window | None = None, *, labels: Labels = "full") -> Sample:
        """Read a window of a tile, or all of it: see `Dataset.read`."""
        arrays = self._tiles.get(tile_id)
        if arrays is None or labels != self.split.labels_of(tile_id):
            return self.dataset.read(tile_id, window, labels=labels)
        height, width = arrays["target"].shape
        inside = window or Window(0, 0, height, width)
        require_inside(inside, (height, width), f"tile {tile_id}")
        try:
            images: dict[str, NDArray[Any]] = {name: arrays[name].read(inside) for name in self.modalities}
            return Sample(images, arrays["target"].read(inside), tile_id)
        except (OSError, ValueError) as error:
            self._tiles.pop(tile_id, None)
            _LOG.warning(
                "tile %s: its files are read since what was prepared is gone or damaged (%s); "
                "run mmbench data prepare again",
                tile_id,
                error,
            )
        return self.dataset.read(tile_id, window, labels=labels)

    def files(self) -> list[TileFile]:
        """Return the dataset's files."""
        return self.dataset.files()

    def require_files(self) -> None:
        """Refuse a dataset that lacks a file, prepared or not."""
        self.dataset.require_files()

    def examine(self, file: TileFile, *, content: bool = True) -> FileReport:
        """Look at one of the dataset's files."""
        return self.dataset.examine(file, content=content)

    @classmethod
    def fake(cls, root: Path) -> NoReturn:
        """Refuse: there is nothing to copy without a dataset."""
        raise TypeError("PreparedDataset has no fake copy; expected that of the dataset it wraps")


def open_prepared(dataset: Dataset, name: str, cache: Path | None = None) -> Dataset:
    """Return a dataset that reads prepared tiles where they are valid, or itself if none is.

    An array is hashed if its length or its time is not what it was when it was written, else trusted: hashing
    all of them at every start would read gigabytes. `prepare` hashes all that it keeps.

    Args:
        dataset: With all its files.
        name: Its key in the registry.
        cache: As for `prepare`.

    Raises:
        UnknownNameError: If the registry has no dataset of that name.
    """
    folder = prepared_folder(dataset, name, cache)
    if not folder.is_dir():
        return dataset
    tiles: dict[str, Mapping[str, StoredArray]] = {}
    unusable: dict[str, list[str]] = {"stale": [], "damaged": []}
    for tile_id, parts in tile_parts(dataset, folder).items():
        states = [parts.state(part) for part in parts.names]
        kinds = {state.kind for state in states}
        if kinds == {"valid"}:
            tiles[tile_id] = {key: array for state in states for key, array in state.arrays.items()}
        for kind, found in unusable.items():
            if kind in kinds:
                found.append(tile_id)
    for kind, words in (("stale", "prepared from other files"), ("damaged", "prepared, but damaged since")):
        if unusable[kind]:
            _LOG.warning("%s: %s; run mmbench data prepare again", _tiles(unusable[kind]), words)
    return PreparedDataset(dataset, tiles) if tiles else dataset


def pixel_source(dataset: Dataset) -> str:
    """Say where pixels come from: "files", "cache" or "files and cache"; "generator" if they are made."""
    stored = "files" if dataset.files() else "generator"
    if not isinstance(dataset, PreparedDataset):
        return stored
    complete = len(dataset.prepared_tiles) == len(dataset.split.tiles)
    return "cache" if complete else f"{stored} and cache"


def prepare(
    dataset: Dataset, name: str, cache: Path | None = None, progress: Progress | None = None
) -> Summary:
    """Decode every tile of the split into uncompressed arrays; what is there, and valid by its hash, is kept.

    A run that was killed leaves whole tiles, and the next one goes on from there. Two at once do no harm.

    Args:
        dataset: The reader, no prepared one.
        name: Its key in the registry.
        cache: The folder of all prepared pixels; None is $MMBENCH_CACHE or the user's cache folder.
        progress: Told of each tile.

    Raises:
        DataError: If a file is missing or wrong.
        EnvironmentMissingError: If the disk has not the room, or the folder is deleted meanwhile.
        InvalidRecipeError: If the folder's name is taken by something else.
    """
    dataset.require_files()
    with explained(prepared_folder(dataset, name, cache)):
        folder = make_folder(dataset, name, cache)
        tiles = tile_parts(dataset, folder)
        _require_room(dataset, folder, tiles.values())
        written: list[str] = []
        for number, (tile_id, parts) in enumerate(tiles.items(), 1):
            wanted = _wanted(parts, verify=True)
            if wanted:
                parts.write(dataset, wanted)
                written.append(tile_id)
            if progress is not None:
                progress(tile_id, bool(wanted), number, len(tiles))
        reused = tuple(tile_id for tile_id in tiles if tile_id not in written)
        return Summary(folder, tuple(written), reused, sum(parts.num_bytes() for parts in tiles.values()))


def _wanted(parts: TileParts, *, verify: bool) -> list[PartName]:
    """Return the parts that must be written."""
    return [part for part in parts.names if parts.state(part, verify=verify).kind != "valid"]


def _require_room(dataset: Dataset, folder: Path, tiles: Iterable[TileParts]) -> None:
    """Refuse before anything is written what the disk cannot hold.

    Damage that only a hash shows is not looked for here: hashing all that is kept comes tile by tile.
    """
    needed, value_bytes = 0, 0
    for parts in tiles:
        wanted = _wanted(parts, verify=False)
        if not wanted:
            continue
        height, width = dataset.size(parts.tile_id)
        if "images" in wanted and not value_bytes:
            corner = dataset.read(parts.tile_id, Window(0, 0, 1, 1), labels=parts.labels)
            value_bytes = sum(image.nbytes for image in corner.images.values())
        needed += height * width * (value_bytes * ("images" in wanted) + (parts.labels in wanted))
    free = shutil.disk_usage(folder).free
    total = needed + _HEADROOM_BYTES
    if needed and total > free:
        raise EnvironmentMissingError(
            f"{folder}: {size_words(total)} are needed ({size_words(needed)} of pixels and "
            f"{size_words(_HEADROOM_BYTES)} to spare), {size_words(free)} are free: "
            f"{size_words(total - free)} too few. Free some, or choose another disk with --cache or "
            "$MMBENCH_CACHE"
        )


def delete_root(dataset: Dataset, name: str, root: Path, cache: Path | None = None) -> list[Path]:
    """Delete what was prepared, as a dataset is configured, from the files of one data folder.

    Args:
        dataset: Opened on that folder; whether its files are still there does not matter.
        name: Its key in the registry.
        root: The data folder; what was read from others stays.
        cache: As for `prepare`.

    Returns:
        The folders that are gone: the configuration's if nothing is left in it, else those of the parts.

    Raises:
        InvalidRecipeError: If the folder was not made by `prepare`.
    """
    folder = prepared_folder(dataset, name, cache)
    if not os.path.lexists(folder):
        return []
    require_marked(folder, name)
    gone = list(parts_of_root(dataset, folder, root))
    for place in gone:
        remove(place, folder)
        with suppress(OSError):  # other parts of the tile stay
            place.parent.rmdir()
    if gone and not any(folder.glob("tile-*")):
        return delete(name, cache, dataset)
    return gone


def _tiles(tile_ids: list[str]) -> str:
    """Name some tiles."""
    more = f" and {len(tile_ids) - _NAMED_TILES} more" if len(tile_ids) > _NAMED_TILES else ""
    return f"tile{'s' * (len(tile_ids) > 1)} {', '.join(tile_ids[:_NAMED_TILES])}{more}"
