"""Stored predictions come back as they were, and a stranger's file is refused before it is unpacked."""

import io
import zipfile

import numpy as np
import pytest

from mmbench.datasets._dataset import Window
from mmbench.errors import DataError
from mmbench.predictions import (
    LARGEST_SIDE,
    Predictions,
    central_window,
    load_predictions,
    save_predictions,
)

_TILES, _SCENARIOS, _CLASSES = ("a/../b", "2"), ("full", "irrg"), 6


def _predictions():
    rng = np.random.default_rng(0)
    predictions = Predictions()
    for scenario in _SCENARIOS:
        for tile_id, size in zip(_TILES, [(700, 40), (30, 20)], strict=True):
            predictions.add(tile_id, scenario, rng.integers(0, _CLASSES, size, dtype=np.uint8))
    return predictions


def _load(path, tiles=_TILES, scenarios=_SCENARIOS, classes=_CLASSES):
    return load_predictions(path, tiles, scenarios, classes)


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "it.predictions.npz"
    save_predictions(path, _predictions())
    return path


def _rewritten(path, change):
    """Write the file again with some arrays changed: name -> array, or None to leave it out."""
    with np.load(path) as held:
        arrays = {name: held[name] for name in held.files}
    arrays = {name: array for name, array in (arrays | change).items() if array is not None}
    np.savez_compressed(path, **arrays)
    return path


def test_the_window_is_central_and_the_whole_tile_where_that_is_smaller():
    assert central_window((2000, 1001)) == Window(744, 244, 512, 512)
    assert central_window((300, 2000)) == Window(0, 744, 300, 512)
    assert central_window((512, 512)) == Window(0, 0, 512, 512)


def test_what_is_kept_is_the_tile_s_prediction_at_the_window():
    whole = np.arange(700 * 600, dtype=np.uint32).reshape(700, 600).astype(np.uint8)
    predictions = Predictions()
    predictions.add("t", "full", whole)
    kept = whole[94:606, 44:556].copy()
    whole[:] = 0
    assert predictions.windows == {"t": Window(94, 44, 512, 512)}
    assert np.array_equal(predictions.classes["t", "full"], kept)


def test_predictions_come_back_as_they_were(stored):
    again, first = _load(stored), _predictions()
    assert again.windows == first.windows
    assert again.classes.keys() == first.classes.keys()
    for key, classes in first.classes.items():
        assert again.classes[key].dtype == np.uint8
        assert np.array_equal(again.classes[key], classes)


def test_the_same_predictions_give_the_same_bytes(stored, tmp_path):
    save_predictions(tmp_path / "again.npz", _predictions())
    assert (tmp_path / "again.npz").read_bytes() == stored.read_bytes()


def test_a_file_that_is_missing_damaged_or_cut_off_is_named(stored):
    for content in (b"", b"rubbish", stored.read_bytes()[:-40]):
        stored.write_bytes(content)
        with pytest.raises(DataError, match=r"predictions .*it\.predictions\.npz: cannot be read"):
            _load(stored)
    stored.unlink()
    with pytest.raises(DataError, match=r"cannot be read .*run the cell again"):
        _load(stored)


def test_a_file_whose_compressed_bytes_were_changed_is_named(stored):
    content = bytearray(stored.read_bytes())
    place = content.index(b"0.full.npy") + 500
    content[place : place + 40] = bytes(40)
    stored.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        _load(stored)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"0.full": None}, "4 arrays, expected 5"),
        ({"more": np.zeros(2, dtype=np.uint8)}, "6 arrays, expected 5"),
        ({"1.full": np.zeros((30, 20), dtype=np.int64)}, r"1\.full\.npy is \(30, 20\) int64"),
        ({"1.full": np.zeros((30, 21), dtype=np.uint8)}, r"tile 2: Window.* but \(30, 21\)"),
        ({"1.full": np.zeros((0, 20), dtype=np.uint8)}, r"1\.full\.npy is \(0, 20\) uint8"),
        ({"1.full": np.zeros((LARGEST_SIDE + 1, 20), dtype=np.uint8)}, "expected two sides of 1 to 512"),
        ({"1.full": np.full((30, 20), 6, dtype=np.uint8)}, r"tile 2, 'full': class 6 is outside 0\.\.5"),
        ({"1.full": np.array([{"a": 1}], dtype=object)}, r"1\.full\.npy is \(1,\) object"),
        ({"windows": np.zeros((3, 4), dtype=np.int64)}, r"windows\.npy is \(3, 4\) int64"),
        ({"windows": np.array([[-1, 0, 512, 40], [0, 0, 30, 20]])}, "top=-1"),
    ],
)
def test_arrays_that_do_not_fit_the_record_are_refused(stored, change, words):
    with pytest.raises(DataError, match=words):
        _load(_rewritten(stored, change))


def test_a_file_of_another_record_is_refused(stored):
    with pytest.raises(DataError, match="5 arrays, expected 3"):
        _load(stored, scenarios=("full",))


def test_a_bomb_is_refused_by_its_headers_and_never_unpacked(stored, monkeypatch):
    """The array claims its 600 bytes; behind them the member unpacks to far more, or its header lies."""
    honest = io.BytesIO()
    np.save(honest, np.zeros((30, 20), dtype=np.uint8))
    lying = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (2**20, 2**20)}
    np.lib.format.write_array_header_1_0(lying, header)
    monkeypatch.setattr(np, "load", lambda *arguments, **keywords: pytest.fail("it was unpacked"))
    content = stored.read_bytes()
    for bomb, words in [(honest.getvalue() + bytes(2**24), "has 16777"), (lying.getvalue(), "1048576")]:
        stored.write_bytes(content)
        _replace_member(stored, "1.full.npy", bomb)
        with pytest.raises(DataError, match=words):
            _load(stored)


def test_a_member_packed_in_another_way_is_refused(stored):
    with zipfile.ZipFile(stored) as archive:
        member = archive.read("1.full.npy")
    _replace_member(stored, "1.full.npy", member, zipfile.ZIP_BZIP2)
    with pytest.raises(DataError, match="packed in another way"):
        _load(stored)


def _replace_member(path, name, content, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, held in members.items():
            is_it = member == name
            archive.writestr(member, content if is_it else held, compression if is_it else None)
