"""A small made-up copy of a raster dataset, with true names and types, for its contract tests.

Axes: H W pixels, C channel.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mmbench.datasets._rasters.dataset import RasterDataset
    from mmbench.datasets._rasters.layers import Layer

_SIDE_PX, _BLOCK_PX = 128, 16
_NOISE = 6.0


def write_fake(dataset: type[RasterDataset], root: Path) -> Path:
    """Write every file of one training, one validation (if there is any) and one test tile.

    A tile is a chequerboard of blocks of random classes; every channel shows the class with noise upon it.

    Args:
        dataset: Its first named split gives the tile ids.
        root: The data folder, made if it is not there.

    Returns:
        The split file, for the dataset's constructor.
    """
    split = next(iter(dataset.splits.values()))
    roles = {role: split.role(role)[:1] for role in ("train", "val", "test")}
    for number, tile_id in enumerate(tile for tiles in roles.values() for tile in tiles):
        _write_tile(dataset, tile_id, np.random.default_rng(number), root)
    file = root / "split.yaml"
    lines = [f"{role}: [{', '.join(tiles)}]\n" for role, tiles in roles.items()]
    file.write_text("".join(lines), encoding="utf-8")
    return file


def _write_tile(dataset: type[RasterDataset], tile_id: str, rng: np.random.Generator, root: Path) -> None:
    count = _SIDE_PX // _BLOCK_PX
    blocks = rng.integers(len(dataset.classes), size=(count, count))
    target = blocks.repeat(_BLOCK_PX, axis=0).repeat(_BLOCK_PX, axis=1)  # (H, W)
    picture = np.array(dataset.palette, dtype=np.uint8)[target]
    for kind, source in dataset.sources.items():
        if kind in ("full", "eroded"):
            ignored = dataset.ignored_colours.get(kind, ())  # type: ignore[call-overload]
            pixels = picture.copy()
            if ignored:
                pixels[:2] = ignored[0]
        else:
            layers = [layer for ways in dataset.layers.values() for layer in ways if kind in layer.sources]
            if not layers:
                continue
            pixels = _pixels(kind, layers, target, rng)
        write_raster(root / source.path(tile_id), pixels)


def _pixels(
    kind: str, layers: list[Layer], target: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[Any]:
    """Return (H, W) or (H, W, C) values of a source that show the class."""
    channels = 1 + max(channel for layer in layers for name, channel in layer.bands if name == kind)
    stored = layers[0].stored
    shift = 300.0 if any(layer.surface for layer in layers) else 0.0
    values = shift + 20 * target[..., None] + rng.normal(30, _NOISE, (*target.shape, channels))
    if stored in ("float", "any"):
        result: NDArray[Any] = values.astype(np.float32)
    else:
        dtype = np.dtype(stored)
        result = np.clip(np.rint(values), 0, np.iinfo(dtype).max).astype(dtype)
    return result[..., 0] if channels == 1 else result


def write_raster(path: Path, pixels: NDArray[Any], **how: Any) -> None:
    """Write a TIFF, JPEG or PNG, its folder too.

    Args:
        path: Its suffix says the format.
        pixels: (H, W) or (H, W, C).
        how: Of a TIFF, for `tifffile.imwrite`: compression, tile, rowsperstrip, bigtiff.
    """
    import imagecodecs
    import tifffile

    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        path.write_bytes(imagecodecs.jpeg8_encode(pixels, level=98))
    elif suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    elif pixels.ndim == 3 and pixels.shape[2] >= 3 and pixels.dtype == np.uint8:
        extra = ["unspecified"] * (pixels.shape[2] - 3)
        tifffile.imwrite(path, pixels, photometric="rgb", planarconfig="contig", extrasamples=extra, **how)
    else:
        planes = "contig" if pixels.ndim == 3 else None
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig=planes, **how)
