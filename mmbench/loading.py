"""From tiles to batches: padded windows, seeded random crops.

Axes: B batch, M modality, C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmbench.datasets._dataset import Dataset, Labels, Window
from mmbench.errors import DataError, EnvironmentMissingError
from mmbench.transforms import Normalizer, draw_photometric, random_generator, turn

_PREFETCHED = 2
"""Batches that each reading process is ahead."""

_Raw = tuple[dict[str, Tensor], Tensor]


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
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.uint8]]:
    """Read and normalise a window that may reach beyond the tile.

    Beyond the tile, images are mirrored and the target is ignored.

    Returns:
        modality -> (C, h, w) float32, and (h, w) uint8.
    """
    images, target = _read_raw(dataset, tile_id, window, labels)
    return {name: normalizer(name, image) for name, image in images.items()}, target


def _read_raw(
    dataset: Dataset, tile_id: str, window: Window, labels: Labels
) -> tuple[dict[str, NDArray[Any]], NDArray[np.uint8]]:
    """Read a window in physical units, padded where it reaches beyond the tile; it may not be written."""
    height, width = dataset.size(tile_id)
    down, across = (
        max(0, start + extent - side)
        for start, extent, side in zip(window[:2], window[2:], (height, width), strict=True)
    )
    inside = window._replace(height=window.height - down, width=window.width - across)
    sample = dataset.read(tile_id, inside, labels=labels)
    if not (down or across):
        return sample.images, sample.target
    margins = ((0, down), (0, across))
    images = {n: np.pad(image, ((0, 0), *margins), mode="symmetric") for n, image in sample.images.items()}
    return images, np.pad(sample.target, margins, constant_values=dataset.ignore_index)


def stack(parts: Sequence[tuple[Mapping[str, NDArray[np.float32]], NDArray[np.uint8]]]) -> Windows:
    """Stack windows of equal size to (B, …)."""
    images = {name: torch.from_numpy(np.stack([p[0][name] for p in parts])) for name in parts[0][0]}
    return Windows(images, torch.from_numpy(np.stack([p[1] for p in parts])).long())


class RandomCrops(torch.utils.data.Dataset[Any]):
    """Training crops by number: crop n is the same whatever reads it, in whatever order and company."""

    def __init__(
        self,
        dataset: Dataset,
        normalizer: Normalizer,
        *,
        window: int,
        count: int,
        seed: int,
        photometric: float = 0.0,
    ) -> None:
        """Prepare the draw.

        Args:
            dataset: Its training tiles are drawn from, in proportion to their area.
            normalizer: Fitted on them.
            window: Side of a crop, pixels.
            count: How many crops there are.
            seed: Of the draw.
            photometric: Strength of the change of light of the optical modalities; 0 is none.
        """
        self._dataset, self._normalizer = dataset, normalizer
        self._window, self._count, self._seed, self._photometric = window, count, seed, photometric
        areas = np.array([np.prod(dataset.size(t)) for t in dataset.split.train], dtype=np.float64)
        self._shares = areas / areas.sum()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.uint8]]:
        batch = self.empty(1)
        self.fill(batch, [number])
        images, target = batch
        return {name: image[0].numpy() for name, image in images.items()}, target[0].numpy()

    def empty(self, count: int) -> _Raw:
        """Return memory for so many crops: modality -> (B, C, H, W) float32, and (B, H, W) uint8."""
        shape = (self._window, self._window)
        images = {
            name: torch.empty(count, channels, *shape) for name, channels in self._dataset.modalities.items()
        }
        return images, torch.empty(count, *shape, dtype=torch.uint8)

    def fill(self, batch: _Raw, numbers: Sequence[int]) -> None:
        """Write the crops of some numbers into the first places of a batch."""
        images, target = batch
        for row, number in enumerate(numbers):
            places = {name: image[row].numpy() for name, image in images.items()}
            self._write(number, places, target[row].numpy())

    def _write(
        self, number: int, images: Mapping[str, NDArray[np.float32]], target: NDArray[np.uint8]
    ) -> None:
        rng = random_generator("crop", self._seed, number)
        tile_id = self._dataset.split.train[int(rng.choice(len(self._shares), p=self._shares))]
        height, width = self._dataset.size(tile_id)
        top, left = (int(rng.integers(0, max(1, side - self._window + 1))) for side in (height, width))
        quarter_turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        window = Window(top, left, self._window, self._window)
        raw, labels = _read_raw(self._dataset, tile_id, window, "full")
        # Turned before they are normalised: the turn is then part of the copy to float32.
        for name, out in images.items():
            self._normalizer.write(name, turn(raw[name], quarter_turns, flip), out)
        np.copyto(target, turn(labels, quarter_turns, flip))
        if self._photometric:
            change = draw_photometric(self._photometric, self._seed, number)
            for name in self._dataset.optical_modalities:
                change.apply(images[name])


def training_batches(crops: RandomCrops, *, batch_size: int, workers: int) -> Iterator[Windows]:
    """Yield the crops in order, `batch_size` at a time; the number of workers does not change them.

    Reading processes write into a few shared batches that are used again and again, and each is copied out
    when it comes: fresh shared memory for every batch takes twice the time of all the reading.
    """
    tasks_ahead = workers * _PREFETCHED + 1  # the last is the one being copied out
    slots = [crops.empty(batch_size) for _ in range(min(tasks_ahead, -(-len(crops) // batch_size)))]
    if workers:
        _share(slots, workers)
    free = list(range(len(slots)))

    def tasks() -> Iterator[tuple[int, range]]:
        # Asked whenever a process is given work, so no slot is given twice: `pop` fails if none is free.
        for start in range(0, len(crops), batch_size):
            yield free.pop(), range(start, min(start + batch_size, len(crops)))

    loader = torch.utils.data.DataLoader(
        _SlotFiller(crops, slots),
        batch_size=None,
        sampler=tasks(),
        num_workers=workers,
        prefetch_factor=_PREFETCHED if workers else None,
        collate_fn=_as_read,
    )
    for done in loader:
        if isinstance(done, DataError):
            raise done
        slot, numbers = done
        images, target = slots[slot]
        count = len(numbers)
        copies = {name: image[:count].clone() for name, image in images.items()}
        windows = Windows(copies, target[:count].long())
        free.append(slot)
        yield windows


def _share(slots: Sequence[_Raw], workers: int) -> None:
    """Move batches to shared memory."""
    try:
        for images, target in slots:
            for tensor in (*images.values(), target):
                tensor.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        size = sum(tensor.nbytes for images, target in slots for tensor in (*images.values(), target))
        raise EnvironmentMissingError(
            f"{workers} reading processes need {size >> 20} MiB of shared memory, which could not be had "
            f"({' '.join(str(error).split())}); use fewer, or enlarge /dev/shm"
        ) from error


class _SlotFiller(torch.utils.data.Dataset[Any]):
    """Writes crops into one of the shared batches; what is sent between processes is its number."""

    def __init__(self, crops: RandomCrops, slots: list[_Raw]) -> None:
        self._crops, self._slots = crops, slots

    def __getitem__(self, task: tuple[int, range]) -> tuple[int, range] | DataError:
        slot, numbers = task
        try:
            self._crops.fill(self._slots[slot], numbers)
        except DataError as error:  # raised again where it is read: the loader would wrap it in a traceback
            return error
        return task


def _as_read(task: Any) -> Any:
    """Collate what is a batch already."""
    return task
