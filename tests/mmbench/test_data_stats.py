"""`mmbench data stats`: counts, ranges and training statistics are those of the pixels that are read."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mmbench.cli import main
from mmbench.data_statistics import SCHEMA_VERSION, data_statistics
from mmbench.datasets import _tally
from mmbench.datasets._synthesis import write_isprs_folder
from mmbench.datasets.potsdam import Potsdam
from mmbench.datasets.synthetic import Synthetic
from mmbench.datasets.vaihingen import Vaihingen
from mmbench.errors import DataError
from mmbench.transforms import fit_normalizer

DATASETS = {"potsdam": Potsdam, "vaihingen": Vaihingen}
TILES = {
    "potsdam": (("2_11", "2_12"), ("2_10",), ("2_13", "2_14")),
    "vaihingen": (("1", "3"), ("30",), ("2", "4")),
}
LABELS = {"train": "full", "val": "full", "test": "eroded"}
REPOSITORY = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get("MMBENCH_REALDATA") or REPOSITORY.parent / "shared" / "realdata") / "potsdam-mini"


@pytest.fixture
def call(capfd):
    """Call `mmbench data stats`; returns (code, stdout, stderr)."""

    def run(*arguments):
        code = main(["data", "stats", *map(str, arguments), "--progress", "off"])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def write_split(path, tiles):
    path.write_text("train: [{}]\nval: [{}]\ntest: [{}]\n".format(*map(", ".join, tiles)))
    return path


@pytest.fixture(scope="module", params=[(name, height) for name in DATASETS for height in ("ndsm", "dsm")])
def dataset(request, tmp_path_factory):
    layout, height = request.param
    folder = tmp_path_factory.mktemp(layout) / "data"
    write_isprs_folder(layout, folder, size=64, tiles=sum(TILES[layout], ()))
    split = write_split(folder.parent / "mine.yaml", TILES[layout])
    return DATASETS[layout](root=folder, split=split, height=height)


def pixels_of(dataset, role):
    """Return the targets and the images of a role: (pixels,) and modality -> (C, pixels)."""
    samples = [dataset.read(tile, labels=LABELS[role]) for tile in dataset.split.role(role)]
    target = np.concatenate([sample.target.ravel() for sample in samples])
    images = {
        name: np.concatenate([s.images[name].reshape(count, -1) for s in samples], axis=1)
        for name, count in dataset.modalities.items()
    }
    return target, images


@pytest.mark.parametrize("role", LABELS)
def test_classes_are_counted_as_numpy_counts_them_under_the_labels_of_the_protocol(dataset, role):
    found = data_statistics(dataset).roles[role]
    target, _ = pixels_of(dataset, role)
    counts = np.bincount(target[target != 255], minlength=6)
    assert list(found.classes) == list(dataset.classes)
    assert list(found.classes.values()) == counts.tolist()
    assert found.ignored == (target == 255).sum()
    assert (found.ignored > 0) == (role == "test")
    assert found.ignored_share == pytest.approx((target == 255).mean())
    np.testing.assert_allclose(list(found.class_shares.values()), counts / counts.sum())
    assert (found.pixels, found.labels) == (target.size, LABELS[role])
    assert found.tiles == len(dataset.split.role(role))


@pytest.mark.parametrize("role", LABELS)
def test_ranges_and_clipped_shares_are_those_of_the_pixels(dataset, role):
    found = data_statistics(dataset)
    _, images = pixels_of(dataset, role)
    for name, image in images.items():
        limits = fit_normalizer(dataset).statistics[name]
        for channel, values in enumerate(image):
            seen = found.roles[role].channels[name][channel]
            assert (seen.low, seen.high) == (values.min(), values.max())
            assert seen.mean == pytest.approx(values.mean(dtype=np.float64))
            low, high = np.float32(limits.low[channel]), np.float32(limits.high[channel])
            assert seen.clipped == np.mean((values < low) | (values > high))


def test_the_training_statistics_are_those_that_training_uses(dataset):
    assert data_statistics(dataset).training == fit_normalizer(dataset).statistics


def test_small_bands_give_the_same_and_are_never_exceeded(dataset, monkeypatch):
    whole = data_statistics(dataset).as_dict()
    monkeypatch.setattr(_tally, "BAND_PIXELS", 1000)
    sizes, read = [], type(dataset).read

    def spy(self, tile_id, window=None, *, labels="full"):
        sizes.append(window.height * window.width)
        return read(self, tile_id, window, labels=labels)

    known = fit_normalizer(dataset)
    monkeypatch.setattr("mmbench.data_statistics.fit_normalizer", lambda _: known)
    monkeypatch.setattr(type(dataset), "read", spy)
    banded = data_statistics(dataset).as_dict()
    assert max(sizes) <= 1000
    for role, found in whole["roles"].items():
        for name, channels in found["channels"].items():
            for channel, other in zip(channels, banded["roles"][role]["channels"][name], strict=True):
                assert channel.pop("mean") == pytest.approx(other.pop("mean"))  # another order of the sum
    assert banded == whole


def test_a_role_without_tiles_is_left_out(tmp_path):
    write_isprs_folder("vaihingen", tmp_path / "data", size=32, tiles=["1", "2"])
    split = write_split(tmp_path / "mine.yaml", (["1"], [], ["2"]))
    assert list(data_statistics(Vaihingen(root=tmp_path / "data", split=split)).roles) == ["train", "test"]


def test_json_holds_the_same_and_nothing_else_is_printed(dataset, call):
    split = dataset.root.parent / "mine.yaml"
    height = list(dataset.modalities)[1]
    code, out, err = call(
        *(dataset.name, "--root", dataset.root, "--split-file", split, "--height", height, "--json", "-")
    )
    assert (code, err) == (0, "")
    stored = json.loads(out)
    assert stored == json.loads(json.dumps(data_statistics(dataset, name=dataset.name).as_dict()))
    assert stored["schema_version"] == SCHEMA_VERSION
    assert stored["root"] == str(dataset.root)


def test_the_tables_show_shares_ranges_and_training_statistics(call, tmp_path):
    arguments = ("synthetic", "--split", "small", "--dataset-option", "tile_size=64")
    code, out, err = call(*arguments, "--json", tmp_path / "stats.json")
    assert code == 0
    assert err == f"wrote {tmp_path / 'stats.json'}\n"
    stored = json.loads((tmp_path / "stats.json").read_text())
    classes, ranges, training = ([row.split() for row in table.splitlines()] for table in out.split("\n\n"))
    assert classes[0] == ["train", "val", "test"]
    assert ["pixels", "8192", "4096", "8192"] in classes
    shares = [stored["roles"][role]["class_shares"]["building"] for role in LABELS]
    assert ["building,", "%", "of", "labelled", *(f"{share * 100:.2f}" for share in shares)] in classes
    seen = stored["roles"]["test"]["channels"]["ndsm"][0]
    assert [row[:5] for row in ranges if row[0] == "ndsm" and row[2] == "test"] == [
        ["ndsm", "0", "test", f"{seen['low']:.4g}", f"{seen['high']:.4g}"]
    ]
    assert ["ndsm", "0", *(f"{stored['training']['ndsm'][key][0]:.4g}" for key in ("low", "high"))] == (
        training[-1][:4]
    )


def test_progress_counts_the_tiles():
    seen = []
    data_statistics(Synthetic(split="small", tile_size=32), progress=lambda *p: seen.append(p))
    assert seen == [(n, 5) for n in range(1, 6)]


def test_shares_of_nothing_are_not_numbers():
    dataset = Synthetic(split="small", tile_size=32)
    dataset.read = lambda tile_id, window=None, labels="full", read=dataset.read: ignored(
        read(tile_id, window, labels=labels)
    )
    found = data_statistics(dataset)
    assert found.roles["train"].ignored_share == 1
    assert set(found.roles["train"].class_shares.values()) == {None}
    json.dumps(found.as_dict(), allow_nan=False)


def ignored(sample):
    sample.target[:] = 255
    return sample


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["potsdm"], 3, "Did you mean 'potsdam'?"),
        (["potsdam", "--split", "nowhere"], 3, "nowhere"),
        (["potsdam", "--height", "lidar"], 2, "height"),
        (["potsdam", "--root", "/no/folder"], 4, "not found in /no/folder"),
        (["synthetic", "--loud"], 2, "--loud"),
    ],
)
def test_bad_input_is_one_line_with_its_code(arguments, code, message, call):
    found, out, err = call(*arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_wrong_file_is_named(tmp_path):
    write_isprs_folder("vaihingen", tmp_path / "data", size=32, tiles=["1", "2"])
    split = write_split(tmp_path / "mine.yaml", (["1"], [], ["2"]))
    path = tmp_path / "data" / "top" / "top_mosaic_09cm_area2.tif"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=path.name):
        data_statistics(Vaihingen(root=tmp_path / "data", split=split))


@pytest.mark.skipif(
    not REAL.is_dir(),
    reason=f"no real crops in {REAL}; MMBENCH_REALDATA names the folder that holds potsdam-mini",
)
def test_the_shares_of_the_real_crops_are_those_that_were_counted(tmp_path):
    split = write_split(tmp_path / "crops.yaml", (["2_10"], [], ["2_11"]))
    found = data_statistics(Potsdam(root=REAL, split=split, height="dsm"))
    assert list(found.roles["train"].classes.values()) == [110121, 67023, 40942, 33466, 10592, 0]
    assert 0.01 < found.roles["test"].ignored_share < 0.2
    assert found.training["dsm"].low[0] == 0
    assert 8 < found.training["dsm"].high[0] < 25
