"""Bind and compile what real calls of modal_fuse launch, as a GPU would, and launch nothing.

The interpreter takes any argument, and the shipped configurations are compiled for large, aligned ones.
Triton makes a constant of an argument that is 1 or None: only here does a kernel meet those.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from mmbench_kernels.ops._modal_fuse_triton import modal_fuse_triton

BOTH = [True, True]


class PretendedDriver:
    """What the launcher asks of the driver of a GPU."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def run(
    maps: Sequence[Tensor | None],
    present: list[list[bool]] | None,
    groups: str,
    missing: str,
    *,
    outputs: int = 5,
    with_bias: bool = True,
) -> None:
    """Call forward and backward; the results are whatever the memory holds."""
    given = [each.requires_grad_() for each in maps if each is not None]
    slots = [slot for slot, each in enumerate(maps) if each is not None]
    widths = [2 if each is None else each.shape[1] for each in maps]
    weight = torch.ones(outputs, sum(widths), dtype=given[0].dtype, requires_grad=True)
    bias = torch.ones(outputs, dtype=given[0].dtype) if with_bias else None
    rows = None if present is None else torch.tensor(present)
    y = modal_fuse_triton(given, weight, bias, rows, slots, widths, groups, 1e-5, 0.2, missing)
    y.sum().backward()


def main() -> None:
    """Bind the launches of calls that differ in what a launcher looks at; print how many."""
    launches = itertools.count()
    compile_and_launch = JITFunction.run

    def only_compile(self: Any, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> Any:
        next(launches)
        return compile_and_launch(self, *arguments, grid=grid, warmup=True, **named)

    JITFunction.run = only_compile
    driver.set_active(PretendedDriver())
    half = {"dtype": torch.float16}
    window = F.pad(torch.ones(2, 8, 8, 16, **half), (1, 1, 1, 1))[:, :, 1:-1, 1:-1].detach()
    last = torch.ones(2, 8, 8, 16, **half).to(memory_format=torch.channels_last)
    run([torch.ones(1, 1, 1, 1)], None, "sample", "zero", outputs=1)
    run([torch.ones(1, 3, 4, 5), None], [[True, False]], "sample", "zero")
    run([torch.ones(2, 3, 4, 5, dtype=torch.bfloat16)] * 2, [BOTH, BOTH], "channel", "drop", with_bias=False)
    run([None, window, last, last], [[False, *BOTH, True]] * 2, "sample", "drop", outputs=8)
    sys.stdout.write(f"{next(launches)} launches\n")


if __name__ == "__main__":
    main()
