"""The cycles that rank configurations, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import fields

import pytest

pytest.importorskip("triton", reason="the machine code is read with Triton's tools")

from mmbench_kernels._triton._aot import Resources
from mmbench_kernels._triton._static_model import Cycles, cycles_of, ranked


def resources(**known: int) -> Resources:
    return Resources(**{field.name: 0 for field in fields(Resources)} | known)


def test_each_scheduler_issues_one_instruction_a_cycle() -> None:
    # 8 warps of 900 instructions are 7200, on 4 schedulers 1800 cycles; 8192 pairs of 128 x 64.
    found = cycles_of(resources(threads=256, loop_instructions=900), 128 * 64)
    assert (found.issue, found.special, found.memory) == (1800, 0, 0)
    assert found.per_pair == 1800 / 8192


def test_exponentials_have_sixteen_lanes() -> None:
    # 4 warps of 32 lanes and 32 exponentials each are 4096, at 16 a cycle 256 cycles: more than 4 · 100 / 4.
    found = cycles_of(resources(threads=128, loop_instructions=100, exponentials=32), 64 * 64)
    assert (found.issue, found.special) == (100, 256)
    assert found.per_pair == 256 / 4096


def test_what_is_loaded_counts_where_it_is_the_slowest() -> None:
    found = cycles_of(resources(threads=128, loop_instructions=100), 10, bytes_a_turn=64 * 500)
    assert found.memory == 500
    assert found.per_pair == 50


def test_the_least_busy_comes_first_and_equals_go_by_name() -> None:
    found = {
        "c": Cycles(4, 1, 1, 2),
        "b": Cycles(1, 6, 1, 6),
        "a": Cycles(2, 2, 2, 1),
        "d": Cycles(1, 1, 2, 1),
    }
    assert ranked(found) == [("b", 1), ("a", 2), ("c", 2), ("d", 2)]


@pytest.mark.parametrize(("pairs", "loop"), [(0, 10), (10, 0)])
def test_a_kernel_without_a_loop_over_pairs_is_refused(pairs: int, loop: int) -> None:
    with pytest.raises(ValueError, match="cannot be ranked"):
        cycles_of(resources(threads=128, loop_instructions=loop), pairs)
