"""A device that is not the CPU, for machines that have none: tensors that only claim to be elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

_ATEN = torch.ops.aten
ELSEWHERE = torch.device("meta")
"""What the tensors say of themselves: a type that every build of torch knows."""
_MAY_MIX = {_ATEN.copy_.default, _ATEN.index.Tensor, _ATEN.index_put_.default, _ATEN.index_put.default}


class WrongDeviceError(RuntimeError):
    """Tensors of two devices met in an operator; on a real second device torch would refuse it too."""


class ElsewhereTensor(Tensor):
    """A tensor that computes on the CPU and says that it is elsewhere."""

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> ElsewhereTensor:
        """Wrap a tensor of the CPU."""
        wrapped: ElsewhereTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=ELSEWHERE,
        )
        wrapped.on_cpu = inner
        return wrapped

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Serve `tolist`, which torch refuses for subclasses; all else becomes operators."""
        if func is torch.Tensor.tolist:
            return args[0].on_cpu.tolist()
        with torch._C.DisableTorchFunctionSubclass():  # torch's own would turn CPU results into this class
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub lacks func
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator."""
        return _run(func, args, kwargs or {})


class Elsewhere(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, tensors can be created elsewhere, too."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator."""
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator on the CPU; its result is where torch would put it."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = any(isinstance(x, ElsewhereTensor) for x in tensors)
    # A tensor without axes may come from the CPU, as it may beside a GPU's.
    here = [x for x in tensors if not isinstance(x, ElsewhereTensor) and x.ndim]
    if there and here and func not in _MAY_MIX:
        shapes = ", ".join(str(tuple(x.shape)) for x in here)
        raise WrongDeviceError(f"{func} met a tensor {shapes} of the CPU beside one of the inputs' device")
    asked = kwargs.get("device")
    goes_there = there if asked is None else torch.device(asked) == ELSEWHERE
    inner_args, inner_kwargs = tree_map(
        lambda x: x.on_cpu if isinstance(x, ElsewhereTensor) else x, (args, kwargs)
    )
    if asked is not None and goes_there:
        inner_kwargs = {**inner_kwargs, "device": torch.device("cpu")}
    result = func(*inner_args, **inner_kwargs)
    if goes_there:
        result = tree_map(lambda x: ElsewhereTensor(x) if isinstance(x, Tensor) else x, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if there else result  # type: ignore[no-untyped-call]
