"""The whole group that is tied with the best is marked, and nothing else; tested on stored matrices."""

import numpy as np
import pytest

from mmbench.records import record_path
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.standings import with_standings
from mmbench.reporting.tables import console_table, latex_table, markdown_table

_SEEDS, _TILES = 3, 8


@pytest.fixture
def stored(store_record, tmp_path):
    """Return a function that stores three seeds of methods with some share of errors, and compares them."""

    def store(**levels):
        records = []
        for name, level in levels.items():
            for seed in range(_SEEDS):
                rng = np.random.default_rng([seed, *name.encode()])
                wrong = {
                    s: level + more + rng.normal(0, 0.01, _TILES)
                    for s, more in (("full", 0.0), ("irrg", 0.1), ("ndsm", 0.2))
                }
                records.append(store_record(name, seed, wrong))
        (board,) = leaderboards(records)
        return with_standings(board, tmp_path, records, None), records

    return store


def test_methods_that_cannot_be_told_apart_share_the_top_group_and_clearly_worse_ones_the_next(stored):
    board, _ = stored(best=0.10, near=0.101, worse=0.25, as_bad=0.251, worst_of_all=0.45)
    for column in ("full", "irrg", "ndsm", "mean", "worst"):
        assert board.standings[column] == {"best": 1, "near": 1, "worse": 2, "as_bad": 2}


def test_markdown_prints_the_whole_top_group_bold_and_says_how_it_was_found(stored):
    board, _ = stored(best=0.10, near=0.101, worse=0.25)
    text = markdown_table(board)
    lines = {line.split()[1]: line for line in text.splitlines() if line.startswith("| ")}
    assert lines["best"].count("**") == lines["near"].count("**") == 2 * 5
    assert "**" not in lines["worse"]
    assert "**Bold**: the best score and all that are not separated" in text
    assert "3 seeds and 8 tiles; Holm over 3 pairs" in text


def test_latex_prints_the_top_group_bold_and_the_second_underlined(stored):
    board, _ = stored(best=0.10, near=0.101, worse=0.25)
    lines = {line.split()[0]: line for line in latex_table(board).splitlines() if " & " in line}
    assert lines["near"].count(r"\textbf") == 5
    assert lines["worse"].count(r"\underline") == 5
    assert r"\textbf" not in lines["worse"]


def test_an_incomplete_row_belongs_to_no_group_however_good_it_is(stored, store_record, tmp_path):
    _, records = stored(best=0.10, worse=0.25)
    lucky = store_record("lucky", 0, {s: [0.01] * _TILES for s in ("full", "irrg", "ndsm")})
    (board,) = leaderboards([*records, lucky])
    board = with_standings(board, tmp_path, records, None)
    assert board.standings["mean"] == {"best": 1, "worse": 2}
    lucky_line = next(line for line in markdown_table(board).splitlines() if line.startswith("| lucky"))
    assert "**" not in lucky_line


def test_a_row_that_lacks_a_scenario_does_not_keep_the_others_from_being_compared(
    stored, store_record, tmp_path
):
    _, records = stored(best=0.10, worse=0.25)
    partial = [store_record("partial", seed, {"full": [0.1] * _TILES}) for seed in range(_SEEDS)]
    (board,) = leaderboards([*records, *partial])
    board = with_standings(board, tmp_path, [*records, *partial], None)
    assert board.standings["mean"] == {"best": 1, "worse": 2}


def test_without_matrices_the_table_says_that_ties_were_not_tested(stored, tmp_path):
    board, records = stored(best=0.10, worse=0.25)
    record_path(tmp_path, records[0].id).with_suffix(".safetensors").unlink()
    (plain,) = leaderboards(records)
    board = with_standings(plain, tmp_path, records, None)
    assert not board.standings
    assert "Which rows are tied was not tested: matrices" in console_table(board)


def test_matrices_of_another_truth_are_not_compared(stored, store_record, tmp_path):
    _, records = stored(best=0.10)
    other = [
        store_record("other", seed, {s: [0.2] * (_TILES - 1) for s in ("full", "irrg", "ndsm")})
        for seed in range(_SEEDS)
    ]
    (board,) = leaderboards([*records, *other])
    assert "expected the same" in with_standings(board, tmp_path, [*records, *other], None).untested


def test_one_seed_and_one_tile_have_no_spread_and_so_no_groups(store_record, tmp_path):
    records = [store_record(name, 0, {"full": [level]}) for name, level in (("a", 0.1), ("b", 0.5))]
    (board,) = leaderboards(records)
    board = with_standings(board, tmp_path, records, None)
    assert board.untested == "one seed and one tile have no spread"


def test_a_table_of_one_method_has_no_groups(stored):
    board, _ = stored(only=0.1)
    assert not board.standings
    assert "tied" not in console_table(board)
