"""Every shipped configuration, compiled for every architecture without a GPU: what its machine code needs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmbench_kernels

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or importlib.util.find_spec("triton") is None,
    reason="needs triton, which compiles on Linux",
)

FOLDER = Path(mmbench_kernels.__file__).parent / "_triton"
BAD_KERNELS = Path(__file__).with_name("bad_kernels.py")
OPERATORS = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if not path.stem.startswith("_") and "def aot_cases(" in path.read_text(encoding="utf-8")
)
CAPABILITIES = (80, 90, 100)

Compile = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def compile_all(request: pytest.FixtureRequest) -> Compile:
    """Compile the cases of a module for every capability, in a process without the interpreter."""

    def run(module: str) -> list[dict[str, Any]]:
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        # What has not changed since the last run is not compiled again, and the user's cache stays alone.
        environment["TRITON_CACHE_DIR"] = str(request.config.cache.mkdir("triton"))
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-m", "mmbench_kernels._triton._aot_worker", module]
        found = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        rows: list[dict[str, Any]] = json.loads(found.stdout)
        return rows

    return run


def test_every_operator_ships_configurations() -> None:
    assert sorted(mmbench_kernels.__all__) == OPERATORS


@pytest.mark.parametrize("operator", OPERATORS)
def test_no_shipped_configuration_is_refused(compile_all: Compile, operator: str) -> None:
    rows = compile_all(operator)
    cases = Counter((row["case"], row["capability"]) for row in rows)
    assert set(cases.values()) == {1}
    assert len(rows) == len({row["case"] for row in rows}) * len(CAPABILITIES)
    assert {row["capability"] for row in rows} == set(CAPABILITIES)
    assert {row["dtype"] for row in rows} == {"fp32", "fp16", "bf16"}
    assert {(row["case"], row["capability"]): row["violations"] for row in rows if row["violations"]} == {}


def test_every_gate_refuses_what_it_is_there_for(compile_all: Compile) -> None:
    bad_kernels = bad_kernels_module()
    rows = compile_all(str(BAD_KERNELS))
    found = {(row["case"], row["capability"]): row["violations"] for row in rows}
    passed = [
        f"{bad.case.name} on {capability}: {found[bad.case.name, capability]}, expected {bad.words!r}"
        for bad in bad_kernels.BAD_CASES
        for capability in bad.capabilities
        if not any(bad.words in words for words in found[bad.case.name, capability])
    ]
    assert passed == []
    good = [found[case.name, capability] for case in bad_kernels.GOOD_CASES for capability in CAPABILITIES]
    assert good == [[]] * len(good)


def bad_kernels_module() -> Any:
    from tests.kernels import bad_kernels

    return bad_kernels


def test_the_interpreter_and_the_compiler_refuse_to_share_a_process() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "mmbench_kernels._triton._aot_worker", OPERATORS[0]],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert "TRITON_INTERPRET is set; unset it" in found.stderr


# As nvdisasm prints a raw binary; of two kernels, the second begins at 0x100.
LISTING = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/                   BRA 0x10;
        /*0100*/                   HFMA2.MMA R22, -RZ, RZ, 0, 0 ;
        /*0110*/              @!P1 LDG.E.128 R4, [R24.64] ;
        /*0120*/                   HMMA.16816.F32 R4, R4, R8, RZ ;
        /*0130*/                   MUFU.EX2 R4, R4 ;
        /*0140*/               @P0 BRA P1, 0x120 ;
        /*0150*/                   STL [R1], R4 ;
        /*0160*/               @P2 BRA 0x100 ;
        /*0170*/                   STG.E desc[UR4][R2.64], R4 ;
        /*0180*/                   BRA 0x180;
        /*0190*/                   NOP;
"""


def test_instructions_are_counted_by_what_they_do() -> None:
    from mmbench_kernels._triton._machine_code import Resources, count_instructions, parse

    known = dict.fromkeys(
        ("capability", "threads", "registers", "stack_bytes", "local_bytes", "shared_bytes"), 0
    )
    code = [each for each in parse(LISTING) if each.address >= 0x100]
    found = count_instructions(code, **known)
    assert isinstance(found, Resources)
    assert (found.tensor_cores, found.loads, found.wide_loads, found.stores) == (1, 1, 1, 1)
    assert (found.wide_stores, found.spills, found.exponentials, found.asynchronous_loads) == (0, 1, 1, 0)
    assert found.instructions == 9
    # The loop inside, not the one around it, nor the last instruction's jump to itself.
    assert found.loop_instructions == 3
