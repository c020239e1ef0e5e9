"""The loss of the segmentation heads, and the choices in it.

Axes: B batch, H W pixels, K class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mmbench_kernels import multiscale_seg_loss

Interp = Literal["logit", "prob"]
DiceClasses = Literal["present", "all"]

_CLAMP = (0.005, 1.0)


@dataclass(frozen=True)
class SegmentationChoices:
    """What the published losses do otherwise; the defaults are the shipped form.

    Attributes:
        interp: What of the coarse heads is brought to the size of the target: logits or probabilities.
        clamp: Whether the cross-entropy clamps probabilities to [0.005, 1].
        dice_classes: Classes in the mean of Dice: those in the batch, or all.
    """

    interp: Interp = "logit"
    clamp: bool = False
    dice_classes: DiceClasses = "present"


def segmentation_parts(
    heads: Mapping[str, Tensor], target: Tensor, choices: SegmentationChoices, *, ignore_index: int
) -> dict[str, Tensor]:
    """Return head -> (2,), its class-weighted cross-entropy and its soft Dice.

    Args:
        heads: Name -> logits (B, K, h, w), of any size.
        target: (B, H, W) int64 class index or ignore_index.
        choices: See there.
        ignore_index: Target value of pixels that count nowhere.
    """
    _, parts = multiscale_seg_loss(
        list(heads.values()),
        target,
        clamp=_CLAMP if choices.clamp else None,
        dice_classes=choices.dice_classes,
        interp=choices.interp,
        align_corners=True,
        ignore_index=ignore_index,
    )
    return dict(zip(heads, parts, strict=True))
