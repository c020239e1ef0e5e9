"""ISPRS Vaihingen: 33 tiles of about 2000 x 2500 pixels at 9 cm, infrared-red-green and height."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from mmbench.datasets._dataset import Split
from mmbench.datasets._isprs import HEIGHT_SHORTFALL_PX, IsprsDataset
from mmbench.datasets._rasters.folders import Source
from mmbench.datasets._rasters.layers import Layer
from mmbench.datasets._splits import hold_out


class Vaihingen(IsprsDataset):
    """ISPRS 2D Semantic Labeling, Vaihingen."""

    title = "ISPRS Vaihingen"
    homepage = "https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/2d-sem-label-vaihingen.aspx"
    request = f"""\
The data must be requested from ISPRS; how, says
  {homepage}
Unpack the archives into one folder, the value of `root` or $MMBENCH_DATA/vaihingen:
  top/                                  top_mosaic_09cm_area1.tif
  ndsm/                                 dsm_09cm_matching_area1_normalized.jpg   (height: ndsm)
  dsm/                                  dsm_09cm_matching_area1.tif              (height: dsm)
  gts_for_participants/                 top_mosaic_09cm_area1.tif                (train and val tiles)
  ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE/
                                        top_mosaic_09cm_area2_noBoundary.tif     (test tiles)
One height is enough. The normalised heights are a separate download (M. Gerke). The archives whose names
end in ground_truth_COMPLETE and ground_truth_eroded_COMPLETE bring no folder: unpack each into a folder of
its name. Only the tiles of the chosen split are needed; doubled folders and the old spelling `labeing` are
understood."""
    gsd_m = 0.09
    splits: ClassVar[Mapping[str, Split]] = {
        "official": hold_out(
            train="1 3 5 7 11 13 15 17 21 23 26 28 30 32 34 37",
            val="30 37",
            test="2 4 6 8 10 12 14 16 20 22 24 27 29 31 33 35 38",
        ),
        "ssrs": hold_out(train="1 3 23 26 7 11 13 28 17 32 34 37", val="34 37", test="5 21 15 30"),
    }

    name = "vaihingen"
    sources: ClassVar[Mapping[str, Source]] = {
        "top": Source(("top",), "top_mosaic_09cm_area{tile}.tif"),
        "dsm": Source(("dsm", ""), "dsm_09cm_matching_area{tile}.tif"),
        "ndsm": Source(
            ("ndsm", "*ndsm*", "*normali*", ""),
            "dsm_09cm_matching_area{tile}_normalized.jpg",
            note="The normalised heights are a separate download; the option height: dsm needs dsm/ instead",
        ),
        # A label is named like the picture it belongs to, so only the folder tells them apart.
        "full": Source(
            (
                "gts_for_participants",
                "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE",
                "*complete*",
                "*ground_truth*",
                "gts*",
                "ISPRS_semantic_labe*ing_Vaihingen",
                "",
            ),
            "top_mosaic_09cm_area{tile}.tif",
        ),
        "eroded": Source(
            (
                "gts_eroded_for_participants",
                "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE",
                "*eroded*",
                "*complete*",
                "*ground_truth*",
                "gts*",
                "ISPRS_semantic_labe*ing_Vaihingen",
                "",
            ),
            "top_mosaic_09cm_area{tile}_noBoundary.tif",
            note="Test tiles are scored on eroded labels",
        ),
    }
    layers: ClassVar[Mapping[str, tuple[Layer, ...]]] = {
        "irrg": (Layer((("top", 0), ("top", 1), ("top", 2)), kind="optical"),),
        "ndsm": (Layer((("ndsm", 0),), kind="height", steps_per_unit=10, shortfall_px=HEIGHT_SHORTFALL_PX),),
        "dsm": (
            Layer(
                (("dsm", 0),), kind="height", stored="float", surface=True, shortfall_px=HEIGHT_SHORTFALL_PX
            ),
        ),
    }
    fake_tiles = ("1", "30", "2")

    def __init__(
        self,
        *,
        root: Path | None = None,
        split: str | Path | None = None,
        optical: Literal["irrg"] = "irrg",
        height: Literal["ndsm", "dsm"] = "ndsm",
        label_mode: Literal["six-class", "five-class"] = "six-class",
    ) -> None:
        """Find the files of the split's tiles; nothing is read.

        Args:
            root: The data folder; None is $MMBENCH_DATA/vaihingen, else `vaihingen` in the user's data
                folder.
            split: "official", "ssrs" (12 and 4 tiles), or a file for `read_split_file`.
            optical: Infrared, red, green: this dataset has no blue.
            height: "ndsm" is the height above ground that was published apart; "dsm" is the surface model
                less an estimate of the ground (see `mmbench.datasets._rasters.ground`).
            label_mode: "six-class" trains clutter and leaves it out of the means; "five-class" ignores it, as
                GEMMNet does.

        Raises:
            InvalidRecipeError: If an option or the split file is wrong.
        """
        super().__init__(root=root, split=split, optical=optical, height=height, label_mode=label_mode)
