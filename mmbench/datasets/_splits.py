"""Which tiles and files an ISPRS dataset uses, and what to say when some are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmbench.datasets._dataset import Role, Split, read_split_file
from mmbench.datasets._folders import FolderIndex, Source, plain_id
from mmbench.errors import DataError, InvalidRecipeError, UnknownNameError

Bands = tuple[tuple[str, int], ...]
"""The (source, channel) of each channel of a modality."""

_ROLES: tuple[Role, ...] = ("train", "val", "test")


def choose_split(
    name: str, splits: Mapping[str, Split], split: str | Path | None, dropped: Sequence[str]
) -> tuple[str, Split]:
    """Return a split and its name.

    Args:
        name: The dataset's.
        splits: Its named splits, the default one first; that one holds every tile.
        split: A name, a split file, or None for the default.
        dropped: Tiles with wrong labels: left out of a named split, refused in a file.

    Raises:
        UnknownNameError: If there is no split of that name.
        InvalidRecipeError: If the file is wrong or holds a tile that it may not.
    """
    default = next(iter(splits))
    if split is None:
        split = default
    if isinstance(split, str) and split in splits:
        roles = (splits[split].role(role) for role in _ROLES)
        return split, Split(*(tuple(tile for tile in tiles if tile not in dropped) for tiles in roles))
    path = Path(split)
    if isinstance(split, str) and not path.suffix:
        raise UnknownNameError("split", split, splits, hint="or give a file with --split-file")
    given = read_split_file(path)
    try:
        chosen = Split(*(tuple(map(plain_id, given.role(role))) for role in _ROLES))
    except ValueError as error:  # 2_10 and 02_10 are one tile
        raise InvalidRecipeError(f"split file {path}: {error}") from error
    known = all_tiles(splits[default])
    for tile_id in all_tiles(chosen):
        if tile_id not in known:
            raise InvalidRecipeError(
                f"split file {path}: {name} has no tile {tile_id!r}; it has {', '.join(known)}"
            )
        if tile_id in dropped:
            raise InvalidRecipeError(
                f"split file {path}: tile {tile_id} has wrong labels and is left out by default; "
                f"remove it, or set keep_{tile_id}"
            )
    return path.name, chosen


def all_tiles(split: Split) -> tuple[str, ...]:
    """Return the tiles of all roles: train, val, test."""
    return (*split.train, *split.val, *split.test)


def hold_out(train: str, val: str, test: str) -> Split:
    """Return the split of tile ids given in one line each; `val` is taken out of `train`."""
    kept = val.split()
    return Split(tuple(tile for tile in train.split() if tile not in kept), tuple(kept), tuple(test.split()))


def band_sources(bands: Bands) -> tuple[str, ...]:
    """Return the sources behind the channels, each once."""
    return tuple(dict.fromkeys(name for name, _ in bands))


def choose_bands(
    alternatives: Iterable[Bands], index: FolderIndex, sources: Mapping[str, Source], tiles: Iterable[str]
) -> Bands:
    """Return the first way to read a modality that has all tiles, else the one that has most.

    One way serves the whole dataset, so that no two tiles differ in where their pixels come from.
    """
    tiles = tuple(tiles)

    def complete(bands: Bands) -> int:
        names = band_sources(bands)
        return sum(all(index.find(sources[name], tile) for name in names) for tile in tiles)

    return max(alternatives, key=complete)


def require_files(
    name: str,
    root: Path,
    index: FolderIndex,
    sources: Mapping[str, Source],
    needed: Mapping[str, Sequence[str]],
) -> None:
    """Refuse a folder that lacks a file.

    Args:
        name: The dataset's.
        root: The folder.
        index: Its files.
        sources: The kinds of files.
        needed: Tile -> the kinds it needs.

    Raises:
        DataError: If nothing is there, or naming the first files that are missing.
    """
    missing = [
        (tile, kind)
        for tile, kinds in needed.items()
        for kind in kinds
        if index.find(sources[kind], tile) is None
    ]
    if not missing:
        return
    if len(missing) == sum(map(len, needed.values())):
        raise DataError(
            f"dataset {name!r} not found in {root}: {len(needed)} tiles expected, 0 found. "
            f"It must be requested from ISPRS: see 'mmbench info {name}'. "
            "To try without data: --dataset synthetic"
        )
    found = len(needed) - len({tile for tile, _ in missing})
    first = "; ".join(sources[kind].describe(tile) for tile, kind in missing[:3])
    more = f" and {len(missing) - 3} more files" if len(missing) > 3 else ""
    notes = sorted({sources[kind].note for _, kind in missing} - {""})
    raise DataError(
        f"dataset {name!r} is incomplete in {root}: {len(needed)} tiles expected, {found} found. "
        f"Missing: {first}{more}. {''.join(f'{note}. ' for note in notes)}"
        f"Unpack what is missing (see 'mmbench info {name}') or list the tiles you have in a split file"
    )
