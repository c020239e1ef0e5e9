"""The networks that generate a missing modality from the other, and judge the result.

Axes: B batch, C channel, H W pixels, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmbench_baselines.blocks.gan import GanNorm, ImageGenerator
from mmbench_baselines.blocks.transformer import (
    GridPositions,
    Transformer,
    TransformerParams,
    map_to_tokens,
    tokens_to_map,
)


class TokenBottleneck(nn.Module):
    """The deepest map of a generator attends to itself."""

    def __init__(self, in_channels: int, params: TransformerParams, grid_side: int) -> None:
        """Build projection, positions and transformer.

        Args:
            in_channels: C.
            params: The transformer's size.
            grid_side: Tokens along each side of the grid for which positions are stored.
        """
        super().__init__()
        self.token_proj = nn.Conv2d(in_channels, params.width, 1)
        self.positions = GridPositions(grid_side, params.width)
        self.transformer = Transformer(params)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D, H, W) from (B, C, H, W)."""
        height, width = x.shape[-2:]
        tokens = map_to_tokens(self.token_proj(x))
        return tokens_to_map(self.transformer(tokens, self.positions(height, width)), height, width)


class HybridGenerator(ImageGenerator):
    """A U-Net with a transformer at its bottleneck.

    Source: GEMMNet (arXiv 2509.11102), the generators of the missing modality.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int,
        params: TransformerParams,
        grid_side: int,
        *,
        norm: GanNorm,
    ) -> None:
        """Build the generator of one direction.

        Args:
            in_channels: Of the source modality.
            out_channels: Of the generated modality.
            width: Channels after the first layer.
            params: The transformer's size.
            grid_side: Tokens along each side of the grid for which positions are stored.
            norm: Kind.
        """
        super().__init__(
            in_channels,
            out_channels,
            width,
            norm=norm,
            bottleneck=TokenBottleneck(8 * width, params, grid_side),
            bottleneck_width=params.width,
        )
