"""Memory that a forward keeps for its backward: each storage once, by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmbench.profiling.operators import storage_of


class SavedTensors:
    """Adds up what autograd keeps inside the first `watching`; later ones do no harm and are not counted.

    Attributes:
        of_first: Part -> bytes.
    """

    def __init__(self, method: nn.Module, current_part: Callable[[], str]) -> None:
        """Begin with nothing kept.

        Args:
            method: Its parameters and buffers are there anyway and do not count.
            current_part: Tells whose forward runs.
        """
        self._current_part = current_part
        self._known = {storage_of(t) for t in (*method.parameters(), *method.buffers())}
        self.of_first: dict[str, int] = {}
        self._done = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what is kept by forwards inside."""
        if self._done:
            yield
            return
        self._done = True
        with torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor):
            yield

    def _count(self, tensor: Tensor) -> Tensor:
        reference = storage_of(tensor)
        if reference not in self._known:
            self._known.add(reference)
            part = self._current_part()
            self.of_first[part] = self.of_first.get(part, 0) + tensor.untyped_storage().nbytes()
        return tensor
