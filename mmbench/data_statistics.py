"""What a split holds: class shares and ranges by role, and the statistics that training normalises by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from mmbench.datasets._checking import describe
from mmbench.datasets._dataset import Dataset, Labels, Role
from mmbench.datasets._tally import Tally
from mmbench.transforms import ChannelStatistics, fit_normalizer

SCHEMA_VERSION = 1
"""Of the JSON of `DataStatistics`; raised when a key changes its meaning or goes."""

Progress = Callable[[int, int], None]
"""Called after each tile with (done, in all)."""


@dataclass(frozen=True)
class ChannelRange:
    """One channel of a modality over the tiles of a role, in its own unit.

    Attributes:
        low: Smallest value.
        high: Largest value.
        mean: Over all pixels.
        clipped: Share of the pixels, 0 to 1, that normalisation with the training statistics clips.
    """

    low: float
    high: float
    mean: float
    clipped: float


@dataclass(frozen=True)
class RoleStatistics:
    """The tiles of one role under the labels that the protocol reads of them.

    Attributes:
        tiles: How many.
        labels: Which labels.
        pixels: How many.
        ignored: Of them, without a class.
        classes: Class -> pixels.
        channels: Modality -> its channels.
    """

    tiles: int
    labels: Labels
    pixels: int
    ignored: int
    classes: dict[str, int]
    channels: dict[str, list[ChannelRange]]

    @property
    def ignored_share(self) -> float:
        """Share of all pixels, 0 to 1, that have no class."""
        return self.ignored / self.pixels

    @property
    def class_shares(self) -> dict[str, float | None]:
        """Class -> share of the pixels that have a class, 0 to 1; None where none has."""
        labelled = self.pixels - self.ignored
        return {name: count / labelled if labelled else None for name, count in self.classes.items()}


@dataclass(frozen=True)
class DataStatistics:
    """What `data_statistics` found.

    Attributes:
        heading: Whose pixels; see `mmbench.datasets._checking.describe`.
        roles: Of each role with tiles.
        training: Modality -> what normalisation uses, the result of `fit_normalizer`.
    """

    heading: dict[str, Any]
    roles: dict[Role, RoleStatistics]
    training: Mapping[str, ChannelStatistics]

    def as_dict(self) -> dict[str, Any]:
        """Return the statistics as plain values for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            **self.heading,
            "roles": {
                role: {
                    **asdict(found),
                    "ignored_share": found.ignored_share,
                    "class_shares": found.class_shares,
                }
                for role, found in self.roles.items()
            },
            "training": {name: asdict(found) for name, found in self.training.items()},
        }


def data_statistics(
    dataset: Dataset, *, name: str | None = None, progress: Progress | None = None
) -> DataStatistics:
    """Count classes and ranges over every tile of the split.

    Args:
        dataset: Opened, complete.
        name: Its key in the registry, for the report.
        progress: Called after each tile; the training statistics come before the first.

    Raises:
        DataError: If a file is missing or wrong.
    """
    training = fit_normalizer(dataset).statistics
    limits = {modality: (found.low, found.high) for modality, found in training.items()}
    roles: dict[Role, RoleStatistics] = {}
    done, total = 0, len(dataset.split.tiles)
    for role in get_args(Role):
        tally, tiles = Tally(dataset, limits), dataset.split.role(role)
        for tile_id in tiles:
            tally.add(tile_id)
            done += 1
            if progress is not None:
                progress(done, total)
        if tiles:
            roles[role] = _role_statistics(dataset, tally, len(tiles), dataset.split.labels_of(tiles[0]))
    return DataStatistics(describe(dataset, name), roles, training)


def _role_statistics(dataset: Dataset, tally: Tally, tiles: int, labels: Labels) -> RoleStatistics:
    """Turn the sums of a role into statistics."""
    channels = {
        modality: [
            ChannelRange(
                float(tally.low[modality][channel]),
                float(tally.high[modality][channel]),
                float(tally.total[modality][channel] / tally.pixels),
                float(tally.outside[modality][channel] / tally.pixels),
            )
            for channel in range(count)
        ]
        for modality, count in dataset.modalities.items()
    }
    classes = dict(zip(dataset.classes, tally.classes.tolist(), strict=True))
    return RoleStatistics(tiles, labels, tally.pixels, tally.ignored, classes, channels)
