"""Times of several forms of one piece of work that take turns, on inputs that no cache still holds.

On CUDA events on the device tell the time, after the second-level cache was overwritten and the device was
idle; so a form that queues its work slowly is seen to. On a CPU the wall clock tells it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch

Stage = Callable[[], object]
Prepare = Callable[[int], Sequence[Stage]]
"""Gives, for the number of a set of inputs, the stages of one run, each of which has a time of its own."""

_UNKNOWN_CACHE = 64 << 20


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        warm_up_ms: That each form runs before it is timed, ms; at least one run.
        least: Rounds at least; in a round each form runs once.
        most: Rounds at most.
        seconds: After which no more rounds begin than `least`.
    """

    warm_up_ms: float
    least: int
    most: int
    seconds: float

    def __post_init__(self) -> None:
        """Refuse what would measure nothing."""
        if not 1 <= self.least <= self.most:
            raise ValueError(f"Effort: least {self.least}, most {self.most}; expected 1 <= least <= most")


# So many rounds leave a median that a change of the clock in between does not move.
ON_CUDA = Effort(warm_up_ms=25, least=100, most=400, seconds=1.0)
ON_CPU = Effort(warm_up_ms=0, least=2, most=15, seconds=0.2)


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one stage, or of several together, over all rounds."""

    median_ms: float
    p20_ms: float
    p80_ms: float
    rounds: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Summarise the rounds."""
        p20, p50, p80 = (1e3 * float(value) for value in np.percentile(seconds, [20, 50, 80]))
        return cls(p50, p20, p80, len(seconds))


class Stopwatch(Protocol):
    """Runs stages one after the other."""

    def laps(self, stages: Sequence[Stage]) -> list[float]:
        """Return the seconds of each stage."""


class CpuStopwatch:
    """The wall clock, for work that is done when its call returns."""

    def laps(self, stages: Sequence[Stage]) -> list[float]:
        """Return the seconds of each stage."""
        marks = [time.perf_counter()]
        for stage in stages:
            result = stage()
            marks.append(time.perf_counter())
            del result  # freed outside of the next lap
        return [end - start for start, end in pairwise(marks)]


class CudaStopwatch:
    """Events on the device, from an idle device with an overwritten second-level cache on.

    Between two stages the host does not wait: a backward pass is queued while the forward pass still runs.
    """

    def __init__(self, device: torch.device) -> None:
        """Reserve what overwrites the cache of a device."""
        self._device = device
        self._filler = torch.empty(2 * cache_bytes(device), dtype=torch.uint8, device=device)

    def laps(self, stages: Sequence[Stage]) -> list[float]:
        """Return the seconds of each stage."""
        events = [torch.cuda.Event(enable_timing=True) for _ in range(len(stages) + 1)]
        self._filler.zero_()
        torch.cuda.synchronize(self._device)
        events[0].record()
        for stage, event in zip(stages, events[1:], strict=True):
            stage()
            event.record()
        torch.cuda.synchronize(self._device)
        return [start.elapsed_time(end) / 1e3 for start, end in pairwise(events)]


def stopwatch_of(device: torch.device) -> Stopwatch:
    """Return what tells the time of work on a device."""
    return CudaStopwatch(device) if device.type == "cuda" else CpuStopwatch()


def cache_bytes(device: torch.device) -> int:
    """Return the size of the last cache before the memory of a device."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size) or _UNKNOWN_CACHE
    if "SC_LEVEL3_CACHE_SIZE" not in getattr(os, "sysconf_names", {}):
        return _UNKNOWN_CACHE
    return max(os.sysconf("SC_LEVEL3_CACHE_SIZE"), 0) or _UNKNOWN_CACHE


def sets_for(bytes_of_set: int, cache: int, cap: int) -> int:
    """Return how many sets of inputs exceed a cache twice, as far as memory goes; at least one.

    Args:
        bytes_of_set: Of one set of inputs.
        cache: Size of the cache, bytes.
        cap: All sets together stay below, bytes.
    """
    if bytes_of_set < 1:
        raise ValueError(f"sets_for: a set of inputs has {bytes_of_set} bytes, expected 1 or more")
    return max(1, min(math.ceil(2 * cache / bytes_of_set), cap // bytes_of_set))


def time_interleaved(
    forms: Mapping[str, Prepare], stopwatch: Stopwatch, effort: Effort, *, sets: int
) -> dict[str, list[list[float]]]:
    """Run every form once a round, in turn, forwards and backwards; each run takes the next set of inputs.

    Args:
        forms: By name. What a form prepares for a set is not timed, its stages are.
        stopwatch: Tells the time.
        effort: How long.
        sets: Of inputs; numbers from 0 below it are given to the forms.

    Returns:
        For each form and round the seconds of each stage.
    """
    for prepare in forms.values():
        _warm_up(prepare, stopwatch, effort.warm_up_ms / 1e3, sets)
    laps: dict[str, list[list[float]]] = {name: [] for name in forms}
    order = list(forms)
    began = time.perf_counter()
    for done in range(effort.most):
        if done >= effort.least and time.perf_counter() - began > effort.seconds:
            break
        for name in order:
            # By its own rounds: every form meets every set equally often.
            laps[name].append(stopwatch.laps(forms[name](done % sets)))
        order.reverse()
    return laps


def _warm_up(prepare: Prepare, stopwatch: Stopwatch, seconds: float, sets: int) -> None:
    """Run a form at least once, and until it has worked for so long."""
    worked, runs = 0.0, 0
    while not runs or worked < seconds:
        worked += sum(stopwatch.laps(prepare(runs % sets)))
        runs += 1
