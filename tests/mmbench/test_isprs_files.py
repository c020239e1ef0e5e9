"""ISPRS folders: which tiles and files are asked for, where they are looked for, and what is written."""

import imagecodecs
import numpy as np
import pytest
import tifffile

from mmbench import registry
from mmbench.datasets._rasters.folders import data_root, plain_id
from mmbench.datasets._synthesis import write_isprs_folder
from mmbench.datasets.potsdam import Potsdam
from mmbench.datasets.vaihingen import Vaihingen
from mmbench.errors import DataError, InvalidRecipeError, UnknownNameError

TILES = {"potsdam": ("2_10", "6_9", "2_13"), "vaihingen": ("1", "30", "2")}
DATASETS = {"potsdam": Potsdam, "vaihingen": Vaihingen}


@pytest.fixture
def folder(tmp_path):
    """Write three tiles of a layout; returns a function (layout, **options) -> reader of them."""

    def read(layout="potsdam", **options):
        root, split = tmp_path / layout, tmp_path / f"{layout}.yaml"
        if not root.exists():
            write_isprs_folder(layout, root, size=32, tiles=TILES[layout])
            split.write_text("train: [{}]\nval: [{}]\ntest: [{}]\n".format(*TILES[layout]))
        return DATASETS[layout](root=root, split=split, **options)

    return read


def ids(split):
    return [*split.train, *split.val, *split.test]


def test_the_official_splits_are_complete_and_disjoint():
    potsdam, vaihingen = Potsdam.splits["official"], Vaihingen.splits["official"]
    train = {f"{row}_{column}" for row in range(2, 6) for column in (10, 11, 12)}
    train |= {f"{row}_{column}" for row in (6, 7) for column in range(7, 13)}
    assert {*potsdam.train, *potsdam.val} == train
    assert len(ids(potsdam)) == len(set(ids(potsdam))) == 38
    assert (len(potsdam.train), potsdam.val, len(potsdam.test)) == (22, ("2_10", "6_9"), 14)
    assert len(ids(vaihingen)) == len(set(ids(vaihingen))) == 33
    assert (len(vaihingen.train), vaihingen.val, len(vaihingen.test)) == (14, ("30", "37"), 17)
    absent = {str(tile) for tile in (9, 18, 19, 25, 36)}
    assert set(ids(vaihingen)) == {str(tile) for tile in range(1, 39)} - absent


def test_the_smaller_splits_hold_public_tiles_only():
    for dataset, sizes in ((Potsdam, (16, 2, 6)), (Vaihingen, (10, 2, 4))):
        split = dataset.splits["ssrs"]
        assert (len(split.train), len(split.val), len(split.test)) == sizes
        assert len(set(ids(split))) == sum(sizes)
        assert not {*ids(split)} & {*dataset.splits["official"].test}


@pytest.mark.parametrize(("name", "tiles"), [("potsdam", 37), ("vaihingen", 33)])
def test_missing_data_say_where_they_should_be_and_what_to_do(name, tiles, tmp_path):
    with pytest.raises(DataError) as caught:
        DATASETS[name](root=tmp_path / "none").require_files()
    assert str(caught.value) == (
        f"dataset '{name}' not found in {tmp_path / 'none'}: {tiles} tiles expected, 0 found. "
        "The folder does not exist. "
        f"It must be requested from ISPRS: see 'mmbench info {name}'. "
        "To try without data: --dataset synthetic"
    )
    assert caught.value.exit_code == 4


def test_missing_files_are_named_and_counted(folder):
    root = folder().root
    (root / "1_DSM_normalisation/dsm_potsdam_06_09_normalized_lastools.jpg").unlink()
    (root / "5_Labels_all_noBoundary/top_potsdam_2_13_label_noBoundary.tif").unlink()
    with pytest.raises(DataError) as caught:
        folder().require_files()
    text = str(caught.value)
    assert f"dataset 'potsdam' is incomplete in {root}: 3 tiles expected, 1 found. Missing: " in text
    assert "dsm_potsdam_06_09_normalized_lastools.jpg (in 1_DSM_normalisation)" in text
    assert (
        "top_potsdam_2_13_label_noBoundary.tif (in 5_Labels_for_participants_no_Boundary or 5_Labels_all"
        in text
    )
    assert "Test tiles are scored on eroded labels" in text
    assert "mmbench info potsdam" in text
    for name in ("4_Ortho_RGBIR", "2_Ortho_RGB"):
        for path in (root / name).iterdir():
            path.unlink()
    with pytest.raises(DataError, match=r"3 tiles expected, 0 found\. .* and 1 more file\. "):
        folder(height="dsm").require_files()


