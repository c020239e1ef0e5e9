"""A row that lacks a seed or a scenario stands below a rule: it is not compared with the others."""

import pytest

from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.rows import number_words
from mmbench.reporting.tables import RENDERERS, console_table, latex_table, markdown_table
from mmbench.reporting.views import leaderboard_table

_GOOD = {"full": 0.95, "irrg": 0.95, "ndsm": 0.95}


@pytest.fixture
def whole(make_record):
    """Three seeds of a method."""
    return [make_record("whole", seed) for seed in range(3)]


def test_a_method_without_a_seed_that_others_have_is_not_among_the_ranked(make_record, whole):
    (board,) = leaderboards([*whole, make_record("lucky", 0, _GOOD)])
    assert [row.label for row in board.rows] == ["whole"]
    assert [row.lacks for row in board.incomplete] == [("no seed 1, 2",)]
    assert "Not compared, because incomplete: lucky: no seed 1, 2." in console_table(board)


def test_a_failed_seed_makes_a_method_incomplete_and_is_said(make_record, make_failure, whole):
    (board,) = leaderboards([*whole, make_record("it", 0), make_record("it", 1), make_failure("it", 2)])
    assert board.incomplete[0].lacks == ("seed 2 failed",)
    assert "No score: it seed 2: no luck." in console_table(board)


def test_a_seed_that_only_a_convicted_method_ran_is_asked_of_nobody(make_record, make_failure):
    (board,) = leaderboards([make_record("honest", 0), make_failure("peeks", 1, kind="protocol")])
    assert [row.label for row in board.rows] == ["honest"]
    assert board.seeds == (0,)


def test_a_missing_scenario_leaves_no_mean_and_no_worst(make_record, whole):
    partial = [make_record("partial", seed, {"full": 0.95, "irrg": 0.95}) for seed in range(3)]
    (board,) = leaderboards([*whole, *partial])
    (row,) = board.incomplete
    assert row.lacks == ("no scenario ndsm",)
    assert set(row.figures) == {"full", "irrg"}


def test_below_three_seeds_there_is_no_deviation_and_their_number_is_printed(make_record):
    (board,) = leaderboards([make_record(seed=seed) for seed in range(2)])
    row = next(line for line in console_table(board).splitlines() if line.startswith("it "))
    assert "±" not in row
    assert row.split()[-1] == "2"


@pytest.mark.parametrize("style", sorted(RENDERERS))
def test_every_format_puts_incomplete_rows_last_behind_a_rule(make_record, whole, style):
    (board,) = leaderboards([*whole, make_record("lucky", 0, _GOOD)])
    table = leaderboard_table(board)
    text = RENDERERS[style](table)
    rule = {"latex": r"\midrule", "html": '<tbody class="below">'}.get(style, "not compared:")
    assert text.index("whole") < text.rindex(rule) < text.index("lucky")


def test_the_rule_is_not_there_where_every_row_is_complete(whole):
    (board,) = leaderboards(whole)
    assert latex_table(board).count(r"\midrule") == 1
    assert "not compared" not in markdown_table(board)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [((), ""), ((3,), "3"), ((0, 1), "0, 1"), ((2, 0, 1, 5), "0 to 2, 5"), ((1, 3), "1, 3")],
)
def test_seeds_in_a_row_are_said_as_a_range(numbers, words):
    assert number_words(numbers) == words
