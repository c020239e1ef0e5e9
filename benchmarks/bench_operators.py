"""The operators against every other way to compute them, on whatever device there is.

`pytest benchmarks/bench_operators.py --benchmark-only` prints a table at its end, `--operators FILE` keeps
all figures. All forms of a case take turns in one run, so compare inside a case only. A form is held against
the definition in float64 first, and is not timed if it is wrong. Forward is without gradients; backward alone
is the second half of both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import starmap
from pathlib import Path

import pytest
import torch
from interleaved import ON_CPU, ON_CUDA, Timing, cache_bytes, sets_for, stopwatch_of, time_interleaved
from operator_cases import LIMITS, Case, Inputs, cases
from operator_forms import Form, Run, compiled
from operator_table import operator_table
from torch import Tensor

import mmbench_kernels
from mmbench.devices import describe_device
from mmbench.profiling.roofline import Roofs, measure_roofs
from mmbench.reporting.tables import console_text
from mmbench.sources import hash_sources
from mmbench_kernels._availability import triton_reasons

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IS_CUDA = DEVICE.type == "cuda"
MEMORY_OF_SETS = (4 << 30) if IS_CUDA else (48 << 20)
CASES = {case.name: case for case in cases(DEVICE)}


class Measured:
    """All cases of a run."""

    def __init__(self) -> None:
        self.cases: list[dict[str, object]] = []
        self.refused: list[str] = []
        self.roofs: dict[torch.dtype, Roofs] = {}

    def as_json(self) -> dict[str, object]:
        """Return what is stored."""
        return {
            "machine": f"{describe_device(DEVICE)}, torch {torch.__version__}",
            "sources": source_hash(),
            "roofs": {str(dtype): roofs.words for dtype, roofs in self.roofs.items()},
            "refused": self.refused,
            "cases": self.cases,
        }

    def roofs_of(self, dtype: torch.dtype) -> Roofs:
        """Return the roofs of a dtype, measured once; float16 has those of bfloat16."""
        kind = torch.float32 if dtype == torch.float32 else torch.bfloat16
        if kind not in self.roofs:
            repeats, mib = (20, 512) if IS_CUDA else (3, 64)
            self.roofs[kind] = measure_roofs(DEVICE, dtype=kind, repeats=repeats, array_mib=mib)
        return self.roofs[kind]


def source_hash() -> str:
    """Return the hash of the operators' code."""
    return hash_sources(Path(mmbench_kernels.__file__).parent.rglob("*.py"))


