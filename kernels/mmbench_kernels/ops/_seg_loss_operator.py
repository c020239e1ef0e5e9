"""`multiscale_seg_loss` as operators of the dispatcher, whatever goes over the pixels.

Axes: G head, B batch, K class, H W pixels of the target, h w pixels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmbench_kernels.ops import _seg_loss_terms as terms
from mmbench_kernels.ops._registration import declare
from mmbench_kernels.ops._seg_loss_bands import LossForm


@dataclass(frozen=True)
class Passes:
    """What goes over the pixels, in one way of computing the loss.

    Attributes:
        encode: (target, K, ignore_index) -> (B, H, W) the class of each pixel, K where it is ignored, of
            `code_dtype`, and (B, K) float64 the number of pixels of each class.
        sum_over_pixels: As `_seg_loss_bands.sum_over_pixels`.
        differentiate: As `_seg_loss_bands.differentiate`.
    """

    encode: Callable[[Tensor, int, int], tuple[Tensor, Tensor]]
    sum_over_pixels: Callable[[Sequence[Tensor], Tensor, Tensor, LossForm], tuple[Tensor, Tensor]]
    differentiate: Callable[[Sequence[Tensor], Tensor, Tensor, Tensor, LossForm], list[Tensor]]

    def forward(
        self,
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
        codes, counts = self.encode(target, logits[0].shape[1], ignore_index)
        form = _form(clamp, probabilities, align_corners)
        entropy, sums = self.sum_over_pixels(logits, codes, terms.class_weights(counts), form)
        parts = terms.combine(entropy, sums, counts, dice_eps, dice_all)
        return parts.to(_result_dtype(logits)), sums, counts, codes

    def backward(
        self,
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
        scale, slopes = terms.differentiate(gradient, sums, counts, dice_eps, dice_all)
        return self.differentiate(logits, codes, scale, slopes, _form(clamp, probabilities, align_corners))


_OPTIONS = "float[]? clamp, float dice_eps, bool dice_all, bool probabilities, bool align_corners"


def declare_loss(name: str, passes: Passes) -> Callable[..., Any]:
    """Define `mmbench::NAME` and `mmbench::NAME_backward` and return the first.

    Its arguments and results are those of `Passes.forward`.
    """
    backward = declare(
        f"{name}_backward(Tensor gradient, Tensor[] logits, Tensor sums, Tensor counts, Tensor codes, "
        f"{_OPTIONS}) -> Tensor[]",
        passes.backward,
        _backward_fake,
    )

    def differentiate(ctx: Any, gradient: Tensor | None, *unused: Any) -> tuple[Any, ...]:
        *logits, sums, counts, codes = ctx.saved_tensors
        if gradient is None:  # nothing depends on the terms
            return ([None] * len(logits), *(None,) * 7)
        gradients = backward(gradient, logits, sums, counts, codes, *ctx.options)
        return (gradients, *(None,) * 7)

    return declare(
        f"{name}(Tensor[] logits, Tensor target, {_OPTIONS}, int ignore_index)"
        " -> (Tensor, Tensor, Tensor, Tensor)",
        passes.forward,
        _forward_fake,
        backward=differentiate,
        setup_context=_setup_context,
    )


def code_dtype(num_classes: int) -> torch.dtype:
    """Return the smallest dtype for a class or "ignored"."""
    return torch.uint8 if num_classes < 256 else torch.int64


def _result_dtype(logits: list[Tensor]) -> torch.dtype:
    return torch.promote_types(logits[0].dtype, torch.float32)


def _form(clamp: list[float] | None, probabilities: bool, align_corners: bool) -> LossForm:
    return LossForm(None if clamp is None else (clamp[0], clamp[1]), probabilities, align_corners)


def _forward_fake(
    logits: list[Tensor], target: Tensor, *options: Any, **named: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what `Passes.forward` does, in shape only."""
    heads, (batch, num_classes) = len(logits), logits[0].shape[:2]
    return (
        target.new_empty(heads, 2, dtype=_result_dtype(logits)),
        target.new_empty(heads, 2, num_classes, dtype=torch.float64),
        target.new_empty(batch, num_classes, dtype=torch.float64),
        target.new_empty(target.shape, dtype=code_dtype(num_classes)),
    )


def _backward_fake(gradient: Tensor, logits: list[Tensor], *options: Any, **named: Any) -> list[Tensor]:
    """Return what `Passes.backward` does, in shape only."""
    return [head.new_empty(head.shape) for head in logits]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, _, *ctx.options, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*logits, *output[1:])
