"""What calls of the operators launch on a GPU, bound and compiled without one."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmbench_kernels

SCRIPT = Path(__file__).with_name("recorded_launches.py")


@pytest.mark.skipif(
    sys.platform != "linux" or importlib.util.find_spec("triton") is None,
    reason="needs triton, which compiles on Linux",
)
def test_what_calls_of_every_operator_and_whole_models_launch_binds_and_compiles(
    request: pytest.FixtureRequest,
) -> None:
    # In a process of its own: what it compiles for a pretended GPU must not be found by a real one.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(request.config.cache.mkdir("triton"))  # type: ignore[union-attr]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    found = subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True)
    *compiled, summary = found.stdout.splitlines() or [""]
    assert found.returncode == 0, f"{found.stderr}\nthe last line before: {summary}"
    assert summary.endswith(f", {len(compiled)} compilations")
    kernels = {line.rpartition(": ")[2].partition(" on ")[0] for line in compiled}
    assert kernels == kernels_of_operators()


def kernels_of_operators() -> set[str]:
    """Return "module.kernel" of all kernels that are launched: of what the sources name so."""
    folder = Path(mmbench_kernels.__file__).parent / "_triton"
    return {
        f"{path.stem}.{name}"
        for path in folder.glob("*.py")
        for name in re.findall(r"^def (\w+_kernel)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
