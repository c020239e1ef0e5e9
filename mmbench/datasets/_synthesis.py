"""A synthetic town as a true ISPRS folder: true folders, names, types, colours and traps of channel order.

Axes: C channel, H W pixels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmbench.datasets._city import CityTile, make_tile
from mmbench.datasets._isprs import IsprsDataset
from mmbench.datasets._rasters.fakes import write_raster
from mmbench.errors import InvalidRecipeError

Layout = Literal["potsdam", "vaihingen"]

_TILED = {"tile": (64, 64)}
STORAGES: dict[str, dict[str, Any]] = {
    "uncompressed": {},
    "lzw": {"compression": "lzw", "rowsperstrip": 16},
    "lzw-one-strip": {"compression": "lzw", "rowsperstrip": 2**31 - 1},
    "lzw-tiled": {"compression": "lzw", **_TILED},
    "deflate": {"compression": "zlib", "predictor": True, "rowsperstrip": 16},
    "jpeg": {"compression": "jpeg", **_TILED},
    "bigtiff": {"bigtiff": True},
}
"""How TIFF files may be stored; as JPEG only pictures of three channels are, and their values change."""

_GSD_M = 0.2
"""Coarser than the true pixels, so that a small tile still shows a few houses."""
_BORDER_PX = 3
_SMALLEST_PX = 16
_TILES_PER_SEED = 100  # more than a dataset has, so that no two seeds share a tile

# Folders with the labels of all tiles; the preferred ones hold those of the public tiles.
_COMPLETE = {
    "potsdam": {"full": "5_Labels_all", "eroded": "5_Labels_all_noBoundary"},
    "vaihingen": {
        "full": "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE",
        "eroded": "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE",
    },
}


def write_isprs_folder(
    layout: Layout,
    out: Path,
    *,
    size: int = 256,
    seed: int = 0,
    tiles: Sequence[str] | None = None,
    storage: str = "uncompressed",
) -> list[Path]:
    """Write a synthetic town that the readers of ISPRS data take for the real one.

    The pictures show ground at 20 cm a pixel whatever the layout, so a tile of 256 pixels is 51 m wide.

    Args:
        layout: Whose folders and names: all files of Potsdam (surface model, normalised height, RGB, the
            "IRRG" that holds near infrared, green and blue, RGBIR, labels) or of Vaihingen.
        out: A folder that is new or empty; it appears only when all files are written.
        size: Columns of a tile; Potsdam's tiles are square, Vaihingen's a quarter taller than wide.
        seed: Another seed is another town; a tile's pixels do not depend on which others are written.
        tiles: Ids to write; None writes all tiles of the official split, 38 or 33.
        storage: One of `STORAGES`.

    Returns:
        The files, sorted.

    Raises:
        InvalidRecipeError: If layout, storage or a tile is unknown, there is no tile, the size is too small,
            the seed negative, or `out` not empty.
    """
    # Imported here: the datasets' own `fake` imports this module.
    from mmbench.datasets.potsdam import Potsdam
    from mmbench.datasets.vaihingen import Vaihingen

    datasets: dict[str, type[IsprsDataset]] = {"potsdam": Potsdam, "vaihingen": Vaihingen}
    if layout not in datasets:
        raise InvalidRecipeError(f"layout is {layout!r}; expected {' or '.join(map(repr, datasets))}")
    return write_folder(datasets[layout], out, size=size, seed=seed, tiles=tiles, storage=storage)


def write_folder(
    dataset: type[IsprsDataset],
    out: Path,
    *,
    size: int = 256,
    seed: int = 0,
    tiles: Sequence[str] | None = None,
    storage: str = "uncompressed",
) -> list[Path]:
    """Write a folder for a reader; see `write_isprs_folder`."""
    if storage not in STORAGES:
        raise InvalidRecipeError(f"storage is {storage!r}; expected one of {', '.join(STORAGES)}")
    known = dataset.splits["official"].tiles
    chosen = known if tiles is None else tuple(tiles)
    unknown = [tile for tile in chosen if tile not in known]
    if unknown or not chosen or size < _SMALLEST_PX or seed < 0:
        raise InvalidRecipeError(
            f"{dataset.name} folder {out}: size {size}, seed {seed}, {len(chosen)} tiles, unknown {unknown}; "
            f"expected a size from {_SMALLEST_PX}, a seed from 0 and tiles among {', '.join(known)}"
        )
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidRecipeError(
            f"{dataset.name} folder {out}: it holds something already; give a new or an empty folder"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    shape = (size, size) if dataset.name == "potsdam" else (size * 5 // 4, size)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        built = Path(scratch) / "folder"
        for tile_id in chosen:
            number = seed * _TILES_PER_SEED + known.index(tile_id)
            _write_tile(dataset, tile_id, make_tile(number, shape, _GSD_M), built, storage)
        if out.exists():  # it may be the current folder, which cannot be replaced
            for child in built.iterdir():
                child.rename(out / child.name)
        else:
            built.rename(out)
    return sorted(path for path in out.rglob("*") if path.is_file())


def _write_tile(dataset: type[IsprsDataset], tile_id: str, city: CityTile, out: Path, storage: str) -> None:
    """Write every file of a tile below `out`."""
    public = tile_id not in dataset.splits["official"].test
    for name, raster in _rasters(dataset, city):
        source = dataset.sources[name]
        folders = [source.folders[0]]
        if name in _COMPLETE[dataset.name]:  # labels: the public ones lie in two folders, as they really do
            folders = [_COMPLETE[dataset.name][name], *(folders if public else ())]
        for folder in folders:
            is_picture = name in ("rgb", "nirgb", "top")
            how = STORAGES[storage] if is_picture or storage != "jpeg" else STORAGES["uncompressed"]
            write_raster(out / source.path(tile_id, folder), raster, **how)


def _rasters(dataset: type[IsprsDataset], city: CityTile) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield (source, pixels as stored): (H, W) or (H, W, C)."""
    infrared, red, green, blue = city.optical
    if dataset.name == "potsdam":
        yield "rgb", np.stack([red, green, blue], axis=-1)
        yield "nirgb", np.stack([infrared, green, blue], axis=-1)
        yield "rgbir", np.stack([red, green, blue, infrared], axis=-1)
    else:
        yield "top", np.stack([infrared, red, green], axis=-1)
    decimetres = np.clip(np.rint(city.height_m * 10), 0, 255).astype(np.uint8)
    yield "ndsm_lastools" if dataset.name == "potsdam" else "ndsm", decimetres
    yield "dsm", city.terrain_m + city.height_m
    picture = np.array(dataset.palette, dtype=np.uint8)[city.target]  # (H, W, 3)
    yield "full", picture
    yield "eroded", np.where(_near_border(city.target)[..., None], np.uint8(0), picture)


def _near_border(target: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (H, W) bool: within three pixels of another class."""
    border = np.zeros(target.shape, dtype=bool)
    down, across = target[1:] != target[:-1], target[:, 1:] != target[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= across
    border[:, :-1] |= across
    if not border.any():  # the distance to nothing is undefined
        return border
    near: NDArray[np.bool_] = ndimage.distance_transform_edt(~border) < _BORDER_PX
    return near
