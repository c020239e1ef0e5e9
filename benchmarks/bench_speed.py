"""How much faster methods are here than the published code computes them: ratios, each from one run.

`pytest benchmarks/bench_speed.py --benchmark-only` prints them at its end, `--ratios FILE` keeps them.
GEMMNet at 512 x 512 on 2 threads, batch 1 at inference and batch 2 in training, with dropout. The others run
with batch 1 and everything present, against themselves with published operators. Every side is a process of
its own, for the allocator's setting is a process's; one works at a time, and a round asks each once.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ratio_table import ratio_table

from mmbench.reporting.tables import console_text

ROOT = Path(__file__).parents[1]
SCENARIOS = ("full", "irrg", "ndsm")
SIDE, THREADS = 512, 2
ROUNDS = {"inference": 5, "training": 1}  # timed, after one that is not
ROWS = {"inference": 1, "training": 2}
ALLOCATORS = ("as it comes", "kept")
FLOAT, HALF = "float32", "bfloat16"
OTHERS = {
    "gemmnet": {},  # its default preset: other work than the released one, so a row of its own
    "mmformer:small": {"token_width": 256, "hidden_width": 512},
    "shaspec:small": {"width": 32},
    "ae": {},
    "cgan": {},
}
WITHOUT_DROPOUT = ("ae", "cgan", "shaspec")


class Worker:
    """A process that measures one side; see `speed_worker.py`."""

    def __init__(self, allocator: str) -> None:
        """Start it with no setting of the allocator but the one that is asked for."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
        environment |= {f"{library}_NUM_THREADS": str(THREADS) for library in ("OMP", "MKL")}
        environment["PYTHONPATH"] = os.pathsep.join(str(ROOT / p) for p in (".", "baselines", "kernels"))
        command = [sys.executable, str(ROOT / "benchmarks" / "speed_worker.py")]
        self.process = subprocess.Popen(
            [*command, "--allocator", allocator, "--threads", str(THREADS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def ask(self, task: str, **request) -> dict:
        self.process.stdin.write(json.dumps({"task": task, **request}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(
                f"the worker ended while asked for {task} of {request}; its error stands above"
            )
        return json.loads(answer)

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def _request(form, scenario, mode, *, dtype=FLOAT, method="gemmnet", options=None, rows=None):
    options = {"preset": "released"} if options is None else options
    request = {"form": form, "scenario": scenario, "mode": mode, "dtype": dtype, "side": SIDE}
    return request | {"method": method, "options": json.dumps(options), "rows": rows or ROWS[mode]}


class Ratios:
    """What was measured, one scenario after the other."""

    def __init__(self) -> None:
        self.pairs: list[dict[str, str | float]] = []
        self.kept_mib: dict[str, tuple[float, float]] = {}
        self.compiling_s: list[float] = []

    def as_json(self) -> dict[str, object]:
        machine = f"cpu ({THREADS} threads), torch {torch.__version__}"
        return {"machine": machine, **vars(self)}


@pytest.fixture
def start():
    """Start workers that end with the test: a benchmark must not hold the memory of the one before it."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("compares two settings of glibc's allocator")
    started = []

    def one(allocator):
        started.append(Worker(allocator))
        return started[-1]

    yield one
    for worker in started:
        worker.close()


@pytest.fixture(scope="module")
def ratios(said_at_the_end, request):
    found = Ratios()
    yield found
    said_at_the_end.append(console_text(ratio_table(found.as_json())))
    if (file := request.config.getoption("--ratios")) is not None:
        file.write_text(json.dumps(found.as_json(), indent=1) + "\n", encoding="utf-8")


def _interleave(sides, rounds):
    """Time every side once a round, in turn, forwards and backwards; each has run before."""
    seconds = {name: [] for name in sides}
    order = list(sides)
    for _ in range(rounds):
        for name in order:
            worker, request = sides[name]
            seconds[name].append(worker.ask("measure", **request)["seconds"])
        order.reverse()
    return seconds


def _measure(benchmark, ratios, group, scenario, slow_sides, fast_sides, warm=()):
    """Hold the fast sides against one slow side after the other; a slow side's process ends with its turn.

    Sides in `warm`, of either kind, have already done what is timed.

    Two slow sides at once would fill a small machine's memory, and slow down by that.
    """

    def compare():
        for worker, request in (side for name, side in fast_sides.items() if name not in warm):
            worker.ask("measure", **request)
        for allocator, (worker, request) in slow_sides.items():
            if allocator not in warm:
                worker.ask("measure", **request)
            found = _interleave({"slow": (worker, request), **fast_sides}, ROUNDS[request["mode"]])
            worker.close()
            benchmark.extra_info[f"seconds, {group}, {allocator}"] = found
            median = {name: statistics.median(values) for name, values in found.items()}
            for fast in fast_sides:
                pair = {"what": group, "fast": fast, "allocator": allocator, "scenario": scenario}
                ratios.pairs.append(pair | {"slow_s": median["slow"], "fast_s": median[fast]})

    benchmark.group = "all sides in turn"
    benchmark.pedantic(compare, rounds=1)


def _check_probabilities(reference, sides, folder):
    """Refuse to time sides that do not give the same: 2e-5 in float32, a bfloat16's worth in bfloat16."""

    def found(side):
        worker, request = side
        return np.load(worker.ask("probabilities", **request, file=str(folder / "found.npy"))["file"])

    expected = found(reference)
    for name, side in sides.items():
        difference = float(np.abs(found(side) - expected).max())
        assert difference < (2e-5 if side[1]["dtype"] == FLOAT else 0.05), (name, difference)


def _check_terms(slow, fast):
    """Refuse to time a step whose terms or gradients differ, without dropout and at a small size."""
    has_dropout = slow[1]["method"] not in WITHOUT_DROPOUT
    one, other = (worker.ask("terms", **request, has_dropout=has_dropout) for worker, request in (slow, fast))
    assert one["terms"] == pytest.approx(other["terms"], rel=1e-4)
    largest = max(one["gradients"].values())
    assert one["gradients"] == pytest.approx(other["gradients"], rel=5e-3, abs=1e-3 * largest)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_inference_of_gemmnet(benchmark, start, ratios, tmp_path, scenario):
    slow = {a: (start(a), _request("straightforward", scenario, "inference")) for a in ALLOCATORS}
    worker = start("kept")
    same = {
        "fast": (worker, _request("fast", scenario, "inference")),
        "fast, compiled": (worker, _request("compiled", scenario, "inference")),
        "fast, compiled, bfloat16": (worker, _request("compiled", scenario, "inference", dtype=HALF)),
    }
    for name in ("fast, compiled", "fast, compiled, bfloat16"):
        ratios.compiling_s.append(worker.ask("measure", **same[name][1])["seconds"])
    _check_probabilities(slow["kept"], same, tmp_path)
    # Other numbers: it generates with another normalisation and lays tokens out otherwise.
    default = {"fast, default preset": (worker, _request("fast", scenario, "inference", options={}))}
    warm = ("kept", *same)  # by the check
    _measure(benchmark, ratios, "gemmnet, inference", scenario, slow, same | default, warm)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_training_step_of_gemmnet(benchmark, start, ratios, scenario):
    request = _request("straightforward", scenario, "training")
    fast = _request("fast", scenario, "training")
    worker, checked = start("kept"), start("kept")
    _check_terms((checked, request), (worker, fast))
    saved = (
        side.ask("saved_memory", **ask)["saved_mib"] for side, ask in ((checked, request), (worker, fast))
    )
    ratios.kept_mib[scenario] = tuple(saved)
    benchmark.extra_info["saved_mib"] = ratios.kept_mib[scenario]
    sides = {"fast": (worker, fast), "fast, bfloat16": (worker, fast | {"dtype": HALF})}
    slow = {"kept": (checked, request), "as it comes": (start("as it comes"), request)}
    warm = ("kept", "fast")  # by what was counted
    _measure(benchmark, ratios, "gemmnet, training", scenario, slow, sides, warm)


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_method_with_published_operators(benchmark, start, ratios, name, mode):
    chosen = {"method": name.split(":")[0], "options": OTHERS[name], "rows": 1}
    slow, fast = ((start("kept"), _request(form, "full", mode, **chosen)) for form in ("published", "fast"))
    if mode == "training":
        _check_terms(slow, fast)
    _measure(benchmark, ratios, f"{name} itself, {mode}", "full", {"kept": slow}, {"fast": fast})
