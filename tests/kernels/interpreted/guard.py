"""What the interpreter lets pass and a GPU would not forgive: reads and writes outside a tensor, atomics.

The interpreter reads past the end of memory silently. Here every active lane of every load and store must
fall into a tensor of the launch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from triton.runtime import interpreter


class Spans:
    """The addresses of the tensors of the launch that is running."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []

    def register(self, tensors: list[Tensor]) -> None:
        """Forget the last launch and allow these tensors, from the first to the last of their elements."""
        self._spans = []
        for tensor in tensors:
            if tensor.numel():
                last = sum(
                    (size - 1) * abs(step) for size, step in zip(tensor.shape, tensor.stride(), strict=True)
                )
                first = tensor.data_ptr()
                self._spans.append((first, first + (last + 1) * tensor.element_size()))

    def check(self, verb: str, addresses: Any, mask: Any, item_bytes: int) -> None:
        """Refuse active lanes outside.

        Raises:
            IndexError: Naming how many lanes, and the first one's distance from the nearest tensor.
        """
        lanes = np.broadcast_to(np.asarray(mask).astype(bool), np.shape(addresses))
        active = np.asarray(addresses)[lanes].astype(np.int64)
        inside = np.zeros(active.shape, dtype=bool)
        for first, end in self._spans:
            inside |= (active >= first) & (active + item_bytes <= end)
        if not inside.all():
            wrong = int(active[~inside][0])
            near = min((abs(wrong - edge), wrong - edge) for span in self._spans for edge in span)[1]
            raise IndexError(
                f"{verb} outside of every tensor: {int((~inside).sum())} of {active.size} lanes, "
                f"the first {near} bytes from an end"
            )


@contextmanager
def bounds_guard() -> Iterator[Spans]:
    """Check, inside, every access of interpreted kernels."""
    spans = Spans()
    builder, executor = type(interpreter.interpreter_builder), interpreter.GridExecutor
    load, store, to_host = builder.create_masked_load, builder.create_masked_store, executor._init_args_hst

    def checked_load(self: Any, pointers: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        spans.check("load", pointers.data, mask.data, _item_bytes(pointers))
        return load(self, pointers, mask, *rest, **named)

    def checked_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        spans.check("store", pointers.data, mask.data, _item_bytes(pointers))
        return store(self, pointers, value, mask, *rest)

    def registering(self: Any, positional: Any, named: Any) -> Any:
        on_host = to_host(self, positional, named)
        spans.register([each for each in (*on_host[0], *on_host[1].values()) if isinstance(each, Tensor)])
        return on_host

    def refuse(*arguments: Any) -> None:
        raise TypeError("an atomic operation: its order, and so the last bits of a sum, would be chance")

    with (
        patch.object(builder, "create_masked_load", checked_load),
        patch.object(builder, "create_masked_store", checked_store),
        patch.object(builder, "create_atomic_rmw", refuse),
        patch.object(builder, "create_atomic_cas", refuse),
        patch.object(executor, "_init_args_hst", registering),
    ):
        yield spans


def poisoned(empty: Any) -> Any:
    """Return an allocator like `empty` whose memory is NaN, or far below zero where there is none."""

    def allocate(*arguments: Any, **named: Any) -> Tensor:
        memory: Tensor = empty(*arguments, **named)
        if memory.is_floating_point():
            return memory.fill_(torch.nan)
        return (
            memory.fill_(torch.iinfo(memory.dtype).min) if memory.dtype != torch.bool else memory.fill_(True)
        )

    return allocate


def _item_bytes(pointers: Any) -> int:
    return int(pointers.get_element_ty().primitive_bitwidth) // 8
