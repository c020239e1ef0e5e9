"""What calls of modal_fuse launch on a GPU, bound and compiled without one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("modal_fuse_launches.py")


@pytest.mark.skipif(
    sys.platform != "linux" or importlib.util.find_spec("triton") is None,
    reason="needs triton, which compiles on Linux",
)
def test_sizes_of_one_and_absent_arguments_bind_and_compile(request: pytest.FixtureRequest) -> None:
    # In a process of its own: what it compiles for a pretended GPU must not be found by a real one.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(request.config.cache.mkdir("triton"))  # type: ignore[union-attr]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    found = subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    # A call launches, for M modalities with N maps: M moments, statistics, a mix, M sums and N maps.
    assert found.stdout == f"{(3 + 2) + (5 + 2) + (6 + 2) + (11 + 2)} launches\n"
