"""What the gates of the compiled kernels refuse: real kernels and configurations that are bad."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernels.conftest import Compile

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or importlib.util.find_spec("triton") is None,
    reason="needs triton, which compiles on Linux",
)

BAD_KERNELS = Path(__file__).with_name("bad_kernels.py")
CAPABILITIES = (80, 90, 100)


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
