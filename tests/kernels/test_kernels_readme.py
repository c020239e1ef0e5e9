"""Every number in kernels/README.md comes from a file or a command of this repository, or from a test."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import counted_gains
import operator_table
import pytest
import torch

import mmbench_kernels
from mmbench.reporting.tables import markdown_text
from mmbench_kernels._availability import interpreting
from mmbench_kernels._triton import _resource_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "kernels" / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks" / "results"
RESOURCES = json.loads((RESULTS / "kernel_resources.json").read_text(encoding="utf-8"))
TIMES = json.loads((RESULTS / "operators_cpu.json").read_text(encoding="utf-8"))
TABLES: dict[str, Callable[[], str]] = {
    "resources": lambda: _resource_table.table(RESOURCES),
    "gains": lambda: markdown_text(counted_gains.gains_table(512)),
    "cpu": lambda: markdown_text(operator_table.operator_table(TIMES, summary=True)),
}

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or interpreting(), reason="needs Triton's compiler"
)


def between(name: str) -> str:
    found = re.search(rf"<!-- table:{name} -->\n(.*?)\n?<!-- /table:{name} -->", README, re.DOTALL)
    assert found, f"no table {name}"
    return found[1]


@needs_compiler
@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_its_command_makes(name: str) -> None:
    expected = [line.rstrip() for line in TABLES[name]().splitlines()]
    assert [line.rstrip() for line in between(name).splitlines()] == expected


def test_every_table_has_its_test() -> None:
    assert re.findall(r"<!-- table:(\w+) -->", README) == list(TABLES)


@pytest.mark.parametrize("operator", mmbench_kernels.__all__)
def test_a_tolerance_is_the_one_that_the_tests_hold(operator: str) -> None:
    limits = importlib.import_module(f"tests.kernels.{operator}_problems").LIMITS
    row = next(line for line in README.splitlines() if line.startswith(f"| `{operator}` |"))
    cells = [tuple(map(float, cell.split("/"))) for cell in row.split("|")[-4:-1]]
    assert cells == [limits[dtype] for dtype in (torch.float32, torch.float16, torch.bfloat16)]


@needs_compiler
@pytest.mark.parametrize("operator", _resource_table.MAIN_CASES)
def test_the_stored_resources_are_those_of_the_kernels(operator: str, request: pytest.FixtureRequest) -> None:
    import triton

    if triton.__version__ != RESOURCES["triton"]:
        pytest.skip(f"stored with triton {RESOURCES['triton']}, here is {triton.__version__}")
    name = _resource_table.MAIN_CASES[operator][-1]
    # In a process of its own: the interpreter's tests must not share one with the compiler.
    code = (
        "import json, sys; from mmbench_kernels._triton._resource_table import compile_one; "
        f"json.dump(compile_one({operator!r}, {name!r}, [80]), sys.stdout)"
    )
    environment = {**os.environ, "TRITON_CACHE_DIR": str(request.config.cache.mkdir("triton"))}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["80"] == RESOURCES["operators"][operator][name]["80"]


def test_every_operator_is_described_and_no_gpu_time_is_claimed() -> None:
    assert set(_resource_table.MAIN_CASES) == set(mmbench_kernels.__all__)
    assert "**No time on a GPU has been measured yet.**" in README
    assert TIMES["machine"].startswith("cpu")


def test_the_commands_of_the_readme_are_there() -> None:
    assert "\ngpu:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    for script in re.findall(r"benchmarks/\w+\.(?:py|json)", README):
        assert "/results/" in script or (ROOT / script).is_file(), script
    for script in re.findall(r"benchmarks/results/\w+\.json", README):
        assert (ROOT / script).is_file(), script
