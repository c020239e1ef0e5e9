"""Your own rasters as a dataset: copy this file, say where the files lie and what they hold, and run.

    python -m mmbench data check examples/my_rasters.py --root DIR
    python -m mmbench run --methods modality_dropout --dataset examples/my_rasters.py --root DIR

The folder has one file a tile and kind: images/north_1.tif, infrared/north_1.tif, lidar/north_1.tif,
radar/north_1.tif and labels/north_1.png. TIFF (any of the usual compressions), JPEG and PNG are read; all
files of a tile must cover the same pixels. A file is found by its exact name: north_1 is not north_01.
Heights and measurements may have no gaps: pixels of the file's nodata value are refused.
"""

from collections.abc import Mapping
from typing import ClassVar

from mmbench import Layer, RasterDataset, Source, Split


class MyRasters(RasterDataset):
    """Four modalities, three classes. Nothing but declarations is needed."""

    title = "My rasters"
    homepage = "none: my own"
    licence = "mine"
    gsd_m = 0.25

    # Colours of the label pictures. Labels with one channel of class indices (255: ignored) work too.
    classes = ("ground", "building", "tree")
    palette = ((128, 128, 128), (255, 0, 0), (0, 128, 0))
    scored_classes = (0, 1, 2)

    # Kind -> folder and file name. `full` are the labels; a kind `eroded` may hold labels whose object
    # borders are ignored, for the test score: without one they are made from the full ones.
    sources: ClassVar[Mapping[str, Source]] = {
        "image": Source(("images",), "{tile}.tif"),
        "infrared": Source(("infrared",), "{tile}.tif"),
        "lidar": Source(("lidar",), "{tile}.tif"),
        "radar": Source(("radar",), "{tile}.tif"),
        "full": Source(("labels",), "{tile}.png"),
    }

    # Modality -> (source, channel) of each of its channels, counted from 0. Leave out what you do not have,
    # or choose at run time: --dataset-option 'modalities=[rgb, height]'. One to four can be run.
    layers: ClassVar[Mapping[str, tuple[Layer, ...]]] = {
        "rgb": (Layer((("image", 0), ("image", 1), ("image", 2)), kind="optical"),),
        "nir": (Layer((("infrared", 0),), kind="optical", stored="uint16"),),
        "height": (Layer((("lidar", 0),), kind="height", stored="float"),),
        "sar": (Layer((("radar", 0), ("radar", 1)), stored="float"),),
    }

    # Tiles by role, the first split is the default; --split-file takes another one.
    splits: ClassVar[Mapping[str, Split]] = {
        "standard": Split(train=("north_1", "north_2"), val=("east_1",), test=("south_1", "south_2")),
    }
