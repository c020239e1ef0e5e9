"""Records that no run would have written are refused where tables are made, not only by `results verify`."""

import json
import os

import pytest

from mmbench.cli import main
from mmbench.records import read_record

SHARES = {"full": [0.1, 0.2], "irrg": [0.2, 0.3], "ndsm": [0.3, 0.4]}
SPOILT = {
    "training.seconds": lambda content: content["training"].pop("seconds"),
    "environment.device": lambda content: content["environment"].pop("device"),
    "no-peek was not proved in ['irrg']": lambda content: content["no_peek"].remove("irrg"),
    r"names '\u202egnp'; expected characters that can be printed": lambda content: content["method"].update(
        variant="\u202egnp"
    ),
    "the record was changed after it was written": lambda content: content["identity"].update(seed=7),
}
"""What the error has to say -> the change."""


@pytest.fixture
def results(tmp_path, store_record):
    """A folder of two records."""
    for name in ("good", "bad"):
        store_record(name, 0, SHARES)
    return tmp_path


@pytest.fixture
def spoil(results):
    """Return a function that changes the record of `bad` and returns its path."""

    def change(edit):
        path = next(p for p in results.glob("*.json") if read_record(p).method["title"] == "bad")
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))
        return path

    return change


def _refused(arguments, capfd):
    assert main(arguments) == 4
    said = capfd.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("words", SPOILT)
@pytest.mark.parametrize("verb", ["report", "power", "compare"])
def test_a_record_that_no_run_wrote_is_refused_by_every_table(results, spoil, words, verb, capfd):
    path = spoil(SPOILT[words])
    folder = ["good", "bad", "--results", str(results)] if verb == "compare" else [str(results)]
    said = _refused([verb, *folder], capfd)
    assert f"record {path}: " in said
    assert words in said


@pytest.mark.parametrize("claimed", [0.99, None])
def test_a_score_that_does_not_follow_from_the_matrices_is_refused(results, spoil, claimed, capfd):
    path = spoil(lambda content: content["scenarios"]["full"].update(miou=claimed))
    said = _refused(["report", str(results)], capfd)
    assert f"record {path}: scenario 'full': miou is" in said
    assert "its matrices give" in said


def test_a_pipe_named_like_a_record_is_refused_and_not_waited_for(results, capfd):
    os.mkfifo(results / "aaaaaaaaaaaaaaaa.json")
    assert "is no file; expected a plain file" in _refused(["report", str(results)], capfd)


def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path, capfd):
    assert "is not there; expected a folder of records" in _refused(["report", str(tmp_path / "no")], capfd)
