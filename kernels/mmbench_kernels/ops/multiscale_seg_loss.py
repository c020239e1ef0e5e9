"""Class-weighted cross-entropy and soft Dice of several heads at several resolutions.

Axes: G head, B batch, K class, H W pixels of the target, h w pixels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mmbench_kernels._availability import Backend, choose_backend
from mmbench_kernels.ops import _seg_loss_bands
from mmbench_kernels.ops._multiscale_seg_loss_triton import limits, multiscale_seg_loss_triton
from mmbench_kernels.ops._seg_loss_operator import Passes, code_dtype, declare_loss
from mmbench_kernels.ops._seg_loss_terms import class_weights, counted, refuse_unknown_classes

DiceClasses = Literal["present", "all"]
Interp = Literal["logit", "prob"]


def multiscale_seg_loss(
    logits: Sequence[Tensor],
    target: Tensor,
    *,
    clamp: tuple[float, float] | None = None,
    dice_eps: float = 1e-7,
    dice_classes: DiceClasses = "present",
    interp: Interp = "logit",
    align_corners: bool = False,
    ignore_index: int = 255,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Return the sum over heads of CE + Dice, and the two terms of each head.

    With p the softmax of a head at the size of the target, y the one-hot target, w the weight of a class in a
    sample, 1 - n_class / n_valid, and V the number of valid pixels of the batch:
    CE = -1/V Σ w y log p and Dice = mean over classes of 1 - 2 Σ p y / (Σ p + Σ y + dice_eps).
    Ignored pixels drop out of every sum; a batch without valid pixels gives 0.

    Backward computes p again: what is kept is the logits, one byte a pixel of the target, and the sums.

    Args:
        logits: One (B, K, h, w) a head, of one dtype and any strides; h, w may differ from the target's.
        target: (B, H, W) int64 or uint8 in [0, K) or ignore_index.
        clamp: Range to which p is clamped inside the logarithm (no gradient outside), or None.
        dice_eps: Added to the denominator of Dice.
        dice_classes: "present" averages Dice over the classes that occur in the batch, "all" over K.
        interp: "logit" interpolates logits bilinearly, then softmax; "prob" interpolates probabilities.
        align_corners: Of the interpolation.
        ignore_index: Target value of pixels that count nowhere.
        backend: "auto" takes Triton's kernels where they can run, "torch" never, "triton" always.

    Returns:
        The scalar sum, and (G, 2) with CE and Dice of each head, in float32 or wider.

    Raises:
        ValueError: If shapes do not fit, an option is unknown, or the target holds a class outside [0, K).
            Triton's kernels on CUDA do not wait to see it: the device prints the reason, and the next call
            that waits for the device raises a RuntimeError.
        TypeError: If dtypes or devices are mixed.
        RuntimeError: If the backend cannot run, with the reasons.
    """
    _check(logits, target, interp, dice_classes)
    path = choose_backend("multiscale_seg_loss", backend, *logits, limits=limits(logits, target))
    operator = multiscale_seg_loss_triton if path == "triton" else _forward
    parts = operator(
        list(logits),
        target,
        None if clamp is None else list(clamp),
        dice_eps,
        dice_classes == "all",
        interp == "prob",
        align_corners,
        ignore_index,
    )[0]
    return parts.sum(), parts


def _check(logits: Sequence[Tensor], target: Tensor, interp: str, dice_classes: str) -> None:
    """Raise what the docstring promises, as far as shapes and dtypes tell."""
    if not logits:
        raise ValueError("multiscale_seg_loss: logits is empty, expected one tensor a head")
    if interp not in ("logit", "prob"):
        raise ValueError(f"multiscale_seg_loss: interp is {interp!r}, expected 'logit' or 'prob'")
    if dice_classes not in ("present", "all"):
        raise ValueError(
            f"multiscale_seg_loss: dice_classes is {dice_classes!r}, expected 'present' or 'all'"
        )
    if target.ndim != 3 or target.dtype not in (torch.int64, torch.uint8):
        raise ValueError(
            f"multiscale_seg_loss: target is {tuple(target.shape)} {target.dtype}, "
            "expected (B, H, W) torch.int64 or torch.uint8"
        )
    num_classes = logits[0].shape[1] if logits[0].ndim == 4 else 0
    for index, head in enumerate(logits):
        if head.ndim != 4 or head.shape[:2] != (target.shape[0], num_classes):
            raise ValueError(
                f"multiscale_seg_loss: logits[{index}] is {tuple(head.shape)}, "
                f"expected ({target.shape[0]}, {num_classes}, h, w)"
            )
        if head.dtype != logits[0].dtype or head.device != target.device:
            raise TypeError(
                f"multiscale_seg_loss: logits[{index}] is {head.dtype} on {head.device}, expected "
                f"{logits[0].dtype} as logits[0], on {target.device} as target"
            )


