"""A recorded cell is run again under its own identity and held against its record, bit by bit."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mmbench.cells import Cell, Run, identity
from mmbench.cli import main
from mmbench.errors import CellFailedError, DataError
from mmbench.execution import run_cell
from mmbench.metrics import scores
from mmbench.recipe import load_recipe
from mmbench.records import fingerprint, read_confusions, read_record, read_records, write_record
from mmbench.results.differences import compare, other_changes
from mmbench.results.reproduction import find_finished, request
from mmbench.results.verification import verify


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, small_dataset):
    """A folder with the record of one short cell."""
    recipe = load_recipe(
        "smoke",
        [
            "training.steps=2",
            "training.window=64",
            "training.batch_size=2",
            "evaluation.window=64",
            "methods.modality_dropout.base_width=8",
        ],
    )
    folder = tmp_path_factory.mktemp("recorded")
    run_cell(
        Run("synthetic", small_dataset, recipe, torch.device("cpu"), folder), Cell("modality_dropout", 3)
    )
    return folder


@pytest.fixture
def changed(recorded, tmp_path):
    """Return a function that stores the record with a change of its content, and its own matrices."""

    def store(change=lambda content: None, recount=lambda matrices: None):
        (record,) = read_records(recorded)
        matrices = {name: values.copy() for name, values in read_confusions(recorded, record).items()}
        content = json.loads(record.model_dump_json())
        change(content)
        recount(matrices)
        content["id"] = fingerprint(content["identity"])
        again = record.model_validate(content)
        write_record(tmp_path / "changed", again, matrices)
        return again.id, tmp_path / "changed"

    return store


@pytest.fixture
def reproduce(tmp_path, monkeypatch, capfd):
    """Call the verb in an empty folder; returns (code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(record_id, results, *more):
        arguments = ["results", "reproduce", record_id, "--results", str(results), "--progress", "off", *more]
        code = main(arguments)
        said = capfd.readouterr()
        return code, said.out, said.err

    return call


def test_a_fresh_run_has_the_same_id_and_matrices_equal_bit_by_bit(recorded, reproduce, tmp_path):
    (record,) = read_records(recorded)
    code, out, err = reproduce(record.id, recorded)
    assert code == 0, err
    assert "the code is that of the record" in out
    assert [line for line in out.splitlines() if line.endswith(": identical")] == [
        f"{scenario}: identical" for scenario in ("full", "irrg", "ndsm")
    ]
    assert f"identical: all matrices of record {record.id}, bit by bit" in out
    place = tmp_path / "reproduced" / record.id
    (again,) = read_records(place)
    assert again.id == record.id
    assert verify([place]).problems == ()
    assert (place / f"{record.id}.yaml").is_file()


def test_a_dry_run_prints_recipe_and_command_and_touches_nothing(recorded, reproduce, tmp_path):
    (record,) = read_records(recorded)
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = reproduce(record.id[:6], recorded, "--dry-run")
    assert code == 0
    assert sorted(tmp_path.rglob("*")) == before
    recipe, rest = out.split("\n\n")[:2]
    assert yaml.safe_load(recipe)["training"]["steps"] == 2
    assert yaml.safe_load(recipe)["methods"] == {"modality_dropout": {"base_width": 8}}
    assert rest.startswith("OMP_NUM_THREADS=1 mmbench run --methods modality_dropout --dataset synthetic")
    recipe_file = Path("reproduced") / record.id / f"{record.id}.yaml"
    assert f"save the recipe above as {recipe_file}" in out


def test_the_printed_command_makes_the_recorded_cell(recorded, reproduce, tmp_path, capfd):
    (record,) = read_records(recorded)
    _, out, _ = reproduce(record.id, recorded, "--dry-run", "--into", "again")
    (command,) = (line for line in out.splitlines() if line.startswith("OMP_NUM_THREADS=1 mmbench "))
    file = tmp_path / "again" / f"{record.id}.yaml"
    file.parent.mkdir()
    file.write_text(out.split("\n\n")[0])
    assert main([*shlex.split(command)[2:], "--progress", "off"]) == 0, capfd.readouterr().err
    (again,) = read_records(tmp_path / "again")
    assert again.id == record.id
    assert again.scenarios == record.scenarios


def test_what_is_asked_for_has_the_recorded_identity_for_every_stored_record(foreign, tmp_path):
    from mmbench.cli._opening import open_run
    from mmbench.cli._options import DatasetChoice

    seen = set()
    for number in range(30):
        record = read_record(foreign.add(number))
        name = record.identity["method"]["name"]
        if name in seen:
            continue
        seen.add(name)
        wanted = request(record)
        file = tmp_path / "recipe.yaml"
        file.write_text(wanted.recipe)
        choice = DatasetChoice(
            wanted.dataset, split=wanted.split, dataset_option=list(wanted.dataset_options)
        )
        opened = open_run(choice, str(file), None, [wanted.method], device="cpu", results=tmp_path)
        here = identity(opened, Cell(wanted.method, wanted.seed))
        assert other_changes(record.identity, here) == []
    assert len(seen) == 10


def test_changed_code_is_said_also_where_nothing_is_run(changed, reproduce):
    def edit(content):
        content["identity"]["code"] |= {"loop": "0" * 16, "method": "1" * 16}

    record_id, folder = changed(edit)
    code, out, _ = reproduce(record_id, folder, "--dry-run")
    assert code == 0
    assert "the code has changed since: method, loop; other scores are to be expected" in out


@pytest.mark.parametrize(("edited", "code"), [(False, 5), (True, 0)])
def test_other_matrices_are_a_failure_unless_the_code_has_changed(recorded, changed, reproduce, edited, code):
    def recount(matrices):  # the predictions of a tile move by a class
        matrices["irrg"][0] = np.roll(matrices["irrg"][0], 1, axis=1)

    def change(content):
        matrices = read_confusions(recorded, read_records(recorded)[0])
        recount(matrices)
        derived = scores(matrices["irrg"].sum(0), content["scored_classes"])
        content["scenarios"]["irrg"] = dataclasses.asdict(derived)
        if edited:
            content["identity"]["code"]["loop"] = "0" * 16

    record_id, folder = changed(change, recount)
    found, out, err = reproduce(record_id, folder)
    assert found == code
    assert "full: identical\n" in out
    assert re.search(r"^irrg: mIoU [\d.]+ -> [\d.]+ \([+-][\d.]+\), \d+ of \d+ pixels", out, re.MULTILINE)
    assert ("was not reproduced: irrg differ and the code does not" in err) is not edited
    assert ("different, as the code is (loop)" in out) is edited
    assert not edited or out.index("the code has changed since: loop") < out.index("full: identical")


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda c: c["identity"]["dataset"].__setitem__("split", "0" * 16), 5, "dataset.split: '0000"),
        (lambda c: c["identity"]["dataset"].__setitem__("generator_version", 99), 5, "generator_version: 99"),
        (
            lambda c: c["identity"].__setitem__("precision", "bfloat16"),
            5,
            "precision: 'bfloat16' -> 'float32'",
        ),
        (lambda c: c["identity"]["method"]["options"].__setitem__("gone", 1), 5, "has no option ['gone']"),
        (
            lambda c: c["identity"]["recipe"]["training"].__setitem__("gone", 1),
            5,
            "unknown key 'training.gone'",
        ),
        (lambda c: c["identity"]["method"].__setitem__("name", "nobodys"), 3, "unknown method 'nobodys'"),
        (lambda c: c["identity"]["dataset"].__setitem__("name", "nowhere"), 3, "unknown dataset 'nowhere'"),
    ],
)
def test_a_cell_that_cannot_be_run_as_it_was_says_why_and_leaves_no_record(
    changed, reproduce, tmp_path, change, code, words
):
    record_id, folder = changed(change)
    found, _, err = reproduce(record_id, folder, "--into", "new")
    assert found == code
    assert words in err
    assert err.count("\n") == 1
    assert not list((tmp_path / "new").glob("*.json")) if (tmp_path / "new").exists() else True


