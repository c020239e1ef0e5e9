"""`mmbench report`: views, formats, everything at once, and what cannot stand together."""

import csv
import io
import itertools
import json
import time
from pathlib import Path

import pytest

from mmbench.cli import _scoring, main
from mmbench.cli import report as verb
from mmbench.metrics import METRICS
from mmbench.records import fingerprint, write_record
from mmbench.reporting import bundle
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.rescoring import LABEL_POLICIES
from mmbench.reporting.tables import RENDERERS
from mmbench.reporting.views import leaderboard_table

LAPTOP = Path(__file__).parents[2] / "benchmarks" / "results" / "laptop"


@pytest.fixture
def call(capsys):
    """Run the command line and return (code, stdout, stderr)."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def results(tmp_path, make_record):
    """A folder of the records of two methods under two recipes."""
    folder = tmp_path / "results"
    for seed in range(2):
        write_record(folder, make_record("a", seed))
        write_record(folder, make_record("b", seed))
    write_record(folder, make_record("a", 0, recipe="smoke"))
    return folder


def test_the_choices_of_the_command_line_are_what_the_library_has():
    assert set(verb._VIEWS) == set(bundle.VIEWS)
    assert set(verb._FORMATS) == {*RENDERERS, "csv", "json"}
    assert _scoring.POLICIES == LABEL_POLICIES
    assert _scoring.METRICS == METRICS


@pytest.mark.parametrize("view", sorted(bundle.VIEWS))
@pytest.mark.parametrize("style", [*sorted(RENDERERS), "csv"])
def test_every_view_has_every_format(call, results, view, style):
    code, out, _ = call("report", results, "--view", view, "--format", style)
    assert code == 0
    assert "default" in out
    assert "smoke" in out


def test_csv_without_a_view_is_tidy_and_with_one_is_that_table(call, results):
    tidy = list(csv.DictReader(io.StringIO(call("report", results, "--format", "csv")[1])))
    assert "value" in tidy[0]
    wide = list(
        csv.DictReader(io.StringIO(call("report", results, "--format", "csv", "--view", "scenario")[1]))
    )
    assert len(wide) == 3
    assert "irrg" in wide[0]


def test_html_without_a_view_is_the_page_and_with_one_is_that_table(call, results, tmp_path):
    out = tmp_path / "deep" / "it.html"
    code, printed, err = call("report", results, "--format", "html", "--out", out)
    assert (code, printed, err) == (0, "", f"wrote {out}\n")
    page = out.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.endswith("</html>\n")
    assert page.count("<script") == 2
    assert call("report", results, "--format", "html")[1] == page
    assert call("report", results, "--all", tmp_path / "all")[0] == 0
    assert (tmp_path / "all" / "report.html").read_text(encoding="utf-8") == page
    table = call("report", results, "--format", "html", "--view", "scenario")[1]
    assert "<script" not in table
    assert table == (tmp_path / "all" / "scenario.html").read_text(encoding="utf-8")


def test_a_file_gets_what_would_be_printed(call, results, tmp_path):
    out = tmp_path / "deep" / "scores.json"
    assert call("report", results, "--format", "json", "--out", out)[0] == 0
    assert json.loads(out.read_text()) == json.loads(call("report", results, "--format", "json")[1])


def test_dataset_and_recipe_choose_records(call, results):
    out = call("report", results, "--recipe", "smoke")[1]
    assert "recipe smoke" in out
    assert "recipe default" not in out
    assert call("report", results, "--dataset", "elsewhere")[0] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--view", "everything"], "expected one of scenario, class"),
        (["--labels", "soft"], "expected one of eroded, full, five-class"),
        (["--all", "x", "--view", "class"], "--all writes all there is"),
        (["--all", "x", "--out", "y"], "--all writes all there is"),
        (["--format", "json", "--view", "class"], "--format json holds the numbers of all views"),
        (["--cost", "x.json", "--view", "class"], "expected it without --view class"),
        (["--view", "class", "--metric", "oa"], "has no values by class"),
    ],
)
def test_what_cannot_stand_together_is_refused_in_one_line(call, results, arguments, message):
    code, _, err = call("report", results, *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_one_command_writes_everything_about_the_stored_study(call, tmp_path):
    began = time.process_time()
    code, _, err = call("report", LAPTOP, "--all", tmp_path / "all")
    assert code == 0
    # 18 s when last measured, up to twice that where others share the machine.
    assert time.process_time() - began < 40
    written = {path.name for path in (tmp_path / "all").rglob("*") if path.is_file()}
    suffixes = ("txt", "md", "tex", "html", "csv")
    assert written >= {f"{view}.{suffix}" for view in bundle.VIEWS for suffix in suffixes}
    assert written >= {"scores.csv", "scores.json"}
    assert {path.suffix for path in (tmp_path / "all" / "figures").iterdir()} == {".pdf", ".png"}
    assert err.count("wrote ") == len(written)


def test_everything_leaves_out_the_view_that_a_metric_does_not_have(call, results, tmp_path):
    assert call("report", results, "--all", tmp_path / "all", "--metric", "kappa")[0] == 0
    assert not (tmp_path / "all" / "class.md").exists()
    assert (tmp_path / "all" / "scenario.md").exists()


def test_files_of_an_earlier_report_beside_the_new_ones_are_pointed_out(call, results, tmp_path):
    left = tmp_path / "all" / "9-scores.txt"
    assert "warning" not in call("report", results, "--all", tmp_path / "all")[2]
    left.touch()
    _, _, err = call("report", results, "--all", tmp_path / "all")
    assert f"warning: not of this report, though beside it: {left}; use a new" in err


def test_extras_are_called_after_the_tables_with_the_report(call, results, tmp_path, monkeypatch):
    seen = []

    def extra(report, folder):
        seen.append((len(report.boards), (folder / "scenario.md").exists()))
        (folder / "extra.txt").write_text("x")
        return [folder / "extra.txt"]

    monkeypatch.setattr(bundle, "EXTRAS", (extra,))
    _, _, err = call("report", results, "--all", tmp_path / "all")
    assert seen == [(2, True)]
    assert "extra.txt" in err


def test_a_table_of_ten_thousand_records_is_made_in_seconds(make_record):
    first = make_record()
    records = []
    for method, seed in itertools.product(range(1000), range(10)):
        identity = first.identity | {"method": {"name": f"m{method}", "options": {}}, "seed": seed}
        records.append(first.model_copy(update={"id": fingerprint(identity), "identity": identity}))
    began = time.process_time()  # of this process alone: others share the machine
    (board,) = leaderboards(records)
    texts = [render(leaderboard_table(board)) for render in RENDERERS.values()]
    assert time.process_time() - began < 5
    assert board.ranked
    assert len(board.rows) == 1000
    assert all("m999" in text for text in texts)
