"""What all launches share: configurations, fresh memory, strides and the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Config:
    """How a kernel is compiled.

    Attributes:
        constants: The constexpr block sizes.
        num_warps: Of a program.
        num_stages: Of its loops.
        max_registers: That a thread may have. None: as many as ptxas thinks best, which may spill a few for
            the sake of one more block on a multiprocessor.
    """

    constants: Mapping[str, int]
    num_warps: int
    num_stages: int = 1
    max_registers: int | None = None

    def keywords(self) -> dict[str, Any]:
        """Return the keyword arguments of a launch."""
        return {**self.constants, **self.options()}

    def options(self) -> dict[str, Any]:
        """Return the options of the compiler."""
        limit = {} if self.max_registers is None else {"maxnreg": self.max_registers}
        # Fused multiply-adds are asked for by name: the compiler's default is not the same in every version.
        return {"num_warps": self.num_warps, "num_stages": self.num_stages, "enable_fp_fusion": True, **limit}


def empty(
    shape: Sequence[int], *, dtype: torch.dtype, device: torch.device, channels_last: bool = False
) -> Tensor:
    """Return uninitialised memory for what a kernel writes.

    The one place where it is allocated, called as `_launch.empty`: tests fill it with NaN, so that what a
    kernel leaves unwritten shows.

    Args:
        shape: Any; (B, C, H, W) if channels_last.
        dtype: Of the tensor.
        device: Of the tensor.
        channels_last: Whether C is innermost in memory.
    """
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=dtype, device=device, memory_format=memory_format)


def on_device_of(x: Tensor) -> AbstractContextManager[object]:
    """Return the context in which a launch goes to the device of x, which need not be the current one."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def ceil_div(size: int, block: int) -> int:
    """Return how many blocks cover a size."""
    return -(-size // block)
