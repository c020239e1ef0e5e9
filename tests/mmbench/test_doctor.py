"""`mmbench doctor`: every fact on a line of its own, in words or as JSON, whatever is missing."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mmbench.cli import main

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str) -> tuple[int, str]:
        code = main(["doctor", *arguments])
        return code, capsys.readouterr().out

    return run


def test_it_names_versions_device_operators_and_data(call: Call) -> None:
    code, out = call()
    assert code == 0
    lines = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  ")]
    found = {words[0]: words[1] for words in lines}
    assert found["python"].strip() == platform.python_version()
    assert found["torch"].strip() == torch.__version__
    assert {"triton", "allocator", "device", "precision", "memory"} <= set(found)
    assert [line for line in out.splitlines() if not line.startswith("  ") and line] == [
        "versions",
        "device",
        "operators",
        "data",
    ]


def test_data_that_are_found_and_data_that_are_not_are_told_apart(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMBENCH_DATA", str(tmp_path))
    code, out = call("--json", "-")
    data = json.loads(out)["data"]
    assert code == 0
    assert data["synthetic"].startswith("yes: ")
    assert data["vaihingen"].startswith("no: ")
    assert str(tmp_path) in data["vaihingen"]


def test_a_dtype_that_triton_cannot_take_has_its_reasons(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    operators = json.loads(call("--json", "-")[1])["operators"]
    assert operators["cuda device"] == "none"
    for dtype in ("float32", "float16", "bfloat16"):
        assert "the device is cpu, expected cuda" in operators[f"triton operators in {dtype}"]


def test_json_goes_to_a_file_beside_the_words(call: Call, tmp_path: Path) -> None:
    target = tmp_path / "folder" / "doctor.json"
    code, out = call("--json", str(target))
    assert code == 0
    assert "versions" in out
    report = json.loads(target.read_text(encoding="utf-8"))
    assert list(report) == ["versions", "device", "operators", "data"]
    assert report["versions"]["torch"] == torch.__version__


def test_its_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mmbench.cli import main; main(['doctor', '--help']); "
        "print(sorted({'torch', 'triton', 'mmbench_kernels'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
