"""Looking at everything that a split needs, so that nothing that a run would refuse comes as a surprise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from mmbench.datasets._dataset import Dataset, Role
from mmbench.datasets._files import FileReport
from mmbench.datasets._tally import Tally
from mmbench.errors import DataError

SCHEMA_VERSION = 1
"""Of the JSON of a `CheckReport`; raised when a key changes its meaning or goes."""

Progress = Callable[[int, int], None]
"""Called after each tile with (done, in all)."""


@dataclass
class TileReport:
    """What was found out about one tile.

    Attributes:
        tile_id: Which one.
        role: In the split.
        files: Of its files; none where the dataset stores none.
        size: (rows, columns), pixels; None where it was not asked for.
        problems: What is wrong though each of its files looks right.
    """

    tile_id: str
    role: Role
    files: list[FileReport] = field(default_factory=list)
    size: tuple[int, int] | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong with the tile or a file of it."""
        return not self.problems and not any(report.problems for report in self.files)

    def problem_lines(self) -> Iterator[str]:
        """Yield every problem with the file or the tile it is of."""
        for report in self.files:
            yield from _lines(report, report.problems)
        for problem in self.problems:
            yield f"tile {self.tile_id}: {problem}"


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    Attributes:
        heading: Whose files, where, which split; see `describe`.
        content: Whether pixels were read, or only headers.
        tiles: In the order of the split.
        remarks: What to know about the dataset as a whole.
    """

    heading: dict[str, Any]
    content: bool
    tiles: list[TileReport]
    remarks: list[str]

    @property
    def problems(self) -> list[str]:
        """Every problem, one line each."""
        return [line for tile in self.tiles for line in tile.problem_lines()]

    @property
    def notes(self) -> list[str]:
        """What is odd but dealt with, and the remarks, one line each."""
        odd = [line for tile in self.tiles for report in tile.files for line in _lines(report, report.notes)]
        return odd + self.remarks

    @property
    def sound_tiles(self) -> int:
        """How many tiles have no problem."""
        return sum(tile.is_sound for tile in self.tiles)

    @property
    def can_run(self) -> bool:
        """Whether there is no problem."""
        return self.sound_tiles == len(self.tiles)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            **self.heading,
            "content_read": self.content,
            "can_run": self.can_run,
            "problems": len(self.problems),
            "tiles": [
                {"tile": tile.tile_id, "role": tile.role, "sound": tile.is_sound, "problems": tile.problems}
                for tile in self.tiles
            ],
            "files": [_file_dict(report, tile.role) for tile in self.tiles for report in tile.files],
            "notes": self.remarks,
        }


def check(
    dataset: Dataset, *, name: str | None = None, content: bool = True, progress: Progress | None = None
) -> CheckReport:
    """Examine every file of a dataset's split, then read every tile as the protocol reads it.

    Args:
        dataset: Its files may be missing or wrong: what is wrong stands in the report.
        name: Its key in the registry, for the report.
        content: Whether to read pixels and hash files; else only headers.
        progress: Called after each tile.
    """
    reports: dict[str, TileReport] = {}
    for role in get_args(Role):
        reports |= {tile_id: TileReport(tile_id, role) for tile_id in dataset.split.role(role)}
    files: dict[str, list[Any]] = {tile_id: [] for tile_id in reports}
    for file in dataset.files():
        files[file.tile_id].append(file)
    tallies: dict[str, Tally] = {}
    for done, (tile_id, report) in enumerate(reports.items(), 1):
        report.files = [dataset.examine(file, content=content) for file in files[tile_id]]
        if report.is_sound and content:
            tally = _read(dataset, report)
            tallies |= {tile_id: tally} if report.is_sound else {}
        if progress is not None:
            progress(done, len(reports))
    for role in get_args(Role):
        _require_scored_class(dataset, [reports[tile_id] for tile_id in dataset.split.role(role)], tallies)
    return CheckReport(describe(dataset, name), content, list(reports.values()), _remarks(dataset, tallies))


def describe(dataset: Dataset, name: str | None = None) -> dict[str, Any]:
    """Return which dataset, folder and split a report is about, as plain values.

    Args:
        dataset: The opened dataset.
        name: Its key in the registry, where it is known.
    """
    root = getattr(dataset, "root", None)
    return {
        "dataset": name,
        "title": dataset.title,
        "root": None if root is None else str(root),
        "identity": dataset.identity,
        "split": {
            "name": dataset.split_name,
            **{role: list(dataset.split.role(role)) for role in get_args(Role)},
        },
    }


def _read(dataset: Dataset, report: TileReport) -> Tally:
    """Read a tile as the protocol does, and note what is wrong."""
    tally = Tally(dataset)
    try:
        report.size = dataset.size(report.tile_id)
        tally.add(report.tile_id)
    except DataError as error:
        report.problems.append(str(error))
        return tally
    if tally.stray:
        report.problems.append(
            f"the target of {tally.stray} pixels is no class; expected 0 to {dataset.num_classes - 1}, "
            f"or {dataset.ignore_index} to ignore. Mend the dataset's reader"
        )
    for name, low in tally.low.items():
        if not np.isfinite(low + tally.high[name]).all():
            report.problems.append(f"{name} holds values that are not finite. Mend the file or its reader")
    return tally


def _require_scored_class(dataset: Dataset, reports: list[TileReport], tallies: dict[str, Tally]) -> None:
    """Note on the first tile of a role, if all were read, that none of them shows a class that is scored."""
    read = [tallies[report.tile_id] for report in reports if report.tile_id in tallies]
    scored = list(dataset.scored_classes)
    if reports and len(read) == len(reports) and not any(tally.classes[scored].any() for tally in read):
        reports[0].problems.append(
            f"no {reports[0].role} tile shows a class that is scored: nothing can be learned or measured on "
            "them. Choose other tiles, or other labels"
        )


def _remarks(dataset: Dataset, tallies: dict[str, Tally]) -> list[str]:
    """Return what is worth knowing of the split; of its pixels only where all tiles of a role were read."""
    remarks = dataset.remarks()
    if not dataset.split.val:
        remarks.append("no validation tiles: the last checkpoint is scored, not the best one")
    roles: tuple[tuple[Role, str], ...] = (
        ("train", "no method can learn it"),
        ("test", "it is left out of the means"),
    )
    for role, consequence in roles:
        read = [tallies[tile_id] for tile_id in dataset.split.role(role) if tile_id in tallies]
        if len(read) < len(dataset.split.role(role)):
            continue
        counts = sum(tally.classes for tally in read)
        remarks += [
            f"class {name!r} does not occur in the {role} labels: {consequence}"
            for name, count in zip(dataset.classes, counts, strict=True)  # type: ignore[arg-type]
            if count == 0
        ]
        if role == "train":
            remarks += _constant_channels(dataset, read)
    return remarks


def _constant_channels(dataset: Dataset, read: list[Tally]) -> list[str]:
    """Name the channels with one value over all training tiles."""
    return [
        f"{name} channel {channel} is {low:g} in every training pixel: it carries no information"
        for name in dataset.modalities
        for channel, (low, high) in enumerate(
            zip(
                np.min([tally.low[name] for tally in read], axis=0),
                np.max([tally.high[name] for tally in read], axis=0),
                strict=True,
            )
        )
        if low == high
    ]


def _lines(report: FileReport, texts: list[str]) -> Iterator[str]:
    """Yield what was said of a file with its path, or with tile and kind where it is missing."""
    file = report.file
    where = f"tile {file.tile_id}, {file.kind}" if file.path is None else str(file.path)
    for text in texts:
        yield f"{where}: {text}"


def _file_dict(report: FileReport, role: Role) -> dict[str, Any]:
    """Return what was found out about a file as plain values."""
    file = report.file
    return {
        "tile": file.tile_id,
        "role": role,
        "kind": file.kind,
        "purpose": file.purpose,
        "path": None if file.path is None else str(file.path),
        "expected": file.expected,
        "bytes": report.num_bytes,
        "size": None if report.size is None else list(report.size),
        "channels": report.channels,
        "dtype": report.dtype,
        "storage": report.storage,
        "low": _finite(report.low),
        "high": _finite(report.high),
        "sha256": report.sha256,
        "problems": report.problems,
        "notes": report.notes,
    }


def _finite(value: float | None) -> float | None:
    """Return a number that JSON can hold, else None."""
    return value if value is not None and np.isfinite(value) else None
