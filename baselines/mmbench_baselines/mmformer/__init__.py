"""mmFormer: hybrid encoders, attention across modalities; what is absent is zero where the modalities meet.

Axes: B batch, M modality, C channel, H W pixels, K class, n samples of one modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmbench_baselines.blocks.conv import init_kaiming
from mmbench_baselines.blocks.decoder import ModalityDecoder
from mmbench_baselines.blocks.encoder import REDUCTION, deepest_side
from mmbench_baselines.blocks.hybrid import Features, HybridEncoder, HybridFusion, TokenLayout
from mmbench_baselines.blocks.losses import DiceClasses, Interp, segmentation_parts
from mmbench_baselines.blocks.presence import all_have, rows_with
from mmbench_baselines.blocks.presets import Preset, resolve_variant
from mmbench_baselines.blocks.transformer import DropoutSites, TransformerParams
from mmbench_baselines.method import Batch, Method, Output
from mmbench_baselines.mmformer.presets import PRESETS, AbsentTokens, ModalitySupervision
from mmbench_baselines.optim import OptimizerParams, ScheduleParams, TrainingParams


class MMFormer(Method):
    """Multimodal transformer for incomplete data, in two dimensions.

    A modality is encoded by convolutions and then attention; the tokens of all modalities attend to each
    other; a decoder fuses the maps at five scales. An absent modality's maps and tokens are zeros. In
    training every coarser scale has a head, and one decoder for all segments each modality alone.

    The widths are the paper's: 18.8 M parameters for two modalities. The variant "mmFormer 256/512",
    `token_width=256, hidden_width=512`, has GEMMNet's widths and 3.9 M.
    """

    title = "mmFormer"
    paper = (
        "Zhang et al., mmFormer: Multimodal Medical Transformer for Incomplete Multimodal Learning of Brain "
        "Tumor Segmentation, MICCAI 2022, arXiv 2206.02425"
    )
    source = "https://github.com/YaoZhang93/mmFormer commit b18663a"
    licence = "Apache-2.0"
    parity = (
        "released and golden_corrected against a 2-D port of the authors' code, the latter with layout "
        "mended in it: outputs, losses and gradient norms in float64; default: regression numbers"
    )
    beware = "blind to the level of a height: its normalisation removes a constant added to a modality"
    deviations = (
        "two dimensions instead of three: one axis dropped",
        "one to four modalities of any channels; the source has four of one channel",
        "M1, layout='stacked': a fused cell holds one place of all modalities; released, places are mixed",
        "M2: fusion blocks are sized by the number of modalities; released, by the number of classes, which "
        "runs only where the two are equal",
        "M3: the convolutions for each modality that the released decoder builds and never runs are left out",
        "M5, modality_supervision='present': a modality's own segmentation learns where it is present; "
        "released, everywhere, from hidden content",
        "absent modalities are not encoded; released, they are, and the result is set to zero",
        "interp='logit', clamp=False: cross-entropy on logits; released, on clamped, upsampled probabilities",
        "dice_classes='present': classes absent from the batch drop out; released, they add a constant",
        "dropout_sites='branch': one dropout on the attention branch; released, three",
        "ignored pixels drop out of every loss term; the released code has none",
        "positions are interpolated for other sizes than train_size; released, the size is fixed",
        "the learning rate falls with every step; released, with every epoch, rounded to eight decimals",
        "the harness owns the data range ([-1, 1]), augmentation, seeds, the patterns' draw, validation and "
        "the choice of the checkpoint, which the released code makes on its test fold",
    )
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"token_width": 256, "hidden_width": 512},  # GEMMNet's widths
        "skip": {"tokens": "skip"},
    }
    paper_training = TrainingParams(
        OptimizerParams("adam", lr=2e-4, weight_decay=1e-4, betas=(0.9, 0.999), amsgrad=True),
        ScheduleParams("poly", power=0.9),
    )
    size_multiple = REDUCTION
    size_minimum = 32

    def __init__(
        self,
        modalities: Mapping[str, int],
        num_classes: int,
        *,
        ignore_index: int = 255,
        base_width: int = 8,
        token_width: int = 512,
        hidden_width: int = 4096,
        heads: int = 8,
        depth: int = 1,
        train_size: int = 512,
        dropout: float = 0.1,
        preset: Preset = "default",
        layout: TokenLayout | None = None,
        tokens: AbsentTokens | None = None,
        modality_supervision: ModalitySupervision | None = None,
        interp: Interp | None = None,
        clamp: bool | None = None,
        dice_classes: DiceClasses | None = None,
        dropout_sites: DropoutSites | None = None,
    ) -> None:
        """Build the networks.

        Args:
            modalities: Name -> number of channels, one to four modalities.
            num_classes: K.
            ignore_index: Target value of pixels that drop out of every loss term.
            base_width: Channels of the encoders' first stage.
            token_width: D of every transformer; 256 in the smaller variant.
            hidden_width: Of their feed-forward parts; 512 in the smaller variant.
            heads: Of their attention.
            depth: Their layers.
            train_size: Height and width, pixels, at which positions are stored.
            dropout: Of the transformers.
            preset: The method as meant ("default"), the published code ("released"), or that code with its
                token layout mended ("golden_corrected").
            layout: This and the following override the preset's value; see `presets.Variant`.
            tokens: Whether absent tokens attend.
            modality_supervision: Samples from which a modality's own segmentation learns.
            interp: Of the coarse heads.
            clamp: Of the cross-entropy.
            dice_classes: Classes in the mean of Dice.
            dropout_sites: In the attention branch.

        Raises:
            ValueError: If there are more than four modalities, or an option has an unknown value.
        """
        super().__init__(modalities, num_classes, ignore_index=ignore_index)
        if len(modalities) > 4:
            raise ValueError(
                f"mmFormer got {len(modalities)} modalities ({', '.join(modalities)}), expected 1 to 4"
            )
        grid_side = deepest_side(train_size, minimum=self.size_minimum)
        self.variant = variant = resolve_variant(
            PRESETS,
            preset,
            layout=layout,
            tokens=tokens,
            modality_supervision=modality_supervision,
            interp=interp,
            clamp=clamp,
            dice_classes=dice_classes,
            dropout_sites=dropout_sites,
        )
        params = TransformerParams(token_width, hidden_width, heads, depth, dropout, variant.dropout_sites)
        self.encoders = nn.ModuleDict(
            {name: HybridEncoder(c, base_width, params, grid_side) for name, c in self.modalities.items()}
        )
        self.fusion = HybridFusion(
            len(self.modalities), base_width, num_classes, params, layout=variant.layout
        )
        self.modality_decoder = ModalityDecoder(base_width, num_classes)
        init_kaiming(self)  # as in the source

    @property
    def sees_hidden_in_training(self) -> bool:
        """Whether a modality's own segmentation also learns where the modality is hidden."""
        return self.variant.modality_supervision == "all"

    def forward(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment a batch; see `Method.forward`.

        Returns:
            Logits (B, K, H, W); in training also aux "sides", the logits of the coarser scales, finest first,
            and "alone", modality -> (samples (n,) int64, their logits (n, K, H, W) from that modality).
        """
        self.check_input(images, present)
        return self._segment(images, present, encoded=present)

    def _segment(self, images: Mapping[str, Tensor], present: Tensor, *, encoded: Tensor) -> Output:
        """Segment from what is present; `encoded` (B, M), more than that, counts in training's aux only."""
        samples = {name: rows_with(encoded, column) for column, name in enumerate(images)}
        # A modality that no sample has is encoded as an empty batch: no special case, zero gradients.
        features = {
            name: self.encoders[name](image.index_select(0, samples[name])) for name, image in images.items()
        }
        visible = [
            _zero_where_absent(features[name], samples[name], present, column)
            for column, name in enumerate(images)
        ]
        attended = present if self.variant.tokens == "skip" else None
        logits, sides = self.fusion(visible, sides=self.training, present=present, attended=attended)
        if not self.training:
            return Output(logits)
        # The modalities share the decoder's weights: one pass over all of them as rows of one batch.
        levels = zip(*(feature.maps for feature in features.values()), strict=True)
        heads = self.modality_decoder([torch.cat(level) for level in levels])
        alone = heads.split([len(rows) for rows in samples.values()])
        by_modality = {name: (rows, head) for (name, rows), head in zip(samples.items(), alone, strict=True)}
        return Output(logits, {"sides": sides, "alone": by_modality})

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return cross-entropy plus Dice of each head: fused, of each coarser scale, of each modality."""
        heads = {"fused": output.logits}
        heads |= {f"scale.{index}": side for index, side in enumerate(output.aux.get("sides", ()), start=1)}
        parts = segmentation_parts(heads, batch.target, self.variant, ignore_index=self.ignore_index)
        for name, (samples, head) in output.aux.get("alone", {}).items():
            parts |= segmentation_parts(
                {f"modality.{name}": head},
                batch.target[samples],
                self.variant,
                ignore_index=self.ignore_index,
            )
        return {name: part.sum() for name, part in parts.items()}

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss terms of one batch; see `Method.training_step`.

        Raises:
            ValueError: If hidden modalities are to be learnt from and the batch comes without them.
        """
        if not self.sees_hidden_in_training:
            return super().training_step(batch)
        if batch.complete is None:
            raise ValueError(
                "MMFormer.training_step got batch.complete = None, expected the images before hiding: "
                "with modality_supervision='all' each modality's own segmentation learns from them"
            )
        self.check_input(batch.complete, batch.present)
        everything = torch.ones_like(batch.present)
        return self.loss(self._segment(batch.complete, batch.present, encoded=everything), batch)

    def parts(self) -> dict[str, list[nn.Module]]:
        """Name the parts: an encoder a modality, transformers, decoders."""
        encoders = {name: e for name, e in self.encoders.items() if isinstance(e, HybridEncoder)}
        intra = [(e.token_proj, e.positions, e.transformer) for e in encoders.values()]
        inter = (self.fusion.transformer, self.fusion.inter_proj)
        named: dict[str, list[nn.Module]] = {f"encoder.{name}": [e.encoder] for name, e in encoders.items()}
        named["intra"] = [module for modules in intra for module in modules if module is not None]
        named["inter"] = [module for module in inter if module is not None]
        named["fusion_decoder"] = [self.fusion.decoder]
        named["modality_decoder"] = [self.modality_decoder]
        return named


def _zero_where_absent(features: Features, samples: Tensor, present: Tensor, column: int) -> Features:
    """Return the features of all B samples, zeros where absent.

    Args:
        features: Of n samples.
        samples: (n,) int64, which of the batch these are, in order; the present ones are among them.
        present: (B, M) bool.
        column: The modality's.
    """
    if all_have(present, column):
        return features
    rows = rows_with(present, column)
    kept = slice(None) if len(rows) == len(samples) else present[samples, column]
    return features.over_batch(lambda x: x.new_zeros(len(present), *x.shape[1:]).index_copy(0, rows, x[kept]))
