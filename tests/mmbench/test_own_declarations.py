"""Mistakes in one's own rasters: in the declarations, the names, the files; each is refused in words."""

import os
import re
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from mmbench import Layer, RasterDataset, Source, Split, registry
from mmbench.datasets._checking import check
from mmbench.datasets._rasters.fakes import write_raster
from mmbench.datasets._rasters.reader import RasterReader
from mmbench.datasets.potsdam import Potsdam
from mmbench.errors import DataError, InvalidRecipeError

SIDE = 24
LIDAR = Layer((("lidar", 0),), kind="height", stored="float")
PHOTO = Layer((("photo", 0), ("photo", 1), ("photo", 2)), kind="optical")


class Meadow(RasterDataset):
    """A picture, a height, a second radar-like channel, class indices."""

    title = "Meadow"
    homepage = licence = "none"
    gsd_m = 1.0
    classes = ("soil", "crop")
    palette = ((1, 2, 3), (4, 5, 6))
    scored_classes = (0, 1)
    name = "meadow"
    sources = {  # noqa: RUF012
        "photo": Source(("a",), "{tile}.png"),
        "lidar": Source(("b",), "{tile}.tif"),
        "echo": Source(("d",), "{tile}.tif"),
        "grey": Source(("e",), "{tile}.jpg"),
        "full": Source(("c",), "{tile}.tif"),
    }
    layers = {  # noqa: RUF012
        "rgb": (PHOTO,),
        "height": (LIDAR, Layer((("grey", 0),), kind="height", steps_per_unit=10)),
        "sar": (Layer((("echo", 0),), stored="uint16"),),
    }
    splits = {"all": Split(("north_01",), (), ("north_1",))}  # noqa: RUF012


