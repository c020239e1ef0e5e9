"""ShaSpec's encoder: a residual network with weight-standardised convolutions and a dilated pyramid.

The shared encoder and those of the single modalities have this structure, each with its own weights.
Axes: R row (a sample's modality), C channel, H W pixels, w base width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_kernels import norm_act_pad

PoolBranch = Literal["off", "affine", "constant"]

NEGATIVE_SLOPE = 0.01


class StandardizedConv(nn.Conv2d):
    """A bias-free convolution whose filters have mean 0 and standard deviation 1."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> None:
        """Build it with Kaiming-normal weights (fan-out), the source's initialisation."""
        super().__init__(inputs, outputs, kernel, stride, padding, dilation, bias=False)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (R, C, H, W) to (R, outputs, H', W')."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), correction=1, keepdim=True)
        weight = (self.weight - mean) / torch.sqrt(variance + 1e-12)
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation)


class ChannelNorm(nn.Module):
    """Instance normalisation with scale and shift, and a leaky ReLU where asked.

    A map of one pixel has no variance: it becomes the shift.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, *, activate: bool) -> Tensor:
        """Map (R, C, H, W) to the same shape."""
        if activate:
            return norm_act_pad(
                x,
                groups="channel",
                weight=self.weight,
                bias=self.bias,
                negative_slope=NEGATIVE_SLOPE,
                pad_mode="none",
            )
        return torch.group_norm(x.contiguous(), x.shape[1], self.weight, self.bias)  # as norm_act_pad does


class ConvNormAct(nn.Module):
    """Standardised convolution of odd kernel and "same" padding, instance norm, leaky ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = StandardizedConv(
            inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation
        )
        self.norm = ChannelNorm(outputs)

    def forward(self, x: Tensor, *, activate: bool = True) -> Tensor:
        """Map (R, inputs, H, W) to (R, outputs, H / stride, W / stride)."""
        out: Tensor = self.norm(self.conv(x), activate=activate)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut, which is projected in the first block of a layer."""

    def __init__(self, inputs: int, planes: int, *, stride: int, project: bool) -> None:
        super().__init__()
        self.reduce = ConvNormAct(inputs, planes)
        self.spatial = ConvNormAct(planes, planes, 3, stride=stride)
        self.expand = ConvNormAct(planes, 4 * planes)
        self.shortcut = ConvNormAct(inputs, 4 * planes, stride=stride) if project else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (R, inputs, H, W) to (R, 4·planes, H / stride, W / stride)."""
        kept = x if self.shortcut is None else self.shortcut(x, activate=False)
        out = self.expand(self.spatial(self.reduce(x)), activate=False)
        return F.leaky_relu(out + kept, NEGATIVE_SLOPE)


class Pyramid(nn.Module):
    """Parallel convolutions of growing dilation, and optionally a global mean, merged by a 1x1 convolution.

    The global mean is one value a channel. Normalised like the other branches it is its shift alone
    ("constant", as released); scaled and shifted only ("affine") it depends on the image, but the norm
    after the merge removes whatever is constant over a map, so neither reaches the output.
    """

    def __init__(self, channels: int, pool_branch: PoolBranch) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [ConvNormAct(channels, channels)]
            + [ConvNormAct(channels, channels, 3, dilation=dilation) for dilation in (2, 4, 8)]
        )
        self.pool_branch = pool_branch
        self.pool = None if pool_branch == "off" else ConvNormAct(channels, channels)
        inputs = channels * (len(self.branches) + (self.pool is not None))
        self.merge = ConvNormAct(inputs, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (R, C, H, W) to the same shape."""
        outputs = [branch(x) for branch in self.branches]
        if self.pool is not None:
            outputs.append(self._global(self.pool, x.mean(dim=(2, 3), keepdim=True)).expand_as(x))
        merged: Tensor = self.merge(torch.cat(outputs, dim=1))
        return merged

    def _global(self, pool: ConvNormAct, mean: Tensor) -> Tensor:
        """Return the global branch before it is broadcast, (R, C, 1, 1)."""
        if self.pool_branch == "constant":
            constant: Tensor = pool(mean)
            return constant
        scale, shift = pool.norm.weight[:, None, None], pool.norm.bias[:, None, None]
        return F.leaky_relu(pool.conv(mean) * scale + shift, NEGATIVE_SLOPE)


class Encoder(nn.Module):
    """Stem, four layers of bottlenecks, reduction and pyramid."""

    def __init__(self, channels: int, width: int, pool_branch: PoolBranch) -> None:
        """Build it.

        Args:
            channels: Of the image.
            width: w; the source has 64.
            pool_branch: The pyramid's global branch.
        """
        super().__init__()
        self.stem = ConvNormAct(channels, width, 7, stride=2)
        self.layers = nn.ModuleList()
        inputs = width
        for factor, blocks, stride in ((1, 3, 1), (2, 4, 2), (4, 6, 2), (5, 3, 2)):
            planes = factor * width
            layer = [Bottleneck(inputs, planes, stride=stride, project=True)]
            inputs = 4 * planes
            layer += [Bottleneck(inputs, planes, stride=1, project=False) for _ in range(blocks - 1)]
            self.layers.append(nn.Sequential(*layer))
        self.reduce = ConvNormAct(inputs, 4 * width)
        self.pyramid = Pyramid(4 * width, pool_branch)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode rows of images.

        Args:
            x: (R, channels, H, W), H and W multiples of 32.

        Returns:
            The feature (R, 4w, H/32, W/32); the global vector (R, 4w), taken before the pyramid; the skips,
            finest first: (R, w, H/2, W/2), (R, 4w, H/4, W/4), (R, 8w, H/8, W/8), (R, 16w, H/16, W/16).
        """
        skips = [self.stem(x)]
        out = F.max_pool2d(skips[0], 3, stride=2, padding=1)
        for layer in self.layers:
            out = layer(out)
            skips.append(out)
        reduced = self.reduce(skips.pop())
        return self.pyramid(reduced), reduced.mean(dim=(2, 3)), skips
