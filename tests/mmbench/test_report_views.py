"""Views: what one number says of all scenarios, classes, subsets, regimes, and accuracy against cost."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench.errors import InvalidRecipeError
from mmbench.reporting.cost_views import pareto_optimal, record_cost_view, tradeoff_view
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.regimes import regime_view
from mmbench.reporting.robustness import expected_score, robustness
from mmbench.reporting.tables import RENDERERS
from mmbench.reporting.views import class_view, subset_view, summary_view

_MODALITIES = ("irrg", "ndsm")


def _cells(table):
    """Row's name -> heading -> words."""
    return {
        str(row[0]): dict(zip(table.headers, map(str, row), strict=True))
        for row in (*table.rows, *table.below)
    }


def _profile(gflop):
    work = {name: {"flops": int(gflop * 10**9), "bytes": 2**20, "launches": 7} for name in ("full", "irrg")}
    work["irrg"]["flops"] //= 2
    return {"window": 512, "precision": "float32", "parameters_inference": 500_000, "inference": work}


def test_the_expected_score_of_two_modalities_is_that_of_the_protocol():
    scores = {"full": 80.0, "irrg": 60.0, "ndsm": 30.0}
    for p in (0.05, 0.1, 0.2, 0.5):
        by_hand = ((1 - p) * 80 + p * (60 + 30)) / (1 + p)
        assert expected_score(scores, _MODALITIES, p) == pytest.approx(by_hand)
    assert expected_score(scores, _MODALITIES, 0.0) == pytest.approx(80.0)


def test_the_expected_score_weighs_every_subset_of_three_modalities_by_how_likely_it_is():
    # p = 0.5: all seven subsets are as likely as each other.
    subsets = ["full", "a+b", "a+c", "b+c", "a", "b", "c"]
    scores = dict(zip(subsets, (70.0, 60.0, 50.0, 40.0, 30.0, 20.0, 10.0), strict=True))
    assert expected_score(scores, "abc", 0.5) == pytest.approx(40.0)
    # p = 0.2: weights .512, three of .128, three of .032, of .992 in all.
    by_hand = (0.512 * 70 + 0.128 * 150 + 0.032 * 60) / 0.992
    assert expected_score(scores, "abc", 0.2) == pytest.approx(by_hand)


def test_there_is_no_expected_score_where_a_subset_has_none():
    assert expected_score({"full": 80.0, "irrg": 60.0}, _MODALITIES, 0.1) is None


def test_retained_share_and_drop_are_taken_within_a_seed_first(make_record):
    scores = [
        {"full": 0.8, "irrg": 0.6, "ndsm": 0.2},  # 40 of 80: 50 %, 40 points
        {"full": 0.5, "irrg": 0.5, "ndsm": 0.5},  # all of it
        {"full": 0.4, "irrg": 0.2, "ndsm": 0.0},  # 10 of 40: 25 %, 30 points
    ]
    (board,) = leaderboards([make_record(seed=seed, miou=values) for seed, values in enumerate(scores)])
    found = robustness(board.rows[0], "miou", _MODALITIES)
    assert found.retained.mean == pytest.approx((50 + 100 + 25) / 3)
    assert found.drop.mean == pytest.approx((40 + 0 + 30) / 3)
    assert found.expected[1].mean == pytest.approx(
        sum((0.9 * s["full"] + 0.1 * (s["irrg"] + s["ndsm"])) / 1.1 for s in scores) / 3 * 100
    )


def test_nothing_is_retained_of_a_score_that_is_not_above_zero(make_record):
    (board,) = leaderboards([make_record(miou={"full": 0.0, "irrg": 0.0, "ndsm": 0.1})], "kappa")
    assert robustness(board.rows[0], "kappa", _MODALITIES).retained is None
    (table,) = summary_view([board])
    assert _cells(table)["it"]["retained (%)"] == "-"


