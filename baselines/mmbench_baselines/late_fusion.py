"""One expert a modality, each alone; the prediction is the mean of their probabilities.

Axes: B batch, M modality, C channel, H W pixels, K class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmbench_baselines.blocks.control import Control
from mmbench_baselines.blocks.presence import rows_with
from mmbench_baselines.blocks.segmenter import Segmenter
from mmbench_baselines.method import Batch, Output


class LateFusion(Control):
    """Segmenters of a single modality that meet only in their probabilities.

    An expert learns and votes wherever its modality is present. No loss is laid on the mean, so an expert is
    the same whichever other modalities there are.
    """

    title = "Late fusion"
    beware = "nothing is hidden in training"
    keeps_patterns = True
    deviations = (
        "In training nothing is hidden, under every recipe: each expert learns from every sample.",
        "Its parameters are the sum of its experts', one a modality.",
        "Each expert has its own loss, where its modality is present; the mean of probabilities has none.",
    )

    def __init__(
        self,
        modalities: Mapping[str, int],
        num_classes: int,
        *,
        ignore_index: int = 255,
        base_width: int = 16,
    ) -> None:
        """Build the experts.

        Args:
            modalities: Name -> channels.
            num_classes: K.
            ignore_index: Target value that counts in no loss term.
            base_width: Channels at full resolution of each expert, a multiple of 8.

        Raises:
            ValueError: If base_width is not a positive multiple of 8.
        """
        super().__init__(modalities, num_classes, ignore_index=ignore_index, base_width=base_width)
        self.experts = nn.ModuleList(
            Segmenter(channels, self.widths, num_classes) for channels in modalities.values()
        )

    def forward(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment a batch of any size.

        Args:
            images: modality -> (B, C, H, W) float in [-1, 1].
            present: (B, M) bool.

        Returns:
            The logarithm of the mean of the present experts' probabilities, (B, K, H, W) float32 or wider;
            in `aux["experts"]` modality -> (rows (n,) int64, logits (n, K, H, W)) where it is present.
        """
        self.check_input(images, present)
        experts = {}
        for column, ((name, image), expert) in enumerate(zip(images.items(), self.experts, strict=True)):
            if len(rows := rows_with(present, column)):
                experts[name] = (rows, expert(image.index_select(0, rows)))
        votes = torch.stack([_log_votes(rows, logits, len(present)) for rows, logits in experts.values()])
        # From logarithms: the probabilities of a sure expert underflow, and log 0 is no logit.
        log_sum = votes.logsumexp(dim=0)
        log_count = present.sum(1).to(log_sum.dtype).log()[:, None, None, None]
        return Output(log_sum - log_count, {"experts": experts})

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of each expert on the samples that have its modality."""
        return {
            f"{term}.{name}": value
            for name, (rows, logits) in output.aux["experts"].items()
            for term, value in self.expert_terms(logits, batch.target, rows).items()
        }

    def patterns(self, step: int, total_steps: int) -> dict[tuple[bool, ...], float]:
        """Hide nothing: an expert sees one modality, and the hiding of another would teach it nothing."""
        return {(True,) * len(self.modalities): 1.0}

    def parts(self) -> dict[str, list[nn.Module]]:
        """Name the parts: an expert a modality."""
        return {
            f"expert.{name}": [expert] for name, expert in zip(self.modalities, self.experts, strict=True)
        }


def _log_votes(rows: Tensor, logits: Tensor, batch_size: int) -> Tensor:
    """Return the log-probabilities of one expert for a batch, (B, K, H, W); -inf where it has no vote."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_p = logits.log_softmax(1, dtype=dtype)
    return log_p.new_full((batch_size, *log_p.shape[1:]), -math.inf).index_copy(0, rows, log_p)
