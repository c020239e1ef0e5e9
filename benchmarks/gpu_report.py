"""One file of what `make gpu` found on a CUDA device, to be sent or kept: `gpu_report.json`.

It says which device, driver, versions and code, how every test ended, and all times. It names no machine, no
user and no folder.
"""

from __future__ import annotations

import argparse
import getpass
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

import mmbench_kernels
from mmbench._version import __version__
from mmbench.errors import EnvironmentMissingError, MMBenchError
from mmbench.sources import hash_sources
from mmbench_kernels._availability import describe

ROOT = Path(__file__).parents[1]
PARTS = ("tests", "operators", "methods", "profile")
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:\\|~?/)[^\s'\":,;)\]]+")


def check_device() -> None:
    """Refuse a machine without a CUDA device.

    Raises:
        EnvironmentMissingError: If torch finds none.
    """
    if not torch.cuda.is_available():
        raise EnvironmentMissingError(
            f"make gpu measures on a CUDA device, and torch {torch.__version__} finds none here; run it on a "
            "machine with an NVIDIA GPU and a torch built for CUDA. pytest benchmarks/bench_operators.py "
            "--benchmark-only measures what there is"
        )


def build_report(folder: Path) -> dict[str, Any]:
    """Return what the steps left in a folder, with what it was found on.

    Args:
        folder: With tests.xml, operators.json, methods.json and profile.json, as far as the steps came.
    """
    readers = {
        "tests": (folder / "tests.xml", test_outcomes),
        "operators": (folder / "operators.json", _read_json),
        "methods": (folder / "methods.json", method_times),
        "profile": (folder / "profile.json", _read_json),
    }
    parts = {name: read(file) if file.is_file() else None for name, (file, read) in readers.items()}
    return anonymous({"environment": environment(), **parts}, private_words())


def problems(report: dict[str, Any]) -> list[str]:
    """Return why a report is not a good one: parts that are missing, tests that failed or never ran."""
    found = [f"{name} is missing: its step did not end" for name in PARTS if report[name] is None]
    if (tests := report["tests"]) is not None:
        found += [f"{one['test']} {one['outcome']}: {one['words']}" for one in tests["not passed"]]
        if not tests["counts"].get("passed"):
            found.append("no test passed: nothing was tested on the device")
    return found


def environment() -> dict[str, Any]:
    """Return device, driver, versions and the hash of the operators' code."""
    packages = ("torch", "triton", "flash-attn", "numpy")
    found: dict[str, Any] = {
        "mmbench": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": _driver(),
        **{name: _version(name) for name in packages},
        "sources": hash_sources(Path(mmbench_kernels.__file__).parent.rglob("*.py")),
        "operators": dict(describe()),
    }
    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(torch.cuda.current_device())
        found["device"] = {
            "name": facts.name,
            "capability": f"{facts.major}.{facts.minor}",
            "multiprocessors": facts.multi_processor_count,
            "memory_gib": round(facts.total_memory / 2**30, 1),
            "cache_mib": round(facts.L2_cache_size / 2**20, 1),
        }
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    """Return the driver's version and the clocks that it may take, as its own tool says; None without it."""
    query = "driver_version,clocks.max.sm,clocks.max.mem,power.limit"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return said.splitlines()[0] if said else None


def test_outcomes(file: Path) -> dict[str, Any]:
    """Return from a JUnit file how many tests ended in which way, and those that did not pass or skip.

    Raises:
        ValueError: If the file is not XML.
    """
    try:
        tree = ElementTree.parse(file)
    except ElementTree.ParseError as error:
        raise ValueError(f"{file.name}: {error}; expected the file of pytest --junitxml") from error
    counts: dict[str, int] = {}
    not_passed, reasons = [], set()
    for case in tree.iter("testcase"):
        outcome, words = _outcome(case)
        counts[outcome] = counts.get(outcome, 0) + 1
        if outcome == "skipped":
            reasons.add(words)
        elif outcome != "passed":
            name = f"{case.get('classname')}::{case.get('name')}"
            not_passed.append({"test": name, "outcome": outcome, "words": words})
    return {"counts": counts, "reasons of skips": sorted(reasons), "not passed": not_passed}


def _outcome(case: ElementTree.Element) -> tuple[str, str]:
    """Return how a test ended, and the first line of why."""
    for tag, outcome in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
        if (child := case.find(tag)) is not None:
            return outcome, (child.get("message") or "").partition("\n")[0]
    return "passed", ""


def method_times(file: Path) -> list[dict[str, Any]]:
    """Return the seconds of each benchmark in pytest-benchmark's file, and nothing of the machine."""
    return [
        {
            "group": one["group"],
            "name": one["name"],
            **{key: one["stats"][key] for key in ("median", "min", "max", "rounds")},
        }
        for one in _read_json(file)["benchmarks"]
    ]


def _read_json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def private_words() -> list[str]:
    """Return the names of this machine and of its user."""
    node = platform.node()
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # an account without a name
        user = ""
    return [word for word in {node, node.partition(".")[0], user} if len(word) > 1]


def anonymous(value: Any, words: Iterable[str]) -> Any:
    """Return JSON without absolute paths, of which the file's name stays, and without some words.

    Args:
        value: Anything that JSON can hold.
        words: Replaced by "…" where they stand alone.
    """
    words = list(words)
    if isinstance(value, dict):
        return {anonymous(key, words): anonymous(each, words) for key, each in value.items()}
    if isinstance(value, list):
        return [anonymous(each, words) for each in value]
    if not isinstance(value, str):
        return value
    value = _PATH.sub(lambda path: re.split(r"[/\\]", path[0].rstrip("/\\"))[-1], value)
    for word in words:
        value = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "…", value)
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the device or write the report; return the exit code, 7 without a device, 1 with problems."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "build" / "gpu")
    parser.add_argument("--output", type=Path, default=Path("gpu_report.json"))
    parser.add_argument("--check", action="store_true", help="only whether there is a device")
    chosen = parser.parse_args(arguments)
    try:
        check_device()
    except MMBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if chosen.check:
        return 0
    report = build_report(chosen.folder)
    report["problems"] = problems(report)
    chosen.output.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {chosen.output}", *report["problems"], sep="\n")
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
