"""Pictures of records of real data: images and truth are read from the folder that is said, or left out."""

import json
import re

import numpy as np
import pytest
import torch

from mmbench.cells import Cell, Run
from mmbench.cli import main
from mmbench.datasets.potsdam import Potsdam
from mmbench.datasets.vaihingen import Vaihingen
from mmbench.execution import run_cell
from mmbench.recipe import load_recipe
from mmbench.records import read_records, write_record
from mmbench.reporting.figures import compared, files

SETTINGS = ("training.steps=1", "training.window=64", "training.batch_size=2", "evaluation.window=64")
NARROW = "methods.modality_dropout.base_width=8"
METHODS = ("modality_dropout", "early_fusion")


@pytest.fixture(scope="module", params=[Potsdam, Vaihingen], ids=["potsdam", "vaihingen"])
def isprs(request, tmp_path_factory):
    """(dataset, folder of two finished cells on a small copy of it)."""
    dataset = request.param.fake(tmp_path_factory.mktemp("data"))
    results = tmp_path_factory.mktemp("results")
    recipe = load_recipe("smoke", [*SETTINGS, NARROW])
    run = Run(dataset.name, dataset, recipe, torch.device("cpu"), results)
    for method in METHODS:
        assert run_cell(run, Cell(method, 0)).status == "done"
    return dataset, results


def _place(dataset):
    return ["--root", str(dataset.root), "--split-file", str(dataset.root / "split.yaml")]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run the command line where no data are found by default; returns (code, stdout, stderr)."""
    monkeypatch.setenv("MMBENCH_DATA", str(tmp_path / "nowhere"))

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def _tiles(page):
    (data,) = re.findall(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.DOTALL)
    return json.loads(data)["studies"][0]["tiles"]


def test_the_page_shows_images_and_truth_of_the_folder_that_is_said(isprs, call):
    dataset, results = isprs
    code, page, err = call("report", results, "--format", "html", *_place(dataset))
    assert code == 0, err
    (tile,) = _tiles(page)["tiles"]
    assert [image["name"] for image in tile["inputs"]] == list(dataset.modalities)
    assert tile["truth"].startswith("data:image/png")
    assert tile["cases"][0]["full"]["right"].endswith("% right")
    assert str(dataset.root) not in page  # a page is sent to others


def test_without_a_folder_the_page_holds_predictions_and_says_so(isprs, call):
    code, page, _ = call("report", isprs[1], "--format", "html")
    assert code == 0
    (tile,) = _tiles(page)["tiles"]
    assert (tile["inputs"], tile["truth"]) == ([], None)
    assert "the dataset is not at hand" in _tiles(page)["note"]


def test_a_folder_is_found_by_the_variable_that_runs_read(isprs, call, monkeypatch, tmp_path):
    dataset, results = isprs
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / dataset.name).symlink_to(dataset.root)
    monkeypatch.setenv("MMBENCH_DATA", str(tmp_path / "all"))
    split = ["--split-file", dataset.root / "split.yaml"]
    code, page, err = call("report", results, "--format", "html", *split)
    assert code == 0, err
    assert _tiles(page)["tiles"][0]["truth"]


def test_all_files_show_the_folder_that_is_said(isprs, call, tmp_path, monkeypatch):
    dataset, results = isprs
    seen = []
    monkeypatch.setattr(files, "save_figure", lambda figure, path: None)
    draw = files.draw_panels
    monkeypatch.setattr(
        files, "draw_panels", lambda view, *a, **k: (seen.append(view), draw(view, *a, **k))[1]
    )
    code, _, err = call("report", results, "--all", tmp_path / "out", *_place(dataset))
    assert code == 0, err
    assert [list(view.images) for view in seen] == [list(dataset.modalities)]
    assert _tiles((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))["tiles"][0]["truth"]


def test_the_figure_of_a_comparison_shows_the_folder_that_is_said(isprs, call, tmp_path, monkeypatch):
    dataset, results = isprs
    seen = []
    draw = compared.draw_disputes
    monkeypatch.setattr(
        compared, "draw_disputes", lambda tiles, *a, **k: (seen.extend(tiles), draw(tiles, *a, **k))[1]
    )
    target = tmp_path / "it.png"
    code, _, err = call("compare", *METHODS, "--results", results, "--figure", target, *_place(dataset))
    assert code == 0, err
    (tile,) = seen
    truth = dataset.read(tile.view.tile_id, labels="eroded").target
    assert np.array_equal(tile.view.target, truth)
    assert target.stat().st_size > 0


@pytest.mark.parametrize("verb", ["report", "compare"])
def test_a_folder_that_does_not_hold_the_recorded_data_is_exit_code_4(isprs, call, tmp_path, verb):
    dataset, results = isprs
    begin = {
        "report": ["report", results, "--format", "html"],
        "compare": ["compare", *METHODS, "--results", results, "--figure", tmp_path / "it.png"],
    }[verb]
    split = ["--split-file", dataset.root / "split.yaml"]
    (tmp_path / "empty").mkdir()
    code, out, err = call(*begin, "--root", tmp_path / "empty", *split)
    assert (code, out) == (4, "")
    assert f"dataset '{dataset.name}' not found in {tmp_path / 'empty'}" in err
    other = type(dataset).fake(tmp_path / "other")
    path = other._path("eroded", other.split.test[0])
    path.write_bytes(dataset._path("eroded", dataset.split.train[0]).read_bytes())
    code, _, err = call(*begin, *_place(other))
    assert code == 4
    assert "is not the one that record" in err
    assert not (tmp_path / "it.png").exists()


@pytest.mark.parametrize("arguments", [["--view", "class"], ["--format", "csv"], []])
def test_a_folder_that_nothing_would_be_read_from_is_exit_code_2(isprs, call, arguments):
    code, _, err = call("report", isprs[1], *arguments, "--root", "data")
    assert code == 2
    assert "expected them with --all or --format html" in err


def test_one_folder_for_two_datasets_is_refused_until_one_is_chosen(isprs, call, tmp_path, make_record):
    dataset, results = isprs
    for record in read_records(results):
        for path in results.glob(f"{record.id}.*"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    write_record(tmp_path, make_record())
    place = _place(dataset)
    code, _, err = call("report", tmp_path, "--format", "html", *place)
    assert code == 2
    names = ", ".join(map(repr, sorted([dataset.name, "town"])))
    assert f"the records of {names}; choose one of them with --dataset" in err
    code, page, _ = call("report", tmp_path, "--format", "html", *place, "--dataset", dataset.name)
    assert code == 0
    assert _tiles(page)["tiles"][0]["truth"]
