"""ShaSpec: one shared encoder and one of its own for each modality; an absent one takes shared features.

Axes: B batch, M modality, R row (a modality of a sample), C channel, H W pixels, K class, w width.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_baselines.method import Batch, Method, Output
from mmbench_baselines.optim import OptimizerParams, ScheduleParams, TrainingParams
from mmbench_baselines.shaspec.decoder import Decoder
from mmbench_baselines.shaspec.encoder import Encoder, PoolBranch, StandardizedConv
from mmbench_baselines.shaspec.routing import Routing, Substitute, route
from mmbench_kernels import multiscale_seg_loss

Preset = Literal["default", "golden_corrected", "released"]
LossScope = Literal["present", "all"]

ALIGNMENT_WEIGHT = 0.1
DOMAIN_WEIGHT = 0.02


@dataclass(frozen=True)
class _Choices:
    """What is done about each defect of the released code; the values here are the default preset's."""

    pool_branch: PoolBranch = "off"
    loss_scope: LossScope = "present"
    substitute_skips: bool = True
    substitute: Substitute = "mean"
    skip_absent: bool = True
    clamp: tuple[float, float] | None = None
    dice_classes: Literal["present", "all"] = "present"


_PRESETS: dict[str, _Choices] = {
    "default": _Choices(),
    "golden_corrected": _Choices("affine", "present", True, "first", False, (0.005, 1.0), "all"),
    "released": _Choices("constant", "all", False, "first", False, (0.005, 1.0), "all"),
}
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "pool_branch": ("off", "affine", "constant"),
    "loss_scope": ("present", "all"),
    "substitute_skips": (True, False),
    "substitute": ("mean", "first"),
    "skip_absent": (True, False),
}


