"""`mmbench compare` where runs stored predictions: on how many pixels two differ, and a figure of where."""

import json

import numpy as np
import pytest

from mmbench.cli import main
from mmbench.datasets.synthetic import Synthetic
from mmbench.predictions import LARGEST_SIDE, Predictions, save_predictions
from mmbench.records import predictions_path
from mmbench.reporting.figures import compared
from mmbench.reporting.figures.tile_views import Legend

METHODS = ("modality_dropout", "early_fusion")
"""Of the fixture `trained`."""


@pytest.fixture
def call(tmp_path, capfd):
    """Compare on the command line; returns (code, stdout, stderr)."""

    def run(*arguments):
        code = main(["compare", *arguments, "--results", str(tmp_path)])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def _numbers(call, *arguments):
    code, out, err = call(*arguments, "--json", "-")
    assert code == 0, err
    return json.loads(out)


def _predictions(seed, height=30):
    """Predictions of two tiles, one of them higher than a stored window is."""
    generator, found = np.random.default_rng(seed), Predictions()
    for scenario in ("full", "irrg"):
        for tile, rows in (("t0", height), ("t1", LARGEST_SIDE + 40)):
            found.add(tile, scenario, generator.integers(0, 3, (rows, 20), dtype=np.uint8))
    return found


@pytest.fixture
def predicted(store_record, tmp_path):
    """Return a function that stores a record with predictions, and returns both."""

    def store(name, seed, predictions):
        record = store_record(name, seed, {"full": [0.1, 0.2], "irrg": [0.2, 0.3]})
        save_predictions(predictions_path(tmp_path, record.id), predictions)
        return record, predictions

    return store


def test_pixels_that_differ_are_counted_one_by_one_over_seeds(predicted, call):
    pairs = [
        [predicted(name, seed, _predictions(10 * seed + number))[1] for number, name in enumerate("ab")]
        for seed in (0, 1)
    ]
    found = _numbers(call, "a", "b", "--scenario", "irrg")
    assert found["predictions"] == {"compared": True, "why_not": ""}

    def share(scenarios, tiles):
        differs = [
            (one.classes[tile, scenario] != other.classes[tile, scenario]).reshape(-1)
            for one, other in pairs
            for scenario in scenarios
            for tile in tiles
        ]
        return pytest.approx(100 * np.concatenate(differs).mean())

    tiles = ("t0", "t1")
    shown = {row["scenario"]: row["pixels_differ"] for row in found["scenarios"]}
    assert shown == {
        "full": share(["full"], tiles),
        "irrg": share(["irrg"], tiles),
        "mean": share(["full", "irrg"], tiles),
        "worst": None,
    }
    assert {t["tile"]: t["pixels_differ"] for t in found["tiles"]} == {t: share(["irrg"], [t]) for t in tiles}
    code, out, _ = call("a", "b")
    assert code == 0
    (line,) = (line for line in out.splitlines() if line.startswith("mean") and "≥" in line)
    assert line.split()[-1] == f"{shown['mean']:.1f}"


def test_the_least_share_from_matrices_is_never_above_the_pixels_that_differ(trained, capfd):
    assert main(["compare", *METHODS, "--results", str(trained), "--json", "-"]) == 0
    found = json.loads(capfd.readouterr().out)
    for tile in found["tiles"]:
        differing = tile["pixels_differ"] * 128**2  # the windows are the whole tiles
        assert 0 < tile["pixels_apart_at_least"] * tile["pixels"] <= differing


def test_without_predictions_the_numbers_stand_and_the_reason_is_said(predicted, store_record, call):
    predicted("a", 0, _predictions(0))
    lacking = store_record("b", 0, {"full": [0.1, 0.3], "irrg": [0.2, 0.3]})
    found = _numbers(call, "a", "b")
    assert found["predictions"]["compared"] is False
    assert {row["pixels_differ"] for row in found["scenarios"]} == {None}
    code, out, _ = call("a", "b")
    assert code == 0
    assert f"pixels differ (%): not known, record {lacking.id} (b, seed 0) holds no predictions" in out
    assert found["predictions"]["why_not"] in out


