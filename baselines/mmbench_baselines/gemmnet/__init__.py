"""GEMMNet: segmentation of two modalities, where a missing one is generated from the other.

Axes: B batch, M modality, C channel, H W pixels, K class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mmbench_baselines.blocks.conv import SegmenterInit, init_kaiming
from mmbench_baselines.blocks.decoder import ModalityDecoder
from mmbench_baselines.blocks.encoder import REDUCTION, deepest_side
from mmbench_baselines.blocks.gan import GAN_OPTIMIZER, GanNorm, PatchDiscriminator
from mmbench_baselines.blocks.hybrid import TokenLayout
from mmbench_baselines.blocks.imputation import complete_images, fill_rows, missing_rows, pair_sources
from mmbench_baselines.blocks.losses import DiceClasses, Interp, segmentation_parts
from mmbench_baselines.blocks.presets import Preset, resolve_variant
from mmbench_baselines.blocks.transformer import DropoutSites, TransformerParams
from mmbench_baselines.gemmnet.coloss import generation_terms
from mmbench_baselines.gemmnet.generator import HybridGenerator
from mmbench_baselines.gemmnet.hyfex import HyFEx
from mmbench_baselines.gemmnet.hyfma import HyFMA
from mmbench_baselines.gemmnet.presets import (
    PRESETS,
    Adversarial,
    Condition,
    GeneratorTraining,
)
from mmbench_baselines.method import Batch, Method, Output
from mmbench_baselines.optim import OptimizerParams, ScheduleParams, TrainingParams, build_optimizer
from mmbench_kernels.ops.norm_act_pad import Groups

Attend = Literal["both", "intra", "inter", "off"]


class GEMMNet(Method):
    """Hybrid encoders, multiscale fusion and losses on every scale and modality, with generated stand-ins."""

    title = "GEMMNet"
    paper = (
        "Kieu et al., Filling the Gaps: A Multitask Hybrid Multiscale Generative Framework for Missing "
        "Modality in Remote Sensing Semantic Segmentation, DICTA 2025, arXiv 2509.11102"
    )
    source = "https://github.com/nhikieu/GEMMNet commit 88334c0"
    licence = "MIT"
    parity = (
        "released and golden_corrected against the authors' code, the latter with norm and tokens mended in "
        "it: outputs, losses and gradient norms in float64; default: regression numbers"
    )
    deviations = (
        "the released code imports its losses from a file that is not public; mmFormer's, one axis less, "
        "stand in for it, also where parity was tested",
        "init='kaiming': the segmenter's convolutions start as mmFormer's; released, as in PyTorch",
        "norm='sample': statistics over the whole sample, as the released layers really take them; per "
        "channel, as they were meant, a constant added to a modality, such as a height, changes nothing",
        "tokens='stacked': a fused cell holds one place of both modalities; released, places are mixed",
        "condition='source': the discriminator compares with the source; released, with the target itself",
        "adversarial='separate': discriminators are frozen in the generators' term and both have an Adam "
        "(2e-4, 0.5, 0.999); released, one SGD for all, which trains the discriminators against themselves",
        "idle_generators=False: a generator runs only where its image is used",
        "generator_training='every': generators learn from every row; released, where the target is hidden",
        "interp='logit', clamp=False: cross-entropy on logits; released, on clamped, upsampled probabilities",
        "dice_classes='present': classes absent from the batch drop out; released, they add a constant",
        "gan_norm='instance': released, batch norm, whose images differ between training and evaluation",
        "dropout_sites='branch': one dropout on the attention branch; released, three",
        "presence is honoured per sample; released, the first row of a training batch decides for all",
        "inputs are never written to; the released evaluation overwrites the caller's tensor",
        "the released evaluation of a one-channel image raises; here it runs",
        "ignored pixels drop out of every loss term; the released code has none",
        "positions are interpolated for other sizes than train_size; released, the size is fixed",
        "train()/eval() is the only state; no device is assumed",
        "the harness owns the data range ([-1, 1]), augmentation, seeds, accumulation groups, the patterns' "
        "draw, validation and the choice of the checkpoint",
    )
    paper_training = TrainingParams(
        OptimizerParams("sgd", lr=1e-3, momentum=0.99, nesterov=True),
        ScheduleParams("warm_restarts", period=15),
        accumulation=8,
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
        token_width: int = 256,
        hidden_width: int = 512,
        heads: int = 8,
        depth: int = 1,
        generator_width: int = 32,
        discriminator_width: int = 64,
        train_size: int = 512,
        dropout: float = 0.1,
        transformer: Attend = "both",
        preset: Preset = "default",
        init: SegmenterInit | None = None,
        norm: Groups | None = None,
        tokens: TokenLayout | None = None,
        condition: Condition | None = None,
        adversarial: Adversarial | None = None,
        idle_generators: bool | None = None,
        generator_training: GeneratorTraining | None = None,
        interp: Interp | None = None,
        clamp: bool | None = None,
        dice_classes: DiceClasses | None = None,
        gan_norm: GanNorm | None = None,
        dropout_sites: DropoutSites | None = None,
    ) -> None:
        """Build the networks.

        Args:
            modalities: Name -> number of channels; two of them.
            num_classes: K.
            ignore_index: Target value of pixels that drop out of every loss term.
            base_width: Channels of the encoders' first stage.
            token_width: D of every transformer.
            hidden_width: Of their feed-forward parts.
            heads: Of their attention.
            depth: Their layers.
            generator_width: Channels after a generator's first layer.
            discriminator_width: Channels after a discriminator's first layer.
            train_size: Height and width, pixels, at which positions are stored.
            dropout: Of the transformers.
            transformer: Which of the segmenter's transformers there are: within modalities, across, both or
                neither; the generators keep theirs.
            preset: The method as meant ("default"), the published code ("released"), or that code with its
                normalisation and token layout mended ("golden_corrected").
            init: This and the following override the preset's value; see `presets.Variant`.
            norm: Of the segmenter.
            tokens: Layout of the fused tokens.
            condition: Of the discriminators.
            adversarial: Coupling of generators and discriminators.
            idle_generators: Whether generators run where nothing is missing.
            generator_training: Rows on which they learn.
            interp: Of the coarse heads.
            clamp: Of the cross-entropy.
            dice_classes: Classes in the mean of Dice.
            gan_norm: Of generators and discriminators.
            dropout_sites: In the attention branch.

        Raises:
            ValueError: If there are not two modalities, or an option has an unknown value.
        """
        super().__init__(modalities, num_classes, ignore_index=ignore_index)
        self.sources = pair_sources("GEMMNet", self.modalities)
        if transformer not in get_args(Attend):
            raise ValueError(f"transformer is {transformer!r}, expected one of {list(get_args(Attend))}")
        grid_side = deepest_side(train_size, minimum=self.size_minimum)
        self.variant = variant = resolve_variant(
            PRESETS,
            preset,
            init=init,
            norm=norm,
            tokens=tokens,
            condition=condition,
            adversarial=adversarial,
            idle_generators=idle_generators,
            generator_training=generator_training,
            interp=interp,
            clamp=clamp,
            dice_classes=dice_classes,
            gan_norm=gan_norm,
            dropout_sites=dropout_sites,
        )
        params = TransformerParams(token_width, hidden_width, heads, depth, dropout, variant.dropout_sites)
        intra, inter = transformer in ("both", "intra"), transformer in ("both", "inter")
        self.encoders = nn.ModuleDict()
        for name, channels in self.modalities.items():
            self.encoders[name] = HyFEx(
                channels, base_width, params, grid_side, norm=variant.norm, intra=intra, inter=inter
            )
        self.fusion = HyFMA(
            len(self.modalities),
            base_width,
            num_classes,
            params,
            norm=variant.norm,
            layout=variant.tokens,
            inter=inter,
        )
        self.modality_decoder = ModalityDecoder(base_width, num_classes, norm=variant.norm)
        if variant.init == "kaiming":
            for part in (self.encoders, self.fusion, self.modality_decoder):
                init_kaiming(part)
        self.generators = nn.ModuleDict()
        self.discriminators = nn.ModuleDict()
        for name, source in self.sources.items():
            channels, given = self.modalities[name], self.modalities[source]
            condition_channels = channels if variant.condition == "target" else given
            self.generators[name] = HybridGenerator(
                given, channels, generator_width, params, grid_side, norm=variant.gan_norm
            )
            self.discriminators[name] = PatchDiscriminator(
                condition_channels + channels, discriminator_width, norm=variant.gan_norm
            )

    @property
    def sees_hidden_in_training(self) -> bool:
        """True: the hidden image is what the generator and the discriminator learn from."""
        return True

    def forward(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment; a missing modality is generated from the other, sample by sample.

        Args:
            images: modality -> (B, C, H, W) float in [-1, 1].
            present: (B, 2) bool.

        Returns:
            Logits (B, K, H, W) and the images that were segmented; in training also the logits of the other
            heads, by name.
        """
        self.check_input(images, present)
        missing = missing_rows(present, list(self.modalities))
        fakes = {name: self._generate(name, images, rows) for name, rows in missing.items()}
        return self._segment(fill_rows(images, missing, fakes))

    def _generate(self, name: str, images: Mapping[str, Tensor], rows: Tensor | slice) -> Tensor:
        """Return one modality, (n, C, H, W), generated from the given rows of the other."""
        fake: Tensor = self.generators[name](images[self.sources[name]][rows])
        return fake

    def _segment(self, images: Mapping[str, Tensor]) -> Output:
        """Segment images of which none is missing."""
        features = [self.encoders[name](image) for name, image in images.items()]
        logits, sides = self.fusion(features, sides=self.training)
        if not self.training:
            return Output(logits, imputed=dict(images))
        # The modalities share the decoder's weights: one pass over all of them as rows of one batch.
        maps = [torch.cat(level) for level in zip(*(feature.maps for feature in features), strict=True)]
        by_modality = self.modality_decoder(maps).chunk(len(features))
        aux = {f"modality.{name}": head for name, head in zip(images, by_modality, strict=True)}
        aux |= {f"scale.{index}": head for index, head in enumerate(sides, start=1)}
        return Output(logits, aux, dict(images))

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return cross-entropy plus Dice of each head: fused, of each modality, of each coarser scale."""
        heads = {"fused": output.logits, **output.aux}
        parts = segmentation_parts(heads, batch.target, self.variant, ignore_index=self.ignore_index)
        return {name: part.sum() for name, part in parts.items()}

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Return the segmentation terms and, for each generated modality, those of its generation.

        Raises:
            ValueError: If the batch comes without the images before hiding.
        """
        complete = complete_images("GEMMNet", batch)
        self.check_input(batch.images, batch.present)
        missing = missing_rows(batch.present, list(self.modalities))
        every = self.variant.generator_training == "every"
        learned: Mapping[str, Tensor | slice] = (
            dict.fromkeys(self.modalities, slice(None)) if every else missing
        )
        fakes = {name: self._generate(name, complete, rows) for name, rows in learned.items()}
        if self.variant.idle_generators:
            self._run_idle_generators(complete, batch.present)
        # A generator runs once: the rows that lack its image are segmented with it, all of them are judged.
        imputed = {name: fakes[name][rows] if every else fakes[name] for name, rows in missing.items()}
        terms = self.loss(self._segment(fill_rows(batch.images, missing, imputed)), batch)
        for name, rows in learned.items():
            given, real = complete[self.sources[name]][rows], complete[name][rows]
            parts = generation_terms(self.discriminators[name], given, real, fakes[name], self.variant)
            terms |= {f"{term}.{name}": value for term, value in parts.items()}
        return terms

    @torch.no_grad()
    def _run_idle_generators(self, complete: Mapping[str, Tensor], present: Tensor) -> None:
        """Move the running statistics as the released code does, which runs every generator on every row."""
        for column, name in enumerate(self.modalities):
            idle = present[:, column]
            if bool(idle.any()):
                self._generate(name, complete, idle)

    def configure_optimizers(self, params: OptimizerParams) -> list[torch.optim.Optimizer]:
        """Return the segmenter's optimiser and an Adam each for generators and discriminators.

        Args:
            params: Of the segmenter; under `adversarial="joint"` of everything.
        """
        if self.variant.adversarial == "joint":
            return [build_optimizer(self.parameters(), params)]
        segmenter = nn.ModuleList([self.encoders, self.fusion, self.modality_decoder])
        return [
            build_optimizer(segmenter.parameters(), params),
            build_optimizer(self.generators.parameters(), GAN_OPTIMIZER),
            build_optimizer(self.discriminators.parameters(), GAN_OPTIMIZER),
        ]

    def parts(self) -> dict[str, list[nn.Module]]:
        """Name the parts: an encoder a modality, transformers, decoders, generators, discriminators."""
        extractors = {name: e for name, e in self.encoders.items() if isinstance(e, HyFEx)}
        intra = [(e.token_proj, e.positions, e.transformer) for e in extractors.values()]
        inter = (self.fusion.transformer, self.fusion.inter_proj)
        named: dict[str, list[nn.Module]] = {f"encoder.{name}": [e.encoder] for name, e in extractors.items()}
        named["intra"] = [module for modules in intra for module in modules if module is not None]
        named["inter"] = [module for module in inter if module is not None]
        named["fusion_decoder"] = [self.fusion.decoder]
        named["modality_decoder"] = [self.modality_decoder]
        named["generators"] = list(self.generators.values())
        named["discriminators"] = list(self.discriminators.values())
        return named
