"""What an operator of the dispatcher does: its kind, whether it does any work, the bytes it moves."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

_KINDS = (
    ("attention", r"scaled_dot_product|modal_attention|_flash_attention|_efficient_attention"),
    ("convolution", r"convolution|modal_fuse"),
    ("matrix product", r"^(mm|bmm|addmm|baddbmm|mv|addmv|dot|vdot|_addmm_activation)$"),
    ("loss", r"multiscale_seg_loss|nll_loss|binary_cross_entropy|mse_loss|smooth_l1"),
    ("normalisation", r"norm_act_pad|group_norm|layer_norm|batch_norm|instance_norm|var_mean"),
    ("softmax", r"softmax|logsumexp"),
    ("dropout", r"dropout|bernoulli"),
    ("resampling", r"upsample|grid_sampler"),
    ("padding", r"pad(ding)?[0-9]?d?(_backward)?$|constant_pad_nd"),
    ("pooling", r"pool"),
    ("activation", r"relu|threshold|gelu|silu|sigmoid|tanh|elu|hardtanh|softplus"),
    (
        "copy",
        r"copy|clone|^cat$|^stack$|index|gather|scatter|^repeat|_backward$|^fill_?$|^zero|^full|^ones|^new_",
    ),
    (
        "reduction",
        r"^(sum|mean|amax|amin|aminmax|max|min|argmax|any|all|prod|norm|linalg_vector_norm|cumsum)$",
    ),
)
_FREE = re.compile(r"^(new_)?empty|^_unsafe_view$|^set_$|^resize_|^_local_scalar_dense$|^is_|^equal$|^sym_")
_GATHERS = ("index", "_unsafe_index", "index_select", "gather", "embedding", "take")
_ONLY_WRITES = re.compile(r"^(copy_|fill_|zero_|normal_|uniform_|bernoulli_|random_|exponential_)$")


@cache
def bare_name(operator: torch._ops.OpOverload) -> str:
    """Return the name without namespace and overload."""
    return operator._schema.name.partition("::")[2]


@cache
def kind_of(operator: torch._ops.OpOverload) -> str:
    """Return the kind of an operator, for people; "elementwise" is what is nothing else."""
    name = bare_name(operator)
    return next((kind for kind, pattern in _KINDS if re.search(pattern, name)), "elementwise")


@cache
def is_view(operator: torch._ops.OpOverload) -> bool:
    """Whether an operator only looks at its input in another way."""
    returns, arguments = operator._schema.returns, operator._schema.arguments
    aliased = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
    return aliased and not any(a.alias_info is not None and a.alias_info.is_write for a in arguments)


@cache
def is_free(operator: torch._ops.OpOverload) -> bool:
    """Whether an operator computes nothing: a view, an empty allocation, a question."""
    return is_view(operator) or bool(_FREE.search(bare_name(operator)))


@cache
def is_composite(operator: torch._ops.OpOverload) -> bool:
    """Whether an operator is nothing but a sequence of others."""
    name = f"{operator._schema.name}{f'.{o}' if (o := operator._schema.overload_name) else ''}"
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(name, composite))


def by_name(
    operator: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by the names of the schema, with their defaults."""
    arguments = operator._schema.arguments
    defaults = {a.name: a.default_value for a in arguments if a.has_default_value()}
    return defaults | {a.name: value for a, value in zip(arguments, args, strict=False)} | dict(kwargs)


def written_arguments(operator: torch._ops.OpOverload, given: Mapping[str, Any]) -> list[Tensor]:
    """Return the arguments that a call writes to."""
    return [
        tensor
        for argument in operator._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write and argument.name in given
        for tensor in tensors_in(given[argument.name])
    ]


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors among nested lists, tuples and mappings: all that operators take and return."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for branch in tree:
            yield from tensors_in(branch)
    elif isinstance(tree, dict):
        yield from tensors_in(list(tree.values()))


def moved_bytes(operator: torch._ops.OpOverload, given: Mapping[str, Any], output: Any) -> int:
    """Return the bytes that a call reads and writes: each input once, each output once.

    Args:
        operator: That was called; not a free one.
        given: Its arguments by name.
        output: What it returned.
    """
    name = bare_name(operator)
    written = {id(tensor): tensor for tensor in written_arguments(operator, given)}
    read = {id(tensor): tensor for tensor in tensors_in(list(given.values()))}
    made = [tensor for tensor in tensors_in(output) if id(tensor) not in written]
    # Of what is filled or passed as `out`, nothing is read.
    only_written = bool(_ONLY_WRITES.search(name)) or any(a.is_out for a in operator._schema.arguments)
    reads = [tensor for key, tensor in read.items() if not (only_written and key in written)]
    sizes = [touched_bytes(tensor) for tensor in reads]
    out = sum(touched_bytes(tensor) for tensor in [*made, *written.values()])
    if name in _GATHERS and sizes:  # of a table, only the rows that are asked for
        sizes[0] = min(sizes[0], out)
    return sum(sizes) + out


def touched_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's different elements: an expanded axis counts once."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(side if stride or not side else 1 for side, stride in sides) * tensor.element_size()


def storage_of(tensor: Tensor) -> StorageWeakRef:
    """Return what two tensors share exactly if they share memory; kept, it is never another memory's."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
