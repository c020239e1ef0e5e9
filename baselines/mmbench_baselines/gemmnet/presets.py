"""The choices in which GEMMNet as published differs from GEMMNet as meant, and their named combinations."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from mmbench_baselines.blocks.gan import GanNorm
from mmbench_baselines.blocks.transformer import DropoutSites
from mmbench_kernels.ops.norm_act_pad import Groups

Preset = Literal["default", "golden_corrected", "released"]
TokenLayout = Literal["stacked", "released"]
Condition = Literal["source", "target"]
Adversarial = Literal["separate", "joint"]
GeneratorTraining = Literal["every", "hidden"]
Interp = Literal["logit", "prob"]
DiceClasses = Literal["present", "all"]


@dataclass(frozen=True)
class Variant:
    """One value for each choice; the defaults are the shipped method.

    Attributes:
        norm: Statistics of the segmenter's normalisation: per channel of a sample, or over the whole sample.
        tokens: How the tokens of all modalities become a map again: "stacked" puts the modalities on
            channels, so that a cell holds one place; "released" reshapes the concatenated sequence, so that
            a cell holds neighbouring tokens of one modality.
        condition: What the discriminator compares a candidate with: the source of the generation, or the
            real target image itself.
        adversarial: "separate" freezes the discriminators in the generators' term and gives generators and
            discriminators an Adam each; "joint" lets that term reach them, under one optimiser for all.
        idle_generators: Whether a generator also runs, in training, on rows that need no generated image;
            it moves the running statistics of batch normalisation and nothing else.
        generator_training: Rows on which generators and discriminators learn: every one, or those that lack
            the generated modality.
        interp: What of the coarse heads is brought to the size of the target: logits or probabilities.
        clamp: Whether the cross-entropy clamps probabilities to [0.005, 1].
        dice_classes: Classes in the mean of Dice: those in the batch, or all.
        gan_norm: Normalisation of generators and discriminators.
        dropout_sites: Where dropout acts in the attention branch; see `TransformerParams`.
    """

    norm: Groups = "channel"
    tokens: TokenLayout = "stacked"
    condition: Condition = "source"
    adversarial: Adversarial = "separate"
    idle_generators: bool = False
    generator_training: GeneratorTraining = "every"
    interp: Interp = "logit"
    clamp: bool = False
    dice_classes: DiceClasses = "present"
    gan_norm: GanNorm = "instance"
    dropout_sites: DropoutSites = "branch"


_RELEASED = Variant(
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


def resolve_variant(preset: str, **choices: Any) -> Variant:
    """Return the preset with the given choices in place of its own; None keeps the preset's.

    Raises:
        ValueError: If the preset or a value is unknown.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}, expected one of {sorted(PRESETS)}")
    variant = replace(
        PRESETS[preset], **{name: value for name, value in choices.items() if value is not None}
    )
    hints = get_type_hints(Variant)
    for field in fields(variant):
        value, allowed = getattr(variant, field.name), get_args(hints[field.name]) or (False, True)
        if value not in allowed:
            raise ValueError(f"{field.name} is {value!r}, expected one of {list(allowed)}")
    return variant
