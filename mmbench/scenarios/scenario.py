"""Whole missing modalities: the scenarios, drawing presence patterns, and hiding.

Axes: B batch, M modality, C channel, H W pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmbench.transforms import random_generator


@dataclass(frozen=True)
class Scenario:
    """What a method is given at test time.

    Attributes:
        name: `full`, or the modalities present joined by "+".
        present: One bool a modality, in the order of the dataset's modalities.
    """

    name: str
    present: tuple[bool, ...]

    def rows(self, batch_size: int, device: torch.device) -> Tensor:
        """Return `present` for a batch of this scenario, (B, M) bool."""
        return torch.tensor(self.present, device=device).repeat(batch_size, 1)


def whole_modality_scenarios(modalities: Sequence[str]) -> list[Scenario]:
    """Return a scenario for every non-empty subset, `full` first, then by how many are missing."""
    subsets = [p for p in itertools.product((True, False), repeat=len(modalities)) if any(p)]
    subsets.sort(key=lambda p: -sum(p))
    return [Scenario("full" if all(p) else "+".join(itertools.compress(modalities, p)), p) for p in subsets]


def draw_patterns(
    distribution: Mapping[tuple[bool, ...], float], batch_size: int, seed: int, step: int
) -> Tensor:
    """Draw a presence pattern for each sample from (seed, step).

    Args:
        distribution: Pattern -> probability; the sum is 1.
        batch_size: B.
        seed: Of the cell.
        step: Number of the batch.

    Returns:
        (B, M) bool.

    Raises:
        ValueError: If a pattern is empty or the probabilities do not sum to 1.
    """
    patterns = list(distribution)
    if not all(any(pattern) for pattern in patterns):
        raise ValueError("a presence pattern has no modality; each needs at least one")
    if abs(sum(distribution.values()) - 1) > 1e-6:
        raise ValueError(f"pattern probabilities sum to {sum(distribution.values())}, expected 1")
    weights = [distribution[p] / sum(distribution.values()) for p in patterns]
    drawn = random_generator("patterns", seed, step).choice(len(patterns), size=batch_size, p=weights)
    return torch.tensor([patterns[int(i)] for i in drawn])


def hide(
    images: Mapping[str, Tensor], present: Tensor, fill: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Overwrite the absent slots; the only function of mmbench that hides a modality.

    Args:
        images: modality -> (B, C, H, W).
        present: (B, M) bool, columns in the order of `images`.
        fill: What stands in the absent slots, shaped like the images; None is 0, the training mean.

    Returns:
        New tensors; the given ones are not written.
    """
    return {
        name: torch.where(present[:, column, None, None, None], image, 0.0 if fill is None else fill[name])
        for column, (name, image) in enumerate(images.items())
    }
