"""Normalisation, leaky rectifier and padding: what stands before a convolution in the methods.

Large samples on a CPU are walked in pieces that stay in the cache. The result is channels-last then, as thin
convolutions run up to twice as fast so. For backward, y is kept and x̂ is recovered from it: y is what the
convolution keeps anyway, so the two keep one map together. Only an affine normalisation, or a slope so small
that y does not hold x̂, keeps x as well. All else is a few of torch's own operators.
Axes: B batch, n samples of a block, C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mmbench_kernels._availability import Backend, choose_backend
from mmbench_kernels.ops._norm_act_pad_rows import backward, backward_fake, forward, forward_fake
from mmbench_kernels.ops._norm_act_pad_triton import limits, norm_act_pad_triton
from mmbench_kernels.ops._registration import declare
from mmbench_kernels.ops._rows import Groups as Groups
from mmbench_kernels.ops._rows import compute_dtype, is_fused_by_compiler, worth_pieces

PadMode = Literal["reflect", "zeros", "none"]

# Below this slope, half precision does not hold x̂ below zero.
SMALLEST_REVERSIBLE_SLOPE = 1e-3


@dataclass(frozen=True)
class Up2:
    """A map to be doubled in size, bilinearly with aligned corners, before it is concatenated."""

    x: Tensor


def norm_act_pad(
    x: Tensor | Sequence[Tensor | Up2],
    *,
    groups: Groups,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
    pad: int = 1,
    pad_mode: PadMode = "reflect",
    backend: Backend = "auto",
) -> Tensor:
    """Normalise with the statistics of each sample, apply a leaky ReLU, pad.

    y = pad(lrelu((x - mean) / sqrt(var + eps) * weight + bias)), with the biased variance, in float32 or
    wider. Kept for backward of large samples on a CPU: y and 1/sqrt(var + eps); x and mean too with weight,
    bias or slope < 0.001. By Triton: x or its sources, never joined or doubled in memory, mean and
    1/sqrt(var + eps).

    Args:
        x: (B, C, H, W) float, or several such maps and `Up2` of half-size maps, joined on C.
        groups: "channel" takes mean and variance over (H, W) of each channel, "sample" over (C, H, W).
        weight: (C,) scale, or None for 1.
        bias: (C,) shift, or None for 0.
        eps: Added to the variance.
        negative_slope: Slope below zero, 0 or more.
        pad: Pixels added on each side; 0 adds none.
        pad_mode: How they are filled; "none" adds none.
        backend: "auto" takes Triton's kernels where they can run, "torch" never; "triton" raises with the
            reasons where they cannot.

    Returns:
        (B, C, H + 2·pad, W + 2·pad), the dtype of x; channels-last for large samples on a CPU; in the memory
        format of x, or of the first source, by Triton.

    Raises:
        TypeError: If x is not of a floating-point dtype.
        ValueError: If x is not 4-D, an option is unknown, negative_slope or pad is negative, weight or bias
            is not (C,), the sources differ, or reflection would reach beyond the input.
        RuntimeError: If the backend cannot run, or a gradient of a gradient is asked for.
    """
    sources = [x] if isinstance(x, Tensor) else list(x)
    maps = [source.x if isinstance(source, Up2) else source for source in sources]
    doubled = [isinstance(source, Up2) for source in sources]
    channels, height, width = _joined_shape(maps, doubled)
    if pad_mode == "reflect" and pad >= min(height, width):
        raise ValueError(f"norm_act_pad: pad {pad} reflects beyond the {height}x{width} input")
    _check(channels, groups, weight, bias, negative_slope, pad, pad_mode)
    pad = 0 if pad_mode == "none" else pad
    options = (groups, eps, negative_slope, pad, pad_mode)
    unfit = limits(maps, (height + 2 * pad) * (width + 2 * pad))
    if choose_backend("norm_act_pad", backend, *maps, limits=unfit) == "triton":
        return norm_act_pad_triton(maps, doubled, weight, bias, *options)
    x = _joined(maps, doubled)
    if is_fused_by_compiler(x.device):
        return _fusable(x, weight, bias, *options)
    if not worth_pieces(x[0].numel() if len(x) else 0, x.device):
        return _plain(x, weight, bias, *options)
    y: Tensor = _FORWARD(x, weight, bias, *options)[0]
    return y


def _plain(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    groups: Groups,
    eps: float,
    negative_slope: float,
    pad: int,
    pad_mode: PadMode,
) -> Tensor:
    """Return the same by torch's own operators."""
    count = x.shape[1] if groups == "channel" else 1
    # torch.group_norm, not F.group_norm, which refuses a map of one pixel (it has variance 0 and becomes the
    # bias). Contiguous, as the CPU path for channels_last takes the variance as E[x²] - E[x]² and cancels.
    y = F.leaky_relu(torch.group_norm(x.contiguous(), count, weight, bias, eps), negative_slope)
    if pad == 0:
        return y
    return F.pad(y, (pad, pad, pad, pad), mode="reflect" if pad_mode == "reflect" else "constant")


def _fusable(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    groups: Groups,
    eps: float,
    negative_slope: float,
    pad: int,
    pad_mode: PadMode,
) -> Tensor:
    """Return the same, channels-last, in steps that a compiler joins to what stands before and behind."""
    axes = (2, 3) if groups == "channel" else (1, 2, 3)
    wide = x.contiguous(memory_format=torch.channels_last).to(compute_dtype(x))
    centred = wide - wide.mean(axes, keepdim=True)
    y = centred * (centred.square().mean(axes, keepdim=True) + eps).rsqrt()
    y = y if weight is None else y * weight[:, None, None]
    y = y if bias is None else y + bias[:, None, None]
    y = F.leaky_relu(y, negative_slope).to(x.dtype)
    if pad == 0:
        return y
    return F.pad(y, (pad, pad, pad, pad), mode="reflect" if pad_mode == "reflect" else "constant")


