"""Numbers that JSON has no word for: a run writes null, and records of others that hold one are refused."""

import json

import pytest

from mmbench.cli import main
from mmbench.records import read_record, record_path, write_record

SHARES = {"full": [0.1, 0.2], "irrg": [0.2, 0.3], "ndsm": [0.3, 0.4]}
PROFILE = {"parameters_inference": 5, "inference": {"full": {"flops": 77, "bytes": 2, "launches": 3}}}
PLACES = {
    "scenarios.full.miou": lambda content, value: content["scenarios"]["full"].update(miou=value),
    "scenarios.irrg.iou.1": lambda content, value: content["scenarios"]["irrg"]["iou"].__setitem__(1, value),
    "profile.inference.full.flops": lambda content, value: content["profile"]["inference"]["full"].update(
        flops=value
    ),
    "training.seconds": lambda content, value: content["training"].update(seconds=value),
}
FORMATS = ("console", "markdown", "latex", "csv", "json", "html")


@pytest.fixture
def results(tmp_path, store_record):
    """A folder of two records."""
    for name in ("good", "bad"):
        store_record(name, 0, SHARES, profile=PROFILE)
    return tmp_path


@pytest.fixture(params=["NaN", "Infinity", "-Infinity", "1e999"])
def word(request):
    """What Python and others write for a number that JSON does not have, or that is too large for a float."""
    return request.param


def _spoil(results, place, word):
    """Write a number that is none into the record of `bad`, by hand as a stranger's program would."""
    path = next(p for p in results.glob("*.json") if read_record(p).method["title"] == "bad")
    content = json.loads(path.read_text())
    PLACES[place](content, "@")
    path.write_text(json.dumps(content).replace('"@"', word))
    return path


@pytest.mark.parametrize("place", PLACES)
def test_a_record_with_one_is_refused_with_its_place(results, word, place):
    path = _spoil(results, place, word)
    with pytest.raises(Exception, match=f"record {path}: '{place}' is not a finite number"):
        read_record(path)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "arguments",
    [
        *(["report", "RESULTS", "--format", style] for style in FORMATS),
        ["report", "RESULTS", "--all", "OUT"],
        ["compare", "good", "bad", "--results", "RESULTS", "--json", "OUT"],
        ["power", "RESULTS", "--json", "OUT"],
        ["results", "verify", "RESULTS"],
        ["results", "merge", "RESULTS", "--into", "OUT"],
        ["results", "export", "RESULTS", "--anonymous", "--into", "OUT"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_no_verb_makes_anything_of_it(results, tmp_path, place, arguments, capfd):
    path = _spoil(results, place, "NaN")
    out = tmp_path / "out"
    assert main([{"RESULTS": str(results), "OUT": str(out)}.get(word, word) for word in arguments]) == 4
    said = capfd.readouterr()
    assert f"{path}: '{place}' is not a finite number" in said.out + said.err
    assert "Traceback" not in said.err
    assert not out.exists()


def test_a_run_writes_null_in_its_place_and_tables_have_a_dash_there(results, make_record, capfd):
    record = make_record("undefined", 0, miou={"full": float("nan"), "irrg": 0.5, "ndsm": 0.25})
    text = write_record(results, record).read_text()
    assert json.loads(text, parse_constant=pytest.fail)["scenarios"]["full"]["miou"] is None
    for style in FORMATS:
        assert main(["report", str(results), "--format", style]) == 0
        said = capfd.readouterr().out
        if style == "json":
            assert '"miou": null' in said
            json.loads(said, parse_constant=pytest.fail)
        else:
            assert "nan" not in said.lower().replace("undefined", "")


@pytest.mark.parametrize("view", ["scenario", "cost", "tradeoff"])
def test_what_is_finite_is_shown_as_before(results, view, capfd):
    assert read_record(record_path(results, next(results.glob("*.json")).stem)).profile == PROFILE
    assert main(["report", str(results), "--view", view]) == 0
    assert "bad" in capfd.readouterr().out
