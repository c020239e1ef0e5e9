"""A cell is run once, its record found again, and a failure is kept and costs nothing else."""

import dataclasses

import numpy as np
import pytest
import torch

from mmbench.cells import Cell, Run, check_options, identity, state
from mmbench.errors import DataError, InvalidRecipeError, ProtocolError
from mmbench.execution import run_cell
from mmbench.metrics import scores
from mmbench.records import read_confusions, read_record, record_path, write_record


@pytest.fixture
def short_run(small_dataset, short_recipe, tmp_path):
    return Run("synthetic", small_dataset, short_recipe, torch.device("cpu"), tmp_path, command="mmbench run")


_CELL = Cell("modality_dropout", 0)


def test_a_cell_leaves_a_record_whose_scores_follow_from_its_matrices(short_run):
    record = run_cell(short_run, _CELL)
    assert record.status == "done"
    assert state(short_run, _CELL).kind == "done"
    assert read_record(record_path(short_run.results, record.id)) == record
    matrices = read_confusions(short_run.results, record)
    for name, values in record.scenarios.items():
        recomputed = scores(matrices[name].sum(0), record.scored_classes)
        assert values["miou"] == pytest.approx(recomputed.miou)
        assert values["iou"] == pytest.approx(recomputed.iou)
    assert record.no_peek == ["irrg", "ndsm", "mixed"]
    assert record.training["steps"] == 3
    assert record.training["samples"] == 6
    assert len(record.training["curve"]) == 3
    assert record.method["parameters"] > 0
    assert "seed 0" in (short_run.results / f"{record.id}.log").read_text()


def test_running_a_cell_twice_gives_bit_identical_matrices(short_run):
    first = read_confusions(short_run.results, run_cell(short_run, _CELL))
    again = read_confusions(short_run.results, run_cell(short_run, _CELL))
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_what_can_change_a_score_changes_the_id_and_what_cannot_does_not(short_run, tmp_path):
    same = identity(short_run, _CELL)
    moved = dataclasses.replace(short_run, results=tmp_path / "elsewhere", workers=3, command="x")
    assert identity(moved, _CELL) == same

    def with_recipe(**changes):
        recipe = short_run.recipe
        training = recipe.training.model_copy(update=changes)
        return dataclasses.replace(short_run, recipe=recipe.model_copy(update={"training": training}))

    others = [
        identity(short_run, Cell("modality_dropout", 1)),
        identity(short_run, Cell("shaspec", 0)),
        identity(with_recipe(steps=4), _CELL),
        identity(with_recipe(window=96), _CELL),
        identity(with_recipe(patterns="method"), _CELL),
        identity(with_recipe(precision="bfloat16"), _CELL),
    ]
    assert all(other != same for other in others)
    words = short_run.recipe.model_copy(update={"description": "other words"})
    assert identity(dataclasses.replace(short_run, recipe=words), _CELL) == same


def test_a_changed_recipe_is_stale_and_says_how_it_differs_from_the_nearest_record(short_run):
    record = run_cell(short_run, _CELL)
    further = record.identity | {"precision": "bfloat16", "recipe": {"training": {"steps": 9}}}
    write_record(short_run.results, record.model_copy(update={"id": "0" * 16, "identity": further}))
    training = short_run.recipe.training.model_copy(update={"steps": 4})
    changed = dataclasses.replace(
        short_run, recipe=short_run.recipe.model_copy(update={"training": training})
    )
    found = state(changed, _CELL)
    assert (found.kind, found.reason) == ("stale", "recipe.training.steps: 3 -> 4")
    assert state(short_run, Cell("modality_dropout", 7)).kind == "missing"


def test_a_method_that_raises_leaves_a_failed_record_that_says_why(short_run, monkeypatch):
    from mmbench_baselines.modality_dropout import ModalityDropout

    def explode(self, images, present):
        raise RuntimeError("no such\n  luck")

    monkeypatch.setattr(ModalityDropout, "forward", explode)
    record = run_cell(short_run, _CELL)
    assert record.status == "failed"
    assert record.error == {"kind": "method", "message": "RuntimeError: no such luck"}
    found = state(short_run, _CELL)
    assert (found.kind, found.reason) == ("failed", "RuntimeError: no such luck")
    assert "Traceback" in (short_run.results / f"{record.id}.log").read_text()


