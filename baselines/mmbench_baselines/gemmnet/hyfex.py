"""HyFEx: the hybrid feature extractor of one modality, convolutions and then attention.

Axes: C channel.
"""

from __future__ import annotations

from mmbench_baselines.blocks.hybrid import HybridEncoder
from mmbench_baselines.blocks.transformer import TransformerParams
from mmbench_kernels.ops.norm_act_pad import Groups


class HyFEx(HybridEncoder):
    """The hybrid encoder with the ablations of its attention.

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
        super().__init__(
            in_channels,
            base_width,
            params,
            grid_side,
            norm=norm,
            positions=intra or inter,
            attention=intra,
        )
