"""Triton's launches inside an operator: how many there are, and which tensors each reads or writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from mmbench.profiling.operators import tensors_in
from mmbench_kernels.ops._registration import kernel_of


def launching_kernel(operator: torch._ops.OpOverload) -> Callable[..., Any] | None:
    """Return the function behind an operator that launches Triton's kernels, None for every other one."""
    name = operator._schema.name
    if not name.startswith("mmbench::") or "_triton" not in name:
        return None
    return kernel_of(name)


@contextmanager
def watched_launches(tell: Callable[[list[Tensor]], None]) -> Iterator[None]:
    """Tell of every launch inside; one on tensors that are on no GPU is told of and not done.

    Args:
        tell: Gets the tensors that a launch takes, each once.
    """
    from triton.runtime.jit import JITFunction

    from mmbench_kernels._triton import _launch

    launch, empty = JITFunction.run, _launch.empty

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        tensors = list({id(tensor): tensor for tensor in tensors_in([list(args), kwargs])}.values())
        tell(tensors)
        if any(tensor.is_cuda for tensor in tensors):
            return launch(self, *args, **kwargs)
        return None

    def emptied(*args: Any, device: torch.device, **kwargs: Any) -> Tensor:
        made = empty(*args, device=device, **kwargs)
        if device.type != "cuda" and not made.is_floating_point():
            with _disable_current_modes():  # what no kernel writes is read as a count of nothing
                made.zero_()
        return made

    JITFunction.run, _launch.empty = run, emptied
    try:
        yield
    finally:
        JITFunction.run, _launch.empty = launch, empty
