"""Where Triton's kernels are taken, why they are not, and what is imported to find out."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from mmbench_kernels import _availability
from mmbench_kernels._availability import choose_backend, describe, gpu_path, triton_reasons

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


@pytest.fixture(autouse=True)
def without_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.fixture
def ampere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with Linux, triton and a GPU of capability 8.0."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(_availability.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.version, "hip", None)


@pytest.mark.usefixtures("ampere")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_nothing_speaks_against_a_recent_gpu(dtype: torch.dtype) -> None:
    assert triton_reasons(CUDA, dtype) == []


@pytest.mark.usefixtures("ampere")
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.complex64])
def test_other_dtypes_are_refused_by_name(dtype: torch.dtype) -> None:
    (reason,) = triton_reasons(CUDA, dtype)
    assert str(dtype).removeprefix("torch.") in reason
    assert "float32, float16, bfloat16" in reason


@pytest.mark.usefixtures("ampere")
def test_each_thing_that_is_missing_is_a_reason_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert triton_reasons(CPU, torch.float32) == ["the device is cpu, expected cuda"]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert triton_reasons(CUDA, torch.float32) == [
        "the compute capability of cuda:0 is 7.5, expected 8.0 or more"
    ]
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert triton_reasons(CUDA, torch.float32) == ["the kernels are not tested on ROCm"]
    monkeypatch.setattr(_availability.importlib.util, "find_spec", lambda name: None)
    reasons = triton_reasons(CPU, torch.float64)
    assert all(
        words in reason for words, reason in zip(("not installed", "cpu", "float64"), reasons, strict=True)
    )
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Triton runs on Linux, this is darwin" in triton_reasons(CPU, torch.float32)


def test_the_interpreter_stands_in_for_a_gpu_but_not_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    if not triton_reasons(CPU, torch.float32):
        assert choose_backend("op", "auto", torch.ones(1)) == "triton"
    assert any("bfloat16" in reason for reason in triton_reasons(CPU, torch.bfloat16))
    assert any("meta" in reason for reason in triton_reasons(torch.device("meta"), torch.float32))
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert triton_reasons(CPU, torch.float32) != []


def test_auto_goes_on_with_torch_and_triton_raises_with_every_reason_once() -> None:
    x = torch.ones(1, dtype=torch.float64)
    assert choose_backend("op", "auto", x) == "torch"
    with pytest.raises(RuntimeError) as caught:
        choose_backend("op", "triton", x, x, limits=["there are 5 maps, expected 4"])
    words = str(caught.value)
    assert words.startswith("op: backend 'triton' cannot run: ")
    assert words.count("the device is cpu") == words.count("float64") == words.count("5 maps") == 1
    assert "backend='auto' or 'torch'" in words


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"op: backend is 'cuda', expected 'auto', 'torch' or 'triton'"):
        choose_backend("op", "cuda", torch.ones(1))


@pytest.mark.usefixtures("ampere")
def test_torch_is_taken_where_it_is_asked_for_or_a_limit_is_met() -> None:
    with gpu_path():
        assert choose_backend("op", "auto", torch.ones(1)) == "triton"
        assert choose_backend("op", "torch", torch.ones(1)) == "torch"
        assert choose_backend("op", "auto", torch.ones(1), limits=["too many"]) == "torch"


def test_a_dry_run_takes_the_path_of_a_gpu_whatever_there_is_and_only_inside() -> None:
    x = torch.ones(1)
    before = choose_backend("op", "auto", x)
    with gpu_path():
        assert choose_backend("op", "auto", x) == "triton"
        assert choose_backend("op", "auto", x.double()) == "torch"
    assert choose_backend("op", "auto", x) == before


def test_a_compiler_takes_the_decision_as_a_constant() -> None:
    def call(x: Tensor) -> Tensor:
        return x + (1 if choose_backend("op", "auto", x, limits=("one",)) == "torch" else 2)

    compiled = torch.compile(call, fullgraph=True, backend="eager")
    assert torch.equal(compiled(torch.zeros(2)), torch.ones(2))


def test_what_is_described_names_triton_the_device_and_every_dtype() -> None:
    facts = dict(describe())
    assert set(facts) >= {"triton", "triton interpreter", "cuda device"}
    for dtype in ("float32", "float16", "bfloat16"):
        words = facts[f"triton operators in {dtype}"]
        assert words == "yes" or words.startswith("no: ")


@pytest.fixture(scope="module")
def imported() -> set[str]:
    code = "import sys, mmbench_kernels; print('\\n'.join(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(found.stdout.split())


@pytest.mark.parametrize("name", ["triton", "torch._dynamo", "mmbench_kernels._triton"])
def test_importing_the_operators_imports_neither_triton_nor_the_compiler(
    imported: set[str], name: str
) -> None:
    assert "mmbench_kernels" in imported
    assert name not in imported
