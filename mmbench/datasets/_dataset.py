"""The contract of a dataset: facts as class attributes, tiles by id, windows in physical units.

Axes: C channel, H W pixels.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Role = Literal["train", "val", "test"]
Labels = Literal["full", "eroded"]


class Window(NamedTuple):
    """A rectangle of a tile, pixels."""

    top: int
    left: int
    height: int
    width: int


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
        for role in ("train", "test"):
            if not getattr(self, role):
                raise ValueError(f"split has no {role} tiles; at least one is needed")
        seen: dict[str, str] = {}
        for role in ("train", "val", "test"):
            for tile_id in getattr(self, role):
                if tile_id in seen:
                    raise ValueError(
                        f"split has tile {tile_id!r} in {seen[tile_id]} and in {role}; a tile has one role"
                    )
                seen[tile_id] = role

    def role(self, role: Role) -> tuple[str, ...]:
        """Return the tile ids of a role."""
        tiles: tuple[str, ...] = getattr(self, role)
        return tiles


class Dataset(abc.ABC):
    """Tiles with co-registered modalities and class labels; one file holds one subclass.

    The constructor takes keyword options only; `root` and `split` are understood by every dataset.
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
    split: Split
    """The split in use, set by the constructor."""
    split_name: str
    """Its name, or the name of the user's split file."""

    @abc.abstractmethod
    def __init__(self, *, root: Path | None = None, split: str | Path | None = None, **options: Any) -> None:
        """Open the dataset, checking that what the split needs is there.

        Args:
            root: Its folder; None looks in the documented places.
            split: A name of `splits`, or the path of a split file; None is the first named one.
            options: The dataset's own; a subclass spells them out.

        Raises:
            DataError: If files are missing.
            InvalidRecipeError: If an option or the split is wrong.
        """

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.classes)

    @property
    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything but the split that decides which pixels come out: options, height source, version."""

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

    @classmethod
    @abc.abstractmethod
    def fake(cls, root: Path) -> Dataset:
        """Write a small copy with true names, formats and colours under `root` and return a reader of it."""


def read_split_file(path: Path) -> Split:
    """Read a user's split: YAML or JSON with the keys train, test and, optionally, val, each a list of ids.

    Raises:
        InvalidRecipeError: If the file is missing, not of this form, or a tile stands in two roles.
    """
    import yaml

    from mmbench.errors import InvalidRecipeError

    expected = "expected the keys train, test and optionally val, each a list of tile ids"
    try:
        # BaseLoader keeps every scalar a string: to YAML 1.1 an unquoted 2_10 is the number 210.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRecipeError(f"split file {path}: cannot be read ({error}); {expected}") from error
    except yaml.YAMLError as error:
        raise InvalidRecipeError(
            f"split file {path}: not YAML or JSON ({' '.join(str(error).split())}); {expected}"
        ) from error
    if not isinstance(content, dict) or not {"train", "test"} <= set(content) <= {"train", "val", "test"}:
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InvalidRecipeError(f"split file {path}: found {found}; {expected}")
    roles: dict[str, tuple[str, ...]] = {}
    for role in ("train", "val", "test"):
        ids = content.get(role) or []
        if not isinstance(ids, list) or not all(isinstance(tile_id, str) for tile_id in ids):
            raise InvalidRecipeError(f"split file {path}: {role} is {ids!r}; {expected}")
        roles[role] = tuple(ids)
    try:
        return Split(**roles)
    except ValueError as error:
        raise InvalidRecipeError(f"split file {path}: {error}") from error
