"""One prediction, several truths: what a run stores beside its headline scores."""

import logging

import numpy as np
import pytest
import torch

from mmbench.cells import Cell, Run, identity
from mmbench.datasets._dataset import Window
from mmbench.datasets.synthetic import Synthetic
from mmbench.errors import DataError
from mmbench.evaluation import Evaluator
from mmbench.execution import run_cell
from mmbench.metrics import confusion_matrix, scores
from mmbench.recipe import EvaluationRecipe
from mmbench.records import (
    predictions_path,
    read_confusions,
    read_predictions,
    read_record,
    record_path,
    write_record,
)
from mmbench.truth import OtherTruth
from mmbench_baselines.method import Method, Output

_CELL = Cell("modality_dropout", 0)


class PerPixel(Method):
    """Segments by thresholds on the images and counts how often it is called."""

    title = paper = source = "test"
    calls = 0

    def forward(self, images, present):
        type(self).calls += 1
        green, height = images["irrg"][:, 2], images["ndsm"][:, 0]
        return Output(
            torch.stack([green * 0, height * 8, -green * 4, height + green, green - 3, green - 4], 1)
        )

    def loss(self, output, batch):
        raise NotImplementedError


@pytest.fixture
def evaluator(small_dataset, normalizer):
    recipe = EvaluationRecipe(window=64, overlap=0.5, batch_size=3)
    return Evaluator(small_dataset, normalizer, recipe, torch.device("cpu"))


@pytest.fixture
def method(small_dataset):
    return PerPixel(small_dataset.modalities, small_dataset.num_classes)


@pytest.fixture
def short_run(small_dataset, short_recipe, tmp_path):
    return Run("synthetic", small_dataset, short_recipe, torch.device("cpu"), tmp_path, command="mmbench run")


def _lacks_full_labels_of(monkeypatch, dataset, tile):
    read = dataset.read

    def without(tile_id, window=None, *, labels="full"):
        if labels == "full" and tile_id == tile:
            raise DataError(f"tile {tile} lacks its full labels")
        return read(tile_id, window, labels=labels)

    monkeypatch.setattr(dataset, "read", without)


def test_both_policies_count_the_same_predictions_and_the_method_is_called_no_more_often(evaluator, method):
    PerPixel.calls = 0
    evaluator.confusions(method, "test", "eroded")
    once = PerPixel.calls
    evaluation = evaluator.evaluate(method)
    assert PerPixel.calls == 2 * once
    assert list(evaluation.confusions) == ["eroded", "full"]
    for policy, by_scenario in evaluation.confusions.items():
        alone = evaluator.confusions(method, "test", policy)
        assert list(by_scenario) == list(alone)
        assert all(np.array_equal(by_scenario[name], alone[name]) for name in alone)


def test_the_kept_window_holds_the_classes_that_were_counted(evaluator, method, small_dataset):
    evaluation = evaluator.evaluate(method)
    for (tile_id, scenario), classes in evaluation.predictions.classes.items():
        target = small_dataset.read(tile_id, labels="full").target  # the tiles are smaller than a window
        row = small_dataset.split.test.index(tile_id)
        counted = evaluation.confusions["full"][scenario][row]
        assert np.array_equal(confusion_matrix(target, classes, 6, 255), counted)


def test_the_second_truth_is_read_once_for_all_scenarios_and_methods(
    evaluator, method, small_dataset, monkeypatch
):
    read, pixels = small_dataset.read, {"full": 0, "eroded": 0}

    def count(tile_id, window=None, *, labels="full"):
        sample = read(tile_id, window, labels=labels)
        pixels[labels] += sample.target.size
        return sample

    monkeypatch.setattr(small_dataset, "read", count)
    evaluator.evaluate(method)
    evaluator.evaluate(method)
    tile_pixels = 128 * 128 * len(small_dataset.split.test)
    assert pixels == {"full": tile_pixels, "eroded": 2 * 3 * tile_pixels}


def test_a_truth_read_in_bands_is_the_tile_s(monkeypatch):
    dataset = Synthetic(split="small", tile_size=96)
    monkeypatch.setattr("mmbench.truth._BAND_ROWS", 40)
    truth = OtherTruth(dataset, dataset.split.test, "full")
    for tile_id in dataset.split.test:
        assert np.array_equal(truth.target(tile_id), dataset.read(tile_id, labels="full").target)


