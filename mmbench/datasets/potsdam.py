"""ISPRS Potsdam: 38 tiles of 6000 x 6000 pixels at 5 cm, four optical channels and height."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from mmbench.datasets._dataset import Split
from mmbench.datasets._isprs import HEIGHT_SHORTFALL_PX, IsprsDataset
from mmbench.datasets._rasters.folders import Source
from mmbench.datasets._rasters.layers import Layer
from mmbench.datasets._splits import hold_out

_WRONG_LABELS = "7_10"


class Potsdam(IsprsDataset):
    """ISPRS 2D Semantic Labeling, Potsdam.

    True infrared-red-green pictures are channels 3, 0, 1 of the four-channel mosaic: the mosaic that is named
    IRRG holds near infrared, green and blue. Where the four-channel mosaic is absent, near infrared comes
    from the one named IRRG and the rest from the RGB one.
    """

    title = "ISPRS Potsdam"
    homepage = "https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/2d-sem-label-potsdam.aspx"
    request = f"""\
The data must be requested from ISPRS; how, says
  {homepage}
Unpack the archives into one folder, the value of `root` or $MMBENCH_DATA/potsdam:
  1_DSM_normalisation/                  dsm_potsdam_02_10_normalized_lastools.jpg   (height: ndsm)
  1_DSM/                                dsm_potsdam_02_10.tif                       (height: dsm)
  4_Ortho_RGBIR/                        top_potsdam_2_10_RGBIR.tif
  5_Labels_for_participants/            top_potsdam_2_10_label.tif                  (train and val tiles)
  5_Labels_all_noBoundary/              top_potsdam_2_13_label_noBoundary.tif       (test tiles)
One height is enough. 2_Ortho_RGB and 3_Ortho_IRRG together can stand for 4_Ortho_RGBIR; 2_Ortho_RGB alone
serves optical: rgb. Labels are also looked for in 5_Labels_all and 5_Labels_for_participants_no_Boundary.
Only the tiles of the chosen split are needed; doubled folders and ids without padding are understood."""
    gsd_m = 0.05
    splits: ClassVar[Mapping[str, Split]] = {
        "official": hold_out(
            train="2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 "
            "6_7 6_8 6_9 6_10 6_11 6_12 7_7 7_8 7_9 7_10 7_11 7_12",
            val="2_10 6_9",
            test="2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13",
        ),
        "ssrs": hold_out(
            train="6_10 7_10 2_12 3_11 2_10 7_8 5_10 3_12 5_12 7_11 7_9 6_9 7_7 4_12 6_8 6_12 6_7 4_11",
            val="2_12 6_9",
            test="4_10 5_11 2_11 3_10 6_11 7_12",
        ),
    }

    name = "potsdam"
    sources: ClassVar[Mapping[str, Source]] = {
        "rgbir": Source(
            ("4_Ortho_RGBIR", ""),
            "top_potsdam_{tile}_RGBIR.tif",
            note="In its place 2_Ortho_RGB with 3_Ortho_IRRG would do; 3_Ortho_IRRG alone holds near "
            "infrared, green and blue but no red",
        ),
        "rgb": Source(("2_Ortho_RGB", ""), "top_potsdam_{tile}_RGB.tif"),
        "nirgb": Source(("3_Ortho_IRRG", ""), "top_potsdam_{tile}_IRRG.tif"),
        "ndsm_lastools": Source(
            ("1_DSM_normalisation", "1_DSM_normalisation*", ""),
            "dsm_potsdam_{padded}_normalized_lastools.jpg",
            note="The option height: dsm needs 1_DSM instead",
        ),
        "ndsm_ownapproach": Source(
            ("1_DSM_normalisation", "1_DSM_normalisation*", ""),
            "dsm_potsdam_{padded}_normalized_ownapproach.jpg",
        ),
        "dsm": Source(("1_DSM", ""), "dsm_potsdam_{padded}.tif"),
        # The participants' copies come first: among all 38, those of 4_12 and 6_7 are damaged.
        "full": Source(("5_Labels_for_participants", "5_Labels_all", ""), "top_potsdam_{tile}_label.tif"),
        "eroded": Source(
            ("5_Labels_for_participants_no_Boundary", "5_Labels_all_noBoundary", "5_Labels*no*Boundary", ""),
            "top_potsdam_{tile}_label_noBoundary.tif",
            note="Test tiles are scored on eroded labels",
        ),
    }
    layers: ClassVar[Mapping[str, tuple[Layer, ...]]] = {
        "irrg": (
            Layer((("rgbir", 3), ("rgbir", 0), ("rgbir", 1)), kind="optical"),
            Layer((("nirgb", 0), ("rgb", 0), ("rgb", 1)), kind="optical"),
        ),
        "rgb": (
            Layer((("rgbir", 0), ("rgbir", 1), ("rgbir", 2)), kind="optical"),
            Layer((("rgb", 0), ("rgb", 1), ("rgb", 2)), kind="optical"),
        ),
        "ndsm": tuple(
            Layer(((source, 0),), kind="height", steps_per_unit=10, shortfall_px=HEIGHT_SHORTFALL_PX)
            for source in ("ndsm_lastools", "ndsm_ownapproach")
        ),
        "dsm": (
            Layer(
                (("dsm", 0),), kind="height", stored="float", surface=True, shortfall_px=HEIGHT_SHORTFALL_PX
            ),
        ),
    }
    fake_tiles = ("2_10", "6_9", "2_13")

    def __init__(
        self,
        *,
        root: Path | None = None,
        split: str | Path | None = None,
        optical: Literal["irrg", "rgb"] = "irrg",
        height: Literal["ndsm", "dsm"] = "ndsm",
        label_mode: Literal["six-class", "five-class"] = "six-class",
        keep_7_10: bool = False,
    ) -> None:
        """Find the files of the split's tiles; nothing is read.

        Args:
            root: The data folder; None is $MMBENCH_DATA/potsdam, else `potsdam` in the user's data folder.
            split: "official", "ssrs" (18 and 6 tiles), or a file for `read_split_file`.
            optical: Infrared, red, green or red, green, blue.
            height: "ndsm" is the height that the data bring, above ground and cut off at 25.5 m; "dsm" is the
                surface model less an estimate of the ground (see `mmbench.datasets._rasters.ground`).
            label_mode: "six-class" trains clutter and leaves it out of the means; "five-class" ignores it, as
                GEMMNet does.
            keep_7_10: Keep the tile 7_10, whose labels have errors.

        Raises:
            InvalidRecipeError: If an option or the split file is wrong.
        """
        dropped = () if keep_7_10 else (_WRONG_LABELS,)
        super().__init__(
            root=root, split=split, optical=optical, height=height, label_mode=label_mode, dropped=dropped
        )
        self.keep_7_10 = keep_7_10

    @property
    def identity(self) -> dict[str, Any]:
        """Options, the sources in use, the ground estimate and the reader's version."""
        return {**super().identity, "keep_7_10": self.keep_7_10}
