"""The prepared parts of a tile, its images and its labels: each a folder that is whole or not there.

A part remembers the files it was made from, and is valid only while they are what they were. Where it lies
follows from where these files lie: files that change in place replace their part, and the same tile in
another data folder has a part of its own. When all files of a part were moved, the part moves after them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

from mmbench.datasets._dataset import Dataset, Labels, row_bands
from mmbench.datasets._files import Purpose
from mmbench.datasets._prepared.cache import flush, move_into_place, temporary_folder
from mmbench.datasets._prepared.manifest import (
    ArrayFile,
    Manifest,
    PartName,
    SourceFile,
    array_path,
    confirm_arrays,
    confirm_sources,
    describe_array,
)
from mmbench.datasets._prepared.stored_array import ArrayWriter, StoredArray
from mmbench.errors import DataError

_LOG = logging.getLogger("mmbench")
_TARGET = "target"
_BAND_ROWS = 512
"""Of a Potsdam tile about 25 MiB."""


class State(NamedTuple):
    """Whether a part can be read.

    Attributes:
        kind: "valid"; "stale", made from other files; "damaged"; "missing".
        arrays: modality, or "target" -> its pixels; empty unless valid.
    """

    kind: Literal["valid", "stale", "damaged", "missing"]
    arrays: Mapping[str, StoredArray] = {}


@dataclass(frozen=True)
class TileParts:
    """The two parts that the protocol reads of a tile, in the folder of its dataset.

    Attributes:
        folder: Of the dataset's prepared pixels.
        tile_id: Of the tile.
        labels: Which labels.
        sources: The dataset's files behind the images and the labels.
    """

    folder: Path
    tile_id: str
    labels: Labels
    sources: Mapping[Purpose, tuple[Path, ...]]

    @property
    def names(self) -> tuple[PartName, PartName]:
        """The images, and the labels."""
        return "images", self.labels

    def place(self, part: PartName) -> Path:
        """Return the folder of a part, whether it is there or not."""
        paths = json.dumps([os.path.realpath(path) for path in self._paths(part)])
        origin = hashlib.sha256(paths.encode()).hexdigest()[:16]
        # The prefix keeps an id such as ".." from being a step up.
        return self.folder / f"tile-{quote(self.tile_id, safe='')}" / f"{part}-{origin}"

    def state(self, part: PartName, *, verify: bool = False) -> State:
        """Look a part up; it is opened if it is valid.

        Args:
            part: One of `names`.
            verify: Hash its arrays, even where neither their length nor their time has changed.
        """
        place = self.place(part)
        if not place.is_dir() and not self._follow_moved_files(part, place):
            return State("missing")
        try:
            manifest = Manifest.load(place)
            if (manifest.tile_id, manifest.part) != (self.tile_id, part):
                return State("damaged")
            arrays = {name: StoredArray.open(array_path(place, name)) for name in manifest.arrays}
            stored = confirm_arrays(manifest.arrays, arrays, verify=verify)
        except (OSError, ValueError):
            return State("damaged")
        if stored is None:
            return State("damaged")
        sources = confirm_sources(manifest.sources, self._paths(part))
        if sources is None:
            return State("stale")
        now = manifest.model_copy(update={"sources": sources, "arrays": stored})
        if now != manifest:
            _refresh(place, now)
        return State("valid", arrays)

    def num_bytes(self) -> int:
        """Return the bytes of what is there of both parts."""
        files = [file for part in self.names for file in self.place(part).glob("*")]
        return sum(file.stat().st_size for file in files)

    def write(self, dataset: Dataset, parts: Sequence[PartName]) -> None:
        """Read the tile from its files, some rows at a time, and put parts of it into place.

        A part that another process has finished in the meantime is left as it is.

        Raises:
            DataError: If the dataset cannot read the tile, or a file changes meanwhile.
        """
        self.place("images").parent.mkdir(exist_ok=True)
        with temporary_folder(self.folder) as temporary:
            before = {part: [SourceFile.of(path) for path in self._paths(part)] for part in parts}
            for part in parts:
                (temporary / part).mkdir()
            arrays = self._write_arrays(dataset, parts, temporary)
            for part in parts:
                if not all(source.is_unchanged() for source in before[part]):
                    raise DataError(
                        f"tile {self.tile_id}: its files changed while they were read; run it again"
                    )
                manifest = Manifest(
                    tile_id=self.tile_id, part=part, sources=before[part], arrays=arrays[part]
                )
                manifest.save(temporary / part)
                flush(temporary / part)
                move_into_place(temporary / part, self.place(part), partial(self._is_valid, part))

    def _write_arrays(
        self, dataset: Dataset, parts: Sequence[PartName], temporary: Path
    ) -> dict[PartName, dict[str, ArrayFile]]:
        """Write the arrays of some parts and open them once.

        `Dataset.read` gives images and labels together, so where only labels are wanted the images are
        decoded for nothing. That is rare, a second split that gives a tile another role, and asking for
        labels alone would burden every dataset with one more way to read.
        """
        height, width = dataset.size(self.tile_id)
        names = {part: tuple(dataset.modalities) if part == "images" else (_TARGET,) for part in parts}
        with ExitStack() as stack:
            writers: dict[tuple[PartName, str], ArrayWriter] = {}
            for part in parts:
                for name in names[part]:
                    writer = ArrayWriter(array_path(temporary / part, name), height)
                    stack.callback(writer.close)
                    writers[part, name] = writer
            for band in row_bands((height, width), _BAND_ROWS):
                sample = dataset.read(self.tile_id, band, labels=self.labels)
                for (part, name), writer in writers.items():
                    writer.append(sample.images[name] if part == "images" else sample.target)
            hashes = {key: writer.finish() for key, writer in writers.items()}
        return {
            part: {
                name: describe_array(StoredArray.open(array_path(temporary / part, name)), hashes[part, name])
                for name in names[part]
            }
            for part in parts
        }

    def _is_valid(self, part: PartName) -> bool:
        return self.state(part, verify=True).kind == "valid"

    def _paths(self, part: PartName) -> tuple[Path, ...]:
        return self.sources["image" if part == "images" else "label"]

    def _follow_moved_files(self, part: PartName, place: Path) -> bool:
        """Take over the part of files that are equal and were moved to where this tile's are now."""
        for other in place.parent.glob(f"{part}-*"):
            with suppress(OSError, ValueError):  # damaged, or another process was faster
                manifest = Manifest.load(other)
                if not manifest.sources or any(os.path.lexists(source.path) for source in manifest.sources):
                    continue  # those have a claim to it of their own
                sources = confirm_sources(manifest.sources, self._paths(part))
                if sources is not None:
                    other.rename(place)
                    _refresh(place, manifest.model_copy(update={"sources": sources}))
                    return True
        return place.is_dir()


