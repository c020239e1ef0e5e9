"""CoLoss: the losses of every segmentation head, and those of the generators and discriminators.

Axes: B batch, C channel, H W pixels, K class.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_baselines.gemmnet.presets import Variant
from mmbench_kernels import multiscale_seg_loss

ADVERSARIAL_WEIGHT = 0.05
"""Of the generators' adversarial term and of the discriminators' loss, beside a segmentation head's 1."""
RECONSTRUCTION_WEIGHT = 100 * ADVERSARIAL_WEIGHT
"""Of the mean absolute difference between generated and real image."""
_CLAMP = (0.005, 1.0)


def segmentation_parts(
    heads: Mapping[str, Tensor], target: Tensor, variant: Variant, *, ignore_index: int
) -> dict[str, Tensor]:
    """Return head -> (2,), its class-weighted cross-entropy and its soft Dice.

    Args:
        heads: Name -> logits (B, K, h, w), of any size.
        target: (B, H, W) int64 class index or ignore_index.
        variant: For `interp`, `clamp` and `dice_classes`.
        ignore_index: Target value of pixels that count nowhere.
    """
    _, parts = multiscale_seg_loss(
        list(heads.values()),
        target,
        clamp=_CLAMP if variant.clamp else None,
        dice_classes=variant.dice_classes,
        interp=variant.interp,
        align_corners=True,
        ignore_index=ignore_index,
    )
    return dict(zip(heads, parts, strict=True))


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
    judged = discriminator_loss(discriminator, condition, real, fake)
    fooled = adversarial_loss(discriminator, condition, fake, freeze=variant.adversarial == "separate")
    return {
        "discriminator": ADVERSARIAL_WEIGHT * judged,
        "adversarial": ADVERSARIAL_WEIGHT * fooled,
        "reconstruction": RECONSTRUCTION_WEIGHT * F.l1_loss(fake, real),
    }


def discriminator_loss(discriminator: nn.Module, condition: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean of the two binary cross-entropies; the generator gets no gradient from it.

    Args:
        discriminator: (condition, candidate) -> logits.
        condition: (B, C, H, W).
        real: (B, C', H, W) real images.
        fake: (B, C', H, W) generated ones.
    """
    on_real = _cross_entropy(discriminator(condition, real), is_real=True)
    on_fake = _cross_entropy(discriminator(condition, fake.detach()), is_real=False)
    return (on_real + on_fake) / 2


def adversarial_loss(discriminator: nn.Module, condition: Tensor, fake: Tensor, *, freeze: bool) -> Tensor:
    """Return the binary cross-entropy against "real" that the generator minimises.

    Args:
        discriminator: (condition, candidate) -> logits.
        condition: (B, C, H, W).
        fake: (B, C', H, W) generated images.
        freeze: Whether the discriminator's parameters are kept out of the gradient.
    """
    if not freeze:
        return _cross_entropy(discriminator(condition, fake), is_real=True)
    # Detached parameters instead of requires_grad: nothing to restore, and the other term keeps its graph.
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    logits: Tensor = torch.func.functional_call(discriminator, frozen, (condition, fake))
    return _cross_entropy(logits, is_real=True)


def _cross_entropy(logits: Tensor, *, is_real: bool) -> Tensor:
    """Return the mean binary cross-entropy of patch logits against one answer."""
    answer = torch.ones_like(logits) if is_real else torch.zeros_like(logits)
    return F.binary_cross_entropy_with_logits(logits, answer)
