"""What a method computes under each scenario, counted pass by pass and part by part."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch

from mmbench.devices import autocast
from mmbench.profiling.batches import MakeImage, profiling_batch, random_images
from mmbench.profiling.counting import Counter, Pass
from mmbench.profiling.dry_run import DryRun
from mmbench.profiling.formulas import UncountedOperatorError
from mmbench.profiling.part_tracker import PartTracker
from mmbench.profiling.report import Case, Costs, Share
from mmbench.profiling.saved_tensors import SavedTensors
from mmbench.scenarios.scenario import Scenario
from mmbench_baselines.method import Batch, Method
from mmbench_kernels._availability import gpu_path, triton_reasons

DRY_RUN = "dry run"
_TIMED_RUNS = 3
"""Over which the shares of time are taken."""
_LOG = logging.getLogger("mmbench")


@dataclass
class MethodCounts:
    """What was counted of a method.

    Attributes:
        cases: Scenario by scenario within each batch size.
        parameters_inference: Of those parameters that a forward in evaluation mode read in any scenario.
        counted_on: "dry run", or the device where the method cannot run dry.
    """

    cases: list[Case] = field(default_factory=list)
    parameters_inference: int = 0
    counted_on: str = DRY_RUN


def count_method(
    method: Method,
    scenarios: Sequence[Scenario],
    batch_sizes: Sequence[int],
    size: int,
    *,
    precision: str = "float32",
    training: bool = True,
    finish: Callable[[], None] | None = None,
) -> MethodCounts:
    """Count every scenario at every batch size; neither the method nor torch's random state is changed.

    Nothing is computed, as long as the method can run dry; one that cannot runs on its device. What is
    counted is the path that operators take on the method's device.

    Args:
        method: On any device.
        scenarios: To count.
        batch_sizes: Images.
        size: Height and width, pixels.
        precision: "float32" or "bfloat16".
        training: Whether training steps are counted too.
        finish: Waits for the device: given, the method runs on its device, each operator is timed, and the
            cases hold shares of time.

    Raises:
        UncountedOperatorError: If an operator has no formula.
    """
    device = next(method.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            if finish is None:
                return _count_all(method, scenarios, batch_sizes, size, precision, training, None, dry=True)
        except UncountedOperatorError:
            raise
        # Whatever a stranger's method does to values that are none, it may still run on real ones.
        except Exception as error:  # noqa: BLE001
            _LOG.warning("the method cannot run dry (%s: %s)", type(error).__name__, error)
        return _count_all(method, scenarios, batch_sizes, size, precision, training, finish, dry=False)


def _count_all(
    method: Method,
    scenarios: Sequence[Scenario],
    batch_sizes: Sequence[int],
    size: int,
    precision: str,
    training: bool,
    finish: Callable[[], None] | None,
    *,
    dry: bool,
) -> MethodCounts:
    """Count on a copy: training changes running statistics and leaves gradients."""
    subject = copy.deepcopy(method)
    takes_triton = not triton_reasons(next(method.parameters()).device, torch.float32)
    subject = subject.cpu() if dry else subject
    device = next(subject.parameters()).device
    counts = MethodCounts(counted_on=DRY_RUN if dry else str(device))
    read: dict[int, int] = {}
    dry_run = DryRun()
    for batch_size in batch_sizes:
        for scenario in scenarios:
            with ExitStack() as stack:
                make: MakeImage = random_images(device)
                if dry and takes_triton:
                    stack.enter_context(gpu_path())
                if dry:
                    make = stack.enter_context(dry_run).hollow
                batch = profiling_batch(subject, scenario, batch_size, size, device, make)
                case, counter = count_case(
                    subject, scenario, batch, precision=precision, training=training, finish=finish
                )
            counts.cases.append(case)
            read |= {key: parameter.numel() for key, parameter in counter.parameters.items()}
    counts.parameters_inference = sum(read.values())
    return counts


def count_case(
    method: Method,
    scenario: Scenario,
    batch: Batch,
    *,
    precision: str = "float32",
    training: bool = True,
    finish: Callable[[], None] | None = None,
) -> tuple[Case, Counter]:
    """Run one batch through a method, in evaluation and in training, and count.

    Args:
        method: Left with gradients set to None, in the mode of the last pass.
        scenario: Of the batch.
        batch: All of one scenario.
        precision: "float32" or "bfloat16".
        training: Whether a training step is run.
        finish: Waits for the device; given, operators are timed in a few more runs.
    """
    tracker = PartTracker(method)
    saved = SavedTensors(method, tracker.current)
    counter = Counter(tracker.current)
    _run_passes(method, batch, precision, training, tracker, counter, saved)
    clock = Counter(tracker.current, finish)
    if finish is not None:
        for _ in range(_TIMED_RUNS):
            _run_passes(method, batch, precision, training, tracker, clock, saved)
    sums = _Sums(counter, clock, saved.of_first)
    case = Case(
        scenario=scenario.name,
        present=scenario.present,
        batch_size=len(batch.present),
        costs=sums.costs(),
        parts=tuple(sums.share(name, part=name) for name in tracker.all_names),
        operators=tuple(sums.share(name, kind=name) for name in counter.kinds),
    )
    return case, counter


def _run_passes(
    method: Method,
    batch: Batch,
    precision: str,
    training: bool,
    tracker: PartTracker,
    counter: Counter,
    saved: SavedTensors,
) -> None:
    """Run a forward in evaluation, and a training step without its optimiser."""
    device = batch.present.device
    tracker.forget()
    with tracker.watching():
        method.eval()
        with torch.no_grad(), autocast(device, precision), counter.during("inference"):
            method(batch.images, batch.present)
        if not training:
            return
        method.train()
        with autocast(device, precision), saved.watching(), counter.during("training_forward"):
            loss = torch.stack(list(method.training_step(batch).values())).sum()
        with tracker.backward(), counter.during("training_backward"):
            torch.autograd.backward(loss)
        method.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class _Sums:
    """Adds up what was counted, by part or by kind of operator."""

    counter: Counter
    clock: Counter
    saved: Mapping[str, int]

    def costs(self, *, part: str | None = None, kind: str | None = None) -> Costs:
        """Return the counts of the three passes, of one part or kind or of all."""
        kept = sum(self.saved.values()) if part is None else self.saved.get(part, 0)
        return Costs(
            inference=self.counter.total("inference", part=part, kind=kind).work,
            training_forward=self.counter.total("training_forward", part=part, kind=kind).work,
            training_backward=self.counter.total("training_backward", part=part, kind=kind).work,
            saved_bytes=kept if kind is None else 0,  # autograd keeps for nodes, not for operators
        )

    def share(self, name: str, *, part: str | None = None, kind: str | None = None) -> Share:
        """Return a part's or a kind's counts and its share of the operators' time."""
        return Share(
            name=name,
            costs=self.costs(part=part, kind=kind),
            inference_time=self._time_share(("inference",), part, kind),
            training_time=self._time_share(("training_forward", "training_backward"), part, kind),
        )

    def _time_share(self, passes: tuple[Pass, ...], part: str | None, kind: str | None) -> float | None:
        """Return the share of time, None where nothing was timed."""
        whole = sum(self.clock.total(name).seconds for name in passes)
        own = sum(self.clock.total(name, part=part, kind=kind).seconds for name in passes)
        return own / whole if whole else None
