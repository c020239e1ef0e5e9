"""HyFEx: the hybrid feature extractor of one modality, convolutions and then attention.

Axes: B batch, C channel, H W pixels, N token, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mmbench_baselines.blocks.encoder import ConvEncoder, stage_widths
from mmbench_baselines.blocks.transformer import GridPositions, Transformer, TransformerParams, map_to_tokens
from mmbench_kernels.ops.norm_act_pad import Groups


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


class HyFEx(nn.Module):
    """A convolutional encoder, whose deepest map then attends to itself.

    Source: GEMMNet (arXiv 2509.11102), Hybrid Feature Extractor.
    """

    def __init__(
        self,
        in_channels: int,
        base_width: int,
        params: TransformerParams,
        grid_side: int,
        *,
        norm: Groups,
        intra: bool = True,
        inter: bool = True,
    ) -> None:
        """Build encoder, projection, positions and transformer.

        Args:
            in_channels: C of the image.
            base_width: Channels of the encoder's first stage.
            params: The transformer's size.
            grid_side: Tokens along each side of the grid for which positions are stored.
            norm: See `PreActivationConv`.
            intra: Whether the tokens attend within the modality.
            inter: Whether they will attend across modalities; without both there are no positions.
        """
        super().__init__()
        self.encoder = ConvEncoder(in_channels, base_width, norm=norm)
        self.token_proj = nn.Conv2d(stage_widths(base_width)[-1], params.width, 1)
        self.positions = GridPositions(grid_side, params.width) if intra or inter else None
        self.transformer = Transformer(params) if intra else None

    def forward(self, image: Tensor) -> Features:
        """Extract the features of an image (B, C, H, W)."""
        maps = self.encoder(image)
        tokens = map_to_tokens(self.token_proj(maps[-1]))
        positions = self.positions(*maps[-1].shape[-2:]) if self.positions is not None else None
        if self.transformer is not None:
            tokens = self.transformer(tokens, positions)
        return Features(maps, tokens, positions)