def test_a_record_keeps_the_headline_s_scores_and_the_matrices_of_both_policies(short_run):
    record = run_cell(short_run, _CELL)
    assert record.provenance["label_policies"] == ["eroded", "full"]
    headline = read_confusions(short_run.results, record)
    full = read_confusions(short_run.results, record, "full")
    assert list(headline) == list(full) == list(record.scenarios)
    for name, values in record.scenarios.items():
        assert values["miou"] == pytest.approx(scores(headline[name].sum(0), record.scored_classes).miou)
        assert full[name].sum() > headline[name].sum()  # eroded labels ignore the borders of objects
        assert (full[name] >= headline[name]).all()
    again = read_confusions(short_run.results, record, "eroded")
    assert all(np.array_equal(again[name], headline[name]) for name in headline)


def test_a_dataset_without_the_other_labels_is_scored_on_the_protocol_s_alone_and_says_why(
    short_run, monkeypatch, caplog
):
    _lacks_full_labels_of(monkeypatch, short_run.dataset, "test_01")
    with caplog.at_level(logging.WARNING, "mmbench"):
        record = run_cell(short_run, _CELL)
    assert record.status == "done"
    assert record.provenance["label_policies"] == ["eroded"]
    assert "not scored on full labels as well: tile test_01 lacks its full labels" in caplog.text
    with pytest.raises(DataError, match=rf"{record.id}\.safetensors: none were counted against 'full'"):
        read_confusions(short_run.results, record, "full")


def test_missing_labels_of_the_other_policy_change_neither_the_id_nor_the_score(
    short_run, tmp_path, monkeypatch
):
    with_both = run_cell(short_run, _CELL)
    before = read_confusions(short_run.results, with_both)
    _lacks_full_labels_of(monkeypatch, short_run.dataset, "test_00")
    other = Run("synthetic", short_run.dataset, short_run.recipe, short_run.device, tmp_path / "other")
    assert identity(other, _CELL) == with_both.identity
    without = run_cell(other, _CELL)
    assert without.scenarios == with_both.scenarios
    after = read_confusions(other.results, without)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_record_from_before_there_were_policies_still_reads_and_names_what_it_lacks(short_run):
    record = run_cell(short_run, _CELL)
    old = read_confusions(short_run.results, record)
    write_record(short_run.results, record, old)
    assert all(np.array_equal(read_confusions(short_run.results, record)[name], old[name]) for name in old)
    with pytest.raises(DataError, match=r"'full' labels.*Run the cell again"):
        read_confusions(short_run.results, record, "full")


def test_a_policy_that_lacks_a_scenario_is_named(short_run):
    record = run_cell(short_run, _CELL)
    matrices = read_confusions(short_run.results, record)
    write_record(short_run.results, record, matrices | {"full@full": matrices["full"]})
    with pytest.raises(DataError, match="'irrg@full' is missing"):
        read_confusions(short_run.results, record, "full")


def test_a_cell_leaves_its_predictions_beside_the_record(short_run):
    record = run_cell(short_run, _CELL)
    predictions = read_predictions(short_run.results, record)
    assert list(predictions.windows) == record.tiles
    assert predictions.windows["test_00"] == Window(0, 0, 128, 128)
    assert set(predictions.classes) == {(t, s) for t in record.tiles for s in record.scenarios}
    assert sorted(path.name for path in short_run.results.iterdir()) == [
        f"{record.id}.{suffix}" for suffix in ("json", "log", "predictions.npz", "safetensors")
    ]


def test_predictions_that_cannot_be_written_leave_no_new_record(short_run, monkeypatch):
    def full_disk(path, predictions):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmbench.records.save_predictions", full_disk)
    with pytest.raises(OSError, match="No space"):
        run_cell(short_run, _CELL)
    assert not list(short_run.results.glob("*.json"))


def test_a_record_without_predictions_reads_and_says_that_they_are_missing(short_run):
    record = run_cell(short_run, _CELL)
    predictions_path(short_run.results, record.id).unlink()
    assert read_record(record_path(short_run.results, record.id)) == record
    with pytest.raises(DataError, match=r"predictions\.npz: cannot be read .*run the cell again"):
        read_predictions(short_run.results, record)
