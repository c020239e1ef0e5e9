"""What the interpreter is spared must be done once, left out afterwards, and taken back at the end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter

from tests.kernels.interpreted.quick_interpreter import quick_interpreter


@triton.jit
def doubled(x):
    return x + x


@triton.jit
def sums_kernel(x_ptr, y_ptr, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))
    # A sum is Triton's own jitted function, in a module of Triton's with names of its own.
    tl.store(y_ptr + tl.program_id(0), tl.sum(doubled(doubled(x)), 0))


@triton.jit
def product_kernel(y_ptr, factor):
    tl.store(y_ptr, factor * 4)


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions for which Triton's own patching ran."""
    names: list[str] = []
    once: Any = interpreter._patch_lang
    patch_language = once.patch_language

    def counting(function: Any) -> Any:
        names.append(function.__name__)
        return patch_language(function)

    monkeypatch.setattr(once, "patch_language", counting)
    return names


def launch() -> None:
    x, y = torch.arange(12.0), torch.zeros(3)
    sums_kernel[(3,)](x, y, BLOCK=4)
    assert torch.equal(y, 4 * x.view(3, 4).sum(1))


def test_a_launch_patches_the_language_for_itself_and_for_tritons_own_functions(patched: list[str]) -> None:
    launch()
    assert patched == ["sums_kernel", "sum"]


def test_every_launch_begins_anew(patched: list[str]) -> None:
    launch()
    first = list(patched)
    launch()
    assert patched == first * 2


def test_a_launch_that_fails_is_forgotten_too(patched: list[str]) -> None:
    with pytest.raises(Exception, match="outside of every tensor"):
        sums_kernel[(3,)](torch.zeros(11), torch.zeros(3), BLOCK=4)
    first = list(patched)
    launch()
    assert patched == first * 2


def test_the_language_is_given_back_after_a_launch() -> None:
    load = tl.load
    launch()
    assert tl.load is load


def test_integers_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # A product that overflows passes with Triton's own options, too: nothing is lost.
    builder = interpreter.interpreter_builder
    for options in (builder.options, interpreter.InterpreterOptions()):
        monkeypatch.setattr(builder, "options", options)
        y = torch.zeros(1, dtype=torch.int32)
        product_kernel[(1,)](y, 1 << 30)
        assert y.item() == 0
    assert builder.options.sanitize_overflow


def test_a_triton_without_the_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(interpreter, "_patch_lang")
    with pytest.raises(AttributeError, match="_patch_lang"), quick_interpreter():
        pass
