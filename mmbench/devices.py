"""The device a run uses, said once, and the precision that follows from it."""

from __future__ import annotations

import platform
from typing import Any

import psutil
import torch

from mmbench.allocator import allocator_setting
from mmbench.errors import EnvironmentMissingError


def resolve_device(name: str) -> torch.device:
    """Return the device of a name; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        EnvironmentMissingError: If the named device is not usable here.
    """
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in usable.items() if there))
    kind = name.partition(":")[0]
    if kind not in usable:
        raise EnvironmentMissingError(f"device {name!r}: expected auto, cpu, cuda, cuda:N or mps")
    if not usable[kind]:
        there = ", ".join(k for k, u in usable.items() if u)
        raise EnvironmentMissingError(
            f"device {name!r} is not usable here; usable: {there}. Use --device auto to take what is there"
        )
    try:
        return torch.empty(0, device=name).device
    except RuntimeError as error:
        raise EnvironmentMissingError(f"device {name!r}: {str(error).splitlines()[0]}") from error


def describe_device(device: torch.device) -> str:
    """Return the words for the header of a run."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def resolve_precision(device: torch.device, precision: str) -> str:
    """Return "float32" or "bfloat16": what "auto" means on a device."""
    if precision != "auto":
        return precision
    return (
        "bfloat16"
        if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        else "float32"
    )


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context of a precision on a device."""
    low = resolve_precision(device, precision) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=low)


def environment(device: torch.device) -> dict[str, Any]:
    """Return the facts about this machine that a record keeps (recorded, not part of its identity)."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.system(),
        "device": describe_device(device),
        "threads": torch.get_num_threads(),
        "allocator": allocator_setting(),
        "cores": psutil.cpu_count(logical=True),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }
