"""Triton's interpreter without the work whose result it has already, or never looks at.

Two fifths of the time of these tests would go into two things that change nothing:

- A launch turns all of Triton's language into the interpreter's. Every call of one jitted function by another
  inside the launch does it again, to what is turned already.
- Every sum, difference and product of 32-bit integers is computed a second time in 64 bits to see whether it
  overflows; but what came out is only told with `debug`, which the interpreter sets to False.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from triton.runtime import interpreter

_LANGUAGE = {"triton.language", "triton.language.core"}


@contextmanager
def quick_interpreter() -> Iterator[None]:
    """Leave that work out, inside.

    What is private to Triton may go at any time. Then this says so, and is to be looked at again; until then
    the fixture of conftest.py may be deleted, for no result depends on it.

    Raises:
        AttributeError: If Triton's interpreter has no `_patch_lang` any more.
        TypeError: If it has no option `sanitize_overflow`.
    """
    builder = interpreter.interpreter_builder
    options = builder.options
    if not options.debug:
        options = replace(options, sanitize_overflow=False)
    with (
        patch.object(builder, "options", options),
        patch.object(interpreter, "_patch_lang", _OnceALaunch(interpreter._patch_lang)),
    ):
        yield


class _OnceALaunch:
    """Triton's `_patch_lang`, which does nothing for modules that are done already."""

    def __init__(self, patch_language: Any) -> None:
        self.patch_language = patch_language
        self._done: set[str] = set()

    def __call__(self, function: Any) -> Any:
        modules = _modules_of_language(function)
        if modules <= self._done:
            return interpreter._LangPatchScope()
        scope = self.patch_language(function)
        if not self._done:
            # The launch itself comes first, and in the end takes back what was done for it.
            scope.restore = self._forgetting(scope.restore)
        self._done |= modules
        return scope

    def _forgetting(self, restore: Any) -> Any:
        def forget_and_restore() -> None:
            self._done.clear()
            restore()

        return forget_and_restore


@functools.cache
def _modules_of_language(function: Any) -> set[str]:
    """Return which of the modules that are to be patched a function sees."""
    modules = {each.__name__ for each in function.__globals__.values() if inspect.ismodule(each)}
    return modules & _LANGUAGE
