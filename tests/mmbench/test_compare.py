"""`mmbench compare`: by how much two methods differ, how sure that is, on which classes and tiles."""

import json

import numpy as np
import pytest

from mmbench.cli import main
from mmbench.errors import DataError
from mmbench.metrics import scores
from mmbench.records import matrix_name, read_confusions, record_path
from mmbench.reporting.comparison import compare
from mmbench.reporting.matrices import MethodMatrices, ScoreBoard, load_matrices

SCENARIOS = ("full", "irrg", "ndsm")
TILES = 8


@pytest.fixture
def store(store_record):
    """Return a function that stores seeds of a method: the share of errors, and more of it on some tiles."""

    def of_method(name, level, seeds=(0, 1, 2), worse_on=(), **fields):
        records = []
        for seed in seeds:
            generator = np.random.default_rng([seed, *name.encode()])
            shares = level + generator.normal(0, 0.005, (3, TILES))
            shares[:, list(worse_on)] += 0.2
            records.append(store_record(name, seed, dict(zip(SCENARIOS, shares, strict=True)), **fields))
        return records

    return of_method


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


def test_the_difference_is_that_of_the_records_scores_with_an_interval_around_it(store, call):
    good, bad = store("good", 0.1), store("bad", 0.2)
    found = _numbers(call, "good", "bad")
    for row in found["scenarios"][:3]:
        first, second = (
            100 * np.mean([record.scenarios[row["scenario"]]["miou"] for record in records])
            for records in (good, bad)
        )
        assert (row["first"], row["second"]) == pytest.approx((first, second))
        assert row["difference"]["value"] == pytest.approx(first - second)
        assert row["difference"]["low"] < first - second < row["difference"]["high"]
        assert row["difference"]["p_value"] < 0.01
        assert row["swap_p_value"] == 2 / 2**TILES
        assert (row["seeds_ahead"], row["tiles_ahead"]) == ([3, 0], [TILES, 0])
    assert [row["scenario"] for row in found["scenarios"]] == [*SCENARIOS, "mean", "worst"]
    assert found["records"] == {"good": [r.id for r in good], "bad": [r.id for r in bad]}


def test_the_words_say_who_is_ahead_whichever_is_named_first(store, call):
    store("good", 0.1)
    store("bad", 0.2)
    for pair in (("good", "bad"), ("bad", "good")):
        code, out, _ = call(*pair)
        assert code == 0
        assert out.startswith("mIoU, mean over scenarios: good is ahead of bad by ")
        assert "separated at level 0.05." in out.splitlines()[0]
        assert "not separated" not in out
        assert f"A: {pair[0]}. B: {pair[1]}." in out
        assert "resample 3 seeds and 8 tiles" in out


def test_methods_that_differ_less_than_their_seeds_and_tiles_are_not_separated(store, call):
    store("one", 0.1)
    store("other", 0.1001)
    code, out, _ = call("one", "other")
    assert code == 0
    assert "not separated at level 0.05." in out.splitlines()[0]


def test_equal_matrices_are_said_to_be_equal(store_record, call):
    for name in ("one", "other"):
        store_record(name, 0, {"full": [0.1, 0.2], "irrg": [0.2, 0.3]})
    code, out, _ = call("one", "other")
    assert code == 0
    assert "one and other are equal." in out.splitlines()[0]


def test_tiles_are_listed_by_what_they_give_to_the_difference(store, call):
    store("steady", 0.1)
    store("fails_on_two", 0.1, worse_on=(2, 5))
    found = _numbers(call, "steady", "fails_on_two", "--scenario", "irrg")
    tiles = found["tiles"]
    assert {tile["tile"] for tile in tiles[:2]} == {"t2", "t5"}
    contributions = [tile["contribution"] for tile in tiles]
    assert contributions == sorted(contributions, reverse=True)
    chosen = next(row for row in found["scenarios"] if row["scenario"] == "irrg")
    assert sum(contributions) == pytest.approx(chosen["difference"]["value"], rel=0.05)
    assert {tile["pixels"] for tile in tiles} == {1800}
    code, out, _ = call("fails_on_two", "steady", "--scenario", "irrg")
    assert code == 0
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("t") and line[1].isdigit()]
    assert set(listed[-2:]) == {"t2", "t5"}


def test_classes_are_held_against_each_other_in_the_chosen_scenario(store, tmp_path, call):
    good, bad = store("good", 0.1), store("bad", 0.2)
    found = _numbers(call, "good", "bad", "--scenario", "ndsm", "--metric", "mf1")
    assert [(c["class"], c["scored"]) for c in found["classes"]] == [
        ("ground", True),
        ("house", True),
        ("clutter", False),
    ]
    for number, of_class in enumerate(found["classes"]):
        first, second = (
            100 * np.mean([r.scenarios["ndsm"]["f1"][number] for r in records]) for records in (good, bad)
        )
        assert (of_class["first"], of_class["second"]) == pytest.approx((first, second))
        assert of_class["difference"]["value"] == pytest.approx(first - second)


