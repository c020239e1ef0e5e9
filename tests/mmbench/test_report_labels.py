"""Scores under any label policy come from the stored matrices, without running anything again."""

from pathlib import Path

import numpy as np
import pytest

from mmbench.cli import main
from mmbench.errors import DataError
from mmbench.records import matrix_name, read_records
from mmbench.reporting.rescoring import LABEL_POLICIES, rescored, without_unscored_truth

LAPTOP = Path(__file__).parents[2] / "benchmarks" / "results" / "laptop"


def test_the_recorded_policy_gives_the_recorded_scores_to_the_last_digit():
    records = read_records(LAPTOP)[:5]
    for before, after in zip(records, rescored(LAPTOP, records, "eroded"), strict=True):
        for scenario, scores in before.scenarios.items():
            for metric, value in scores.items():
                assert after.scenarios[scenario][metric] == pytest.approx(value, abs=1e-12)


def test_five_class_drops_the_pixels_of_unscored_classes_but_not_the_errors_of_predicting_them():
    matrix = np.array([[8, 1, 1], [0, 9, 1], [5, 5, 90]])
    assert without_unscored_truth(matrix, [0, 1]).tolist() == [[8, 1, 1], [0, 9, 1], [0, 0, 0]]


def test_five_class_scores_are_those_worked_out_by_hand(make_record, store_record, tmp_path):
    record = store_record("it", 0, {"full": [0.1]})
    # Truth 1000, 600, 200; a tenth of each goes to the next class, clutter to ground.
    (found,) = rescored(tmp_path, [record], "five-class")
    ground, house = 900 / 1000, 540 / (600 + 100)
    assert found.scenarios["full"]["iou"][:2] == pytest.approx([ground, house])
    assert found.scenarios["full"]["miou"] == pytest.approx((ground + house) / 2)
    assert found.scenarios["full"]["oa"] == pytest.approx(1440 / 1600)
    # With clutter its 20 pixels are false ground.
    assert record.scenarios["full"]["iou"][0] == pytest.approx(900 / 1020)


def test_full_labels_are_read_from_their_own_matrices(store_record, tmp_path):
    whole = np.array([[[50, 50, 0], [0, 100, 0], [0, 0, 100]]])
    record = store_record("it", 0, {"full": [0.1]}, extra={matrix_name("full", "full"): whole})
    (found,) = rescored(tmp_path, [record], "full")
    assert found.scenarios["full"]["oa"] == pytest.approx(250 / 300)


def test_records_without_full_labels_say_so_and_what_to_do(store_record, tmp_path, capsys):
    store_record("it", 0, {"full": [0.1], "irrg": [0.2], "ndsm": [0.3]})
    assert main(["report", str(tmp_path), "--labels", "full"]) == 4
    assert "Run the cell again" in capsys.readouterr().err


def test_a_failed_cell_needs_no_matrices(make_failure, tmp_path):
    failure = make_failure()
    assert rescored(tmp_path, [failure], "eroded") == [failure]


def test_nothing_can_be_left_out_where_every_class_is_scored(store_record, tmp_path):
    record = store_record("it", 0, {"full": [0.1]}).model_copy(update={"scored_classes": [0, 1, 2]})
    with pytest.raises(DataError, match="every class is scored"):
        rescored(tmp_path, [record], "five-class")


@pytest.mark.parametrize("policy", LABEL_POLICIES)
def test_every_table_names_its_policy(store_record, tmp_path, capsys, policy):
    matrix = np.array([[[50, 50, 0], [0, 100, 0], [0, 0, 100]]])
    store_record("it", 0, {"full": [0.1]}, extra={matrix_name("full", "full"): matrix})
    assert main(["report", str(tmp_path), "--labels", policy]) == 0
    words = {"eroded": "eroded labels,", "full": "full labels,", "five-class": "(five-class),"}
    assert words[policy] in capsys.readouterr().out
