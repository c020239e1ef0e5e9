"""Records: identity, atomic storage, and what is found again."""

import dataclasses

import numpy as np
import pytest

from mmbench.errors import DataError
from mmbench.records import (
    Record,
    code_hash,
    fingerprint,
    read_confusions,
    read_record,
    read_records,
    write_record,
)
from mmbench.registry import Entry, entry
from mmbench.sources import with_private_imports


def _record(**changes):
    facts = {
        "id": "0123456789abcdef",
        "status": "done",
        "identity": {"seed": 0},
        "recipe_name": "smoke",
        "ranked": False,
        "method": {"title": "It"},
        "classes": ["a", "b"],
        "scored_classes": [0],
        "scenarios": {"full": {"miou": 0.5}},
        "tiles": ["t0", "t1"],
    }
    return Record(**(facts | changes))


def test_a_record_and_its_matrices_come_back_as_they_were(tmp_path):
    matrices = {"full": np.arange(8, dtype=np.int64).reshape(2, 2, 2)}
    path = write_record(tmp_path, _record(), matrices)
    assert read_record(path) == _record()
    assert np.array_equal(read_confusions(tmp_path, _record())["full"], matrices["full"])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"{_record().id}.json",
        f"{_record().id}.safetensors",
    ]


def test_a_write_that_fails_leaves_the_old_record_and_no_rest(tmp_path, monkeypatch):
    path = write_record(tmp_path, _record())
    old = path.read_bytes()

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmbench.records.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_record(tmp_path, _record(status="failed"))
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_fingerprint_ignores_the_order_of_keys_and_sees_every_value():
    assert fingerprint({"a": 1, "b": {"c": 2}}) == fingerprint({"b": {"c": 2}, "a": 1})
    assert fingerprint({"a": 1, "b": {"c": 2}}) != fingerprint({"a": 1, "b": {"c": 3}})


@pytest.mark.parametrize("text", ["{", "{}", '{"schema_version": 2}'])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    (tmp_path / "0123456789abcdef.json").write_text(text)
    with pytest.raises(DataError, match=r"record .*0123456789abcdef\.json"):
        read_records(tmp_path)


def test_other_files_beside_the_records_are_left_alone(tmp_path):
    (tmp_path / "study.json").write_text("[]")
    write_record(tmp_path, _record())
    assert read_records(tmp_path) == [_record()]


def test_missing_damaged_and_misshapen_matrices_are_named(tmp_path):
    write_record(tmp_path, _record(), {"full": np.zeros((1, 2, 2), dtype=np.int64)})
    with pytest.raises(DataError, match=r"'full' is missing or not \(2, 2, 2\)"):
        read_confusions(tmp_path, _record())
    (tmp_path / f"{_record().id}.safetensors").write_bytes(b"rubbish")
    with pytest.raises(DataError, match="cannot be read"):
        read_confusions(tmp_path, _record())
    with pytest.raises(DataError, match="cannot be read"):
        read_confusions(tmp_path / "nowhere", _record())


def test_code_hashes_see_statements_but_not_comments_or_docstrings(tmp_path):
    dataset = entry("dataset", "synthetic")

    def hashed(name, text):
        file = tmp_path / name / "it.py"
        file.parent.mkdir()
        file.write_text(text)
        # The folder's name is part of the hash, so it must be the same each time.
        moved = tmp_path / "it"
        file.parent.rename(moved)
        result = code_hash(Entry("it", "it", moved / "it.py", "test"), dataset)["method"]
        from mmbench.sources import _statements

        _statements.cache_clear()
        moved.rename(tmp_path / f"{name}-done")
        return result

    plain = hashed("a", 'def f():\n    """Say."""\n    return 1\n')
    assert hashed("b", "def f():\n    # why\n    return 1\n") == plain
    assert hashed("c", "def f():\n    return 2\n") != plain


def test_code_hashes_cover_the_private_modules_that_a_dataset_is_made_of():
    names = {f"{p.parent.name}/{p.name}" for p in with_private_imports(entry("dataset", "potsdam").sources)}
    assert {"datasets/potsdam.py", "datasets/_isprs.py", "datasets/_dataset.py"} <= names
    assert "datasets/vaihingen.py" not in names
    assert "_city/__init__.py" not in names  # only its fakes are made of it
    names = {f"{p.parent.name}/{p.name}" for p in with_private_imports(entry("dataset", "synthetic").sources)}
    assert "_city/__init__.py" in names


@pytest.mark.parametrize(
    "line",
    [
        "from mmbench import RasterDataset",
        "import mmbench",
        "import mmbench as m",
        "from mmbench import Layer",
    ],
)
def test_code_hashes_cover_what_a_dataset_outside_imports_by_its_public_name(tmp_path, line):
    file = tmp_path / "mine.py"
    file.write_text(f"import os\n{line}\n")
    names = {f"{p.parent.name}/{p.name}" for p in with_private_imports([file])} - {f"{tmp_path.name}/mine.py"}
    assert {"_rasters/dataset.py", "_rasters/layers.py", "datasets/_dataset.py"} <= names
    assert all(name.startswith(("datasets/_", "_rasters/")) for name in names)


def test_an_entry_of_a_package_hashes_every_file_of_it():
    package = entry("method", "gemmnet")
    assert len(package.sources) > 1
    assert dataclasses.replace(package, file=package.sources[-1]).sources != package.sources
