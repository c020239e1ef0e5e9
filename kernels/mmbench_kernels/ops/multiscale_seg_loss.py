"""Class-weighted cross-entropy and soft Dice of several heads at several resolutions.

Axes: G head, B batch, K class, H W pixels of the target, h w pixels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mmbench_kernels.ops import _registration, _seg_loss_bands
from mmbench_kernels.ops._registration import Backend
from mmbench_kernels.ops._seg_loss_bands import LossForm

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
        backend: "auto" or "torch"; "triton" raises until there is such a kernel.

    Returns:
        The scalar sum, and (G, 2) with CE and Dice of each head, in float32 or wider.

    Raises:
        ValueError: If shapes do not fit, an option is unknown, or the target holds a class outside [0, K).
        TypeError: If dtypes or devices are mixed.
        RuntimeError: If the backend cannot run.
    """
    _registration.check_backend("multiscale_seg_loss", backend)
    _check(logits, target, interp, dice_classes)
    parts = _forward(
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


def _encode(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Return (B, H, W) the class of each pixel, num_classes where ignored, in one byte where that holds them.

    Raises:
        ValueError: If the target holds a class outside [0, num_classes).
    """
    target = target.long()
    valid = target != ignore_index
    classes = torch.where(valid, target, 0)
    if classes.numel():
        low, high = (int(bound) for bound in classes.aminmax())
        if low < 0 or high >= num_classes:
            wrong = sorted(set(classes.flatten().tolist()) - set(range(num_classes)))
            raise ValueError(f"multiscale_seg_loss: target holds {wrong}, expected 0..{num_classes - 1}")
    return torch.where(valid, classes, num_classes).to(_code_dtype(num_classes))


def _code_dtype(num_classes: int) -> torch.dtype:
    """Return the smallest dtype for a class or "ignored"."""
    return torch.uint8 if num_classes < 256 else torch.int64


def _count(codes: Tensor, num_classes: int) -> Tensor:
    """Return the number of valid pixels of each class, (B, K) float64."""
    batch = len(codes)
    # Samples take turns in one row of bins, K + 1 each; the last counts the ignored.
    offset = torch.arange(batch, device=codes.device)[:, None] * (num_classes + 1)
    bins = torch.bincount((codes.flatten(1) + offset).flatten(), minlength=batch * (num_classes + 1))
    return bins.view(batch, num_classes + 1)[:, :num_classes].double()


def _class_weights(counts: Tensor) -> Tensor:
    """Return w of each sample, (B, K), from its counts."""
    return 1 - counts / counts.sum(1, keepdim=True).clamp(min=1)


def _counted(counts: Tensor, dice_all: bool) -> Tensor:
    """Return 1 for the classes in the mean of Dice, divided by their number, (K,)."""
    truth = counts.sum(0)
    counted = truth.sum().expand_as(truth) > 0 if dice_all else truth > 0
    return counted.to(counts.dtype) / counted.sum().clamp(min=1)


def _kernel(
    logits: list[Tensor],
    target: Tensor,
    clamp: list[float] | None,
    dice_eps: float,
    dice_all: bool,
    probabilities: bool,
    align_corners: bool,
    ignore_index: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return CE and Dice (G, 2), and for backward: sums (G, 2, K), counts (B, K), codes (B, H, W)."""
    num_classes = logits[0].shape[1]
    codes = _encode(target, num_classes, ignore_index)
    counts = _count(codes, num_classes)
    form = _form(clamp, probabilities, align_corners)
    entropy, sums = _seg_loss_bands.sum_over_pixels(logits, codes, _class_weights(counts), form)
    score = 2 * sums[:, 0] / (sums[:, 1] + counts.sum(0) + dice_eps)
    dice = ((1 - score) * _counted(counts, dice_all)).sum(1)
    parts = torch.stack((entropy / counts.sum().clamp(min=1), dice), dim=1)
    return parts.to(torch.promote_types(logits[0].dtype, torch.float32)), sums, counts, codes


def _fake(
    logits: list[Tensor], target: Tensor, *options: Any, **named: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what `_kernel` does, in shape only."""
    heads, (batch, num_classes) = len(logits), logits[0].shape[:2]
    return (
        target.new_empty(heads, 2, dtype=torch.promote_types(logits[0].dtype, torch.float32)),
        target.new_empty(heads, 2, num_classes, dtype=torch.float64),
        target.new_empty(batch, num_classes, dtype=torch.float64),
        target.new_empty(target.shape, dtype=_code_dtype(num_classes)),
    )


def _backward_kernel(
    gradient: Tensor,
    logits: list[Tensor],
    sums: Tensor,
    counts: Tensor,
    codes: Tensor,
    clamp: list[float] | None,
    dice_eps: float,
    dice_all: bool,
    probabilities: bool,
    align_corners: bool,
) -> list[Tensor]:
    """Return the gradient of each head from that of CE and Dice (G, 2)."""
    entropy, dice = gradient.double()[:, :, None].unbind(1)  # (G, 1)
    scale = entropy[:, :, None] * (_class_weights(counts) / counts.sum().clamp(min=1))  # (G, B, K)
    denominator = sums[:, 1] + counts.sum(0) + dice_eps
    to_overlap = -2 * dice * _counted(counts, dice_all) / denominator
    slopes = torch.stack((to_overlap, -to_overlap * sums[:, 0] / denominator), dim=1)
    form = _form(clamp, probabilities, align_corners)
    return _seg_loss_bands.differentiate(logits, codes, scale, slopes, form)


def _backward_fake(gradient: Tensor, logits: list[Tensor], *options: Any, **named: Any) -> list[Tensor]:
    """Return what `_backward_kernel` does, in shape only."""
    return [head.new_empty(head.shape) for head in logits]


def _form(clamp: list[float] | None, probabilities: bool, align_corners: bool) -> LossForm:
    return LossForm(None if clamp is None else (clamp[0], clamp[1]), probabilities, align_corners)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, _, *ctx.options, _ = inputs
    ctx.save_for_backward(*logits, *output[1:])


def _backward(ctx: Any, gradient: Tensor, *unused: Any) -> tuple[Any, ...]:
    *logits, sums, counts, codes = ctx.saved_tensors
    gradients = _backward_op(gradient, logits, sums, counts, codes, *ctx.options)
    return (gradients, *(None,) * 7)


_OPTIONS = "float[]? clamp, float dice_eps, bool dice_all, bool probabilities, bool align_corners"
_backward_op = _registration.declare(
    "multiscale_seg_loss_backward(Tensor gradient, Tensor[] logits, Tensor sums, Tensor counts, "
    f"Tensor codes, {_OPTIONS}) -> Tensor[]",
    _backward_kernel,
    _backward_fake,
)
_forward = _registration.declare(
    f"multiscale_seg_loss(Tensor[] logits, Tensor target, {_OPTIONS}, int ignore_index)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _kernel,
    _fake,
    backward=_backward,
    setup_context=_setup_context,
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
    codes = _encode(target, num_classes, ignore_index).long()
    valid = codes < num_classes
    classes = torch.where(valid, codes, 0)
    dtype = torch.promote_types(logits[0].dtype, torch.float32)
    counts = _count(codes, num_classes).to(dtype)
    pixel_weight = _class_weights(counts).gather(1, classes.flatten(1)).view_as(classes) * valid
    one_hot = (codes[:, None] == torch.arange(num_classes, device=codes.device)[:, None, None]).to(dtype)
    parts = []
    for head in logits:
        log_p, p = _log_probabilities(head.to(dtype), target.shape[-2:], clamp, interp, align_corners)
        picked = log_p.gather(1, classes[:, None]).squeeze(1)
        # where, not multiplication: an ignored pixel of infinite loss must not become NaN.
        cross_entropy = -torch.where(valid, picked * pixel_weight, 0).sum() / valid.sum().clamp(min=1)
        overlap = (p * one_hot).sum(dim=(0, 2, 3))
        total = (p * valid[:, None]).sum(dim=(0, 2, 3)) + counts.sum(0)
        dice = ((1 - 2 * overlap / (total + dice_eps)) * _counted(counts, dice_classes == "all")).sum()
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
