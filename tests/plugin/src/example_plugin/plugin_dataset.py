"""Rasters in folders: images/TILE.tif, lidar/TILE.tif and labels/TILE.png."""

from collections.abc import Mapping
from typing import ClassVar

from mmbench import Layer, RasterDataset, Source, Split


class PluginDataset(RasterDataset):
    """Two modalities, three classes."""

    title = "Plug-in dataset"
    homepage = "none: an example"
    licence = "CC0-1.0"
    gsd_m = 0.5
    classes = ("ground", "building", "tree")
    palette = ((128, 128, 128), (255, 0, 0), (0, 128, 0))
    scored_classes = (0, 1, 2)
    sources: ClassVar[Mapping[str, Source]] = {
        "image": Source(("images",), "{tile}.tif"),
        "lidar": Source(("lidar",), "{tile}.tif"),
        "full": Source(("labels",), "{tile}.png"),
    }
    layers: ClassVar[Mapping[str, tuple[Layer, ...]]] = {
        "rgb": (Layer((("image", 0), ("image", 1), ("image", 2)), kind="optical"),),
        "ndsm": (Layer((("lidar", 0),), kind="height", stored="float"),),
    }
    splits: ClassVar[Mapping[str, Split]] = {
        "standard": Split(train=("west",), val=("middle",), test=("east",)),
    }
