"""The files behind a tile: which are expected, what was found, what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Purpose = Literal["image", "label"]


@dataclass(frozen=True)
class TileFile:
    """A file that the split needs for one tile.

    Attributes:
        tile_id: Of the tile.
        kind: The dataset's own word for this kind of file, as "rgbir" or "eroded".
        purpose: Whether its pixels go into the images or into the target.
        path: Where it was found, or None.
        expected: Its name and the folders it is looked for in, for people.
        note: What to know when it is missing, a sentence without its full stop; may be empty.
    """

    tile_id: str
    kind: str
    purpose: Purpose
    path: Path | None
    expected: str
    note: str = ""


@dataclass
class FileReport:
    """What `Dataset.examine` found out about one file; None where it was not or could not be looked at.

    Attributes:
        file: Which one.
        num_bytes: Its length.
        size: (rows, columns), pixels.
        channels: Per pixel.
        dtype: Of a stored value, as numpy names it.
        storage: How the pixels are stored, as "uncompressed" or "lzw, 94 strips".
        low: Smallest stored value.
        high: Largest stored value.
        sha256: Of the whole file, hexadecimal.
        problems: What makes it unusable, each one line: what is wrong, what was expected, what to do.
        notes: What is odd but is dealt with.
    """

    file: TileFile
    num_bytes: int | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None
    dtype: str | None = None
    storage: str | None = None
    low: float | None = None
    high: float | None = None
    sha256: str | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
