"""Cost stands beside accuracy where method and options are the same, and a dash where one is missing."""

import json

import pytest

from mmbench.cells import option_defaults
from mmbench.cli import main
from mmbench.errors import DataError, InvalidRecipeError
from mmbench.profiling.report import Case, Costs, MethodProfile, ProfileReport, Settings, Work, write_report
from mmbench.records import Record, fingerprint, write_record
from mmbench.registry import find
from mmbench.reporting.cost import collect_costs, cost_table
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.tables import console_text


def _record(miou, **set_options):
    options = json.loads(json.dumps(option_defaults(find("method", "gemmnet")) | set_options))
    scores = {"miou": miou, "mf1": miou, "oa": miou, "kappa": miou, "iou": [miou], "f1": [miou]}
    identity = {
        "protocol": 1,
        "method": {"name": "gemmnet", "options": options},
        "code": dict.fromkeys(("method", "blocks", "operators", "loop", "dataset"), "c"),
        "dataset": {"name": "synthetic", "split": "s", "modalities": {"irrg": 3, "ndsm": 1}},
        "labels": {"train": "full", "test": "eroded"},
        "recipe": {"training": {"steps": 5}, "evaluation": {}},
        "precision": "float32",
        "seed": 0,
    }
    return Record(
        id=fingerprint(identity),
        status="done",
        identity=identity,
        recipe_name="laptop (changed)",
        ranked=False,
        method={
            "title": "GEMMNet",
            "parameters": 1_500_000,
            "sees_hidden_in_training": True,
            "set_options": set_options,
        },
        classes=["a"],
        scored_classes=[0],
        scenarios={"full": scores},
        no_peek=["irrg", "ndsm", "mixed"],
        training={"seconds": 12.0},
        environment={"device": "cpu"},
        provenance={"split": "standard", "started": "2026-01-01"},
    )


def _method(gflop, name="gemmnet", **options):
    cases = tuple(
        Case(
            scenario=scenario,
            present=(True, scenario == "full"),
            batch_size=1,
            costs=Costs(inference=Work(flops=int(value * 1e9), bytes=1, launches=1)),
            parts=(),
            step_seconds=seconds,
        )
        for scenario, value, seconds in (("full", gflop, 1.0), ("irrg", gflop + 10, 2.5))
    )
    return MethodProfile(
        name=name,
        title="GEMMNet",
        options=options,
        parameters_trained=14_280_000,
        parameters_inference=9_000_000,
        counted_on="dry run",
        cases=cases,
    )


def _report(*methods, size=512):
    settings = Settings(
        dataset="synthetic",
        modalities={"irrg": 3, "ndsm": 1},
        num_classes=6,
        size=size,
        batch_sizes=(1,),
        device="cpu (1 threads)",
        precision="float32",
        threads=1,
        allocator="as it comes",
        torch="2.13.0",
    )
    return ProfileReport(settings=settings, methods=methods)


def _rows(table):
    rows = [[str(cell) for cell in row] for row in table.rows]
    return {row[0].removesuffix(" *"): dict(zip(table.headers, row, strict=True)) for row in rows}


def test_rows_are_joined_by_method_and_options_and_stand_in_the_order_of_the_profile():
    (board,) = leaderboards([_record(0.5, transformer="off"), _record(0.4, transformer="intra")])
    report = _report(_method(26, transformer="intra"), _method(14, transformer="off"))
    table = cost_table(board, collect_costs([report]))
    rows = _rows(table)
    assert list(rows) == ["gemmnet (transformer=intra)", "gemmnet (transformer=off)"]
    assert rows["gemmnet (transformer=off)"]["full"] == "50.0"
    assert rows["gemmnet (transformer=off)"]["GFLOP"] == "14.0 – 24.0"
    assert rows["gemmnet (transformer=intra)"]["full"] == "40.0"
    assert rows["gemmnet (transformer=intra)"]["GFLOP"] == "26.0 – 36.0"
    assert rows["gemmnet (transformer=intra)"]["training step (s)"] == "1.00 – 2.50"
    assert rows["gemmnet (transformer=intra)"]["params (M)"] == "14.28"


