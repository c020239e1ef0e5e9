"""Tables say how learning rates were found, what that took, and which rows are not to be compared plainly."""

import re

import pytest

from mmbench.records import Record
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.tables import console_table, latex_table, markdown_table

_RATES = (0.0005, 0.00015, 0.0015)
_RENDERS = (console_table, markdown_table, latex_table)


def _record(name="it", seed=0, rate=None, note=None, **changes):
    """A finished record; with a rate it stands for one whose search chose it."""
    search = None if rate is None else {"learning_rates": list(_RATES), "steps": 1000}
    trials = [
        {
            "learning_rate": tried,
            "steps": 1000,
            "miou": 0.5,
            "seconds": 20.0 + seed,
            "error": "",
            "chosen": tried == rate,
        }
        for tried in (_RATES if rate else ())
    ]
    values = {"miou": 0.5, "mf1": 0.5, "oa": 0.5, "kappa": 0.5, "iou": [0.5], "f1": [0.5]}
    method = {"title": name, "parameters": 1_500_000, "sees_hidden_in_training": name == "sees"}
    facts = {
        "id": f"{name}{seed}",
        "status": "done",
        "identity": {
            "protocol": 1,
            "method": {"name": name, "options": {}},
            "code": {"method": name, "blocks": "b", "operators": "o", "loop": "l", "dataset": "d"},
            "dataset": {"name": "synthetic", "split": "s", "modalities": {"irrg": 3, "ndsm": 1}},
            "labels": {"train": "full", "test": "eroded"},
            "recipe": {"training": {"steps": 20000, "search": search}},
            "precision": "float32",
            "seed": seed,
        },
        "recipe_name": "default",
        "ranked": True,
        "method": method | ({} if note is None else {"note": note}) | changes.pop("method", {}),
        "classes": ["a"],
        "scored_classes": [0],
        "scenarios": {"full": values, "irrg": values},
        "training": {"seconds": 12.0, "trials": trials},
        "environment": {"device": "cpu"},
        "provenance": {"split": "standard", "started": "2026-01-01"},
    }
    return Record(**(facts | changes))


def _plain(text):
    """The text without what Markdown and LaTeX need."""
    return text.replace("\\", "")


@pytest.mark.parametrize("render", _RENDERS)
def test_every_format_says_how_many_trials_chose_which_learning_rates(render):
    (board,) = leaderboards([_record("a", rate=0.0005), _record("b", rate=0.00015)])
    words = (
        "Learning rate of each method and seed: the best of 3 trials of 1000 steps on validation tiles "
        "(a 0.0005, b 0.00015). train (s) is without the trials, trials (s) is their time."
    )
    assert words in _plain(render(board))


def test_seeds_that_chose_alike_are_said_once_and_others_one_by_one():
    alike = [_record("a", seed, rate=0.0005) for seed in range(3)]
    apart = [_record("b", seed, rate=rate) for seed, rate in enumerate(_RATES)]
    (board,) = leaderboards(alike + apart)
    assert "(a 0.0005, b 0.0005 / 0.00015 / 0.0015)" in console_table(board)


def test_the_time_of_the_trials_has_a_column_of_its_own_and_is_not_in_that_of_training():
    (board,) = leaderboards([_record(seed=seed, rate=0.0005) for seed in (0, 2)])
    lines = console_table(board).splitlines()
    assert re.search(r"params \(M\)\s+train \(s\)\s+trials \(s\)\s+seeds$", lines[2])
    assert lines[4].split()[-4:] == ["1.50", "12", "63", "2"]  # 3 · 20 and 3 · 22 s


@pytest.mark.parametrize("render", _RENDERS)
def test_without_a_search_nothing_is_said_of_one(render):
    for training in (
        {"seconds": 12.0, "trials": []},
        {"seconds": 12.0},
    ):  # the second from before there was one
        record = _record(training=training)
        del record.identity["recipe"]["training"]["search"]
        (board,) = leaderboards([record])
        assert "trials" not in render(board)
        assert "Learning rate" not in render(board)


def test_records_with_and_without_a_search_stand_in_different_tables():
    assert len(leaderboards([_record(rate=0.0005), _record()])) == 2


def test_failed_cells_alone_make_a_table_that_does_not_speak_of_their_rates():
    failed = _record(
        rate=0.0005,
        status="failed",
        scenarios={},
        training={},
        error={"kind": "method", "message": "no luck"},
    )
    (board,) = leaderboards([failed])
    for render in _RENDERS:
        assert "no luck" in render(board)
        assert "Learning rate" not in render(board)


@pytest.mark.parametrize(("render", "mark"), [*((r, "†") for r in _RENDERS[:2]), (latex_table, r"$\dagger$")])
def test_every_format_marks_a_method_that_has_a_note_and_prints_it(render, mark):
    (board,) = leaderboards([_record("sum", note="it is a sum"), _record("plain", note=""), _record("old")])
    text = render(board)
    rows = {
        name: [line for line in text.splitlines() if name in line and "50.0" in line]
        for name in ("sum", "plain", "old")
    }
    assert [mark in row for (row,) in rows.values()] == [True, False, False]
    assert f"{mark}: sum: it is a sum." in text
    assert "†" in text or render is latex_table


def test_latex_never_holds_the_bare_sign():
    (board,) = leaderboards([_record("sum", note="it is a sum")])
    assert "†" not in latex_table(board)


def test_a_method_can_have_both_marks_and_one_note_of_several_rows_is_printed_once():
    records = [
        _record("sees", note="shared"),
        _record("sees", note="shared", method={"set_options": {"width": 8}}),
        _record("third", note="other"),
    ]
    (board,) = leaderboards(records)
    lines = console_table(board).splitlines()
    assert any(line.startswith("sees * †") for line in lines)
    assert [line for line in lines if line.startswith("†")] == [
        "†: sees, sees (width=8): shared.",
        "†: third: other.",
    ]
    assert sum(line.startswith("*:") for line in lines) == 1


def test_a_run_carries_the_note_of_its_method_into_the_record(small_dataset, short_recipe, tmp_path):
    import torch

    from mmbench.cells import Cell, Run
    from mmbench.execution import run_cell
    from mmbench_baselines.expert_switch import ExpertSwitch

    recipe = short_recipe.model_copy(update={"methods": {"expert_switch": {"base_width": 8}}})
    run = Run("synthetic", small_dataset, recipe, torch.device("cpu"), tmp_path)
    records = [run_cell(run, Cell(name, 0)) for name in ("expert_switch", "modality_dropout")]
    assert [record.method["note"] for record in records] == [ExpertSwitch.beware, ""]
    (board,) = leaderboards(records)
    assert f"†: expert_switch (base_width=8): {ExpertSwitch.beware}." in console_table(board)


@pytest.mark.parametrize("render", _RENDERS)
def test_five_class_labels_are_named_in_the_title(render):
    six, five = _record(), _record()
    five.identity["dataset"]["label_mode"] = "five-class"
    six.identity["dataset"]["label_mode"] = "six-class"
    (board,), (plain,) = leaderboards([five]), leaderboards([six])
    assert "five classes (GEMMNet-style)" in _plain(render(board))
    assert "GEMMNet-style" not in _plain(render(plain))
    assert len(leaderboards([six, five])) == 2
