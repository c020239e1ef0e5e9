"""`mmbench power`: which differences a folder of records can resolve."""

import json

import numpy as np
import pytest

from mmbench.cli import main
from mmbench.reporting import power as power_module
from mmbench.statistics import Estimate, resolvable_difference

SCENARIOS = ("full", "irrg")


@pytest.fixture
def store(store_record):
    """Return a function that stores seeds of methods, name -> share of errors."""

    def methods(levels, seeds=(0, 1, 2), tiles=8, spread=0.01, **fields):
        for name, level in levels.items():
            for seed in seeds:
                generator = np.random.default_rng([seed, *name.encode()])
                shares = level + generator.normal(0, spread, (2, tiles))
                store_record(name, seed, dict(zip(SCENARIOS, shares, strict=True)), **fields)

    return methods


@pytest.fixture
def call(tmp_path, capfd):
    """Ask for the power on the command line; returns (code, stdout, stderr)."""

    def run(*arguments):
        code = main(["power", str(tmp_path), *arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def _board(call, *arguments):
    code, out, _ = call(*arguments, "--json", "-")
    assert code == 0
    (board,) = json.loads(out)["boards"]
    return board


def test_every_pair_has_the_floor_that_follows_from_its_spread(store, call):
    store({"best": 0.1, "near": 0.105, "far": 0.3})
    board = _board(call)
    assert [(p["first"], p["second"]) for p in board["pairs"]] == [
        ("best", "near"),
        ("best", "far"),
        ("near", "far"),
    ]
    for pair in board["pairs"]:
        error = pair["difference"]["standard_error"]
        # Between the normal's 2.8 and the t's 5.65 for two degrees of freedom.
        assert 2.8 * error < pair["floor"] < 5.66 * error
        assert pair["resolved"] == (abs(pair["difference"]["value"]) >= pair["floor"])
    assert [p["resolved"] for p in board["pairs"]] == [False, True, True]
    floors = sorted(p["floor"] for p in board["pairs"])
    assert board["floor"] == {"median": floors[1], "least": floors[0], "most": floors[2]}
    assert board["basis"] == "3 seeds and 8 tiles"


def test_what_is_unresolved_says_how_many_seeds_or_tiles_it_needs(store, call):
    store({"best": 0.1, "near": 0.108})
    (pair,) = _board(call)["pairs"]
    assert not pair["resolved"]
    assert pair["seeds_needed"] is None or pair["seeds_needed"] > 3
    assert pair["tiles_needed"] is None or pair["tiles_needed"] > 8
    code, out, _ = call()
    assert code == 0
    words = ["none" if n is None else str(n) for n in (pair["seeds_needed"], pair["tiles_needed"])]
    (line,) = (line for line in out.splitlines() if line.startswith("best") and "near" in line)
    assert line.split()[-2:] == words


def test_a_clear_difference_needs_no_more_than_there_is(store, call):
    store({"best": 0.1, "far": 0.3})
    code, out, _ = call()
    assert code == 0
    (line,) = (line for line in out.splitlines() if line.startswith("best") and "far" in line)
    assert line.split()[-2:] == ["enough", "enough"]


def test_more_tiles_resolve_smaller_differences(store, call, tmp_path):
    floors = []
    for tiles, recipe in ((4, "smoke"), (32, "laptop")):
        store({"best": 0.1, "near": 0.105}, tiles=tiles, recipe=recipe)
        floors.append(_board(call, "--recipe", recipe)["floor"]["median"])
    assert floors[1] < floors[0] / 2


def test_level_power_metric_and_scenario_are_those_that_were_asked_for(store, call):
    store({"best": 0.1, "near": 0.105})
    usual = _board(call)
    strict = _board(call, "--alpha", "0.01", "--power", "0.9")
    assert (strict["alpha"], strict["power"]) == (0.01, 0.9)
    assert strict["floor"]["median"] > usual["floor"]["median"]
    other = _board(call, "--metric", "oa", "--scenario", "full")
    assert (other["metric"], other["column"]) == ("oa", "full")
    assert other["pairs"] != usual["pairs"]


def test_the_overall_floor_is_said_first(store, call):
    store({"best": 0.1, "near": 0.105, "far": 0.3})
    code, out, _ = call()
    assert code == 0
    assert out.startswith("Resolution floor, mean: ")
    assert "in the median of 3 pairs" in out.splitlines()[0]
    assert "80 % power at level 0.05 of one pair; from 3 seeds and 8 tiles." in out.splitlines()[0]


def test_one_seed_says_that_trainings_are_not_in_it(store, call):
    store({"best": 0.1, "near": 0.105}, seeds=(0,))
    code, out, _ = call()
    assert code == 0
    assert "from 8 tiles only: with one seed, how trainings differ is not in it." in out
    assert _board(call)["pairs"][0]["seeds_needed"] is None


def test_one_seed_and_one_tile_have_no_floor(store, call):
    store({"best": 0.1, "near": 0.105}, seeds=(0,), tiles=1)
    code, out, _ = call()
    assert code == 0
    assert out.startswith("No pair has a spread")


def test_equal_rows_have_no_floor(store_record, call):
    for name in ("one", "other"):
        store_record(name, 0, {"full": [0.1, 0.2], "irrg": [0.2, 0.3]})
    (pair,) = _board(call)["pairs"]
    assert (pair["difference"]["value"], pair["floor"], pair["resolved"]) == (0.0, None, False)


def test_incomplete_rows_are_left_out_and_named(store, call):
    store({"best": 0.1, "near": 0.105})
    store({"partial": 0.2}, seeds=(0, 1))
    assert len(_board(call)["pairs"]) == 1
    _, out, _ = call()
    assert "Left out, because incomplete: partial: no seed 2." in out


def test_ranks_over_few_tiles_are_printed_without_a_test_and_over_many_with_one(store, call):
    levels = {"best": 0.1, "middle": 0.2, "last": 0.3}
    store(levels, recipe="smoke", tiles=8)
    few = _board(call, "--recipe", "smoke")["ranks"]
    assert few["average_ranks"] == {"best": 1.0, "middle": 2.0, "last": 3.0}
    assert few["not_tested"] == "8 blocks; the test needs 11 or more"
    assert few["friedman_p_value"] is None
    store(levels, recipe="laptop", tiles=12)
    many = _board(call, "--recipe", "laptop")["ranks"]
    assert many["friedman_p_value"] < 0.001
    assert many["nemenyi_distance"] == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 12)), abs=2e-3)
    _, out, _ = call("--recipe", "laptop")
    assert "Friedman p < 0.001; average ranks differ where they are 0.96 apart (Nemenyi, level 0.05)" in out


