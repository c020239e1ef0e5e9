"""What a machine can do at best, measured: products of large matrices, and sums of arrays no cache holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmbench.devices import describe_device

_STREAMS_OF_TRIAD = 3
"""a = b + s·c reads two arrays and writes one. What a cache fetches before it writes is not counted."""


@dataclass(frozen=True)
class Roofs:
    """The two roofs of a roofline plot.

    Attributes:
        flops_per_second: Of the best product of two square matrices.
        bytes_per_second: Of the best triad, read and written, as STREAM counts it.
        matrix_side: Rows and columns of the matrices.
        array_mib: Size of each of the triad's three arrays, MiB.
        dtype: Of both, "float32" or "bfloat16".
        device: In words, with the number of threads on a CPU.
    """

    flops_per_second: float
    bytes_per_second: float
    matrix_side: int
    array_mib: int
    dtype: str
    device: str

    @property
    def ridge(self) -> float:
        """The intensity, FLOP per byte, from which on arithmetic is the limit and not memory."""
        return self.flops_per_second / self.bytes_per_second

    def attainable(self, intensity: float) -> float:
        """Return the most FLOP/s at an intensity (FLOP per byte)."""
        return min(self.flops_per_second, intensity * self.bytes_per_second)

    @property
    def words(self) -> str:
        """One line of how they were measured."""
        return (
            f"roofs measured on {self.device}: {self.matrix_side}² matrix product in {self.dtype}, "
            f"triad of {self.array_mib} MiB arrays"
        )


def measure_roofs(
    device: torch.device,
    *,
    dtype: torch.dtype = torch.float32,
    matrix_side: int | None = None,
    array_mib: int = 128,
    repeats: int = 5,
) -> Roofs:
    """Measure both roofs; on a CPU with the threads that torch has now.

    The best of the repetitions counts: a roof is what the machine can do, and what else ran on it only
    lowers a repetition.

    Args:
        device: Where.
        dtype: torch.float32 or torch.bfloat16.
        matrix_side: Of the product; None takes 1536 on a CPU (7 GFLOP) and 8192 elsewhere.
        array_mib: Of each array of the triad, MiB; three of them must not fit into the last cache.
        repeats: Of each, after one that is not counted.

    Raises:
        ValueError: If a size or the number of repetitions is not positive.
    """
    side = matrix_side if matrix_side is not None else (1536 if device.type == "cpu" else 8192)
    if min(side, array_mib, repeats) < 1:
        raise ValueError(
            f"measure_roofs: matrix_side {side}, array_mib {array_mib}, repeats {repeats}; expected each >= 1"
        )
    product = _best_seconds(_product(device, dtype, side), device, repeats)
    triad = _best_seconds(_triad(device, dtype, array_mib), device, repeats)
    return Roofs(
        flops_per_second=2 * side**3 / product,
        bytes_per_second=_STREAMS_OF_TRIAD * array_mib * 2**20 / triad,
        matrix_side=side,
        array_mib=array_mib,
        dtype=str(dtype).removeprefix("torch."),
        device=describe_device(device),
    )


def _product(device: torch.device, dtype: torch.dtype, side: int) -> Callable[[], Tensor]:
    """Return the product of two matrices (side, side), without allocation."""
    left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    result = torch.empty(side, side, device=device, dtype=dtype)
    return lambda: torch.mm(left, right, out=result)


def _triad(device: torch.device, dtype: torch.dtype, array_mib: int) -> Callable[[], Tensor]:
    """Return a = b + s·c on arrays of the given size, without allocation."""
    count = array_mib * 2**20 // torch.empty((), dtype=dtype).element_size()
    # Filled, not only reserved: pages that were never written are all the same one, and come from a cache.
    a, b, c = (torch.ones(count, device=device, dtype=dtype) for _ in range(3))
    return lambda: torch.add(b, c, alpha=3.0, out=a)


@torch.no_grad()
def _best_seconds(work: Callable[[], Tensor], device: torch.device, repeats: int) -> float:
    """Return the shortest of several runs, seconds; one before them warms up."""
    seconds = []
    for _ in range(repeats + 1):
        _finish(device)
        began = time.perf_counter()
        work()
        _finish(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def _finish(device: torch.device) -> None:
    """Wait for what was launched; a CPU has already done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
