"""The file that `make gpu` leaves: what is in it, what is never in it, and when it is not a good one."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import gpu_report
import pytest

import mmbench_kernels

ROOT = Path(__file__).parents[2]
TESTS = """<?xml version="1.0"?><testsuites><testsuite hostname="box17">
<testcase classname="tests.kernels.test_a" name="test_one" />
<testcase classname="tests.kernels.test_a" name="test_two[fp32]">
<failure message="off by 3&#10;more">/home/anna/mmbench/tests/a.py:3: AssertionError</failure>
</testcase>
<testcase classname="tests.kernels.test_a" name="test_three"><skipped message="no flash-attn"/></testcase>
</testsuite></testsuites>"""
METHODS = {
    "machine_info": {"node": "box17"},
    "benchmarks": [
        {
            "group": "inference",
            "name": "test_inference[ae-full]",
            "stats": {"median": 0.5, "min": 0.4, "max": 0.6, "rounds": 5, "data": [0.5]},
        }
    ],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tests.xml").write_text(TESTS)
    (tmp_path / "methods.json").write_text(json.dumps(METHODS))
    (tmp_path / "operators.json").write_text(json.dumps({"machine": "cuda:0 (A)", "cases": []}))
    (tmp_path / "profile.json").write_text(json.dumps({"from": "/home/anna/data/x.tif on box17"}))
    return tmp_path


def test_the_report_says_how_every_test_ended(folder):
    report = gpu_report.build_report(folder)
    assert report["tests"]["counts"] == {"passed": 1, "failed": 1, "skipped": 1}
    assert report["tests"]["reasons of skips"] == ["no flash-attn"]
    words = "tests.kernels.test_a::test_two[fp32] failed: off by 3"
    assert gpu_report.problems(report) == [words]


def test_the_report_has_the_times_the_versions_and_the_hash_of_the_kernels(folder):
    report = gpu_report.build_report(folder)
    assert report["methods"] == [
        {"group": "inference", "name": "test_inference[ae-full]"}
        | {"median": 0.5, "min": 0.4, "max": 0.6, "rounds": 5}
    ]
    assert report["operators"]["machine"] == "cuda:0 (A)"
    sources = gpu_report.hash_sources(Path(mmbench_kernels.__file__).parent.rglob("*.py"))
    assert report["environment"]["sources"] == sources
    assert report["environment"]["torch"] is not None


def test_the_report_names_no_machine_no_user_and_no_folder(folder, monkeypatch):
    monkeypatch.setattr(gpu_report.platform, "node", lambda: "box17.lan")
    monkeypatch.setattr(gpu_report.getpass, "getuser", lambda: "anna")
    (folder / "operators.json").write_text(
        json.dumps({"anna's": ["C:\\Users\\anna\\x.py", "~/secret/y.py", f"{ROOT}/z.py:3", "on box17"]})
    )
    text = json.dumps(gpu_report.build_report(folder), ensure_ascii=False)
    assert not re.search(r"box17|anna|secret|Users|home", text)
    assert str(ROOT) not in text
    assert {"x.py", "y.py", "z.py:3", "x.tif on …"} <= set(re.findall(r'"([^"]*)"', text))


def test_what_only_looks_like_a_path_or_a_name_stays():
    words = ["3 GB/s and 4 GFLOP/s", "1/2 and 50 %", "https://x.org/a", "bench::test[a/b]", "annapurna"]
    assert gpu_report.anonymous(words, ["anna"]) == words


def test_a_step_that_did_not_end_is_a_problem(folder):
    (folder / "profile.json").unlink()
    (folder / "tests.xml").write_text("<testsuites/>")
    assert gpu_report.problems(gpu_report.build_report(folder)) == [
        "profile is missing: its step did not end",
        "no test passed: nothing was tested on the device",
    ]


def test_a_broken_file_of_tests_is_named(tmp_path):
    (tmp_path / "tests.xml").write_text("<testsuites>")
    with pytest.raises(ValueError, match=r"tests\.xml: .*; expected the file of pytest --junitxml"):
        gpu_report.build_report(tmp_path)


def test_a_report_with_problems_is_written_and_ends_with_1(folder, monkeypatch, capsys):
    monkeypatch.setattr(gpu_report, "check_device", lambda: None)
    output = folder / "gpu_report.json"
    assert gpu_report.main([str(folder), "--output", str(output)]) == 1
    assert "off by 3" in capsys.readouterr().out
    assert json.loads(output.read_text())["problems"]
    (folder / "tests.xml").write_text(
        TESTS.replace("<failure", "<system-out").replace("/failure", "/system-out")
    )
    assert gpu_report.main([str(folder), "--output", str(output)]) == 0


@pytest.mark.skipif(gpu_report.torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_ends_with_7_and_one_line():
    found = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gpu_report.py", "--check"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": ""},
    )
    assert found.returncode == 7
    assert found.stderr.startswith("error: make gpu measures on a CUDA device, and torch")
    assert found.stderr.count("\n") == 1


def test_the_makefile_gives_the_report_every_part_that_it_reads():
    recipe = (ROOT / "Makefile").read_text().split("\ngpu:")[1].split("\n\n")[0]
    assert recipe.splitlines()[1].endswith("gpu_report.py --check")
    assert re.findall(r"\$\(GPU\)/(\w+)\.(?:xml|json)", recipe) == list(gpu_report.PARTS)


def test_the_names_of_this_machine_are_known():
    assert platform.node() in gpu_report.private_words() or len(platform.node()) < 2
