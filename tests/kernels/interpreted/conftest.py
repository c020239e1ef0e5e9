"""Triton's kernels in Triton's interpreter, on any machine: only where TRITON_INTERPRET is set.

TRITON_INTERPRET=1 python -m pytest tests/kernels/interpreted
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mmbench_kernels._availability import interpreting


class Skipped(pytest.Module):
    """A module that is skipped whole, before anything of it is imported."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        raise pytest.skip.Exception(
            "needs triton: run TRITON_INTERPRET=1 python -m pytest tests/kernels/interpreted",
            allow_module_level=True,
        )


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module | None:
    if interpreting() and importlib.util.find_spec("triton") is not None:
        return None
    return Skipped.from_parent(parent, path=module_path)


@pytest.fixture(scope="session", autouse=True)
def quick() -> Iterator[None]:
    """Save two fifths of the time: the interpreter leaves out what changes no result."""
    from tests.kernels.interpreted.quick_interpreter import quick_interpreter

    with quick_interpreter():
        yield


@pytest.fixture(autouse=True)
def guard() -> Iterator[Any]:
    """Refuse accesses outside of the tensors of a launch, and atomics."""
    from tests.kernels.interpreted.guard import bounds_guard

    with bounds_guard() as spans:
        yield spans


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmbench_kernels._triton import _launch
    from tests.kernels.interpreted.guard import poisoned

    monkeypatch.setattr(_launch, "empty", poisoned(_launch.empty))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def mutate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str, str], None]:
    """Put a mistake into a kernel module for the rest of the test: mutate("norm_act_pad", old, new)."""
    from tests.kernels.interpreted import mutations

    def put(module: str, old: str, new: str) -> None:
        mutations.install(monkeypatch, module, mutations.mutated(module, old, new, tmp_path))

    return put


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what kernels were given to write: proof that they ran."""
    from mmbench_kernels._triton import _launch

    written: list[tuple[int, ...]] = []
    allocate = _launch.empty

    def empty(shape: Any, **options: Any) -> torch.Tensor:
        written.append(tuple(shape))
        return allocate(shape, **options)

    monkeypatch.setattr(_launch, "empty", empty)
    return written