def norm_act_pad_reference(
    x: Tensor,
    groups: Groups,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
    pad: int = 1,
    pad_mode: PadMode = "reflect",
) -> Tensor:
    """Return what `norm_act_pad` defines, step by step in the dtype of x; the oracle in float64."""
    axes = (2, 3) if groups == "channel" else (1, 2, 3)
    centred = x - x.mean(axes, keepdim=True)
    y = centred / (centred.square().mean(axes, keepdim=True) + eps).sqrt()
    y = y if weight is None else y * weight[:, None, None]
    y = y if bias is None else y + bias[:, None, None]
    y = torch.where(y > 0, y, negative_slope * y)
    if pad == 0 or pad_mode == "none":
        return y
    return F.pad(y, (pad, pad, pad, pad), mode="reflect" if pad_mode == "reflect" else "constant")


def _joined(maps: Sequence[Tensor], doubled: Sequence[bool]) -> Tensor:
    """Return the sources as one map."""
    maps = [
        F.interpolate(each, scale_factor=2, mode="bilinear", align_corners=True) if is_doubled else each
        for each, is_doubled in zip(maps, doubled, strict=True)
    ]
    if len(maps) == 1:
        return maps[0]
    return torch.cat([each.contiguous(memory_format=torch.channels_last) for each in maps], dim=1)


def _joined_shape(maps: Sequence[Tensor], doubled: Sequence[bool]) -> tuple[int, int, int]:
    """Return (C, H, W) of the sources joined on C."""
    if not maps:
        raise ValueError("norm_act_pad: x is an empty list, expected one map or more")
    for each in maps:
        if each.ndim != 4:
            raise ValueError(f"norm_act_pad: x has shape {tuple(each.shape)}, expected (B, C, H, W)")
        if not each.is_floating_point():
            raise TypeError(f"norm_act_pad: x is {each.dtype}, expected a floating-point dtype")
    shapes = [
        (*each.shape[:2], *(size * (2 if is_doubled else 1) for size in each.shape[2:]))
        for each, is_doubled in zip(maps, doubled, strict=True)
    ]
    if any(shape[:1] + shape[2:] != shapes[0][:1] + shapes[0][2:] for shape in shapes):
        raise ValueError(f"norm_act_pad: the sources are {shapes}, expected (B, C, H, W) of equal B, H and W")
    return sum(shape[1] for shape in shapes), *shapes[0][2:]


def _check(
    channels: int,
    groups: str,
    weight: Tensor | None,
    bias: Tensor | None,
    negative_slope: float,
    pad: int,
    pad_mode: str,
) -> None:
    if groups not in ("channel", "sample"):
        raise ValueError(f"norm_act_pad: groups is {groups!r}, expected 'channel' or 'sample'")
    if pad_mode not in ("reflect", "zeros", "none"):
        raise ValueError(f"norm_act_pad: pad_mode is {pad_mode!r}, expected 'reflect', 'zeros' or 'none'")
    if negative_slope < 0:
        raise ValueError(f"norm_act_pad: negative_slope is {negative_slope}, expected 0 or more")
    if pad < 0:
        raise ValueError(f"norm_act_pad: pad is {pad}, expected 0 or more")
    for name, values in (("weight", weight), ("bias", bias)):
        if values is not None and values.shape != (channels,):
            raise ValueError(f"norm_act_pad: {name} has shape {tuple(values.shape)}, expected ({channels},)")


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, groups, _, slope, pad, pad_mode = inputs
    y, mean, rstd = output
    reversible = weight is None and bias is None and slope >= SMALLEST_REVERSIBLE_SLOPE
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)  # else two small tensors of zeros for them in every backward
    ctx.save_for_backward(y, None if reversible else x, weight, None if reversible else mean, rstd)
    ctx.options = (groups, slope, pad, pad_mode)
    ctx.shift_dtype = None if bias is None else bias.dtype


def _gradients(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
    if grad is None:  # nothing depends on y
        return (None,) * 8
    y, x, weight, mean, rstd = ctx.saved_tensors
    mean = rstd if mean is None else mean
    gradient, of_weight, of_bias = _BACKWARD(grad, y, x, weight, mean, rstd, *ctx.options)
    return (
        gradient,
        None if weight is None else of_weight.to(weight.dtype),
        None if ctx.shift_dtype is None else of_bias.to(ctx.shift_dtype),
        *(None,) * 5,
    )


_BACKWARD = declare(
    "norm_act_pad_backward(Tensor grad, Tensor y, Tensor? x, Tensor? weight, Tensor mean, Tensor rstd, "
    "str groups, float negative_slope, int pad, str pad_mode) -> (Tensor, Tensor, Tensor)",
    backward,
    backward_fake,
)
_FORWARD = declare(
    "norm_act_pad(Tensor x, Tensor? weight, Tensor? bias, str groups, float eps, float negative_slope, "
    "int pad, str pad_mode) -> (Tensor, Tensor, Tensor)",
    forward,
    forward_fake,
    backward=_gradients,
    setup_context=_setup_context,
)
