"""Leaderboards summarise what may be compared, and tables print it safely."""

import re

import pytest

from mmbench.records import Record
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.progress import display
from mmbench.reporting.tables import console_table, latex_table, markdown_table
from mmbench.statistics import summarise


def _record(name="it", seed=0, full=0.8, irrg=0.6, status="done", started="2026-01-01", **changes):
    identity = {
        "protocol": 1,
        "method": {"name": name, "options": {}},
        "code": {"method": name, "blocks": "b", "operators": "o", "loop": "l", "dataset": "d"},
        "dataset": {"name": "synthetic", "split": "s", "modalities": {"irrg": 3, "ndsm": 1}},
        "labels": {"train": "full", "test": "eroded"},
        "recipe": {"training": {"steps": 5}},
        "precision": "float32",
        "seed": seed,
    }
    scenarios = {
        scenario: {"miou": value, "mf1": value, "oa": value, "kappa": value, "iou": [value], "f1": [value]}
        for scenario, value in (("full", full), ("irrg", irrg))
    }
    facts = {
        "id": f"{name}{seed}",
        "status": status,
        "identity": identity | changes.pop("identity", {}),
        "recipe_name": "default",
        "ranked": True,
        "method": {"title": name, "parameters": 1_500_000, "sees_hidden_in_training": name == "sees"},
        "classes": ["a"],
        "scored_classes": [0],
        "scenarios": scenarios if status == "done" else {},
        "training": {"seconds": 12.0},
        "environment": {"device": "cpu"},
        "provenance": {"split": "standard", "started": started},
        "error": None if status == "done" else {"kind": "method", "message": "no luck"},
    }
    return Record(**(facts | changes))


def test_three_seeds_give_mean_and_sample_deviation_and_two_give_none():
    assert summarise([1.0, 2.0, 4.0]).deviation == pytest.approx(1.527525)
    assert summarise([1.0, 2.0]).deviation is None
    with pytest.raises(ValueError, match="one a seed"):
        summarise([])


def test_mean_and_worst_are_taken_within_a_seed_before_they_are_summarised():
    records = [
        _record(seed=0, full=0.9, irrg=0.5),
        _record(seed=1, full=0.4, irrg=0.6),
        _record(seed=2, full=0.8, irrg=0.4),
    ]
    (board,) = leaderboards(records)
    figures = board.rows[0].figures
    assert figures["full"].mean == pytest.approx(70.0)
    assert figures["mean"].mean == pytest.approx((70 + 50 + 60) / 3)
    assert figures["worst"].mean == pytest.approx((50 + 40 + 40) / 3)  # not the worst of the means
    assert board.rows[0].seeds == (0, 1, 2)


def test_what_may_not_be_compared_stands_in_different_tables():
    records = [
        _record(),
        _record(identity={"recipe": {"training": {"steps": 6}}}),
        _record(identity={"precision": "bfloat16"}),
        _record(identity={"dataset": {"name": "potsdam", "split": "s"}}),
    ]
    assert len(leaderboards(records)) == 4


def test_methods_are_ranked_by_their_mean_and_the_later_record_of_a_seed_counts():
    records = [
        _record("low", full=0.2, irrg=0.2),
        _record("high", full=0.9, irrg=0.9, started="2026-01-02"),
        _record("high", full=0.1, irrg=0.1, started="2026-01-01"),
    ]
    (board,) = leaderboards(records)
    assert [row.label for row in board.rows] == ["high", "low"]
    assert board.rows[0].figures["full"].mean == pytest.approx(90.0)


def test_options_make_a_row_of_their_own():
    plain = _record()
    wide = _record(method=plain.method | {"set_options": {"width": 16}})
    (board,) = leaderboards([plain, wide])
    assert {row.label for row in board.rows} == {"it", "it (width=16)"}


def test_failed_cells_are_said_and_not_ranked():
    (board,) = leaderboards([_record(), _record("bad", status="failed")])
    assert [row.label for row in board.rows] == ["it"]
    assert "No score: bad seed 0: no luck." in console_table(board)


def test_a_table_of_failures_alone_is_still_a_table():
    (board,) = leaderboards([_record("bad", status="failed")])
    for render in (console_table, markdown_table, latex_table):
        assert "no luck" in render(board)


