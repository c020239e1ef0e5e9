"""ShaSpec's decoder: transposed convolutions, skips of all modalities, residual blocks.

Axes: B batch, M modality, C channel, H W pixels of the input, K class, w base width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_baselines.shaspec.encoder import NEGATIVE_SLOPE, ConvNormAct


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNormAct(channels, channels, 3)
        self.second = ConvNormAct(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        return F.leaky_relu(x + self.second(self.first(x), activate=False), NEGATIVE_SLOPE)


class Decoder(nn.Module):
    """From the modalities' fused features to logits."""

    def __init__(self, modality_count: int, width: int, num_classes: int) -> None:
        super().__init__()
        outputs = (4 * width, 2 * width, width, width // 2)  # coarsest first
        inputs = (modality_count * 4 * width, *outputs[:-1])
        skips = [modality_count * factor * width for factor in (16, 8, 4, 1)]
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 2, stride=2, bias=False) for i, o in zip(inputs, outputs, strict=True)
        )
        self.skips = nn.ModuleList(ConvNormAct(s, o) for s, o in zip(skips, outputs, strict=True))
        self.blocks = nn.ModuleList(ResidualBlock(o) for o in outputs)
        self.head = nn.Conv2d(outputs[-1], num_classes, 1, bias=False)
        for convolution in (*self.ups, self.head):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, fused: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Decode.

        Args:
            fused: (B, M·4w, H/32, W/32), the modalities on channels.
            skips: Finest first, each (B, M·c, H/s, W/s) with c of the encoder.

        Returns:
            Logits (B, K, H, W).
        """
        x = fused
        for up, skip_conv, block, skip in zip(
            self.ups, self.skips, self.blocks, reversed(skips), strict=True
        ):
            x = block(up(x) + skip_conv(skip))
        return F.interpolate(self.head(x), scale_factor=2, mode="bilinear", align_corners=False)
