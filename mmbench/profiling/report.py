"""What a profile holds, by method, scenario, batch size and part; to and from JSON.

FLOP and MAC are never mixed: every count here is FLOP, 2 for a multiply-accumulate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mmbench.errors import DataError

OTHER = "other"
"""The part of the work that belongs to none of a method's parts."""
LOSS = "loss"
"""The part of the work done in a method's `loss` outside its parts."""


class _Stored(BaseModel):
    """Strict and unchangeable, as what was measured is."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Work(_Stored):
    """Counted work.

    Attributes:
        flops: Of convolutions, matrix products and attention, 2 for a multiply-accumulate. All else (norms,
            activations, resampling, losses) is bound by memory and seen in `bytes`.
        bytes: Read and written by the operators, each operator's inputs once and its outputs once.
        launches: Operators that do work; views and empty allocations are none.
    """

    flops: int = 0
    bytes: int = 0
    launches: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates: half of the FLOP."""
        return self.flops // 2

    @property
    def flops_per_byte(self) -> float:
        """Arithmetic intensity; 0 where nothing is moved."""
        return self.flops / self.bytes if self.bytes else 0.0

    def __add__(self, other: Work) -> Work:
        """Return the work of both."""
        return Work(
            flops=self.flops + other.flops,
            bytes=self.bytes + other.bytes,
            launches=self.launches + other.launches,
        )


class Costs(_Stored):
    """Counted work of the three passes over one batch.

    Attributes:
        inference: Forward in evaluation mode without gradients.
        training_forward: `training_step`: forward, whatever else training needs, and the loss.
        training_backward: Of the sum of the loss terms.
        saved_bytes: Kept between forward and backward, each storage once, parameters not counted.
    """

    inference: Work = Work()
    training_forward: Work = Work()
    training_backward: Work = Work()
    saved_bytes: int = 0

    @property
    def training(self) -> Work:
        """Forward and backward of a training step, without the optimiser."""
        return self.training_forward + self.training_backward


class Share(_Stored):
    """A named part of a case, or the operators of one kind in it.

    Attributes:
        name: Of `Method.parts()`, or "loss" or "other"; or the kind of operators.
        costs: Counted; over all parts, and over all kinds, they sum to the case's.
        inference_time: Share of the operators' time of a forward in evaluation mode, 0 to 1; None untimed.
        training_time: The same of a training step's forward and backward.
    """

    name: str
    costs: Costs
    inference_time: float | None = None
    training_time: float | None = None


class Latency(_Stored):
    """Times of one forward in evaluation mode, milliseconds, over the repetitions."""

    p10_ms: float
    p50_ms: float
    p90_ms: float
    images_per_second: float


class Memory(_Stored):
    """Peak memory, bytes.

    On the CPU the growth of the resident set over the process before the method was built, on CUDA what the
    allocator gave out. Weights, and in training gradients and optimiser state, count.
    """

    inference_bytes: int | None = None
    training_bytes: int | None = None


class Case(_Stored):
    """One scenario at one batch size.

    Attributes:
        scenario: Its name, of `mmbench.scenarios`.
        present: One bool a modality.
        batch_size: Images.
        costs: Counted.
        parts: By part of the method.
        operators: By kind of operator.
        latency: None where nothing was timed; so too for the next four.
        step_seconds: Median of a training step: forward, loss, backward, optimisers.
        memory: Peak of the process that profiled this method.
        inference_joules: Energy of one forward, where the platform reports it.
        training_joules: Energy of one training step.
    """

    scenario: str
    present: tuple[bool, ...]
    batch_size: int
    costs: Costs
    parts: tuple[Share, ...]
    operators: tuple[Share, ...] = ()
    latency: Latency | None = None
    step_seconds: float | None = None
    memory: Memory | None = None
    inference_joules: float | None = None
    training_joules: float | None = None


class MethodProfile(_Stored):
    """One method, with its options.

    Attributes:
        name: Its key, with the variant, as mmformer:small.
        title: For people.
        options: Those that were set.
        parameters_trained: Of all modules that training changes.
        parameters_inference: Of those that a forward in evaluation mode used in any scenario.
        parameters_of_parts: Part -> parameters of its modules, each once; "other" has those of no part.
        counted_on: "dry run" (nothing computed) or the device.
        cases: Scenario by scenario within each batch size.
    """

    name: str
    title: str
    options: dict[str, Any] = {}
    parameters_trained: int
    parameters_inference: int
    parameters_of_parts: dict[str, int] = {}
    counted_on: str
    cases: tuple[Case, ...]

    def case(self, scenario: str, batch_size: int) -> Case:
        """Return one case.

        Raises:
            KeyError: If it was not profiled.
        """
        for case in self.cases:
            if (case.scenario, case.batch_size) == (scenario, batch_size):
                return case
        raise KeyError(f"{self.name}: no scenario {scenario!r} at batch size {batch_size}")


class Settings(_Stored):
    """How the figures were taken.

    Attributes:
        dataset: Its key; it gives modalities and classes, no pixel is read.
        modalities: Name -> channels.
        num_classes: K.
        size: Height and width of the images, pixels.
        batch_sizes: Images.
        device: In words.
        precision: "float32" or "bfloat16" (autocast).
        threads: Of torch on the CPU.
        allocator: How freed memory is treated.
        torch: Its version.
        images: What the methods were given.
        timed: Whether times and memory were taken; else only counts.
        warm_up: Runs before the first that counts, of each kind.
        repetitions: Timed forwards of each case; of training steps `training_repetitions`.
    """

    dataset: str
    modalities: dict[str, int]
    num_classes: int
    size: int
    batch_sizes: tuple[int, ...]
    device: str
    precision: str
    threads: int
    allocator: str
    torch: str
    images: Literal["random"] = "random"
    timed: bool = False
    warm_up: int = 0
    repetitions: int = 0
    training_repetitions: int = 0


class ProfileReport(_Stored):
    """What `mmbench profile` found."""

    schema_version: Literal[1] = 1
    settings: Settings
    methods: tuple[MethodProfile, ...]


def write_report(path: Path, report: ProfileReport) -> None:
    """Write a report as JSON."""
    path.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_report(path: Path) -> ProfileReport:
    """Read a report.

    Raises:
        DataError: If the file cannot be read or is no report of this schema.
    """
    try:
        return ProfileReport.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"profile {path}: {where}: {first['msg']}; expected what 'mmbench profile --json' writes"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"profile {path}: cannot be read ({error})") from error
