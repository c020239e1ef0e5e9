"""Make `tests/golden/report`: records of made-up methods, and what `mmbench report --all` writes of them.

Run from the repository's root, look at the difference, and keep it if it is meant:
`python tests/golden/make_report.py`.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mmbench.cli import main
from mmbench.metrics import scores
from mmbench.recipe import load_recipe
from mmbench.records import Record, fingerprint, write_record
from mmbench.reporting import bundle, exports

FOLDER = Path(__file__).parent / "report"
RECORDS = "records"
VERSION = "0.0.0"
"""In place of the package's, which is no matter of the tables."""

_CLASSES = ["ground", "house", "tree", "clutter"]
_SCENARIOS = {"full": 0.08, "irrg": 0.25, "ndsm": 0.4}
"""Scenario -> share of pixels that the best method gets wrong."""
_TILES = ["a", "b", "c", "d", "e", "f"]
_HARMFUL = r"<b>=x|y_\input{z}%"


def matrices(rng: np.random.Generator, handicap: float) -> dict[str, np.ndarray]:
    """Return confusion matrices whose errors are those of the scenario and a handicap."""
    found = {}
    for scenario, wrong in _SCENARIOS.items():
        share = min(0.9, wrong + handicap) * rng.uniform(0.9, 1.1, size=len(_TILES))
        truth = np.array([4000, 3000, 2000, 300])
        tiles = []
        for of_tile in share:
            missed = np.rint(truth * of_tile).astype(np.int64)
            spread = missed[:, None] // 3 * (1 - np.eye(4, dtype=np.int64))
            tiles.append(spread + np.diag(truth - spread.sum(1)))
        found[scenario] = np.stack(tiles)
    return found


def store(
    folder: Path,
    name: str,
    seed: int,
    handicap: float,
    recipe: str = "default",
    options: dict[str, int] | None = None,
    scenarios: tuple[str, ...] = tuple(_SCENARIOS),
    error: dict[str, str] | None = None,
) -> None:
    """Store the record of one cell, and its matrices if it did not fail."""
    loaded = load_recipe(recipe)
    identity = {
        "protocol": 1,
        "method": {"name": name, "options": options or {}},
        "code": {"method": "m", "blocks": "b", "operators": "o", "loop": "l", "dataset": "d"},
        "dataset": {"name": "town", "split": "s", "modalities": {"irrg": 3, "ndsm": 1}},
        "labels": {"train": "full", "test": "eroded"},
        "recipe": loaded.settings(),
        "precision": "float32",
        "seed": seed,
    }
    rng = np.random.default_rng([seed, *name.encode()])
    found = {s: m for s, m in matrices(rng, handicap).items() if s in scenarios}
    summed = {s: asdict(scores(m.sum(0), [0, 1, 2])) for s, m in found.items()}
    gflop = 100 * len(name)
    work = {
        s: {"flops": gflop * 10**9 // (1 + (s != "full")), "bytes": 2**30, "launches": 200} for s in summed
    }
    rates = (5e-4, 1.5e-4, 1.5e-3)
    trials = [
        {
            "learning_rate": r,
            "steps": 1000,
            "miou": 0.5,
            "seconds": 60.0,
            "error": "",
            "chosen": r == rates[0],
        }
        for r in rates
        if loaded.training.search
    ]
    record = Record(
        id=fingerprint(identity),
        status="failed" if error else "done",
        identity=identity,
        recipe_name=loaded.name,
        ranked=loaded.ranked,
        method={
            "title": name,
            "origin": "elsewhere",
            "set_options": options or {},
            "note": "made up" if name == "close" else "",
            "parameters": 10**6 * len(name),
            "sees_hidden_in_training": name == "weak",
        },
        classes=_CLASSES,
        scored_classes=[0, 1, 2],
        scenarios={} if error else summed,
        tiles=_TILES,
        training={} if error else {"seconds": 100.0 + seed, "trials": trials},
        no_peek=["irrg", "ndsm", "mixed"],
        profile={
            "window": 512,
            "batch_size": 1,
            "precision": "float32",
            "counted_on": "dry run",
            "parameters_trained": 10**6 * len(name),
            "parameters_inference": 9 * 10**5 * len(name),
            "inference": work,
        },
        environment={"device": "cpu"},
        provenance={"split": "standard", "started": "2026-01-01"},
        error=error,
    )
    write_record(folder, record, None if error else found)


def make_records(folder: Path) -> None:
    """Store records that show all a table can say: ties, incomplete rows, failures, two regimes."""
    for seed in range(3):
        store(folder, "good", seed, 0.0)
        store(folder, "close", seed, 0.004)
        store(folder, "weak", seed, 0.15)
        store(folder, _HARMFUL, seed, 0.3)
        store(folder, "good", seed, 0.05, recipe="paper", options={"width": 8, "depth": 2})
        store(folder, "close", seed, 0.02, recipe="paper")
    for seed in range(2):
        store(folder, "unfinished", seed, 0.1)
    store(folder, "unfinished", 2, 0.1, error={"kind": "method", "message": "CellFailedError: it | diverged"})
    for seed in range(3):
        store(folder, "partial", seed, 0.1, scenarios=("full", "irrg"))


def make_report(folder: Path) -> None:
    """Write what the command line makes of the records, which lie in the present folder."""
    exports.__version__ = VERSION
    bundle.EXTRAS = ()  # figures are other bytes with every version of the library that draws them
    code = main(["report", RECORDS, "--all", str(folder)])
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    for old in FOLDER.rglob("*.*"):
        old.unlink()
    make_records(FOLDER / RECORDS)
    os.chdir(FOLDER)
    make_report(Path("written"))
