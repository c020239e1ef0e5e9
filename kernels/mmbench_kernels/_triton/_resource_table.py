"""What the main configurations need of a GPU, compiled here: the table of kernels/README.md.

python -m mmbench_kernels._triton._resource_table FILE.json compiles them, some minutes of one core, and keeps
the figures; with --show it prints the table of a file that is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CAPABILITIES = (80, 90, 100)
_MAP, _LOSS = "channels-last 8x512x512 plain", "6 256 logit"
MAIN_CASES = {
    "norm_act_pad": [
        f"{kernel} {_MAP} {dtype}"
        for dtype in ("fp32", "bf16")
        for kernel in ("moments", "apply", "sums", "gradient")
    ],
    "modal_fuse": [
        *(f"{what} packed" for what in ("mix fp32 ieee 2x8", "sums fp32 ieee 8", "maps fp32 ieee 8")),
        *(f"{what} packed" for what in ("mix bf16 ieee 2x32", "sums bf16 ieee 32", "maps bf16 ieee 32")),
    ],
    "multiscale_seg_loss": [
        *(f"full {what} {dtype} 6" for dtype in ("fp32", "bf16") for what in ("sums", "gradient")),
        *(f"coarse {what} fp32 {_LOSS}" for what in ("sums", "gradient")),
    ],
    "modal_attention": [
        *(f"{what} fp32 ieee 32" for what in ("forward", "query", "key_value")),
        *(f"{what} bf16 ieee 32" for what in ("forward", "query", "key_value")),
        "forward bf16 ieee 32 plain",
    ],
}
"""By operator, names of cases of its `aot_cases`."""

FIELDS = ("registers", "shared_bytes", "instructions")


def compile_main_cases() -> dict[str, Any]:
    """Return {"triton": version, "operators": {operator: {case: {capability: figures}}}}."""
    import triton

    return {
        "triton": triton.__version__,
        "operators": {
            operator: {name: compile_one(operator, name) for name in names}
            for operator, names in MAIN_CASES.items()
        },
    }


def compile_one(operator: str, name: str, capabilities: Sequence[int] = CAPABILITIES) -> dict[str, Any]:
    """Return the figures of a case by capability.

    Args:
        operator: Its module.
        name: Of the case.
        capabilities: 80 for sm_80, and so on.

    Raises:
        ValueError: If the operator has no case of that name.
    """
    import importlib

    from mmbench_kernels._triton._aot import compile_cases

    cases = {case.name: case for case in importlib.import_module(f"{__package__}.{operator}").aot_cases()}
    if name not in cases:
        raise ValueError(f"{operator} has no case {name!r}, expected one of {', '.join(sorted(cases))}")
    found = {str(capability): compile_cases([cases[name]], capability)[0] for capability in capabilities}
    return {key: {field: getattr(one, field) for field in FIELDS} for key, one in found.items()}


def table(found: dict[str, Any]) -> str:
    """Return the figures in Markdown; nothing spills, so that has no column."""
    heads = ["operator", "kernel", *(f"sm_{capability}" for capability in CAPABILITIES)]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for operator, cases in found["operators"].items():
        for name, figures in cases.items():
            cells = [_figures(figures[str(capability)]) for capability in CAPABILITIES]
            lines.append(_row([operator, name, *cells]))
    lines += [
        "",
        f"Registers a thread / KiB of shared memory a block / instructions. Triton {found['triton']}.",
    ]
    return "\n".join(lines)


def _figures(one: dict[str, int]) -> str:
    return f"{one['registers']} / {one['shared_bytes'] / 1024:.1f} / {one['instructions']}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figures or print their table; return the exit code."""
    parser = argparse.ArgumentParser(prog="mmbench_kernels._triton._resource_table")
    parser.add_argument("file", type=Path)
    parser.add_argument("--show", action="store_true", help="compile nothing")
    chosen = parser.parse_args(arguments)
    if not chosen.show:
        chosen.file.write_text(json.dumps(compile_main_cases(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(json.loads(chosen.file.read_text(encoding="utf-8"))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
