"""The ratios of `bench_speed.py --ratios FILE` as a table: `python benchmarks/ratio_table.py FILE`."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from mmbench.reporting.tables import Table, markdown_text

_HEADERS = ("what", "here", "allocator of the slow side", "slow (s)", "here (s)", "ratio")


def ratio_table(measured: dict[str, Any]) -> Table:
    """Return a row for each pair of sides.

    Args:
        measured: What `bench_speed.py --ratios FILE` writes: "pairs", a list of {"what", "fast", "allocator",
            "scenario", "slow_s", "fast_s"}, each from one run that asked both sides in turn; "kept_mib",
            scenario -> (slow, fast); "compiling_s"; "machine".
    """
    sides: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for pair in measured["pairs"]:
        key = pair["what"], pair["fast"], pair["allocator"]
        sides.setdefault(key, []).append((pair["slow_s"], pair["fast_s"]))
    rows = [(*key, *_figures(pairs)) for key, pairs in sides.items()]
    return Table("Seconds here and of the slow side", _HEADERS, tuple(rows), tuple(_notes(measured)))


def _figures(pairs: list[tuple[float, float]]) -> tuple[str, str, str]:
    """Return the mean seconds of both sides, and the mean of the ratios."""
    slow, fast = (statistics.mean(column) for column in zip(*pairs, strict=True))
    return f"{slow:.3f}", f"{fast:.3f}", f"{statistics.mean(s / f for s, f in pairs):.2f}x"


def _notes(measured: dict[str, Any]) -> list[str]:
    """Return how it was measured, and what else was."""
    notes = [
        f"512 x 512; {measured['machine']}. Medians of one run in which the sides took turns; seconds are "
        "means over the scenarios, the ratio is the mean of the scenarios' ratios.",
        "GEMMNet against the released behaviour written out straightforwardly, batch 1 at inference and 2 in "
        "training, with dropout; a method itself: against its own form with published operators, batch 1.",
    ]
    for scenario, (slow, fast) in measured["kept_mib"].items():
        notes.append(
            f"Kept for backward, GEMMNet, {scenario}: {slow:.0f} and {fast:.0f} MiB, {fast / slow:.0%}."
        )
    if measured["compiling_s"]:
        notes.append(f"First call of a compiled graph: {max(measured['compiling_s']):.0f} s at most.")
    return notes


def main() -> None:
    """Print the table of a file in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    print(markdown_text(ratio_table(json.loads(parser.parse_args().file.read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main()
