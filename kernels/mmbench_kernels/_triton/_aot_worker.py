"""Compile every case of one operator in a process of its own and print what each needs, as JSON.

python -m mmbench_kernels._triton._aot_worker norm_act_pad --capability 80 90 100

A process of its own, because Triton's interpreter and its compiler do not go together in one.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from mmbench_kernels._availability import interpreting
from mmbench_kernels._triton._aot import CAPABILITIES, compile_cases, violations


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a list with one entry a case and capability; return the exit code.

    Args:
        arguments: Without the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(prog="mmbench_kernels._triton._aot_worker")
    parser.add_argument("module", help="an operator, or a .py file with aot_cases()")
    parser.add_argument("--capability", type=int, nargs="+", default=list(CAPABILITIES))
    parser.add_argument("--case", help="only the cases whose name holds this")
    chosen = parser.parse_args(arguments)
    if interpreting():
        parser.error("TRITON_INTERPRET is set; unset it, the interpreter does not compile")
    rows = _rows(_load(chosen.module), chosen.capability, chosen.case or "")
    sys.stdout.write(json.dumps(list(rows)) + "\n")
    return 0


def _load(name: str) -> ModuleType:
    """Return the module of an operator, or that of a file."""
    if not name.endswith(".py"):
        return importlib.import_module(f"mmbench_kernels._triton.{name}")
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{name} cannot be loaded, expected a Python file with aot_cases()")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _rows(module: ModuleType, capabilities: Sequence[int], part: str) -> Iterator[dict[str, Any]]:
    """Yield the figures of each case and what its gates refuse."""
    cases = [case for case in module.aot_cases() if part in case.name]
    for capability in capabilities if cases else ():
        for case, resources in zip(cases, compile_cases(cases, capability), strict=True):
            yield {
                "case": case.name,
                "dtype": case.dtype,
                "violations": violations(case, resources),
                **asdict(resources),
            }


if __name__ == "__main__":
    sys.exit(main())