def test_a_method_that_peeks_fails_as_a_broken_protocol(short_run, monkeypatch):
    def peek(self, name, method):
        raise ProtocolError("it looks")

    monkeypatch.setattr("mmbench.evaluation.Evaluator.check_no_peek", peek)
    record = run_cell(short_run, _CELL)
    assert (record.status, record.error) == ("failed", {"kind": "protocol", "message": "it looks"})
    assert record.scenarios == {}


def test_a_rerun_that_fails_keeps_the_finished_record(short_run, monkeypatch):
    from mmbench_baselines.modality_dropout import ModalityDropout

    done = run_cell(short_run, _CELL)

    def explode(self, images, present):
        raise RuntimeError("no luck")

    monkeypatch.setattr(ModalityDropout, "forward", explode)
    assert run_cell(short_run, _CELL).status == "failed"
    assert read_record(record_path(short_run.results, done.id)) == done


def test_faulty_data_stop_the_run_instead_of_failing_cell_after_cell(short_run, monkeypatch):
    def truncated(*arguments, **keywords):
        raise DataError("tile t: truncated")

    monkeypatch.setattr(short_run.dataset, "read", truncated)
    with pytest.raises(DataError, match="truncated"):
        run_cell(short_run, _CELL)
    assert list(short_run.results.glob("*.json")) == []


def test_an_option_that_a_method_does_not_have_is_named_before_anything_runs(short_recipe, small_dataset):
    recipe = short_recipe.model_copy(update={"methods": {"modality_dropout": {"widht": 3}}})
    with pytest.raises(
        InvalidRecipeError, match="'modality_dropout' has no option 'widht'; it has: base_width"
    ):
        check_options(recipe, ["modality_dropout"], small_dataset)


def test_weights_come_back_as_the_method_they_were(short_run, tmp_path):
    from mmbench.execution import build_method
    from mmbench.weights import Header, load_weights, save_weights

    method = build_method(short_run, _CELL).eval()
    header = Header(
        method=_CELL.method,
        options=dict(short_run.recipe.methods[_CELL.method]),
        seed=0,
        recipe=short_run.recipe,
        dataset="synthetic",
        dataset_options={"split": "small", "tile_size": 128},
        modalities=short_run.dataset.modalities,
        num_classes=6,
        ignore_index=255,
        statistics=dict(short_run.normalizer.statistics),
    )
    save_weights(tmp_path / "w.safetensors", method, header)
    again, read = load_weights(tmp_path / "w.safetensors")
    assert read == header
    images = {name: torch.rand(1, c, 64, 64) for name, c in short_run.dataset.modalities.items()}
    present = torch.ones(1, 2, dtype=torch.bool)
    assert torch.equal(method(images, present).logits, again.eval()(images, present).logits)


def test_a_weights_file_that_is_none_is_named(tmp_path):
    from mmbench.weights import load_weights

    path = tmp_path / "w.safetensors"
    path.write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"w\.safetensors: cannot be read"):
        load_weights(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_weights(tmp_path / "none.safetensors")


class _Blank:
    """A dataset whose tiles of one role show nothing that is scored."""

    def __init__(self, dataset, role):
        self._dataset, self._tiles = dataset, dataset.split.role(role)

    def __getattr__(self, name):
        return getattr(self._dataset, name)

    def read(self, tile_id, window=None, *, labels="full"):
        sample = self._dataset.read(tile_id, window, labels=labels)
        blank = np.full_like(sample.target, 255)
        blank[0, 0] = 5  # clutter, which is not scored
        return dataclasses.replace(sample, target=blank) if tile_id in self._tiles else sample


@pytest.mark.parametrize("role", ["val", "test"])
def test_tiles_on_which_nothing_can_be_scored_are_refused_before_training(short_run, role):
    short_run.check_tiles()
    run = dataclasses.replace(short_run, dataset=_Blank(short_run.dataset, role))
    with pytest.raises(DataError, match=rf"{role} tiles {role}_00.* show no scored class"):
        run.check_tiles()