def test_a_failed_cell_has_nothing_to_compare(foreign, reproduce):
    def fail(content):
        content |= {"status": "failed", "scenarios": {}, "error": {"kind": "method", "message": "\x1b[2J"}}

    path = foreign.add(0, fail)
    code, _, err = reproduce(path.stem, foreign.folder)
    assert code == 5
    assert "is of a failed cell" in err
    assert "\x1b" not in err


def test_a_record_that_is_not_sound_is_not_run(foreign, reproduce):
    path = foreign.add(0, lambda c: c["scenarios"]["full"].__setitem__("miou", 1.0))
    code, _, err = reproduce(path.stem, foreign.folder)
    assert code == 4
    assert "a record that is not sound is not run again" in err


def test_an_unknown_id_and_one_of_several_are_code_3(foreign, reproduce):
    foreign.add(0)
    foreign.add(1)
    assert reproduce("feedfeed", foreign.folder)[0] == 3
    code, _, err = reproduce("", foreign.folder)
    assert code == 3
    assert err.startswith("error: unknown record ''")


def test_a_folder_that_holds_files_is_not_written_into(recorded, reproduce, tmp_path):
    (record,) = read_records(recorded)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("kept")
    code, _, err = reproduce(record.id, recorded, "--into", "mine")
    assert code == 2
    assert "expected a new or an empty folder" in err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["x"]


def test_a_method_that_now_breaks_the_protocol_is_code_6(recorded, reproduce, monkeypatch):
    from mmbench.errors import ProtocolError
    from mmbench.evaluation import Evaluator

    def peek(self, name, method):
        raise ProtocolError("it looks")

    monkeypatch.setattr(Evaluator, "check_no_peek", peek)
    (record,) = read_records(recorded)
    code, _, err = reproduce(record.id, recorded)
    assert code == 6
    assert "it looks" in err


def test_the_command_quotes_what_a_record_says(changed, recorded):
    def inject(content):
        content["identity"]["dataset"]["optical"] = "irrg; touch it"
        content["provenance"]["split"] = "$(touch it)"
        content["environment"] |= {"device": "cpu; touch it", "threads": 10**9}

    record_id, folder = changed(inject)
    wanted = request(find_finished(folder, record_id))
    command = wanted.command(folder / "r.yaml", folder, wanted.device)
    assert 'optical="irrg; touch it"' in shlex.split(command)
    assert "$(touch" not in command
    assert "OMP_NUM_THREADS" not in command
    assert shlex.split(command)[-3] == wanted.device == "auto"


def test_one_pixel_that_moved_is_no_identity(recorded):
    (record,) = read_records(recorded)
    matrices = read_confusions(recorded, record)
    other = {name: values.copy() for name, values in matrices.items()}
    other["ndsm"][0, 0, 0] += 1
    found = {d.scenario: d.moved for d in compare(record, matrices, record, other)}
    assert found == {"full": 0, "irrg": 0, "ndsm": 1}
    with pytest.raises(DataError, match="cannot be compared"):
        compare(record, matrices, record.model_copy(update={"tiles": ["a"]}), other)


def test_a_record_of_another_version_says_which_settings_are_gone(changed):
    record_id, folder = changed(lambda c: c["identity"]["recipe"].__setitem__("gone", 1))
    with pytest.raises(CellFailedError, match="Use the version that made it"):
        request(find_finished(folder, record_id))
