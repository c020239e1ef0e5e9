"""How a missing modality is generated from the other, row by row, and segmented as if nothing were missing.

Axes: B batch, M modality, C channel, H W pixels, K class.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmbench_baselines.blocks.conv import init_kaiming
from mmbench_baselines.blocks.decoder import FusionDecoder
from mmbench_baselines.blocks.encoder import REDUCTION, ConvEncoder
from mmbench_baselines.blocks.gan import ImageGenerator, init_convolutions
from mmbench_baselines.blocks.presence import rows_without
from mmbench_baselines.method import Batch, Method, Output
from mmbench_baselines.optim import OptimizerParams, ScheduleParams, TrainingParams
from mmbench_kernels import multiscale_seg_loss
from mmbench_kernels.ops.norm_act_pad import Groups


def pair_sources(method: str, modalities: Mapping[str, int]) -> dict[str, str]:
    """Return modality -> the other one, from which it is generated.

    Args:
        method: Name, for the error.
        modalities: Name -> number of channels.

    Raises:
        ValueError: If there are not two modalities.
    """
    names = list(modalities)
    if len(names) != 2:
        raise ValueError(
            f"{method} got {len(names)} modalities ({', '.join(names)}), expected 2: "
            "its generators map one modality to the other, so there must be exactly one other"
        )
    return dict(zip(names, reversed(names), strict=True))


def complete_images(method: str, batch: Batch) -> Mapping[str, Tensor]:
    """Return the images before hiding, modality -> (B, C, H, W).

    Args:
        method: Name, for the error.
        batch: Of a training step.

    Raises:
        ValueError: If the batch comes without them.
    """
    if batch.complete is None:
        raise ValueError(
            f"{method}.training_step got batch.complete = None, expected the images before hiding: "
            "generators learn from them (sees_hidden_in_training is True)"
        )
    return batch.complete


def missing_rows(present: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Return modality -> int64 indices of the rows of `present` (B, M) that lack it, where some do."""
    rows = {name: rows_without(present, column) for column, name in enumerate(names)}
    return {name: index for name, index in rows.items() if len(index)}


def fill_rows(
    images: Mapping[str, Tensor], rows: Mapping[str, Tensor], fakes: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the images with the named rows replaced; the given tensors stay as they are.

    Args:
        images: modality -> (B, C, H, W).
        rows: modality -> (n,) int64, the rows to replace.
        fakes: modality -> (n, C, H, W), what to put there.
    """
    return {
        name: image.index_copy(0, rows[name], fakes[name].to(image.dtype)) if name in rows else image
        for name, image in images.items()
    }


class ImputingMethod(Method):
    """Convolutional encoders and a fusion decoder behind one image generator a direction.

    What a generator learns from is the subclass's; all else is the same, so that only that differs.
    """

    # GEMMNet's, whose place in a comparison these methods take.
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
        ignore_index: int,
        base_width: int,
        generator_width: int,
        skips: bool,
        norm: Groups,
    ) -> None:
        """Build encoders, decoder and generators.

        Args:
            modalities: Name -> number of channels; two of them.
            num_classes: K.
            ignore_index: Target value of pixels that drop out of every segmentation term.
            base_width: Channels of the encoders' first stage.
            generator_width: Channels after a generator's first layer.
            skips: Whether a generator's layers up also see its maps on the way down.
            norm: Of the segmenter, see `PreActivationConv`.

        Raises:
            ValueError: If there are not two modalities.
        """
        super().__init__(modalities, num_classes, ignore_index=ignore_index)
        self.sources = pair_sources(type(self).__name__, self.modalities)
        self.encoders = nn.ModuleDict(
            {name: ConvEncoder(channels, base_width, norm=norm) for name, channels in self.modalities.items()}
        )
        self.decoder = FusionDecoder(len(self.modalities), base_width, num_classes, norm=norm)
        # The loss is on the full resolution alone, so the heads of the coarser scales never learn.
        self.decoder.side_heads.requires_grad_(False)
        self.generators = nn.ModuleDict(
            {
                name: ImageGenerator(
                    self.modalities[source],
                    self.modalities[name],
                    generator_width,
                    norm="instance",
                    skips=skips,
                )
                for name, source in self.sources.items()
            }
        )
        init_convolutions(self.generators)
        for part in (self.encoders, self.decoder):
            init_kaiming(part)

    @property
    def sees_hidden_in_training(self) -> bool:
        """True: the hidden image is what a generator learns from."""
        return True

    @abc.abstractmethod
    def generation_terms(self, name: str, given: Tensor, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return the weighted loss terms of the generation of one modality.

        Args:
            name: The generated modality.
            given: (B, C, H, W), the source of the generation.
            real: (B, C', H, W), the real image of the generated modality.
            fake: (B, C', H, W), the generated image.
        """

    def forward(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment; a missing modality is generated from the other, sample by sample.

        Args:
            images: modality -> (B, C, H, W) float in [-1, 1].
            present: (B, 2) bool.

        Returns:
            Logits (B, K, H, W) and the images that were segmented.
        """
        self.check_input(images, present)
        missing = missing_rows(present, list(self.modalities))
        fakes = {name: self._generate(name, images, rows) for name, rows in missing.items()}
        return self._segment(fill_rows(images, missing, fakes))

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return class-weighted cross-entropy plus Dice."""
        segmentation, _ = multiscale_seg_loss([output.logits], batch.target, ignore_index=self.ignore_index)
        return {"segmentation": segmentation}

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Return the segmentation term and, for each modality, those of its generation on every row.

        Raises:
            ValueError: If the batch comes without the images before hiding.
        """
        complete = complete_images(type(self).__name__, batch)
        self.check_input(batch.images, batch.present)
        # A generator runs once: all rows teach it, those that lack its image are segmented with it.
        fakes = {name: self._generate(name, complete, slice(None)) for name in self.modalities}
        missing = missing_rows(batch.present, list(self.modalities))
        imputed = {name: fakes[name][rows] for name, rows in missing.items()}
        terms = self.loss(self._segment(fill_rows(batch.images, missing, imputed)), batch)
        for name, source in self.sources.items():
            parts = self.generation_terms(name, complete[source], complete[name], fakes[name])
            terms |= {f"{term}.{name}": value for term, value in parts.items()}
        return terms

    def parts(self) -> dict[str, list[nn.Module]]:
        """Name the parts: an encoder a modality, the decoder, the generators."""
        named: dict[str, list[nn.Module]] = {f"encoder.{name}": [e] for name, e in self.encoders.items()}
        return named | {"fusion_decoder": [self.decoder], "generators": list(self.generators.values())}

    def _generate(self, name: str, images: Mapping[str, Tensor], rows: Tensor | slice) -> Tensor:
        """Return one modality, (n, C, H, W), generated from the given rows of the other."""
        fake: Tensor = self.generators[name](images[self.sources[name]][rows])
        return fake

    def _segment(self, images: Mapping[str, Tensor]) -> Output:
        """Segment images of which none is missing."""
        maps = [self.encoders[name](image) for name, image in images.items()]
        *skips, deepest = zip(*maps, strict=True)
        logits, _ = self.decoder(skips, torch.cat(deepest, dim=1))
        return Output(logits, imputed=dict(images))
