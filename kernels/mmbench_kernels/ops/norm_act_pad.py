"""Normalisation, leaky rectifier and padding: what stands before a convolution in the methods.

Axes: B batch, C channel, H W pixels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Groups = Literal["channel", "sample"]
PadMode = Literal["reflect", "zeros", "none"]


def norm_act_pad(
    x: Tensor,
    *,
    groups: Groups,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
    pad: int = 1,
    pad_mode: PadMode = "reflect",
) -> Tensor:
    """Normalise with the statistics of each sample, apply a leaky ReLU, pad.

    y = pad(lrelu((x - mean) / sqrt(var + eps) * weight + bias)), with the biased variance.

    Args:
        x: (B, C, H, W) float.
        groups: "channel" takes mean and variance over (H, W) of each channel, "sample" over (C, H, W).
        weight: (C,) scale, or None for 1.
        bias: (C,) shift, or None for 0.
        eps: Added to the variance.
        negative_slope: Slope below zero.
        pad: Pixels added on each side; 0 adds none.
        pad_mode: How they are filled; "none" adds none.

    Returns:
        (B, C, H + 2·pad, W + 2·pad), the dtype of x.

    Raises:
        ValueError: If x is not 4-D, an option is unknown, pad is negative, or reflection would reach beyond
            the input.
    """
    if x.ndim != 4:
        raise ValueError(f"norm_act_pad: x has shape {tuple(x.shape)}, expected (B, C, H, W)")
    if groups not in ("channel", "sample"):
        raise ValueError(f"norm_act_pad: groups is {groups!r}, expected 'channel' or 'sample'")
    if pad_mode not in ("reflect", "zeros", "none"):
        raise ValueError(f"norm_act_pad: pad_mode is {pad_mode!r}, expected 'reflect', 'zeros' or 'none'")
    if pad < 0:
        raise ValueError(f"norm_act_pad: pad is {pad}, expected 0 or more")
    if pad_mode == "reflect" and pad >= min(x.shape[-2:]):
        raise ValueError(f"norm_act_pad: pad {pad} reflects beyond the {x.shape[-2]}x{x.shape[-1]} input")
    count = x.shape[1] if groups == "channel" else 1
    # torch.group_norm, not F.group_norm, which refuses a map of one pixel (it has variance 0 and becomes the
    # bias). Contiguous, as the CPU path for channels_last takes the variance as E[x²] - E[x]² and cancels.
    normalised = torch.group_norm(x.contiguous(), count, weight, bias, eps)
    y = F.leaky_relu(normalised, negative_slope)
    if pad == 0 or pad_mode == "none":
        return y
    return F.pad(y, (pad, pad, pad, pad), mode="reflect" if pad_mode == "reflect" else "constant")
