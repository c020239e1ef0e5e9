"""A recorded cell and a new run of it: what has changed in code and settings, and how the scores compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.cells import flatten
from mmbench.errors import DataError
from mmbench.records import Record, code_hash
from mmbench.registry import entry
from mmbench.settings_files import quote

_OF_CODE = "code."


@dataclass(frozen=True)
class ScenarioDifference:
    """How a scenario's matrices compare.

    Attributes:
        scenario: Its name.
        moved: Pixels that are counted elsewhere; 0 if the matrices are equal bit for bit.
        pixels: In all.
        before: Recorded mIoU, None if undefined.
        now: That of the new run.
    """

    scenario: str
    moved: int
    pixels: int
    before: float | None
    now: float | None

    def __str__(self) -> str:
        if self.moved == 0:
            return f"{self.scenario}: identical"
        change = (
            "" if self.before is None or self.now is None else f" ({(self.now - self.before) * 100:+.2f})"
        )
        return (
            f"{self.scenario}: mIoU {_percent(self.before)} -> {_percent(self.now)}{change}, "
            f"{self.moved} of {self.pixels} pixels counted elsewhere"
        )


def changed_code(record: Record) -> list[str]:
    """Return the parts of the code that differ from those that made a record, as "method" or "loop".

    Raises:
        UnknownNameError: If its method or dataset is not installed here.
    """
    recorded = record.identity["code"]
    here = code_hash(
        entry("method", record.identity["method"]["name"]),
        entry("dataset", record.identity["dataset"]["name"]),
    )
    return [part for part in here if recorded.get(part) != here[part]]


def other_changes(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Name what keeps a cell from being the recorded one, apart from the code, with both values.

    What exists here only, as an option that is younger than the record, comes with the code.

    Args:
        recorded: Identity of the record.
        here: Identity of the cell that would run.
    """
    now = flatten(here)
    return [
        f"{key}: {quote(value)} -> {quote(now.get(key))}"
        for key, value in flatten(recorded).items()
        if not key.startswith(_OF_CODE) and now.get(key) != value
    ]


def compare(
    record: Record,
    matrices: Mapping[str, NDArray[np.int64]],
    again: Record,
    matrices_again: Mapping[str, NDArray[np.int64]],
) -> list[ScenarioDifference]:
    """Hold a new run's matrices against the recorded ones, scenario by scenario.

    Args:
        record: The recorded cell.
        matrices: Scenario -> (tiles, K, K) int64.
        again: The new run of it.
        matrices_again: The same, of the new run.

    Raises:
        DataError: If they are not of the same tiles and classes, though their identities are the same.
    """
    if (record.tiles, record.classes) != (again.tiles, again.classes):
        raise DataError(
            f"record {record.id} has tiles {quote(record.tiles)} and classes {quote(record.classes)}, a run "
            f"of it {quote(again.tiles)} and {quote(again.classes)}: they cannot be compared"
        )
    return [
        ScenarioDifference(
            scenario=scenario,
            # A pixel that moves leaves one count and joins another.
            moved=(int(np.abs(matrices[scenario] - matrices_again[scenario]).sum()) + 1) // 2,
            pixels=int(matrices[scenario].sum()),
            before=record.scenarios[scenario]["miou"],
            now=again.scenarios[scenario]["miou"],
        )
        for scenario in record.scenarios
    ]


def _percent(score: float | None) -> str:
    return "-" if score is None else f"{score * 100:.2f}"