@pytest.fixture(scope="module")
def measured(said_at_the_end, request):
    """What is measured, told and kept at the end; products of float32 are exact meanwhile, for all forms."""
    found = Measured()
    exact = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    yield found
    torch.backends.cudnn.allow_tf32 = exact[0]
    torch.set_float32_matmul_precision(exact[1])
    said_at_the_end.append(console_text(operator_table(found.as_json())))
    if (file := request.config.getoption("--operators")) is not None:
        file.write_text(json.dumps(found.as_json(), indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Subject:
    """A form and its sets of inputs, in its own layout."""

    form: Form
    sets: Sequence[Inputs]
    seeds: Sequence[Tensor]

    def inference(self, number: int) -> list[partial[object]]:
        """Return the stage of a forward pass without gradients."""
        return [partial(torch.no_grad()(self._run), self.form.run, self.sets[number])]

    def training(self, number: int) -> list[partial[object]]:
        """Return the stages of a forward pass and of a backward pass."""
        inputs, held = self.sets[number], []
        return [
            partial(lambda: held.append(self._run(self.form.run, inputs))),
            partial(lambda: torch.autograd.grad(held.pop(), inputs.leaves, self.seeds[number])),
        ]

    @staticmethod
    def _run(run: Run, inputs: Inputs) -> Tensor:
        return run(*inputs.leaves, **inputs.given)


def _in_layout(inputs: Inputs, form: Form) -> Inputs:
    """Return a copy of inputs as a form wants them, to be differentiated."""
    leaves = [
        leaf.detach().clone(memory_format=form.memory_format if leaf.ndim == 4 else torch.preserve_format)
        for leaf in inputs.leaves
    ]
    return replace(inputs, leaves=tuple(leaf.requires_grad_() for leaf in leaves))


def _relative_error(found: Tensor, expected: Tensor) -> float:
    distance = (found.detach().double() - expected).norm()
    return float(distance / expected.norm()) if expected.any() else float(distance)


@dataclass(frozen=True)
class Expected:
    """What the definition gives in float64 for the part of a case that is looked at."""

    result: Tensor
    gradients: Sequence[Tensor]
    seed: Tensor

    @classmethod
    def of(cls, case: Case, definition: Run, inputs: Inputs) -> Expected:
        """Compute it, with a random gradient of the result."""
        leaves = [case.part(leaf).detach().double().requires_grad_() for leaf in inputs.leaves]
        result = definition(*leaves, **inputs.given)
        seed = torch.randn(result.shape).to(DEVICE, case.dtype)
        return cls(result.detach(), torch.autograd.grad(result, leaves, seed.double()), seed)


def _errors(case: Case, form: Form, expected: Expected, inputs: Inputs) -> tuple[float, float]:
    """Return the error of a form's result and the largest of its gradients'."""
    # Ours are run as they are timed, others may be asked for the part only.
    part = case.part if form.is_ours else (lambda x: x)
    asked = inputs if form.is_ours else replace(inputs, leaves=tuple(map(case.part, inputs.leaves)))
    leaves = _in_layout(asked, form).leaves
    found = (form.checked or form.run)(*leaves, **inputs.given)
    seed = torch.zeros_like(found)
    part(seed).copy_(expected.seed)
    gradients = map(part, torch.autograd.grad(found, leaves, seed))
    pairs = zip(gradients, expected.gradients, strict=True)
    return _relative_error(part(found), expected.result), max(starmap(_relative_error, pairs))


def _right_forms(case: Case, forms: dict[str, Form], definition: Run, measured: Measured) -> dict[str, Form]:
    """Return the forms that are as exact as they must be; ours must."""
    inputs, right = case.make(DEVICE), {}
    expected = Expected.of(case, definition, inputs)
    undropped = expected
    if any(form.checked for form in forms.values()):
        undropped = Expected.of(case, partial(definition, dropped=False), inputs)
    for name, form in forms.items():
        found = _errors(case, form, undropped if form.checked else expected, inputs)
        if all(error <= limit for error, limit in zip(found, LIMITS[case.dtype], strict=True)):
            right[name] = form
            continue
        words = f"{case.name}: {name} is off by {found[0]:.1e}, its gradients by {found[1]:.1e}"
        assert not form.is_ours, words
        measured.refused.append(words)
    return right


def _subjects(case: Case, forms: dict[str, Form]) -> dict[str, Subject]:
    """Return the forms with inputs that no cache holds until their turn comes again."""
    first = case.make(DEVICE)
    count = sets_for(first.bytes, cache_bytes(DEVICE), MEMORY_OF_SETS // len(forms))
    sets = [first, *(case.make(DEVICE) for _ in range(count - 1))]
    subjects = {}
    for name, form in forms.items():
        own = [_in_layout(each, form) for each in sets]
        with torch.no_grad():
            result = form.run(*own[0].leaves, **own[0].given)
        subjects[name] = Subject(form, own, [torch.ones_like(result) for _ in own])
    return subjects


def _measure(case: Case, subjects: dict[str, Subject]) -> dict[str, dict[str, Timing]]:
    """Return the times of each form by mode."""
    stopwatch, effort = stopwatch_of(DEVICE), ON_CUDA if IS_CUDA else ON_CPU
    sets = len(next(iter(subjects.values())).sets)
    inference, training = (
        time_interleaved(
            {name: getattr(subject, kind) for name, subject in subjects.items()}, stopwatch, effort, sets=sets
        )
        for kind in ("inference", "training")
    )
    return {
        name: {
            "forward": Timing.of([laps[0] for laps in inference[name]]),
            "backward": Timing.of([laps[1] for laps in training[name]]),
            "both": Timing.of([sum(laps) for laps in training[name]]),
        }
        for name in subjects
    }


def _bounds(case: Case, subject: Subject, roofs: Roofs, modes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return by mode the bytes and FLOP that are needed, and the least milliseconds that the roofs allow."""
    result = subject.seeds[0].nbytes
    found = {}
    for mode in modes:
        flops, moved = case.flops(mode), case.compulsory_bytes(mode, subject.sets[0], result)
        seconds = max(flops / roofs.flops_per_second, moved / roofs.bytes_per_second)
        found[mode] = {"bytes": moved, "flops": flops, "ms": 1e3 * seconds}
    return found


@pytest.mark.parametrize("name", CASES)
def test_operator(benchmark, measured, request, name):
    case = CASES[name]
    torch.manual_seed(0)
    backends = ["torch"] if triton_reasons(DEVICE, case.dtype) else ["torch", "triton"]
    forms, definition = case.forms_of(backends=backends)
    # Compiling takes most of a run on a GPU: only where the short table shows it.
    if (IS_CUDA and case.in_summary) or request.config.getoption("--compile-forms"):
        forms = compiled(forms)
    subjects = _subjects(case, _right_forms(case, dict(forms), definition, measured))
    benchmark.group = f"{case.operator}, all forms in turn"
    times = benchmark.pedantic(_measure, (case, subjects), rounds=1)
    modes = list(next(iter(times.values())))
    row = {
        "case": case.name,
        "in_summary": case.in_summary,
        "bounds": _bounds(case, next(iter(subjects.values())), measured.roofs_of(case.dtype), modes),
        "forms": {
            form: {
                "is_ours": subjects[form].form.is_ours,
                "times": {mode: asdict(timing) for mode, timing in by_mode.items()},
            }
            for form, by_mode in times.items()
        },
    }
    measured.cases.append(row)
    benchmark.extra_info.update(row)
