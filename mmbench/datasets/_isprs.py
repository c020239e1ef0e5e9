"""What the ISPRS datasets share: the options, and windows of the tiles of the chosen split.

Axes: C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._availability import (
    Bands,
    all_tiles,
    band_sources,
    choose_bands,
    choose_split,
    require_files,
)
from mmbench.datasets._dataset import Dataset, Labels, Sample, Window
from mmbench.datasets._digest import sample_digest
from mmbench.datasets._folders import FolderIndex, Source, data_root
from mmbench.datasets._ground import Ground, GroundParameters, estimate_ground
from mmbench.datasets._labels import UNKNOWN, Colour, decode_colours, describe_unknown, unknown_colours
from mmbench.datasets._rasters import RasterReader
from mmbench.errors import DataError, InvalidRecipeError

READER_VERSION = 1
"""Raised when the same files come out as other pixels."""

_CLASS_COLOURS: dict[str, Colour] = {
    "impervious": (255, 255, 255),
    "building": (0, 0, 255),
    "low vegetation": (0, 255, 255),
    "tree": (0, 255, 0),
    "car": (255, 255, 0),
    "clutter": (255, 0, 0),
}
_IGNORED_COLOUR: Colour = (0, 0, 0)
_SMALLER_HEIGHT_PX = 2  # one true height file is a column short


class IsprsDataset(Dataset):
    """Reader of an ISPRS folder; a subclass brings names, sources and splits."""

    licence = "ISPRS terms: on request from ISPRS, not to be passed on"
    classes = tuple(_CLASS_COLOURS)
    palette = tuple(_CLASS_COLOURS.values())
    scored_classes = (0, 1, 2, 3, 4)

    name: ClassVar[str]
    """The registry's key, also the name of the data folder."""
    sources: ClassVar[Mapping[str, Source]]
    """The kinds of files, among them `full` and `eroded` labels."""
    bands: ClassVar[Mapping[str, tuple[Bands, ...]]]
    """Modality -> the ways to read it, the preferred one first."""
    fake_tiles: ClassVar[tuple[str, str, str]]
    """The train, val and test tile of a fake copy."""

    def __init__(
        self,
        *,
        root: Path | None,
        split: str | Path | None,
        optical: str,
        height: str,
        dropped: tuple[str, ...] = (),
    ) -> None:
        """Find the files of the split's tiles; nothing is read.

        Args:
            root: The data folder; None looks where `data_root` says.
            split: A named split, a split file, or None for the first named one.
            optical: Key of the optical modality.
            height: Key of the height modality.
            dropped: Tiles left out of a named split.

        Raises:
            DataError: If a file is missing that the split needs.
            InvalidRecipeError: If an option has an unknown value.
        """
        self._require_option("optical", optical, ("irrg", "rgb"))
        self._require_option("height", height, ("ndsm", "dsm"))
        self.root = data_root(self.name) if root is None else Path(root)
        self.split_name, self.split = choose_split(self.name, self.splits, split, dropped)
        self.optical, self.height = optical, height
        self.modalities = {optical: 3, height: 1}
        self._index = FolderIndex(self.root)
        self._bands = {
            key: choose_bands(self.bands[key], self._index, self.sources, self.tiles)
            for key in self.modalities
        }
        images = [name for bands in self._bands.values() for name in band_sources(bands)]
        # Training reads full labels, the test score eroded ones.
        needed = {tile: (*images, "eroded" if tile in self.split.test else "full") for tile in self.tiles}
        require_files(self.name, self.root, self._index, self.sources, needed)
        self._needed = needed
        self._rasters = RasterReader()
        self._ground_parameters = GroundParameters()
        self._grounds: dict[str, Ground | None] = {}

    @property
    def identity(self) -> dict[str, Any]:
        """Options, the sources in use, a digest of their files, the ground estimate, the reader's version."""
        return {
            "dataset": self.name,
            "reader": READER_VERSION,
            "optical": self.optical,
            "optical_sources": list(band_sources(self._bands[self.optical])),
            "height": self.height,
            "height_sources": list(band_sources(self._bands[self.height])),
            "ground": self._ground_parameters.as_dict() if self.height == "dsm" else None,
            "files": self._files_digest,
        }

    @cached_property
    def _files_digest(self) -> str:
        """Tell a synthetic, repaired or otherwise other copy of the data from this one."""
        return sample_digest(self._path(kind, tile) for tile, kinds in self._needed.items() for kind in kinds)

    @property
    def tiles(self) -> tuple[str, ...]:
        """The tiles of the split: train, val, test."""
        return all_tiles(self.split)

    def size(self, tile_id: str) -> tuple[int, int]:
        """Return (H, W) of a tile, pixels, from the header of its optical file."""
        return self._rasters.size(self._optical_path(tile_id))

    def read(self, tile_id: str, window: Window | None = None, *, labels: Labels = "full") -> Sample:
        """Read a window of a tile, or all of it.

        Args:
            tile_id: One of the split's.
            window: Inside the tile; None is the whole tile.
            labels: "full" for training, "eroded" (object borders ignored) for the test score.

        Returns:
            Optical channels as uint8, height as float32 metres above ground, target as uint8.

        Raises:
            DataError: If the tile is not in the split, or a file is missing, truncated, mismatched or holds a
                colour outside the palette.
            ValueError: If the window is not inside the tile.
        """
        height, width = self.size(tile_id)
        window = window or Window(0, 0, height, width)
        bottom, right = window.top + window.height, window.left + window.width
        if not (0 <= window.top < bottom <= height and 0 <= window.left < right <= width):
            raise ValueError(
                f"{self.name} tile {tile_id}: {window} is not inside its {height} x {width} pixels"
            )
        images: dict[str, NDArray[Any]] = {
            self.optical: self._read_optical(tile_id, window),
            self.height: self._read_height(tile_id, window),
        }
        return Sample(images, self._read_target(tile_id, window, labels), tile_id)

    @classmethod
    def fake(cls, root: Path) -> Self:
        """Write a three-tile copy with true names, formats and colours and return a reader of it."""
        from mmbench.datasets._synthesis import write_folder

        write_folder(cls, root, size=128, tiles=cls.fake_tiles)
        train, val, test = cls.fake_tiles
        split_file = root / "split.yaml"
        split_file.write_text(f"train: [{train}]\nval: [{val}]\ntest: [{test}]\n", encoding="utf-8")
        return cls(root=root, split=split_file)  # type: ignore[call-arg]  # subclasses default the others

    def _require_option(self, option: str, value: str, known: tuple[str, ...]) -> None:
        """Refuse a modality that this dataset has not, or that is of another kind."""
        available = [key for key in known if key in self.bands]
        if value not in available:
            raise InvalidRecipeError(
                f"dataset {self.name!r}: {option} is {value!r}; expected {' or '.join(map(repr, available))}"
            )

    def _path(self, kind: str, tile_id: str) -> Path:
        """Return a tile's file of a kind, which the constructor may not have asked for."""
        if tile_id not in self.tiles:
            raise DataError(
                f"dataset {self.name!r}: tile {tile_id!r} is not in split {self.split_name!r}; "
                f"it has {', '.join(self.tiles)}"
            )
        path = self._index.find(self.sources[kind], tile_id)
        if path is None:
            raise DataError(
                f"dataset {self.name!r} in {self.root}: tile {tile_id} lacks "
                f"{self.sources[kind].describe(tile_id)}, the {kind} labels asked for. Unpack them there"
            )
        return path

    def _optical_path(self, tile_id: str) -> Path:
        return self._path(self._bands[self.optical][0][0], tile_id)

    def _sized_path(self, kind: str, tile_id: str, smaller: int = 0) -> Path:
        """Return a file that covers its tile, but for up to `smaller` pixels at the bottom and right."""
        path = self._path(kind, tile_id)
        expected, found = self.size(tile_id), self._rasters.size(path)
        if not all(0 <= e - f <= smaller for e, f in zip(expected, found, strict=True)):
            raise DataError(
                f"{path} has {found[0]} rows and {found[1]} columns but {self._optical_path(tile_id)} has "
                f"{expected[0]} and {expected[1]}; they must cover the same tile. Unpack both again"
            )
        return path

    def _read_optical(self, tile_id: str, window: Window) -> NDArray[np.uint8]:
        """Return (3, H, W) uint8."""
        bands = self._bands[self.optical]
        pictures = {}
        for kind in band_sources(bands):
            channels = 1 + max(channel for source, channel in bands if source == kind)
            pictures[kind] = self._read_picture(self._sized_path(kind, tile_id), window, channels)
        return np.stack([pictures[kind][..., channel] for kind, channel in bands])

    def _read_picture(self, path: Path, window: Window | None, channels: int) -> NDArray[np.uint8]:
        """Return (H, W, C) uint8 with at least that many channels."""
        picture = self._rasters.read(path, window)
        held = picture.shape[2] if picture.ndim == 3 else 1
        if picture.dtype != np.uint8 or held < channels:
            raise DataError(
                f"{path} holds {held} channels of {picture.dtype}; expected {channels} of uint8. "
                "Use the file as ISPRS delivers it"
            )
        return picture

    def _read_height(self, tile_id: str, window: Window) -> NDArray[np.float32]:
        """Return (1, H, W) float32 metres above ground."""
        kind = self._bands[self.height][0][0]
        path = self._sized_path(kind, tile_id, smaller=_SMALLER_HEIGHT_PX)
        if tile_id not in self._grounds:
            self._grounds[tile_id] = self._check_height(path)
        ground = self._grounds[tile_id]
        values = self._rasters.read_padded(path, window).astype(np.float32)
        if ground is None:
            return values[None] / np.float32(10)  # a normalised height is in decimetres
        return ground.above(values, window)[None]

    def _check_height(self, path: Path) -> Ground | None:
        """Refuse a height file that cannot be one; estimate the ground if it is a surface model."""
        values = self._rasters.read(path)
        kind: type[np.generic] = np.floating if self.height == "dsm" else np.uint8
        if values.ndim != 2 or not np.issubdtype(values.dtype, kind):
            raise DataError(
                f"{path} holds {values.dtype} of shape {values.shape}; "
                f"expected one channel of {kind.__name__}. Use the file as ISPRS delivers it"
            )
        low, high = float(values.min()), float(values.max())  # NaN if there is one
        if not -500 < low <= high < 9000:
            raise DataError(
                f"{path} holds heights from {low:g} to {high:g} m; expected metres above sea without gaps. "
                "Fill the gaps or use the file as ISPRS delivers it"
            )
        if low == high:
            raise DataError(
                f"{path} holds the one value {low:g} everywhere; expected a measured height. Unpack it again"
            )
        return estimate_ground(values, self.gsd_m, self._ground_parameters) if self.height == "dsm" else None

    def _read_target(self, tile_id: str, window: Window, labels: Labels) -> NDArray[np.uint8]:
        """Return (H, W) uint8 class index."""
        path = self._sized_path(labels, tile_id)
        indices = {colour: index for index, colour in enumerate(self.palette)}
        if labels == "eroded":
            indices[_IGNORED_COLOUR] = self.ignore_index
        target = decode_colours(self._read_picture(path, window, 3), indices)
        if (target == UNKNOWN).any():
            whole = self._read_picture(path, None, 3)  # what the file holds, not what the window shows
            raise DataError(
                f"{path}: {describe_unknown(unknown_colours(whole, indices), indices)}. "
                "Take the participants' copy of this label if there is one, else unpack it again"
            )
        return target
