"""The contract of a dataset: facts as class attributes, tiles by id, windows in physical units.

Axes: C channel, H W pixels.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._digest import file_sha256
from mmbench.datasets._digest import files_digest as digest_of
from mmbench.datasets._files import FileReport, TileFile
from mmbench.errors import DataError, InvalidRecipeError
from mmbench.settings_files import parse_yaml, quote

Role = Literal["train", "val", "test"]
Labels = Literal["full", "eroded"]

TEST_LABELS: Labels = "eroded"
"""The protocol trains (and validates) on full labels and tests on eroded ones."""


class Window(NamedTuple):
    """A rectangle of a tile, pixels."""

    top: int
    left: int
    height: int
    width: int


def require_inside(window: Window, size: tuple[int, int], what: str) -> None:
    """Refuse a window that is empty or reaches beyond its tile.

    Args:
        window: To look at.
        size: (H, W) of the tile, pixels.
        what: Dataset and tile, for the error.

    Raises:
        ValueError: If it is not inside.
    """
    bottom, right = window.top + window.height, window.left + window.width
    if not (0 <= window.top < bottom <= size[0] and 0 <= window.left < right <= size[1]):
        raise ValueError(f"{what}: {window} is not inside its {size[0]} x {size[1]} pixels")


def row_bands(size: tuple[int, int], rows: int) -> Iterator[Window]:
    """Yield windows over the whole width from top to bottom, so that a tile is never in memory as a whole.

    Args:
        size: (H, W) of the tile, pixels.
        rows: Of a band; the last one may be lower.
    """
    height, width = size
    for top in range(0, height, rows):
        yield Window(top, 0, min(rows, height - top), width)


@dataclass(frozen=True)
class Sample:
    """A window of a tile as it was measured.

    Attributes:
        images: modality -> (C, H, W) uint8 (optical counts) or float32 (heights, metres).
        target: (H, W) uint8 class index, or the dataset's ignore_index.
        tile_id: Where it comes from.
    """

    images: dict[str, NDArray[Any]]
    target: NDArray[np.uint8]
    tile_id: str


@dataclass(frozen=True)
class Split:
    """Tile ids by role; `val` may be empty (then the last checkpoint is used)."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse overlap and empty roles.

        Raises:
            ValueError: Naming the tiles that stand in two roles, or the role without tiles.
        """
        for role in ("train", "val", "test"):
            ids = getattr(self, role)
            if not isinstance(ids, tuple) or not all(isinstance(tile_id, str) for tile_id in ids):
                raise ValueError(f"split has {role} {quote(ids)}; expected a tuple of tile ids, as ('a',)")
        for role in ("train", "test"):
            if not getattr(self, role):
                raise ValueError(f"split has no {role} tiles; at least one is needed")
        seen: dict[str, str] = {}
        for role in ("train", "val", "test"):
            for tile_id in getattr(self, role):
                if tile_id in seen:
                    roles = f"{seen[tile_id]} and in {role}"
                    raise ValueError(f"split has tile {quote(tile_id)} in {roles}; a tile has one role")
                seen[tile_id] = role

    def role(self, role: Role) -> tuple[str, ...]:
        """Return the tile ids of a role."""
        tiles: tuple[str, ...] = getattr(self, role)
        return tiles

    @property
    def tiles(self) -> tuple[str, ...]:
        """The tile ids of all roles: train, val, test."""
        return (*self.train, *self.val, *self.test)

    def labels_of(self, tile_id: str) -> Labels:
        """Return which labels the protocol reads of a tile: eroded ones of a test tile, else full ones."""
        return TEST_LABELS if tile_id in self.test else "full"


class Dataset(abc.ABC):
    """Tiles with co-registered modalities and class labels; one file holds one subclass.

    The constructor takes keyword options only; `root` and `split` are understood by every dataset. A subclass
    brings `identity`, `size`, `read`, `fake` and, where it reads files, `files`; checking, preparing,
    statistics and the digest of the files come with this class. For rasters in folders start from
    `RasterDataset`, which brings those too.
    """

    title: ClassVar[str]
    homepage: ClassVar[str]
    licence: ClassVar[str]
    request: ClassVar[str] = ""
    """How to get the data, for `mmbench info`; empty where nothing must be fetched."""
    classes: ClassVar[tuple[str, ...]]
    palette: ClassVar[tuple[tuple[int, int, int], ...]]
    scored_classes: ClassVar[tuple[int, ...]]
    """The classes in the means (mIoU, mF1); all count in OA and kappa."""
    ignore_index: ClassVar[int] = 255
    gsd_m: ClassVar[float]
    """Ground sampling distance, metres per pixel."""
    splits: ClassVar[Mapping[str, Split]]
    """The named splits; the first is the default."""

    modalities: dict[str, int]
    """Modality -> channels, set by the constructor; keys name the content: `irrg`, `rgb`, `ndsm`, `dsm`."""
    optical_modalities: tuple[str, ...] = ()
    """Those that light makes: photometric augmentation, where a recipe asks for it, changes only them."""
    split: Split
    """The split in use, set by the constructor."""
    split_name: str
    """Its name, or the name of the user's split file."""

    @abc.abstractmethod
    def __init__(self, *, root: Path | None = None, split: str | Path | None = None, **options: Any) -> None:
        """Resolve the options and find the files, reading none; a missing one is `require_files`' to refuse.

        Args:
            root: Its folder; None looks in the documented places.
            split: A name of `splits`, or the path of a split file; None is the first named one.
            options: The dataset's own; a subclass spells them out.

        Raises:
            InvalidRecipeError: If an option or the split is wrong.
        """

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.classes)

    @property
    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """What decides which pixels come out of given files: options, height source, reader version.

        Neither the split nor the files belong here: both stand beside it in a record.
        """

    @abc.abstractmethod
    def size(self, tile_id: str) -> tuple[int, int]:
        """Return (H, W) of a tile, pixels, without decoding it where the format allows."""

    @abc.abstractmethod
    def read(self, tile_id: str, window: Window | None = None, *, labels: Labels = "full") -> Sample:
        """Read a window of a tile, or all of it.

        Args:
            tile_id: One of the split's.
            window: Inside the tile; None is the whole tile.
            labels: "full" for training, "eroded" (object borders ignored) for the test score.

        Raises:
            DataError: If a file is missing, truncated, mismatched or holds a colour outside the palette.
        """

    def files(self) -> list[TileFile]:
        """Return the files that the split needs, tile by tile, found or not; none where nothing is stored."""
        return []

    def require_files(self) -> None:
        """Refuse a dataset that lacks a file.

        Raises:
            DataError: If nothing is there, or naming the first files that are missing and what to do.
        """
        files = self.files()
        missing = [file for file in files if file.path is None]
        if missing:
            raise DataError(self._missing_words(missing, len(missing) == len(files)))

    def _missing_words(self, missing: list[TileFile], nothing_found: bool) -> str:
        """Say which files are missing and what to do; a subclass that knows its folder says it better."""
        first = "; ".join(file.expected for file in missing[:3])
        more = f" and {len(missing) - 3} more files" if len(missing) > 3 else ""
        tiles = len({file.tile_id for file in missing})
        return (
            f"{self.title}: {tiles} of {len(self.split.tiles)} tiles are incomplete, missing {first}{more}. "
            "Add them, or list the tiles you have in a split file"
        )

    def remarks(self) -> list[str]:
        """Return what is worth knowing about how the dataset is read, one line each."""
        return []

    def examine(self, file: TileFile, *, content: bool = True) -> FileReport:
        """Look at one file; a subclass that knows its format adds sizes, types and what is wrong inside.

        Args:
            file: One of `files`.
            content: Whether to read it all; else only what its header and the file system say.

        Returns:
            What was found; a missing or unreadable file is a problem in it, not an error.
        """
        report = FileReport(file)
        if file.path is None:
            note = f". {file.note}" if file.note else ""
            report.problems.append(f"missing: expected {file.expected}. Add it{note}")
            return report
        try:
            report.num_bytes = file.path.stat().st_size
            if content:
                report.sha256 = file_sha256(file.path)
        except OSError as error:
            report.problems.append(f"cannot be read ({error.strerror}). Check its rights and the disk")
        return report

    @cached_property
    def files_digest(self) -> str | None:
        """A hash of the files in use, None where there are none; part of a record's identity.

        Raises:
            DataError: If a file is missing or cannot be read.
        """
        self.require_files()
        paths = [file.path for file in self.files() if file.path is not None]
        return digest_of(paths) if paths else None

    @classmethod
    @abc.abstractmethod
    def fake(cls, root: Path) -> Dataset:
        """Write a small copy with true names, formats and colours under `root` and return a reader of it."""


def read_split_file(path: Path) -> Split:
    """Read a user's split: YAML or JSON with the keys train, test and, optionally, val, each a list of ids.

    Raises:
        InvalidRecipeError: If the file is missing, not of this form, or a tile stands in two roles.
    """
    expected = "expected the keys train, test and optionally val, each a list of tile ids"
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), strings_only=True)
    except (OSError, ValueError) as error:
        raise InvalidRecipeError(f"split file {path}: cannot be read ({error}); {expected}") from error
    if not isinstance(content, dict) or not {"train", "test"} <= set(content) <= {"train", "val", "test"}:
        found = quote(list(content)) if isinstance(content, dict) else type(content).__name__
        raise InvalidRecipeError(f"split file {path}: found {found}; {expected}")
    roles: dict[str, tuple[str, ...]] = {}
    for role in ("train", "val", "test"):
        ids = content.get(role) or []
        if not isinstance(ids, list) or not all(isinstance(tile_id, str) for tile_id in ids):
            raise InvalidRecipeError(f"split file {path}: {role} is {quote(ids)}; {expected}")
        roles[role] = tuple(ids)
    try:
        return Split(**roles)
    except ValueError as error:
        raise InvalidRecipeError(f"split file {path}: {error}") from error
