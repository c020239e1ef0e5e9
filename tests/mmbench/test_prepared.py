"""Prepared pixels are the dataset's own to the bit, whole or not there, never of other files or code."""

import dataclasses
import hashlib
import io
import json
import mmap
import multiprocessing
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from mmbench.cells import Cell, Run
from mmbench.datasets._dataset import Dataset, Sample, Split, Window
from mmbench.datasets._prepared import cache as stored
from mmbench.datasets._prepared import manifest as manifests
from mmbench.datasets._prepared import parts as stored_parts
from mmbench.datasets._prepared.dataset import (
    PreparedDataset,
    delete_root,
    open_prepared,
    pixel_source,
    prepare,
)
from mmbench.datasets._rasters import dataset as raster_dataset
from mmbench.datasets._synthesis import write_isprs_folder
from mmbench.datasets._user_folders import cache_root
from mmbench.datasets.potsdam import Potsdam
from mmbench.datasets.synthetic import Synthetic
from mmbench.datasets.vaihingen import Vaihingen
from mmbench.errors import DataError, EnvironmentMissingError, InvalidRecipeError

DATASETS = {"potsdam": Potsdam, "vaihingen": Vaihingen}
TILES = {"potsdam": ("2_10", "6_9", "2_13"), "vaihingen": ("1", "30", "2")}
WINDOWS = [None, Window(0, 0, 1, 1), Window(9, 14, 30, 21), Window(0, 5, 64, 59), Window(63, 63, 1, 1)]


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """A folder of each layout, three tiles, never changed."""
    roots = {}
    for layout, tiles in TILES.items():
        roots[layout] = tmp_path_factory.mktemp("data") / layout
        write_isprs_folder(layout, roots[layout], size=64, tiles=tiles)
        words = "train: [{}]\nval: [{}]\ntest: [{}]\n".format(*tiles)
        (roots[layout] / "split.yaml").write_text(words)
    return roots


@pytest.fixture
def folder(written, tmp_path):
    """Returns a function (layout, **options) -> reader of a copy that may be changed."""

    def read(layout="potsdam", **options):
        root = tmp_path / layout
        if not root.exists():
            shutil.copytree(written[layout], root)
        return DATASETS[layout](root=root, split=root / "split.yaml", **options)

    return read


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def file_of(dataset, tile_id, purpose="image"):
    return next(f.path for f in dataset.files() if (f.tile_id, f.purpose) == (tile_id, purpose))


def part_of(place, tile_id, part="images"):
    (found,) = place.glob(f"tile-{tile_id}/{part}-*")
    return found


