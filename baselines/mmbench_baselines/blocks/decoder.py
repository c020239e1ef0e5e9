"""The decoders: one fuses the maps of all modalities, one reads the maps of a single modality.

Axes: B batch, C channel, H W pixels, K class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from mmbench_baselines.blocks.conv import NEGATIVE_SLOPE, PreActivationConv
from mmbench_baselines.blocks.encoder import stage_widths
from mmbench_kernels import modal_fuse
from mmbench_kernels.ops.norm_act_pad import Groups, Up2


class UpStep(nn.Module):
    """Double the resolution, halve the width, merge with a skip of that size."""

    def __init__(self, width: int, norm: Groups, *, skip_first: bool) -> None:
        """Build the step.

        Args:
            width: Channels of the result and of the skip; the input has twice as many.
            norm: See `PreActivationConv`.
            skip_first: Whether the skip's channels come before the decoder's.
        """
        super().__init__()
        self.skip_first = skip_first
        self.conv0 = PreActivationConv(2 * width, width, norm=norm)
        self.conv1 = PreActivationConv(2 * width, width, norm=norm)
        self.conv2 = PreActivationConv(width, width, 1, norm=norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Merge x (B, 2C, H/2, W/2) with the skip (B, C, H, W) to (B, C, H, W)."""
        y = self.conv0([Up2(x)])
        return cast(Tensor, self.conv2(self.conv1([skip, y] if self.skip_first else [y, skip])))


class FusionBlock(nn.Module):
    """Bring the maps of all modalities to the width of one."""

    def __init__(self, in_channels: int, width: int, norm: Groups) -> None:
        """Build 1x1, 3x3 (zero padded) and 1x1 convolutions.

        Args:
            in_channels: Of all modalities together.
            width: Channels of the result.
            norm: See `PreActivationConv`.
        """
        super().__init__()
        self.conv0 = PreActivationConv(in_channels, width, 1, norm=norm)
        self.conv1 = PreActivationConv(width, width, norm=norm, pad_mode="zeros")
        self.conv2 = PreActivationConv(width, width, 1, norm=norm)

    def forward(self, maps: Sequence[Tensor], present: Tensor | None = None) -> Tensor:
        """Return (B, width, H, W).

        Args:
            maps: (B, C, H, W) of each modality.
            present: (B, M) bool; the map of an absent modality counts as zeros. None: all are present.
        """
        first = self.conv0
        x = modal_fuse(
            maps, first.weight, first.bias, present=present, groups=first.norm, negative_slope=NEGATIVE_SLOPE
        )
        return cast(Tensor, self.conv2(self.conv1(x)))


class FusionDecoder(nn.Module):
    """Fuse the modalities at five scales, from the bottleneck to the full resolution.

    Source: the decoder of mmFormer (arXiv 2206.02425), in 2-D.
    """

    def __init__(
        self, num_modalities: int, base_width: int, num_classes: int, *, norm: Groups = "channel"
    ) -> None:
        """Build fusion blocks, up steps and heads.

        Args:
            num_modalities: M; a skip has M times the channels of one encoder.
            base_width: Of the encoders.
            num_classes: K.
            norm: See `PreActivationConv`.
        """
        super().__init__()
        widths = stage_widths(base_width)
        self.fusions = nn.ModuleList(FusionBlock(num_modalities * width, width, norm) for width in widths)
        self.ups = nn.ModuleList(UpStep(width, norm, skip_first=True) for width in widths[:-1])
        self.head = nn.Conv2d(base_width, num_classes, 1)
        self.side_heads = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in widths[1:])

    def forward(
        self,
        skips: Sequence[Sequence[Tensor]],
        bottleneck: Tensor,
        *,
        present: Tensor | None = None,
        sides: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the logits, and those of the coarser scales.

        Args:
            skips: The encoders' first four maps, finest first, of each a map a modality.
            bottleneck: (B, M·16·base, H/16, W/16).
            present: (B, M) bool; absent modalities' skips count as zeros. None: all are present.
            sides: Whether the heads of the coarser scales run.

        Returns:
            (B, K, H, W), and the list of (B, K, H/s, W/s) for s = 2, 4, 8, 16; empty without `sides`.
        """
        x = self.fusions[-1]([bottleneck])
        coarse = [x]
        for up, fusion, skip in zip(
            reversed(self.ups), reversed(self.fusions[:-1]), reversed(skips), strict=True
        ):
            x = up(x, fusion(skip, present))
            coarse.append(x)
        finest_first = coarse[-2::-1]
        side_logits = (
            [head(y) for head, y in zip(self.side_heads, finest_first, strict=True)] if sides else []
        )
        return self.head(x), side_logits


class ModalityDecoder(nn.Module):
    """Segment from the maps of one modality alone; one set of weights serves every modality."""

    def __init__(self, base_width: int, num_classes: int, *, norm: Groups = "channel") -> None:
        """Build up steps and the head.

        Args:
            base_width: Of the encoders.
            num_classes: K.
            norm: See `PreActivationConv`.
        """
        super().__init__()
        self.ups = nn.ModuleList(
            UpStep(width, norm, skip_first=False) for width in stage_widths(base_width)[:-1]
        )
        self.head = nn.Conv2d(base_width, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits (B, K, H, W) from the five maps of an encoder, finest first."""
        *skips, x = maps
        for up, skip in zip(reversed(self.ups), reversed(skips), strict=True):
            x = up(x, skip)
        return cast(Tensor, self.head(x))
