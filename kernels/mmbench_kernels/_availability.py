"""Which path an operator takes: Triton's kernels where they can run, torch's operators elsewhere.

Triton itself is never imported here: whether it is installed, and whether the device and the dtype suit it,
is found without it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, get_args

import torch
from torch import Tensor

Backend = Literal["auto", "torch", "triton"]
Path = Literal["torch", "triton"]

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""What the kernels compute with; statistics and sums are float32 whatever comes in."""

# Triton emits no tensor-core products below this and spills registers.
LEAST_CAPABILITY = (8, 0)

_AS_ON_GPU: ContextVar[bool] = ContextVar("mmbench_kernels_as_on_gpu", default=False)


def interpreting() -> bool:
    """Return whether Triton's interpreter stands in for a GPU: TRITON_INTERPRET is set."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")


@contextmanager
def gpu_path() -> Iterator[None]:
    """Choose, inside, what a GPU would run, whatever device the tensors are on.

    For dry runs on shapes, where a dispatch mode takes the declared operators before any kernel: nothing can
    be launched here. Graphs that torch.compile has traced before keep the path they were traced with.
    """
    token = _AS_ON_GPU.set(True)
    try:
        yield
    finally:
        _AS_ON_GPU.reset(token)


def triton_reasons(device: torch.device, dtype: torch.dtype) -> list[str]:
    """Return why Triton's kernels cannot take a tensor; empty if they can.

    Args:
        device: Where the tensor is.
        dtype: Of the tensor.
    """
    reasons = [] if _AS_ON_GPU.get() else _device_reasons(device)
    if dtype not in DTYPES:
        names = ", ".join(_name(each) for each in DTYPES)
        reasons.append(f"the dtype is {_name(dtype)}, expected one of {names}")
    elif dtype == torch.bfloat16 and interpreting():
        reasons.append("Triton's interpreter computes bfloat16 wrongly")
    return reasons


def _device_reasons(device: torch.device) -> list[str]:
    reasons = []
    if sys.platform != "linux":
        reasons.append(f"Triton runs on Linux, this is {sys.platform}")
    elif importlib.util.find_spec("triton") is None:
        reasons.append("triton is not installed (pip install triton)")
    if interpreting():
        if device.type not in ("cpu", "cuda"):
            reasons.append(f"the device is {device}, expected cpu or cuda")
    elif device.type != "cuda":
        reasons.append(f"the device is {device}, expected cuda")
    elif torch.version.hip is not None:
        reasons.append("the kernels are not tested on ROCm")
    elif (capability := torch.cuda.get_device_capability(device)) < LEAST_CAPABILITY:
        least = ".".join(map(str, LEAST_CAPABILITY))
        reasons.append(
            f"the compute capability of {device} is {capability[0]}.{capability[1]}, expected {least} or more"
        )
    return reasons


def choose_backend(operator: str, backend: str, *tensors: Tensor, limits: Sequence[str] = ()) -> Path:
    """Return the path that an operator takes.

    Args:
        operator: Its name, for the error.
        backend: "auto" takes Triton where it can run, "torch" never, "triton" always.
        tensors: Those that the kernels would compute with.
        limits: What else the operator's kernels cannot do in this call, each a sentence without its point.

    Raises:
        ValueError: If the backend is unknown.
        RuntimeError: If it is "triton" and cannot run, with the reasons.
    """
    kinds = tuple((x.device, x.dtype) for x in tensors)
    return _decide(operator, backend, kinds, tuple(limits))


def _decide(
    operator: str,
    backend: str,
    kinds: tuple[tuple[torch.device, torch.dtype], ...],
    limits: tuple[str, ...],
) -> Path:
    if backend not in get_args(Backend):
        raise ValueError(f"{operator}: backend is {backend!r}, expected 'auto', 'torch' or 'triton'")
    if backend == "torch":
        return "torch"
    reasons = [reason for device, dtype in kinds for reason in triton_reasons(device, dtype)]
    reasons = [*dict.fromkeys(reasons), *limits]
    if backend == "triton" and reasons:
        raise RuntimeError(
            f"{operator}: backend 'triton' cannot run: {'; '.join(reasons)}. Use backend='auto' or 'torch'"
        )
    return "torch" if reasons else "triton"


# torch.compile takes the decision as it falls while tracing instead of tracing it. This is what
# torch.compiler.assume_constant_result sets; calling that would import the compiler, a second, at import.
_decide._dynamo_marked_constant = True  # type: ignore[attr-defined]


def describe() -> list[tuple[str, str]]:
    """Return what decides whether Triton's kernels run here, as names and values to print."""
    facts = [("triton", _triton_version()), ("triton interpreter", "on" if interpreting() else "off")]
    if not torch.cuda.is_available():
        facts.append(("cuda device", "none"))
        device = torch.device("cpu")
    else:
        device = torch.device("cuda", torch.cuda.current_device())
        major, minor = torch.cuda.get_device_capability(device)
        facts.append(("cuda device", f"{torch.cuda.get_device_name(device)}, capability {major}.{minor}"))
    for dtype in DTYPES:
        reasons = triton_reasons(device, dtype)
        words = f"no: {'; '.join(reasons)}" if reasons else "yes"
        facts.append((f"triton operators in {_name(dtype)}", words))
    return facts


def _triton_version() -> str:
    if importlib.util.find_spec("triton") is None:
        return "not installed"
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:  # a build under another distribution's name
        return "installed, version unknown"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