def test_an_option_set_to_its_default_is_the_same_as_one_that_was_not_set():
    (board,) = leaderboards([_record(0.5)])
    rows = _rows(cost_table(board, collect_costs([_report(_method(26, transformer="both"))])))
    assert rows["gemmnet"]["GFLOP"] == "26.0 – 36.0"


def test_what_has_no_record_or_no_profile_shows_a_dash_and_is_said():
    (board,) = leaderboards([_record(0.5, transformer="off")])
    table = cost_table(board, collect_costs([_report(_method(26, transformer="inter"))]))
    rows = _rows(table)
    assert rows["gemmnet (transformer=inter)"]["full"] == "-"
    assert rows["gemmnet (transformer=off)"]["GFLOP"] == "-"
    text = console_text(table)
    assert "No mIoU: no record of this table has these options: gemmnet (transformer=inter)." in text
    assert "No cost: no profile has these options: gemmnet (transformer=off)." in text


def test_other_options_than_the_profiled_ones_are_not_joined():
    (board,) = leaderboards([_record(0.5, transformer="off", discriminator_width=16)])
    rows = _rows(cost_table(board, collect_costs([_report(_method(14, transformer="off"))])))
    assert rows["gemmnet (transformer=off)"]["full"] == "-"


def test_without_records_the_costs_stand_alone_and_columns_without_figures_are_left_out():
    table = cost_table(None, collect_costs([_report(_method(14))]))
    assert "full" not in table.headers
    assert "latency (ms)" not in table.headers
    assert "training step (s)" in table.headers


def test_profiles_of_different_conditions_are_refused():
    with pytest.raises(DataError, match="size 512 and 256 cannot stand in one table"):
        collect_costs([_report(_method(14)), _report(_method(15), size=256)])


def test_profiles_without_a_method_are_refused():
    with pytest.raises(DataError, match="hold no method"):
        collect_costs([_report()])


def test_of_two_profiles_of_one_method_the_last_counts():
    (costed,) = collect_costs([_report(_method(14)), _report(_method(15))])
    assert costed.method.cases[0].costs.inference.flops == 15_000_000_000


def test_a_method_that_is_not_there_any_more_keeps_its_cost():
    (costed,) = collect_costs([_report(_method(14, name="gone", width=8))])
    assert _rows(cost_table(None, [costed]))["gone (width=8)"]["GFLOP"] == "14.0 – 24.0"


def test_report_puts_costs_beside_scores(tmp_path, capsys):
    write_record(tmp_path, _record(0.5, transformer="off"))
    profile = tmp_path / "profile.json"
    write_report(profile, _report(_method(14, transformer="off")))
    assert main(["report", str(tmp_path), "--cost", str(profile)]) == 0
    assert "50.0" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "empty"), "--cost", str(profile)]) == 0
    assert "14.0 – 24.0" in capsys.readouterr().out


def test_a_file_that_is_no_profile_is_an_error_of_the_data(tmp_path, capsys):
    write_record(tmp_path, _record(0.5))
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    assert main(["report", str(tmp_path), "--cost", str(tmp_path / "x.json")]) == 4
    assert "expected what 'mmbench profile --json' writes" in capsys.readouterr().err


def test_an_ablation_takes_each_named_value_of_an_option():
    from mmbench.cli._profile_views import ablated
    from mmbench.recipe import load_recipe

    recipes = ablated(load_recipe("smoke", ["methods.gemmnet.train_size=64"]), "gemmnet", "transformer")
    options = [recipe.methods["gemmnet"] for recipe in recipes]
    assert [chosen["transformer"] for chosen in options] == ["both", "intra", "inter", "off"]
    assert all(chosen["train_size"] == 64 for chosen in options)
    with pytest.raises(InvalidRecipeError, match="it has: transformer, preset"):
        ablated(recipes[0], "gemmnet", "base_width")
