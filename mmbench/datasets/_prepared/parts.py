"""The prepared parts of a tile, its images and its labels: each a folder that is whole or not there.

A part remembers the files it was made from, and is valid only while they are what they were.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from mmbench.datasets._dataset import Dataset, Labels, Window
from mmbench.datasets._digest import file_sha256
from mmbench.datasets._files import Purpose
from mmbench.datasets._prepared.cache import flush, move_into_place, temporary_folder
from mmbench.datasets._prepared.stored_array import ArrayWriter, StoredArray
from mmbench.errors import DataError

PartName = Literal["images", "full", "eroded"]

_LOG = logging.getLogger("mmbench")
_MANIFEST = "manifest.json"
_TARGET = "target"
_BAND_ROWS = 512
"""Of a Potsdam tile about 25 MiB."""


class SourceFile(BaseModel):
    """A file that pixels came from, as it was then."""

    model_config = ConfigDict(extra="forbid")

    path: str
    num_bytes: int
    mtime_ns: int
    sha256: str


class Manifest(BaseModel):
    """What a part holds and what it was made from; written last."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    tile_id: str
    part: PartName
    sources: list[SourceFile]
    shapes: dict[str, list[int]]
    dtypes: dict[str, str]


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

    def state(self, part: PartName) -> State:
        """Look a part up; it is opened if it is valid."""
        place = self._place(part)
        if not place.is_dir():
            return State("missing")
        try:
            manifest = Manifest.model_validate_json((place / _MANIFEST).read_bytes())
            arrays = {name: StoredArray.open(_array_path(place, name)) for name in manifest.shapes}
        except (OSError, ValidationError, ValueError):
            return State("damaged")
        forms = {name: (list(array.shape), array.dtype.str) for name, array in arrays.items()}
        claimed = {name: (shape, manifest.dtypes.get(name)) for name, shape in manifest.shapes.items()}
        if forms != claimed or (manifest.tile_id, manifest.part) != (self.tile_id, part):
            return State("damaged")
        now = _confirm(manifest.sources, self._paths(part))
        if now is None:
            return State("stale")
        if now != manifest.sources:
            _refresh(place, manifest.model_copy(update={"sources": now}))
        return State("valid", arrays)

    def num_bytes(self) -> int:
        """Return the bytes of what is there of both parts."""
        files = [file for part in self.names for file in self._place(part).glob("*")]
        return sum(file.stat().st_size for file in files)

    def write(self, dataset: Dataset, parts: Sequence[PartName]) -> None:
        """Read the tile from its files, some rows at a time, and put parts of it into place.

        A part that another process has finished in the meantime is left as it is.

        Raises:
            DataError: If the dataset cannot read the tile, or a file changes meanwhile.
        """
        tile_folder = self._place("images").parent
        tile_folder.mkdir(exist_ok=True)
        with temporary_folder(self.folder) as temporary:
            before = {part: [_source(path) for path in self._paths(part)] for part in parts}
            for part in parts:
                (temporary / part).mkdir()
            forms = self._write_arrays(dataset, parts, temporary)
            for part in parts:
                if any(not _is_unchanged(source) for source in before[part]):
                    raise DataError(
                        f"tile {self.tile_id}: its files changed while they were read; run it again"
                    )
                manifest = Manifest(
                    tile_id=self.tile_id,
                    part=part,
                    sources=before[part],
                    shapes={name: list(array.shape) for name, array in forms[part].items()},
                    dtypes={name: array.dtype.str for name, array in forms[part].items()},
                )
                _write_manifest(temporary / part, manifest)
                flush(temporary / part)
                move_into_place(temporary / part, self._place(part), partial(self._is_valid, part))

    def _write_arrays(
        self, dataset: Dataset, parts: Sequence[PartName], temporary: Path
    ) -> dict[PartName, dict[str, StoredArray]]:
        """Write the arrays of some parts and open them."""
        height, width = dataset.size(self.tile_id)
        names = {part: tuple(dataset.modalities) if part == "images" else (_TARGET,) for part in parts}
        with ExitStack() as stack:
            writers: dict[tuple[PartName, str], ArrayWriter] = {}
            for part in parts:
                for name in names[part]:
                    writer = ArrayWriter(_array_path(temporary / part, name), height)
                    stack.callback(writer.close)
                    writers[part, name] = writer
            for top in range(0, height, _BAND_ROWS):
                band = Window(top, 0, min(_BAND_ROWS, height - top), width)
                sample = dataset.read(self.tile_id, band, labels=self.labels)
                for (part, name), writer in writers.items():
                    writer.append(sample.images[name] if part == "images" else sample.target)
            for writer in writers.values():
                writer.finish()
        return {
            part: {name: StoredArray.open(_array_path(temporary / part, name)) for name in names[part]}
            for part in parts
        }

    def _is_valid(self, part: PartName) -> bool:
        return self.state(part).kind == "valid"

    def _paths(self, part: PartName) -> tuple[Path, ...]:
        return self.sources["image" if part == "images" else "label"]

    def _place(self, part: PartName) -> Path:
        # The prefix keeps an id such as ".." from being a step up.
        return self.folder / f"tile-{quote(self.tile_id, safe='')}" / part


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


def _source(path: Path) -> SourceFile:
    status = path.stat()
    return SourceFile(
        path=os.path.realpath(path),
        num_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=file_sha256(path),
    )


def _is_unchanged(source: SourceFile) -> bool:
    status = Path(source.path).stat()
    return (status.st_size, status.st_mtime_ns) == (source.num_bytes, source.mtime_ns)


def _confirm(sources: Sequence[SourceFile], paths: Sequence[Path]) -> list[SourceFile] | None:
    """Return the sources as they are now, or None if one of them holds something else.

    A file of the same place, length and time is taken for the same; another one must have the same hash.
    """
    if len(sources) != len(paths):
        return None
    try:
        if any(source.num_bytes != path.stat().st_size for source, path in zip(sources, paths, strict=True)):
            return None
        now = []
        for source, path in zip(sources, paths, strict=True):
            same = source.path == os.path.realpath(path) and _is_unchanged(source)
            now.append(source if same else _source(path))
    except OSError:
        return None
    hashes = [source.sha256 for source in sources]
    return now if [source.sha256 for source in now] == hashes else None


def _refresh(place: Path, manifest: Manifest) -> None:
    """Note the new times of equal files, so that they are not hashed again."""
    try:
        with temporary_folder(place.parent.parent) as temporary:
            _write_manifest(temporary, manifest)
            (temporary / _MANIFEST).replace(place / _MANIFEST)
    except OSError as error:  # the pixels are right all the same
        _LOG.info("%s: its times are not refreshed (%s)", place, error)


def _write_manifest(place: Path, manifest: Manifest) -> None:
    (place / _MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    flush(place / _MANIFEST)


def _array_path(place: Path, name: str) -> Path:
    return place / f"{quote(name, safe='')}.npy"
