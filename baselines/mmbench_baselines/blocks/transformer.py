"""Transformer layers over the tokens of one or several maps, and learned positions.

Axes: B batch, M modality, C channel, H W pixels of a map, h head, N token, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_kernels.ops.modal_attention import modal_attention_qkvpacked

DropoutSites = Literal["branch", "all"]


@dataclass(frozen=True)
class TransformerParams:
    """The size of a transformer.

    Attributes:
        width: D.
        hidden_width: Of the feed-forward part.
        heads: h; divides `width`.
        depth: Layers.
        dropout: Probability in training.
        dropout_sites: Where it acts in the attention branch: "branch" on its result, "all" also on the
            softmax matrix and once more on the projection, as in the published code.
    """

    width: int = 256
    hidden_width: int = 512
    heads: int = 8
    depth: int = 1
    dropout: float = 0.1
    dropout_sites: DropoutSites = "branch"

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ValueError: If a size is not positive, the heads do not divide the width, or the dropout is no
                probability below 1.
        """
        for name in ("width", "hidden_width", "heads", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"transformer {name} is {getattr(self, name)}, expected 1 or more")
        if self.width % self.heads:
            raise ValueError(f"token width {self.width} is not a multiple of {self.heads} heads")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected 0 <= dropout < 1")


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for queries, keys and values."""

    def __init__(self, params: TransformerParams) -> None:
        """Build the projections.

        Args:
            params: The transformer's size.
        """
        super().__init__()
        everywhere = params.dropout_sites == "all"
        self.heads = params.heads
        self.matrix_dropout = params.dropout if everywhere else 0.0
        self.qkv = nn.Linear(params.width, 3 * params.width, bias=False)
        self.proj = nn.Linear(params.width, params.width)
        self.proj_dropout = nn.Dropout(params.dropout if everywhere else 0.0)

    def forward(self, tokens: Tensor, attended: Tensor | None = None) -> Tensor:
        """Return (B, N, D); see `Transformer`."""
        batch_size, count, width = tokens.shape
        mixed = modal_attention_qkvpacked(
            self.qkv(tokens).view(batch_size, count, 3, self.heads, width // self.heads),
            present=attended,
            mode="full" if attended is None else "skip_tokens",
            dropout_p=self.matrix_dropout if self.training else 0.0,
        )  # (B, h, N, D/h)
        return cast(Tensor, self.proj_dropout(self.proj(mixed.transpose(1, 2).reshape(tokens.shape))))


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, params: TransformerParams) -> None:
        """Build the layers.

        Args:
            params: The transformer's size.
        """
        super().__init__()
        self.fc1 = nn.Linear(params.width, params.hidden_width)
        self.fc2 = nn.Linear(params.hidden_width, params.width)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, D)."""
        return cast(Tensor, self.fc2(self.dropout(F.gelu(self.fc1(tokens)))))


class TransformerLayer(nn.Module):
    """Attention and feed-forward part, each normalised before and added to its input."""

    def __init__(self, params: TransformerParams) -> None:
        """Build the layer.

        Args:
            params: The transformer's size.
        """
        super().__init__()
        self.attention_norm = nn.LayerNorm(params.width)
        self.attention = Attention(params)
        self.feed_forward_norm = nn.LayerNorm(params.width)
        self.feed_forward = FeedForward(params)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, tokens: Tensor, attended: Tensor | None = None) -> Tensor:
        """Return (B, N, D); see `Transformer`."""
        tokens = tokens + self.dropout(self.attention(self.attention_norm(tokens), attended))
        return cast(Tensor, tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens))))


class Transformer(nn.Module):
    """Layers that each first add the positions to the stream; no final normalisation."""

    def __init__(self, params: TransformerParams) -> None:
        """Build the layers.

        Args:
            params: Size.
        """
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(params) for _ in range(params.depth))

    def forward(self, tokens: Tensor, positions: Tensor, attended: Tensor | None = None) -> Tensor:
        """Run the layers.

        Args:
            tokens: (B, N, D).
            positions: (1, N, D).
            attended: (B, M) bool, which of the M modalities take part, each N / M tokens that stand together;
                at least one a row. None: all. The tokens of the others are zeros in the result: it is that
                of the sequence without them.

        Returns:
            (B, N, D).
        """
        for layer in self.layers:
            tokens = layer(tokens + positions, attended)
        if attended is None:
            return tokens
        left = attended.repeat_interleave(tokens.shape[1] // attended.shape[1], dim=1)  # (B, N)
        return tokens.masked_fill(~left[:, :, None], 0.0)


class GridPositions(nn.Module):
    """A learned vector for each cell of a square grid, interpolated where the map has another size."""

    def __init__(self, side: int, width: int) -> None:
        """Start from zeros.

        Args:
            side: Cells along each side of the grid as it is stored.
            width: D.
        """
        super().__init__()
        self.side = side
        self.table = nn.Parameter(torch.zeros(1, side * side, width))

    def forward(self, height: int, width: int) -> Tensor:
        """Return positions (1, height·width, D) of a map, row by row."""
        if (height, width) == (self.side, self.side):
            return self.table
        grid = tokens_to_map(self.table, self.side, self.side)
        return map_to_tokens(F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=False))


def map_to_tokens(x: Tensor) -> Tensor:
    """Return the cells of a map (B, D, H, W) as tokens (B, H·W, D), row by row."""
    return x.flatten(2).transpose(1, 2)


def tokens_to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Return tokens (B, H·W, D) as a map (B, D, H, W), the inverse of `map_to_tokens`."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], height, width)