def tile_parts(dataset: Dataset, folder: Path) -> dict[str, TileParts]:
    """Return the parts of every tile of the split; the files must have been found."""
    sources: dict[tuple[str, Purpose], list[Path]] = {}
    for file in dataset.files():
        if file.path is not None:
            sources.setdefault((file.tile_id, file.purpose), []).append(file.path)
    purposes: tuple[Purpose, Purpose] = ("image", "label")
    return {
        tile_id: TileParts(
            folder,
            tile_id,
            dataset.split.labels_of(tile_id),
            {purpose: tuple(sources.get((tile_id, purpose), ())) for purpose in purposes},
        )
        for tile_id in dataset.split.tiles
    }


def parts_of_root(dataset: Dataset, folder: Path, root: Path) -> Iterator[Path]:
    """Yield the folders of the parts that were made from a data folder, which may be gone.

    Args:
        dataset: Opened on that root; the tiles of its split count even if its files are links to elsewhere.
        folder: Of the dataset's prepared pixels.
        root: The data folder.
    """
    expected = {parts.place(part) for parts in tile_parts(dataset, folder).values() for part in parts.names}
    resolved = Path(os.path.realpath(root))
    for place in sorted(folder.glob("tile-*/*-*")):
        paths: list[Path] = []
        with suppress(OSError, ValueError):  # a damaged one is known by its place
            paths = [Path(source.path) for source in Manifest.load(place).sources]
        if place in expected or (paths and all(path.is_relative_to(resolved) for path in paths)):
            yield place


def _refresh(place: Path, manifest: Manifest) -> None:
    """Note the new times of equal files, so that they are not hashed again."""
    try:
        with temporary_folder(place.parent.parent) as temporary:
            manifest.replace(place, temporary)
    except OSError as error:  # the pixels are right all the same
        _LOG.info("%s: its times are not refreshed (%s)", place, error)
