"""A profile as tables: each method under each scenario, and where the cost goes by part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mmbench.profiling.part_times import Phase, part_seconds
from mmbench.profiling.report import Case, MethodProfile, ProfileReport, Settings, Share, Work
from mmbench.reporting.rows import row_label
from mmbench.reporting.table_model import Table

_GIGA, _MEGA, _MEBI = 1e9, 1e6, 2**20
_MISSING = "-"

Subject = TypeVar("Subject")
Columns = tuple[tuple[str, Callable[[Subject], str]], ...]
_PartOfCase = tuple[MethodProfile, Case, Share]


def profile_tables(report: ProfileReport) -> list[Table]:
    """Return inference and training by method and scenario, then each method by part, first batch size."""
    labels = method_labels(report)
    tables = [_case_table(report, labels, "inference"), _case_table(report, labels, "training")]
    for method, label in zip(report.methods, labels, strict=True):
        tables += [_part_table(method, label, report.settings, phase) for phase in _PHASES]
    return tables


def method_labels(report: ProfileReport) -> list[str]:
    """Return each method's name; with the options that tell it from another profile of that method."""
    labels = []
    for method in report.methods:
        same = [other.options for other in report.methods if other.name == method.name]
        telling = {
            key: value
            for key, value in method.options.items()
            if any(options.get(key) != value for options in same)
        }
        labels.append(row_label(method.name, telling))
    return labels


def settings_words(settings: Settings) -> str:
    """Return one sentence of how the figures were taken."""
    words = [
        f"{settings.dataset} ({' + '.join(settings.modalities)}, {settings.num_classes} classes)",
        f"random images of {settings.size} x {settings.size}",
        f"device {settings.device}",
        *([] if "thread" in settings.device else [f"{settings.threads} threads"]),
        settings.precision,
        f"allocator: {settings.allocator}",
        f"torch {settings.torch}",
    ]
    if not settings.timed:
        return "; ".join([*words, "counted, nothing timed"]) + "."
    on_cpu = settings.device.startswith("cpu")
    return (
        "; ".join(
            [
                *words,
                f"warm-up {settings.warm_up} runs, then {settings.repetitions} forwards and "
                f"{settings.training_repetitions} training steps of each case, cases in turns",
                "no synchronisation needed" if on_cpu else "the device synchronised after each run",
                "one fresh process a method",
            ]
        )
        + "."
    )


def _case_table(report: ProfileReport, labels: list[str], phase: Phase) -> Table:
    """Return a row a method, batch size and scenario."""
    rows = [
        (label, method, case)
        for label, method in zip(labels, report.methods, strict=True)
        for case in method.cases
    ]
    columns = _INFERENCE if phase == "inference" else _TRAINING
    headers, cells = _filled(columns, [case for *_, case in rows])
    sizes = [
        (f"{method.parameters_trained / _MEGA:.2f}", f"{method.parameters_inference / _MEGA:.2f}")
        if phase == "inference"
        else ()
        for _, method, _ in rows
    ]
    parameters = ("params (M)", "at inference (M)") if phase == "inference" else ()
    return Table(
        f"{_PHASES[phase]} by method, batch size and scenario, "
        f"{report.settings.size} x {report.settings.size}, {report.settings.device}",
        ("method", *parameters, "batch", "scenario", *headers),
        tuple(
            (label, *of_method, str(case.batch_size), case.scenario, *row)
            for (label, _, case), of_method, row in zip(rows, sizes, cells, strict=True)
        ),
        (settings_words(report.settings), *_options_note(report), *_notes(report, phase)),
    )


def _part_table(method: MethodProfile, label: str, settings: Settings, phase: Phase) -> Table:
    """Return where a method's cost goes, by scenario and part, at the first batch size."""
    batch_size = settings.batch_sizes[0]
    shares = [
        (method, case, share)
        for case in method.cases
        if case.batch_size == batch_size
        for share in case.parts
        if (share.costs.inference if phase == "inference" else share.costs.training).launches
    ]
    columns = _PARTS_OF_INFERENCE if phase == "inference" else _PARTS_OF_TRAINING
    headers, rows = _filled(columns, shares)
    timed = " ms: the median of the whole, shared out as its operators' times are." if settings.timed else ""
    return Table(
        f"{label} by part: {_PHASES[phase].lower()}, batch {batch_size}, {settings.size} x {settings.size}, "
        f"{settings.device}",
        ("scenario", "part", *headers),
        tuple((case.scenario, share.name, *row) for (_, case, share), row in zip(shares, rows, strict=True)),
        (f"loss: the method's loss outside its parts; other: what belongs to no part.{timed}",),
    )


def _filled(columns: Columns[Subject], subjects: list[Subject]) -> tuple[list[str], list[list[str]]]:
    """Return the headers and cells of the columns in which something is known."""
    cells = [(name, [cell(subject) for subject in subjects]) for name, cell in columns]
    kept = [(name, column) for name, column in cells if any(word != _MISSING for word in column)]
    return [name for name, _ in kept], [[column[i] for _, column in kept] for i in range(len(subjects))]


def _words(value: float | None, form: str, unit: float = 1.0) -> str:
    """Return a figure in its unit, "-" where there is none."""
    return _MISSING if value is None else format(value / unit, form)


