"""Every number in README stands in a record of this repository."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from ratio_table import ratio_table

from mmbench import errors
from mmbench.cli import main
from mmbench.profiling.report import read_report
from mmbench.records import read_confusions, read_records
from mmbench.registry import entries
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.profile_summary import summary_table
from mmbench.reporting.standings import with_standings
from mmbench.reporting.tables import markdown_table, markdown_text

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
STUDY = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks" / "results"
LAPTOP = RESULTS / "laptop"


def _between(name, text=README):
    return re.search(rf"<!-- table:{name} -->\n(.*?)\n?<!-- /table:{name} -->", text, re.DOTALL)[1]


@pytest.mark.parametrize(
    ("text", "name", "folder", "metric"),
    [
        (README, "laptop", "laptop", "miou"),
        (STUDY, "laptop_mf1", "laptop", "mf1"),
        (STUDY, "laptop_960_steps", "laptop_960_steps", "miou"),
    ],
)
def test_a_result_table_is_the_report_of_the_stored_records(text, name, folder, metric):
    records = read_records(RESULTS / folder)
    (board,) = leaderboards(records, metric)
    board = with_standings(board, RESULTS / folder, records, None)
    # Markdown's two spaces at a line's end are a line break; an editor may not keep them.
    assert [line.rstrip() for line in _between(name, text).splitlines()] == [
        line.rstrip() for line in markdown_table(board).splitlines()
    ]


def test_the_stored_records_are_three_seeds_of_every_method_with_their_matrices():
    records = read_records(LAPTOP)
    found = {(r.identity["method"]["name"], r.identity["seed"]) for r in records}
    own = [name for name, entry in entries("method").items() if entry.origin == "mmbench"]
    assert found == {(name, seed) for name in own for seed in range(3)}
    for record in records:
        assert set(read_confusions(LAPTOP, record)) == {"full", "irrg", "ndsm"}


def test_the_study_table_stands_in_its_record(monkeypatch):
    spec = importlib.util.spec_from_file_location("study", ROOT / "benchmarks" / "study_synthetic.py")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "study", script)  # its dataclasses look themselves up there
    spec.loader.exec_module(script)
    study = json.loads((ROOT / "benchmarks" / "results" / "synthetic_study.json").read_text())
    summary = script.summarise(study["runs"])
    assert study["towns"] == "held out"
    assert summary == study["summary"]
    assert summary["criterion_met"] is True
    assert _between("study") == script.table(summary)


def test_the_table_of_the_transformers_joins_the_stored_scores_and_costs(capsys):
    costs = RESULTS / "transformer_costs.json"
    arguments = ["report", str(RESULTS / "transformer_ablation"), "--cost", str(costs), "-f", "markdown"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out.strip().splitlines()
    expected = _between("transformers", STUDY).splitlines()
    assert [line.rstrip() for line in printed] == [line.rstrip() for line in expected]


def test_the_tables_of_cost_and_of_ratios_are_those_of_the_stored_measurements():
    cost = summary_table(read_report(RESULTS / "profile_512.json"))
    ratios = ratio_table(json.loads((RESULTS / "ratios.json").read_text(encoding="utf-8")))
    for name, table in (("cost", cost), ("ratios", ratios)):
        assert [line.rstrip() for line in _between(name).splitlines()] == [
            line.rstrip() for line in markdown_text(table).splitlines()
        ]


@pytest.mark.parametrize("error", [e for e in vars(errors).values() if hasattr(e, "exit_code")])
def test_every_exit_code_is_documented(error):
    assert re.search(rf"^\| {error.exit_code} \|", README, re.MULTILINE)


def test_the_recipes_of_readme_are_those_that_ship():
    from mmbench.recipe import recipe_names

    section = README.split("## Recipes")[1].split("## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == recipe_names()


def test_the_commands_of_readme_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in re.findall(r"^python -m mmbench (.*--results.*|report .*)$", README + STUDY, re.MULTILINE):
        assert f"python -m mmbench {command}" in makefile