def test_the_summary_has_mean_worst_expected_scores_retained_share_and_drop(make_record):
    (table,) = summary_view(leaderboards([make_record()]))
    row = _cells(table)["it"]
    assert (
        row
        | {
            "full": "80.0",
            "mean": "60.0",
            "worst": "40.0",
            "E(0.1)": "74.5",
            "retained (%)": "62.5",
            "drop": "30.0",
        }
        == row
    )


def test_an_incomplete_row_has_no_summary_of_scenarios_that_it_lacks(make_record):
    records = [make_record("whole"), make_record("partial", miou={"full": 0.8, "irrg": 0.6})]
    (table,) = summary_view(leaderboards(records))
    row = _cells(table)["partial"]
    assert (row["full"], row["mean"], row["E(0.1)"], row["drop"]) == ("80.0", "-", "-", "-")


def test_classes_have_a_table_for_each_scenario_and_unscored_ones_are_set_apart(make_record):
    tables = class_view(leaderboards([make_record(miou={"full": 0.7, "irrg": 0.3})]))
    assert [table.title.split(",")[1] for table in tables] == [" scenario full", " scenario irrg"]
    assert tables[0].headers == ("method", "ground", "house", "(clutter)", "mIoU", "seeds")
    assert _cells(tables[1])["it"]["house"] == "30.0"


def test_a_class_that_the_truth_lacks_is_a_dash(make_record):
    record = make_record()
    record.scenarios["full"]["iou"][1] = None
    assert _cells(class_view(leaderboards([record]))[0])["it"]["house"] == "-"


def test_classes_follow_the_metric_and_some_metrics_have_none(make_record):
    record = make_record()
    record.scenarios["full"]["f1"] = [0.123, 0.5, 0.5]
    assert _cells(class_view(leaderboards([record], "mf1"))[0])["it"]["ground"] == "12.3"
    with pytest.raises(InvalidRecipeError, match="expected one of miou, mf1"):
        class_view(leaderboards([record], "kappa"))


def test_subsets_are_rows_with_a_dot_for_each_modality_that_is_there(make_record):
    (table,) = subset_view(leaderboards([make_record("a"), make_record("b")]))
    rows = _cells(table)
    assert [rows["full"][m] for m in _MODALITIES] == ["●", "●"]
    assert [rows["ndsm"][m] for m in _MODALITIES] == ["○", "●"]
    assert [rows["mean"][m] for m in _MODALITIES] == ["", ""]
    assert rows["irrg"]["a"] == "60.0"
    (table,) = subset_view(leaderboards([make_record("a", 0), make_record("a", 1), make_record("b", 1)]))
    assert table.headers[-2:] == ("a", "b ‡")


@pytest.mark.parametrize("style", sorted(RENDERERS))
def test_every_format_can_print_the_dots(make_record, style):
    (table,) = subset_view(leaderboards([make_record()]))
    text = RENDERERS[style](table)
    assert "U+" not in text
    assert (r"$\circ$" if style == "latex" else "○") in text


def test_subsets_of_four_modalities_are_fifteen_rows(make_record):
    names = ("rgb", "nir", "ndsm", "dsm")
    subsets = [
        "full" if len(some) == 4 else "+".join(some)
        for number in (4, 3, 2, 1)
        for some in itertools.combinations(names, number)
    ]
    data = {"name": "town", "split": "s", "modalities": dict.fromkeys(names, 1)}
    record = make_record(miou=dict.fromkeys(subsets, 0.5), identity={"dataset": data})
    (table,) = subset_view(leaderboards([record]))
    assert len(table.rows) == 15 + 2
    assert [_cells(table)["nir+dsm"][m] for m in names] == ["○", "●", "○", "●"]


def test_a_column_never_mixes_what_training_hid(make_record):
    half = {"full": 0.4, "irrg": 0.4, "ndsm": 0.4}
    records = [make_record("a"), make_record("b"), make_record("a", miou=half, recipe="paper")]
    (table,) = regime_view(leaderboards(records))
    assert table.headers == (
        "method",
        "default: mean",
        "default: worst",
        "paper (own patterns): mean",
        "paper (own patterns): worst",
    )
    assert list(_cells(table)["a"].values())[1:] == ["60.0", "40.0", "40.0", "40.0"]
    assert list(_cells(table)["b"].values())[1:] == ["60.0", "40.0", "-", "-"]
    assert "paper: the patterns of each method's paper" in table.notes[0]