def test_an_undefined_score_is_a_dash_and_does_not_enter_the_mean():
    record = _record()
    record.scenarios["irrg"]["miou"] = None
    (board,) = leaderboards([record])
    assert re.search(r"it\s+80\.0\s+-\s+80\.0\s+80\.0", console_table(board))


def test_training_on_hidden_content_is_marked_and_explained():
    (board,) = leaderboards([_record("sees"), _record("blind")])
    text = console_table(board)
    assert re.search(r"^sees \*", text, re.MULTILINE)
    assert re.search(r"^blind  ", text, re.MULTILINE)
    assert "content of hidden modalities" in text


def test_a_recipe_that_is_not_ranked_and_mixed_code_are_said():
    other = _record("other", ranked=False)
    other.identity["code"] = other.identity["code"] | {"loop": "changed"}
    (board,) = leaderboards([_record(ranked=False), other])
    assert "not for a leaderboard" in console_table(board)
    assert "different versions of the code" in console_table(board)


def test_seeds_of_one_row_from_different_code_are_said():
    other = _record(seed=1)
    other.identity["code"] = other.identity["code"] | {"method": "edited"}
    (board,) = leaderboards([_record(seed=0), other])
    assert "different versions of the code" in console_table(board)
    (board,) = leaderboards([_record("a"), _record("b")])
    assert "different versions of the code" not in console_table(board)


def test_a_method_that_broke_the_protocol_with_one_seed_has_no_row():
    broken = _record(seed=1, status="failed", error={"kind": "protocol", "message": "it looks"})
    (board,) = leaderboards([_record(seed=0), broken, _record("other")])
    assert [row.label for row in board.rows] == ["other"]
    assert "it looks" in console_table(board)


def test_markdown_is_a_table_with_deviations():
    (board,) = leaderboards([_record(seed=s, full=0.8 + s / 100) for s in range(3)])
    lines = markdown_table(board).splitlines()
    assert "| it       | 81.0 ± 1.0 | 60.0 ± 0.0 |" in lines[4]


def test_latex_has_rules_and_an_escaped_caption():
    (board,) = leaderboards([_record("a_b%", seed=s) for s in range(3)])
    text = latex_table(board)
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    assert r"a\_b\% & 80.0 {\scriptsize $\pm$ 0.0}" in text
    assert r"mIoU (\%) on synthetic (irrg + ndsm)" in text
    assert text.count(r"\\") == 2  # header and one row


@pytest.mark.parametrize("name", ["<script>", "a|b", "a_b*c", "`x`"])
def test_names_cannot_become_markup_in_markdown(name):
    (board,) = leaderboards([_record(name)])
    row = markdown_table(board).splitlines()[4]
    assert "<script>" not in row.replace(r"\<", "")
    assert len(re.findall(r"(?<!\\)\|", row)) == len(board.scenarios) + 7


def test_plain_progress_prints_a_line_every_half_minute_and_the_result(capsys, monkeypatch):
    clock = iter([0.0, 10.0, 31.0, 40.0, 62.0])
    monkeypatch.setattr("mmbench.reporting.progress.time.monotonic", lambda: next(clock))
    with display("plain") as shown:
        shown.cell(1, 2, "it seed 0")
        for step in range(1, 5):
            shown.step("train", step, 4, {"loss": 1.5})
        shown.result("mIoU 50.0")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "[1/2] it seed 0: started",
        "[1/2] it seed 0: train 2/4, loss 1.500, 31 s",
        "[1/2] it seed 0: train 4/4, loss 1.500, 62 s",
        "[1/2] it seed 0: mIoU 50.0",
    ]


def test_rich_progress_shows_results_and_off_shows_nothing(capsys):
    for style, expected in (("rich", True), ("off", False)):
        with display(style) as shown:
            shown.cell(1, 1, "it [seed] 0")
            shown.step("train", 1, 2, {"loss": 1.0})
            shown.step("test", 1, 2, {})
            shown.result("mIoU 50.0")
        captured = capsys.readouterr()
        assert ("it [seed] 0: mIoU 50.0" in captured.err) is expected
        assert captured.out == ""
