"""Exports hold every number with all digits, where it comes from, and nothing that a spreadsheet runs."""

import csv
import io
import json
from html.parser import HTMLParser

import pytest

from mmbench.reporting.exports import SCHEMA_VERSION, TIDY_COLUMNS, report_json, tables_csv, tidy_csv
from mmbench.reporting.html_tables import html_page
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.table_model import Figure, Table
from mmbench.reporting.views import leaderboard_table, summary_view


def _rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_tidy_table_has_a_row_for_each_method_seed_scenario_and_metric(make_record):
    records = [make_record(name, seed) for name in ("a", "b") for seed in range(3)]
    rows = [row for row in _rows(tidy_csv(leaderboards(records))) if not row["class"]]
    keys = {(row["method"], row["seed"], row["scenario"], row["metric"]) for row in rows}
    assert len(rows) == len(keys) == 2 * 3 * 3 * 4
    assert list(rows[0]) == list(TIDY_COLUMNS)


def test_a_tidy_row_leads_to_the_record_that_holds_its_number(make_record):
    record = make_record(miou={"full": 1 / 3, "irrg": 0.1, "ndsm": 0.2})
    rows = _rows(tidy_csv(leaderboards([record])))
    (row,) = [r for r in rows if (r["scenario"], r["metric"], r["class"]) == ("full", "miou", "")]
    assert float(row["value"]) == record.scenarios["full"]["miou"]
    assert row["record"] == record.id


def test_the_tidy_table_has_a_row_for_each_class_and_an_empty_value_where_the_truth_lacks_it(make_record):
    record = make_record()
    record.scenarios["full"]["iou"][1] = None
    rows = _rows(tidy_csv(leaderboards([record])))
    found = {r["class"]: r["value"] for r in rows if (r["scenario"], r["metric"]) == ("full", "iou")}
    assert found == {"ground": "0.8", "house": "", "clutter": "0.0"}


def test_tidy_rows_of_incomplete_methods_are_there_and_say_so(make_record):
    rows = _rows(tidy_csv(leaderboards([make_record("a", 0), make_record("a", 1), make_record("b", 0)])))
    assert {(row["method"], row["complete"]) for row in rows} == {("a", "1"), ("b", "0")}


@pytest.mark.parametrize("name", ["=cmd()", "@SUM(A1)", "+1+2", "-2+3", "a,b", 'a"b', "a\nb"])
def test_no_name_becomes_a_formula_or_breaks_a_row(make_record, name):
    boards = leaderboards([make_record(name)])
    for text in (tidy_csv(boards), tables_csv([leaderboard_table(boards[0])])):
        rows = _rows(text)
        assert all(None not in row and None not in row.values() for row in rows)
        assert not any(value.startswith(("=", "@", "+", "-")) for row in rows for value in row.values())


def test_the_cells_of_a_table_keep_all_digits_and_deviations_have_a_column():
    table = Table(
        "t", ("method", "full"), (("a", Figure(1 / 3, 0.125)), ("b", Figure(2.0))), below=(("c", "-"),)
    )
    rows = _rows(tables_csv([table]))
    assert [float(rows[0]["full"]), float(rows[0]["full sd"])] == [1 / 3, 0.125]
    assert [row["full sd"] for row in rows] == ["0.125", "", ""]
    assert [row["full"] for row in rows][2] == ""
    assert [row["compared"] for row in rows] == ["1", "1", "0"]


def test_tables_of_different_columns_make_one_valid_csv():
    one = Table("one", ("method", "x"), (("a", Figure(1.0)),))
    two = Table("two", ("method", "y"), (("a", Figure(2.0)),))
    rows = _rows(tables_csv([one, two]))
    assert [(r["table"], r["x"], r["y"], r["compared"]) for r in rows] == [
        ("one", "1.0", "", "1"),
        ("two", "", "2.0", "1"),
    ]


def test_json_leads_from_every_summary_to_its_records(make_record):
    records = [make_record(seed=seed, miou={"full": 0.5 + seed / 10, "irrg": 0.1}) for seed in range(3)]
    content = json.loads(report_json(leaderboards(records), "mmbench report x"))
    assert (content["schema"], content["schema_version"]) == ("mmbench.report", SCHEMA_VERSION)
    assert content["command"] == "mmbench report x"
    (method,) = content["boards"][0]["methods"]
    ids = {record.identity["seed"]: record.id for record in records}
    assert {result["seed"]: result["record"] for result in method["results"]} == ids
    full = method["summary"]["full"]
    assert (full["mean"], full["count"]) == (pytest.approx(60.0), 3)
    assert full["records"] == [ids[seed] for seed in range(3)]
    by_record = {result["record"]: result["scenarios"]["full"]["miou"] for result in method["results"]}
    assert full["mean"] == pytest.approx(sum(by_record[r] for r in full["records"]) / 3 * 100)


def test_json_is_strict_and_names_what_is_incomplete_or_failed(make_record, make_failure):
    boards = leaderboards(
        [make_record("a", 0), make_record("a", 1), make_record("b", 0), make_failure("b", 1)]
    )
    content = json.loads(report_json(boards), parse_constant=pytest.fail)
    methods = {method["label"]: method for method in content["boards"][0]["methods"]}
    assert (methods["b"]["complete"], methods["b"]["lacks"]) == (False, ["seed 1 failed"])
    assert (methods["a"]["rank"], methods["b"]["rank"]) == (1, None)
    assert content["boards"][0]["failures"] == ["b seed 1: no luck"]


_TAGS = {"html", "head", "meta", "title", "style", "body", "figure", "figcaption", "p"} | {
    *("table", "caption", "thead", "tbody", "tr", "th", "td")
}


class _Page(HTMLParser):
    """Remembers tags and addresses, and fails on one that is closed without having been opened."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.addresses = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_loads_nothing_and_runs_nothing(make_record):
    boards = leaderboards([make_record("<script>alert(1)</script>"), make_record('" onload="x')])
    page = _Page()
    page.feed(html_page([*map(leaderboard_table, boards), *summary_view(boards)]))
    assert page.open == []
    assert page.addresses == []
    assert page.tags <= _TAGS
