"""Datasets that are rasters in folders: one file a tile and kind, found, checked and read by declaration.

Axes: C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Dataset, Labels, Sample, Window, require_inside
from mmbench.datasets._erosion import EROSION_RADIUS, erode
from mmbench.datasets._files import FileReport, TileFile
from mmbench.datasets._rasters.declarations import check_declarations, choose_modalities, refuse_shared_files
from mmbench.datasets._rasters.folders import FolderIndex, Source, data_root
from mmbench.datasets._rasters.formats import count
from mmbench.datasets._rasters.ground import Ground, GroundParameters, estimate_ground
from mmbench.datasets._rasters.labels import Colour, LabelCode
from mmbench.datasets._rasters.layers import Layer, choose_layer, why_not_preferred
from mmbench.datasets._rasters.reader import RasterReader
from mmbench.datasets._rasters.rules import Values, size_problem, type_problem, value_problem, values_of
from mmbench.datasets._splits import choose_split
from mmbench.errors import DataError

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
    label_advice: ClassVar[str] = "Correct the label, or the classes that are declared"
    """What to do about a label that is no class, a sentence without its full stop."""
    padded_ids: ClassVar[bool] = False
    """Whether tile ids are numbers that file names may pad with zeros; else `north_1` is not `north_01`."""

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
        self._open(root, split, modalities)

    def _open(
        self,
        root: Path | None,
        split: str | Path | None,
        modalities: Sequence[str] | None,
        **split_rules: Any,
    ) -> None:
        """Check what is declared, choose split and layers, find the files; `choose_split` has the rules."""
        check_declarations(self)
        chosen = choose_modalities(self, modalities)
        self.split_name, self.split = choose_split(self.name, self.splits, split, **split_rules)
        self.root = data_root(self.name) if root is None else Path(root)
        self._root_is_given = root is not None
        self._index = FolderIndex(self.root, padded_ids=self.padded_ids)
        self._layers = {
            key: choose_layer(self.layers[key], self._index, self.sources, self.tiles) for key in chosen
        }
        refuse_shared_files(self)
        self.modalities = {key: len(layer.bands) for key, layer in self._layers.items()}
        self.optical_modalities = tuple(k for k, layer in self._layers.items() if layer.kind == "optical")
        self._rasters = RasterReader()
        self._ground_parameters = GroundParameters()
        self._grounds: dict[tuple[str, str, str], Ground | None] = {}  # by modality, kind, tile

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

    def remarks(self) -> list[str]:
        """Say which modality is read in another way than the preferred one, and why."""
        ways = {key: (self.layers[key][0], layer) for key, layer in self._layers.items()}
        texts = (
            why_not_preferred(preferred, layer, self._index, self.sources, self.tiles)
            for preferred, layer in ways.values()
        )
        return [f"{key} {words}" for key, words in zip(ways, texts, strict=True) if words is not None]

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
        size = self.size(tile_id)
        window = window or Window(0, 0, *size)
        require_inside(window, size, f"{self.name} tile {tile_id}")
        images = {key: self._read_layer(key, tile_id, window) for key in self._layers}
        return Sample(images, self._read_target(tile_id, window, labels), tile_id)

    def examine(self, file: TileFile, *, content: bool = True) -> FileReport:
        """Look at one file: header, range, and everything that `read` would refuse in it."""
        report = super().examine(file, content=content)
        if file.path is None:
            report.problems += self._folder_problems()
        if report.problems or file.path is None:
            return report
        try:
            header = self._rasters.header(file.path)
            report.size, report.channels = header.size, header.channels
            report.dtype, report.storage = str(header.dtype), header.storage
            report.problems += self._header_problems(file.kind, file.tile_id, self._layers_of(file.kind))
            if content and not report.problems:
                self._examine_content(file.path, report)
        except DataError as error:
            report.problems.append(str(error).removeprefix(f"{file.path}: "))
        whole = self._tile_size(file.tile_id)
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
        tiles = count(len(self.tiles), "tile")
        if nothing_found:
            todo = (
                self.obtain or f"It looks for {missing[0].expected} and the like: give the folder with --root"
            )
            folder = "".join(f"{words}. " for words in self._folder_problems())
            return (
                f"dataset {self.name!r} not found in {self.root}: {tiles} expected, 0 found. {folder}"
                f"{todo}. To try without data: --dataset synthetic"
            )
        found = len(self.tiles) - len({file.tile_id for file in missing})
        first = "; ".join(file.expected for file in missing[:3])
        more = f" and {count(len(missing) - 3, 'more file')}" if len(missing) > 3 else ""
        hint = f" (see 'mmbench info {self.name}')" if self.request else ""
        notes = [*sorted({file.note for file in missing} - {""}), *self._folder_problems()]
        return (
            f"dataset {self.name!r} is incomplete in {self.root}: {tiles} expected, {found} found. "
            f"Missing: {first}{more}. {''.join(f'{note}. ' for note in notes)}"
            f"Add what is missing{hint} or list the tiles you have in a split file"
        )

    def _folder_problems(self) -> list[str]:
        """Say why files may be missing that are there: the data folder is none, or one cannot be listed."""
        if self._root_is_given and not self.root.is_dir():
            found = "is a file" if self.root.exists() else "does not exist"
            return [f"The folder {found}"]
        return [
            f"The folder {path} cannot be read ({words}): check its rights"
            for path, words in self._index.unreadable.items()
        ]

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

    def _tile_size(self, tile_id: str) -> tuple[int, int] | None:
        """Return the size of a tile, or None where that cannot be read."""
        try:
            return self.size(tile_id)
        except DataError:
            return None

    def _layers_of(self, kind: str) -> list[Layer]:
        """Return the layers that read a kind of file; none for labels."""
        return [layer for layer in self._layers.values() if kind in layer.sources]

    def _header_problems(self, kind: str, tile_id: str, layers: Sequence[Layer]) -> list[str]:
        """Say what is wrong with a tile's file by its header alone; no layer reads a label."""
        header = self._rasters.header(self._path(kind, tile_id))
        problems = [type_problem(header, layer, kind) for layer in layers]
        if not layers:
            problems.append(self._label_code("full").type_problem(header))
        if (expected := self._tile_size(tile_id)) is not None:
            shortfall = min((layer.shortfall_px for layer in layers), default=0)
            problems.append(size_problem(header.size, expected, self._reference(tile_id), shortfall))
        return [words for words in dict.fromkeys(problems) if words is not None]

    def _examine_content(self, path: Path, report: FileReport) -> None:
        """Add the range of a whole file, and what is wrong with its values."""
        file = report.file
        if file.purpose == "label":
            code = self._label_code(self.split.labels_of(file.tile_id))
            report.low, report.high, words = code.survey(self._rasters.bands(path))
            report.problems += [words] if words else []
            return
        layers, values = self._layers_of(file.kind), self._values(path)
        report.low, report.high = values.low, values.high
        problems = [value_problem(values, layer) for layer in layers]
        report.problems += [words for words in dict.fromkeys(problems) if words is not None]
        if values.gaps and not report.problems:
            report.notes.append(f"{values.gap_words}; they are read as they are")

    def _values(self, path: Path) -> Values:
        """Look through a whole image file."""
        return values_of(self._rasters.bands(path), self._rasters.header(path).nodata)

    def _checked_path(self, kind: str, tile_id: str, layer: Layer | None = None) -> Path:
        """Return a file whose header shows that it can be read and covers its tile; None reads a label."""
        path = self._path(kind, tile_id)
        for words in self._header_problems(kind, tile_id, () if layer is None else (layer,)):
            raise DataError(f"{path} {words}")
        return path

    def _read_layer(self, key: str, tile_id: str, window: Window) -> NDArray[Any]:
        """Return (C, H, W) of one modality, uint8 or float32."""
        layer = self._layers[key]
        image = np.empty((len(layer.bands), window.height, window.width), layer.dtype)
        for kind in layer.sources:
            path = self._checked_path(kind, tile_id, layer)
            if self._must_be_checked(path, layer) and (key, kind, tile_id) not in self._grounds:
                self._grounds[key, kind, tile_id] = self._check_values(path, layer)
            pixels = self._rasters.read_padded(path, window)  # (H, W, C)
            for position, (source, channel) in enumerate(layer.bands):
                if source == kind:
                    image[position] = pixels[..., channel]
        if layer.steps_per_unit != 1:
            image /= np.float32(layer.steps_per_unit)
        ground = self._grounds.get((key, layer.sources[0], tile_id))
        return image if ground is None else ground.above(image[0], window)[None]

    def _must_be_checked(self, path: Path, layer: Layer) -> bool:
        """Whether a file can hold unusable values."""
        has_nodata = self._rasters.header(path).nodata is not None
        return layer.must_be_checked or (has_nodata and layer.kind != "optical")

    def _check_values(self, path: Path, layer: Layer) -> Ground | None:
        """Refuse a file that cannot hold a measurement; estimate the ground if it is a surface."""
        words = value_problem(self._values(path), layer)
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
            self.label_advice,
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