def test_a_figure_without_predictions_is_an_error_that_names_the_record(
    predicted, store_record, call, tmp_path
):
    predicted("a", 0, _predictions(0))
    lacking = store_record("b", 0, {"full": [0.1, 0.3], "irrg": [0.2, 0.3]})
    target = tmp_path / "it.png"
    code, out, err = call("a", "b", "--figure", str(target))
    assert (code, out) == (4, "")
    assert f"record {lacking.id} (b, seed 0) holds no predictions" in err
    assert "run the cell again with --rerun" in err
    assert not target.exists()


def test_predictions_of_different_windows_are_not_held_against_each_other(predicted, call):
    one, _ = predicted("a", 0, _predictions(0))
    other, _ = predicted("b", 0, _predictions(1, height=31))
    assert _numbers(call, "a", "b")["predictions"]["why_not"].startswith(
        f"records {one.id} and {other.id} hold predictions of different windows of tile t0"
    )


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_a_figure_has_the_same_bytes_each_time_and_the_tables_are_printed_all_the_same(
    trained, tmp_path, capfd, suffix
):
    paths = [tmp_path / str(number) / f"it.{suffix}" for number in range(2)]
    arguments = ["compare", *METHODS, "--results", str(trained), "--scenario", "ndsm", "--figure"]
    for path in paths:
        assert main([*arguments, str(path)]) == 0
        said = capfd.readouterr()
        assert said.err == f"wrote {path}\n"
        assert "A - B" in said.out
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes()[:4] in (b"%PDF", b"\x89PNG")


@pytest.fixture
def drawn(monkeypatch):
    """The tiles and scenarios of the last figure of disputes, and the words below its title."""
    seen, draw = {}, compared.draw_disputes

    def spy(tiles, pair, scenarios, *arguments, **keywords):
        seen.update(tiles=tiles, scenarios=list(scenarios), below=keywords["below"])
        seen["figure"] = draw(tiles, pair, scenarios, *arguments, **keywords)
        return seen["figure"]

    monkeypatch.setattr(compared, "draw_disputes", spy)
    return seen


def test_a_figure_shows_the_tiles_that_give_most_with_their_images_and_truth(trained, tmp_path, capfd, drawn):
    arguments = ["compare", *METHODS, "--results", str(trained), "--json", "-"]
    assert main([*arguments, "--figure", str(tmp_path / "it.png")]) == 0
    tiles = json.loads(capfd.readouterr().out)["tiles"]
    expected = sorted(tiles, key=lambda tile: -abs(tile["contribution"]))
    assert [tile.view.tile_id for tile in drawn["tiles"]] == [tile["tile"] for tile in expected]
    first = drawn["tiles"][0]
    dataset = Synthetic(split="small", tile_size=128)
    assert np.array_equal(first.view.target, dataset.read(first.view.tile_id, labels="eroded").target)
    assert list(first.view.images) == ["irrg", "ndsm"]
    assert f"gives {expected[0]['contribution']:+.2f} points" in first.words
    assert drawn["scenarios"] == ["full", "irrg", "ndsm"]
    assert "A: modality_dropout (base_width=8); B: early_fusion;" in drawn["below"]
    assert "not at hand" not in drawn["below"]


def test_without_the_dataset_a_figure_holds_predictions_only(predicted, call, tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(
        compared, "recorded_legend", lambda record: Legend(record.classes, ((0, 0, 0), (9, 9, 9), (5, 5, 5)))
    )
    predicted("a", 0, _predictions(0))
    predicted("b", 0, _predictions(1))
    code, _, _ = call("a", "b", "--figure", str(tmp_path / "it.png"), "--scenario", "irrg")
    assert code == 0
    assert {tile.view.target for tile in drawn["tiles"]} == {None}
    shapes = {round(axes.bbox.height / axes.bbox.width, 2) for axes in drawn["figure"].axes}
    assert shapes == {30 / 20, LARGEST_SIDE / 20}  # no tile is stretched to the form of another
    assert drawn["scenarios"] == ["irrg"]
    assert "predictions only, the dataset is not at hand" in drawn["below"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--figure", "it.gif"], "expected a name that ends with .png, .svg, .pdf"),
        (["--root", "data"], "expected them with it"),
        (["--split-file", "split.yaml"], "expected them with it"),
    ],
)
def test_what_no_figure_can_be_made_of_is_exit_code_2(call, arguments, words):
    code, _, err = call("a", "b", *arguments)
    assert code == 2
    assert words in err
