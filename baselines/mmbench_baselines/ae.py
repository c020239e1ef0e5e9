"""AE: a missing modality is decoded from an encoding of the other, then both are segmented.

Axes: B batch, C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from mmbench_baselines.blocks.gan import RECONSTRUCTION_WEIGHT
from mmbench_baselines.blocks.imputation import ImputingMethod
from mmbench_kernels.ops.norm_act_pad import Groups


class AE(ImputingMethod):
    """An autoencoder a direction, trained on every real pair to reconstruct one modality from the other.

    Four layers down and four up, without skips: all that is imputed has passed the bottleneck.
    """

    title = "AE"
    paper = (
        "The autoencoder baseline that Kieu et al. (GEMMNet, DICTA 2025, arXiv 2509.11102) name; defined "
        "here after the cross-modal reconstruction of Ngiam et al., Multimodal Deep Learning, ICML 2011"
    )
    source = (
        "defined and written for this benchmark: no official definition or code is public; "
        "initialisation as in junyanz/pytorch-CycleGAN-and-pix2pix, commit 032e884"
    )
    licence = "MIT, as this repository; BSD of the repository it follows"
    parity = "no public code: regression numbers of our own definition"
    deviations = (
        "No official definition or code exists: this one is ours and may differ from GEMMNet's anywhere.",
        "Encoders and fusion decoder are GEMMNet's, without its transformers, modality decoder and losses on "
        "coarser scales; the generators are GEMMNet's without the transformer and without skips.",
        "The reconstruction has GEMMNet's effective weight, 5 times the mean absolute difference.",
        "Generators learn from every row, whatever is hidden, and through the segmentation of their images.",
        "Instance normalisation in the generators: a generated image never depends on the rest of the batch.",
        "The optimiser, schedule and patterns of recipe 'paper' are GEMMNet's.",
    )

    def __init__(
        self,
        modalities: Mapping[str, int],
        num_classes: int,
        *,
        ignore_index: int = 255,
        base_width: int = 8,
        generator_width: int = 32,
        norm: Groups = "sample",
    ) -> None:
        """Build the networks.

        Args:
            modalities: Name -> number of channels; two of them.
            num_classes: K.
            ignore_index: Target value of pixels that drop out of the segmentation term.
            base_width: Channels of the encoders' first stage.
            generator_width: Channels after a generator's first layer.
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
            skips=False,
            norm=norm,
        )

    def generation_terms(self, name: str, given: Tensor, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return 5 times the mean absolute difference; see `ImputingMethod.generation_terms`."""
        return {"reconstruction": RECONSTRUCTION_WEIGHT * F.l1_loss(fake, real)}