def test_five_class_leaves_out_the_pixels_whose_truth_is_not_scored(store, tmp_path, call):
    (good,), _ = store("good", 0.1, seeds=(0,)), store("bad", 0.2, seeds=(0,))
    found = _numbers(call, "good", "bad", "--policy", "five-class", "--scenario", "full")
    matrix = read_confusions(tmp_path, good)["full"].sum(0)
    matrix[2] = 0
    assert found["scenarios"][0]["first"] == pytest.approx(100 * scores(matrix, (0, 1)).miou)
    assert found["tiles"][0]["pixels"] == 1600
    assert "without those of unscored classes" in found["conditions"]


def test_full_labels_are_read_from_their_own_matrices(store_record, call):
    names = [matrix_name(scenario, "full") for scenario in ("full", "irrg")]
    for name, share in (("good", 10), ("bad", 40)):
        full = np.stack([np.array([[100 - share, share, 0], [0, 50, 0], [0, 0, 9]])] * 2)
        extra = {matrix: full.astype(np.int64) for matrix in names}
        store_record(name, 0, {"full": [0.1, 0.2], "irrg": [0.2, 0.3]}, extra=extra)
    found = _numbers(call, "good", "bad", "--labels", "full", "--scenario", "full")
    assert found["scenarios"][0]["first"] == pytest.approx(100 * (0.9 + 50 / 60) / 2)
    assert found["tiles"][0]["pixels"] == 159


def test_records_without_matrices_of_a_policy_are_an_error_that_says_what_to_do(store, call):
    store("good", 0.1)
    store("bad", 0.2)
    code, _, err = call("good", "bad", "--labels", "full")
    assert code == 4
    assert "'full' labels" in err
    assert "Run the cell again" in err


def test_only_common_seeds_are_compared_and_the_others_named(store, call):
    store("good", 0.1, seeds=(0, 1, 2))
    store("bad", 0.2, seeds=(1, 2, 3))
    found = _numbers(call, "good", "bad")
    assert found["seeds"] == [1, 2]
    assert found["left_out"] == ["good seed 0", "bad seed 3"]
    code, out, _ = call("good", "bad")
    assert code == 0
    assert "Left out, because the other has no such seed: good seed 0, bad seed 3." in out


def test_no_common_seed_is_an_error_that_says_what_to_do(store, call):
    store("good", 0.1, seeds=(0,))
    store("bad", 0.2, seeds=(1,))
    code, _, err = call("good", "bad")
    assert code == 4
    assert "expected one in common. Run both with the same --seeds" in err


def test_with_one_seed_the_table_says_that_trainings_are_not_in_the_interval(store, call):
    store("good", 0.1, seeds=(0,))
    store("bad", 0.2, seeds=(0,))
    code, out, _ = call("good", "bad")
    assert code == 0
    assert "8 tiles only: with one seed, how trainings differ is not in it" in out


def test_an_unknown_name_is_exit_code_3_with_the_nearest_row(store, call):
    store("late_fusion", 0.1)
    code, _, err = call("late_fusoin", "late_fusion")
    assert code == 3
    assert "unknown row 'late_fusoin'. Did you mean 'late_fusion'?" in err


def test_an_unknown_scenario_is_exit_code_3_with_those_there_are(store, call):
    store("good", 0.1)
    store("bad", 0.2)
    code, _, err = call("good", "bad", "--scenario", "night")
    assert code == 3
    assert "unknown scenario 'night'. Known: full, irrg, mean, ndsm, worst." in err


def test_the_methods_name_is_enough_where_one_row_has_it(store, call):
    store("gan", 0.1, method={"set_options": {"width": 16}}, recipe="laptop")
    store("bad", 0.2, recipe="laptop")
    assert _numbers(call, "gan", "bad")["first"] == "gan (width=16)"
    assert _numbers(call, "gan (width=16)", "bad")["first"] == "gan (width=16)"


def test_a_name_of_two_rows_and_the_same_row_twice_are_refused(store, call):
    for width in (8, 16):
        identity = {"method": {"name": "gan", "options": {"width": width}}}
        store("gan", 0.1, method={"set_options": {"width": width}}, identity=identity, recipe="laptop")
    store("bad", 0.2, recipe="laptop")
    code, _, err = call("gan", "bad")
    assert code == 2
    assert "'gan' may be 'gan (width=16)', 'gan (width=8)'" in err
    code, _, err = call("bad", "bad")
    assert code == 2
    assert "the same row" in err


