"""What the controls share besides their network: loss, training, and how a missing modality looks.

Axes: B batch, M modality, C channel, H W pixels, K class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmbench_baselines.blocks.segmenter import stage_widths
from mmbench_baselines.method import Batch, Method, Output
from mmbench_baselines.optim import OptimizerParams, ScheduleParams, TrainingParams
from mmbench_kernels import multiscale_seg_loss


class Control(Method):
    """A method against which published ones have to show; controls differ from each other in one idea."""

    paper = "none: a control"
    source = "written for this benchmark; no published code"
    licence = "MIT, as this repository"
    parity = "a control: nothing to compare with"
    paper_training = TrainingParams(
        OptimizerParams("adamw", lr=1e-3, weight_decay=1e-2), ScheduleParams("poly", power=0.9)
    )

    def __init__(
        self, modalities: Mapping[str, int], num_classes: int, *, ignore_index: int, base_width: int
    ) -> None:
        """Keep the facts and the widths.

        Args:
            modalities: Name -> channels.
            num_classes: K.
            ignore_index: Target value that counts in no loss term.
            base_width: Channels at full resolution, a multiple of 8.

        Raises:
            ValueError: If base_width is not a positive multiple of 8.
        """
        super().__init__(modalities, num_classes, ignore_index=ignore_index)
        self.widths = stage_widths(type(self).__name__, base_width)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the class-weighted cross-entropy and the Dice loss."""
        return self.segmentation_terms(output.logits, batch.target)

    def segmentation_terms(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the class-weighted cross-entropy and the Dice loss.

        Args:
            logits: (n, K, H, W); without rows the terms are 0.
            target: (n, H, W) int64.
        """
        _, terms = multiscale_seg_loss([logits], target, ignore_index=self.ignore_index)
        return {"cross_entropy": terms[0, 0], "dice": terms[0, 1]}

    def expert_terms(self, logits: Tensor, target: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """Return the terms of an expert that learns from some rows of a batch only.

        They weigh as much as the rows' share of the batch, so that a sample counts alike however many of its
        kind were drawn with it.

        Args:
            logits: (n, K, H, W) of these rows.
            target: (B, H, W) int64 of the whole batch.
            rows: (n,) int64.
        """
        share = len(rows) / len(target)
        terms = self.segmentation_terms(logits, target.index_select(0, rows))
        return {name: share * term for name, term in terms.items()}


def concatenate_filled(
    images: Mapping[str, Tensor], present: Tensor, columns: Sequence[int] | None = None
) -> Tensor:
    """Return the channels of the modalities one after another, absent ones set to 0, the training mean.

    Args:
        images: modality -> (B, C, H, W).
        present: (B, M) bool.
        columns: Which modalities, by their column of `present`; None is all.

    Returns:
        (B, sum of C, H, W).
    """
    chosen = range(len(images)) if columns is None else columns
    values = list(images.values())
    # where, not multiplication: whatever stands in an absent slot, NaN too, leaves no trace.
    return torch.cat([torch.where(present[:, c, None, None, None], values[c], 0.0) for c in chosen], dim=1)