def change(path):
    """Change a pixel without changing the length of an uncompressed file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def assert_same(first, second):
    assert list(first.images) == list(second.images)
    for a, b in zip(
        [*first.images.values(), first.target], [*second.images.values(), second.target], strict=True
    ):
        assert a.dtype == b.dtype
        assert a.flags.c_contiguous
        assert a.flags.writeable
        assert type(a) is np.ndarray
        assert not isinstance(a.base, np.memmap | mmap.mmap)  # the caller's own, no view of a mapped file
        np.testing.assert_array_equal(a, b)
    assert first.tile_id == second.tile_id


def assert_all_windows_same(prepared, dataset):
    for tile_id in dataset.split.tiles:
        assert prepared.size(tile_id) == dataset.size(tile_id)
        for window in WINDOWS:
            for labels in ("full", "eroded"):
                ours = prepared.read(tile_id, window, labels=labels)
                assert_same(ours, dataset.read(tile_id, window, labels=labels))


@pytest.mark.parametrize("rows", [512, 64, 17])
@pytest.mark.parametrize(
    ("layout", "options"),
    [("potsdam", {}), ("potsdam", {"height": "dsm", "optical": "rgb"}), ("vaihingen", {})],
)
def test_every_window_is_the_datasets_own_to_the_bit(folder, cache, monkeypatch, layout, options, rows):
    monkeypatch.setattr(stored_parts, "_BAND_ROWS", rows)
    dataset = folder(layout, **options)
    summary = prepare(dataset, layout, cache)
    assert summary.written == dataset.split.tiles
    prepared = open_prepared(dataset, layout, cache)
    assert prepared.prepared_tiles == dataset.split.tiles
    read = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "read", lambda *a, **k: read.append(a), raising=True)
        for tile_id in dataset.split.tiles:
            prepared.read(tile_id, WINDOWS[2], labels=dataset.split.labels_of(tile_id))
    assert read == []
    for tile_id in dataset.split.tiles:
        for window in WINDOWS:
            labels = dataset.split.labels_of(tile_id)
            ours = prepared.read(tile_id, window, labels=labels)
            assert_same(ours, dataset.read(tile_id, window, labels=labels))


def test_labels_that_the_protocol_does_not_read_of_a_tile_come_from_the_dataset(cache):
    dataset = Synthetic(split="small", tile_size=64)
    assert prepare(dataset, "synthetic", cache).written == dataset.split.tiles
    assert_all_windows_same(open_prepared(dataset, "synthetic", cache), dataset)


def test_a_window_beyond_the_tile_and_an_unknown_tile_are_refused_as_without_a_cache(folder, cache, caplog):
    dataset = folder()
    prepare(dataset, "potsdam", cache)
    prepared = open_prepared(dataset, "potsdam", cache)
    for window in (Window(0, 0, 65, 10), Window(-1, 0, 5, 5), Window(3, 60, 5, 5), Window(0, 0, 0, 5)):
        with pytest.raises(ValueError, match="is not inside its 64 x 64 pixels"):
            prepared.read("2_10", window)
    with pytest.raises(DataError, match="'7_7' is not in split"):
        prepared.read("7_7")
    assert caplog.messages == []
    assert prepared.prepared_tiles == TILES["potsdam"]


def test_a_prepared_dataset_is_the_dataset_in_everything_else(folder, cache):
    dataset = folder()
    prepare(dataset, "potsdam", cache)
    prepared = open_prepared(dataset, "potsdam", cache)
    facts = {name for name in (*vars(Dataset), *Dataset.__annotations__) if not name.startswith("_")}
    values = {name for name in facts if not callable(getattr(dataset, name))}
    assert {"title", "modalities", "files_digest", "optical_modalities", "num_classes"} <= values
    for name in values:
        assert getattr(prepared, name) == getattr(dataset, name), name
    assert prepared.files() == dataset.files()
    file = dataset.files()[0]
    assert prepared.examine(file) == dataset.examine(file)
    file_of(dataset, "2_13", "label").unlink()
    with pytest.raises(DataError, match="incomplete"):
        PreparedDataset(folder(), {}).require_files()


def test_a_fact_that_the_contract_gains_is_the_datasets_too(folder, monkeypatch):
    monkeypatch.setitem(Dataset.__annotations__, "area", "str")
    monkeypatch.setattr(Dataset, "area", "anywhere", raising=False)
    dataset = folder()
    dataset.area = "Brandenburg"
    assert PreparedDataset(dataset, {}).area == "Brandenburg"


def test_preparing_a_surface_model_estimates_the_ground_once_a_tile_and_reading_never(
    folder, cache, monkeypatch
):
    estimated = []
    original = raster_dataset.estimate_ground

    def counting(*arguments):
        estimated.append(original(*arguments))
        return estimated[-1]

    monkeypatch.setattr(raster_dataset, "estimate_ground", counting)
    monkeypatch.setattr(stored_parts, "_BAND_ROWS", 10)
    prepare(folder(height="dsm"), "potsdam", cache)
    assert len({ground.height_m.tobytes() for ground in estimated}) == len(estimated) == 3
    dataset = folder(height="dsm")
    prepared = open_prepared(dataset, "potsdam", cache)
    for tile_id in TILES["potsdam"]:
        prepared.read(tile_id, WINDOWS[2], labels=dataset.split.labels_of(tile_id))
    assert len(estimated) == 3


def test_an_interrupted_preparation_goes_on_where_it_was_and_leaves_no_rest(folder, cache):
    told = []

    def stop(tile_id, written, done, total):
        told.append((tile_id, written, done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(folder(), "potsdam", cache, stop)
    assert told == [("2_10", True, 1, 3), ("6_9", True, 2, 3)]
    partly = open_prepared(folder(), "potsdam", cache)
    assert partly.prepared_tiles == ("2_10", "6_9")
    assert pixel_source(partly) == "files and cache"
    summary = prepare(folder(), "potsdam", cache)
    assert (summary.written, summary.reused) == (("2_13",), ("2_10", "6_9"))
    assert summary.num_bytes == sum(f.stat().st_size for f in summary.folder.glob("tile-*/*/*"))
    assert prepare(folder(), "potsdam", cache).written == ()
    assert_all_windows_same_as_files(folder, cache)


def assert_all_windows_same_as_files(folder, cache, layout="potsdam"):
    dataset = folder(layout)
    prepared = open_prepared(dataset, layout, cache)
    assert pixel_source(prepared) == "cache"
    for tile_id in dataset.split.tiles:
        labels = dataset.split.labels_of(tile_id)
        assert_same(prepared.read(tile_id, labels=labels), dataset.read(tile_id, labels=labels))
    rests = [p for p in cache.rglob("*") if p.name.startswith(".")]
    assert rests == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_failure_in_the_middle_of_a_tile_leaves_neither_half_a_tile_nor_a_rest(
    folder, cache, monkeypatch, error
):
    dataset = folder()
    monkeypatch.setattr(stored_parts, "_BAND_ROWS", 16)
    bands, read = [], dataset.read

    def failing(tile_id, window=None, *, labels="full"):
        bands.append(window)
        if len(bands) == 7:
            raise error
        return read(tile_id, window, labels=labels)

    monkeypatch.setattr(dataset, "read", failing)
    with pytest.raises((KeyboardInterrupt, EnvironmentMissingError)) as caught:
        prepare(dataset, "potsdam", cache)
    (place,) = cache.iterdir()
    if error is not KeyboardInterrupt:
        assert str(caught.value).startswith(f"{place}: its disk, or your share of it, ran full;")
        assert "--cache" in str(caught.value)
        assert caught.value.exit_code == 7
    found = [p.relative_to(place).as_posix() for p in place.rglob("*.npy")]
    assert sorted(re.sub("-[0-9a-f]{16}", "", path) for path in found) == [
        "tile-2_10/full/target.npy",
        "tile-2_10/images/irrg.npy",
        "tile-2_10/images/ndsm.npy",
    ]
    assert [p.name for p in place.iterdir() if p.name.startswith(".")] == []
    assert prepare(folder(), "potsdam", cache).written == ("6_9", "2_13")
    assert_all_windows_same_as_files(folder, cache)


def test_a_killed_preparation_is_cleared_up_by_the_next_one(folder, cache):
    place = prepare(folder(), "potsdam", cache).folder
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    host = stored._HOST
    dead = place / f".part-{host}-{gone.pid}-01234567"
    alive = place / f".part-{host}-{os.getpid()}-01234567"
    elsewhere = place / f".part-another_{host}-{gone.pid}-01234567"
    unmarked = cache / f".part-{host}-{gone.pid}-01234567"
    for path in (dead, alive, elsewhere, unmarked):
        (path / "images").mkdir(parents=True)
        (path / "images" / "irrg.npy").write_bytes(b"half")
    half_deleted = cache / f".part-{host}-{gone.pid}-89abcdef"
    shutil.copytree(place, half_deleted)
    prepare(folder(), "potsdam", cache)
    assert not dead.exists()
    assert not half_deleted.exists()
    assert all(path.exists() for path in (alive, elsewhere, unmarked))


@pytest.mark.parametrize("purpose", ["image", "label"])
def test_a_changed_source_makes_its_part_stale_and_preparing_renews_only_that(folder, cache, caplog, purpose):
    place = prepare(folder(), "potsdam", cache).folder
    # A label's pixels must stay colours, so take the label of the other tile.
    files = {(f.tile_id, f.purpose): f.path for f in reversed(folder().files())}
    if purpose == "image":
        change(files["2_10", "image"])
    else:
        files["2_10", "label"].write_bytes(files["6_9", "label"].read_bytes())
    before = {p: p.stat().st_ino for p in place.rglob("*.npy")}
    dataset = folder()
    prepared = open_prepared(dataset, "potsdam", cache)
    assert prepared.prepared_tiles == ("6_9", "2_13")
    assert caplog.messages == ["tile 2_10: prepared from other files; run mmbench data prepare again"]
    assert_same(prepared.read("2_10"), dataset.read("2_10"))
    assert prepare(folder(), "potsdam", cache).written == ("2_10",)
    assert set(place.rglob("*.npy")) == set(before)  # what is renewed replaces what was stale
    renewed = {p.parent.name.split("-")[0] for p in place.rglob("*.npy") if p.stat().st_ino != before[p]}
    assert renewed == {"images" if purpose == "image" else "full"}
    assert_all_windows_same_as_files(folder, cache)


@pytest.fixture
def hashed(monkeypatch):
    """The files that were hashed, growing."""
    paths = []
    original = manifests.file_sha256
    monkeypatch.setattr(manifests, "file_sha256", lambda path: paths.append(path) or original(path))
    return paths


def test_equal_files_with_other_times_are_accepted_by_their_hash_once(folder, cache, hashed):
    prepare(folder(), "potsdam", cache)
    hashed.clear()
    assert open_prepared(folder(), "potsdam", cache).prepared_tiles == TILES["potsdam"]
    assert hashed == []
    touched = file_of(folder(), "2_10")
    os.utime(touched, ns=(1, 1))
    assert open_prepared(folder(), "potsdam", cache).prepared_tiles == TILES["potsdam"]
    assert hashed == [touched]
    assert open_prepared(folder(), "potsdam", cache).prepared_tiles == TILES["potsdam"]
    assert hashed == [touched]  # its new time was noted


def test_what_was_prepared_follows_a_data_folder_that_is_moved(folder, cache, tmp_path, hashed):
    place = prepare(folder(), "potsdam", cache).folder
    before = {path.stat().st_ino for path in place.rglob("*.npy")}
    (tmp_path / "potsdam").rename(tmp_path / "moved")
    moved = Potsdam(root=tmp_path / "moved", split=tmp_path / "moved" / "split.yaml")
    hashed.clear()
    assert open_prepared(moved, "potsdam", cache).prepared_tiles == TILES["potsdam"]
    assert len(hashed) == len(moved.files())
    assert open_prepared(moved, "potsdam", cache).prepared_tiles == TILES["potsdam"]
    assert len(hashed) == len(moved.files())
    assert {path.stat().st_ino for path in place.rglob("*.npy")} == before
    assert [p.name for p in place.iterdir() if p.name.startswith(".")] == []


def test_a_moved_folder_with_another_pixel_inherits_nothing_for_it(folder, cache, tmp_path):
    prepare(folder(), "potsdam", cache)
    (tmp_path / "potsdam").rename(tmp_path / "moved")
    moved = Potsdam(root=tmp_path / "moved", split=tmp_path / "moved" / "split.yaml")
    path = file_of(moved, "6_9")
    times = path.stat()
    change(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert open_prepared(moved, "potsdam", cache).prepared_tiles == ("2_10", "2_13")


@pytest.fixture
def two_roots(folder, tmp_path):
    """Two readers of one configuration: a folder, and a copy in which a pixel differs."""
    first = folder()
    shutil.copytree(tmp_path / "potsdam", tmp_path / "other")
    second = Potsdam(root=tmp_path / "other", split=tmp_path / "other" / "split.yaml")
    change(file_of(second, "6_9"))
    return first, second


def test_two_data_folders_of_one_configuration_lie_side_by_side(two_roots, cache):
    places = {prepare(dataset, "potsdam", cache).folder for dataset in two_roots}
    assert len(places) == 1
    for dataset in two_roots:
        assert prepare(dataset, "potsdam", cache).reused == TILES["potsdam"]
        opened = open_prepared(dataset, "potsdam", cache)
        assert pixel_source(opened) == "cache"
        assert_same(opened.read("6_9"), dataset.read("6_9"))
    assert len(list(places.pop().glob("tile-*/*"))) == 2 * 2 * 3


@pytest.mark.parametrize("gone", [False, True])
def test_deleting_what_one_data_folder_gave_keeps_the_other(two_roots, cache, tmp_path, gone):
    first, second = two_roots
    place = prepare(first, "potsdam", cache).folder
    assert prepare(second, "potsdam", cache).folder == place
    if gone:
        shutil.rmtree(tmp_path / "other")
        second = Potsdam(root=tmp_path / "other")
    removed = delete_root(second, "potsdam", tmp_path / "other", cache)
    assert len(removed) == 6
    assert not any(path.exists() for path in removed)
    assert prepare(first, "potsdam", cache).reused == TILES["potsdam"]
    assert delete_root(second, "potsdam", tmp_path / "other", cache) == []
    assert delete_root(first, "potsdam", tmp_path / "potsdam", cache) == [place]
    assert list(cache.iterdir()) == []


def test_files_that_change_while_they_are_read_are_not_prepared(folder, cache, monkeypatch):
    dataset = folder()
    read = dataset.read

    def changing(tile_id, window=None, *, labels="full"):
        sample = read(tile_id, window, labels=labels)
        if tile_id == "6_9":
            os.utime(file_of(dataset, tile_id), ns=(5, 5))
        return sample

    monkeypatch.setattr(dataset, "read", changing)
    with pytest.raises(DataError, match="tile 6_9: its files changed while they were read"):
        prepare(dataset, "potsdam", cache)
    assert open_prepared(folder(), "potsdam", cache).prepared_tiles == ("2_10",)


def test_another_split_shares_the_tiles_and_adds_the_labels_it_scores(folder, cache, tmp_path):
    prepare(folder(), "potsdam", cache)
    (tmp_path / "swapped.yaml").write_text("train: [2_13]\ntest: [2_10]\n")
    root = tmp_path / "potsdam"
    swapped = Potsdam(root=root, split=tmp_path / "swapped.yaml")
    first = prepare(swapped, "potsdam", cache)
    assert first.written == ("2_13", "2_10")
    parts = sorted(p.name.split("-")[0] for p in (first.folder / "tile-2_10").iterdir())
    assert parts == ["eroded", "full", "images"]
    assert prepare(folder(), "potsdam", cache).written == ()


def test_other_options_other_datasets_and_other_code_have_other_folders(folder, cache, monkeypatch):
    def places():
        return {
            stored.prepared_folder(folder(), "potsdam", cache),
            stored.prepared_folder(folder(height="dsm"), "potsdam", cache),
            stored.prepared_folder(folder(optical="rgb"), "potsdam", cache),
            stored.prepared_folder(folder("vaihingen"), "vaihingen", cache),
            stored.prepared_folder(Synthetic(split="small"), "synthetic", cache),
            stored.prepared_folder(Synthetic(split="small", seed=1), "synthetic", cache),
        }

    before = places()
    assert len(before) == 6
    assert before == places()
    assert stored.prepared_folder(Synthetic(), "synthetic", cache) in before  # the split does not count
    monkeypatch.setattr(stored, "hash_sources", lambda files: "edited")
    assert before.isdisjoint(places())


def test_the_cache_lies_where_it_is_told_to_or_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "by variable"))
    assert cache_root() == tmp_path / "by variable"
    assert cache_root(tmp_path / "given") == tmp_path / "given"
    monkeypatch.delenv("MMBENCH_CACHE")
    assert "mmbench" in str(cache_root())


@pytest.mark.parametrize("times", range(2))
def test_two_that_prepare_at_once_leave_one_whole_copy(folder, cache, times):
    start, done, errors = threading.Barrier(3), [], []

    def work(dataset):
        start.wait()
        try:
            done.append(prepare(dataset, "potsdam", cache))
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(folder(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(done) == 3
    assert len(list(cache.iterdir())) == 1
    assert_all_windows_same_as_files(folder, cache)


def test_a_part_that_another_process_finished_first_stays_as_it_is(folder, cache):
    dataset = folder()
    place = prepare(dataset, "potsdam", cache).folder
    kept = part_of(place, "2_10")
    before = kept.stat().st_ino
    stored_parts.tile_parts(dataset, place)["2_10"].write(dataset, ["images", "full"])
    assert kept.stat().st_ino == before
    assert_all_windows_same_as_files(folder, cache)


@pytest.mark.parametrize("damage", ["shorter", "longer", "gone", "header", "misshapen"])
def test_a_damaged_array_is_found_when_opened_and_when_read_and_prepared_again(folder, cache, caplog, damage):
    place = prepare(folder(), "potsdam", cache).folder
    dataset = folder()
    opened = open_prepared(dataset, "potsdam", cache)
    path = part_of(place, "6_9") / "irrg.npy"
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        misshapen = io.BytesIO()
        np.save(misshapen, np.zeros((64, 63, 3), np.uint8))
        damaged = {
            "misshapen": misshapen.getvalue(),
            "shorter": data[:5000],
            "longer": data + b"x",
            "header": b"\0" * len(data),
        }
        path.write_bytes(damaged[damage])
    if damage != "header":  # it is read once, when the dataset is opened
        assert_same(opened.read("6_9", WINDOWS[2]), dataset.read("6_9", WINDOWS[2]))
        (message,) = caplog.messages
        assert message.startswith("tile 6_9: its files are read since what was prepared is gone or damaged (")
        assert "irrg.npy" in message
        assert pixel_source(opened) == "files and cache"
        assert_same(opened.read("6_9"), dataset.read("6_9"))
        assert len(caplog.messages) == 1
    caplog.clear()
    assert open_prepared(folder(), "potsdam", cache).prepared_tiles == ("2_10", "2_13")
    assert caplog.messages == ["tile 6_9: prepared, but damaged since; run mmbench data prepare again"]
    assert prepare(folder(), "potsdam", cache).written == ("6_9",)
    assert_all_windows_same_as_files(folder, cache)


def spoil(path, *, keep_time):
    """Zero a stretch of an array without changing its length, as a fault of the disk does."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[1000:2000] = bytes(1000)
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_an_array_that_was_written_to_since_is_not_read_and_is_prepared_again(folder, cache, caplog):
    place = prepare(folder(), "potsdam", cache).folder
    spoil(part_of(place, "6_9") / "irrg.npy", keep_time=False)
    dataset = folder()
    opened = open_prepared(dataset, "potsdam", cache)
    assert opened.prepared_tiles == ("2_10", "2_13")
    assert caplog.messages == ["tile 6_9: prepared, but damaged since; run mmbench data prepare again"]
    assert_same(opened.read("6_9"), dataset.read("6_9"))
    assert prepare(folder(), "potsdam", cache).written == ("6_9",)
    assert_all_windows_same_as_files(folder, cache)


