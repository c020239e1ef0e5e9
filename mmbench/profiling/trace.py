"""A chrome trace of one forward and one training step, with the method's parts; chrome://tracing opens it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mmbench.errors import EnvironmentMissingError
from mmbench.profiling.part_tracker import PartTracker
from mmbench_baselines.method import Method


def write_trace(
    path: Path, method: Method, inference: Callable[[], object], step: Callable[[], object] | None
) -> None:
    """Run both once under torch's profiler.

    Args:
        path: The JSON to write.
        method: Whose parts are shown.
        inference: Runs a forward.
        step: Runs a training step, if one is wanted.

    Raises:
        EnvironmentMissingError: If the file cannot be written.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    if next(method.parameters()).device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    tracker = PartTracker(method, annotate=torch.profiler.record_function)
    with torch.profiler.profile(activities=activities) as profiler, tracker.watching():
        method.eval()
        with torch.profiler.record_function("inference"):
            inference()
        if step is not None:
            method.train()
            with torch.profiler.record_function("training step"):
                step()
    profiler.export_chrome_trace(str(path))
    if not path.is_file():  # the tracer itself raises nothing
        raise EnvironmentMissingError(
            f"trace {path} could not be written; check the path, its rights and the disk"
        )
