"""What `bench_operators.py` measured as a table: `python benchmarks/operator_table.py FILE`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmbench.reporting.tables import Table, console_text, markdown_text

IMPLAUSIBLE = 1.05
"""A share of the bound above this is an error of measurement, or work that a cache took off the memory."""

_HEADERS = ("case", "mode", "form", "ms", "best other", "its ms", "ratio", "vs published")
_HEADERS_OF_RATES = ("GB/s", "GFLOP/s", "of the bound")


def operator_table(measured: dict[str, Any], *, summary: bool = False) -> Table:
    """Return a row for each of our forms in each mode of each case.

    Args:
        measured: As `bench_operators.py` writes it: "machine", "roofs", "refused" and "cases", each with
            "case", "in_summary", "bounds" mode -> figures and "forms" name -> {"is_ours", "times"}.
        summary: Only the main cases, without backward alone and without rates.
    """
    rows = [
        row
        for case in measured["cases"]
        if case["in_summary"] or not summary
        for mode in case["bounds"]
        if not (summary and mode == "backward")
        for row in _rows(case, mode, summary)
    ]
    headers = _HEADERS if summary else (*_HEADERS, *_HEADERS_OF_RATES)
    title = "The operators against the other ways to compute them"
    return Table(title, headers, tuple(rows), tuple(_notes(measured, summary)))


def _rows(case: dict[str, Any], mode: str, summary: bool) -> Iterator[tuple[str, ...]]:
    times = {name: form["times"][mode]["median_ms"] for name, form in case["forms"].items()}
    ours = [name for name, form in case["forms"].items() if form["is_ours"]]
    others = {name: ms for name, ms in times.items() if name not in ours}
    for name in ours:
        row = [case["case"], mode, name, f"{times[name]:.3g}"]
        if others:
            best = min(others, key=lambda each: others[each])
            row += [best, f"{others[best]:.3g}", f"{others[best] / times[name]:.2f}x"]
        else:
            row += ["-", "-", "-"]
        row.append(f"{others['published'] / times[name]:.2f}x" if "published" in others else "-")
        yield (*row, *(() if summary else _rates(case["bounds"][mode], times[name])))


def _rates(bound: dict[str, float], milliseconds: float) -> tuple[str, str, str]:
    """Return what a time means in bytes and FLOP a second, and how much of what the roofs allow."""
    share = bound["ms"] / milliseconds
    flops = f"{bound['flops'] / milliseconds / 1e6:.0f}" if bound["flops"] else "-"
    mark = " (!)" if share > IMPLAUSIBLE else ""
    return f"{bound['bytes'] / milliseconds / 1e6:.1f}", flops, f"{share:.0%}{mark}"


def _notes(measured: dict[str, Any], summary: bool) -> list[str]:
    notes = [
        f"{measured['machine']}. Medians of one run in which all forms took turns, on inputs that rotate. "
        "The ratio is the best other form over ours, above 1 where ours is faster."
    ]
    if not summary:
        notes.append(
            "GB/s and GFLOP/s count what must be moved and multiplied once; the bound is what the measured "
            f"roofs allow for that. (!): above {IMPLAUSIBLE:.0%} of it, so not to be believed as it stands."
        )
        notes += [f"{words[0].upper()}{words[1:]}." for words in measured["roofs"].values()]
    notes += [f"Not timed, as its error is above the limit: {words}." for words in measured["refused"]]
    return notes


def main() -> None:
    """Print the table of a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--summary", action="store_true", help="the main cases")
    parser.add_argument("--markdown", action="store_true", help="not for a terminal")
    chosen = parser.parse_args()
    measured = json.loads(chosen.file.read_text(encoding="utf-8"))
    table = operator_table(measured, summary=chosen.summary)
    print(markdown_text(table) if chosen.markdown else console_text(table))


if __name__ == "__main__":
    main()
