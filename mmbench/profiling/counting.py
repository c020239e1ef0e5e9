"""Counting the operators that torch runs: FLOP, bytes and launches, by pass, part and kind of operator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmbench.profiling.formulas import flops_of
from mmbench.profiling.launches import launching_kernel, watched_launches
from mmbench.profiling.operators import (
    by_name,
    is_composite,
    is_free,
    kind_of,
    moved_bytes,
    tensors_in,
    touched_bytes,
)
from mmbench.profiling.report import OTHER, Work

Pass = Literal["inference", "training_forward", "training_backward"]


@dataclass
class Tally:
    """Work and, where there is a clock, seconds so far."""

    flops: int = 0
    bytes: int = 0
    launches: int = 0
    seconds: float = 0.0

    @property
    def work(self) -> Work:
        """The counts, without the time."""
        return Work(flops=self.flops, bytes=self.bytes, launches=self.launches)


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what runs inside, forward and backward; the results do not change.

    Attributes:
        tallies: (pass, part, kind of operator) -> what was counted.
        parameters: Identity -> parameter, of those that were read in the pass "inference".
    """

    def __init__(
        self, current_part: Callable[[], str] | None = None, finish: Callable[[], None] | None = None
    ) -> None:
        """Begin with nothing counted.

        Args:
            current_part: Tells whose operator runs, as `PartTracker.current`; None counts it all as "other".
            finish: Waits until the device has done what was launched; given, operators are timed one by one.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._current_part = current_part or (lambda: OTHER)
        self._finish = finish
        self._pass: Pass = "inference"
        self.tallies: dict[tuple[Pass, str, str], Tally] = {}
        self.parameters: dict[int, nn.Parameter] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Leave the compiler out: by default torch imports it, to keep it from compiling this mode."""
        return False

    @property
    def kinds(self) -> list[str]:
        """The kinds of operators that came, sorted."""
        return sorted({kind for _, _, kind in self.tallies})

    @contextmanager
    def during(self, name: Pass) -> Iterator[None]:
        """Count what runs inside as work of a pass."""
        before, self._pass = self._pass, name
        # torch's own transformer layers run as one operator in evaluation, in which no product can be seen.
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with self:
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            self._pass = before

    def total(self, name: Pass | None = None, *, part: str | None = None, kind: str | None = None) -> Tally:
        """Return the sum over all passes, parts and kinds, or over those of the given ones."""
        result = Tally()
        for key, tally in self.tallies.items():
            if all(asked in (None, held) for asked, held in zip((name, part, kind), key, strict=True)):
                result.flops += tally.flops
                result.bytes += tally.bytes
                result.launches += tally.launches
                result.seconds += tally.seconds
        return result

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator and count it.

        Raises:
            UncountedOperatorError: If it may multiply and accumulate and has no formula.
        """
        kwargs = dict(kwargs or {})
        if is_composite(func):  # seen only in inference mode: elsewhere it comes as what it consists of
            with self:
                return func.decompose(*args, **kwargs)
        if self._pass == "inference":
            read = tensors_in([args, kwargs])
            self.parameters |= {id(t): t for t in read if isinstance(t, nn.Parameter)}
        if is_free(func):
            return func(*args, **kwargs)
        tally = self.tallies.setdefault((self._pass, self._current_part(), kind_of(func)), Tally())
        if self._finish is None and (kernel := launching_kernel(func)) is not None:
            output = self._count_launches(kernel, args, kwargs, tally)
            tally.flops += flops_of(func, by_name(func, args, kwargs), output)
            return output
        if self._finish is not None:
            self._finish()
        began = time.perf_counter()
        output = func(*args, **kwargs)
        if self._finish is not None:
            self._finish()
        seconds = time.perf_counter() - began
        given = by_name(func, args, kwargs)
        tally.flops += flops_of(func, given, output)
        tally.bytes += moved_bytes(func, given, output)
        tally.launches += 1
        tally.seconds += seconds
        return output

    def _count_launches(
        self, kernel: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], tally: Tally
    ) -> Any:
        """Run an operator that launches kernels; count each, and torch's operators between them."""

        def launched(tensors: list[Tensor]) -> None:
            tally.launches += 1
            tally.bytes += sum(touched_bytes(tensor) for tensor in tensors)

        with self, watched_launches(launched):
            return kernel(*args, **kwargs)
