"""One expert a subset of the modalities, chosen by what is present: the number to beat.

Whoever can afford a network for every case needs no method for missing modalities.
Axes: B batch, M modality, C channel, H W pixels, K class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmbench_baselines.blocks.control import Control
from mmbench_baselines.blocks.presence import rows_where, subsets_of
from mmbench_baselines.blocks.segmenter import Segmenter
from mmbench_baselines.method import Batch, Output


class ExpertSwitch(Control):
    """A segmenter for every non-empty subset; each sample goes to the one of exactly its present modalities.

    The experts share no weights.
    """

    title = "Expert switch"
    beware = (
        "parameters and training are the sum of its experts', one for each combination of modalities, and "
        "nothing is hidden from them"
    )
    keeps_patterns = True
    deviations = (
        "Its parameters are the sum of its experts', one for each of the 2^M - 1 non-empty subsets of M "
        "modalities; a prediction runs one of them.",
        "In training nothing is hidden, under every recipe, and each expert learns from every sample, as if "
        "it were trained alone: a step costs what the steps of all of them cost.",
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
        # Bit m of a subset's code says whether modality m is in it; an expert stands at its code - 1.
        codes = range(1, 2 ** len(modalities))
        self.subsets = [tuple(n for m, n in enumerate(modalities) if code >> m & 1) for code in codes]
        self.experts = nn.ModuleList(
            Segmenter(sum(modalities[name] for name in subset), self.widths, num_classes)
            for subset in self.subsets
        )

    def forward(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment a batch of any size; see `Method.forward`."""
        self.check_input(images, present)
        groups = self._groups(present)
        logits = [
            self.experts[place](_stacked(images, self.subsets[place], rows)) for place, rows in groups.items()
        ]
        order = torch.cat(list(groups.values()))  # (B,), the sample of each row of the logits
        return Output(torch.cat(logits).index_select(0, order.argsort()))

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the sum of the terms of the experts that predicted, each on the samples of its pattern."""
        # Not of the batch at once: Dice divides by sums over samples, and would tie the experts together.
        terms = [
            self.expert_terms(output.logits.index_select(0, rows), batch.target, rows)
            for rows in self._groups(batch.present).values()
        ]
        return {name: torch.stack([term[name] for term in terms]).sum() for name in terms[0]}

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of every expert, on the samples that have all of its modalities."""
        self.check_input(batch.images, batch.present)
        names = list(self.modalities)
        terms: dict[str, Tensor] = {}
        for subset, expert in zip(self.subsets, self.experts, strict=True):
            columns = [names.index(name) for name in subset]
            rows = rows_where(batch.present[:, columns].all(dim=1))
            if len(rows):
                logits = expert(_stacked(batch.images, subset, rows))
                of_expert = self.expert_terms(logits, batch.target, rows)
                terms |= {f"{term}.{'+'.join(subset)}": value for term, value in of_expert.items()}
        return terms

    def patterns(self, step: int, total_steps: int) -> dict[tuple[bool, ...], float]:
        """Hide nothing: what an expert does not see cannot teach it anything."""
        return {(True,) * len(self.modalities): 1.0}

    def parts(self) -> dict[str, list[nn.Module]]:
        """Name the parts: an expert a subset."""
        experts = zip(self.subsets, self.experts, strict=True)
        return {f"expert.{'+'.join(subset)}": [expert] for subset, expert in experts}

    def _groups(self, present: Tensor) -> dict[int, Tensor]:
        """Return place of an expert -> its rows of the batch, (n,) int64, for the experts that have any."""
        return {
            sum(1 << column for column, there in enumerate(pattern) if there) - 1: rows
            for pattern, rows in subsets_of(present).items()
        }


def _stacked(images: Mapping[str, Tensor], subset: Sequence[str], rows: Tensor) -> Tensor:
    """Return the channels of a subset of the modalities, (n, sum of C, H, W), of the given samples."""
    return torch.cat([images[name].index_select(0, rows) for name in subset], dim=1)
