"""A dry run: a method runs on its own control flow, but no operator on its images computes anything.

Which rows of a batch lack a modality must be known for a method to run, so a device without values is of no
use. Here presence and targets keep their values and are computed with; what comes of images is memory of the
right shape that nobody ever touches, so that a training step at full size costs neither time nor memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from mmbench.profiling.operators import bare_name, by_name, is_view, storage_of, tensors_in, written_arguments

_FEW = 1 << 14
"""Operators on this many elements are computed, as long as nothing in them is hollow."""
_BY_INDEX = re.compile(r"index|masked_select")


class DryRun(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, operators on hollow tensors return hollow tensors; to be used on the CPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._hollow: set[Any] = set()  # storages
        self._shapes: dict[
            Any, Any
        ] = {}  # of outputs without values: the same operators come again and again

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Leave the compiler out: by default torch imports it, to keep it from compiling this mode."""
        return False

    def hollow(self, *shape: int) -> Tensor:
        """Return a float32 tensor without values."""
        return self._mark(torch.empty(shape))

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute what must be known, and only shape the rest."""
        kwargs = dict(kwargs or {})
        given = by_name(func, args, kwargs)
        inputs = list(tensors_in([args, kwargs]))
        hollow = any(storage_of(tensor) in self._hollow for tensor in inputs)
        few = bool(inputs) and sum(tensor.numel() for tensor in inputs) <= _FEW
        if is_view(func) or (not hollow and (few or _whole_numbers(inputs))):
            return func(*args, **kwargs)
        written = written_arguments(func, given)
        if hollow and any(tensor.is_floating_point() for tensor in written):
            for tensor in written:
                self._mark(tensor)
            if all(r.alias_info is not None for r in func._schema.returns):
                return written[0] if len(written) == 1 else tuple(written)
        if not hollow and not inputs and not _large_floats(func, args, kwargs):
            return func(*args, **kwargs)
        if bare_name(func) in ("_local_scalar_dense", "is_nonzero", "equal"):  # read as if all values were 0
            return bare_name(func) == "equal" or 0.0
        return self._shaped(func, args, kwargs)

    def _shaped(self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return outputs of the right shape; floating ones are hollow, others as if all values were 0."""
        if _BY_INDEX.search(bare_name(func)):  # the shape may depend on the values of the indices
            shaped = _without_values_by_index(func, args, kwargs)
        else:
            key = (func, _signature(args), _signature(kwargs))
            shaped = self._shapes.get(key)
            if shaped is None:
                shaped = self._shapes[key] = _without_values(func, args, kwargs)
        if all(leaf.is_floating_point() for leaf in tensors_in(shaped)):
            return pytree.tree_map(lambda leaf: self._as_output(leaf, 0), shaped)
        answer = _of_zeros(func, args, kwargs)
        return pytree.tree_map(lambda leaf: self._as_output(leaf, answer), shaped)

    def _as_output(self, leaf: Any, answer: int) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        made = torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype)
        return self._mark(made) if leaf.is_floating_point() else made.fill_(answer)

    def _mark(self, tensor: Tensor) -> Tensor:
        self._hollow.add(storage_of(tensor))
        return tensor


def _without_values(func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what an operator returns on the CPU, without values but in the CPU's memory layout."""

    def strip(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype)

    try:
        with FakeTensorMode():
            shaped = func(*pytree.tree_map(strip, args), **pytree.tree_map(strip, kwargs))
    except (NotImplementedError, RuntimeError):  # its shape depends on values: some are better than none
        return func(*args, **kwargs)
    return pytree.tree_map(_to_meta, shaped)


def _without_values_by_index(
    func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return what an operator returns, without values, where its shape depends on the values of indices."""

    def strip(leaf: Any) -> Any:
        return _to_meta(leaf) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    try:
        return func(*pytree.tree_map(strip, args), **pytree.tree_map(strip, kwargs))
    except (NotImplementedError, RuntimeError):  # made-up values are better than none
        return func(*args, **kwargs)


def _to_meta(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device="meta")


def _of_zeros(func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Return what an operator says of zeros, as 1 of an image that is asked whether it is finite."""
    given = by_name(func, args, kwargs)
    zeros = {n: torch.zeros((), dtype=v.dtype) if isinstance(v, Tensor) else v for n, v in given.items()}
    positional = [zeros.pop(a.name) for a in func._schema.arguments if not a.kwarg_only]
    try:
        said = func(*positional, **zeros)
    except (IndexError, RuntimeError, TypeError):  # not of the kind that says something of each element
        return 0
    return int(said) if isinstance(said, Tensor) and said.numel() == 1 else 0


def _signature(tree: Any) -> Any:
    """Return all of an operator's arguments that its output's shape can depend on, to be hashed."""
    if isinstance(tree, Tensor):
        return tuple(tree.shape), tree.stride(), tree.dtype
    if isinstance(tree, list | tuple):
        return tuple(_signature(branch) for branch in tree)
    if isinstance(tree, dict):
        return tuple((key, _signature(branch)) for key, branch in tree.items())
    return type(tree), tree


def _whole_numbers(tensors: Iterable[Tensor]) -> bool:
    """Whether there are tensors, and none of them is of floating point: control flow, to be computed."""
    kept = list(tensors)
    return bool(kept) and not any(tensor.is_floating_point() for tensor in kept)


def _large_floats(func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an operator without input makes many numbers of floating point."""
    with torch.device("meta"):
        made = list(tensors_in(func(*args, **(kwargs | {"device": torch.device("meta")}))))
    return any(tensor.is_floating_point() and tensor.numel() > _FEW for tensor in made)
