"""Peak memory of a piece of work in this process: the resident set on the CPU, the allocator on CUDA."""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Written to clear_refs, sets the peak of the resident set to what is resident now; see proc(5)."""


def load_what_comes_late(device: torch.device) -> None:
    """Take a step with a network of a few weights, so that its libraries are not taken for a method's memory.

    Torch loads some at first use: 150 MiB of a CPU process when the first optimiser is built.
    """
    network = nn.Conv2d(1, 1, 1, device=device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    network(torch.zeros(1, 1, 2, 2, device=device)).sum().backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


class PeakMemory:
    """Measures how far above its beginning a process goes, one piece of work at a time."""

    def __init__(self, device: torch.device) -> None:
        """Take what the process holds now as its beginning.

        Args:
            device: Whose memory.
        """
        self._device = device
        _give_back()
        self._beginning = self._now()

    def of(self, work: Callable[[], object]) -> int | None:
        """Return the peak while some work runs, bytes above the beginning; None where it cannot be known."""
        if self._beginning is None:
            work()
            return None
        _give_back()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            work()
            torch.cuda.synchronize(self._device)
            return torch.cuda.max_memory_allocated(self._device) - self._beginning
        try:
            _CLEAR.write_text(_RESET_PEAK)
        except OSError:  # a sandbox may forbid it; an older peak would be taken for this one
            work()
            return None
        work()
        return max(0, _resident("VmHWM") - self._beginning)

    def _now(self) -> int | None:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device)
        return _resident("VmRSS") if self._device.type == "cpu" and _STATUS.is_file() else None


def _give_back() -> None:
    """Let glibc give freed memory back to the system, also where it is told to keep it: it is not in use."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _resident(field: str) -> int:
    """Return a field of the process's status, bytes."""
    found = re.search(rf"^{field}:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
