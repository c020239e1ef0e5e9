"""The growth of a method's cost as a table of exponents."""

from __future__ import annotations

from mmbench.profiling.power_law import PowerLaw
from mmbench.profiling.sweep import ATTENTION, FIGURES, Growth, Quantity, Sweep
from mmbench.reporting.rows import row_label
from mmbench.reporting.table_model import Table

_GOOD_FIT = 0.995
"""A fit with a lower share of explained spread is printed with it."""
_STRAIGHT = 0.05
"""Two exponents that differ by less are printed as one."""
_FLAT = 0.1
"""Below this exponent, the share of explained spread says nothing: there is next to no spread."""
_NAMES: dict[Quantity, str] = {
    "size": "the side of the images",
    "batch": "the batch size",
    "modalities": "the number of modalities",
}


def growth_table(sweep: Sweep, conditions: str) -> Table:
    """Return the exponents of one sweep, a row a part.

    Args:
        sweep: Fitted.
        conditions: How the figures were taken, for the title.
    """
    figures = [f.name for f in FIGURES if any(f.name in growth.laws for growth in sweep.growths)]
    first, last = sweep.values[0], sweep.values[-1]
    method = row_label(sweep.method.name, sweep.method.options)
    return Table(
        f"Growth of {method} with {_NAMES[sweep.quantity]}, scenario {sweep.scenario}, {conditions}",
        (sweep.quantity, f"GFLOP at {first}", f"at {last}", *figures),
        tuple(
            (growth.name, *_ends(growth), *(_exponent(growth.laws.get(name)) for name in figures))
            for growth in sweep.growths
        ),
        tuple(_notes(sweep)),
    )


def _ends(growth: Growth) -> tuple[str, str]:
    """Return the GFLOP of a forward at the first and the last value."""
    row = growth.values.get("FLOP", ())
    return (f"{row[0] / 1e9:.3g}", f"{row[-1] / 1e9:.3g}") if row else ("-", "-")


def _exponent(law: PowerLaw | None) -> str:
    """Return an exponent; with that of the last step where it differs, and the fit where it is not good."""
    if law is None:
        return "-"
    words = f"{_number(law.exponent)}"
    if abs(law.last_exponent - law.exponent) >= _STRAIGHT:
        words += f" → {_number(law.last_exponent)}"
    if law.points > 2 and law.r2 < _GOOD_FIT and abs(law.exponent) >= _FLAT:
        words += f" (r² {law.r2:.2f})"
    return words


def _number(exponent: float) -> str:
    """Return two decimals, and no minus before a zero."""
    return f"{round(exponent, 2) + 0.0:.2f}"


def _notes(sweep: Sweep) -> list[str]:
    """Return how to read the exponents."""
    values = ", ".join(map(str, sweep.values))
    notes = [
        f"Exponent of {_NAMES[sweep.quantity]}, least squares on logarithms at {values}; a → b: over all of "
        "them, and between the last two, where a sum of powers nears its highest.",
        f"r² is given where it is below {_GOOD_FIT}; FLOP, latency and peak memory are of a forward, "
        "kept memory is what a training step keeps for its backward.",
    ]
    if sweep.quantity == "size":
        notes.append("Pixels and tokens are its square: 2 is linear in tokens, 4 is quadratic.")
    if any(growth.name == ATTENTION for growth in sweep.growths):
        notes.append(
            f"{ATTENTION}: of queries with keys and of weights with values alone, in all parts; "
            "the parts hold the projections too, which are linear in tokens."
        )
    refused: dict[str, list[str]] = {}
    for value, why in sweep.refused.items():
        refused.setdefault(why, []).append(str(value))
    notes += [f"Not taken: {', '.join(found)} ({why})." for why, found in refused.items()]
    return notes
