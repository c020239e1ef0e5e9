"""Profiling one method in a process of its own, so that the memory measured is that method's."""

from __future__ import annotations

import multiprocessing
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmbench.allocator import keep_freed_memory
from mmbench.errors import CellFailedError, MMBenchError
from mmbench.profiling.batches import profiling_batch, random_images
from mmbench.profiling.counts import MethodCounts, count_method
from mmbench.profiling.memory import PeakMemory, load_what_comes_late
from mmbench.profiling.part_tracker import PartTracker
from mmbench.profiling.report import Memory, MethodProfile
from mmbench.profiling.timing import finisher, latency, measure_interleaved, run_inference, run_step
from mmbench.profiling.trace import write_trace
from mmbench.recipe import TrainingRecipe
from mmbench.registry import VARIANT_MARK, add_file, find, names
from mmbench.scenarios.scenario import Scenario, whole_modality_scenarios
from mmbench.training import resolve_training
from mmbench_baselines.method import Batch, Method

_Key = tuple[int, str]
"""(batch size, scenario)."""


@dataclass(frozen=True)
class Job:
    """What one process is to profile.

    Attributes:
        method: Key, with the variant.
        file: The method's source, for a process that does not know the key yet.
        options: Keyword arguments of the method.
        modalities: Name -> channels.
        num_classes: K.
        ignore_index: Of targets.
        training: Optimiser and clipping of a step.
        size: Height and width, pixels.
        batch_sizes: Images.
        device: Its name.
        precision: "float32" or "bfloat16".
        threads: Of torch on the CPU.
        keep_memory: Whether the allocator keeps freed memory.
        timed: Whether times and memory are measured.
        warm_up: Runs of each kind before the first that counts.
        repetitions: Timed forwards of each case.
        training_repetitions: Timed steps of each case.
        trace: Chrome trace to write.
    """

    method: str
    file: Path
    options: dict[str, Any]
    modalities: dict[str, int]
    num_classes: int
    ignore_index: int
    training: TrainingRecipe
    size: int
    batch_sizes: tuple[int, ...]
    device: str
    precision: str
    threads: int
    keep_memory: bool
    timed: bool
    warm_up: int
    repetitions: int
    training_repetitions: int
    trace: Path | None = None


def profile_in_process(job: Job) -> MethodProfile:
    """Profile a method in a fresh process.

    Raises:
        CellFailedError: If the method fails, or its process is ended from outside.
    """
    # Read when the new process loads torch: its tracer otherwise reports each start and stop on the terminal.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            return pool.submit(profile_method, job).result()
        except MMBenchError:
            raise
        except BrokenProcessPool as error:
            raise CellFailedError(
                f"method {job.method!r}: its process was ended from outside, as it is where memory runs out; "
                "take a smaller --size or --batch"
            ) from error
        # A method is a stranger's code: whatever it raises is said in one line.
        except Exception as error:
            words = " ".join(str(error).split())
            raise CellFailedError(
                f"method {job.method!r} failed while it was profiled: {type(error).__name__}: {words}"
            ) from error


def profile_method(job: Job) -> MethodProfile:
    """Profile a method in this process; its settings of threads and memory are changed."""
    if job.keep_memory:
        keep_freed_memory()
    torch.set_num_threads(job.threads)
    if job.method.partition(VARIANT_MARK)[0] not in names("method"):
        add_file("method", job.file)
    scenarios = whole_modality_scenarios(list(job.modalities))
    device = torch.device(job.device)
    load_what_comes_late(device)
    peak = PeakMemory(device)
    torch.manual_seed(0)
    method = find("method", job.method)(
        job.modalities, job.num_classes, ignore_index=job.ignore_index, **job.options
    ).to(device)
    if job.timed:
        counts = _measure(job, method, scenarios, peak)
    else:
        counts = count_method(method, scenarios, job.batch_sizes, job.size, precision=job.precision)
    if job.trace is not None:
        _trace(job, method, scenarios[0], job.trace)
    return MethodProfile(
        name=job.method,
        title=method.title,
        options=job.options,
        parameters_trained=sum(p.numel() for p in method.parameters() if p.requires_grad),
        parameters_inference=counts.parameters_inference,
        parameters_of_parts=PartTracker(method).parameters(),
        counted_on=counts.counted_on,
        cases=tuple(counts.cases),
    )


def _measure(job: Job, method: Method, scenarios: Sequence[Scenario], peak: PeakMemory) -> MethodCounts:
    """Measure times and memory of every case; training moves the weights."""
    finish = finisher(torch.device(job.device))
    batches = _batches(job, method, scenarios)
    method.eval()
    forwards = {key: partial(run_inference, method, b, job.precision) for key, b in batches.items()}
    inference = measure_interleaved(forwards, finish, warm_up=job.warm_up, repetitions=job.repetitions)
    # Before there are gradients and optimiser state, which a user who only predicts does not have.
    inference_bytes = {key: peak.of(run) for key, run in forwards.items()}
    method.train()
    step = _step(job, method)
    steps = {key: partial(step, batch) for key, batch in batches.items()}
    training = measure_interleaved(steps, finish, warm_up=job.warm_up, repetitions=job.training_repetitions)
    training_bytes = {key: peak.of(run) for key, run in steps.items()}
    method.zero_grad(set_to_none=True)
    counts = count_method(
        method, scenarios, job.batch_sizes, job.size, precision=job.precision, finish=finish
    )
    for index, case in enumerate(counts.cases):
        key = (case.batch_size, case.scenario)
        counts.cases[index] = case.model_copy(
            update={
                "latency": latency(inference[key].seconds, case.batch_size),
                "step_seconds": statistics.median(training[key].seconds),
                "memory": Memory(inference_bytes=inference_bytes[key], training_bytes=training_bytes[key]),
                "inference_joules": inference[key].median_joules,
                "training_joules": training[key].median_joules,
            }
        )
    return counts


def _batches(job: Job, method: Method, scenarios: Sequence[Scenario]) -> dict[_Key, Batch]:
    """Return the batch of every case."""
    device = torch.device(job.device)
    return {
        (batch_size, scenario.name): profiling_batch(
            method, scenario, batch_size, job.size, device, random_images(device)
        )
        for batch_size in job.batch_sizes
        for scenario in scenarios
    }


def _step(job: Job, method: Method) -> partial[None]:
    """Return what takes a training step on a batch."""
    optimizers = method.configure_optimizers(resolve_training(method, job.training).optimizer)
    return partial(
        run_step,
        method,
        precision=job.precision,
        optimizers=optimizers,
        gradient_clip=job.training.gradient_clip,
    )


def _trace(job: Job, method: Method, scenario: Scenario, path: Path) -> None:
    """Write the trace of one case: the first scenario at the first batch size."""
    batch = next(iter(_batches(job, method, [scenario]).values()))
    step = _step(job, method)
    write_trace(path, method, partial(run_inference, method, batch, job.precision), partial(step, batch))
