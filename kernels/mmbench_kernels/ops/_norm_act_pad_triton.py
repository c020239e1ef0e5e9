"""`norm_act_pad` on a GPU: its two operators, whose kernels Triton compiles at their first launch.

Axes: B batch, C channels of a source, K channels of all sources, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmbench_kernels.ops._registration import declare
from mmbench_kernels.ops._rows import empty_dense_map

MOST_PIXELS = 1 << 28
"""Of a padded plane: places in it, and in one twice as high and wide, are counted in 32 bits."""


def limits(maps: Sequence[Tensor], pixels: int) -> list[str]:
    """Return what of a call the kernels cannot do, each a sentence without its point.

    Args:
        maps: The sources.
        pixels: Of the result's plane.
    """
    found = []
    if len(dtypes := {str(x.dtype).removeprefix("torch.") for x in maps}) > 1:
        found.append(f"the sources are of {' and '.join(sorted(dtypes))}, expected one dtype")
    if pixels > MOST_PIXELS:
        found.append(f"the result has {pixels} pixels, expected {MOST_PIXELS} or fewer")
    return found


def norm_act_pad_triton(
    maps: Sequence[Tensor], doubled: Sequence[bool], weight: Tensor | None, bias: Tensor | None, *options: Any
) -> Tensor:
    """Return the normalised, rectified and padded map, (B, K, H + 2·pad, W + 2·pad).

    Args:
        maps: (B, C, H, W) of one dtype, or (B, C, H/2, W/2) where doubled; any strides.
        doubled: Which of them are doubled in size while they are read.
        weight: (K,) or None.
        bias: (K,) or None.
        options: groups, eps, negative_slope, pad, pad_mode.
    """
    y: Tensor = _FORWARD(list(maps), list(doubled), weight, bias, *options)[0]
    return y


def _forward(
    maps: list[Tensor], doubled: list[bool], weight: Tensor | None, bias: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    from mmbench_kernels._triton import norm_act_pad

    return norm_act_pad.forward(maps, doubled, weight, bias, *options)


def _forward_fake(
    maps: list[Tensor], doubled: list[bool], weight: Tensor | None, bias: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    groups, _, _, pad, _ = options
    channels = sum(x.shape[1] for x in maps)
    height, width = (size * (2 if doubled[0] else 1) + 2 * pad for size in maps[0].shape[2:])
    count = channels if groups == "channel" else 1
    mean, rstd = (maps[0].new_empty(len(maps[0]), count, dtype=torch.float64) for _ in range(2))
    return empty_dense_map(maps[0], channels, height, width), mean, rstd


def _backward(
    grad: Tensor,
    maps: list[Tensor],
    doubled: list[bool],
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    *options: Any,
) -> list[Tensor]:
    from mmbench_kernels._triton import norm_act_pad_backward

    gradients, of_affine = norm_act_pad_backward.backward(
        grad, maps, doubled, weight, bias, mean, rstd, *options
    )
    if of_affine is None:
        return gradients
    of_bias, of_weight = of_affine.unbind()
    given = ((weight, of_weight), (bias, of_bias))
    return gradients + [value.to(x.dtype, copy=True) for x, value in given if x is not None]


def _backward_fake(
    grad: Tensor,
    maps: list[Tensor],
    doubled: list[bool],
    weight: Tensor | None,
    bias: Tensor | None,
    *rest: Any,
) -> list[Tensor]:
    gradients = [empty_dense_map(x, *x.shape[1:]) for x in maps]
    return gradients + [torch.empty_like(x) for x in (weight, bias) if x is not None]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    maps, ctx.doubled, weight, bias, groups, _, slope, pad, pad_mode = inputs
    ctx.options = groups, slope, pad, pad_mode
    ctx.save_for_backward(weight, bias, *output[1:], *maps)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # else two small tensors of zeros for them in every backward


def _differentiate(ctx: Any, grad: Tensor | None, *unused: Any) -> tuple[Any, ...]:
    if grad is None:  # nothing depends on y
        return [None] * len(ctx.doubled), *(None,) * 8
    weight, bias, mean, rstd, *maps = ctx.saved_tensors
    found = _BACKWARD(grad, maps, ctx.doubled, weight, bias, mean, rstd, *ctx.options)
    gradients, rest = found[: len(maps)], list(found[len(maps) :])
    of_weight, of_bias = (None if x is None else rest.pop(0) for x in (weight, bias))
    return gradients, None, of_weight, of_bias, *(None,) * 5


_BACKWARD = declare(
    "norm_act_pad_triton_backward(Tensor grad, Tensor[] maps, bool[] doubled, Tensor? weight, Tensor? bias, "
    "Tensor mean, Tensor rstd, str groups, float negative_slope, int pad, str pad_mode) -> Tensor[]",
    _backward,
    _backward_fake,
)
_FORWARD = declare(
    "norm_act_pad_triton(Tensor[] maps, bool[] doubled, Tensor? weight, Tensor? bias, str groups, float eps, "
    "float negative_slope, int pad, str pad_mode) -> (Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
    backward=_differentiate,
    setup_context=_save,
)
