"""The truth of the test tiles under a label policy other than the protocol's.

Axes: H W pixels.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import TEST_LABELS, Dataset, Labels, row_bands
from mmbench.errors import DataError

_LOG = logging.getLogger("mmbench")
_BAND_ROWS = 512


class OtherTruth:
    """Labels of whole tiles, read once and kept compressed: every scenario is counted against them.

    A map of 6000 x 6000 classes takes 36 MB, packed about a hundredth; a dataset decodes the images with it.
    """

    def __init__(self, dataset: Dataset, tiles: Sequence[str], policy: Labels) -> None:
        """Read the labels of every tile.

        Args:
            dataset: Holds the tiles.
            tiles: Their ids.
            policy: Which labels.

        Raises:
            DataError: If the dataset lacks these labels of a tile, or cannot read them.
        """
        self.policy = policy
        self._sizes = {tile_id: dataset.size(tile_id) for tile_id in tiles}
        self._packed = {tile_id: _packed(dataset, tile_id, policy) for tile_id in tiles}

    def target(self, tile_id: str) -> NDArray[np.uint8]:
        """Return (H, W) uint8 class indices, or ignore_index."""
        values = np.frombuffer(zlib.decompress(self._packed[tile_id]), dtype=np.uint8)
        return values.reshape(self._sizes[tile_id])


def other_truths(dataset: Dataset) -> tuple[OtherTruth, ...]:
    """Return the truth of the test tiles under every further policy for which the dataset has it.

    The full labels of test tiles are often a download of their own. Without them, or with ones that cannot be
    read, the protocol's score is none the worse: the policy is left out and the log says why.
    """
    truths = []
    for policy in get_args(Labels):
        if policy == TEST_LABELS:
            continue
        try:
            truths.append(OtherTruth(dataset, dataset.split.test, policy))
        except DataError as error:
            _LOG.warning("test tiles are not scored on %s labels as well: %s", policy, error)
    return tuple(truths)


def _packed(dataset: Dataset, tile_id: str, policy: Labels) -> bytes:
    """Read one tile's labels, band by band, and compress them."""
    packer = zlib.compressobj(level=1)
    parts = [
        packer.compress(dataset.read(tile_id, band, labels=policy).target.tobytes())
        for band in row_bands(dataset.size(tile_id), _BAND_ROWS)
    ]
    return b"".join([*parts, packer.flush()])