def write_tile(root, tile_id, seed=0):
    rng = np.random.default_rng(seed)
    write_raster(root / "a" / f"{tile_id}.png", rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    write_raster(root / "b" / f"{tile_id}.tif", rng.normal(30, 5, (SIDE, SIDE)).astype(np.float32))
    write_raster(root / "d" / f"{tile_id}.tif", rng.integers(1, 900, (SIDE, SIDE), np.uint16))
    write_raster(root / "c" / f"{tile_id}.tif", np.uint8([[0, 1]]).repeat(SIDE, 0).repeat(SIDE // 2, 1))


@pytest.fixture
def folder(tmp_path):
    """Write both tiles; returns the data folder."""
    for seed, tile_id in enumerate(Meadow.splits["all"].tiles):
        write_tile(tmp_path, tile_id, seed)
    return tmp_path


def variant(**attributes):
    return type("Changed", (Meadow,), {"title": "Changed", "name": "changed", **attributes})


# Names.


@pytest.mark.parametrize("other", ["north_01", "North_1", "NORTH_001"])
def test_a_tile_is_read_from_the_file_of_its_exact_name(other, tmp_path):
    dataset = variant(splits={"all": Split((other,), (), ("north_1",))})
    for seed, tile_id in enumerate((other, "north_1")):
        write_tile(tmp_path, tile_id, seed)
    reader = dataset(root=tmp_path)
    for file in reader.files():
        assert file.path.stem == file.tile_id
    train, test = (reader.read(tile_id) for tile_id in (other, "north_1"))
    assert (train.images["rgb"] != test.images["rgb"]).any()


def test_another_padding_is_another_tile_but_another_case_is_not(tmp_path):
    write_tile(tmp_path, "North_01")
    reader = variant(splits={"all": Split(("north_01",), (), ("north_1",))})(root=tmp_path)
    found = {file.tile_id: file.path for file in reader.files()}
    assert found["north_01"].stem == "North_01"
    assert found["north_1"] is None


def test_the_exact_name_comes_before_the_preferred_folder(tmp_path):
    write_tile(tmp_path, "North_1")
    write_tile(tmp_path, "north_1")
    (tmp_path / "z").mkdir()
    (tmp_path / "a" / "north_1.png").rename(tmp_path / "z" / "north_1.png")
    sources = Meadow.sources | {"photo": Source(("a", "z"), "{tile}.png")}
    reader = variant(sources=sources)(root=tmp_path)
    (path,) = (f.path for f in reader.files() if (f.kind, f.tile_id) == ("photo", "north_1"))
    assert path == tmp_path / "z" / "north_1.png"


def test_two_tiles_that_are_read_from_one_file_are_refused(tmp_path):
    write_tile(tmp_path, "North_1")
    with pytest.raises(InvalidRecipeError) as caught:
        variant(splits={"all": Split(("north_1",), (), ("North_1",))})(root=tmp_path)
    assert "tiles 'north_1' and 'North_1' are both read from " in str(caught.value)
    assert str(tmp_path / "a" / "North_1.png") in str(caught.value)


@pytest.mark.parametrize(("depth", "is_found"), [(4, True), (5, False)])
def test_files_are_found_five_folders_down(folder, tmp_path_factory, depth, is_found):
    root = tmp_path_factory.mktemp("deep")
    inner = root.joinpath(*"vwxyz"[:depth])
    inner.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(inner)
    assert all((file.path is not None) == is_found for file in Meadow(root=root).files())


# Declarations.


MANY = dict.fromkeys("abcde", (PHOTO,))


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"layers": {"rgb": (Layer((("foto", 0),)),)}}, r"layers\['rgb'\] reads the unknown source 'foto'"),
        ({"layers": {"rgb": PHOTO}}, r"layers\['rgb'\] is a Layer; expected a tuple of Layer"),
        ({"layers": {}}, "layers is {}"),
        ({"layers": {"h": (PHOTO, LIDAR)}}, r"layers\['h'\] has ways of unequal channels"),
        ({"layers": MANY}, "expected 1 to 4. Choose with the option modalities"),
        (
            {"sources": {"photo": Source(("a",), "{tile}.png")}},
            "sources are photo; expected the labels, `full`",
        ),
        ({"sources": {"full": "labels"}}, r"sources\['full'\] is a str; expected a Source"),
        ({"palette": ((1, 2, 3),)}, "palette is .* for each of the 2 classes"),
        ({"palette": ((1, 2, 3), (1, 2, 3))}, r"palette holds \(1, 2, 3\) twice"),
        (
            {"palette": ((1, 2, 3), (4, 5, 256))},
            r"palette holds \(4, 5, 256\); expected \(red, green, blue\)",
        ),
        ({"ignored_colours": {"full": ((1, 2, 3),)}}, "the colour of a class"),
        ({"ignored_colours": {"all": ()}}, "ignored_colours is "),
        ({"classes": ("soil", "soil")}, "classes holds 'soil' twice"),
        ({"classes": "so"}, "classes is 'so'; expected a tuple"),
        ({"scored_classes": (0, 2)}, r"scored_classes is \(0, 2\); expected indices from 0 to 1"),
        ({"scored_classes": (0, -1)}, "scored_classes is "),
        ({"scored_classes": (1, 1)}, "scored_classes holds 1 twice"),
        ({"ignore_index": 1}, "ignore_index is 1; expected 2 to 255"),
        ({"gsd_m": 0}, "gsd_m is 0; expected metres per pixel, above 0"),
        ({"gsd_m": "1"}, "gsd_m is '1'"),
        ({"splits": {}}, "splits is {}"),
        ({"splits": {"all": (("a",), (), ("b",))}}, r"splits\['all'\] is a tuple; expected a Split"),
    ],
)
def test_declarations_that_do_not_fit_are_refused_with_class_and_attribute(attributes, words, tmp_path):
    with pytest.raises(InvalidRecipeError, match=words) as caught:
        variant(**attributes)(root=tmp_path)
    assert str(caught.value).startswith("dataset 'changed'")


