"""Class-weighted cross-entropy and soft Dice of several heads at several resolutions.

Axes: B batch, K class, H W pixels of the target, h w pixels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def multiscale_seg_loss(
    logits: Sequence[Tensor],
    target: Tensor,
    *,
    clamp: tuple[float, float] | None = None,
    dice_eps: float = 1e-7,
    dice_classes: Literal["present", "all"] = "present",
    interp: Literal["logit", "prob"] = "logit",
    align_corners: bool = False,
    ignore_index: int = 255,
) -> tuple[Tensor, Tensor]:
    """Return the sum over heads of CE + Dice, and the two terms of each head.

    With p the softmax of a head at the size of the target, y the one-hot target, w the weight of a class in a
    sample, 1 - n_class / n_valid, and V the number of valid pixels of the batch:
    CE = -1/V Σ w y log p and Dice = mean over classes of 1 - 2 Σ p y / (Σ p + Σ y + dice_eps).
    Ignored pixels drop out of every sum; a batch without valid pixels gives 0.

    Args:
        logits: One (B, K, h, w) a head; h, w may be smaller than the target's.
        target: (B, H, W) int64 in [0, K) or ignore_index.
        clamp: Range to which p is clamped inside the logarithm (no gradient outside), or None.
        dice_eps: Added to the denominator of Dice.
        dice_classes: "present" averages Dice over the classes that occur in the batch, "all" over K.
        interp: "logit" interpolates logits bilinearly, then softmax; "prob" interpolates probabilities.
        align_corners: Of the interpolation.
        ignore_index: Target value of pixels that count nowhere.

    Returns:
        The scalar sum, and (heads, 2) with CE and Dice of each head.

    Raises:
        ValueError: If shapes do not fit or the target holds a class outside [0, K).
    """
    if not logits:
        raise ValueError("multiscale_seg_loss: logits is empty, expected one tensor a head")
    if target.ndim != 3 or target.dtype != torch.int64:
        raise ValueError(
            f"multiscale_seg_loss: target is {tuple(target.shape)} {target.dtype}, "
            "expected (B, H, W) torch.int64"
        )
    num_classes = logits[0].shape[1] if logits[0].ndim == 4 else 0
    for index, head in enumerate(logits):
        if head.ndim != 4 or head.shape[:2] != (target.shape[0], num_classes):
            raise ValueError(
                f"multiscale_seg_loss: logits[{index}] is {tuple(head.shape)}, "
                f"expected ({target.shape[0]}, {num_classes}, h, w)"
            )
    valid = target != ignore_index
    classes = torch.where(valid, target, 0)
    if bool(((classes < 0) | (classes >= num_classes)).any()):
        wrong = sorted(set(classes.flatten().tolist()) - set(range(num_classes)))
        raise ValueError(f"multiscale_seg_loss: target holds {wrong}, expected 0..{num_classes - 1}")
    # Half precision cannot hold pixel counts: float16 ends at 65504, bfloat16 has three digits.
    dtype = torch.promote_types(logits[0].dtype, torch.float32)
    counts = _class_counts(classes, valid, num_classes).to(dtype)  # (B, K)
    weights = 1 - counts / counts.sum(1, keepdim=True).clamp(min=1)
    pixel_weight = weights.gather(1, classes.flatten(1)).view_as(classes) * valid  # (B, H, W)
    one_hot = valid.new_zeros(len(classes), num_classes, *classes.shape[1:], dtype=dtype)
    one_hot.scatter_(1, classes[:, None], valid[:, None].to(dtype))  # (B, K, H, W), zero where ignored
    parts = []
    for head in logits:
        log_p, p = _log_probabilities(head, target.shape[-2:], clamp, interp, align_corners)
        picked = log_p.gather(1, classes[:, None]).squeeze(1)
        # where, not multiplication: an ignored pixel of infinite loss must not become NaN.
        cross_entropy = -torch.where(valid, picked * pixel_weight, 0).sum() / valid.sum().clamp(min=1)
        dice = _dice(p, one_hot, valid, counts.sum(0), dice_eps, dice_classes)
        parts.append(torch.stack((cross_entropy, dice)))
    table = torch.stack(parts)
    return table.sum(), table


def _class_counts(classes: Tensor, valid: Tensor, num_classes: int) -> Tensor:
    """Return the number of valid pixels of each class, (B, K) int64."""
    counts = torch.zeros(classes.shape[0], num_classes, dtype=torch.int64, device=classes.device)
    return counts.scatter_add_(1, classes.flatten(1), valid.flatten(1).long())


def _log_probabilities(
    head: Tensor,
    size: torch.Size,
    clamp: tuple[float, float] | None,
    interp: str,
    align_corners: bool,
) -> tuple[Tensor, Tensor]:
    """Return log p for the cross-entropy and p for Dice, both (B, K, H, W), in float32 or wider."""
    head = head.float() if head.dtype in (torch.float16, torch.bfloat16) else head
    same = head.shape[-2:] == size
    if interp == "prob":
        p = torch.softmax(head, dim=1)
        p = p if same else F.interpolate(p, size=size, mode="bilinear", align_corners=align_corners)
        tiny = torch.finfo(p.dtype).tiny
        return p.clamp(*clamp).log() if clamp else p.clamp(min=tiny).log(), p
    head = head if same else F.interpolate(head, size=size, mode="bilinear", align_corners=align_corners)
    log_p = torch.log_softmax(head, dim=1)
    p = log_p.exp()
    return p.clamp(*clamp).log() if clamp else log_p, p


def _dice(p: Tensor, one_hot: Tensor, valid: Tensor, truth: Tensor, eps: float, dice_classes: str) -> Tensor:
    """Return the soft Dice loss over the batch's valid pixels; truth is (K,), the pixels of each class."""
    # Not index_add, which adds one by one: 1e-5 of error in float32, and on CUDA in any order.
    overlap = (p * one_hot).sum(dim=(0, 2, 3))
    score = 2 * overlap / ((p * valid[:, None]).sum(dim=(0, 2, 3)) + truth + eps)
    counted = truth > 0 if dice_classes == "present" else truth.sum().expand_as(truth) > 0
    return ((1 - score) * counted).sum() / counted.sum().clamp(min=1)
