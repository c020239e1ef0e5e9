"""The stored form of a sweep: every profile it took, and the exponents fitted to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmbench.profiling.report import ProfileReport
from mmbench.profiling.sweep import Growth, Quantity, Sweep


def write_sweeps(
    path: Path, quantity: Quantity, reports: Sequence[ProfileReport], sweeps: Sequence[Sweep]
) -> None:
    """Write sweeps as JSON.

    Args:
        path: The file.
        quantity: That was swept.
        reports: One a method and value; each is what `mmbench profile --json` writes.
        sweeps: One a method and scenario.
    """
    content = {
        "schema_version": 1,
        "quantity": quantity,
        "profiles": [report.model_dump(mode="json") for report in reports],
        "growth": [_stored(sweep) for sweep in sweeps],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _stored(sweep: Sweep) -> dict[str, Any]:
    """Return one sweep without its method's profile, which stands among the profiles."""
    return {
        "method": sweep.method.name,
        "options": sweep.method.options,
        "scenario": sweep.scenario,
        "values": sweep.values,
        "refused": {str(value): why for value, why in sweep.refused.items()},
        "parts": [_stored_growth(growth) for growth in sweep.growths],
    }


def _stored_growth(growth: Growth) -> dict[str, Any]:
    """Return a part's figures (FLOP, seconds or bytes) and their power laws."""
    laws = {figure: asdict(law) for figure, law in growth.laws.items()}
    return {"name": growth.name, "figures": growth.values, "power_laws": laws}
