"""A method and a dataset of another distribution: installed, listed, checked by its own tests, and run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmbench
import mmbench_baselines
import mmbench_kernels

_SOURCE = Path(__file__).parents[1] / "plugin"
_DISTRIBUTION = "mmbench-example-plugin"
_SHORT = [
    *("--set", "training.steps=2"),
    *("--set", "training.batch_size=2"),
    *("--set", "training.window=32"),
    *("--set", "evaluation.window=64"),
]
_WRITE_DATA = """
import sys
from pathlib import Path
from mmbench.registry import find
find("dataset", "plugin_dataset").fake(Path(sys.argv[1]))
"""


class _Environment:
    """A folder of packages that subprocesses import from, before all others."""

    def __init__(self, folder):
        self.copy, self.data, self.results = folder / "plugin", folder / "data", folder / "results"
        packages = [
            Path(package.__file__).parents[1] for package in (mmbench, mmbench_baselines, mmbench_kernels)
        ]
        path = os.pathsep.join(map(str, [folder / "site", *packages]))
        self._variables = os.environ | {
            "PYTHONPATH": path,
            "MMBENCH_DATA": str(folder / "none"),
            "MMBENCH_CACHE": str(folder / "cache"),
        }

    def python(self, *arguments):
        """Run Python in the plug-in's copy; returns what it printed."""
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.copy,
            env=self._variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The plug-in, built and installed into a folder of its own, without a network."""
    folder = tmp_path_factory.mktemp("plugin")
    environment = _Environment(folder)
    shutil.copytree(_SOURCE, environment.copy, ignore=shutil.ignore_patterns("__pycache__"))
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    environment.python("-m", "pip", "install", "--quiet", *offline, "--target", folder / "site", ".")
    return environment


def test_the_list_names_its_method_and_dataset_with_their_origin(installed):
    lines = installed.python("-m", "mmbench", "list").splitlines()
    for name, title in (("plugin_method", "Plug-in method"), ("plugin_dataset", "Plug-in dataset")):
        line = next(line for line in lines if line.split()[0] == name)
        assert line.endswith(f"{title}  [{_DISTRIBUTION}]")


def test_its_cards_can_be_shown(installed):
    card = installed.python("-m", "mmbench", "info", "plugin_method")
    assert re.search(rf"^from +{_DISTRIBUTION}$", card, re.MULTILINE)
    assert "width = 8" in card
    assert "ground, building, tree" in installed.python("-m", "mmbench", "info", "plugin_dataset")


def test_its_own_tests_pass_with_warnings_as_errors(installed):
    out = installed.python("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
    assert "3 passed" in out


def test_its_method_runs_on_its_dataset_and_the_record_names_the_distribution(installed):
    installed.python("-c", _WRITE_DATA, installed.data)
    names = ("-m", "plugin_method", "-d", "plugin_dataset", "--root", installed.data)
    where = ("--results", installed.results, "--device", "cpu", "--progress", "off")
    out = installed.python("-m", "mmbench", "run", *names, "-r", "smoke", *_SHORT, *where)
    assert "plugin_method" in out
    (file,) = installed.results.glob("*.json")
    record = json.loads(file.read_text())
    assert record["status"] == "done"
    assert record["method"]["origin"] == _DISTRIBUTION
    assert set(record["no_peek"]) == {"rgb", "ndsm", "mixed"}


def test_the_repository_does_not_collect_its_tests():
    root = _SOURCE.parents[1]
    options = ("-c", root / "pyproject.toml", "--rootdir", root, "--collect-only", "-q")
    command = [sys.executable, "-m", "pytest", *map(str, options), str(_SOURCE)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout + done.stderr
