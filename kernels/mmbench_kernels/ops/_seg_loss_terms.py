"""What the loss is made of besides the sums over pixels: weights, means, and their gradient.

Axes: G head, B batch, K class, H W pixels of the target.
"""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor


def class_weights(counts: Tensor) -> Tensor:
    """Return the weight w of each class in each sample, (B, K), from its number of pixels, (B, K)."""
    return 1 - counts / counts.sum(1, keepdim=True).clamp(min=1)


def counted(counts: Tensor, dice_all: bool) -> Tensor:
    """Return 1 for the classes in the mean of Dice, divided by their number, (K,)."""
    truth = counts.sum(0)
    chosen = truth.sum().expand_as(truth) > 0 if dice_all else truth > 0
    return chosen.to(counts.dtype) / chosen.sum().clamp(min=1)


def combine(entropy: Tensor, sums: Tensor, counts: Tensor, dice_eps: float, dice_all: bool) -> Tensor:
    """Return CE and Dice of each head, (G, 2).

    Args:
        entropy: (G,), -Σ w log p of the target's class.
        sums: (G, 2, K), Σ p y and Σ p.
        counts: (B, K), valid pixels of each class.
        dice_eps: Added to the denominator of Dice.
        dice_all: Whether the mean of Dice is over all K classes.
    """
    score = 2 * sums[:, 0] / (sums[:, 1] + counts.sum(0) + dice_eps)
    dice = ((1 - score) * counted(counts, dice_all)).sum(1)
    return torch.stack((entropy / counts.sum().clamp(min=1), dice), dim=1)


def differentiate(
    gradient: Tensor, sums: Tensor, counts: Tensor, dice_eps: float, dice_all: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradient to each pixel's terms from that of CE and Dice, (G, 2).

    Returns:
        (G, B, K), to -log p of the target's class, by class of the target, and (G, 2, K), to Σ p y and Σ p.
    """
    entropy, dice = gradient.double()[:, :, None].unbind(1)  # (G, 1)
    scale = entropy[:, :, None] * (class_weights(counts) / counts.sum().clamp(min=1))
    denominator = sums[:, 1] + counts.sum(0) + dice_eps
    to_overlap = -2 * dice * counted(counts, dice_all) / denominator
    return scale, torch.stack((to_overlap, -to_overlap * sums[:, 0] / denominator), dim=1)


def refuse_unknown_classes(target: Tensor, num_classes: int, ignore_index: int) -> NoReturn:
    """Raise the error that names the classes of a target outside [0, K)."""
    wrong = sorted(set(target.flatten().tolist()) - {*range(num_classes), ignore_index})
    raise ValueError(f"multiscale_seg_loss: target holds {wrong}, expected 0..{num_classes - 1}")
