"""Every shipped configuration, compiled for every architecture without a GPU: what its machine code needs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import mmbench_kernels
from tests.kernels.conftest import Compile

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or importlib.util.find_spec("triton") is None,
    reason="needs triton, which compiles on Linux",
)

FOLDER = Path(mmbench_kernels.__file__).parent / "_triton"
OPERATORS = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if not path.stem.startswith("_") and "def aot_cases(" in path.read_text(encoding="utf-8")
)
CAPABILITIES = (80, 90, 100)


def test_every_operator_ships_configurations() -> None:
    assert sorted(mmbench_kernels.__all__) == OPERATORS


# A group of its own each: one process for all of them would be the last to end.
@pytest.mark.parametrize(
    "operator", [pytest.param(each, marks=pytest.mark.xdist_group(each)) for each in OPERATORS]
)
def test_no_shipped_configuration_is_refused(compile_all: Compile, operator: str) -> None:
    rows = compile_all(operator)
    cases = Counter((row["case"], row["capability"]) for row in rows)
    assert set(cases.values()) == {1}
    assert len(rows) == len({row["case"] for row in rows}) * len(CAPABILITIES)
    assert {row["capability"] for row in rows} == set(CAPABILITIES)
    assert {row["dtype"] for row in rows} == {"fp32", "fp16", "bf16"}
    assert {(row["case"], row["capability"]): row["violations"] for row in rows if row["violations"]} == {}


def test_the_interpreter_and_the_compiler_refuse_to_share_a_process() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "mmbench_kernels._triton._aot_worker", OPERATORS[0]],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert "TRITON_INTERPRET is set; unset it" in found.stderr
