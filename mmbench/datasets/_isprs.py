"""What the ISPRS datasets share: classes, options, spellings, and what to say when the data are not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from mmbench.datasets._rasters.dataset import RasterDataset
from mmbench.datasets._rasters.folders import plain_id
from mmbench.datasets._rasters.labels import Colour
from mmbench.errors import InvalidRecipeError

_CLASS_COLOURS: dict[str, Colour] = {
    "impervious": (255, 255, 255),
    "building": (0, 0, 255),
    "low vegetation": (0, 255, 255),
    "tree": (0, 255, 0),
    "car": (255, 255, 0),
    "clutter": (255, 0, 0),
}
LABEL_MODES = ("six-class", "five-class")
HEIGHT_SHORTFALL_PX = 2
"""One true height file is a column short."""


class IsprsDataset(RasterDataset):
    """Reader of an ISPRS folder; a subclass brings names, sources, layers and splits."""

    licence = "ISPRS terms: on request from ISPRS, not to be passed on"
    classes = tuple(_CLASS_COLOURS)
    palette = tuple(_CLASS_COLOURS.values())
    scored_classes = (0, 1, 2, 3, 4)
    ignored_colours: ClassVar[Mapping[Any, tuple[Colour, ...]]] = {"eroded": ((0, 0, 0),)}

    label_advice = "Take the participants' copy of this label if there is one, else unpack it again"
    padded_ids = True

    fake_tiles: ClassVar[tuple[str, str, str]]
    """The train, val and test tile of a fake copy."""

    def __init__(
        self,
        *,
        root: Path | None,
        split: str | Path | None,
        optical: str,
        height: str,
        label_mode: str = "six-class",
        dropped: tuple[str, ...] = (),
    ) -> None:
        """Find the files of the split's tiles; nothing is read.

        Args:
            root: The data folder; None looks where `data_root` says.
            split: A named split, a split file, or None for the first named one.
            optical: Key of the optical modality.
            height: Key of the height modality.
            label_mode: "six-class": clutter is a class that is trained, but not in the means; "five-class":
                it is ignored, as GEMMNet does.
            dropped: Tiles left out of a named split.

        Raises:
            InvalidRecipeError: If an option has an unknown value.
        """
        self._require_option("optical", optical, ("irrg", "rgb"))
        self._require_option("height", height, ("ndsm", "dsm"))
        if label_mode not in LABEL_MODES:
            raise InvalidRecipeError(
                f"dataset {self.name!r}: label_mode is {label_mode!r}; expected {' or '.join(LABEL_MODES)}"
            )
        self.optical, self.height, self.label_mode = optical, height, label_mode
        if label_mode == "five-class":
            clutter = self.classes.index("clutter")
            ignored = self.palette[clutter]
            self.ignored_colours = {  # type: ignore[misc]  # this reader's, not every reader's
                labels: (*self.ignored_colours.get(labels, ()), ignored) for labels in ("full", "eroded")
            }
            self.classes, self.palette = self.classes[:clutter], self.palette[:clutter]  # type: ignore[misc]
        known = next(iter(self.splits.values())).tiles
        self._open(root, split, (optical, height), dropped=dropped, known=known, spelling=plain_id)

    @property
    def identity(self) -> dict[str, Any]:
        """Options, the sources in use, the ground estimate, the reader's version."""
        own = {"optical": self.optical, "height": self.height, "label_mode": self.label_mode}
        return {**super().identity, **own}

    @classmethod
    def fake(cls, root: Path) -> Self:
        """Write a three-tile copy with true names, formats and colours and return a reader of it."""
        from mmbench.datasets._synthesis import write_folder

        write_folder(cls, root, size=128, tiles=cls.fake_tiles)
        train, val, test = cls.fake_tiles
        split_file = root / "split.yaml"
        split_file.write_text(f"train: [{train}]\nval: [{val}]\ntest: [{test}]\n", encoding="utf-8")
        return cls(root=root, split=split_file)  # type: ignore[call-arg]  # subclasses default the others

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Say of each dataset how it is obtained."""
        super().__init_subclass__(**keywords)
        cls.obtain = f"It must be requested from ISPRS: see 'mmbench info {cls.name}'"

    def _require_option(self, option: str, value: str, known: tuple[str, ...]) -> None:
        """Refuse a modality that this dataset has not, or that is of another kind."""
        available = [key for key in known if key in self.layers]
        if value not in available:
            raise InvalidRecipeError(
                f"dataset {self.name!r}: {option} is {value!r}; expected {' or '.join(map(repr, available))}"
            )