def test_a_missing_declaration_is_named(tmp_path):
    bare = type("Bare", (RasterDataset,), {"title": "Bare", "name": "bare"})
    with pytest.raises(InvalidRecipeError, match="dataset 'bare', class Bare: classes is missing"):
        bare(root=tmp_path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: Layer((("lidar", 0),), kind="heigth"),
            "kind 'heigth'; expected one of optical, height, other",
        ),
        (lambda: Layer((("lidar", 0),), stored="float32"), "stored 'float32'; expected one of uint8"),
        (lambda: Layer((("lidar", -1),)), r"the band \('lidar', -1\)"),
        (lambda: Layer((("lidar", "0"),)), r"the band \('lidar', '0'\)"),
        (lambda: Layer(("lidar", 0)), "the band 'lidar'"),
        (lambda: Layer(()), r"bands \(\); expected one"),
        (lambda: Layer((("x", 0),), steps_per_unit=0), "steps_per_unit 0; expected it above 0"),
        (lambda: Layer((("x", 0),), steps_per_unit=float("nan")), "steps_per_unit nan"),
        (lambda: Layer((("x", 0),), shortfall_px=-1), "shortfall_px -1"),
        (lambda: Layer((("x", 0),), surface=True), "surface set; expected it of a height only"),
        (lambda: Source("images", "{tile}.tif"), "folders 'images'; expected a tuple of names"),
        (lambda: Source(("a/images",), "{tile}.tif"), "expected names, not paths"),
        (lambda: Source(("images",), "{tiles}.tif"), "name '{tiles}.tif'; expected a file name with {tile}"),
        (lambda: Source(("images",), "tile.tif"), "name 'tile.tif'"),
        (lambda: Source(("images",), "{tile.tif"), "name '{tile.tif'"),
        (lambda: Source(("images",), "{tile}.jp2"), "expected it to end in .tif"),
        (lambda: Split(train=("a"), val=(), test=("b",)), r"train 'a'; expected a tuple of tile ids"),
        (lambda: Split(train=("a",), val=(), test=("a",)), "tile 'a' in train and in test"),
    ],
)
def test_what_a_declaration_can_see_of_itself_it_refuses(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("    sources = {'full': Source('labels', '{tile}.png')}", r"line 4 in Own: .*folders 'labels'"),
        ("    splits = {'a': Split(('x',), (), ('x',))}", r"line 4 in Own: .*tile 'x' in train and in test"),
        (
            "class Other(RasterDataset):\n    title = 'Other'",
            "holds 2 classes with a title, expected exactly 1",
        ),
        ("import no_such_module_of_mine", r"line 4 in <module>: .*no_such_module_of_mine"),
    ],
)
def test_what_breaks_ones_own_file_at_import_is_refused_with_file_and_line(
    line, words, tmp_path, monkeypatch
):
    monkeypatch.setattr("sys.path", [*sys.path])
    path = tmp_path / "own_broken_file.py"
    path.write_text(
        "from mmbench import RasterDataset, Source, Split\nclass Own(RasterDataset):\n    title = 'Own'\n"
        f"{line}\n"
    )
    name = registry.add_file("dataset", path)
    try:
        with pytest.raises(InvalidRecipeError, match=f"{re.escape(str(path))}(, |: ){words}") as caught:
            registry.find("dataset", name)
        assert str(caught.value).count("\n") == 0
    finally:
        registry.entries("dataset").pop(name)
        sys.modules.pop(name, None)


@pytest.mark.parametrize("given", ["rgb", 3, [3], {"rgb": 1}])
def test_modalities_that_are_no_list_are_refused(given, folder):
    with pytest.raises(InvalidRecipeError, match=r"modalities are .*expected some of .* as a list"):
        Meadow(root=folder, modalities=given)


# Files.


def refused(reader, path):
    """Return the words that the check and a reader say of a file, which must be the same."""
    (file,) = [file for file in reader.files() if file.path == path]
    (problem,) = reader.examine(file).problems
    with pytest.raises(DataError) as caught:
        reader.read(file.tile_id)
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)
    return problem