def test_preparing_finds_a_damaged_array_by_its_hash_though_its_time_is_the_old_one(folder, cache):
    place = prepare(folder(), "potsdam", cache).folder
    spoil(part_of(place, "6_9") / "irrg.npy", keep_time=True)
    assert prepare(folder(), "potsdam", cache).written == ("6_9",)
    assert_all_windows_same_as_files(folder, cache)


def test_a_cache_whose_times_were_lost_is_accepted_by_its_hashes_once(folder, cache, hashed):
    place = prepare(folder(), "potsdam", cache).folder
    for path in place.rglob("*.npy"):
        os.utime(path, ns=(7, 7))
    hashed.clear()
    assert open_prepared(folder(), "potsdam", cache).prepared_tiles == TILES["potsdam"]
    assert sorted(hashed) == sorted(place.rglob("*.npy"))
    hashed.clear()
    assert open_prepared(folder(), "potsdam", cache).prepared_tiles == TILES["potsdam"]
    assert hashed == []


def test_the_manifest_holds_the_hash_of_every_array_as_it_lies_there(folder, cache):
    place = prepare(folder(), "potsdam", cache).folder
    for path in place.rglob("*.npy"):
        noted = json.loads((path.parent / "manifest.json").read_text())["arrays"][path.stem]
        assert noted["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (noted["num_bytes"], noted["mtime_ns"]) == (path.stat().st_size, path.stat().st_mtime_ns)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema_version": 1}'])
