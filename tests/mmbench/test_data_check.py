"""`mmbench data check`: what is wrong with a folder is said file by file, and nothing else is."""

import hashlib
import json
import os
import re
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from mmbench.cli import main
from mmbench.datasets import _tally
from mmbench.datasets._checking import SCHEMA_VERSION, check
from mmbench.datasets._dataset import Dataset, Sample, Split, Window
from mmbench.datasets._synthesis import write_isprs_folder
from mmbench.datasets.potsdam import Potsdam
from mmbench.datasets.synthetic import Synthetic
from mmbench.datasets.vaihingen import Vaihingen
from mmbench.errors import DataError

DATASETS = {"potsdam": Potsdam, "vaihingen": Vaihingen}
TILES = {"potsdam": ("2_11", "2_10", "2_13"), "vaihingen": ("1", "30", "2")}
REPOSITORY = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get("MMBENCH_REALDATA") or REPOSITORY.parent / "shared" / "realdata") / "potsdam-mini"


@pytest.fixture
def call(capfd):
    """Call `mmbench data check`; returns (code, stdout, stderr)."""

    def run(*arguments):
        code = main(["data", "check", *map(str, arguments), "--progress", "off"])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def write_split(path, train, val, test):
    path.write_text("train: [{}]\nval: [{}]\ntest: [{}]\n".format(*map(", ".join, (train, val, test))))
    return path


@pytest.fixture(scope="module", params=DATASETS)
def clean(request, tmp_path_factory):
    """Write a small clean folder of a layout; returns (layout, folder, split file)."""
    folder = tmp_path_factory.mktemp(request.param) / "data"
    write_isprs_folder(request.param, folder, size=48, tiles=TILES[request.param])
    train, val, test = TILES[request.param]
    return request.param, folder, write_split(folder.parent / "mine.yaml", [train], [val], [test])


@pytest.mark.parametrize("height", ["ndsm", "dsm"])
def test_a_clean_folder_can_run_and_every_file_has_a_row(clean, height, call):
    layout, folder, split = clean
    code, out, err = call(layout, "--root", folder, "--split-file", split, "--height", height)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "can run: 3 of 3 tiles"
    dataset = DATASETS[layout](root=folder, split=split, height=height)
    rows = out.split("\n\n")[0].splitlines()[2:]
    assert len(rows) == len(dataset.files()) == 9
    for row, file in zip(rows, dataset.files(), strict=True):
        digest = hashlib.sha256(file.path.read_bytes()).hexdigest()
        assert row.startswith(file.tile_id)
        assert file.path.name in row
        assert digest[:12] in row
        assert row.split()[-1] == "ok"


def test_the_report_holds_what_numpy_finds_in_a_file(clean):
    layout, folder, split = clean
    report = check(DATASETS[layout](root=folder, split=split, height="dsm"))
    found = next(r for tile in report.tiles for r in tile.files if r.file.kind == "dsm")
    pixels = tifffile.imread(found.file.path)
    assert (found.size, found.channels, found.dtype) == (pixels.shape, 1, "float32")
    assert (found.low, found.high) == (float(pixels.min()), float(pixels.max()))
    assert found.num_bytes == found.file.path.stat().st_size


def rewrite(change):
    """Return a fault that changes the pixels of a TIFF, stored in the way that suits them."""

    def plant(path):
        pixels = change(tifffile.imread(path))
        path.unlink()
        tifffile.imwrite(path, pixels, photometric="minisblack" if pixels.ndim == 2 else "rgb")

    return plant


def paint(colour):
    def change(pixels):
        pixels[5:7, 5:10] = colour
        return pixels

    return rewrite(change)


def encode(make):
    """Return a fault that puts other pixels of the same size into a JPEG."""

    def plant(path):
        rows, columns = imagecodecs.jpeg8_decode(path.read_bytes()).shape
        path.write_bytes(imagecodecs.jpeg8_encode(make(rows, columns)))

    return plant


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def noise(rows, columns):
    return np.random.default_rng(0).integers(0, 255, (rows, columns, 3), dtype=np.uint8)