def test_methods_of_different_tables_cannot_be_compared(store, call):
    store("good", 0.1)
    store("bad", 0.2, identity={"precision": "bfloat16"})
    code, _, err = call("good", "bad")
    assert code == 4
    assert "no table holds both" in err
    assert "Their records differ in precision." in err


def test_two_tables_that_hold_both_ask_for_a_choice(store, call):
    for recipe in ("smoke", "laptop"):
        store("good", 0.1, recipe=recipe)
        store("bad", 0.2, recipe=recipe)
    code, _, err = call("good", "bad")
    assert code == 2
    assert "Choose one with --dataset and --recipe" in err
    found = _numbers(call, "good", "bad", "--recipe", "smoke")
    assert "recipe smoke" in found["conditions"]
    assert "not the ranked one" in found["unranked"]


@pytest.mark.parametrize(("option", "value"), [("--metric", "mse"), ("--labels", "soft")])
def test_a_wrong_choice_is_exit_code_2(store, call, option, value):
    store("good", 0.1)
    code, _, err = call("good", "good", option, value)
    assert code == 2
    assert "expected one of" in err


def test_a_folder_without_records_is_exit_code_4(call):
    code, _, err = call("good", "bad")
    assert code == 4
    assert "no records" in err


def test_json_is_written_to_a_file_beside_the_tables(store, call, tmp_path):
    store("good", 0.1)
    store("bad", 0.2)
    target = tmp_path / "out" / "comparison.json"
    code, out, _ = call("good", "bad", "--json", str(target))
    assert code == 0
    assert out
    assert json.loads(target.read_text())["verdict"] == out.splitlines()[0]


def test_records_with_other_truth_are_refused_by_name(store_record, tmp_path):
    first = store_record("good", 0, {"full": [0.1, 0.2]})
    other = store_record("bad", 0, {"full": [0.1, 0.2]})
    from safetensors.numpy import load_file, save_file

    path = record_path(tmp_path, other.id).with_suffix(".safetensors")
    matrices = load_file(path)
    matrices["full"][0, 0, 0] += 1
    save_file(matrices, path)
    with pytest.raises(DataError, match=rf"record {other.id} \(bad, seed 0\) and record {first.id}"):
        load_matrices(tmp_path, [first, other])


@pytest.mark.parametrize(
    "change", [{"tiles": ["t0", "t2"]}, {"classes": ["a", "b", "c"]}, {"scored_classes": [0]}]
)
def test_records_of_other_tiles_or_classes_are_refused(store_record, tmp_path, change):
    first = store_record("good", 0, {"full": [0.1, 0.2]})
    other = store_record("bad", 0, {"full": [0.1, 0.2]}).model_copy(update=change)
    with pytest.raises(DataError, match="expected the same"):
        load_matrices(tmp_path, [first, other])


def test_two_records_of_one_seed_and_no_record_are_refused(store_record, tmp_path):
    record = store_record("good", 0, {"full": [0.1, 0.2]})
    with pytest.raises(ValueError, match="two records of good, seed 0"):
        load_matrices(tmp_path, [record, record])
    with pytest.raises(DataError, match="no finished records"):
        load_matrices(tmp_path, [])


def test_pixels_that_are_predicted_differently_are_never_fewer_than_said():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 4000)
    guesses = [
        np.where(generator.random(4000) < 0.3, generator.integers(0, 3, 4000), truth) for _ in range(2)
    ]
    matrices = [
        np.bincount(truth * 3 + guess, minlength=9).reshape(1, 1, 1, 3, 3).astype(np.int64)
        for guess in guesses
    ]
    methods = tuple(MethodMatrices(n, (0,), m) for n, m in zip("ab", matrices, strict=True))
    board = ScoreBoard(("t",), ("full",), ("x", "y", "z"), (0, 1, 2), methods)
    said = compare(board, "a", "b", "miou", "full", draws=10).columns[0].apart
    assert 0 < said <= (guesses[0] != guesses[1]).mean()


def test_pixels_apart_are_worked_by_hand():
    # Of 10 pixels of the first class, 2 more are taken for the second; of the other 5 nothing changes.
    first, second = np.array([[9, 1], [0, 5]]), np.array([[7, 3], [0, 5]])
    methods = tuple(
        MethodMatrices(n, (0,), m.reshape(1, 1, 1, 2, 2)) for n, m in (("a", first), ("b", second))
    )
    found = compare(
        ScoreBoard(("t",), ("full",), ("x", "y"), (0, 1), methods), "a", "b", "oa", "full", draws=10
    )
    assert found.columns[0].apart == found.tiles[0].apart == pytest.approx(2 / 15)
    assert found.columns[-1].apart is None
