"""The network of the controls: a residual U-Net of an encoder and a decoder.

Axes: B batch, C channel, H W pixels, K class.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn import functional as F

GROUP_CHANNELS = 8
_STAGE_FACTORS = (1, 2, 4, 8, 8)


def stage_widths(method: str, base_width: int) -> tuple[int, ...]:
    """Return the channels of each scale, 1/1 to 1/16.

    Args:
        method: Name, for the error.
        base_width: Channels at full resolution.

    Raises:
        ValueError: If base_width is not a positive multiple of 8.
    """
    if base_width < GROUP_CHANNELS or base_width % GROUP_CHANNELS:
        raise ValueError(
            f"{method}: base_width is {base_width}, expected a positive multiple of {GROUP_CHANNELS}"
        )
    return tuple(factor * base_width for factor in _STAGE_FACTORS)


class ConvNorm(nn.Sequential):
    """Convolution without bias and group normalisation, whose statistics are each sample's own."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(convolution, nn.GroupNorm(outputs // GROUP_CHANNELS, outputs))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride=stride)
        self.second = ConvNorm(outputs, outputs, 3)
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else ConvNorm(inputs, outputs, 1, stride=stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, ⌈H / stride⌉, ⌈W / stride⌉)."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class Encoder(nn.Module):
    """A convolution at full resolution, then a residual stage at each of 1/2 to 1/16."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = ConvNorm(channels, widths[0], 3)
        self.stages = nn.ModuleList(ResidualBlock(i, o, stride=2) for i, o in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, channels, H, W) to one feature a scale, finest first."""
        features = [F.relu(self.stem(x))]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class Decoder(nn.Module):
    """From the coarsest feature up: reduce, enlarge, add the finer feature, refine."""

    def __init__(self, widths: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        coarse_first = widths[::-1]
        self.bottom = ResidualBlock(coarse_first[0], coarse_first[0])
        self.reductions = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in itertools.pairwise(coarse_first))
        self.blocks = nn.ModuleList(ResidualBlock(o, o) for o in coarse_first[1:])
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map the features, finest first, to logits (B, K, H, W)."""
        x = self.bottom(features[-1])
        for reduction, block, finer in zip(self.reductions, self.blocks, features[-2::-1], strict=True):
            # Reduced before it is enlarged: a 1x1 convolution and an interpolation commute.
            x = F.interpolate(reduction(x), size=finer.shape[-2:], mode="bilinear", align_corners=False)
            x = block(x + finer)
        logits: Tensor = self.head(x)
        return logits


class Segmenter(nn.Module):
    """One encoder and one decoder."""

    def __init__(self, channels: int, widths: tuple[int, ...], num_classes: int) -> None:
        """Build both.

        Args:
            channels: C of the input.
            widths: Channels of each scale, finest first.
            num_classes: K.
        """
        super().__init__()
        self.encoder = Encoder(channels, widths)
        self.decoder = Decoder(widths, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) of any size to logits (B, K, H, W)."""
        logits: Tensor = self.decoder(self.encoder(x))
        return logits