def test_a_manifest_of_another_schema_is_not_trusted(folder, cache, text):
    place = prepare(folder(), "potsdam", cache).folder
    (part_of(place, "6_9") / "manifest.json").write_text(text)
    assert open_prepared(folder(), "potsdam", cache).prepared_tiles == ("2_10", "2_13")


def test_where_nothing_is_prepared_the_dataset_itself_is_returned(folder, cache):
    dataset = folder()
    assert open_prepared(dataset, "potsdam", cache) is dataset
    assert pixel_source(dataset) == "files"
    assert not cache.exists()
    assert pixel_source(Synthetic(split="small")) == "generator"


def test_a_full_disk_is_refused_before_anything_is_written(folder, cache, monkeypatch):
    usage = shutil.disk_usage(cache.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**26 + 98303))
    with pytest.raises(EnvironmentMissingError) as caught:
        prepare(folder(), "potsdam", cache)
    # Three tiles of 64 x 64 pixels, 3 + 4 + 1 bytes each: 98304.
    words = (
        "64.1 MiB are needed (98304 bytes of pixels and 64.0 MiB to spare), 64.1 MiB are free: 1 bytes too"
    )
    assert words in str(caught.value)
    assert str(cache) in str(caught.value)
    assert caught.value.exit_code == 7
    assert list(cache.rglob("*.npy")) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**26 + 98304))
    prepare(folder(), "potsdam", cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    assert prepare(folder(), "potsdam", cache).written == ()  # nothing is needed any more


@pytest.mark.parametrize("what", ["all", "root"])
@pytest.mark.parametrize("tile", ["2_10", "2_13"])
def test_a_preparation_whose_folder_is_deleted_meanwhile_says_so(folder, cache, monkeypatch, tile, what):
    prepare(folder(), "potsdam", cache)
    dataset = folder()
    change(file_of(dataset, tile))
    read = dataset.read

    def deleting(tile_id, window=None, *, labels="full"):
        if what == "all":
            stored.delete("potsdam", cache)
        else:
            delete_root(dataset, "potsdam", dataset.root, cache)
        return read(tile_id, window, labels=labels)

    monkeypatch.setattr(stored_parts, "_BAND_ROWS", 16)
    monkeypatch.setattr(dataset, "read", deleting)
    with pytest.raises(EnvironmentMissingError, match="was deleted meanwhile; run the same command again"):
        prepare(dataset, "potsdam", cache)
    assert prepare(folder(), "potsdam", cache).written == TILES["potsdam"]
    assert_all_windows_same_as_files(folder, cache)


def test_a_missing_file_elsewhere_is_not_taken_for_a_deleted_folder(folder, cache, monkeypatch):
    dataset = folder()
    monkeypatch.setattr(dataset, "size", lambda tile_id: (cache.parent / "gone").stat())
    with pytest.raises(FileNotFoundError):
        prepare(dataset, "potsdam", cache)


def test_a_file_in_the_place_of_the_cache_is_refused(folder, cache):
    cache.write_text("notes")
    with pytest.raises(InvalidRecipeError, match="is no folder"):
        prepare(folder(), "potsdam", cache)
    assert cache.read_text() == "notes"


def test_missing_files_are_refused_before_a_folder_is_made(folder, cache):
    file_of(folder(), "2_13", "label").unlink()
    with pytest.raises(DataError, match="incomplete"):
        prepare(folder(), "potsdam", cache)
    assert not cache.exists()


def test_delete_removes_every_configuration_of_a_dataset_and_nothing_else(folder, cache):
    mine = {
        prepare(folder(), "potsdam", cache).folder,
        prepare(folder(height="dsm"), "potsdam", cache).folder,
    }
    other = prepare(folder("vaihingen"), "vaihingen", cache).folder
    (cache / "potsdam-notes").mkdir()
    assert set(stored.delete("potsdam", cache)) == mine
    assert sorted(cache.iterdir()) == sorted([other, cache / "potsdam-notes"])
    assert stored.delete("potsdam", cache) == []
    assert stored.delete("potsdam", cache / "nowhere") == []


def test_delete_of_one_configuration_keeps_the_others(folder, cache):
    kept = prepare(folder(), "potsdam", cache).folder
    gone = prepare(folder(height="dsm"), "potsdam", cache).folder
    assert stored.delete("potsdam", cache, folder(height="dsm")) == [gone]
    assert list(cache.iterdir()) == [kept]


@pytest.mark.parametrize("kind", ["unmarked", "link", "another", "file"])
def test_delete_refuses_what_prepare_did_not_make_and_then_deletes_nothing(folder, cache, tmp_path, kind):
    prepared = prepare(folder(), "potsdam", cache).folder
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    strange = cache / f"potsdam-{'f' * 16}"  # the last one looked at
    if kind == "link":
        shutil.copy(prepared / stored.MARKER, precious / stored.MARKER)
        strange.symlink_to(precious)
    elif kind == "file":
        strange.write_text("mine")
    else:
        shutil.copytree(precious, strange)
        if kind == "another":
            (strange / stored.MARKER).write_text('{"dataset": "vaihingen"}')
    with pytest.raises(InvalidRecipeError, match="was not made by 'mmbench data prepare potsdam'"):
        stored.delete("potsdam", cache)
    assert (precious / "thesis.txt").read_text() == "years"
    assert strange.exists()
    assert (prepared / "tile-2_10").is_dir()


def test_delete_does_not_follow_links_out_of_the_folder(folder, cache, tmp_path):
    prepared = prepare(folder(), "potsdam", cache).folder
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    (prepared / "link").symlink_to(precious)
    (prepared / "tile-2_10" / "link").symlink_to(precious)
    stored.delete("potsdam", cache)
    assert (precious / "thesis.txt").read_text() == "years"
    assert list(cache.iterdir()) == []


def test_preparing_refuses_a_strangers_folder_of_that_name(folder, cache):
    place = stored.prepared_folder(folder(), "potsdam", cache)
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("years")
    with pytest.raises(InvalidRecipeError, match="was not made by"):
        prepare(folder(), "potsdam", cache)
    assert [p.name for p in place.iterdir()] == ["thesis.txt"]
    assert list(cache.iterdir()) == [place]


def test_the_marker_says_what_the_folder_holds(folder, cache):
    place = prepare(folder(), "potsdam", cache).folder
    content = json.loads((place / stored.MARKER).read_text())
    assert content["dataset"] == "potsdam"
    assert content["identity"] == json.loads(json.dumps(folder().identity))
    assert content["modalities"] == {"irrg": 3, "ndsm": 1}


class Endless(Dataset):
    """One large tile with an awkward name, made on the spot, a few rows at a time."""

    title = homepage = licence = "made up"
    classes, palette, scored_classes, gsd_m = ("a", "b"), ((0, 0, 0), (1, 1, 1)), (0, 1), 1.0
    splits = {"only": Split(("../up",), (), ("..",))}  # noqa: RUF012
    tall, wide = 3000, 2000

    def __init__(self):
        self.modalities, self.split, self.split_name = {"a/b": 2, "ndsm": 1}, self.splits["only"], "only"

    @property
    def identity(self):
        return {}

    def size(self, tile_id):
        return self.tall, self.wide

    def read(self, tile_id, window=None, *, labels="full"):
        top, left, height, width = window or Window(0, 0, self.tall, self.wide)
        ramp = np.arange(top, top + height)[:, None] * 7 + np.arange(left, left + width)
        images = {
            "a/b": np.stack([ramp, ramp + 1]).astype(np.uint16),
            "ndsm": ramp[None].astype(np.float32),
        }
        return Sample(images, (ramp % 2).astype(np.uint8), tile_id)

    @classmethod
    def fake(cls, root):
        return cls()


def test_a_large_tile_is_prepared_in_little_memory_and_names_stay_inside_the_folder(
    cache, tmp_path, monkeypatch
):
    monkeypatch.setattr(stored, "entry", lambda kind, name: dataclasses.make_dataclass("E", ["sources"])([]))
    monkeypatch.setattr(stored_parts, "_BAND_ROWS", 100)
    dataset = Endless()
    tracemalloc.start()
    try:
        summary = prepare(dataset, "endless", cache)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert summary.num_bytes > 2 * 3000 * 2000 * 9
    assert peak < 3000 * 2000 * 9 / 4
    assert {p.parent.parent.parent for p in tmp_path.rglob("*.npy")} == {summary.folder}
    prepared = open_prepared(dataset, "endless", cache)
    for tile_id in dataset.split.tiles:
        window = Window(1234, 56, 300, 700)
        labels = dataset.split.labels_of(tile_id)
        assert_same(
            prepared.read(tile_id, window, labels=labels), dataset.read(tile_id, window, labels=labels)
        )


@pytest.mark.skipif(sys.platform != "linux", reason="the list of mappings is Linux's")
def test_nothing_stays_open_or_mapped_between_two_reads(folder, cache):
    dataset = folder()
    prepare(dataset, "potsdam", cache)
    prepared = open_prepared(dataset, "potsdam", cache)
    samples = [prepared.read(t, labels=dataset.split.labels_of(t)) for t in dataset.split.tiles]
    process = psutil.Process()
    assert [f.path for f in process.open_files() if str(cache) in f.path] == []
    assert str(cache) not in Path("/proc/self/maps").read_text()
    assert len(samples) == 3


def test_a_prepared_dataset_goes_to_worker_processes(folder, cache):
    dataset = folder()
    prepare(dataset, "potsdam", cache)
    prepared = open_prepared(dataset, "potsdam", cache)
    again = pickle.loads(pickle.dumps(prepared))  # noqa: S301
    assert_same(again.read("2_10"), dataset.read("2_10"))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert_same(pool.apply(prepared.read, ("2_10", WINDOWS[2])), dataset.read("2_10", WINDOWS[2]))


@pytest.mark.parametrize("workers", [0, 2])
def test_training_from_files_and_from_the_cache_gives_the_same_record(
    folder, cache, tmp_path, short_recipe, workers
):
    from mmbench.execution import run_cell
    from mmbench.records import read_confusions

    dataset, cell = folder("vaihingen", height="dsm"), Cell("modality_dropout", 0)
    prepare(dataset, "vaihingen", cache)
    prepared = open_prepared(dataset, "vaihingen", cache)
    found = {}
    for source in (dataset, prepared):
        results = tmp_path / pixel_source(source)
        run = Run("vaihingen", source, short_recipe, torch.device("cpu"), results, workers=workers)
        record = run_cell(run, cell)
        assert record.status == "done", record.error
        found[record.provenance["pixels"]] = record, read_confusions(results, record)
    assert list(found) == ["files", "cache"]
    (first, matrices), (second, matrices_again) = found.values()
    assert first.id == second.id
    assert first.scenarios == second.scenarios
    assert first.training["curve"] == second.training["curve"]
    assert first.training["validation"] == second.training["validation"]
    assert all(np.array_equal(matrices[name], matrices_again[name]) for name in matrices)
