"""A method's inference as whole graphs, one for each presence pattern and size."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from mmbench.errors import CellFailedError
from mmbench_baselines.blocks.presence import assume_pattern
from mmbench_baselines.method import Method, Output

# torch gives up after eight graphs of one function; four modalities have fifteen patterns, and a tile's last
# batch is smaller than the others.
_MOST_GRAPHS = 64


class CompiledMethod:
    """Calls like the method in evaluation mode; the first call for a pattern and size compiles.

    The weights are no constants of a graph: they may change between two calls. Results differ from the
    method's by rounding. Torch caches what it compiled on disk, so that a second process waits for less.
    """

    def __init__(self, method: Method, backend: str = "inductor") -> None:
        """Compile nothing yet.

        Args:
            method: Put into evaluation mode.
            backend: Of torch.compile.
        """
        self.method = method.eval()
        self.seconds = 0.0
        """Spent in calls that compiled."""
        self.graphs = 0
        self._known: set[tuple[object, ...]] = set()

        def run(images: Mapping[str, Tensor], present: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            output = method(images, present)
            return output.logits, output.imputed

        self._run = torch.compile(run, fullgraph=True, dynamic=False, backend=backend)

    def summary(self) -> dict[str, float]:
        """Return the number of graphs and the seconds that they took to compile and run first."""
        return {"graphs": self.graphs, "seconds": round(self.seconds, 1)}

    def eval(self) -> CompiledMethod:
        """Return itself, with the method in evaluation mode."""
        self.method.eval()
        return self

    def __call__(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment a batch; see `Method.forward`. A batch of several patterns is not compiled.

        Raises:
            CellFailedError: If the method cannot be compiled as one graph.
        """
        if len(present) == 0 or bool((present != present[0]).any()):
            mixed: Output = self.method(images, present)
            return mixed
        pattern = tuple(bool(there) for there in present[0].tolist())
        shapes = {name: tuple(image.shape) for name, image in images.items()}
        key = (pattern, *shapes.items(), torch.is_autocast_enabled(present.device.type))
        began = time.perf_counter()
        try:
            with assume_pattern(pattern), torch._dynamo.config.patch(recompile_limit=_MOST_GRAPHS):
                logits, imputed = self._run(images, present)
        except torch._dynamo.exc.TorchDynamoException as error:
            why = str(error).strip().splitlines()[0]
            raise CellFailedError(
                f"{type(self.method).__name__} cannot be compiled as one graph: {why}; leave --compile out"
            ) from error
        if key not in self._known:
            self._known.add(key)
            self.graphs += 1
            self.seconds += time.perf_counter() - began
        return Output(logits, imputed=imputed)
