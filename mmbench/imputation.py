"""How far generated images are from the real ones, beside the simplest guess: the training mean.

Axes: B batch, C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class ImputationError:
    """Mean absolute difference of generated images from the real ones, in normalised units.

    Windows that overlap count as often as they are generated. The mean image is 0 in these units.
    """

    _sums: dict[str, tuple[float, float, int]] = field(default_factory=dict)

    def add(self, imputed: Mapping[str, Tensor], real: Mapping[str, Tensor], present: Tensor) -> None:
        """Count the modalities that no sample of a batch has.

        Args:
            imputed: Modality -> (B, C, H, W) that a method segmented; may be empty.
            real: Modality -> (B, C, H, W) before hiding.
            present: (B, M) bool, M in the order of `real`.
        """
        for column, (name, image) in enumerate(real.items()):
            if name not in imputed or bool(present[:, column].any()):
                continue
            generated, mean, count = self._sums.get(name, (0.0, 0.0, 0))
            generated += (imputed[name].float() - image.float()).abs().double().sum().item()
            mean += image.float().abs().double().sum().item()
            self._sums[name] = (generated, mean, count + image.numel())

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Return modality -> {l1: of the generated images, l1_of_mean: of the training mean}."""
        return {
            name: {"l1": generated / count, "l1_of_mean": mean / count}
            for name, (generated, mean, count) in sorted(self._sums.items())
        }
