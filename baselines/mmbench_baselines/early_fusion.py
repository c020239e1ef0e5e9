"""All modalities concatenated at the input, the missing ones set to the training mean, no hiding in training.

Axes: B batch, M modality, C channel, H W pixels, K class.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mmbench_baselines.blocks.control import Control, concatenate_filled
from mmbench_baselines.blocks.segmenter import Segmenter
from mmbench_baselines.method import Output


class EarlyFusion(Control):
    """A segmenter of the concatenated channels that has no idea of a missing modality."""

    title = "Early fusion"
    beware = "nothing is hidden in training"
    keeps_patterns = True
    deviations = (
        "In training nothing is hidden, under every recipe: hiding would make it modality dropout at the "
        "input.",
    )

    def __init__(
        self,
        modalities: Mapping[str, int],
        num_classes: int,
        *,
        ignore_index: int = 255,
        base_width: int = 16,
    ) -> None:
        """Build the encoder and the decoder.

        Args:
            modalities: Name -> channels.
            num_classes: K.
            ignore_index: Target value that counts in no loss term.
            base_width: Channels at full resolution, a multiple of 8.

        Raises:
            ValueError: If base_width is not a positive multiple of 8.
        """
        super().__init__(modalities, num_classes, ignore_index=ignore_index, base_width=base_width)
        self.segmenter = Segmenter(sum(modalities.values()), self.widths, num_classes)

    def forward(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment a batch of any size; see `Method.forward`."""
        self.check_input(images, present)
        return Output(self.segmenter(concatenate_filled(images, present)))

    def patterns(self, step: int, total_steps: int) -> dict[tuple[bool, ...], float]:
        """Hide nothing."""
        return {(True,) * len(self.modalities): 1.0}

    def parts(self) -> dict[str, list[nn.Module]]:
        """Name the parts: the encoder, the decoder."""
        return {"encoder": [self.segmenter.encoder], "decoder": [self.segmenter.decoder]}