def test_regimes_of_different_data_stand_in_different_tables(make_record):
    other = {"dataset": {"name": "village", "split": "s", "modalities": {"irrg": 3}}}
    assert len(regime_view(leaderboards([make_record(), make_record(identity=other)]))) == 2


def test_options_that_a_recipe_sets_do_not_part_a_method_from_itself_unless_there_are_several(make_record):
    wide = {"method": {"set_options": {"width": 8}}}
    paper = make_record(recipe="paper", **wide)
    (table,) = regime_view(leaderboards([make_record(), paper]))
    assert list(_cells(table)) == ["it"]
    (table,) = regime_view(leaderboards([make_record(), paper, make_record(recipe="paper")]))
    assert set(_cells(table)) == {"it", "it (width=8)"}


def test_costs_are_those_of_the_records_and_columns_without_any_are_left_out(make_record):
    (table,) = record_cost_view(leaderboards([make_record("a", profile=_profile(8)), make_record("b")]))
    rows = _cells(table)
    assert rows["a"]["GFLOP"] == "4.0 – 8.0"
    assert (rows["a"]["at inference (M)"], rows["a"]["launches"]) == ("0.50", "7")
    assert rows["b"]["GFLOP"] == "-"
    assert "trials (s)" not in table.headers
    (table,) = record_cost_view(leaderboards([make_record("b")]))
    assert "GFLOP" not in table.headers
    assert table.notes[0].startswith("No record holds the work of a forward")


def test_accuracy_against_cost_is_sorted_by_flop_and_marks_what_no_other_beats(make_record):
    def record(name, score, gflop):
        miou = dict.fromkeys(("full", "irrg", "ndsm"), score)
        return make_record(name, miou=miou, profile=_profile(gflop))

    records = [record("dear", 0.9, 50), record("cheap", 0.5, 5), record("beaten", 0.4, 9)]
    (table,) = tradeoff_view(leaderboards(records))
    assert [(str(row[0]), row[-1]) for row in table.rows] == [("cheap", "●"), ("beaten", ""), ("dear", "●")]
    assert table.headers[1] == "GFLOP"


def test_accuracy_stands_against_parameters_where_a_record_lacks_flop(make_record):
    records = [make_record("a", profile=_profile(8)), make_record("b", method={"parameters": 10})]
    (table,) = tradeoff_view(leaderboards(records))
    assert "GFLOP" not in table.headers
    assert [str(row[0]) for row in table.rows] == ["b", "a"]
    assert "parameters, as not all records hold FLOP" in table.notes[0]


def test_an_incomplete_row_is_never_pareto_optimal(make_record):
    best = dict.fromkeys(("full", "irrg", "ndsm"), 0.99)
    records = [make_record("a", 0), make_record("a", 1), make_record("lucky", 0, best)]
    (table,) = tradeoff_view(leaderboards(records))
    assert [(str(row[0]), row[-1]) for row in (*table.rows, *table.below)] == [("a", "●"), ("lucky", "")]


@pytest.mark.parametrize(
    ("points", "optimal"),
    [
        ([], []),
        ([(1, 5)], [True]),
        ([(1, 5), (2, 5)], [True, False]),  # the same for more
        ([(1, 5), (1, 6)], [False, True]),  # less for the same
        ([(1, 5), (1, 5), (3, 9)], [True, True, True]),  # equal points beat neither each other
        ([(3, 1), (2, 2), (1, 3)], [False, False, True]),
    ],
)
def test_pareto_optimal_points_by_hand(points, optimal):
    assert pareto_optimal(points) == optimal


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_pareto_optimal_is_what_the_definition_says(points):
    def beaten(point):
        return any(c <= point[0] and s >= point[1] and (c, s) != point for c, s in points)

    assert pareto_optimal(points) == [not beaten(point) for point in points]