def _encode(target: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return the class of each pixel and the number of valid pixels of each class, see `Passes.encode`.

    Raises:
        ValueError: If the target holds a class outside [0, num_classes).
    """
    labels = target.long()
    valid = labels != ignore_index
    classes = torch.where(valid, labels, 0)
    if classes.numel():
        low, high = (int(bound) for bound in classes.aminmax())
        if low < 0 or high >= num_classes:
            refuse_unknown_classes(target, num_classes, ignore_index)
    codes = torch.where(valid, classes, num_classes).to(code_dtype(num_classes))
    return codes, _count(codes, num_classes)


def _count(codes: Tensor, num_classes: int) -> Tensor:
    """Return the number of valid pixels of each class, (B, K) float64."""
    batch = len(codes)
    # Samples take turns in one row of bins, K + 1 each; the last counts the ignored.
    offset = torch.arange(batch, device=codes.device)[:, None] * (num_classes + 1)
    bins = torch.bincount((codes.flatten(1) + offset).flatten(), minlength=batch * (num_classes + 1))
    return bins.view(batch, num_classes + 1)[:, :num_classes].double()


_forward = declare_loss(
    "multiscale_seg_loss",
    Passes(_encode, _seg_loss_bands.sum_over_pixels, _seg_loss_bands.differentiate),
)


def multiscale_seg_loss_reference(
    logits: Sequence[Tensor],
    target: Tensor,
    *,
    clamp: tuple[float, float] | None = None,
    dice_eps: float = 1e-7,
    dice_classes: DiceClasses = "present",
    interp: Interp = "logit",
    align_corners: bool = False,
    ignore_index: int = 255,
) -> tuple[Tensor, Tensor]:
    """Return the same as `multiscale_seg_loss`, written as its definition and differentiated by autograd.

    The oracle of the tests; arguments and results as there.
    """
    _check(logits, target, interp, dice_classes)
    num_classes = logits[0].shape[1]
    codes, counts = _encode(target, num_classes, ignore_index)
    codes = codes.long()
    valid = codes < num_classes
    classes = torch.where(valid, codes, 0)
    dtype = torch.promote_types(logits[0].dtype, torch.float32)
    counts = counts.to(dtype)
    pixel_weight = class_weights(counts).gather(1, classes.flatten(1)).view_as(classes) * valid
    one_hot = (codes[:, None] == torch.arange(num_classes, device=codes.device)[:, None, None]).to(dtype)
    parts = []
    for head in logits:
        log_p, p = _log_probabilities(head.to(dtype), target.shape[-2:], clamp, interp, align_corners)
        picked = log_p.gather(1, classes[:, None]).squeeze(1)
        # where, not multiplication: an ignored pixel of infinite loss must not become NaN.
        cross_entropy = -torch.where(valid, picked * pixel_weight, 0).sum() / valid.sum().clamp(min=1)
        overlap = (p * one_hot).sum(dim=(0, 2, 3))
        total = (p * valid[:, None]).sum(dim=(0, 2, 3)) + counts.sum(0)
        dice = ((1 - 2 * overlap / (total + dice_eps)) * counted(counts, dice_classes == "all")).sum()
        parts.append(torch.stack((cross_entropy, dice)))
    table = torch.stack(parts)
    return table.sum(), table


def _log_probabilities(
    head: Tensor, size: torch.Size, clamp: tuple[float, float] | None, interp: str, align_corners: bool
) -> tuple[Tensor, Tensor]:
    """Return log p for the cross-entropy and p for Dice, both (B, K, H, W)."""
    x = torch.softmax(head, dim=1) if interp == "prob" else head
    if x.shape[-2:] != size:
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)
    if interp == "prob":
        return x.clamp(*(clamp or (torch.finfo(x.dtype).tiny, None))).log(), x
    log_p = torch.log_softmax(x, dim=1)
    p = log_p.exp()
    return p.clamp(*clamp).log() if clamp else log_p, p