class ShaSpec(Method):
    """Shared-specific feature modelling, in two dimensions.

    A modality's feature is that of the shared encoder plus a residual composed of the shared and the specific
    one. An absent modality takes the shared feature of the present ones. Two auxiliary terms draw the shared
    features of the modalities together and let the specific ones tell their modality.
    """

    title = "ShaSpec"
    paper = (
        "Wang et al., Multi-modal learning with missing modality via shared-specific feature modelling, "
        "CVPR 2023, arXiv 2307.14126"
    )
    source = "https://github.com/billhhh/ShaSpec commit 081fe7a"
    licence = "none: the repository has no licence file; studied, nothing copied"
    parity = (
        "released against a 2-D port of the authors' code, golden_corrected against an independent "
        "implementation (S1, S3, S4 mended): outputs, losses and gradient norms in float64; default: "
        "regression numbers"
    )
    deviations = (
        "Two dimensions instead of three: one axis dropped, strides (1, 2, 2) read as 2.",
        "Classes exclude each other: weighted cross-entropy and Dice of a softmax, not of sigmoids.",
        "The shared encoder takes the largest number of channels; modalities with fewer are repeated to it.",
        "Alignment takes each pair of modalities once; the source takes the pair of two twice and four of "
        "the six of four.",
        "S1: the pyramid has no global branch; the norms around it remove whatever it holds.",
        "S2, S6: absent modalities are not encoded; of a blank image, instance norm amplifies the rounding.",
        "S3: the auxiliary terms count present modalities only.",
        "S4: an absent modality takes the present ones' skips too, not those of a blank image.",
        "S5: it takes the mean of the present ones, not the first; the same where there are two modalities.",
        "S7: each sample of a batch has its own modalities.",
    )
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"small": {"width": 32}}  # GEMMNet's size
    paper_training = TrainingParams(
        OptimizerParams("sgd", lr=1e-2, momentum=0.99, nesterov=True), ScheduleParams("poly", power=0.9)
    )
    size_multiple = 32
    # At 32 pixels the deepest map would be one pixel, of which an instance norm leaves only the shift.
    size_minimum = 64

    def __init__(
        self,
        modalities: Mapping[str, int],
        num_classes: int,
        *,
        ignore_index: int = 255,
        width: int = 64,
        preset: Preset = "default",
        pool_branch: PoolBranch | None = None,
        loss_scope: LossScope | None = None,
        substitute_skips: bool | None = None,
        substitute: Substitute | None = None,
        skip_absent: bool | None = None,
    ) -> None:
        """Build the encoders, the composition, the decoder and the domain head.

        Args:
            modalities: Name -> channels, 1 to 4 modalities.
            num_classes: K.
            ignore_index: Target value of pixels that count in no loss term.
            width: w, even; the paper's is 64 (56 M parameters), 32 has a quarter of them.
            preset: "released" computes what the source does, "golden_corrected" mends its S1, S3 and S4,
                "default" all of its defects. The options below are the preset's where they are None.
            pool_branch: S1, the pyramid's global branch: "off"; "affine", scaled and shifted; "constant",
                normalised over its single pixel.
            loss_scope: S3, the modalities that count in the auxiliary terms.
            substitute_skips: S4, whether an absent modality takes the present ones' skips too.
            substitute: S5, whether it takes the "mean" of the present ones or the "first".
            skip_absent: S6, whether absent modalities stay unencoded; else they are encoded as zeros.

        Raises:
            ValueError: If an option has an unknown value or needs features that `skip_absent` leaves out.
        """
        super().__init__(modalities, num_classes, ignore_index=ignore_index)
        if len(modalities) > 4:
            raise ValueError(f"ShaSpec: got {len(modalities)} modalities {list(modalities)}, expected 1 to 4")
        if width < 2 or width % 2:
            raise ValueError(f"ShaSpec: width is {width}, expected an even number of at least 2")
        self.choices = _choose(
            preset,
            pool_branch=pool_branch,
            loss_scope=loss_scope,
            substitute_skips=substitute_skips,
            substitute=substitute,
            skip_absent=skip_absent,
        )
        branch = self.choices.pool_branch
        self.shared_channels = max(modalities.values())
        self.shared_encoder = Encoder(self.shared_channels, width, branch)
        self.specific_encoders = nn.ModuleList(
            Encoder(channels, width, branch) for channels in modalities.values()
        )
        self.compose = StandardizedConv(8 * width, 4 * width, 3, padding=1)
        nn.init.kaiming_uniform_(self.compose.weight, a=math.sqrt(5))  # PyTorch's default, as in the source
        self.decoder = Decoder(len(modalities), width, num_classes)
        self.domain_head = nn.Linear(4 * width, len(modalities))

    def forward(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment a batch; see `Method.forward`.

        Returns:
            Logits (B, K, H, W), and in aux "shared" (B, M, 4w, H/32, W/32), the shared features, and "domain"
            (B, M, M), the domain head's logits. The two hold a present modality's values where an absent one
            is not encoded.
        """
        self.check_input(images, present)
        choices = self.choices
        routing = route(present, skip_absent=choices.skip_absent, substitute=choices.substitute)
        rows = self._select_rows(images, present, routing)
        shared, _, skips = self.shared_encoder(torch.cat([self._repeat_channels(x) for x in rows]))
        specific, vectors = self._encode_specific(rows)
        composed = shared + self.compose(torch.cat((shared, specific), dim=1))  # (R, 4w, h, w)
        fused = torch.where(
            present.reshape(-1, 1, 1, 1), composed[routing.own], routing.substituted(shared)
        )  # (B·M, 4w, h, w)
        chosen = [routing.substituted(x) if choices.substitute_skips else x[routing.own] for x in skips]
        batch_size, count = present.shape
        logits = self.decoder(
            fused.reshape(batch_size, -1, *fused.shape[2:]),
            [x.reshape(batch_size, -1, *x.shape[2:]) for x in chosen],
        )
        domain = self.domain_head(vectors)[routing.own]
        return Output(
            logits,
            {
                "shared": shared[routing.own].view(batch_size, count, *shared.shape[1:]),
                "domain": domain.view(batch_size, count, count),
            },
        )

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return segmentation (CE + Dice), alignment and domain terms, weighted.

        Alignment is the mean absolute difference of the shared features of two modalities, summed over the
        pairs; domain the cross-entropy of naming a modality by its specific vector. Both are 0 where there is
        nothing to compare.
        """
        segmentation, _ = multiscale_seg_loss(
            [output.logits],
            batch.target,
            clamp=self.choices.clamp,
            dice_classes=self.choices.dice_classes,
            ignore_index=self.ignore_index,
        )
        everything = self.choices.loss_scope == "all"
        counted = torch.ones_like(batch.present) if everything else batch.present
        return {
            "segmentation": segmentation,
            "alignment": ALIGNMENT_WEIGHT * _align(output.aux["shared"], counted),
            "domain": DOMAIN_WEIGHT * _name_domains(output.aux["domain"], counted),
        }

    def patterns(self, step: int, total_steps: int) -> dict[tuple[bool, ...], float]:
        """All modalities for the first 4/9 of the budget; then a uniform size and a uniform subset of it."""
        count = len(self.modalities)
        if 9 * step < 4 * total_steps:
            return {(True,) * count: 1.0}
        every = (p for p in itertools.product((True, False), repeat=count) if any(p))
        return {pattern: 1 / (count * math.comb(count, sum(pattern))) for pattern in every}

    def parts(self) -> dict[str, list[nn.Module]]:
        """Name the parts: the shared encoder, one a modality, composition, decoder, domain head."""
        encoders = zip(self.modalities, self.specific_encoders, strict=True)
        return {
            "shared_encoder": [self.shared_encoder],
            **{f"encoder.{name}": [encoder] for name, encoder in encoders},
            "compose": [self.compose],
            "decoder": [self.decoder],
            "domain_head": [self.domain_head],
        }

    def _select_rows(self, images: Mapping[str, Tensor], present: Tensor, routing: Routing) -> list[Tensor]:
        """Return the images to encode, one (R_m, C, H, W) a modality; absent ones are zeros."""
        return [
            torch.where(present[samples, index, None, None, None], image.index_select(0, samples), 0)
            for index, (image, samples) in enumerate(zip(images.values(), routing.samples, strict=True))
        ]

    def _repeat_channels(self, x: Tensor) -> Tensor:
        """Repeat the channels in turn up to the shared encoder's."""
        if x.shape[1] == self.shared_channels:
            return x
        return x[:, torch.arange(self.shared_channels, device=x.device) % x.shape[1]]

    def _encode_specific(self, rows: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the specific features (R, 4w, h, w) and their global vectors (R, 4w)."""
        pairs = zip(self.specific_encoders, rows, strict=True)
        encoded = [encoder(x)[:2] for encoder, x in pairs if len(x)]
        features, vectors = zip(*encoded, strict=True)
        return torch.cat(features), torch.cat(vectors)


def _choose(preset: str, **options: object) -> _Choices:
    """Return a preset's choices with the options that are not None in their place."""
    if preset not in _PRESETS:
        raise ValueError(f"ShaSpec: preset is {preset!r}, expected one of {', '.join(_PRESETS)}")
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if value not in _ALLOWED[name]:
            raise ValueError(f"ShaSpec: {name} is {value!r}, expected one of {_ALLOWED[name]}")
    choices = replace(_PRESETS[preset], **given)  # type: ignore[arg-type]  # checked against _ALLOWED
    if choices.skip_absent and (choices.loss_scope == "all" or not choices.substitute_skips):
        raise ValueError(
            f"ShaSpec: loss_scope={choices.loss_scope!r} with substitute_skips={choices.substitute_skips} "
            "needs the features of absent modalities, which skip_absent=True leaves out; set it to False"
        )
    return choices


def _align(shared: Tensor, counted: Tensor) -> Tensor:
    """Return the mean absolute difference of shared features, (B, M, …), summed over pairs both counted."""
    total = shared.new_zeros(())
    for one, other in itertools.combinations(range(counted.shape[1]), 2):
        both = counted[:, one] & counted[:, other]
        difference = (shared[both, one] - shared[both, other]).abs()
        total = total + difference.sum() / max(1, difference.numel())
    return total


def _name_domains(logits: Tensor, counted: Tensor) -> Tensor:
    """Return the mean cross-entropy of domain logits (B, M, M) against the modality's index."""
    labels = torch.arange(counted.shape[1], device=counted.device).expand_as(counted)[counted]
    chosen = logits[counted]
    return F.cross_entropy(chosen.to(torch.promote_types(chosen.dtype, torch.float32)), labels)
