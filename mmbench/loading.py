"""From tiles to batches: padded windows, seeded random crops, Sample → Batch.

Axes: B batch, M modality, C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmbench.datasets._dataset import Dataset, Labels, Window
from mmbench.transforms import Normalizer, random_generator, turn


@dataclass(frozen=True)
class Windows:
    """A stack of normalised windows, nothing hidden.

    Attributes:
        images: modality -> (B, C, H, W) float32 in [-1, 1].
        target: (B, H, W) int64.
    """

    images: dict[str, Tensor]
    target: Tensor

    def to(self, device: torch.device) -> Windows:
        """Return a copy on a device."""
        images = {name: image.to(device, non_blocking=True) for name, image in self.images.items()}
        return Windows(images, self.target.to(device, non_blocking=True))


def read_window(
    dataset: Dataset, normalizer: Normalizer, tile_id: str, window: Window, *, labels: Labels
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
    """Read and normalise a window that may reach beyond the tile.

    Beyond the tile, images are mirrored and the target is ignored.

    Returns:
        modality -> (C, h, w) float32, and (h, w) int64.
    """
    height, width = dataset.size(tile_id)
    inside = Window(
        window.top,
        window.left,
        min(window.height, height - window.top),
        min(window.width, width - window.left),
    )
    sample = dataset.read(tile_id, inside, labels=labels)
    margins = ((0, window.height - inside.height), (0, window.width - inside.width))
    images = {
        name: np.pad(normalizer(name, image), ((0, 0), *margins), mode="symmetric")
        for name, image in sample.images.items()
    }
    target = np.pad(sample.target, margins, constant_values=dataset.ignore_index).astype(np.int64)
    return images, target


def stack(parts: list[tuple[Mapping[str, NDArray[np.float32]], NDArray[np.int64]]]) -> Windows:
    """Stack windows of equal size to (B, …)."""
    images = {name: torch.from_numpy(np.stack([p[0][name] for p in parts])) for name in parts[0][0]}
    return Windows(images, torch.from_numpy(np.stack([p[1] for p in parts])))


class RandomCrops(torch.utils.data.Dataset[Any]):
    """Training crops by number: crop n is the same whatever reads it, in whatever order."""

    def __init__(
        self, dataset: Dataset, normalizer: Normalizer, *, window: int, count: int, seed: int
    ) -> None:
        """Prepare the draw.

        Args:
            dataset: Its training tiles are drawn from, in proportion to their area.
            normalizer: Fitted on them.
            window: Side of a crop, pixels.
            count: How many crops there are.
            seed: Of the draw.
        """
        self._dataset, self._normalizer = dataset, normalizer
        self._window, self._count, self._seed = window, count, seed
        areas = np.array([np.prod(dataset.size(t)) for t in dataset.split.train], dtype=np.float64)
        self._shares = areas / areas.sum()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
        rng = random_generator("crop", self._seed, number)
        tile_id = self._dataset.split.train[int(rng.choice(len(self._shares), p=self._shares))]
        height, width = self._dataset.size(tile_id)
        top, left = (int(rng.integers(0, max(1, side - self._window + 1))) for side in (height, width))
        quarter_turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        window = Window(top, left, self._window, self._window)
        images, target = read_window(self._dataset, self._normalizer, tile_id, window, labels="full")
        return (
            {name: turn(image, quarter_turns, flip) for name, image in images.items()},
            turn(target, quarter_turns, flip),
        )


def training_batches(crops: RandomCrops, *, batch_size: int, workers: int) -> Iterator[Windows]:
    """Yield the crops in order, `batch_size` at a time; the number of workers does not change them."""
    loader = torch.utils.data.DataLoader(
        crops, batch_size=batch_size, num_workers=workers, collate_fn=stack, persistent_workers=False
    )
    yield from loader
