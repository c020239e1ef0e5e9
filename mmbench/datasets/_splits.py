"""Which tiles a dataset uses: a named split, or a user's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmbench.datasets._dataset import Role, Split, read_split_file
from mmbench.errors import InvalidRecipeError, UnknownNameError
from mmbench.settings_files import quote

_ROLES: tuple[Role, ...] = ("train", "val", "test")


def choose_split(
    name: str,
    splits: Mapping[str, Split],
    split: str | Path | None,
    *,
    dropped: Sequence[str] = (),
    known: Sequence[str] | None = None,
    spelling: Callable[[str], str] = str,
) -> tuple[str, Split]:
    """Return a split and its name.

    Args:
        name: The dataset's.
        splits: Its named splits, the default one first.
        split: A name, a split file, or None for the default.
        dropped: Tiles with wrong labels: left out of a named split, refused in a file.
        known: The tiles that a file may name; None is any.
        spelling: Turns a tile id of a file into the one the dataset knows.

    Raises:
        UnknownNameError: If there is no split of that name.
        InvalidRecipeError: If the file is wrong or holds a tile that it may not.
    """
    if split is None:
        split = next(iter(splits))
    if isinstance(split, str) and split in splits:
        roles = (splits[split].role(role) for role in _ROLES)
        return split, Split(*(tuple(tile for tile in tiles if tile not in dropped) for tiles in roles))
    path = Path(split)
    if isinstance(split, str) and not path.suffix:
        raise UnknownNameError("split", split, splits, hint="or give a file with --split-file")
    given = read_split_file(path)
    try:
        chosen = Split(*(tuple(map(spelling, given.role(role))) for role in _ROLES))
    except ValueError as error:  # 2_10 and 02_10 are one tile
        raise InvalidRecipeError(f"split file {path}: {error}") from error
    for tile_id in chosen.tiles:
        if known is not None and tile_id not in known:
            raise InvalidRecipeError(
                f"split file {path}: {name} has no tile {quote(tile_id)}; it has {', '.join(known)}"
            )
        if tile_id in dropped:
            raise InvalidRecipeError(
                f"split file {path}: tile {tile_id} has wrong labels and is left out by default; "
                f"remove it, or set keep_{tile_id}"
            )
    return path.name, chosen


def hold_out(train: str, val: str, test: str) -> Split:
    """Return the split of tile ids given in one line each; `val` is taken out of `train`."""
    kept = val.split()
    return Split(tuple(tile for tile in train.split() if tile not in kept), tuple(kept), tuple(test.split()))
