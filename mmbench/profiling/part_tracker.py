"""Which part of a method is at work: modules that run, and in backward the module that made the node.

Backward runs autograd nodes, not modules. A node bears the number that the thread's counter had when it was
made, and the counter only grows, so the parts of a forward are intervals of numbers in which a node is found.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from mmbench.profiling.report import LOSS, OTHER
from mmbench_baselines.method import Method

_NO_NUMBER = 2**63
"""The nodes that accumulate a parameter's gradient bear a number above this instead of one of the counter."""


class PartTracker:
    """Follows a method through a forward and a backward; in use only inside `watching`."""

    def __init__(
        self, method: Method, annotate: Callable[[str], AbstractContextManager[object]] | None = None
    ) -> None:
        """Find the part of each module.

        Args:
            method: Whose `parts` name the modules; a module in two parts belongs to the inner one, or else to
                the first.
            annotate: Part -> context to be in while the part runs forward.
        """
        self._method = method
        self._annotate = annotate or (lambda name: nullcontext())
        self.names = [*method.parts()]
        owners: dict[nn.Module, tuple[int, str]] = {}
        for name, roots in method.parts().items():
            for root in roots:
                size = sum(1 for _ in root.modules())
                for module in root.modules():
                    if module not in owners or size < owners[module][0]:
                        owners[module] = (size, name)
        self._owners = {module: name for module, (_, name) in owners.items()}
        self._of_parameter = {
            id(parameter): name
            for module, name in self._owners.items()
            for parameter in module.parameters(recurse=False)
        }
        self._stack: list[str] = []
        self._annotations: list[AbstractContextManager[object]] = []
        self._starts, self._parts = [0], [OTHER]
        self._backward: str | None = None

    @property
    def all_names(self) -> list[str]:
        """The method's parts, then "loss" and "other"."""
        return [*self.names, *(name for name in (LOSS, OTHER) if name not in self.names)]

    def parameters(self) -> dict[str, int]:
        """Return part -> numbers in its modules; each parameter counts once, those of no part as "other"."""
        counted = {name: 0 for name in self.all_names if name != LOSS or LOSS in self.names}
        for parameter in self._method.parameters():
            counted[self._of_parameter.get(id(parameter), OTHER)] += parameter.numel()
        return counted

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow the method's modules and its loss inside; it is left without a trace."""
        with ExitStack() as stack:
            for module, name in self._owners.items():
                before = module.register_forward_pre_hook(functools.partial(self._enter, name))
                after = module.register_forward_hook(self._leave, always_call=True)
                stack.callback(before.remove)
                stack.callback(after.remove)
            stack.enter_context(self._loss_watched())
            yield

    @contextmanager
    def backward(self) -> Iterator[None]:
        """Say that what runs inside is a backward."""
        self._backward = OTHER
        try:
            yield
        finally:
            self._backward = None

    def current(self) -> str:
        """Return the part whose operator runs now."""
        if self._stack or self._backward is None:  # in backward, modules run where they are computed again
            return self._stack[-1] if self._stack else OTHER
        node: Any = torch._C._current_autograd_node()
        if node is not None:  # between nodes gradients are summed up, for the node that ran last
            self._backward = self._part_of(node)
        return self._backward

    def forget(self) -> None:
        """Drop the intervals of past forwards; none of their nodes may run any more."""
        self._starts, self._parts = [0], [OTHER]

    def _part_of(self, node: Any) -> str:
        """Return the part in whose forward a node was made."""
        number = node._sequence_nr()
        if number >= _NO_NUMBER:
            return self._of_parameter.get(id(node.variable), OTHER)
        return self._parts[bisect.bisect_right(self._starts, number) - 1]

    def _enter(self, name: str, module: nn.Module, inputs: Any) -> None:
        self._push(name)

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._pop()

    def _push(self, name: str) -> None:
        annotation = self._annotate(name)
        annotation.__enter__()
        self._annotations.append(annotation)
        self._stack.append(name)
        self._mark()

    def _pop(self) -> None:
        self._stack.pop()
        self._annotations.pop().__exit__(None, None, None)
        self._mark()

    def _mark(self) -> None:
        """Begin an interval: the nodes made from now on belong to the innermost part."""
        self._starts.append(torch._C._autograd._get_sequence_nr())
        self._parts.append(self._stack[-1] if self._stack else OTHER)

    @contextmanager
    def _loss_watched(self) -> Iterator[None]:
        """Take what runs in the method's `loss` for a part of its own."""
        if LOSS in self.names:  # the method's own part of that name says it better
            yield
            return
        whole = self._method.loss

        @functools.wraps(whole)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._push(LOSS)
            try:
                return whole(*args, **kwargs)
            finally:
                self._pop()

        self._method.__dict__["loss"] = watched
        try:
            yield
        finally:
            del self._method.__dict__["loss"]
