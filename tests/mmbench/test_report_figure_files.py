"""Figures of stored records: which files come of them, and what is left out where something is missing."""

import dataclasses
import logging

import numpy as np
import pytest

from mmbench.errors import DataError
from mmbench.predictions import save_predictions
from mmbench.records import predictions_path, read_confusions, read_predictions, read_records, write_record
from mmbench.reporting.data_places import DEFAULT_PLACE
from mmbench.reporting.figures import files
from mmbench.reporting.figures.boards import BoardFigures
from mmbench.reporting.figures.files import write_figures
from mmbench.reporting.figures.recorded_tiles import open_recorded, recorded_view
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.matrices import load_matrices

_OF_SCORES = ["scores", "expected", "ranks", "tradeoff", "classes"]
_WRONG = {"full": (0.1, 0.2, 0.1), "irrg": (0.3, 0.2, 0.4), "ndsm": (0.5, 0.3, 0.4)}


def _copied(trained, folder):
    for path in trained.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def _written(results, folder):
    records = read_records(results)
    paths = write_figures(results, records, leaderboards(records), folder)
    assert sorted(paths) == sorted(folder.iterdir())
    return [path.name for path in paths]


@pytest.fixture
def quick(monkeypatch):
    """Files are made, but nothing is rendered into them: that takes most of the time."""

    def touch(figure, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    monkeypatch.setattr(files, "save_figure", touch)


def _names(stems):
    return [f"{stem}.{suffix}" for stem in stems for suffix in ("pdf", "png")]


def _figures(results, records):
    (board,) = leaderboards(records)
    return board, BoardFigures(board, load_matrices(results, records)).draw()


def _words(figure):
    return " ".join(text.get_text() for text in figure.texts)


@pytest.fixture
def drawn(monkeypatch):
    """(view, methods) of each figure of panels."""
    seen, draw = [], files.draw_panels

    def spy(view, methods, *arguments, **keywords):
        seen.append((view, methods))
        return draw(view, methods, *arguments, **keywords)

    monkeypatch.setattr(files, "draw_panels", spy)
    return seen


def test_a_run_gives_every_figure_and_the_tiles_on_which_methods_differ(trained, tmp_path):
    assert _written(trained, tmp_path) == _names([*_OF_SCORES, "tile1", "tile2"])
    assert all(path.read_bytes()[:4] in (b"%PDF", b"\x89PNG") for path in tmp_path.iterdir())


def test_more_methods_than_a_figure_holds_are_divided_among_several(
    trained, tmp_path, monkeypatch, quick, drawn
):
    monkeypatch.setattr(files, "MOST_METHODS", 1)
    names = _written(trained, tmp_path)
    assert {name for name in names if "tile" in name} == set(_names(["tile1-1", "tile1-2"]))
    assert [len(methods) for _, methods in drawn] == [1, 1]
    assert drawn[0][1].keys() != drawn[1][1].keys()


def test_more_methods_than_the_panels_show_are_counted(trained, tmp_path, monkeypatch, quick):
    captions = []
    monkeypatch.setattr(files, "_METHODS_OF_PANELS", 1)
    draw = files.draw_panels
    monkeypatch.setattr(
        files, "draw_panels", lambda *a, below, **k: (captions.append(below), draw(*a, below=below, **k))[1]
    )
    _written(trained, tmp_path)
    assert captions
    assert all("; 1 of 2 methods; " in words for words in captions)


def test_records_without_predictions_give_the_figures_of_their_scores(tmp_path, store_record, quick):
    for seed in range(2):
        store_record("one", seed, _WRONG)
        store_record("two", seed, {s: [w / 2 for w in shares] for s, shares in _WRONG.items()})
    assert _written(tmp_path, tmp_path / "out") == _names(_OF_SCORES)


def test_boards_are_numbered_where_there_are_several(tmp_path, store_record, quick):
    store_record("one", 0, _WRONG)
    store_record("one", 0, _WRONG, recipe="smoke")
    names = _written(tmp_path, tmp_path / "out")
    assert {name[:2] for name in names} == {"1-", "2-"}
    assert not any("ranks" in name for name in names)  # one method has no rank


def test_matrices_that_are_gone_leave_the_panels_and_a_warning(trained, tmp_path, caplog, quick):
    results = _copied(trained, tmp_path)
    for path in results.glob("*.safetensors"):
        path.unlink()
    with caplog.at_level(logging.WARNING, "mmbench"):
        names = _written(results, tmp_path / "out")
    assert names == _names(["tile1", "tile2"])
    assert "no figures of the scores: matrices" in caplog.text


def test_damaged_predictions_are_left_out_with_a_warning(trained, tmp_path, caplog, quick):
    results = _copied(trained, tmp_path)
    record = read_records(results)[0]
    predictions_path(results, record.id).write_bytes(b"rubbish")
    with caplog.at_level(logging.WARNING, "mmbench"):
        names = _written(results, tmp_path / "out")
    assert "tile1.png" in names
    assert f"is left out of the panels: predictions {predictions_path(results, record.id)}" in caplog.text


def test_predictions_of_other_windows_are_not_held_against_the_first(trained, tmp_path, quick, drawn):
    results = _copied(trained, tmp_path)
    record = read_records(results)[0]
    predictions = read_predictions(results, record)
    shifted = {tile: window._replace(top=1) for tile, window in predictions.windows.items()}
    save_predictions(predictions_path(results, record.id), dataclasses.replace(predictions, windows=shifted))
    _written(results, tmp_path / "out")
    assert [len(methods) for _, methods in drawn] == [1, 1]


def test_figures_say_where_scores_come_from_and_what_keeps_them_from_ranking(trained):
    board, figures = _figures(trained, read_records(trained))
    assert board.unranked
    for name, figure in figures.items():
        words = _words(figure)
        assert "synthetic" in words, name
        assert "not for a" in words, name
    assert "2 tiles only: with one seed" in _words(figures["scores"])


def test_a_row_is_called_by_its_method_and_by_its_options_only_beside_another_of_it(tmp_path, store_record):
    store_record("one", 0, _WRONG, method={"set_options": {"width": 3}})
    store_record("two", 0, _WRONG, method={"set_options": {"width": 4}})
    store_record(
        "two", 0, _WRONG, method={"set_options": {"width": 5}}, identity={"precision": "float32", "x": 1}
    )
    _, figures = _figures(tmp_path, read_records(tmp_path))
    names = {text.get_text() for text in figures["ranks"].axes[0].texts}
    assert names == {"one", "two (width=4)", "two (width=5)"}


def test_the_marks_of_the_scores_are_those_of_the_table(tmp_path, store_record):
    for seed in range(3):
        store_record("one", seed, _WRONG)
    (board,) = leaderboards(read_records(tmp_path))
    _, figures = _figures(tmp_path, read_records(tmp_path))
    axes = figures["scores"].axes[0]
    inside = [line for line in axes.lines if line.get_transform() == axes.transData]
    marks = [line.get_xdata()[0] for line in inside if len(line.get_xdata()) == 1]
    expected = [board.rows[0].figures[name].mean for name in (*board.scenarios, "mean")]
    assert marks == pytest.approx(expected)


def test_a_recorded_dataset_is_opened_with_its_options_and_another_one_is_refused(trained):
    record = read_records(trained)[0]
    dataset = open_recorded(record, DEFAULT_PLACE)
    assert (dataset.tile_size, dataset.split_name) == (128, "small")
    other = record.model_copy(update={"tiles": ["elsewhere"]})
    with pytest.raises(DataError, match=r"is not that of record .*: other split or classes"):
        open_recorded(other, DEFAULT_PLACE)
    newer = dict(record.identity["dataset"]) | {"generator_version": -1}
    changed = record.model_copy(update={"identity": record.identity | {"dataset": newer}})
    with pytest.raises(DataError, match="other generator_version"):
        open_recorded(changed, DEFAULT_PLACE)


def test_a_tile_whose_truth_is_not_what_was_scored_is_not_shown(trained):
    record = read_records(trained)[0]
    matrices, predictions = read_confusions(trained, record), read_predictions(trained, record)
    dataset = open_recorded(record, DEFAULT_PLACE)
    view = recorded_view(dataset, record, matrices, predictions, "test_01")
    assert np.array_equal(view.target, dataset.read("test_01", labels="eroded").target)
    moved = {name: m + np.eye(6, dtype=np.int64) for name, m in matrices.items()}
    with pytest.raises(DataError, match="tile test_01 is not the one that record"):
        recorded_view(dataset, record, moved, predictions, "test_01")


def test_without_the_dataset_panels_hold_predictions_only(trained, tmp_path, quick, drawn):
    results = _copied(trained, tmp_path)
    for record in read_records(results):
        matrices = {name: m + 1 for name, m in read_confusions(results, record).items()}
        write_record(results, record, matrices)
    _written(results, tmp_path / "out")
    assert [(view.target, dict(view.images)) for view, _ in drawn] == [(None, {})] * 2
