"""CoLoss: beside the losses of every segmentation head (`blocks.losses`), those of the generation.

Axes: B batch, C channel, H W pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_baselines.blocks.gan import (
    ADVERSARIAL_WEIGHT,
    RECONSTRUCTION_WEIGHT,
    adversarial_losses,
)
from mmbench_baselines.gemmnet.presets import Variant


def generation_terms(
    discriminator: nn.Module, given: Tensor, real: Tensor, fake: Tensor, variant: Variant
) -> dict[str, Tensor]:
    """Return the weighted terms of one generator and its discriminator.

    Args:
        discriminator: (condition, candidate) -> logits.
        given: (B, C, H, W), the source of the generation.
        real: (B, C', H, W), the real image of the generated modality.
        fake: (B, C', H, W), the generated image.
        variant: For `condition` and `adversarial`.
    """
    condition = real if variant.condition == "target" else given
    judged, fooled = adversarial_losses(
        discriminator, condition, real, fake, freeze=variant.adversarial == "separate"
    )
    return {
        "discriminator": ADVERSARIAL_WEIGHT * judged,
        "adversarial": ADVERSARIAL_WEIGHT * fooled,
        "reconstruction": RECONSTRUCTION_WEIGHT * F.l1_loss(fake, real),
    }
