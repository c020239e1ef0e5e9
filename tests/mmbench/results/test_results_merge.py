"""Merging keeps every record, byte for byte, and refuses what it cannot keep."""

import json
import shutil

import pytest

from mmbench.cli import main
from mmbench.errors import DataError
from mmbench.results import merging
from mmbench.results.merging import merge


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def two_folders(foreign, tmp_path):
    """Two folders with two records each, of which one is in both."""
    other = tmp_path / "other"
    for number in range(3):
        foreign.add(number)
    shutil.copytree(foreign.folder, other)
    first, *_, last = sorted(path.stem for path in other.glob("*.json"))
    for folder, without in ((foreign.folder, last), (other, first)):
        for path in folder.glob(f"{without}.*"):
            path.unlink()
    return foreign.folder, other


def test_every_record_is_there_once_as_it_was_and_a_second_merge_changes_nothing(two_folders, tmp_path):
    into = tmp_path / "into"
    (two_folders[0] / "notes.txt").write_text("foreign")
    next(two_folders[0].glob("*.json")).with_suffix(".log").write_text("of a machine")
    merged = merge(two_folders, into)
    assert merged.copied == {two_folders[0]: 2, two_folders[1]: 1}
    assert merged.repeated == 1
    wanted = {**_contents(two_folders[0]), **_contents(two_folders[1])}
    assert _contents(into) == {k: v for k, v in wanted.items() if not k.endswith((".txt", ".log"))}
    before = {path: path.stat().st_mtime_ns for path in into.iterdir()}
    assert set(merge(two_folders, into).copied.values()) == {0}
    assert {path: path.stat().st_mtime_ns for path in into.iterdir()} == before


def test_merging_into_one_of_the_folders_and_naming_one_twice_do_no_harm(two_folders):
    one, other = two_folders
    kept = _contents(one)
    assert merge([one, one / ".." / one.name, other], one).copied[other] == 1
    assert kept.items() <= _contents(one).items()
    assert len(list(one.glob("*.json"))) == 3


def test_two_records_of_one_cell_that_differ_are_both_named_and_nothing_is_written(two_folders, tmp_path):
    one, other = two_folders
    shared = next(path.name for path in one.glob("*.json") if (other / path.name).exists())
    content = json.loads((other / shared).read_text())
    content["provenance"]["seconds"] = 1.0
    (other / shared).write_text(json.dumps(content))
    before = _contents(one), _contents(other)
    with pytest.raises(DataError) as caught:
        merge(two_folders, tmp_path / "into")
    words = str(caught.value)
    assert str(one / shared) in words
    assert str(other / shared) in words
    assert "differ in provenance; their scores are equal" in words
    assert not (tmp_path / "into").exists()
    assert (_contents(one), _contents(other)) == before
    with pytest.raises(DataError, match="are records of one cell"):
        merge([other], one)
    assert (_contents(one), _contents(other)) == before


def test_a_record_that_is_not_sound_keeps_all_others_from_being_merged(foreign, tmp_path, capfd):
    foreign.add(0)
    bad = foreign.add(1, lambda content: content["scenarios"]["full"].__setitem__("miou", 1.0))
    arguments = ["results", "merge", str(foreign.folder), "--into", str(tmp_path / "into")]
    assert main(arguments) == 4
    said = capfd.readouterr().err
    assert said.startswith(f"error: {bad}: scenario 'full': miou is 1.0")
    assert said.count("\n") == 1
    assert not (tmp_path / "into").exists()


def test_records_that_disagree_with_those_already_there_are_refused(foreign, tmp_path):
    for number in range(2):
        foreign.add(number)
    other = type(foreign)(tmp_path / "other")

    def more_cars(matrices):
        for values in matrices.values():
            values[0, 4, 4] += 500

    other.add(2, recount=more_cars, rescore=True)
    before = _contents(foreign.folder)
    with pytest.raises(DataError, match="pixels of each class on each tile"):
        merge([other.folder], foreign.folder)
    assert _contents(foreign.folder) == before


def test_a_merge_that_was_cut_short_leaves_no_record_without_matrices_and_is_finished(
    two_folders, tmp_path, monkeypatch
):
    into, placed = tmp_path / "into", []

    def full_disk(path, write):
        if len(placed) == 3:
            raise OSError(28, "No space left on device", str(path))
        placed.append(path)
        write_whole(path, write)

    write_whole = merging.write_whole
    monkeypatch.setattr(merging, "write_whole", full_disk)
    with pytest.raises(OSError, match="No space"):
        merge(two_folders, into)
    for path in into.glob("*.json"):
        assert path.with_suffix(".safetensors").exists()
    monkeypatch.undo()
    merge(two_folders, into)
    assert len(list(into.glob("*.json"))) == len(list(into.glob("*.safetensors"))) == 3
    assert not [path for path in into.iterdir() if path.name.startswith(".")]


def test_a_companion_that_one_copy_lacks_is_taken_from_the_other(two_folders, tmp_path):
    from mmbench.predictions import Predictions, save_predictions
    from mmbench.records import predictions_path, read_predictions, read_record

    one, other = two_folders
    shared = next(path for path in other.glob("*.json") if (one / path.name).exists())
    record, predictions = read_record(shared), Predictions()
    import numpy as np

    for tile in record.tiles:
        for scenario in record.scenarios:
            predictions.add(tile, scenario, np.ones((8, 8), dtype=np.uint8))
    save_predictions(predictions_path(other, record.id), predictions)
    into = tmp_path / "into"
    merge(two_folders, into)
    assert list(read_predictions(into, record).windows) == record.tiles
    assert predictions_path(into, record.id).read_bytes() == predictions_path(other, record.id).read_bytes()