@pytest.mark.parametrize(
    ("kind", "pixels", "nodata", "words"),
    [
        (
            "b",
            np.float32([0, 5, 9]),
            "0",
            "has 192 pixels of 0, its nodata value; expected heights without gaps",
        ),
        (
            "b",
            np.float32([-3.4028235e38, 5, 9]),
            "-3.40282346638528898e+38",
            "has 192 pixels of -3.40282e+38",
        ),
        ("b", np.float32([np.nan, 5, 9]), None, "holds values that are no number; expected heights"),
        (
            "d",
            np.uint16([65535, 5, 9]),
            "65535",
            "has 192 pixels of 65535, its nodata value; expected measure",
        ),
    ],
)
def test_pixels_of_the_nodata_value_are_gaps(kind, pixels, nodata, words, folder):
    path = folder / kind / "north_01.tif"
    values = np.tile(pixels, (SIDE, SIDE // 3))
    tags = [] if nodata is None else [(42113, "s", 0, nodata, True)]
    tifffile.imwrite(path, values, extratags=tags)
    assert words in refused(Meadow(root=folder), path)


@pytest.mark.parametrize("nodata", ["-9999", "no number", "1e400", "0.5"])
def test_a_nodata_value_that_no_pixel_holds_changes_nothing(nodata, folder):
    reader = Meadow(root=folder)
    expected = reader.read("north_01")
    for kind in "bd":
        path = folder / kind / "north_01.tif"
        tifffile.imwrite(path, tifffile.imread(path), extratags=[(42113, "s", 0, nodata, True)])
    found = Meadow(root=folder).read("north_01")
    for key, image in expected.images.items():
        np.testing.assert_array_equal(found.images[key], image)
    assert check(Meadow(root=folder)).problems == []


def test_the_nodata_value_of_a_picture_is_read_and_noted(folder):
    sources = Meadow.sources | {"photo": Source(("a",), "{tile}.tif")}
    for tile_id in Meadow.splits["all"].tiles:
        pixels = np.full((SIDE, SIDE, 3), 7, np.uint8)
        pixels[0, :5] = 0
        how = {"photometric": "rgb", "extratags": [(42113, "s", 0, "0", True)]}
        tifffile.imwrite(folder / "a" / f"{tile_id}.tif", pixels, **how)
    reader = variant(sources=sources)(root=folder)
    assert reader.read("north_01").images["rgb"][:, 0, 0].tolist() == [0, 0, 0]
    report = reader.examine(reader.files()[0])
    assert report.problems == []
    assert report.notes == ["has 5 pixels of 0, its nodata value; they are read as they are"]


@pytest.mark.parametrize("damage", ["zeros", "cut"])
def test_a_jpeg_whose_coded_pixels_are_destroyed_is_refused(damage, folder):
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 255, (40, 40)).repeat(6, 0).repeat(6, 1).astype(np.uint8)
    dataset = variant(layers={"height": Meadow.layers["height"][1:]}, sources=Meadow.sources)
    whole = imagecodecs.jpeg8_encode(blocks, level=95)
    for tile_id in Meadow.splits["all"].tiles:
        (folder / "e").mkdir(exist_ok=True)
        (folder / "e" / f"{tile_id}.jpg").write_bytes(whole)
        write_raster(folder / "c" / f"{tile_id}.tif", np.zeros((240, 240), np.uint8))
    dataset(root=folder).read("north_01")
    middle = len(whole) // 2
    damaged = whole[:middle] + (bytes(200) + whole[middle + 200 :] if damage == "zeros" else whole[-2:])
    path = folder / "e" / "north_01.jpg"
    path.write_bytes(damaged)
    assert "cannot be read (its coded pixels" in refused(dataset(root=folder), path)


def test_any_whole_jpeg_is_read_whatever_its_sampling_and_quality(tmp_path):
    rng = np.random.default_rng(2)
    for number in range(60):
        height, width = rng.integers(1, 90, 2)
        pixels = rng.normal(100, rng.choice([0, 2, 60]), (height, width, 3)).clip(0, 255).astype(np.uint8)
        how = {"level": int(rng.integers(1, 101)), "optimize": bool(number % 2)}
        how["subsampling"] = ("444", "420", "422")[number % 3]
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(imagecodecs.jpeg8_encode(pixels, **how))
        np.testing.assert_array_equal(RasterReader().read(path), imagecodecs.jpeg8_decode(path.read_bytes()))


def test_a_channel_that_a_height_file_has_not_is_refused(folder):
    layers = {"height": (Layer((("lidar", 1),), kind="height", stored="float"),)}
    words = refused(variant(layers=layers)(root=folder), folder / "b" / "north_01.tif")
    assert "holds 1 channel of float32; expected 2 of float" in words
    assert "(its channel 1, counted from 0, is read)" in words


def test_class_indices_of_16_bits_are_to_be_saved_as_8(folder):
    path = folder / "c" / "north_01.tif"
    tifffile.imwrite(path, np.zeros((SIDE, SIDE), np.uint16))
    assert refused(Meadow(root=folder), path).endswith("Save the class indices as uint8")


def test_one_wrong_pixel_is_one_and_the_advice_is_not_that_of_isprs(folder):
    path = folder / "c" / "north_01.tif"
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[3, 4] = 9
    tifffile.imwrite(path, pixels)
    words = refused(Meadow(root=folder), path)
    assert words.startswith("has 1 pixel of the value 9; expected only 0 to 1 or 255. Correct the label")
    assert Potsdam.label_advice.startswith("Take the participants' copy")


def test_a_missing_file_says_what_to_add_and_then_its_note(folder):
    (folder / "a" / "north_1.png").unlink()
    sources = Meadow.sources | {"photo": Source(("a",), "{tile}.png", note="It is the large one")}
    reader = variant(sources=sources)(root=folder)
    (file,) = [file for file in reader.files() if file.path is None]
    expected = "missing: expected north_1.png (in a). Add it. It is the large one"
    assert reader.examine(file).problems == [expected]


def test_a_root_that_is_none_says_so(folder, tmp_path_factory):
    nowhere = tmp_path_factory.mktemp("other") / "none"
    with pytest.raises(DataError, match=r"2 tiles expected, 0 found\. The folder does not exist\. It looks"):
        Meadow(root=nowhere).require_files()
    with pytest.raises(DataError, match=r"2 tiles expected, 0 found\. The folder is a file\. "):
        Meadow(root=folder / "c" / "north_1.tif").require_files()


def test_a_folder_in_place_of_a_file_and_a_link_to_itself_are_refused(folder):
    picture, height = folder / "a" / "north_01.png", folder / "b" / "north_1.tif"
    picture.unlink()
    picture.mkdir()
    height.unlink()
    height.symlink_to(height)
    reader = Meadow(root=folder)
    assert {picture, height} <= {file.path for file in reader.files()}
    for file in reader.files():
        if file.path in (picture, height):
            words = {picture: "Is a directory", height: "Too many levels of symbolic links"}[file.path]
            with pytest.raises(
                DataError, match=rf"cannot be read \({words}\)\. Check .* its rights"
            ) as caught:
                reader.read(file.tile_id)
            assert "Unpack" not in str(caught.value)
            assert words in reader.examine(file).problems[0]


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if Path(path) == folder / "a":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    reader = Meadow(root=folder)
    with pytest.raises(DataError, match=rf"The folder {folder / 'a'} cannot be read \(Permission denied\)"):
        reader.require_files()
    (problem,) = {p for f in reader.files() if f.path is None for p in reader.examine(f).problems[1:]}
    assert problem == f"The folder {folder / 'a'} cannot be read (Permission denied): check its rights"


def test_another_way_to_read_a_modality_is_remarked_with_its_reason(folder):
    assert Meadow(root=folder).remarks() == []
    for tile_id in Meadow.splits["all"].tiles:
        (folder / "e").mkdir(exist_ok=True)
        write_raster(folder / "e" / f"{tile_id}.jpg", np.zeros((SIDE, SIDE), np.uint8))
    assert Meadow(root=folder).remarks() == []
    (folder / "b" / "north_1.tif").unlink()
    expected = "height is read from grey for all tiles: lidar lacks tile north_1"
    assert Meadow(root=folder).remarks() == [expected]


def test_two_modalities_of_one_file_are_checked_and_lifted_each_by_its_own_layer(folder):
    raw = Layer((("lidar", 0),), stored="float")
    surface = Layer((("lidar", 0),), kind="height", stored="float", surface=True)
    stored = tifffile.imread(folder / "b" / "north_01.tif")
    for layers in ({"raw": (raw,), "height": (surface,)}, {"height": (surface,), "raw": (raw,)}):
        images = variant(layers=layers)(root=folder).read("north_01").images
        np.testing.assert_array_equal(images["raw"][0], stored)
        assert images["height"].min() == 0
