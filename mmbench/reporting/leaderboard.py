"""Leaderboards: records that may be compared, summarised over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mmbench.metrics import Metric
from mmbench.records import Record
from mmbench.reporting.rows import (
    MEAN,
    METRIC_NAMES,
    Row,
    code_of,
    label_of,
    number_words,
    summarise_row,
)
from mmbench.results.ranking import why_not_ranked


@dataclass(frozen=True)
class Leaderboard:
    """Rows that share data, split, recipe, labels, precision and protocol.

    Attributes:
        unranked: Why it may not be called a leaderboard, or "".
        labels: The label policy of the scores.
        patterns: What training hid: "protocol", or "method" for what each paper hides.
        data: What boards must share to be held against each other across recipes.
        seeds: Those that a row must have to be complete.
        rows: Complete ones, best first.
        incomplete: Rows that lack a seed or a scenario; not compared with the others.
        five_classes: Whether clutter was ignored and not a class that is trained.
        search: (trials, steps of one) of the search for the learning rate, where the recipe asks for one.
        failures: "method seed n: why" of cells that have no score.
        mixed_code: Whether the records were made by different versions of the code that they should share.
        standings: Column -> label of a row -> 1 for the group of the best, 2 for the next group; empty where
            groups were not tested.
        group_note: How the groups were found, where they were.
        untested: Why they were not, where it was tried.
    """

    dataset: str
    split: str
    modalities: tuple[str, ...]
    recipe: str
    unranked: str
    protocol: int
    metric: Metric
    scenarios: tuple[str, ...]
    rows: tuple[Row, ...]
    labels: str = "eroded"
    patterns: str = "protocol"
    data: str = ""
    classes: tuple[str, ...] = ()
    scored_classes: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    incomplete: tuple[Row, ...] = ()
    five_classes: bool = False
    search: tuple[int, int] | None = None
    failures: tuple[str, ...] = field(default=())
    mixed_code: bool = False
    standings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    group_note: str = ""
    untested: str = ""

    @property
    def ranked(self) -> bool:
        """Whether it may be called a leaderboard."""
        return not self.unranked

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """Complete rows, then the others."""
        return (*self.rows, *self.incomplete)

    @property
    def records(self) -> tuple[str, ...]:
        """The ids of the records behind the rows, sorted."""
        return tuple(sorted(result.record for row in self.all_rows for result in row.results))

    @property
    def conditions(self) -> str:
        """What was measured on which data and how, but for the metric."""
        word = "seed" if len(self.seeds) == 1 else "seeds"
        seeds = f"{word} {number_words(self.seeds)}, " if self.seeds else ""
        return (
            f"on {self.dataset} ({' + '.join(self.modalities)})"
            f"{', five classes (GEMMNet-style)' if self.five_classes else ''}, split {self.split}, "
            f"{LABEL_WORDS.get(self.labels, f'{self.labels} labels')}, recipe {self.recipe}, {seeds}"
            f"protocol {self.protocol}"
        )

    @property
    def title(self) -> str:
        """One line of what was measured, where and how."""
        return f"{METRIC_NAMES[self.metric]} (%) {self.conditions}"


LABEL_WORDS = {"five-class": "eroded labels without those of unscored classes (five-class)"}
"""Policies that the word alone does not explain."""


def leaderboards(
    records: Iterable[Record], metric: Metric = "miou", labels: str | None = None
) -> list[Leaderboard]:
    """Group records into leaderboards, best mean over the scenarios first.

    Of two records of the same method, options and seed in one group, the later one counts. A method that
    broke the protocol in one of the records has no row anywhere, whatever its other seeds scored. A row that
    lacks a seed which another method of the group has, or a scenario, is not ranked among the others.

    Args:
        records: Of any kind.
        metric: By which rows are sorted and summarised.
        labels: The label policy of the scores; None takes that of the records' identity.
    """
    groups: dict[str, list[Record]] = {}
    convicted: dict[tuple[str, str], str] = {}
    for record in records:
        groups.setdefault(_comparable(record), []).append(record)
        if (record.error or {}).get("kind") == "protocol":
            convicted[code_of(record)] = (record.error or {}).get("message", "")
    return [_leaderboard(group, metric, labels, convicted) for _, group in sorted(groups.items())]


def _comparable(record: Record) -> str:
    """Return what two records must share to stand in one table."""
    shared = {key: record.identity[key] for key in (*_DATA, "recipe")}
    # A record that only claims to be ranked must not share a table with those that are.
    false_claim = why_not_ranked(record) if record.ranked else ""
    return json.dumps([record.recipe_name, false_claim, shared], sort_keys=True)


_DATA = ("dataset", "labels", "precision", "protocol")
"""Of an identity: what results must share to be held against each other, whatever the recipe."""


def _leaderboard(
    group: Sequence[Record],
    metric: Metric,
    labels: str | None,
    convicted: Mapping[tuple[str, str], str],
) -> Leaderboard:
    """Summarise comparable records; of code that was convicted, none."""
    latest: dict[tuple[str, int], Record] = {}
    for record in sorted(group, key=lambda r: str(r.provenance.get("started", ""))):
        latest[(label_of(record), record.identity["seed"])] = record
    standing = {key: r for key, r in latest.items() if code_of(r) not in convicted}
    done = [r for r in standing.values() if r.status == "done"]
    scenarios = _scenarios(done)
    by_label: dict[str, list[Record]] = {}
    for record in sorted(done, key=lambda r: r.identity["seed"]):
        by_label.setdefault(label_of(record), []).append(record)
    seeds = sorted({seed for _, seed in standing})
    rows = [
        summarise_row(label, records, metric, _lacks(label, records, seeds, scenarios, standing))
        for label, records in by_label.items()
    ]
    rows.sort(key=lambda row: (-row.figures[MEAN].mean if MEAN in row.figures else 0.0, row.label))
    first = group[0]
    return Leaderboard(
        dataset=first.identity["dataset"]["name"],
        split=str(first.provenance.get("split", "")),
        modalities=tuple(first.identity["dataset"].get("modalities", ())),
        recipe=first.recipe_name,
        unranked=why_not_ranked(first),
        protocol=first.identity["protocol"],
        metric=metric,
        scenarios=scenarios,
        rows=tuple(row for row in rows if not row.lacks),
        labels=labels or str(first.identity["labels"]["test"]),
        patterns=str(first.identity["recipe"]["training"].get("patterns", "protocol")),
        data=json.dumps({key: first.identity[key] for key in _DATA}, sort_keys=True),
        classes=tuple(first.classes),
        scored_classes=tuple(first.scored_classes),
        seeds=tuple(seeds),
        incomplete=tuple(row for row in rows if row.lacks),
        five_classes=first.identity["dataset"].get("label_mode") == "five-class",
        search=_search(first),
        failures=_failures(latest, convicted),
        mixed_code=_mixed_code(done, by_label),
    )


def _scenarios(done: Sequence[Record]) -> tuple[str, ...]:
    """Return every scenario of some records, in the order of the record that has most."""
    fullest = sorted(done, key=lambda record: -len(record.scenarios))
    return tuple(dict.fromkeys(name for record in fullest for name in record.scenarios))


def _lacks(
    label: str,
    records: Sequence[Record],
    seeds: Sequence[int],
    scenarios: Sequence[str],
    standing: Mapping[tuple[str, int], Record],
) -> tuple[str, ...]:
    """Say what a row lacks of the seeds and scenarios of its table."""
    have = {record.identity["seed"] for record in records}
    failed = [seed for seed in seeds if seed not in have and (label, seed) in standing]
    missing = [seed for seed in seeds if seed not in have and (label, seed) not in standing]
    words = [f"seed {number_words(failed)} failed"] if failed else []
    words += [f"no seed {number_words(missing)}"] if missing else []
    absent = [name for name in scenarios if any(name not in record.scenarios for record in records)]
    return (*words, *([f"no scenario {', '.join(absent)}"] if absent else []))


def _failures(
    latest: Mapping[tuple[str, int], Record], convicted: Mapping[tuple[str, str], str]
) -> tuple[str, ...]:
    """Say why cells have no score."""
    reasons = []
    for (label, seed), record in sorted(latest.items()):
        if record.status == "failed":
            reasons.append(f"{label} seed {seed}: {(record.error or {}).get('message', '')}")
        elif code_of(record) in convicted:
            reasons.append(f"{label} seed {seed}: with another cell {convicted[code_of(record)]}")
    return tuple(reasons)


def _mixed_code(done: Sequence[Record], by_label: Mapping[str, Sequence[Record]]) -> bool:
    """Whether records differ in code that they should share."""
    shared = {tuple(sorted((r.identity["code"] | {"method": ""}).items())) for r in done}
    return len(shared) > 1 or any(
        (record.identity["method"], code_of(record)) != (held[0].identity["method"], code_of(held[0]))
        for held in by_label.values()
        for record in held
    )


def _search(record: Record) -> tuple[int, int] | None:
    """Return (trials, steps of one) of the recipe's search; records from before there was one have none."""
    asked = record.identity["recipe"]["training"].get("search")
    return None if asked is None else (len(asked["learning_rates"]), asked["steps"])
