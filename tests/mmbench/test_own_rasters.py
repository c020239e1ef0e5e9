"""Your own rasters in one file: what is declared is read, checked, eroded and split, for any modalities."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from mmbench import Layer, RasterDataset, Source, Split, Window, registry
from mmbench.datasets._erosion import erode
from mmbench.datasets._rasters.fakes import write_fake, write_raster
from mmbench.errors import DataError, InvalidRecipeError, UnknownNameError
from mmbench.testing import check_dataset

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_rasters.py"


class Field(RasterDataset):
    """Two modalities, index labels with a value to ignore, ids with leading zeros."""

    title = "Field"
    homepage = licence = "none"
    gsd_m = 1.0
    classes = ("soil", "crop")
    palette = ((1, 2, 3), (4, 5, 6))
    scored_classes = (0, 1)
    name = "field"
    sources = {  # noqa: RUF012
        "photo": Source(("a",), "{tile}.png"),
        "depth": Source(("b",), "d_{tile}.tif"),
        "full": Source(("c",), "{tile}.tif"),
    }
    layers = {  # noqa: RUF012
        "rgb": (Layer((("photo", 0), ("photo", 1), ("photo", 2)), kind="optical"),),
        "depth": (Layer((("depth", 0),), kind="height", stored="int16", steps_per_unit=100),),
    }
    splits = {"all": Split(("007", "08"), (), ("9",))}  # noqa: RUF012


@pytest.fixture
def field(tmp_path):
    """Write three tiles of 40 x 50 pixels; returns (a function -> reader, tile -> (photo, depth, label))."""
    rng = np.random.default_rng(0)
    tiles = {}
    for tile_id in Field.splits["all"].tiles:
        photo = rng.integers(0, 256, (40, 50, 3), np.uint8)
        depth = rng.integers(-50, 3000, (40, 50), np.int16)
        label = np.kron(rng.integers(0, 2, (4, 5)), np.ones((10, 10), int)).astype(np.uint8)
        label[5, 7] = 255
        write_raster(tmp_path / "a" / f"{tile_id}.png", photo)
        write_raster(tmp_path / "b" / f"d_{tile_id}.tif", depth)
        write_raster(tmp_path / "c" / f"{tile_id}.tif", label)
        tiles[tile_id] = photo, depth, label
    return lambda **options: Field(root=tmp_path, **options), tiles


@pytest.fixture
def example(monkeypatch):
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    name = registry.add_file("dataset", EXAMPLE)
    yield registry.find("dataset", name)
    registry.entries("dataset").pop(name)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_example_keeps_the_contract_with_any_number_of_modalities(example, tmp_path, count):
    check_dataset(example, tmp_path / "contract")
    split = write_fake(example, tmp_path / "copy")
    chosen = ["sar", "rgb", "height", "nir"][:count]
    reader = example(root=tmp_path / "copy", split=split, modalities=chosen)
    reader.require_files()
    assert list(reader.modalities) == chosen
    assert reader.modalities["sar"] == 2
    sample = reader.read("north_1", Window(3, 5, 20, 30))
    assert [image.shape[1:] for image in sample.images.values()] == [(20, 30)] * count
    assert sample.images["sar"].dtype == np.float32
    assert set(reader.optical_modalities) == {"rgb", "nir"} & set(chosen)


def test_pixels_come_back_as_written_in_their_units(field):
    open_field, tiles = field
    reader = open_field()
    for tile_id, (photo, depth, label) in tiles.items():
        sample = reader.read(tile_id)
        np.testing.assert_array_equal(sample.images["rgb"], photo.transpose(2, 0, 1))
        np.testing.assert_array_equal(sample.images["depth"][0], depth.astype(np.float32) / np.float32(100))
        np.testing.assert_array_equal(sample.target, label)


def test_eroded_labels_are_made_from_the_full_ones_whatever_the_window(field):
    open_field, tiles = field
    expected = erode(tiles["9"][2], 255)
    assert (expected == 255).sum() > (tiles["9"][2] == 255).sum()
    reader = open_field()
    np.testing.assert_array_equal(reader.read("9", labels="eroded").target, expected)
    for top, left in ((0, 0), (5, 9), (18, 17), (30, 40)):
        window = Window(top, left, 10, 10)
        np.testing.assert_array_equal(
            reader.read("9", window, labels="eroded").target, expected[top : top + 10, left : left + 10]
        )


def test_a_value_that_is_no_class_is_refused_with_file_count_and_value(field):
    open_field, tiles = field
    label = tiles["08"][2].copy()
    label[0, :3], label[39, 0] = 7, 9
    path = open_field().root / "c" / "08.tif"
    tifffile.imwrite(path, label)
    with pytest.raises(DataError) as caught:
        open_field().read("08", Window(0, 0, 4, 4))
    assert (
        f"{path} has 3 pixels of the value 7, 1 more has 1 other unknown value; expected only 0 to 1 or 255"
        in str(caught.value)
    )


def test_files_that_are_not_there_are_named_and_a_wrong_modality_is_refused(field, tmp_path):
    open_field, _ = field
    (tmp_path / "b" / "d_08.tif").unlink()
    with pytest.raises(DataError, match=r"3 tiles expected, 2 found\. Missing: d_08\.tif \(in b\)"):
        open_field().require_files()
    open_field(modalities=["rgb"]).require_files()  # only what is read is needed
    with pytest.raises(DataError, match=r"'field' not found in .*looks for 007\.png \(in a\)"):
        Field(root=tmp_path / "nowhere").require_files()
    for wrong in (["rgb", "radar"], [], ["rgb", "rgb"]):
        with pytest.raises(InvalidRecipeError, match=r"expected some of \['rgb', 'depth'\]"):
            open_field(modalities=wrong)


def test_a_split_file_may_name_any_tile_that_is_there(field, tmp_path):
    open_field, _ = field
    (tmp_path / "s.yaml").write_text("train: [007]\ntest: [new]\n")
    reader = open_field(split=tmp_path / "s.yaml")
    assert reader.split == Split(("007",), (), ("new",))
    with pytest.raises(DataError, match=r"Missing: new\.png \(in a\)"):
        reader.require_files()


def test_a_height_layer_has_one_band():
    with pytest.raises(ValueError, match="a height has one"):
        Layer((("x", 0), ("x", 1)), kind="height")


def test_a_file_of_ones_own_is_found_by_its_path_and_refused_in_words(tmp_path, example):
    assert registry.entry("dataset", "my_rasters").file == EXAMPLE
    with pytest.raises(UnknownNameError, match=r"unknown dataset file '.*none\.py'.*there is no such file"):
        registry.add_file("dataset", tmp_path / "none.py")
    for name, text, message in (
        ("potsdam.py", "", "the name 'potsdam' is taken"),
        ("broken.py", "class (", "is not Python"),
        ("empty.py", "x = 1", "holds no class with a literal title"),
        ("json.py", "class A:\n    title = 'A'\n", r"'json' is the name of .*json"),
        ("my-city.py", "class A:\n    title = 'A'\n", "'my-city' is no module name"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InvalidRecipeError, match=message):
            registry.add_file("dataset", tmp_path / name)
