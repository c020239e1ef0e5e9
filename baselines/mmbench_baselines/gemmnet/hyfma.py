"""HyFMA: hybrid fusion with multiscale awareness, attention across modalities and fusion at every scale.

Axes: B batch, M modality, C channel, H W pixels, K class, N token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmbench_baselines.blocks.decoder import FusionDecoder
from mmbench_baselines.blocks.encoder import stage_widths
from mmbench_baselines.blocks.transformer import Transformer, TransformerParams, tokens_to_map
from mmbench_baselines.gemmnet.hyfex import Features
from mmbench_baselines.gemmnet.presets import TokenLayout
from mmbench_kernels.ops.norm_act_pad import Groups


class HyFMA(nn.Module):
    """The tokens of all modalities attend to each other, then a decoder fuses the maps at five scales.

    Source: GEMMNet (arXiv 2509.11102), Hybrid Fusion with Multiscale Awareness.
    """

    def __init__(
        self,
        num_modalities: int,
        base_width: int,
        num_classes: int,
        params: TransformerParams,
        *,
        norm: Groups,
        layout: TokenLayout,
        inter: bool = True,
    ) -> None:
        """Build transformer, projection and decoder.

        Args:
            num_modalities: M.
            base_width: Of the encoders.
            num_classes: K.
            params: The transformer's size.
            norm: See `PreActivationConv`.
            layout: How tokens become a map again; see `Variant.tokens`.
            inter: Whether the tokens attend across modalities.
        """
        super().__init__()
        self.layout = layout
        self.transformer = Transformer(params) if inter else None
        deepest = stage_widths(base_width)[-1]
        self.inter_proj = nn.Conv2d(num_modalities * params.width, num_modalities * deepest, 1)
        self.decoder = FusionDecoder(num_modalities, base_width, num_classes, norm=norm)

    def forward(self, features: Sequence[Features], *, sides: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Return the fused logits (B, K, H, W) and, with `sides`, those of sizes 1/2, 1/4, 1/8 and 1/16."""
        tokens = torch.cat([feature.tokens for feature in features], dim=1)  # (B, M·N, D)
        if self.transformer is not None:
            positions = [feature.positions for feature in features if feature.positions is not None]
            tokens = self.transformer(tokens, torch.cat(positions, dim=1))
        height, width = features[0].maps[-1].shape[-2:]
        bottleneck = self.inter_proj(self._to_map(tokens, len(features), height, width))
        levels = zip(*(feature.maps[:-1] for feature in features), strict=True)
        skips = [torch.cat(level, dim=1) for level in levels]
        logits, side_logits = self.decoder(skips, bottleneck, sides=sides)
        return logits, side_logits

    def _to_map(self, tokens: Tensor, num_modalities: int, height: int, width: int) -> Tensor:
        """Return (B, M·D, H, W) from (B, M·N, D)."""
        if self.layout == "stacked":
            per_modality = tokens.chunk(num_modalities, dim=1)
            return torch.cat([tokens_to_map(part, height, width) for part in per_modality], dim=1)
        return tokens.reshape(tokens.shape[0], height, width, -1).permute(0, 3, 1, 2)