def test_the_mosaic_named_irrg_is_not_enough_for_infrared_red_green(folder):
    root = folder().root
    for name in ("4_Ortho_RGBIR", "2_Ortho_RGB"):
        for path in (root / name).iterdir():
            path.unlink()
    with pytest.raises(DataError, match=r"3_Ortho_IRRG alone holds near infrared, green and blue but no red"):
        folder().require_files()


def test_labels_are_asked_for_by_role_only(folder):
    root = folder().root
    (root / "5_Labels_all/top_potsdam_2_13_label.tif").unlink()
    for name in ("5_Labels_for_participants_no_Boundary", "5_Labels_all_noBoundary"):
        (root / name / "top_potsdam_2_10_label_noBoundary.tif").unlink()
    reader = folder()
    reader.read("2_10")
    reader.read("2_13", labels="eroded")
    with pytest.raises(DataError, match=r"tile 2_13 lacks top_potsdam_2_13_label\.tif .*Put it there"):
        reader.read("2_13")


def test_padded_and_unpadded_names_are_one(folder):
    expected = folder().read("6_9")
    root = folder().root
    (root / "1_DSM_normalisation/dsm_potsdam_06_09_normalized_lastools.jpg").rename(
        root / "1_DSM_normalisation/dsm_potsdam_6_9_normalized_lastools.jpg"
    )
    (root / "4_Ortho_RGBIR/top_potsdam_6_9_RGBIR.tif").rename(
        root / "4_Ortho_RGBIR/top_potsdam_6_09_RGBIR.tif"
    )
    (root / "5_Labels_for_participants/top_potsdam_6_9_label.tif").rename(
        root / "5_Labels_for_participants/Top_Potsdam_06_09_label.TIF"
    )
    found = folder().read("6_9")
    for key, image in expected.images.items():
        np.testing.assert_array_equal(found.images[key], image)
    assert [plain_id(tile) for tile in ("02_07", "2_10", "07", "38")] == ["2_7", "2_10", "7", "38"]


def test_doubled_folders_and_a_folder_around_all_are_searched(folder):
    root = folder().root
    for name in ("4_Ortho_RGBIR", "1_DSM_normalisation", "5_Labels_for_participants"):
        doubled = root / "Potsdam" / name.lower()
        doubled.mkdir(parents=True)
        (root / name).rename(doubled / name)
    folder().read("2_10")


def test_the_participants_labels_come_first(folder):
    root = folder().root
    damaged = root / "5_Labels_all/top_potsdam_2_10_label.tif"
    tifffile.imwrite(damaged, np.full((32, 32, 3), 7, np.uint8), photometric="rgb")
    assert folder().read("2_10").target.max() < 6
    (root / "5_Labels_for_participants/top_potsdam_2_10_label.tif").unlink()
    with pytest.raises(DataError, match=r"5_Labels_all.*1024 pixels of the colour \(7, 7, 7\)"):
        folder().read("2_10")


@pytest.mark.parametrize(
    "place", ["gts", "Vaihingen_ground_truth_COMPLETE", "ISPRS_semantic_labeling_Vaihingen", ""]
)
def test_vaihingen_labels_are_told_from_pictures_by_their_folder(folder, place):
    expected = folder("vaihingen").read("1")
    root = folder("vaihingen").root
    complete = root / "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE"
    (root / "gts_for_participants/top_mosaic_09cm_area1.tif").unlink()
    (root / "gts_for_participants/top_mosaic_09cm_area30.tif").unlink()
    (root / place).mkdir(exist_ok=True)
    for path in complete.iterdir():
        path.rename(root / place / path.name)
    found = folder("vaihingen").read("1")
    np.testing.assert_array_equal(found.target, expected.target)
    np.testing.assert_array_equal(found.images["irrg"], expected.images["irrg"])


def test_vaihingen_labels_are_never_taken_for_pictures(folder):
    root = folder("vaihingen").root
    for path in [*(root / "top").iterdir()]:
        path.rename(root / "gts_for_participants" / path.name)
    with pytest.raises(DataError, match=r"Missing: top_mosaic_09cm_area1\.tif \(in top\)"):
        folder("vaihingen").require_files()


