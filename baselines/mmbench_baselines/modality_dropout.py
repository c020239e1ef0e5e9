"""The control: a residual U-Net with one encoder a modality, trained with modalities hidden at random.

Nothing is imputed, attended or distilled. What a method for missing modalities adds has to show against this.
Axes: B batch, M modality, C channel, H W pixels, K class, b base width.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_baselines.method import Batch, Method, Output
from mmbench_baselines.optim import OptimizerParams, ScheduleParams, TrainingParams
from mmbench_kernels import multiscale_seg_loss

GROUP_CHANNELS = 8


class ConvNorm(nn.Sequential):
    """Convolution without bias and group normalisation, whose statistics are each sample's own."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(convolution, nn.GroupNorm(outputs // GROUP_CHANNELS, outputs))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride=stride)
        self.second = ConvNorm(outputs, outputs, 3)
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else ConvNorm(inputs, outputs, 1, stride=stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, ⌈H / stride⌉, ⌈W / stride⌉)."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class Encoder(nn.Module):
    """A convolution at full resolution, then a residual stage at each of 1/2 to 1/16."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = ConvNorm(channels, widths[0], 3)
        self.stages = nn.ModuleList(ResidualBlock(i, o, stride=2) for i, o in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, channels, H, W) to one feature a scale, finest first."""
        features = [F.relu(self.stem(x))]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class Decoder(nn.Module):
    """From the coarsest feature up: reduce, enlarge, add the finer feature, refine."""

    def __init__(self, widths: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        coarse_first = widths[::-1]
        self.bottom = ResidualBlock(coarse_first[0], coarse_first[0])
        self.reductions = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in itertools.pairwise(coarse_first))
        self.blocks = nn.ModuleList(ResidualBlock(o, o) for o in coarse_first[1:])
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map the features, finest first, to logits (B, K, H, W)."""
        x = self.bottom(features[-1])
        for reduction, block, finer in zip(self.reductions, self.blocks, features[-2::-1], strict=True):
            # Reduced before it is enlarged: a 1x1 convolution and an interpolation commute.
            x = F.interpolate(reduction(x), size=finer.shape[-2:], mode="bilinear", align_corners=False)
            x = block(x + finer)
        logits: Tensor = self.head(x)
        return logits


class ModalityDropout(Method):
    """A plain multimodal segmenter made robust by nothing but random hiding in training.

    At each scale the features of a sample's present modalities are averaged; absent ones are not computed.
    """

    title = "Modality dropout"
    paper = (
        "Control of this benchmark. Hiding: Neverova et al., ModDrop, TPAMI 2016, arXiv 1501.00102; "
        "network: Ronneberger et al., U-Net, MICCAI 2015, arXiv 1505.04597, with residual blocks"
    )
    source = "written for this benchmark; no published code"
    deviations = (
        "Whole modalities are hidden per sample, all non-empty subsets alike; ModDrop hides each on its own.",
        "Features are averaged over the present modalities at every scale; ModDrop concatenates.",
    )
    paper_training = TrainingParams(
        OptimizerParams("adamw", lr=1e-3, weight_decay=1e-2), ScheduleParams("poly", power=0.9)
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
        super().__init__(modalities, num_classes, ignore_index=ignore_index)
        if base_width < GROUP_CHANNELS or base_width % GROUP_CHANNELS:
            raise ValueError(
                f"ModalityDropout: base_width is {base_width}, "
                f"expected a positive multiple of {GROUP_CHANNELS}"
            )
        widths = tuple(factor * base_width for factor in (1, 2, 4, 8, 8))
        self.encoders = nn.ModuleList(Encoder(channels, widths) for channels in modalities.values())
        self.decoder = Decoder(widths, num_classes)

    def forward(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment a batch of any size; see `Method.forward`."""
        self.check_input(images, present)
        return Output(self.decoder(self._fuse(images, present)))

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the class-weighted cross-entropy and the Dice loss."""
        _, terms = multiscale_seg_loss([output.logits], batch.target, ignore_index=self.ignore_index)
        return {"cross_entropy": terms[0, 0], "dice": terms[0, 1]}

    def parts(self) -> dict[str, list[nn.Module]]:
        """Name the parts: an encoder a modality, the decoder."""
        encoders = zip(self.modalities, self.encoders, strict=True)
        return {f"encoder.{name}": [encoder] for name, encoder in encoders} | {"decoder": [self.decoder]}

    def _fuse(self, images: Mapping[str, Tensor], present: Tensor) -> list[Tensor]:
        """Return the mean feature of each sample's present modalities at each scale, finest first."""
        sums: list[Tensor] = []
        for index, (encoder, image) in enumerate(zip(self.encoders, images.values(), strict=True)):
            samples = present[:, index].nonzero().squeeze(1)
            if not len(samples):
                continue
            features = encoder(image.index_select(0, samples))
            sums = sums or [f.new_zeros(len(present), *f.shape[1:]) for f in features]
            sums = [total.index_add(0, samples, f) for total, f in zip(sums, features, strict=True)]
        share = 1 / present.sum(1)[:, None, None, None]  # (B, 1, 1, 1)
        return [total * share.to(total.dtype) for total in sums]
