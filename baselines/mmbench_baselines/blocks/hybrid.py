"""Convolutions and attention: an encoder whose deepest map becomes tokens, and the fusion of several.

Axes: B batch, M modality, C channel, H W pixels, K class, N token, D width.
Source: mmFormer (arXiv 2206.02425), in 2-D.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mmbench_baselines.blocks.decoder import FusionDecoder
from mmbench_baselines.blocks.encoder import ConvEncoder, stage_widths
from mmbench_baselines.blocks.transformer import (
    GridPositions,
    Transformer,
    TransformerParams,
    map_to_tokens,
    tokens_to_map,
)
from mmbench_kernels.ops.norm_act_pad import Groups

TokenLayout = Literal["stacked", "released"]


@dataclass(frozen=True)
class Features:
    """What is extracted from one modality.

    Attributes:
        maps: The encoder's five maps, finest first, the last (B, 16·base, H/16, W/16).
        tokens: (B, N, D), the last map cell by cell, after the attention within the modality.
        positions: (1, N, D), or None where no transformer needs them.
    """

    maps: list[Tensor]
    tokens: Tensor
    positions: Tensor | None

    def over_batch(self, change: Callable[[Tensor], Tensor]) -> Features:
        """Return the features with maps and tokens changed by a function of (B, …)."""
        return Features([change(x) for x in self.maps], change(self.tokens), self.positions)


class HybridEncoder(nn.Module):
    """A convolutional encoder, whose deepest map then attends to itself."""

    def __init__(
        self,
        in_channels: int,
        base_width: int,
        params: TransformerParams,
        grid_side: int,
        *,
        norm: Groups = "channel",
        positions: bool = True,
        attention: bool = True,
    ) -> None:
        """Build encoder, projection, positions and transformer.

        Args:
            in_channels: C of the image.
            base_width: Channels of the encoder's first stage.
            params: The transformer's size.
            grid_side: Tokens along each side of the grid for which positions are stored.
            norm: See `PreActivationConv`.
            positions: Whether the tokens have positions; the attention needs them.
            attention: Whether the tokens attend to each other.
        """
        super().__init__()
        self.encoder = ConvEncoder(in_channels, base_width, norm=norm)
        self.token_proj = nn.Conv2d(stage_widths(base_width)[-1], params.width, 1)
        self.positions = GridPositions(grid_side, params.width) if positions else None
        self.transformer = Transformer(params) if attention else None

    def forward(self, image: Tensor) -> Features:
        """Extract the features of an image (B, C, H, W)."""
        maps = self.encoder(image)
        tokens = map_to_tokens(self.token_proj(maps[-1]))
        positions = self.positions(*maps[-1].shape[-2:]) if self.positions is not None else None
        if self.transformer is not None:
            tokens = self.transformer(tokens, positions)
        return Features(maps, tokens, positions)


class HybridFusion(nn.Module):
    """The tokens of all modalities attend to each other, then a decoder fuses the maps at five scales."""

    def __init__(
        self,
        num_modalities: int,
        base_width: int,
        num_classes: int,
        params: TransformerParams,
        *,
        layout: TokenLayout,
        norm: Groups = "channel",
        attention: bool = True,
    ) -> None:
        """Build transformer, projection and decoder.

        Args:
            num_modalities: M.
            base_width: Of the encoders.
            num_classes: K.
            params: The transformer's size.
            layout: How the tokens of all modalities become a map again: "stacked" puts the modalities on
                channels, so that a cell holds one place; "released" reshapes the concatenated sequence, so
                that a cell holds neighbouring tokens of one modality.
            norm: See `PreActivationConv`.
            attention: Whether the tokens attend across modalities.
        """
        super().__init__()
        self.layout = layout
        self.transformer = Transformer(params) if attention else None
        deepest = stage_widths(base_width)[-1]
        self.inter_proj = nn.Conv2d(num_modalities * params.width, num_modalities * deepest, 1)
        self.decoder = FusionDecoder(num_modalities, base_width, num_classes, norm=norm)

    def forward(
        self,
        features: Sequence[Features],
        *,
        sides: bool = False,
        present: Tensor | None = None,
        attended: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Fuse the features of all modalities.

        Args:
            features: One a modality.
            sides: Whether the heads of the coarser scales run.
            present: (B, M) bool; absent modalities' maps count as zeros, and their tokens have to be zeros.
                None: all are present.
            attended: (B, M) bool, the modalities whose tokens are attended to; the others' leave the
                transformer as zeros. None: all. No row may be without any.

        Returns:
            The fused logits (B, K, H, W) and, with `sides`, those of sizes 1/2, 1/4, 1/8 and 1/16.
        """
        tokens = torch.cat([feature.tokens for feature in features], dim=1)  # (B, M·N, D)
        if self.transformer is not None:
            positions = [feature.positions for feature in features if feature.positions is not None]
            tokens = self.transformer(tokens, torch.cat(positions, dim=1), attended)
        height, width = features[0].maps[-1].shape[-2:]
        bottleneck = self.inter_proj(self._to_map(tokens, len(features), height, width))
        skips = list(zip(*(feature.maps[:-1] for feature in features), strict=True))
        logits, side_logits = self.decoder(skips, bottleneck, present=present, sides=sides)
        return logits, side_logits

    def _to_map(self, tokens: Tensor, num_modalities: int, height: int, width: int) -> Tensor:
        """Return (B, M·D, H, W) from (B, M·N, D)."""
        if self.layout == "stacked":
            per_modality = tokens.chunk(num_modalities, dim=1)
            return torch.cat([tokens_to_map(part, height, width) for part in per_modality], dim=1)
        return tokens.reshape(tokens.shape[0], height, width, -1).permute(0, 3, 1, 2)