def test_the_old_spelling_of_the_eroded_vaihingen_folder_is_known(folder):
    root = folder("vaihingen").root
    eroded = root / "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE"
    eroded.rename(root / "ISPRS_semantic_labeing_Vaihingen_ground_truth_eroded_for_participants")
    assert (folder("vaihingen").read("2", labels="eroded").target == 255).any()


def test_the_other_normalisation_is_taken_for_all_tiles_or_none(folder):
    root = folder().root
    for path in (root / "1_DSM_normalisation").iterdir():
        other = path.with_name(path.name.replace("lastools", "ownapproach"))
        other.write_bytes(imagecodecs.jpeg8_encode(np.eye(32, dtype=np.uint8) * 200))
    assert folder().identity["sources"]["ndsm"] == ["ndsm_lastools"]
    (root / "1_DSM_normalisation/dsm_potsdam_02_13_normalized_lastools.jpg").unlink()
    assert folder().identity["sources"]["ndsm"] == ["ndsm_ownapproach"]


def test_tile_7_10_is_dropped_by_default_and_kept_by_option(tmp_path):
    write_isprs_folder("potsdam", tmp_path / "p", size=16)
    default, kept = Potsdam(root=tmp_path / "p"), Potsdam(root=tmp_path / "p", keep_7_10=True)
    assert "7_10" not in default.tiles
    assert len(default.tiles) == 37
    assert "7_10" in kept.split.train
    assert len(kept.tiles) == 38
    assert default.identity != kept.identity
    assert len(Potsdam(root=tmp_path / "p", split="ssrs").tiles) == 23
    named = tmp_path / "split.yaml"
    named.write_text("train: [7_10]\ntest: [2_13]")
    with pytest.raises(InvalidRecipeError, match=r"tile 7_10 has wrong labels .*remove it, or set keep_7_10"):
        Potsdam(root=tmp_path / "p", split=named)
    assert Potsdam(root=tmp_path / "p", split=named, keep_7_10=True).split.train == ("7_10",)


