"""The choices in which mmFormer as published differs from mmFormer as meant, and their named combinations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mmbench_baselines.blocks.hybrid import TokenLayout
from mmbench_baselines.blocks.losses import SegmentationChoices
from mmbench_baselines.blocks.transformer import DropoutSites

AbsentTokens = Literal["attend", "skip"]
ModalitySupervision = Literal["present", "all"]


@dataclass(frozen=True)
class Variant(SegmentationChoices):
    """One value for each choice, those of the losses among them; the defaults are the shipped method.

    Attributes:
        layout: How the tokens of all modalities become a map again; see `HybridFusion`.
        tokens: What becomes of an absent modality's tokens: "attend" sets them to zero before the positions
            are added, so that they attend and are attended to; "skip" leaves them out of the attention across
            modalities. The published code attends, and so does every preset: "skip" is another model.
        modality_supervision: Samples from which a modality's own segmentation learns: those where it is
            present, or all, for which the training needs the hidden content.
        dropout_sites: Where dropout acts in the attention branch; see `TransformerParams`.
    """

    layout: TokenLayout = "stacked"
    tokens: AbsentTokens = "attend"
    modality_supervision: ModalitySupervision = "present"
    dropout_sites: DropoutSites = "branch"


_RELEASED = Variant(
    layout="released",
    modality_supervision="all",
    interp="prob",
    clamp=True,
    dice_classes="all",
    dropout_sites="all",
)
PRESETS: dict[str, Variant] = {
    "default": Variant(),
    "golden_corrected": replace(_RELEASED, layout="stacked"),
    "released": _RELEASED,
}