OPTICAL, HEIGHT, LABEL = (
    "4_Ortho_RGBIR/top_potsdam_{}_RGBIR.tif",
    "1_DSM_normalisation/dsm_potsdam_{}_normalized_lastools.jpg",
    "5_Labels_for_participants/top_potsdam_{}_label.tif",
)
ERODED = "5_Labels_all_noBoundary/top_potsdam_{}_label_noBoundary.tif"
FAULTS = [
    # tile, file, fault, what the report must say, whether the header shows it
    ("2_11", OPTICAL.format("2_11"), cut, "ends 200 bytes early", True),
    ("2_12", LABEL.format("2_12"), paint((252, 255, 0)), "10 pixels of the colour (252, 255, 0)", False),
    ("3_10", LABEL.format("3_10"), paint((0, 0, 0)), "10 pixels of the colour (0, 0, 0)", False),
    ("3_11", LABEL.format("3_11"), rewrite(lambda p: p[:40, :44]), "40 rows and 44 columns", True),
    ("3_12", OPTICAL.format("3_12"), rewrite(np.uint16), "4 channels of uint16", True),
    ("4_10", HEIGHT.format("04_10"), encode(lambda *s: np.full(s, 7, np.uint8)), "one value 7", False),
    ("4_11", HEIGHT.format("04_11"), cut, "ends early", True),
    ("4_12", OPTICAL.format("4_12"), rewrite(lambda p: p[..., :3].copy()), "holds 3 channels", True),
    ("5_10", HEIGHT.format("05_10"), encode(noise), "picture in colour", False),
    ("5_11", OPTICAL.format("5_11"), lambda path: path.write_bytes(b""), "empty", True),
    ("2_13", ERODED.format("2_13"), lambda path: path.write_text("a note\n"), "cannot be read", True),
    ("2_14", ERODED.format("2_14"), rewrite(np.uint16), "3 channels of uint16", True),
]
MISSING = ("5_12", "top_potsdam_5_12_label.tif (in 5_Labels_for_participants or 5_Labels_all)")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Write a folder with thirteen faults and two sound tiles; returns (folder, split file)."""
    folder = tmp_path_factory.mktemp("damaged") / "data"
    faulty = [tile for tile, *_ in FAULTS] + [MISSING[0]]
    write_isprs_folder("potsdam", folder, size=48, tiles=[*faulty, "2_10", "3_13"])
    for _, name, fault, _, _ in FAULTS:
        fault(folder / name)
    for path in folder.glob(f"5_Labels*/top_potsdam_{MISSING[0]}_label.tif"):
        path.unlink()
    tests = ["2_13", "2_14", "3_13"]
    train = [tile for tile in faulty if tile not in tests]
    return folder, write_split(folder.parent / "mine.yaml", train, ["2_10"], tests)


def listed(out, title):
    """Return the lines below a title."""
    block = next(block for block in out.split("\n\n") if block.startswith(f"{title}\n"))
    return [line.removeprefix("  - ") for line in block.splitlines()[1:]]


def test_every_planted_fault_is_named_with_its_file_and_nothing_else_is(damaged, call):
    folder, split = damaged
    code, out, err = call("potsdam", "--root", folder, "--split-file", split)
    problems = listed(out, "problems")
    for _, name, _, words, _ in FAULTS:
        (line,) = (line for line in problems if line.startswith(str(folder / name)))
        assert words in line
        assert line.count(str(folder / name)) == 1
    assert [line for line in problems if line.startswith(f"tile {MISSING[0]}, full: missing")]
    assert MISSING[1] in out
    assert len(problems) == len(FAULTS) + 1
    assert out.splitlines()[-1] == "can run: 2 of 15 tiles"
    assert code == 4
    assert err == (
        "error: dataset 'potsdam': 13 problems in 13 of 15 tiles of split mine.yaml, named in the report. "
        "Mend them, or list the other tiles in a split file\n"
    )


def test_the_table_marks_the_faulty_files_and_only_them(damaged, call):
    folder, split = damaged
    _, out, _ = call("potsdam", "--root", folder, "--split-file", split)
    wrong = [row for row in out.split("\n\n")[0].splitlines() if row.endswith("WRONG")]
    assert len(wrong) == len(FAULTS) + 1
    for _, name, *_ in FAULTS:
        assert sum(Path(name).name in row for row in wrong) == 1
    assert [row.split()[:3] for row in wrong if "not found" in row] == [[MISSING[0], "train", "full"]]


def test_the_quick_check_finds_what_headers_show_and_hashes_nothing(damaged, call):
    folder, split = damaged
    code, out, _ = call("potsdam", "--root", folder, "--split-file", split, "--quick")
    assert code == 4
    problems = "\n".join(listed(out, "problems"))
    for _, name, _, _, in_header in FAULTS:
        assert (str(folder / name) in problems) == in_header
    assert not re.search(r"\b[0-9a-f]{12}\b", out)
    assert "--quick reads no pixels" in out.splitlines()[-1]


def test_json_holds_what_the_table_shows(damaged, call, tmp_path):
    folder, split = damaged
    target = tmp_path / "new" / "report.json"
    code, shown, err = call("potsdam", "--root", folder, "--split-file", split, "--json", target)
    assert code == 4
    assert f"wrote {target}" in err
    report = json.loads(target.read_text())
    assert report["schema_version"] == SCHEMA_VERSION
    assert report["dataset"] == "potsdam"
    assert report["root"] == str(folder)
    assert (report["problems"], report["can_run"]) == (13, False)
    assert len(report["tiles"]) == 15
    assert sum(tile["sound"] for tile in report["tiles"]) == 2
    assert report["split"]["name"] == "mine.yaml"
    by_path = {file["path"]: file for file in report["files"] if file["path"]}
    for tile, name, _, words, _ in FAULTS:
        file = by_path[str(folder / name)]
        assert words in " ".join(file["problems"])
        assert (file["tile"], file["role"]) == (tile, "test" if tile in ("2_13", "2_14") else "train")
    assert [f["tile"] for f in report["files"] if f["path"] is None] == [MISSING[0]]
    rows = shown.split("\n\n")[0].splitlines()[2:]
    assert len(rows) == len(report["files"])
    sound = by_path[str(folder / OPTICAL.format("2_10"))]
    assert (sound["size"], sound["channels"], sound["dtype"]) == ([48, 48], 4, "uint8")


def test_json_to_standard_output_is_nothing_but_json(damaged, call):
    folder, split = damaged
    code, out, err = call("potsdam", "--root", folder, "--split-file", split, "--json", "-")
    assert code == 4
    assert json.loads(out)["problems"] == 13
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ({"compression": "lzw", "rowsperstrip": 16}, "lzw, 3 strips"),
        ({"compression": "deflate", "predictor": True}, "deflate, 1 strip"),
        ({"tile": (16, 16), "compression": "lzw"}, "lzw, 9 tiles"),
        ({"tile": (32, 32)}, "uncompressed, 4 tiles"),
        ({"bigtiff": True, "byteorder": ">"}, "uncompressed, 1 strip"),
    ],
)
def test_every_way_to_store_a_tiff_can_run_and_is_named(stored, words, call, tmp_path):
    folder = tmp_path / "data"
    write_isprs_folder("potsdam", folder, size=48, tiles=TILES["potsdam"])
    split = write_split(tmp_path / "mine.yaml", ["2_11"], ["2_10"], ["2_13"])
    for path in folder.rglob("*.tif"):
        pixels = tifffile.imread(path)
        colours = {"photometric": "minisblack" if pixels.ndim == 2 else "rgb"}
        tifffile.imwrite(path, pixels, **colours, **stored)
    code, out, _ = call("potsdam", "--root", folder, "--split-file", split, "--height", "dsm")
    assert code == 0
    assert out.count(words) == 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: np.where(np.arange(48) == 5, np.float32(np.nan), p), "without gaps"),
        (lambda p: p.astype(np.int16), "1 channel of int16"),
        (lambda p: np.full_like(p, 300), "one value 300 everywhere"),
        (lambda p: p * np.float32(1e4), "metres above sea"),
    ],
)
def test_a_surface_model_that_is_none_is_named(change, words, call, tmp_path):
    folder = tmp_path / "data"
    write_isprs_folder("potsdam", folder, size=48, tiles=TILES["potsdam"])
    split = write_split(tmp_path / "mine.yaml", ["2_11"], ["2_10"], ["2_13"])
    path = folder / "1_DSM" / "dsm_potsdam_02_13.tif"
    rewrite(change)(path)
    code, out, err = call("potsdam", "--root", folder, "--split-file", split, "--height", "dsm")
    assert code == 4
    assert "1 problem in 1 of 3 tiles" in err
    (line,) = listed(out, "problems")
    assert line.startswith(str(path))
    assert words in line


def test_other_tiles_are_only_proposed_where_there_are_some(call, tmp_path):
    write_isprs_folder("vaihingen", tmp_path / "data", size=32, tiles=["1", "2"])
    split = write_split(tmp_path / "mine.yaml", ["1"], [], ["2"])
    for path in (tmp_path / "data" / "ndsm").iterdir():
        path.unlink()
    code, out, err = call("vaihingen", "--root", tmp_path / "data", "--split-file", split)
    assert code == 4
    assert err.endswith("Mend them\n")
    assert out.count("height: dsm") == 2


@pytest.mark.parametrize("layout", DATASETS)
def test_an_empty_folder_is_one_line_that_says_where_to_get_the_data(layout, call, tmp_path):
    code, out, err = call(layout, "--root", tmp_path)
    assert (code, out) == (4, "")
    assert err.startswith(f"error: dataset '{layout}' not found in {tmp_path}: ")
    assert f"see 'mmbench info {layout}'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["vaihingn"], 3, "Did you mean 'vaihingen'?"),
        (["vaihingen", "--split", "nowhere"], 3, "nowhere"),
        (["vaihingen", "--split-file", "/no/file.yaml"], 2, "/no/file.yaml"),
        (["vaihingen", "--optical", "rgb"], 2, "optical"),
        (["vaihingen", "--dataset-option", "colour=1"], 2, "no option 'colour'"),
        (["synthetic", "--height", "dsm"], 2, "no option 'height'"),
        (["synthetic", "--dataset-option", "tile_size=big"], 2, "tile_size"),
        (["synthetic", "--slow"], 2, "--slow"),
        ([], 2, "Missing argument"),
    ],
)
def test_bad_input_is_one_line_with_its_code(arguments, code, message, call):
    found, out, err = call(*arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_report_that_cannot_be_written_is_code_7(call, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = ("synthetic", "--split", "small", "--dataset-option", "tile_size=64")
    code, _, err = call(*arguments, "--json", tmp_path / "file" / "report.json")
    assert code == 7
    assert err.startswith("error: ")


def test_a_dataset_without_files_has_a_row_a_tile(call):
    code, out, _ = call("synthetic", "--split", "small", "--dataset-option", "tile_size=64")
    assert code == 0
    rows = [row.split() for row in out.split("\n\n")[0].splitlines()[2:]]
    tiles = ("train_00", "train_01", "val_00", "test_00", "test_01")
    assert [(row[0], row[1], row[-1]) for row in rows] == [(t, t.split("_")[0], "ok") for t in tiles]
    assert all("64 x 64" in " ".join(row) for row in rows)


@pytest.mark.parametrize(
    ("layout", "counts"), [("potsdam", (37, 37, 23, 14)), ("vaihingen", (33, 33, 16, 17))]
)
def test_info_says_how_many_files_of_each_kind_are_needed_and_found(
    layout, counts, capfd, tmp_path, monkeypatch
):
    train, val, test = TILES[layout]
    write_isprs_folder(layout, tmp_path / layout, size=32, tiles=[train, val, test])
    monkeypatch.setenv("MMBENCH_DATA", str(tmp_path))
    assert main(["info", layout]) == 0
    out = capfd.readouterr().out
    assert f"looked for in {tmp_path / layout}" in out
    rows = [row.split() for row in out[out.index("\nkind ") :].splitlines()[3:7]]
    assert [(int(row[1]), int(row[2])) for row in rows] == list(zip(counts, (3, 3, 2, 1), strict=True))


class Stub(Dataset):
    """Three tiles of one value, with whatever a test puts in their place."""

    title, homepage, licence, gsd_m = "stub", "none", "none", 1.0
    classes, palette, scored_classes = ("land", "sea"), ((1, 1, 1), (2, 2, 2)), (0, 1)
    splits = {"only": Split(("a",), ("b",), ("c",))}  # noqa: RUF012

    def __init__(self, *, split=None):
        self.split, self.split_name = split or self.splits["only"], "only"
        self.modalities = {"sar": 2}
        self.images = {t: np.arange(120, dtype=np.float32).reshape(2, 10, 6) for t in self.split.tiles}
        self.targets = {t: np.arange(60, dtype=np.uint8).reshape(10, 6) % 2 for t in self.split.tiles}
        self.broken, self.windows, self.labels = {}, [], set()

    @property
    def identity(self):
        return {}

    def size(self, tile_id):
        return 10, 6

    def read(self, tile_id, window=None, *, labels="full"):
        window = window or Window(0, 0, 10, 6)
        self.windows.append(window)
        self.labels.add((tile_id, labels))
        if window.top >= self.broken.get(tile_id, 10):
            raise DataError(f"{tile_id}.raw: row {window.top} is gone")
        rows = slice(window.top, window.top + window.height)
        return Sample({"sar": self.images[tile_id][:, rows]}, self.targets[tile_id][rows], tile_id)

    @classmethod
    def fake(cls, root):
        return cls()


def test_what_only_reading_shows_is_a_problem_of_the_tile(monkeypatch):
    monkeypatch.setattr(_tally, "BAND_PIXELS", 12)
    dataset = Stub()
    dataset.broken = {"b": 8}  # the last band of the tile
    report = check(dataset)
    assert report.problems == ["tile b: b.raw: row 8 is gone"]
    assert not report.can_run
    assert report.as_dict()["tiles"][1]["problems"] == ["b.raw: row 8 is gone"]
    assert {window.height for window in dataset.windows} == {2}


def test_tiles_are_read_with_the_labels_of_the_protocol():
    dataset = Stub()
    check(dataset)
    assert dataset.labels == {("a", "full"), ("b", "full"), ("c", "eroded")}


def test_a_target_outside_the_classes_and_values_that_are_not_finite_are_problems():
    dataset = Stub()
    dataset.targets["a"][3, 2:5] = 7
    dataset.images["c"][1, 9, 5] = np.nan
    first, second = check(dataset).problems
    assert first.startswith("tile a: the target of 3 pixels is no class")
    assert second.startswith("tile c: sar holds values that are not finite")


def test_a_clean_dataset_has_no_remarks():
    assert check(Stub()).notes == []


def test_what_is_odd_about_the_whole_split_is_noted_and_no_problem():
    dataset = Stub(split=Split(("a",), (), ("c",)))
    dataset.images["a"][1] = 4
    dataset.targets["c"][:] = 1
    dataset.targets["c"][0] = 255
    report = check(dataset)
    assert report.can_run
    assert report.notes == [
        "no validation tiles: the last checkpoint is scored, not the best one",
        "sar channel 1 is 4 in every training pixel: it carries no information",
        "class 'land' does not occur in the test labels: it is left out of the means",
    ]


def test_nothing_is_said_of_the_classes_of_a_role_that_was_not_wholly_read():
    dataset = Stub()
    dataset.targets["a"][:] = 0
    assert check(dataset).notes == ["class 'sea' does not occur in the train labels: no method can learn it"]
    dataset.broken = {"a": 0}
    assert check(dataset).notes == []


def test_progress_counts_the_tiles():
    seen = []
    check(Synthetic(split="small", tile_size=32), content=False, progress=lambda *p: seen.append(p))
    assert seen == [(n, 5) for n in range(1, 6)]


@pytest.mark.skipif(
    not REAL.is_dir(),
    reason=f"no real crops in {REAL}; MMBENCH_REALDATA names the folder that holds potsdam-mini",
)
@pytest.mark.parametrize("optical", ["irrg", "rgb"])
def test_the_real_crops_can_run(optical, call, tmp_path):
    split = write_split(tmp_path / "crops.yaml", ["2_10"], [], ["2_11"])
    arguments = ("--root", REAL, "--split-file", split, "--height", "dsm", "--optical", optical)
    code, out, err = call("potsdam", *arguments)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "can run: 2 of 2 tiles"
    assert [line for line in listed(out, "notes") if "no validation tiles" in line]
    assert [line for line in listed(out, "notes") if "'car' does not occur in the test labels" in line]


def test_a_role_without_a_scored_class_is_a_problem(tmp_path, call):
    write_isprs_folder("vaihingen", tmp_path / "data", size=48, tiles=TILES["vaihingen"])
    split = write_split(tmp_path / "s.yaml", ["1"], ["30"], ["2"])
    (label,) = tmp_path.glob("data/*eroded_COMPLETE/*area2_noBoundary.tif")
    tifffile.imwrite(label, np.zeros_like(tifffile.imread(label)), photometric="rgb")
    code, out, _ = call("vaihingen", "--root", tmp_path / "data", "--split-file", split)
    assert code == 4
    assert "tile 2: no test tile shows a class that is scored" in out