def test_the_root_is_the_option_then_the_environment_then_the_users_folder(folder, monkeypatch, tmp_path):
    root = folder().root
    split = tmp_path / "potsdam.yaml"
    monkeypatch.setenv("MMBENCH_DATA", str(tmp_path / "elsewhere"))
    assert Potsdam(root=root, split=split).root == root
    with pytest.raises(DataError, match=str(tmp_path / "elsewhere" / "potsdam")):
        Potsdam(split=split).require_files()
    monkeypatch.setenv("MMBENCH_DATA", str(tmp_path))
    assert Potsdam(split=split).root == root
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("MMBENCH_DATA")
        else:
            monkeypatch.setenv("MMBENCH_DATA", unset)
        monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path / f"home-{name}"))
        assert data_root("vaihingen") == tmp_path / "home-mmbench" / "vaihingen"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: [2_10]\ntest: [2_10]", r"tile '2_10' in train and in test"),
        ("train: [2_10]\ntest: [02_10]", r"tile '2_10' in train and in test"),
        ("train: [2_10]\ntest: [9_99]", r"potsdam has no tile '9_99'; it has 2_11, "),
    ],
)
def test_a_split_file_with_overlap_or_unknown_tiles_is_refused(folder, tmp_path, content, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(content)
    with pytest.raises(InvalidRecipeError, match=rf"split file {path}: .*{message}"):
        Potsdam(root=folder().root, split=path)


def test_unknown_options_are_refused_with_those_that_exist(tmp_path):
    with pytest.raises(InvalidRecipeError, match="'vaihingen': optical is 'rgb'; expected 'irrg'") as caught:
        Vaihingen(root=tmp_path, optical="rgb")
    assert caught.value.exit_code == 2
    with pytest.raises(InvalidRecipeError, match="height is 'irrg'; expected 'ndsm' or 'dsm'"):
        Potsdam(root=tmp_path, height="irrg")
    with pytest.raises(UnknownNameError, match=r"unknown split 'offical'\. Did you mean 'official'\?"):
        Potsdam(root=tmp_path, split="offical")


def test_the_written_potsdam_folder_has_true_names_and_types(folder):
    root = folder().root
    tile = {str(path.relative_to(root)) for path in root.rglob("*2_10*")}
    assert tile == {
        "1_DSM/dsm_potsdam_02_10.tif",
        "1_DSM_normalisation/dsm_potsdam_02_10_normalized_lastools.jpg",
        "2_Ortho_RGB/top_potsdam_2_10_RGB.tif",
        "3_Ortho_IRRG/top_potsdam_2_10_IRRG.tif",
        "4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif",
        "5_Labels_all/top_potsdam_2_10_label.tif",
        "5_Labels_all_noBoundary/top_potsdam_2_10_label_noBoundary.tif",
        "5_Labels_for_participants/top_potsdam_2_10_label.tif",
        "5_Labels_for_participants_no_Boundary/top_potsdam_2_10_label_noBoundary.tif",
    }
    test_tile = {path.parent.name for path in root.rglob("*2_13_label*")}
    assert test_tile == {"5_Labels_all", "5_Labels_all_noBoundary"}
    rgbir = tifffile.imread(root / "4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif")
    named_irrg = tifffile.imread(root / "3_Ortho_IRRG/top_potsdam_2_10_IRRG.tif")
    np.testing.assert_array_equal(named_irrg, rgbir[..., [3, 1, 2]])  # near infrared, green, blue
    assert rgbir.dtype == np.uint8
    assert tifffile.imread(root / "1_DSM/dsm_potsdam_02_10.tif").dtype == np.float32


def test_the_written_vaihingen_folder_has_true_names(folder):
    root = folder("vaihingen").root
    assert {str(path.relative_to(root)) for path in root.rglob("*area1[._]*")} == {
        "top/top_mosaic_09cm_area1.tif",
        "dsm/dsm_09cm_matching_area1.tif",
        "ndsm/dsm_09cm_matching_area1_normalized.jpg",
        "gts_for_participants/top_mosaic_09cm_area1.tif",
        "gts_eroded_for_participants/top_mosaic_09cm_area1_noBoundary.tif",
        "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE/top_mosaic_09cm_area1.tif",
        "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE/top_mosaic_09cm_area1_noBoundary.tif",
    }
    assert not (root / "gts_for_participants/top_mosaic_09cm_area2.tif").exists()


def test_all_tiles_are_written_and_every_split_can_be_read(tmp_path):
    for layout, files in (("potsdam", 38 * 7 + 24 * 2), ("vaihingen", 33 * 5 + 16 * 2)):
        written = write_isprs_folder(layout, tmp_path / layout, size=16)
        assert len(written) == len(set(written)) == files
        assert all(path.is_file() for path in written)
        for split in DATASETS[layout].splits:
            for height in ("ndsm", "dsm"):
                DATASETS[layout](root=tmp_path / layout, split=split, height=height)


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(
        InvalidRecipeError, match="holds something already; give a new or an empty folder"
    ) as caught:
        write_isprs_folder("potsdam", tmp_path, size=32)
    assert caught.value.exit_code == 2
    for options, wrong in (
        ({"tiles": ["8_8"]}, r"1 tiles, unknown \['8_8'\]"),
        ({"tiles": []}, "0 tiles"),
        ({"size": 8}, "size 8"),
        ({"seed": -1}, "seed -1"),
    ):
        expected = "; expected a size from 16, a seed from 0 and tiles among 2_11, "
        with pytest.raises(InvalidRecipeError, match=wrong + ".*" + expected):
            write_isprs_folder("potsdam", tmp_path / "new", **options)
    with pytest.raises(InvalidRecipeError, match="layout is 'berlin'; expected 'potsdam' or 'vaihingen'"):
        write_isprs_folder("berlin", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_could_not_be_finished_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("mmbench.datasets._synthesis.write_raster", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_isprs_folder("potsdam", tmp_path / "new", size=32, tiles=["2_10"])
    assert list(tmp_path.iterdir()) == []


def test_a_tiles_pixels_depend_on_the_seed_and_not_on_the_other_tiles(tmp_path):
    name = "2_Ortho_RGB/top_potsdam_6_9_RGB.tif"
    for folder, seed, tiles in (("a", 0, ["6_9"]), ("b", 0, ["2_10", "6_9"]), ("c", 1, ["6_9"])):
        write_isprs_folder("potsdam", tmp_path / folder, size=32, seed=seed, tiles=tiles)
    a, b, c = ((tmp_path / folder / name).read_bytes() for folder in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize("name", ["potsdam", "vaihingen"])
def test_the_registry_finds_the_dataset_and_info_has_something_to_say(name):
    dataset = registry.find("dataset", name)
    assert dataset is DATASETS[name]
    assert registry.entry("dataset", name).title == dataset.title == f"ISPRS {name.title()}"
    assert dataset.homepage in dataset.request
    assert dataset.classes == ("impervious", "building", "low vegetation", "tree", "car", "clutter")
    assert dataset.scored_classes == (0, 1, 2, 3, 4)
