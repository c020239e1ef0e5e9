"""The expert of one subset of the modalities: what can be had where just these are there.

Named for the expert of a single modality; the subset may hold several, and by default holds all.
Axes: B batch, M modality, C channel, H W pixels, K class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmbench_baselines.blocks.control import Control, concatenate_filled
from mmbench_baselines.blocks.presence import rows_where
from mmbench_baselines.blocks.segmenter import Segmenter
from mmbench_baselines.method import Batch, Output


class Unimodal(Control):
    """A segmenter that sees the modalities of its subset and learns only where all of them are present.

    Its score under the scenario of its subset is the mark for all others there. Under a scenario that hides a
    part of the subset it sees the training mean in that part's place, for which it was never trained. Under
    one that hides the whole subset it sees nothing but the training mean, and gives every sample the same
    logits: such a column says nothing of the data.
    """

    title = "Unimodal expert"
    beware = "an expert of all its modalities: nothing of them is hidden in training"
    keeps_patterns = True
    deviations = (
        "In training nothing of the subset is hidden and all else is, under every recipe; a sample that "
        "lacks a modality of the subset would weigh nothing.",
        "Under a scenario that hides all of the subset it gives the same logits for every sample.",
    )

    def __init__(
        self,
        modalities: Mapping[str, int],
        num_classes: int,
        *,
        ignore_index: int = 255,
        base_width: int = 16,
        subset: str | Sequence[str] | None = None,
    ) -> None:
        """Build the encoder and the decoder.

        Args:
            modalities: Name -> channels.
            num_classes: K.
            ignore_index: Target value that counts in no loss term.
            base_width: Channels at full resolution, a multiple of 8.
            subset: The modalities it sees, as a list or joined by "+", in any order; None is all.

        Raises:
            ValueError: If base_width is not a positive multiple of 8, or subset is anything but names of
                modalities, at least one and each once.
        """
        super().__init__(modalities, num_classes, ignore_index=ignore_index, base_width=base_width)
        self.columns = _subset_columns(subset, list(modalities))
        channels = list(modalities.values())
        self.expert = Segmenter(sum(channels[c] for c in self.columns), self.widths, num_classes)

    @classmethod
    def variant_options(cls, variant: str) -> Mapping[str, Any] | None:
        """Return the options of the expert of a subset, as of "unimodal:irrg" or "unimodal:irrg+ndsm"."""
        return {"subset": variant}

    def forward(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment a batch of any size; see `Method.forward`."""
        self.check_input(images, present)
        return Output(self.expert(concatenate_filled(images, present, self.columns)))

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the samples that have the whole subset; 0 where there are none."""
        rows = rows_where(batch.present[:, self.columns].all(dim=1))
        return self.expert_terms(output.logits.index_select(0, rows), batch.target, rows)

    def patterns(self, step: int, total_steps: int) -> dict[tuple[bool, ...], float]:
        """Hide what is not in the subset, and nothing else."""
        return {tuple(column in self.columns for column in range(len(self.modalities))): 1.0}

    def parts(self) -> dict[str, list[nn.Module]]:
        """Name the parts: the encoder, the decoder."""
        return {"encoder": [self.expert.encoder], "decoder": [self.expert.decoder]}


def _subset_columns(subset: str | Sequence[str] | None, names: list[str]) -> list[int]:
    """Return the columns of `present` that a subset names, in their order."""
    chosen = names if subset is None else subset.split("+") if isinstance(subset, str) else subset
    # A recipe may hold anything here: its options are not typed.
    valid = isinstance(chosen, list | tuple) and bool(chosen) and all(name in names for name in chosen)
    if not valid or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"Unimodal: subset is {subset!r}, expected some of {', '.join(names)}, each once, "
            f"as a list or joined by '+', as in {'+'.join(names[:2])!r}"
        )
    return [column for column, name in enumerate(names) if name in chosen]