def test_tables_with_one_row_are_skipped_and_only_such_tables_are_an_error(store, call):
    store({"lonely": 0.1}, recipe="smoke")
    code, _, err = call()
    assert code == 4
    assert "has two complete rows" in err
    store({"best": 0.1, "near": 0.105}, recipe="laptop")
    assert "recipe laptop" in _board(call)["conditions"]


def test_too_many_rows_are_refused_with_what_to_do(store, call, monkeypatch):
    monkeypatch.setattr(power_module, "_MOST_ROWS", 2)
    store({"best": 0.1, "near": 0.105, "far": 0.3})
    code, _, err = call()
    assert code == 4
    assert "expected at most 2. Choose records with --dataset and --recipe" in err


@pytest.mark.parametrize("arguments", [("--alpha", "0"), ("--power", "1"), ("--alpha", "0.9")])
def test_a_level_or_power_that_makes_no_sense_is_exit_code_2(call, arguments):
    code, _, err = call(*arguments)
    assert code == 2
    assert "expected numbers between 0 and 1" in err


def test_an_unknown_scenario_is_exit_code_3(store, call):
    store({"best": 0.1, "near": 0.105})
    code, _, err = call("--scenario", "night")
    assert code == 3
    assert "unknown scenario 'night'" in err


def test_the_floor_of_the_command_is_that_of_the_library(store, call):
    store({"best": 0.1, "near": 0.105}, seeds=(0,))
    (pair,) = _board(call)["pairs"]
    error = pair["difference"]["standard_error"]
    assert pair["floor"] == pytest.approx(resolvable_difference(Estimate(0, error, error, 0.0, 8, 1)))
