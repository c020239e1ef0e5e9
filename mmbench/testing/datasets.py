"""What every dataset must do, whatever it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mmbench.datasets._dataset import Dataset, Window
from mmbench.errors import DataError
from mmbench.testing._require import require


def check_dataset(dataset_class: type[Dataset], root: Path) -> None:
    """Run the whole contract on a dataset, on the small copy that its `fake` writes.

    Args:
        dataset_class: The dataset.
        root: An empty folder to write to.

    Raises:
        AssertionError: Saying which clause is broken and how.
    """
    check_facts(dataset_class)
    dataset = dataset_class.fake(root)
    require(dataset.modalities, "modalities is empty")
    require(dataset.split.train and dataset.split.test, "the fake copy's split needs train and test tiles")
    json.dumps(dataset.identity)  # must be storable: it goes into every record
    for tile_id in (dataset.split.train[0], dataset.split.test[0]):
        check_tile(dataset, tile_id)
    require(
        (dataset.read(dataset.split.test[0], labels="eroded").target == dataset.ignore_index).any(),
        "labels='eroded' ignores no pixel of the first test tile",
    )
    try:
        dataset.read("no such tile")
    except DataError as error:
        require("no such tile" in str(error), f"the error does not name the tile: {error}")
    else:
        require(False, "an unknown tile id was read")


def check_facts(dataset_class: type[Dataset]) -> None:
    """Require the class facts that `info`, tables and pictures print."""
    for fact in ("title", "homepage", "licence"):
        value = getattr(dataset_class, fact, None)
        require(isinstance(value, str) and value, f"{fact} is {value!r}, expected a text")
    count = len(dataset_class.classes)
    require(len(dataset_class.palette) == count, f"{len(dataset_class.palette)} colours for {count} classes")
    require(len(set(dataset_class.palette)) == count, "two classes share a colour")
    require(
        set(dataset_class.scored_classes) <= set(range(count)),
        f"scored_classes {dataset_class.scored_classes} are outside 0..{count - 1}",
    )
    require(dataset_class.ignore_index not in range(count), "ignore_index is a class")
    require(dataset_class.gsd_m > 0, f"gsd_m is {dataset_class.gsd_m}, expected metres per pixel")


def check_tile(dataset: Dataset, tile_id: str) -> None:
    """Require sizes, channels, types and values of a tile, and that a window is a crop of it."""
    height, width = dataset.size(tile_id)
    whole = dataset.read(tile_id)
    require(list(whole.images) == list(dataset.modalities), f"{tile_id}: images are {list(whole.images)}")
    for name, channels in dataset.modalities.items():
        image = whole.images[name]
        require(
            image.shape == (channels, height, width),
            f"{tile_id}: {name} is {image.shape}, expected {(channels, height, width)}",
        )
        require(image.dtype in (np.uint8, np.float32), f"{tile_id}: {name} is {image.dtype}")
        require(np.isfinite(image).all(), f"{tile_id}: {name} is not finite")
    require(whole.target.shape == (height, width), f"{tile_id}: target is {whole.target.shape}")
    require(whole.target.dtype == np.uint8, f"{tile_id}: target is {whole.target.dtype}, expected uint8")
    allowed = [*range(dataset.num_classes), dataset.ignore_index]
    require(np.isin(whole.target, allowed).all(), f"{tile_id}: target holds more than {allowed}")
    window = Window(height // 4, width // 3, height // 2, width // 2)
    part = dataset.read(tile_id, window)
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    same = np.array_equal(part.target, whole.target[rows, columns])
    require(same, f"{tile_id}: a window's target is no crop of the tile")
    for name, image in whole.images.items():
        same = np.array_equal(part.images[name], image[:, rows, columns])
        require(same, f"{tile_id}: window of {name} is no crop of the tile")
