"""A small convolutional encoder a modality; their features are averaged over what is present.

Axes: B batch, M modality, C channel, H W pixels, K class, D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench import Batch, Method, Output


class PluginMethod(Method):
    """Averages features, so that any number of modalities will do."""

    title = "Plug-in method"
    paper = "none: an example"
    source = "written for this example"

    def __init__(
        self, modalities: Mapping[str, int], num_classes: int, *, ignore_index: int = 255, width: int = 8
    ) -> None:
        """Build the encoders and the head.

        Args:
            modalities: Name -> channels.
            num_classes: K.
            ignore_index: Target value that counts in no loss term.
            width: D.
        """
        super().__init__(modalities, num_classes, ignore_index=ignore_index)
        self.encoders = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Conv2d(c, width, 5, padding=2), nn.ReLU())
                for name, c in modalities.items()
            }
        )
        self.head = nn.Conv2d(width, num_classes, 3, padding=1)

    def forward(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment a batch of any size; see `Method.forward`."""
        self.check_input(images, present)
        features = torch.stack([self.encoders[name](image) for name, image in images.items()], dim=1)
        there = present[:, :, None, None, None]  # (B, M, 1, 1, 1)
        # Chosen, not multiplied: whatever stands in an absent slot, its feature is 0.
        total = torch.where(there, features, 0.0).sum(1)  # (B, D, H, W)
        return Output(self.head(total / there.sum(1)))

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cross-entropy over the pixels that count."""
        total = F.cross_entropy(output.logits, batch.target, ignore_index=self.ignore_index, reduction="sum")
        counted = (batch.target != self.ignore_index).sum()
        return {"cross_entropy": total / counted.clamp(min=1)}