def _both(of: Callable[[Work], float], form: str, case: Case | Share, unit: float = 1.0) -> str:
    """Return a count of a training step's forward and of its backward, which add up."""
    forward, backward = case.costs.training_forward, case.costs.training_backward
    return f"{_words(of(forward), form, unit)} + {_words(of(backward), form, unit)}"


def _milliseconds(part: _PartOfCase, phase: Phase) -> str:
    _, case, share = part
    return _words(part_seconds(case, share, phase), ".1f", 1e-3)


def _parameters(part: _PartOfCase) -> str:
    method, _, share = part
    return _words(method.parameters_of_parts.get(share.name), ".2f", _MEGA)


_PHASES: dict[Phase, str] = {"inference": "Inference", "training": "Training step"}
_INFERENCE: Columns[Case] = (
    ("GFLOP", lambda c: _words(c.costs.inference.flops, ".2f", _GIGA)),
    ("GB moved", lambda c: _words(c.costs.inference.bytes, ".2f", _GIGA)),
    ("launches", lambda c: str(c.costs.inference.launches)),
    ("p10 (ms)", lambda c: _words(c.latency.p10_ms if c.latency else None, ".1f")),
    ("p50 (ms)", lambda c: _words(c.latency.p50_ms if c.latency else None, ".1f")),
    ("p90 (ms)", lambda c: _words(c.latency.p90_ms if c.latency else None, ".1f")),
    ("images/s", lambda c: _words(c.latency.images_per_second if c.latency else None, ".2f")),
    ("peak (MiB)", lambda c: _words(c.memory.inference_bytes if c.memory else None, ".0f", _MEBI)),
    ("energy (J)", lambda c: _words(c.inference_joules, ".1f")),
)
_TRAINING: Columns[Case] = (
    ("GFLOP forward + backward", lambda c: _both(lambda w: w.flops, ".1f", c, _GIGA)),
    ("GB moved", lambda c: _both(lambda w: w.bytes, ".2f", c, _GIGA)),
    ("launches", lambda c: _both(lambda w: w.launches, ".0f", c)),
    ("kept (MiB)", lambda c: _words(c.costs.saved_bytes, ".0f", _MEBI)),
    ("step (s)", lambda c: _words(c.step_seconds, ".3f")),
    ("peak (MiB)", lambda c: _words(c.memory.training_bytes if c.memory else None, ".0f", _MEBI)),
    ("energy (J)", lambda c: _words(c.training_joules, ".1f")),
)
_PARTS_OF_INFERENCE: Columns[_PartOfCase] = (
    ("params (M)", _parameters),
    ("GFLOP", lambda p: _words(p[2].costs.inference.flops, ".2f", _GIGA)),
    ("GB moved", lambda p: _words(p[2].costs.inference.bytes, ".3f", _GIGA)),
    ("launches", lambda p: str(p[2].costs.inference.launches)),
    ("time (ms)", lambda p: _milliseconds(p, "inference")),
    ("time (%)", lambda p: _words(p[2].inference_time, ".0f", 0.01)),
)
_PARTS_OF_TRAINING: Columns[_PartOfCase] = (
    ("params (M)", _parameters),
    ("GFLOP forward + backward", lambda p: _both(lambda w: w.flops, ".2f", p[2], _GIGA)),
    ("GB moved", lambda p: _both(lambda w: w.bytes, ".3f", p[2], _GIGA)),
    ("launches", lambda p: _both(lambda w: w.launches, ".0f", p[2])),
    ("kept (MiB)", lambda p: _words(p[2].costs.saved_bytes, ".0f", _MEBI)),
    ("time (ms)", lambda p: _milliseconds(p, "training")),
    ("time (%)", lambda p: _words(p[2].training_time, ".0f", 0.01)),
)


def _options_note(report: ProfileReport) -> list[str]:
    """Return the options that were set and that do not stand in a row's name."""
    labels = zip(report.methods, method_labels(report), strict=True)
    set_options = dict.fromkeys(
        row_label(method.name, method.options) for method, label in labels if method.options
    )
    return [f"Options set: {'; '.join(set_options)}."] if set_options else []


def _notes(report: ProfileReport, phase: Phase) -> list[str]:
    """Return what a reader must know beside the figures of a phase."""
    timed, on_cpu = report.settings.timed, report.settings.device.startswith("cpu")
    peak = (
        "growth of the process's resident set since before"
        if on_cpu
        else "given out by the allocator since before"
    )
    if phase == "training":
        notes = [
            "Every sample of the batch has the scenario's modalities; the counts are without the optimiser.",
            "Kept: from forward for backward, each memory once, parameters not counted.",
        ]
        step = "Step: the median, with the optimisers."
        return (
            [*notes, f"{step} Peak: {peak} the method was built, gradients and optimisers included."]
            if timed
            else notes
        )
    where = ", ".join(sorted({method.counted_on for method in report.methods}))
    notes = [
        "At inference: parameters that a forward reads in any scenario. FLOP: 2 for a multiply-accumulate of "
        "convolutions, matrix products and attention.",
        "GB moved: each operator's inputs and outputs once. Launches: operators that do work. "
        f"Counted on: {where}; another device may fuse operators differently.",
    ]
    return [*notes, f"Peak: {peak} the method was built, its weights included."] if timed else notes
