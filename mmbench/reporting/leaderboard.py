"""Leaderboards: records that may be compared, summarised over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mmbench.records import Record
from mmbench.registry import VARIANT_MARK
from mmbench.statistics import Summary, summarise

Metric = Literal["miou", "mf1", "oa", "kappa"]
METRIC_NAMES: dict[str, str] = {"miou": "mIoU", "mf1": "mF1", "oa": "OA", "kappa": "kappa"}


@dataclass(frozen=True)
class Row:
    """One method (with its options) over its seeds.

    Attributes:
        label: Name, and the options a recipe set.
        figures: Scenario -> summary in %, then "mean" and "worst" over the scenarios; a scenario whose score
            is undefined is left out.
        parameters: Of the trained method.
        seconds: Mean training time, with what device.
        sees_hidden: Whether training saw the content of hidden modalities.
        note: What must be said of its parameters or training, or "".
        learning_rates: What the search for the learning rate chose, one a seed; empty where there was none.
        trial_seconds: Mean time of the search.
        imputation: Modality -> (mean absolute error of the generated images, of the training mean), over the
            seeds, in normalised units; empty if none are generated.
        flops: Of a forward over one window with all modalities; None in records that do not hold it.
        method: Its key, with the variant.
        options: All of them, also those at their defaults.
    """

    label: str
    figures: dict[str, Summary]
    parameters: int
    seconds: float
    device: str
    seeds: tuple[int, ...]
    sees_hidden: bool
    note: str = ""
    learning_rates: tuple[float, ...] = ()
    trial_seconds: float = 0.0
    imputation: dict[str, tuple[float, float]] = field(default_factory=dict)
    flops: int | None = None
    method: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Leaderboard:
    """Rows that share data, split, recipe, labels, precision and protocol.

    Attributes:
        five_classes: Whether clutter was ignored and not a class that is trained.
        search: (trials, steps of one) of the search for the learning rate, where the recipe asks for one.
        failures: "method seed n: why" of cells that have no score.
        mixed_code: Whether the records were made by different versions of the code that they should share.
    """

    dataset: str
    split: str
    modalities: tuple[str, ...]
    recipe: str
    ranked: bool
    protocol: int
    metric: Metric
    scenarios: tuple[str, ...]
    rows: tuple[Row, ...]
    five_classes: bool = False
    search: tuple[int, int] | None = None
    failures: tuple[str, ...] = field(default=())
    mixed_code: bool = False

    @property
    def title(self) -> str:
        """One line of what was measured, where and how."""
        return (
            f"{METRIC_NAMES[self.metric]} (%) on {self.dataset} ({' + '.join(self.modalities)})"
            f"{', five classes (GEMMNet-style)' if self.five_classes else ''}, "
            f"split {self.split}, recipe {self.recipe}, protocol {self.protocol}"
        )


def leaderboards(records: Iterable[Record], metric: Metric = "miou") -> list[Leaderboard]:
    """Group records into leaderboards, best mean over the scenarios first.

    Of two records of the same method, options and seed in one group, the later one counts. A method that
    broke the protocol with one seed has no row, whatever its other seeds scored.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(_comparable(record), []).append(record)
    return [_leaderboard(group, metric) for _, group in sorted(groups.items())]


def _comparable(record: Record) -> str:
    """Return what two records must share to stand in one table."""
    keys = ("dataset", "labels", "recipe", "precision", "protocol")
    shared = {key: record.identity[key] for key in keys}
    return json.dumps([record.recipe_name, shared], sort_keys=True)


