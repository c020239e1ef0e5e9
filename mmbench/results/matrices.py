"""The confusion matrices of a record: read without trusting them, and every score derived from them again.

Axes: T tile, K class (truth in rows, prediction in columns).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mmbench.datasets._dataset import Labels
from mmbench.errors import DataError
from mmbench.metrics import scores
from mmbench.records import Record, matrix_name
from mmbench.results.files import LARGEST_MATRICES_BYTES, MATRICES, companion, require_plain
from mmbench.settings_files import quote

_TOLERANCE = 1e-9
"""Between a stored score and the one that follows: room for another order of sums, for nothing else."""
_MOST_PIXELS = 2**53
"""Up to here a count is exact as a float, in which scores are computed."""
_TYPE = "I64"

Matrices = dict[str, NDArray[np.int64]]
"""Name in the file, `SCENARIO` or `SCENARIO@POLICY` -> (T, K, K) int64."""


def read_matrices(path: Path, record: Record) -> Matrices:
    """Read all matrices of a finished record.

    Args:
        path: Of the record's JSON.
        record: What it holds.

    Raises:
        DataError: If the file is missing, too large or damaged, or holds anything but counts of the shape
            that the record says, for its scenarios and, under other label policies, for all or none of them.
    """
    file = companion(path, MATRICES)
    require_plain(file, LARGEST_MATRICES_BYTES)
    shape = (len(record.tiles), len(record.classes), len(record.classes))
    try:
        with safe_open(file, framework="numpy") as stream:
            names = set(stream.keys())
            _require_names(names, list(record.scenarios))
            for name in sorted(names):  # by the header, before a value is read
                found = stream.get_slice(name)
                if (form := (tuple(found.get_shape()), found.get_dtype())) != (shape, _TYPE):
                    raise ValueError(f"{quote(name)} is {form}, expected {(shape, _TYPE)}")
            matrices = {name: stream.get_tensor(name) for name in sorted(names)}
        _require_counts(matrices, record.tiles)
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{file}: {error}. Run the cell again") from error
    return matrices


def policies_of(matrices: Matrices, scenarios: Sequence[str]) -> dict[str, Matrices]:
    """Sort matrices by label policy; "" is that of the record's scores.

    Args:
        matrices: As read.
        scenarios: Of the record.

    Returns:
        Policy -> scenario -> (T, K, K); only the policies that are there.
    """
    names = {"": {s: s for s in scenarios}}
    names |= {policy: {s: matrix_name(s, policy) for s in scenarios} for policy in get_args(Labels)}
    return {
        policy: {scenario: matrices[name] for scenario, name in of_policy.items()}
        for policy, of_policy in names.items()
        if of_policy.keys() and matrices.keys() >= set(of_policy.values())
    }


def score_problems(record: Record, matrices: Matrices) -> list[str]:
    """Derive every score from the matrices and name those that do not follow from them."""
    problems = []
    for scenario, stored in record.scenarios.items():
        derived = asdict(scores(matrices[scenario].sum(0), record.scored_classes))
        if stored.keys() != derived.keys():
            odd = sorted(stored.keys() ^ derived.keys())
            problems.append(f"scenario {quote(scenario)}: scores {quote(odd)} are missing or unknown")
        wrong = [key for key in derived if key in stored and not _follows(stored[key], derived[key])]
        problems += [
            f"scenario {quote(scenario)}: {key} is {quote(stored[key])}; its matrices give {derived[key]}"
            for key in wrong
        ]
    return problems


def _follows(stored: Any, derived: Any) -> bool:
    """Whether a stored score, or a list of them, is what was derived."""
    if isinstance(derived, tuple):
        return (
            isinstance(stored, list | tuple)
            and len(stored) == len(derived)
            and all(_follows(*pair) for pair in zip(stored, derived, strict=True))
        )
    if derived is None:
        return stored is None
    is_number = isinstance(stored, int | float) and not isinstance(stored, bool)
    return is_number and abs(stored - derived) <= _TOLERANCE


def _require_names(names: set[str], scenarios: Sequence[str]) -> None:
    """Refuse matrices of other scenarios than the record's, or of a policy for some of them only."""
    allowed = set(scenarios)
    for policy in get_args(Labels):
        of_policy = {matrix_name(scenario, policy) for scenario in scenarios}
        if names & of_policy:
            allowed |= of_policy
    if names != allowed:
        raise ValueError(
            f"holds matrices {quote(sorted(names - allowed))} that the record does not know, "
            f"lacks {quote(sorted(allowed - names))}"
        )


def _require_counts(matrices: Mapping[str, NDArray[np.int64]], tiles: Sequence[str]) -> None:
    """Refuse negative counts, and so many pixels that sums are no longer exact."""
    for name, values in matrices.items():
        if values.size and values.min() < 0:
            tile = tiles[int(np.argwhere(values < 0)[0][0])]
            raise ValueError(
                f"{quote(name)} has a count below 0 on tile {quote(tile)}; expected pixel counts"
            )
        if values.sum(dtype=np.float64) > _MOST_PIXELS:
            raise ValueError(f"{quote(name)} counts over {_MOST_PIXELS} pixels; expected those of the tiles")
