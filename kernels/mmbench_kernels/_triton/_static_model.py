"""Which of several configurations keeps a multiprocessor least busy, from its machine code alone.

python -m mmbench_kernels._triton._static_model modal_attention --capability 80

Only to rank the configurations of one kernel and to leave out the worst before any is tried. It knows nothing
of latency, occupancy and caches: its cycles are never a speed, and must not be quoted as one.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmbench_kernels._triton._aot import compile_cases
from mmbench_kernels._triton._machine_code import Resources

_WARP = 32
_SCHEDULERS = 4
"""Of a multiprocessor; each issues one instruction of one warp a cycle."""
_SPECIAL_LANES = 16
"""Exponentials that a multiprocessor computes a cycle."""
_BYTES_A_CYCLE = 64
"""That the second-level cache gives one multiprocessor at best."""


@dataclass(frozen=True)
class Cycles:
    """What one turn of a kernel's innermost loop keeps busy, in cycles of a multiprocessor for one block.

    Attributes:
        issue: Of its schedulers.
        special: Of its units for exponentials.
        memory: Of its way to the second-level cache.
        pairs: Worked off in the turn.
    """

    issue: float
    special: float
    memory: float
    pairs: int

    @property
    def per_pair(self) -> float:
        """Cycles for one pair, of whatever is busiest."""
        return max(self.issue, self.special, self.memory) / self.pairs


def cycles_of(resources: Resources, pairs: int, bytes_a_turn: int = 0) -> Cycles:
    """Return the cycles of a configuration.

    Args:
        resources: What its machine code needs. The exponentials are those of the whole kernel, a few more
            than the loop's.
        pairs: Of query and key, or other units, that a block works off in a turn of the loop.
        bytes_a_turn: That a block loads in a turn.

    Raises:
        ValueError: If there is no loop or no pair to count.
    """
    if pairs < 1 or not resources.loop_instructions:
        raise ValueError(
            f"cycles_of: {pairs} pairs and a loop of {resources.loop_instructions} instructions, expected at "
            "least one of each; a kernel without a loop cannot be ranked"
        )
    warps = resources.threads / _WARP
    return Cycles(
        issue=resources.loop_instructions * warps / _SCHEDULERS,
        special=resources.exponentials * warps * _WARP / _SPECIAL_LANES,
        memory=bytes_a_turn / _BYTES_A_CYCLE,
        pairs=pairs,
    )


def ranked(found: Mapping[str, Cycles]) -> list[tuple[str, float]]:
    """Return names and cycles a pair, the least busy first; equals by name."""
    return sorted(((name, cycles.per_pair) for name, cycles in found.items()), key=lambda row: row[::-1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the ranking of an operator's shipped configurations that have a loop over pairs."""
    parser = argparse.ArgumentParser(prog="mmbench_kernels._triton._static_model")
    parser.add_argument("operator")
    parser.add_argument("--capability", type=int, default=80)
    parser.add_argument("--case", default="", help="only the cases whose name holds this")
    chosen = parser.parse_args(arguments)
    module = importlib.import_module(f"mmbench_kernels._triton.{chosen.operator}")
    cases = [case for case in module.aot_cases() if case.gates.pairs and chosen.case in case.name]
    found = {
        case.name: cycles_of(resources, case.gates.pairs)
        for case, resources in zip(cases, compile_cases(cases, chosen.capability), strict=True)
    }
    lines = [f"{cycles:8.4f}  {name}" for name, cycles in ranked(found)]
    sys.stdout.write("\n".join(["cycles a pair, to rank by only; no speed", *lines]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
