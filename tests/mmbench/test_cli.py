"""The command line: codes, one-line messages, and what starts fast."""

import json
import re
import subprocess
import sys

import pytest
import torch
import yaml

from mmbench.cli import main

_SHORT = [
    *("--set", "training.steps=2"),
    *("--set", "training.window=64"),
    *("--set", "training.batch_size=2"),
    *("--set", "evaluation.window=64"),
    *("--set", "methods.modality_dropout.base_width=8"),
    *("--split", "small"),
    *("--dataset-option", "tile_size=128"),
    *("--device", "cpu"),
]


def _run_arguments(results, *more, methods="modality_dropout"):
    return ["run", "-m", methods, "-d", "synthetic", "-r", "smoke", *_SHORT, "--results", str(results), *more]


@pytest.fixture
def call(capfd):
    """Call the command line in this process; returns (code, stdout, stderr)."""

    def run(*arguments):
        code = main([str(a) for a in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["run", "--help"]])
def test_help_and_list_import_no_torch(arguments):
    code = f"import sys; from mmbench.cli import main; main({arguments!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_list_names_methods_datasets_and_recipes(call):
    code, out, _ = call("list")
    assert code == 0
    for name in ("gemmnet", "shaspec", "modality_dropout", "synthetic", "vaihingen", "potsdam", "default"):
        assert re.search(rf"^  {name}\s", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["run", "-m", "shapsec", "-d", "synthetic"],
            3,
            "error: unknown method 'shapsec'. Did you mean 'shaspec'? (mmbench list)",
        ),
        (["run", "-m", "shaspec", "-d", "vaihingn"], 3, "Did you mean 'vaihingen'?"),
        (["run", "-m", "shaspec", "-d", "synthetic", "-r", "smoky"], 3, "Did you mean 'smoke'?"),
        (["run", "-m", "shaspec", "-d", "synthetic", "--set", "training.stepz=1"], 2, "unknown key"),
        (["run", "-m", "shaspec", "-d", "synthetic", "--set", "methods.shaspec.w=1"], 2, "no option 'w'"),
        (["run", "-m", "shaspec", "-d", "synthetic", "--set", "methods.nobody.w=1"], 3, "'nobody'"),
        (["run", "-m", "shaspec", "-d", "synthetic", "--height", "dsm"], 2, "no option 'height'"),
        (["run", "-m", "shaspec", "-d", "synthetic", "--split", "nowhere"], 3, "nowhere"),
        (["run", "-m", "shaspec", "-d", "synthetic", "--split-file", "/no/file"], 2, "/no/file"),
        (["run", "-m", "shaspec", "-d", "synthetic", "--seeds", "-1"], 2, "whole numbers"),
        (["run", "-m", "shaspec", "-d", "synthetic", "--progress", "loud"], 2, "one of auto, rich"),
        (["run", "-m", ",", "-d", "synthetic"], 2, "expected names"),
        (["run", "-m", "shaspec"], 2, "--dataset"),
        (["run", "-m", "shaspec", "-d", "synthetic", "--nonsense"], 2, "--nonsense"),
        (["fly"], 2, "fly"),
        (["run", "-m", "shaspec", "-d", "synthetic", "--device", "abacus"], 2, "expected auto, cpu"),
        (["run", "-m", "shaspec", "-d", "synthetic", "--set", "evaluation.window=100"], 2, "multiples of 32"),
        (
            ["run", "-m", "shaspec", "-d", "synthetic", "--set", "methods.shaspec.width=-1"],
            2,
            "methods.shaspec",
        ),
        (["run", "-m", "shaspec", "-d", "synthetic", "--dataset-option", "tile_size=1e3"], 2, "tile_size"),
        (["run", "-m", "shaspec", "-d", "synthetic", "--dataset-option", "seed=["], 2, "not YAML"),
        (["info", "shapsec"], 3, "Did you mean 'shaspec'?"),
        (["evaluate", "/no/weights.safetensors"], 4, "cannot be read"),
        (["report", "/no/records"], 4, "no records"),
    ],
)
def test_bad_input_is_one_line_with_its_code(call, arguments, code, message, tmp_path):
    results = ["--results", str(tmp_path)] if arguments[0] == "run" else []
    found, _out, err = call(*arguments, *results)
    assert found == code
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_missing_vaihingen_is_code_4_with_the_way_to_get_it(call, tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_DATA", str(tmp_path))
    code, _, err = call("run", "--methods", "gemmnet,shaspec", "--dataset", "vaihingen")
    assert code == 4
    assert err == (
        f"error: dataset 'vaihingen' not found in {tmp_path / 'vaihingen'}: 33 tiles expected, 0 found. "
        "It must be requested from ISPRS: see 'mmbench info vaihingen'. "
        "To try without data: --dataset synthetic\n"
    )


def test_a_run_trains_records_and_prints_the_table_and_a_second_run_does_nothing_again(call, tmp_path):
    code, out, err = call(*_run_arguments(tmp_path, "--seeds", "0,1"))
    assert code == 0, err
    assert "device cpu" in err
    assert re.search(r"method\s+full\s+irrg\s+ndsm\s+mean\s+worst", out)
    assert len(list(tmp_path.glob("*.json"))) == 2
    again, out_again, err_again = call(*_run_arguments(tmp_path, "--seeds", "0,1"))
    assert (again, out_again) == (0, out)
    assert err_again.count("already done") == 2


def test_a_failing_method_ends_with_5_and_the_others_are_kept(call, tmp_path, monkeypatch):
    from mmbench_baselines.shaspec import ShaSpec

    def explode(self, images, present):
        raise RuntimeError("no luck")

    monkeypatch.setattr(ShaSpec, "forward", explode)
    code, out, err = call(*_run_arguments(tmp_path, methods="shaspec,modality_dropout"))
    assert code == 5
    assert "FAILED: RuntimeError: no luck" in err
    assert "1 of 2 cells failed" in err
    assert re.search(r"^modality_dropout", out, re.MULTILINE)
    assert "No score: shaspec" in out
    statuses = sorted(json.loads(p.read_text())["status"] for p in tmp_path.glob("*.json"))
    assert statuses == ["done", "failed"]


def test_a_peeking_method_ends_with_6_even_beside_an_ordinary_failure(call, tmp_path, monkeypatch):
    from mmbench.errors import ProtocolError
    from mmbench.evaluation import Evaluator
    from mmbench_baselines.shaspec import ShaSpec

    def explode(self, images, present):
        raise RuntimeError("no luck")

    def peek(self, name, method):
        raise ProtocolError("it looks")

    monkeypatch.setattr(ShaSpec, "forward", explode)
    monkeypatch.setattr(Evaluator, "check_no_peek", peek)
    code, _, err = call(*_run_arguments(tmp_path, methods="shaspec,modality_dropout"))
    assert code == 6
    assert "2 of 2 cells failed" in err


def test_interruption_ends_with_130_and_keeps_finished_cells(call, tmp_path, monkeypatch):
    from mmbench_baselines.shaspec import ShaSpec

    def stop(self, images, present):
        raise KeyboardInterrupt

    monkeypatch.setattr(ShaSpec, "forward", stop)
    code, _, err = call(*_run_arguments(tmp_path, methods="modality_dropout,shaspec"))
    assert code == 130
    assert "finished cells are kept" in err
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_an_internal_error_is_code_1_and_its_traceback_needs_debug(call, tmp_path, monkeypatch):
    def broken(*arguments, **keywords):
        raise RuntimeError("a bug")

    monkeypatch.setattr("mmbench.reporting.selection.read_for_tables", broken)
    code, _, err = call("report", str(tmp_path))
    assert (code, err) == (1, "error: internal: RuntimeError: a bug. Run again with --debug\n")
    code, _, err = call("report", str(tmp_path), "--debug")
    assert code == 1
    assert "Traceback" in err


def test_plan_says_missing_then_done_then_stale_and_why(call, tmp_path):
    plan = ["plan", *_run_arguments(tmp_path)[1:]]
    assert call(*plan)[1] == "missing  modality_dropout seed 0\n"
    call(*_run_arguments(tmp_path))
    assert call(*plan)[1] == "done     modality_dropout seed 0\n"
    changed = call(*plan, "--set", "training.steps=3")[1]
    assert changed == "stale    modality_dropout seed 0  recipe.training.steps: 2 -> 3\n"


def test_train_then_evaluate_scores_as_run_does(call, tmp_path):
    weights = tmp_path / "w.safetensors"
    code, out, err = call(
        "train",
        "modality_dropout",
        "-d",
        "synthetic",
        "-r",
        "smoke",
        *_SHORT,
        "--out",
        weights,
        "--progress",
        "off",
    )
    assert code == 0, err
    assert str(weights) in out
    code, out, err = call("evaluate", weights, "--device", "cpu", "--progress", "off")
    assert code == 0, err
    table = {line.split()[0]: line.split() for line in out.splitlines()[4:]}
    call(*_run_arguments(tmp_path))
    record = json.loads(next(tmp_path.glob("*.json")).read_text())
    for scenario, values in record["scenarios"].items():
        assert table[scenario][1] == f"{values['miou'] * 100:.1f}"
        assert table[scenario][3] == f"{values['oa'] * 100:.1f}"


def test_report_writes_every_format_without_running(call, tmp_path):
    call(*_run_arguments(tmp_path))
    assert "| modality" in call("report", tmp_path, "--format", "markdown")[1]
    latex = tmp_path / "out" / "table.tex"
    code, _, _err = call("report", tmp_path, "--format", "latex", "--metric", "mf1", "--out", latex)
    assert code == 0
    assert "toprule" in latex.read_text()
    assert "mF1" in latex.read_text()
    assert call("report", tmp_path, "--format", "papyrus")[0] == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_gpu_that_was_asked_for_and_is_not_there_is_code_7(call, tmp_path):
    code, _, err = call(*_run_arguments(tmp_path, "--device", "cuda"))
    assert code == 7
    assert "device 'cuda' is not usable here; usable: cpu" in err


def test_results_that_cannot_be_written_are_code_7_before_anything_runs(call, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = call(*_run_arguments(tmp_path / "file"))
    assert code == 7
    assert "the system refused a file" in err
    assert "started" not in err


def test_faulty_test_tiles_stop_a_run_before_anything_is_trained(call, tmp_path):
    root = tmp_path / "city"
    call("data", "synth", root, "--layout", "vaihingen", "--size", "64")
    next(root.rglob("top_mosaic_09cm_area38_noBoundary.tif")).write_bytes(b"II*\0 rubbish")
    code, _, err = call(
        *("run", "-m", "modality_dropout", "-d", "vaihingen", "--root", root, "-r", "smoke"),
        *("--results", tmp_path / "results"),
    )
    assert code == 4
    assert "area38_noBoundary.tif" in err
    assert "started" not in err


def test_a_peeking_method_is_not_scored_by_evaluate_either(call, tmp_path, monkeypatch):
    from mmbench.errors import ProtocolError
    from mmbench.evaluation import Evaluator

    weights = tmp_path / "w.safetensors"
    call("train", "modality_dropout", "-d", "synthetic", "-r", "smoke", *_SHORT, "--out", weights)

    def peek(self, name, method):
        raise ProtocolError("it looks")

    monkeypatch.setattr(Evaluator, "check_no_peek", peek)
    code, out, err = call("evaluate", weights)
    assert (code, out) == (6, "")
    assert "it looks" in err


@pytest.mark.parametrize("name", ["gemmnet", "shaspec", "modality_dropout"])
def test_info_of_a_method_prints_its_card(call, name):
    code, out, _ = call("info", name)
    assert code == 0
    for word in ("paper", "source", "differs from its source", "options"):
        assert word in out


def test_info_of_a_dataset_says_how_to_request_it(call):
    code, out, _ = call("info", "vaihingen")
    assert code == 0
    assert "ISPRS" in out
    assert "top_mosaic_09cm_area" in out


def test_info_of_a_recipe_is_the_recipe(call):
    code, out, _ = call("info", "smoke")
    assert code == 0
    assert yaml.safe_load(out)["training"]["steps"] == 24


def test_data_synth_refuses_a_folder_that_is_not_empty(call, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    code, _, err = call("data", "synth", tmp_path, "--layout", "vaihingen")
    assert code == 2
    assert "empty" in err
    assert (tmp_path / "mine.txt").read_text() == "keep me"


@pytest.mark.parametrize("layout", ["vaihingen", "potsdam"])
def test_a_run_on_a_synthetic_isprs_folder_gives_a_table(call, tmp_path, layout):
    root = tmp_path / layout
    code, _, err = call("data", "synth", root, "--layout", layout, "--size", "64")
    assert code == 0, err
    short = [a for a in _SHORT if a not in ("--split", "small", "--dataset-option", "tile_size=128")]
    code, out, err = call(
        "run", "-m", "modality_dropout", "-d", layout, "-r", "smoke", *short, "--root", root,
        "--results", tmp_path / "results",
    )  # fmt: skip
    assert code == 0, err
    assert re.search(r"method\s+full\s+irrg\s+ndsm", out)
