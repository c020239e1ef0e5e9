"""Times of a method's forwards and training steps, cases interleaved, after a warm-up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from mmbench.devices import autocast
from mmbench.profiling.energy import EnergyMeter
from mmbench.profiling.report import Latency
from mmbench_baselines.method import Batch, Method

Key = TypeVar("Key")
Work = Callable[[], object]


@dataclass
class Measured:
    """Of one case: seconds of each repetition, and joules where the platform counts them."""

    seconds: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)

    @property
    def median_joules(self) -> float | None:
        """The median energy of a repetition, None where it is not counted."""
        return float(np.median(self.joules)) if self.joules else None


def finisher(device: torch.device) -> Callable[[], None]:
    """Return what waits until a device has done all that was launched; a CPU always has."""
    if device.type == "cuda":
        return partial(torch.cuda.synchronize, device)
    return torch.mps.synchronize if device.type == "mps" else (lambda: None)


def measure_interleaved(
    work: Mapping[Key, Work], finish: Callable[[], None], *, warm_up: int, repetitions: int
) -> dict[Key, Measured]:
    """Time several pieces of work in turns, so that what else runs on the machine meets them alike.

    Args:
        work: By case.
        finish: Waits for the device.
        warm_up: Runs of each before the first that counts.
        repetitions: Runs of each that count.
    """
    for _ in range(warm_up):
        for run in work.values():
            run()
    finish()
    measured: dict[Key, Measured] = {key: Measured() for key in work}
    meter = EnergyMeter()
    for _ in range(repetitions):
        for key, run in work.items():
            energy, began = meter.joules(), time.perf_counter()
            run()
            finish()
            measured[key].seconds.append(time.perf_counter() - began)
            if energy is not None:
                measured[key].joules.append(meter.since(energy))
    return measured


def latency(seconds: Sequence[float], batch_size: int) -> Latency:
    """Return the deciles of some times of a forward over `batch_size` images."""
    p10, p50, p90 = (float(value) for value in np.percentile(seconds, [10, 50, 90]))
    return Latency(p10_ms=p10 * 1e3, p50_ms=p50 * 1e3, p90_ms=p90 * 1e3, images_per_second=batch_size / p50)


def run_inference(method: Method, batch: Batch, precision: str) -> None:
    """Run a forward without gradients; the method must be in evaluation mode."""
    with torch.no_grad(), autocast(batch.present.device, precision):
        method(batch.images, batch.present)


def run_step(
    method: Method,
    batch: Batch,
    precision: str,
    optimizers: Sequence[torch.optim.Optimizer],
    gradient_clip: float | None,
) -> None:
    """Take a training step as `mmbench.training` does; the method must be in training mode."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    with autocast(batch.present.device, precision):
        terms = method.training_step(batch)
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    if gradient_clip is not None:
        torch.nn.utils.clip_grad_norm_(method.parameters(), gradient_clip)
    for optimizer in optimizers:
        optimizer.step()