def _leaderboard(group: Sequence[Record], metric: Metric) -> Leaderboard:
    """Summarise comparable records."""
    latest: dict[tuple[str, int], Record] = {}
    for record in sorted(group, key=lambda r: str(r.provenance.get("started", ""))):
        latest[(_label(record), record.identity["seed"])] = record
    convicted = {_code(r) for r in group if (r.error or {}).get("kind") == "protocol"}
    done = [r for r in latest.values() if r.status == "done" and _code(r) not in convicted]
    by_label: dict[str, list[Record]] = {}
    for record in sorted(done, key=lambda r: r.identity["seed"]):
        by_label.setdefault(_label(record), []).append(record)
    rows = [_row(label, records, metric) for label, records in by_label.items()]
    rows.sort(key=lambda row: (-row.figures["mean"].mean if "mean" in row.figures else 0.0, row.label))
    first = group[0]
    shared = {json.dumps({**r.identity["code"], "method": ""}, sort_keys=True) for r in done}
    versions = {
        label: {json.dumps([r.identity["method"], _code(r)], sort_keys=True) for r in held}
        for label, held in by_label.items()
    }
    return Leaderboard(
        dataset=first.identity["dataset"]["name"],
        split=str(first.provenance.get("split", "")),
        modalities=tuple(first.identity["dataset"].get("modalities", ())),
        recipe=first.recipe_name,
        ranked=first.ranked,
        protocol=first.identity["protocol"],
        metric=metric,
        scenarios=tuple(done[0].scenarios) if done else (),
        rows=tuple(rows),
        five_classes=first.identity["dataset"].get("label_mode") == "five-class",
        search=_search(first),
        failures=tuple(
            f"{label} seed {seed}: {(r.error or {}).get('message', '')}"
            for (label, seed), r in sorted(latest.items())
            if r.status == "failed"
        ),
        mixed_code=len(shared) > 1 or any(len(found) > 1 for found in versions.values()),
    )


def _search(record: Record) -> tuple[int, int] | None:
    """Return (trials, steps of one) of the recipe's search; records from before there was one have none."""
    asked = record.identity["recipe"]["training"].get("search")
    return None if asked is None else (len(asked["learning_rates"]), asked["steps"])


def _code(record: Record) -> tuple[str, str]:
    """Return the method's name and the hash of its own code."""
    return record.identity["method"]["name"], record.identity["code"]["method"]


def _label(record: Record) -> str:
    """Return the method's name with the options that the recipe set."""
    return row_label(_method(record), record.method.get("set_options", {}))


def row_label(method: str, set_options: Mapping[str, Any]) -> str:
    """Return the words for a row: a method's key, and the options that were set."""
    words = ", ".join(f"{key}={value}" for key, value in sorted(set_options.items()))
    return f"{method} ({words})" if words else method


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


def _flops(record: Record) -> int | None:
    """Return the FLOP of a forward with all modalities, None where the record does not hold it."""
    flops: int | None = ((record.profile or {}).get("inference", {}).get("full") or {}).get("flops")
    return flops


def _row(label: str, records: Sequence[Record], metric: Metric) -> Row:
    """Summarise one method's seeds; mean and worst are taken within a seed, then summarised."""
    columns: dict[str, list[float]] = {}
    for record in records:
        values = {s: v[metric] * 100 for s, v in record.scenarios.items() if v[metric] is not None}
        for scenario, value in values.items():
            columns.setdefault(scenario, []).append(value)
        if values:
            columns.setdefault("mean", []).append(sum(values.values()) / len(values))
            columns.setdefault("worst", []).append(min(values.values()))
    trials = [trial for record in records for trial in record.training.get("trials", ())]
    return Row(
        label=label,
        figures={name: summarise(values) for name, values in columns.items()},
        parameters=records[0].method["parameters"],
        seconds=sum(r.training["seconds"] for r in records) / len(records),
        device=" and ".join(sorted({r.environment["device"] for r in records})),
        seeds=tuple(r.identity["seed"] for r in records),
        sees_hidden=records[0].method["sees_hidden_in_training"],
        note=records[0].method.get("note", ""),
        learning_rates=tuple(trial["learning_rate"] for trial in trials if trial["chosen"]),
        trial_seconds=sum(trial["seconds"] for trial in trials) / len(records),
        imputation=_imputation(records),
        flops=_flops(records[-1]),
        method=_method(records[0]),
        options=records[0].identity["method"]["options"],
    )
