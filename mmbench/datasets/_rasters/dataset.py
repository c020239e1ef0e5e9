"""Datasets that are rasters in folders: one file a tile and kind, found, checked and read by declaration.

Axes: C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Dataset, Labels, Sample, Split, Window
from mmbench.datasets._erosion import EROSION_RADIUS, erode
from mmbench.datasets._files import FileReport, TileFile
from mmbench.datasets._rasters.folders import FolderIndex, Source, data_root
from mmbench.datasets._rasters.formats import Header
from mmbench.datasets._rasters.ground import Ground, GroundParameters, estimate_ground
from mmbench.datasets._rasters.labels import Colour, LabelCode
from mmbench.datasets._rasters.layers import Layer, choose_layer
from mmbench.datasets._rasters.reader import RasterReader
from mmbench.datasets._rasters.rules import (
    colour_problem,
    size_problem,
    type_problem,
    value_problem,
    values_of,
)
from mmbench.datasets._splits import choose_split
from mmbench.errors import DataError, InvalidRecipeError

READER_VERSION = 2
"""Raised when the same files come out as other pixels."""


class RasterDataset(Dataset):
    """Reader of rasters in folders; a subclass declares where they lie and what they hold.

    The first modality's first file gives a tile its size; all others must cover the same pixels. Labels are
    the source `full`: a picture in the colours of `palette`, or one channel of class indices. Eroded labels
    are the source `eroded`, or are made from the full ones where there is none.
    """

    name: ClassVar[str]
    """The registry's key, also the name of the data folder; by default the name of the module."""
    sources: ClassVar[Mapping[str, Source]]
    """The kinds of files, among them `full` labels and, if there are any, `eroded` ones."""
    layers: ClassVar[Mapping[str, tuple[Layer, ...]]]
    """Modality -> the ways to read it, the preferred one first."""
    ignored_colours: ClassVar[Mapping[Labels, tuple[Colour, ...]]] = {}
    """Colours of a label picture that stand for no class."""
    obtain: ClassVar[str] = ""
    """What to do when no file is found at all, a sentence without its full stop."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Name the dataset after its module where it has no name of its own."""
        super().__init_subclass__(**keywords)
        if "name" not in vars(cls):
            cls.name = cls.__module__.rpartition(".")[2]

    def __init__(
        self,
        *,
        root: Path | None = None,
        split: str | Path | None = None,
        modalities: Sequence[str] | None = None,
    ) -> None:
        """Find the files of the split's tiles; nothing is read.

        Args:
            root: The data folder; None looks where `data_root` says.
            split: A named split, a split file, or None for the first named one.
            modalities: Which of `layers` to read, in this order; None is all.

        Raises:
            InvalidRecipeError: If an option has an unknown value.
        """
        chosen = choose_split(self.name, self.splits, split)
        self._open(root, chosen, tuple(self.layers if modalities is None else modalities))

    def _open(self, root: Path | None, split: tuple[str, Split], modalities: tuple[str, ...]) -> None:
        """Choose the layers and find the files."""
        unknown = [key for key in modalities if key not in self.layers]
        if unknown or not modalities or len(set(modalities)) < len(modalities):
            raise InvalidRecipeError(
                f"dataset {self.name!r}: modalities are {list(modalities)}; "
                f"expected some of {list(self.layers)}"
            )
        self.root = data_root(self.name) if root is None else Path(root)
        self.split_name, self.split = split
        self._index = FolderIndex(self.root)
        self._layers = {
            key: choose_layer(self.layers[key], self._index, self.sources, self.tiles) for key in modalities
        }
        self.modalities = {key: len(layer.bands) for key, layer in self._layers.items()}
        self.optical_modalities = tuple(k for k, layer in self._layers.items() if layer.kind == "optical")
        self._rasters = RasterReader()
        self._ground_parameters = GroundParameters()
        self._grounds: dict[tuple[str, str], Ground | None] = {}

    @property
    def identity(self) -> dict[str, Any]:
        """The sources in use of every modality, the ground estimate, the reader's version."""
        surface = any(layer.surface for layer in self._layers.values())
        return {
            "dataset": self.name,
            "reader": READER_VERSION,
            "sources": {key: list(layer.sources) for key, layer in self._layers.items()},
            "ground": self._ground_parameters.as_dict() if surface else None,
        }

    @property
    def tiles(self) -> tuple[str, ...]:
        """The tiles of the split: train, val, test."""
        return self.split.tiles

    def files(self) -> list[TileFile]:
        """Return the image files of every tile, and the labels that the protocol reads of it."""
        return [
            TileFile(
                tile_id=tile_id,
                kind=kind,
                purpose="label" if kind in ("full", "eroded") else "image",
                path=self._index.find(self.sources[kind], tile_id),
                expected=self.sources[kind].describe(tile_id),
                note=self.sources[kind].note,
            )
            for tile_id in self.tiles
            for kind in (*self._image_kinds, self._label_kind(self.split.labels_of(tile_id)))
        ]

    def size(self, tile_id: str) -> tuple[int, int]:
        """Return (H, W) of a tile, pixels, from the header of its first file."""
        return self._rasters.size(self._reference(tile_id))

    def read(self, tile_id: str, window: Window | None = None, *, labels: Labels = "full") -> Sample:
        """Read a window of a tile, or all of it.

        Args:
            tile_id: One of the split's.
            window: Inside the tile; None is the whole tile.
            labels: "full" for training, "eroded" (object borders ignored) for the test score.

        Returns:
            Counts as uint8, everything else as float32 in its unit (heights: metres), target as uint8.

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
        images = {key: self._read_layer(key, tile_id, window) for key in self._layers}
        return Sample(images, self._read_target(tile_id, window, labels), tile_id)

    def examine(self, file: TileFile, *, content: bool = True) -> FileReport:
        """Look at one file: header, range, and everything that `read` would refuse in it."""
        report = super().examine(file, content=content)
        if report.problems or file.path is None:
            return report
        try:
            header = self._rasters.header(file.path)
            report.size, report.channels = header.size, header.channels
            report.dtype, report.storage = str(header.dtype), header.storage
            report.problems += self._header_problems(file, file.path, header)
            if content and not report.problems:
                report.low, report.high, problems = self._content_problems(file, file.path)
                report.problems += problems
        except DataError as error:
            report.problems.append(str(error).removeprefix(f"{file.path}").removeprefix(":").strip())
        whole = self._tile_size(file)
        if not report.problems and whole is not None and report.size != whole:
            report.notes.append(f"is smaller than its tile, {whole[0]} x {whole[1]}; its edge is repeated")
        return report

    @classmethod
    def fake(cls, root: Path) -> Self:
        """Write a small copy of the first tiles of the default split and return a reader of it."""
        from mmbench.datasets._rasters.fakes import write_fake

        return cls(root=root, split=write_fake(cls, root))

    @property
    def _image_kinds(self) -> tuple[str, ...]:
        """The sources of all modalities, each once; the first gives a tile its size."""
        return tuple(dict.fromkeys(kind for layer in self._layers.values() for kind in layer.sources))

    def _label_kind(self, labels: Labels) -> str:
        """Return the source that labels are read from."""
        return labels if labels in self.sources else "full"

    def _missing_words(self, missing: list[TileFile], nothing_found: bool) -> str:
        """Say which files are missing and what to do."""
        count = len(self.tiles)
        if nothing_found:
            todo = (
                self.obtain or f"It looks for {missing[0].expected} and the like: give the folder with --root"
            )
            return (
                f"dataset {self.name!r} not found in {self.root}: {count} tiles expected, 0 found. "
                f"{todo}. To try without data: --dataset synthetic"
            )
        found = count - len({file.tile_id for file in missing})
        first = "; ".join(file.expected for file in missing[:3])
        more = f" and {len(missing) - 3} more files" if len(missing) > 3 else ""
        hint = f" (see 'mmbench info {self.name}')" if self.request else ""
        notes = "".join(f"{note}. " for note in sorted({file.note for file in missing} - {""}))
        return (
            f"dataset {self.name!r} is incomplete in {self.root}: {count} tiles expected, {found} found. "
            f"Missing: {first}{more}. {notes}"
            f"Unpack what is missing{hint} or list the tiles you have in a split file"
        )

    def _path(self, kind: str, tile_id: str) -> Path:
        """Return a tile's file of a kind, which `files` may not have asked for."""
        if tile_id not in self.tiles:
            raise DataError(
                f"dataset {self.name!r}: tile {tile_id!r} is not in split {self.split_name!r}; "
                f"it has {', '.join(self.tiles)}"
            )
        path = self._index.find(self.sources[kind], tile_id)
        if path is None:
            raise DataError(
                f"dataset {self.name!r} in {self.root}: tile {tile_id} lacks "
                f"{self.sources[kind].describe(tile_id)}. Put it there"
            )
        return path

    def _reference(self, tile_id: str) -> Path:
        """Return the file that gives a tile its size."""
        return self._path(self._image_kinds[0], tile_id)

    def _tile_size(self, file: TileFile) -> tuple[int, int] | None:
        """Return the size of a file's tile, or None where that cannot be read."""
        try:
            return self.size(file.tile_id)
        except DataError:
            return None

    def _layers_of(self, kind: str) -> list[Layer]:
        """Return the layers that read a kind of file; none for labels."""
        return [layer for layer in self._layers.values() if kind in layer.sources]

    def _header_problems(self, file: TileFile, path: Path, header: Header) -> list[str]:
        """Say what is wrong with a file by its header alone."""
        layers = self._layers_of(file.kind)
        problems = [type_problem(header, layer, file.kind) for layer in layers]
        if file.purpose == "label":
            problems.append(self._label_code("full").type_problem(header))
        if (expected := self._tile_size(file)) is not None:
            shortfall = min((layer.shortfall_px for layer in layers), default=0)
            problems.append(size_problem(header.size, expected, self._reference(file.tile_id), shortfall))
        return [words for words in dict.fromkeys(problems) if words is not None]

    def _content_problems(self, file: TileFile, path: Path) -> tuple[float, float, list[str]]:
        """Return the range of a whole file, and what is wrong with its values."""
        if file.purpose == "label":
            code = self._label_code(self.split.labels_of(file.tile_id))
            low, high, words = code.survey(self._rasters.bands(path))
            return low, high, [words] if words else []
        low, high, grey = values_of(self._rasters.bands(path))
        problems = [value_problem(low, high, layer) for layer in self._layers_of(file.kind)]
        if not grey and any(layer.kind == "height" for layer in self._layers_of(file.kind)):
            problems.append(colour_problem())
        return low, high, [words for words in dict.fromkeys(problems) if words is not None]

    def _checked_path(self, kind: str, tile_id: str, layer: Layer | None = None) -> Path:
        """Return a file whose header shows that it can be read and covers its tile."""
        path = self._path(kind, tile_id)
        header = self._rasters.header(path)
        words = (
            self._label_code("full").type_problem(header)
            if layer is None
            else type_problem(header, layer, kind)
        )
        shortfall = 0 if layer is None else layer.shortfall_px
        words = words or size_problem(header.size, self.size(tile_id), self._reference(tile_id), shortfall)
        if words is not None:
            raise DataError(f"{path} {words}")
        return path

    def _read_layer(self, key: str, tile_id: str, window: Window) -> NDArray[Any]:
        """Return (C, H, W) of one modality, uint8 or float32."""
        layer = self._layers[key]
        image = np.empty((len(layer.bands), window.height, window.width), layer.dtype)
        for kind in layer.sources:
            path = self._checked_path(kind, tile_id, layer)
            if layer.must_be_checked and (kind, tile_id) not in self._grounds:
                self._grounds[kind, tile_id] = self._check_values(path, layer)
            pixels = self._rasters.read_padded(path, window)  # (H, W, C)
            for position, (source, channel) in enumerate(layer.bands):
                if source == kind:
                    image[position] = pixels[..., channel]
        if layer.steps_per_unit != 1:
            image /= np.float32(layer.steps_per_unit)
        ground = self._grounds.get((layer.sources[0], tile_id))
        return image if ground is None else ground.above(image[0], window)[None]

    def _check_values(self, path: Path, layer: Layer) -> Ground | None:
        """Refuse a file that cannot hold a measurement; estimate the ground if it is a surface."""
        low, high, grey = values_of(self._rasters.bands(path))
        words = value_problem(low, high, layer)
        if layer.kind == "height" and not grey:
            words = colour_problem()
        if words is not None:
            raise DataError(f"{path} {words}")
        if not layer.surface:
            return None
        surface = (band[..., 0] / np.float32(layer.steps_per_unit) for band in self._rasters.bands(path))
        return estimate_ground(surface, self._rasters.size(path), self.gsd_m, self._ground_parameters)

    def _label_code(self, labels: Labels) -> LabelCode:
        """Return what the values of a label file mean."""
        return LabelCode(
            {colour: index for index, colour in enumerate(self.palette)},
            self.ignored_colours.get(labels, ()),
            self.ignored_colours.get("eroded", ()),
            self.num_classes,
            self.ignore_index,
        )

    def _read_target(self, tile_id: str, window: Window, labels: Labels) -> NDArray[np.uint8]:
        """Return (H, W) uint8 class index."""
        kind = self._label_kind(labels)
        path = self._checked_path(kind, tile_id)
        if kind == labels:
            return self._decode(path, window, labels)
        # What is near the window decides too: read it with a margin, as far as the tile goes.
        height, width = self.size(tile_id)
        top, left = max(0, window.top - EROSION_RADIUS), max(0, window.left - EROSION_RADIUS)
        bottom = min(height, window.top + window.height + EROSION_RADIUS)
        right = min(width, window.left + window.width + EROSION_RADIUS)
        around = self._decode(path, Window(top, left, bottom - top, right - left), "full")
        rows = slice(window.top - top, window.top - top + window.height)
        columns = slice(window.left - left, window.left - left + window.width)
        return erode(around, self.ignore_index)[rows, columns].copy()

    def _decode(self, path: Path, window: Window, labels: Labels) -> NDArray[np.uint8]:
        """Return (H, W) uint8 class index of a window of a label file."""
        code = self._label_code(labels)
        target = code.decode(self._rasters.read(path, window))
        if target is None:
            _, _, words = code.survey(self._rasters.bands(path))  # what the file holds, not the window
            raise DataError(f"{path} {words}")
        return target
