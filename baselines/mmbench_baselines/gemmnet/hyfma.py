"""HyFMA: hybrid fusion with multiscale awareness, attention across modalities and fusion at every scale.

Axes: M modality, K class.
"""

from __future__ import annotations

from mmbench_baselines.blocks.hybrid import HybridFusion, TokenLayout
from mmbench_baselines.blocks.transformer import TransformerParams
from mmbench_kernels.ops.norm_act_pad import Groups


class HyFMA(HybridFusion):
    """The hybrid fusion with the ablation of its attention.

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
            layout: How tokens become a map again; see `HybridFusion`.
            inter: Whether the tokens attend across modalities.
        """
        super().__init__(
            num_modalities, base_width, num_classes, params, norm=norm, layout=layout, attention=inter
        )
