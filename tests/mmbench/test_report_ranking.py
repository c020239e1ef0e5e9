"""A leaderboard is what a record's identity makes it, not its claim; and a conviction counts everywhere."""

import json

import pytest

from mmbench.records import fingerprint
from mmbench.reporting.exports import report_json
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.tables import console_table


def _ranks(boards):
    methods = [method for board in json.loads(report_json(boards))["boards"] for method in board["methods"]]
    return {method["label"]: method["rank"] for method in methods}


def test_records_of_the_ranked_recipe_are_ranked_in_the_order_of_their_means(make_record):
    boards = leaderboards(
        [make_record("low", miou={"full": 0.5, "irrg": 0.5, "ndsm": 0.1}), make_record("high")]
    )
    assert _ranks(boards) == {"high": 1, "low": 2}
    assert boards[0].ranked
    assert "not for a leaderboard" not in console_table(boards[0])


@pytest.mark.parametrize("recipe", ["smoke", "laptop", "paper"])
def test_a_record_of_another_recipe_is_not_ranked_whatever_it_claims(make_record, recipe):
    forged = make_record("forged", recipe=recipe, ranked=True, recipe_name="default")
    boards = leaderboards([forged, make_record("honest")])
    assert _ranks(boards) == {"forged": None, "honest": 1}
    assert len(boards) == 2  # and it does not even stand in the same table


def test_a_changed_recipe_is_not_ranked(make_record):
    record = make_record(ranked=False, recipe_name="default (changed)")
    assert _ranks(leaderboards([record])) == {"it": None}


def test_a_record_whose_id_is_not_that_of_its_identity_is_not_ranked(make_record):
    forged = make_record("forged", id="0" * 16)
    assert _ranks(leaderboards([forged, make_record("honest")])) == {"forged": None, "honest": 1}


def test_a_record_without_the_proof_of_no_peek_is_not_ranked(make_record):
    boards = leaderboards([make_record("unproved", no_peek=[]), make_record("proved")])
    assert _ranks(boards) == {"unproved": None, "proved": 1}
    assert "No-peek was not proved: not for a leaderboard." in "\n".join(map(console_table, boards))


def test_a_ranked_record_from_before_a_key_of_the_recipe_stays_ranked(make_record):
    record = make_record()
    del record.identity["recipe"]["training"]["photometric"]  # its default is what was done then
    record.id = fingerprint(record.identity)
    assert _ranks(leaderboards([record])) == {"it": 1}


def test_code_that_broke_the_protocol_in_any_recipe_has_no_row_in_any(make_record, make_failure):
    caught = make_failure("peeks", seed=1, kind="protocol", message="it looks", recipe="smoke")
    boards = leaderboards([make_record("peeks"), make_record("honest"), caught])
    assert [row.label for board in boards for row in board.all_rows] == ["honest"]
    assert all("it looks" in console_table(board) for board in boards)


def test_another_version_of_the_code_is_not_convicted_with_it(make_record, make_failure):
    code = {"method": "mended", "blocks": "b", "operators": "o", "loop": "l", "dataset": "d"}
    mended = make_record("peeks", identity={"code": code})
    (board,) = leaderboards([mended, make_failure("peeks", seed=1, kind="protocol")])
    assert [row.label for row in board.all_rows] == ["peeks"]
