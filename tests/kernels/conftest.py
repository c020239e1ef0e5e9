"""What the tests of the compiled kernels share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

Compile = Callable[[str], list[dict[str, Any]]]
"""(operator or .py file) -> what the machine code of each of its cases needs, on every capability."""


@pytest.fixture
def compile_all(request: pytest.FixtureRequest) -> Compile:
    """Compile the cases of a module for every capability, in a process without the interpreter."""

    def run(module: str) -> list[dict[str, Any]]:
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        # What has not changed since the last run is not compiled again, and the user's cache stays alone.
        environment["TRITON_CACHE_DIR"] = str(request.config.cache.mkdir("triton"))
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-m", "mmbench_kernels._triton._aot_worker", module]
        found = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        rows: list[dict[str, Any]] = json.loads(found.stdout)
        return rows

    return run
