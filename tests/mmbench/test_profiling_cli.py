"""`mmbench profile` from the command line, and the counts in records and leaderboards."""

from __future__ import annotations

import json

import pytest
import torch

from mmbench.cells import Cell, Run
from mmbench.cli import main
from mmbench.execution import run_cell
from mmbench.profiling.report import read_report
from mmbench.records import Record
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.tables import console_table

SMALL = ["--dataset", "synthetic", "--set", "methods.modality_dropout.base_width=8", "--device", "cpu"]


def test_a_real_profile_of_modality_dropout_holds_times_memory_and_a_trace(tmp_path, capsys):
    path, trace = tmp_path / "profile.json", tmp_path / "trace.json"
    arguments = ["profile", "-m", "modality_dropout", *SMALL, "--size", "64", "--batch", "1,2"]
    arguments += ["--repetitions", "3", "--steps", "2", "--warm-up", "1"]
    assert main([*arguments, "--json", str(path), "--trace", str(trace)]) == 0
    report = read_report(path)
    (method,) = report.methods
    assert report.settings.timed
    assert [(c.batch_size, c.scenario) for c in method.cases] == [
        (b, s) for b in (1, 2) for s in ("full", "irrg", "ndsm")
    ]
    for case in method.cases:
        assert 0 < case.latency.p10_ms <= case.latency.p50_ms <= case.latency.p90_ms
        assert case.step_seconds > 0
        assert sum(share.inference_time for share in case.parts) == pytest.approx(1)
    one, two = method.case("full", 1).costs, method.case("full", 2).costs
    assert two.inference.flops == 2 * one.inference.flops
    assert method.case("irrg", 1).costs.inference.flops < one.inference.flops
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"inference", "training step", "encoder.irrg", "decoder"} <= names
    printed = capsys.readouterr().out
    for words in ("64 x 64", "warm-up 1 runs", "allocator", "float32", "thread", "random images"):
        assert words in printed


def test_counts_only_times_nothing(tmp_path, capsys):
    path = tmp_path / "profile.json"
    arguments = ["profile", "-m", "modality_dropout", *SMALL, "--size", "32", "--counts-only"]
    assert main([*arguments, "--json", str(path)]) == 0
    (method,) = read_report(path).methods
    assert method.counted_on == "dry run"
    assert all(case.latency is None and case.memory is None for case in method.cases)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-m", "modality_droput"], 3, "Did you mean 'modality_dropout'?"),
        (["-m", "gemmnet", "--size", "50"], 2, "takes multiples of 16 from 32; the next is 64"),
        (["-m", "modality_dropout", "--batch", "1,0"], 2, "--batch '1,0': expected whole numbers from 1"),
        (["-m", "modality_dropout", "--device", "tpu"], 2, "expected auto, cpu"),
        (["-m", "modality_dropout", "--format", "html"], 2, "expected one of console, markdown, latex"),
        (["-m", "modality_dropout", "--set", "methods.modality_dropout.widht=3"], 2, "has no option 'widht'"),
        (["-m", "modality_dropout", "--counts-only", "--trace", "t.json"], 2, "a trace needs a real run"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, code, words, capsys):
    assert main(["profile", "--dataset", "synthetic", *arguments]) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_method_that_cannot_be_swept_does_not_cost_the_others_their_figures(tmp_path, capsys):
    path = tmp_path / "sweep.json"
    arguments = ["profile", "-m", "cgan,modality_dropout", *SMALL, "--size", "32", "--counts-only"]
    assert main([*arguments, "--sweep", "modalities", "--json", str(path)]) == 5
    printed = capsys.readouterr()
    assert "Growth of modality_dropout" in printed.out
    assert "error: cgan: --sweep modalities: the method takes [2] of [1, 2, 3, 4]" in printed.err
    assert {growth["method"] for growth in json.loads(path.read_text())["growth"]} == {"modality_dropout"}


def test_an_unknown_dataset_is_refused(capsys):
    assert main(["profile", "-m", "modality_dropout", "--dataset", "vaihinge"]) == 3
    assert "Did you mean 'vaihingen'?" in capsys.readouterr().err


@pytest.fixture
def a_run(small_dataset, short_recipe, tmp_path):
    return Run("synthetic", small_dataset, short_recipe, torch.device("cpu"), tmp_path)


def test_a_record_holds_parameters_and_flops_by_scenario(a_run):
    record = run_cell(a_run, Cell("modality_dropout", 0))
    profile = record.profile
    assert profile["window"] == 64
    assert profile["counted_on"] == "dry run"
    assert profile["parameters_inference"] == record.method["parameters"]
    assert list(profile["inference"]) == ["full", "irrg", "ndsm"]
    assert profile["inference"]["full"]["flops"] > profile["inference"]["irrg"]["flops"] > 0
    table = console_table(leaderboards([record])[0])
    assert "GFLOP" in table
    assert f"{profile['inference']['full']['flops'] / 1e9:.1f}" in table


def test_counting_does_not_change_a_score_by_a_bit(a_run, monkeypatch):
    with_counts = run_cell(a_run, Cell("modality_dropout", 0))
    monkeypatch.setattr("mmbench.execution.record_profile", lambda *_: None)
    without = run_cell(a_run, Cell("modality_dropout", 0))
    assert without.profile is None
    assert with_counts.scenarios == without.scenarios
    assert with_counts.id == without.id


def test_a_record_from_before_there_were_profiles_shows_a_dash_beside_others(a_run):
    record = run_cell(a_run, Cell("modality_dropout", 0))
    old = record.model_dump(mode="json")
    del old["profile"]
    old["method"]["variant"] = "old"
    board = leaderboards([Record.model_validate(old)])[0]
    assert board.rows[0].flops is None
    assert "GFLOP" not in console_table(board)  # a column of dashes says nothing
    both = console_table(leaderboards([record, Record.model_validate(old)])[0])
    (row,) = (line for line in both.splitlines() if line.startswith("modality_dropout:old"))
    assert " - " in row
