"""Kernels with one mistake put in on purpose: a test that does not see it proves nothing."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import sys
from pathlib import Path
from types import ModuleType

import pytest

_NUMBERS = itertools.count()


def mutated(module: str, old: str, new: str, folder: Path) -> ModuleType:
    """Return a module of `mmbench_kernels._triton` with a piece of its text replaced.

    Args:
        module: Its name, as "norm_act_pad_backward".
        old: The text; it must stand there exactly once.
        new: What stands there instead.
        folder: Where the mutated file is written; the interpreter reads it again.

    Raises:
        ValueError: If the text is not there exactly once: the mutation would not be the one that is meant.
    """
    text = inspect.getsource(importlib.import_module(f"mmbench_kernels._triton.{module}"))
    if text.count(old) != 1:
        raise ValueError(f"{module}: {old!r} stands there {text.count(old)} times, expected once")
    name = f"{module}_mutated_{next(_NUMBERS)}"
    path = folder / f"{name}.py"
    path.write_text(text.replace(old, new), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} cannot be loaded as a module")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # where dataclasses look
    spec.loader.exec_module(loaded)
    return loaded


def install(patch: pytest.MonkeyPatch, module: str, replacement: ModuleType) -> None:
    """Put the replacement where the module is: for operators that import it, and in what has imported it.

    Args:
        patch: Undoes it.
        module: The name in `mmbench_kernels._triton`.
        replacement: What `mutated` returned.
    """
    package = importlib.import_module("mmbench_kernels._triton")
    original = importlib.import_module(f"{package.__name__}.{module}")
    own = {name: value for name, value in vars(replacement).items() if not name.startswith("__")}
    for name, holder in list(sys.modules.items()):
        if holder is not original and name.startswith(f"{package.__name__}."):
            for attribute in own.keys() & vars(holder).keys():
                if vars(holder)[attribute] is vars(original).get(attribute):
                    patch.setattr(holder, attribute, own[attribute])
    patch.setitem(sys.modules, original.__name__, replacement)
    patch.setattr(package, module, replacement)
