"""The choices in which GEMMNet as published differs from GEMMNet as meant, and their named combinations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mmbench_baselines.blocks.conv import SegmenterInit
from mmbench_baselines.blocks.gan import GanNorm
from mmbench_baselines.blocks.hybrid import TokenLayout
from mmbench_baselines.blocks.losses import SegmentationChoices
from mmbench_baselines.blocks.transformer import DropoutSites
from mmbench_kernels.ops.norm_act_pad import Groups

Condition = Literal["source", "target"]
Adversarial = Literal["separate", "joint"]
GeneratorTraining = Literal["every", "hidden"]


@dataclass(frozen=True)
class Variant(SegmentationChoices):
    """One value for each choice, those of the losses among them; the defaults are the shipped method.

    Attributes:
        init: How the segmenter's convolutions start: see `init_kaiming`, or as in PyTorch, as released.
        norm: Statistics of the segmenter's normalisation: over the whole sample, as released, or per channel.
            The latter, which the class names of the released code suggest, makes the logits blind to a
            constant added to a modality: a roof that fills the window is a lawn.
        tokens: How the tokens of all modalities become a map again; see `HybridFusion`.
        condition: What the discriminator compares a candidate with: the source of the generation, or the
            real target image itself.
        adversarial: "separate" freezes the discriminators in the generators' term and gives generators and
            discriminators an Adam each; "joint" lets that term reach them, under one optimiser for all.
        idle_generators: Whether a generator also runs, in training, on rows that need no generated image;
            it moves the running statistics of batch normalisation and nothing else.
        generator_training: Rows on which generators and discriminators learn: every one, or those that lack
            the generated modality.
        gan_norm: Normalisation of generators and discriminators.
        dropout_sites: Where dropout acts in the attention branch; see `TransformerParams`.
    """

    init: SegmenterInit = "kaiming"
    norm: Groups = "sample"
    tokens: TokenLayout = "stacked"
    condition: Condition = "source"
    adversarial: Adversarial = "separate"
    idle_generators: bool = False
    generator_training: GeneratorTraining = "every"
    gan_norm: GanNorm = "instance"
    dropout_sites: DropoutSites = "branch"


_RELEASED = Variant(
    init="pytorch",
    norm="sample",
    tokens="released",
    condition="target",
    adversarial="joint",
    idle_generators=True,
    generator_training="hidden",
    interp="prob",
    clamp=True,
    dice_classes="all",
    gan_norm="batch",
    dropout_sites="all",
)
PRESETS: dict[str, Variant] = {
    "default": Variant(),
    "golden_corrected": replace(_RELEASED, norm="channel", tokens="stacked"),
    "released": _RELEASED,
}
