"""The hash of a dataset's files: every byte counts, and no file is read twice for it."""

import os

import pytest

from mmbench.datasets import _digest
from mmbench.datasets._digest import files_digest
from mmbench.errors import DataError


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    paths = [tmp_path / "a", tmp_path / "b"]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 3_000_000)
    return paths


@pytest.fixture
def hashed(monkeypatch):
    """The files that were read to hash them."""
    read, original = [], _digest.file_sha256
    monkeypatch.setattr(_digest, "file_sha256", lambda path: read.append(path) or original(path))
    return read


def test_one_byte_in_the_middle_changes_it_and_the_place_does_not(files, tmp_path):
    before = files_digest(files)
    moved = tmp_path / "moved"
    files[1].rename(moved)
    assert files_digest([files[0], moved]) == before
    assert files_digest([moved, files[0]]) != before
    with moved.open("r+b") as stream:
        stream.seek(1_234_567)
        stream.write(b"\x07")
    assert files_digest([files[0], moved]) != before


def test_a_file_is_read_once_and_again_only_when_it_changed(files, hashed):
    before = files_digest(files)
    assert hashed == files
    assert files_digest(files) == before
    assert hashed == files
    os.utime(files[0], ns=(1, 1))
    assert files_digest(files) == before  # the same content
    assert hashed == [*files, files[0]]


@pytest.mark.parametrize("memory", ["", "[]", '{"x": 1}', "\x00"])
def test_a_damaged_memory_is_made_anew(files, hashed, tmp_path, memory):
    before = files_digest(files)
    (tmp_path / "cache" / "file-hashes.json").write_text(memory)
    assert files_digest(files) == before
    assert hashed == files * 2
    files_digest(files)
    assert hashed == files * 2


def test_without_a_place_to_remember_it_is_only_slower(files, hashed, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "file"))
    assert files_digest(files) == files_digest(files)
    assert hashed == files * 2


def test_a_file_that_cannot_be_read_is_named(files, tmp_path):
    with pytest.raises(DataError, match=r"gone: cannot be read \(No such file"):
        files_digest([*files, tmp_path / "gone"])
