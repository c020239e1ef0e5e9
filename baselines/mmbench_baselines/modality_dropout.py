"""The control: a residual U-Net with one encoder a modality, trained with modalities hidden at random.

Nothing is imputed, attended or distilled. What a method for missing modalities adds has to show against this.
Axes: B batch, M modality, C channel, H W pixels, K class, b base width.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mmbench_baselines.blocks.control import Control
from mmbench_baselines.blocks.presence import rows_with
from mmbench_baselines.blocks.segmenter import Decoder, Encoder
from mmbench_baselines.method import Output


class ModalityDropout(Control):
    """A plain multimodal segmenter made robust by nothing but random hiding in training.

    At each scale the features of a sample's present modalities are averaged; absent ones are not computed.
    """

    title = "Modality dropout"
    paper = (
        "Control of this benchmark. Hiding: Neverova et al., ModDrop, TPAMI 2016, arXiv 1501.00102; "
        "network: Ronneberger et al., U-Net, MICCAI 2015, arXiv 1505.04597, with residual blocks"
    )
    deviations = (
        "Whole modalities are hidden per sample, all non-empty subsets alike; ModDrop hides each on its own.",
        "Features are averaged over the present modalities at every scale; ModDrop concatenates.",
    )

    def __init__(
        self,
        modalities: Mapping[str, int],
        num_classes: int,
        *,
        ignore_index: int = 255,
        base_width: int = 16,
    ) -> None:
        """Build one encoder a modality and the decoder.

        Args:
            modalities: Name -> channels.
            num_classes: K.
            ignore_index: Target value that counts in no loss term.
            base_width: b, channels at full resolution, a multiple of 8; then 2b, 4b, 8b and 8b.

        Raises:
            ValueError: If base_width is not a positive multiple of 8.
        """
        super().__init__(modalities, num_classes, ignore_index=ignore_index, base_width=base_width)
        self.encoders = nn.ModuleList(Encoder(channels, self.widths) for channels in modalities.values())
        self.decoder = Decoder(self.widths, num_classes)

    def forward(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment a batch of any size; see `Method.forward`."""
        self.check_input(images, present)
        return Output(self.decoder(self._fuse(images, present)))

    def parts(self) -> dict[str, list[nn.Module]]:
        """Name the parts: an encoder a modality, the decoder."""
        encoders = zip(self.modalities, self.encoders, strict=True)
        return {f"encoder.{name}": [encoder] for name, encoder in encoders} | {"decoder": [self.decoder]}

    def _fuse(self, images: Mapping[str, Tensor], present: Tensor) -> list[Tensor]:
        """Return the mean feature of each sample's present modalities at each scale, finest first."""
        sums: list[Tensor] = []
        for index, (encoder, image) in enumerate(zip(self.encoders, images.values(), strict=True)):
            samples = rows_with(present, index)
            if not len(samples):
                continue
            features = encoder(image.index_select(0, samples))
            sums = sums or [f.new_zeros(len(present), *f.shape[1:]) for f in features]
            sums = [total.index_add(0, samples, f) for total, f in zip(sums, features, strict=True)]
        share = 1 / present.sum(1)[:, None, None, None]  # (B, 1, 1, 1)
        return [total * share.to(total.dtype) for total in sums]
