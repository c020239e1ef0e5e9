"""Rows of a leaderboard: one method with its options, summarised over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmbench.metrics import ClassMetric, Metric
from mmbench.records import Record
from mmbench.registry import VARIANT_MARK
from mmbench.statistics import Summary, summarise

METRIC_NAMES: dict[Metric, str] = {"miou": "mIoU", "mf1": "mF1", "oa": "OA", "kappa": "kappa"}
CLASS_METRIC_NAMES: dict[ClassMetric, str] = {"iou": "IoU", "f1": "F1"}
CLASS_METRIC_OF: dict[Metric, ClassMetric] = {"miou": "iou", "mf1": "f1"}
"""Of a metric that is a mean over classes, what it is the mean of."""
MEAN, WORST = "mean", "worst"
"""Beside the scenarios among a row's figures."""


@dataclass(frozen=True)
class SeedResult:
    """What one finished cell of a row scored.

    Attributes:
        seed: Of the cell.
        record: Its id.
        scenarios: Scenario -> metric -> score in [0, 1] (or a list of one a class), None where undefined.
    """

    seed: int
    record: str
    scenarios: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Row:
    """One method (with its options) over its seeds.

    Attributes:
        label: Name, and the options a recipe set.
        figures: Scenario -> summary in %, then "mean" and "worst" over the scenarios; a scenario whose score
            is undefined is left out, mean and worst also where a seed lacks a scenario.
        parameters: Of the trained method.
        seconds: Mean training time, with what device.
        sees_hidden: Whether training saw the content of hidden modalities.
        results: One a seed, in their order.
        note: What must be said of its parameters or training, or "".
        learning_rates: What the search for the learning rate chose, one a seed; empty where there was none.
        trial_seconds: Mean time of the search.
        imputation: Modality -> (mean absolute error of the generated images, of the training mean), over the
            seeds, in normalised units; empty if none are generated.
        profile: What the latest record that has one keeps of its cost; see `profiling.record_profile`.
        method: Its key, with the variant.
        options: All of them, also those at their defaults.
        set_options: In words, those that the recipe set, or "".
        lacks: What keeps it from being compared with complete rows, as "seed 2 failed"; empty if nothing.
    """

    label: str
    figures: dict[str, Summary]
    parameters: int
    seconds: float
    device: str
    sees_hidden: bool
    results: tuple[SeedResult, ...]
    note: str = ""
    learning_rates: tuple[float, ...] = ()
    trial_seconds: float = 0.0
    imputation: dict[str, tuple[float, float]] = field(default_factory=dict)
    profile: Mapping[str, Any] | None = None
    method: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    set_options: str = ""
    lacks: tuple[str, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that were finished."""
        return tuple(result.seed for result in self.results)

    @property
    def flops(self) -> int | None:
        """FLOP of a forward over one window with all modalities; None in records that do not hold it."""
        flops: int | None = ((self.profile or {}).get("inference", {}).get("full") or {}).get("flops")
        return flops


def code_of(record: Record) -> tuple[str, str]:
    """Return the method's name and the hash of its own code."""
    return record.identity["method"]["name"], record.identity["code"]["method"]


def label_of(record: Record) -> str:
    """Return the method's name with the options that the recipe set."""
    return row_label(_method(record), record.method.get("set_options", {}))


def row_label(method: str, set_options: Mapping[str, Any]) -> str:
    """Return the words for a row: a method's key, and the options that were set."""
    words = option_words(set_options)
    return f"{method} ({words})" if words else method


def option_words(set_options: Mapping[str, Any]) -> str:
    """Return options in one line, sorted."""
    return ", ".join(f"{key}={value}" for key, value in sorted(set_options.items()))


def _method(record: Record) -> str:
    """Return the method's key with its variant."""
    variant = record.method.get("variant", "")
    return str(record.identity["method"]["name"]) + (f"{VARIANT_MARK}{variant}" if variant else "")


def _imputation(records: Sequence[Record]) -> dict[str, tuple[float, float]]:
    """Return the errors of generated images, averaged over seeds."""
    return {
        name: (
            sum(record.imputation[name]["l1"] for record in records) / len(records),
            sum(record.imputation[name]["l1_of_mean"] for record in records) / len(records),
        )
        for name in records[0].imputation
    }


def summarise_row(label: str, records: Sequence[Record], metric: Metric, lacks: tuple[str, ...]) -> Row:
    """Summarise one method's seeds."""
    trials = [trial for record in records for trial in record.training.get("trials", ())]
    whole = not any(words.startswith("no scenario") for words in lacks)
    return Row(
        label=label,
        figures=_figures(records, metric, whole),
        parameters=records[0].method["parameters"],
        seconds=sum(r.training["seconds"] for r in records) / len(records),
        device=" and ".join(sorted({r.environment["device"] for r in records})),
        sees_hidden=records[0].method["sees_hidden_in_training"],
        results=tuple(SeedResult(r.identity["seed"], r.id, r.scenarios) for r in records),
        note=records[0].method.get("note", ""),
        learning_rates=tuple(trial["learning_rate"] for trial in trials if trial["chosen"]),
        trial_seconds=sum(trial["seconds"] for trial in trials) / len(records),
        imputation=_imputation(records),
        profile=next((r.profile for r in reversed(records) if r.profile), None),
        method=_method(records[0]),
        options=records[0].identity["method"]["options"],
        set_options=option_words(records[0].method.get("set_options", {})),
        lacks=lacks,
    )


def _figures(records: Sequence[Record], metric: Metric, whole: bool) -> dict[str, Summary]:
    """Summarise one metric; mean and worst, of whole rows only, are taken within a seed first."""
    columns: dict[str, list[float]] = {}
    for record in records:
        values = {s: v[metric] * 100 for s, v in record.scenarios.items() if v[metric] is not None}
        for scenario, value in values.items():
            columns.setdefault(scenario, []).append(value)
        if values and whole:
            columns.setdefault(MEAN, []).append(sum(values.values()) / len(values))
            columns.setdefault(WORST, []).append(min(values.values()))
    return {name: summarise(values) for name, values in columns.items()}


def number_words(numbers: Sequence[int]) -> str:
    """Return whole numbers as a list, three or more in a row as a range."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    words = [f"{p[0]} to {p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in parts]
    return ", ".join(words)
