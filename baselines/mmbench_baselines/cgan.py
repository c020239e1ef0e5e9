"""cGAN: a missing modality is generated from the other by a conditional GAN, then both are segmented.

Axes: B batch, C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_baselines.blocks.gan import (
    ADVERSARIAL_WEIGHT,
    GAN_OPTIMIZER,
    RECONSTRUCTION_WEIGHT,
    PatchDiscriminator,
    adversarial_losses,
    init_convolutions,
)
from mmbench_baselines.blocks.imputation import ImputingMethod
from mmbench_baselines.optim import OptimizerParams, build_optimizer
from mmbench_kernels.ops.norm_act_pad import Groups


class CGAN(ImputingMethod):
    """A U-Net generator and a patch discriminator a direction, conditioned on the source modality."""

    title = "cGAN"
    paper = (
        "The conditional GAN baseline that Kieu et al. (GEMMNet, DICTA 2025, arXiv 2509.11102) name; defined "
        "here after Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR "
        "2017, arXiv 1611.07004, and Bischke et al., Overcoming Missing and Incomplete Modalities with "
        "Generative Adversarial Networks for Building Footprint Segmentation, 2018"
    )
    source = (
        "defined and written for this benchmark: no official definition or code is public; adversarial "
        "training after junyanz/pytorch-CycleGAN-and-pix2pix, commit 032e884"
    )
    licence = "MIT, as this repository; BSD of the repository it follows"
    parity = "no public code: regression numbers of our own definition"
    deviations = (
        "No official definition or code exists: this one is ours and may differ from GEMMNet's anywhere.",
        "Encoders and fusion decoder are GEMMNet's, without its transformers, modality decoder and losses on "
        "coarser scales; the generators are GEMMNet's without the transformer.",
        "pix2pix has a U-Net of 8 levels and width 64 with dropout; here 4 levels, width 32, no dropout.",
        "Instance normalisation in generators and discriminators; pix2pix, batch normalisation, whose images "
        "differ between training and evaluation.",
        "The generators' pix2pix loss, adversarial + 100 L1, enters the total with GEMMNet's weight 0.05.",
        "Generators and discriminators step together from one backward pass; pix2pix, discriminator first.",
        "Generators learn from every row, whatever is hidden, and through the segmentation of their images.",
        "The schedule, and for the segmenter the optimiser, of recipe 'paper' are GEMMNet's.",
    )

    def __init__(
        self,
        modalities: Mapping[str, int],
        num_classes: int,
        *,
        ignore_index: int = 255,
        base_width: int = 8,
        generator_width: int = 32,
        discriminator_width: int = 64,
        norm: Groups = "sample",
    ) -> None:
        """Build the networks.

        Args:
            modalities: Name -> number of channels; two of them.
            num_classes: K.
            ignore_index: Target value of pixels that drop out of the segmentation term.
            base_width: Channels of the encoders' first stage.
            generator_width: Channels after a generator's first layer.
            discriminator_width: Channels after a discriminator's first layer.
            norm: Statistics of the segmenter's normalisation, "channel" or "sample"; per channel, a
                constant added to a modality changes nothing.

        Raises:
            ValueError: If there are not two modalities.
        """
        super().__init__(
            modalities,
            num_classes,
            ignore_index=ignore_index,
            base_width=base_width,
            generator_width=generator_width,
            skips=True,
            norm=norm,
        )
        pair_channels = sum(self.modalities.values())
        self.discriminators = nn.ModuleDict(
            {
                name: PatchDiscriminator(pair_channels, discriminator_width, norm="instance")
                for name in self.modalities
            }
        )
        init_convolutions(self.discriminators)

    def generation_terms(self, name: str, given: Tensor, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return the terms of one generator and its discriminator; see `ImputingMethod.generation_terms`.

        The discriminator's own keeps its full weight: its optimiser sees nothing else.
        """
        judged, fooled = adversarial_losses(self.discriminators[name], given, real, fake, freeze=True)
        return {
            "discriminator": judged,
            "adversarial": ADVERSARIAL_WEIGHT * fooled,
            "reconstruction": RECONSTRUCTION_WEIGHT * F.l1_loss(fake, real),
        }

    def configure_optimizers(self, params: OptimizerParams) -> list[torch.optim.Optimizer]:
        """Return the segmenter's optimiser and an Adam each for generators and discriminators.

        Args:
            params: Of the segmenter.
        """
        segmenter = nn.ModuleList([self.encoders, self.decoder])
        return [
            build_optimizer(segmenter.parameters(), params),
            build_optimizer(self.generators.parameters(), GAN_OPTIMIZER),
            build_optimizer(self.discriminators.parameters(), GAN_OPTIMIZER),
        ]

    def parts(self) -> dict[str, list[nn.Module]]:
        """Name the parts: an encoder a modality, the decoder, generators, discriminators."""
        return super().parts() | {"discriminators": list(self.discriminators.values())}
