"""Reading ISPRS tiles: pixels come out as they were written, and what is wrong with a file is said."""

import pickle
import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from mmbench.datasets._city import make_tile
from mmbench.datasets._dataset import Window
from mmbench.datasets._rasters.ground import GroundParameters, estimate_ground
from mmbench.datasets._rasters.reader import RasterReader
from mmbench.datasets._synthesis import write_isprs_folder
from mmbench.datasets.potsdam import Potsdam
from mmbench.datasets.vaihingen import Vaihingen
from mmbench.errors import DataError

DATASETS = {"potsdam": Potsdam, "vaihingen": Vaihingen}
TILES = {"potsdam": ("2_10", "6_9", "2_13"), "vaihingen": ("1", "30", "2")}
SHAPE = {"potsdam": (64, 64), "vaihingen": (80, 64)}
WINDOW = Window(9, 14, 30, 21)
CROP = (..., slice(9, 39), slice(14, 35))


@pytest.fixture
def folder(tmp_path):
    """Write three tiles of a layout; returns a function (layout, **options) -> reader of them."""

    def read(layout="potsdam", **options):
        root, split = tmp_path / layout, tmp_path / f"{layout}.yaml"
        if not root.exists():
            write_isprs_folder(layout, root, size=64, tiles=TILES[layout])
            split.write_text("train: [{}]\nval: [{}]\ntest: [{}]\n".format(*TILES[layout]))
        return DATASETS[layout](root=root, split=split, **options)

    return read


def city(layout, tile_id, gsd_m=0.2):
    """Return the tile that was written: its seed is its place in the official split."""
    split = DATASETS[layout].splits["official"]
    return make_tile((*split.train, *split.val, *split.test).index(tile_id), SHAPE[layout], gsd_m)


def file(reader, pattern):
    """Return the one file below the reader's folder that fits."""
    (path,) = reader.root.glob(pattern)
    return path


@pytest.mark.parametrize(
    ("layout", "optical", "channels"),
    [("potsdam", "irrg", (0, 1, 2)), ("potsdam", "rgb", (1, 2, 3)), ("vaihingen", "irrg", (0, 1, 2))],
)
def test_optical_labels_and_normalised_height_come_back_as_written(folder, layout, optical, channels):
    reader = folder(layout, optical=optical)
    assert reader.modalities == {optical: 3, "ndsm": 1}
    for tile_id in TILES[layout]:
        sample, truth = reader.read(tile_id), city(layout, tile_id)
        assert reader.size(tile_id) == SHAPE[layout]
        np.testing.assert_array_equal(sample.images[optical], truth.optical[list(channels)])
        np.testing.assert_array_equal(sample.target, truth.target)
        height = np.clip(truth.height_m, 0, 25.5)
        assert np.abs(sample.images["ndsm"][0] - height).max() < 0.5
        assert np.abs(sample.images["ndsm"][0] - height).mean() < 0.1
        assert sample.images["ndsm"].dtype == np.float32
        assert sample.tile_id == tile_id


@pytest.mark.parametrize("layout", ["potsdam", "vaihingen"])
def test_surface_height_comes_back_above_the_low_percentile_of_the_surroundings(folder, layout):
    reader = folder(layout, height="dsm")
    sample, truth = reader.read(TILES[layout][0]), city(layout, TILES[layout][0])
    surface = truth.terrain_m + truth.height_m
    above = sample.images["dsm"][0]
    assert above.dtype == np.float32
    assert above.min() == 0
    ground = (surface - above)[above > 0]  # one number: the tile is far smaller than the square
    assert np.ptp(ground) < 1e-3
    assert abs(ground[0] - np.percentile(surface, 5)) < 0.3
    assert reader.identity["ground"] == {"percentile": 5.0, "radius_m": 30.0, "sample_m": 1.0, "version": 1}
    assert folder(layout).identity["ground"] is None


def test_eroded_labels_ignore_three_pixels_on_both_sides_of_a_border_and_nothing_else(folder):
    reader = folder()
    full = reader.read("2_10").target
    eroded = reader.read("2_10", labels="eroded").target
    ignored = eroded == 255
    np.testing.assert_array_equal(eroded[~ignored], full[~ignored])
    border = np.argwhere(full[:, 1:] != full[:, :-1])
    row, column = border[len(border) // 2]
    assert ignored[row, max(0, column - 2) : column + 4].all()
    assert 0.05 < ignored.mean() < 0.95
    assert (full != 255).all()


def test_infrared_red_green_is_the_same_from_the_four_channel_mosaic_and_from_the_other_two(folder):
    reader = folder()
    assert reader.identity["sources"]["irrg"] == ["rgbir"]
    first = reader.read("2_10").images["irrg"]
    file(reader, "4_Ortho_RGBIR/*6_9*").unlink()  # one tile is enough: no two tiles from different sources
    reader = folder()
    assert reader.identity["sources"]["irrg"] == ["nirgb", "rgb"]
    np.testing.assert_array_equal(reader.read("2_10").images["irrg"], first)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_a_window_equals_the_crop_of_the_tile_for_mapped_and_compressed_files(folder, compression, planes):
    reader = folder(height="dsm")
    whole = reader.read("2_10")
    for path in (file(reader, "4_Ortho_RGBIR/*2_10*"), file(reader, "1_DSM/*02_10*")):
        pixels = tifffile.imread(path)
        if pixels.ndim == 3 and planes == "separate":
            pixels = np.moveaxis(pixels, -1, 0).copy()
        photometric = "rgb" if pixels.ndim == 3 else "minisblack"
        options = {"planarconfig": planes, "extrasamples": ["unspecified"]} if pixels.ndim == 3 else {}
        tifffile.imwrite(path, pixels, photometric=photometric, compression=compression, **options)
    reader = folder(height="dsm")
    window = reader.read("2_10", WINDOW)
    for key, image in window.images.items():
        np.testing.assert_array_equal(image, whole.images[key][CROP])
        image += 1  # a sample is the caller's own
    np.testing.assert_array_equal(window.target, whole.target[CROP])
    np.testing.assert_array_equal(reader.read("2_10").images["irrg"], whole.images["irrg"])


def test_a_normalised_height_that_is_a_column_short_repeats_its_last_column(folder):
    reader = folder()
    path = file(reader, "1_DSM_normalisation/*02_10*")
    pixels = imagecodecs.jpeg8_decode(path.read_bytes())[:, :-1]
    path.write_bytes(imagecodecs.jpeg8_encode(pixels, level=100))
    height = folder().read("2_10").images["ndsm"][0]
    assert height.shape == (64, 64)
    np.testing.assert_array_equal(height[:, -1], height[:, -2])
    np.testing.assert_array_equal(
        folder().read("2_10", Window(3, 60, 5, 4)).images["ndsm"][0], height[3:8, 60:64]
    )
    outside = folder().read("2_10", Window(3, 63, 5, 1)).images["ndsm"][0]
    np.testing.assert_array_equal(outside, height[3:8, 63:])
    path.write_bytes(imagecodecs.jpeg8_encode(pixels[:, :-2], level=100))
    with pytest.raises(
        DataError, match=r"lastools\.jpg has 64 rows and 61 columns .*RGBIR\.tif has 64 and 64"
    ):
        folder().read("2_10")


def test_a_grey_height_saved_in_colour_is_read_and_a_colour_picture_is_refused(folder):
    reader = folder()
    expected = reader.read("2_10").images["ndsm"]
    path = file(reader, "1_DSM_normalisation/*02_10*")
    grey = imagecodecs.jpeg8_decode(path.read_bytes())
    path.write_bytes(imagecodecs.jpeg8_encode(np.stack([grey] * 3, axis=-1), level=100, subsampling="444"))
    assert np.abs(folder().read("2_10").images["ndsm"] - expected).max() <= 0.3
    path.write_bytes(imagecodecs.jpeg8_encode(tifffile.imread(file(reader, "2_Ortho_RGB/*2_10*"))))
    with pytest.raises(DataError, match="is a picture in colour; expected one channel of heights"):
        folder().read("2_10")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((64, 64), 40, np.float32), r"the one value 40 everywhere; expected a measured height"),
        (np.where(np.eye(64) > 0, np.nan, 40).astype(np.float32), r"values that are no number; expected"),
        (np.where(np.eye(64) > 0, -9999, 40).astype(np.float32), r"heights from -9999 to 40; expected"),
        (
            np.arange(4096, dtype=np.uint16).reshape(64, 64),
            r"1 channel of uint16; expected 1 of float",
        ),
    ],
)
def test_a_height_file_without_a_measured_height_is_refused_by_name(folder, values, message):
    reader = folder(height="dsm")
    tifffile.imwrite(file(reader, "1_DSM/*02_10*"), values)
    with pytest.raises(DataError, match=r"dsm_potsdam_02_10\.tif holds " + message):
        folder(height="dsm").read("2_10", WINDOW)


def test_an_unknown_colour_is_refused_with_file_count_and_colour(folder):
    reader = folder()
    path = file(reader, "5_Labels_for_participants/*2_10*")
    pixels = tifffile.imread(path)
    pixels[10:20, 20:25] = (252, 255, 0)
    pixels[0, :3] = (1, 2, 3)
    tifffile.imwrite(path, pixels, photometric="rgb")
    # The count is the file's, although the window shows only some of the pixels.
    with pytest.raises(DataError) as caught:
        folder().read("2_10", Window(15, 20, 30, 30))
    assert f"{path} has 50 pixels of the colour (252, 255, 0), 3 more have 1 other unknown colour" in str(
        caught.value
    )
    assert caught.value.exit_code == 4


def test_black_is_refused_in_full_labels(folder):
    reader = folder()
    eroded = file(reader, "5_Labels_for_participants_no_Boundary/*2_10*")
    file(reader, "5_Labels_for_participants/*2_10*").write_bytes(eroded.read_bytes())
    with pytest.raises(
        DataError, match=r"colour \(0, 0, 0\); \(0, 0, 0\) \(ignored\) is for eroded labels only"
    ):
        folder().read("2_10")


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_a_truncated_file_is_refused_by_name(folder, compression):
    reader = folder()
    path = file(reader, "4_Ortho_RGBIR/*2_10*")
    tifffile.imwrite(path, tifffile.imread(path), photometric="rgb", compression=compression, rowsperstrip=4)
    whole = path.read_bytes()
    for length in (len(whole) - 40, len(whole) // 2, 3, 0):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"top_potsdam_2_10_RGBIR\.tif: cannot be read .*Unpack it again"):
            folder().read("2_10")
    path.write_bytes(whole)
    height = file(reader, "1_DSM_normalisation/*02_10*")
    for kept in (height.read_bytes()[:-10], b"no picture" + b"\xff\xd9", b""):
        height.write_bytes(kept)
        with pytest.raises(DataError, match=r"lastools\.jpg: cannot be read"):
            folder().read("2_10")


def test_a_jpeg_tile_that_was_cut_off_is_refused_where_the_decoder_would_fill_it(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / "t.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", compression="jpeg", tile=(32, 32))
    assert RasterReader().read(path).shape == (64, 64, 3)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"t\.tif: cannot be read \(it ends \d+ bytes early\)"):
        RasterReader().read(path)


def test_files_of_other_sizes_or_types_are_refused_by_name(folder):
    reader = folder()
    label, picture = file(reader, "5_Labels_for_participants/*2_10*"), file(reader, "4_Ortho_RGBIR/*2_10*")
    pixels, optical = tifffile.imread(label), tifffile.imread(picture)
    tifffile.imwrite(label, pixels[:-1], photometric="rgb")
    with pytest.raises(DataError, match=rf"{label} has 63 rows and 64 columns but {picture} has 64 and 64"):
        folder().read("2_10")
    tifffile.imwrite(label, pixels, photometric="rgb")
    tifffile.imwrite(picture, optical[..., :3], photometric="rgb")
    with pytest.raises(DataError, match=rf"{picture} holds 3 channels of uint8; expected 4 of uint8"):
        folder().read("2_10")


def test_a_window_or_tile_outside_is_refused(folder):
    reader = folder()
    for window in (Window(0, 0, 65, 10), Window(-1, 0, 10, 10), Window(0, 60, 10, 5), Window(0, 0, 0, 4)):
        with pytest.raises(ValueError, match="is not inside its 64 x 64 pixels"):
            reader.read("2_10", window)
    with pytest.raises(DataError, match=r"'3_10' is not in split 'potsdam\.yaml'; it has 2_10, 6_9, 2_13"):
        reader.size("3_10")


def test_a_copy_in_another_process_reads_the_same_and_carries_no_rasters(folder):
    reader = folder()
    sample = reader.read("2_10")
    copied = pickle.dumps(reader)
    assert len(copied) < 30_000  # the optical file alone has 16 384 bytes, the four files 50 000
    again = pickle.loads(copied)  # noqa: S301 -- of our own making
    np.testing.assert_array_equal(again.read("2_10").target, sample.target)


def test_decoded_rasters_are_kept_up_to_a_bound_and_mapped_ones_cost_nothing(tmp_path):
    reader = RasterReader(max_bytes=2 * 10_000)
    for i in range(4):
        pixels = np.full((100, 100), i, np.uint8)
        tifffile.imwrite(tmp_path / f"{i}.tif", pixels, compression="lzw")
        tifffile.imwrite(tmp_path / f"mapped{i}.tif", pixels)
        assert (reader.read(tmp_path / f"{i}.tif") == i).all()
        assert (reader.read(tmp_path / f"mapped{i}.tif") == i).all()
        assert reader.held_bytes == min(i + 1, 2) * 10_000
    reader.read(tmp_path / "3.tif")[0, 0] = 7  # a copy: what is kept stays as it was
    assert (reader.read(tmp_path / "3.tif") == 3).all()


def test_the_ground_follows_the_terrain_and_not_the_roofs():
    rows, columns = np.mgrid[:600, :600] * 0.5  # 300 m
    terrain = 240 + 0.02 * rows + 2 * np.sin(columns / 60)
    houses = (rows % 40 < 15) & (columns % 50 < 25)
    surface = (terrain + 8 * houses).astype(np.float32)
    above = estimate_ground([surface[:250], surface[250:]], (600, 600), 0.5).above(
        surface, Window(0, 0, 600, 600)
    )
    assert 7.8 < np.median(above[houses]) < 10
    assert np.median(above[~houses]) < 2  # slope x radius
    wide = np.where(columns < 150, surface, 250).astype(np.float32)
    small_square = estimate_ground([wide], (600, 600), 0.5, GroundParameters(radius_m=10))
    assert small_square.above(wide, Window(0, 0, 600, 600))[:, 400:].max() == 0  # the roof fills the square


def test_a_tile_smaller_than_a_sample_still_has_a_ground():
    surface = np.array([[3.0, 5.0], [4.0, 9.0]], np.float32)
    above = estimate_ground([surface], (2, 2), 0.05).above(surface, Window(0, 0, 2, 2))
    assert np.isfinite(above).all()


@pytest.mark.parametrize("dataset", DATASETS.values())
def test_the_fake_copy_is_read_by_the_true_reader(dataset, tmp_path: Path):
    reader = dataset.fake(tmp_path)
    assert len(reader.split.train) == len(reader.split.val) == len(reader.split.test) == 1
    for tile_id in reader.tiles:
        for labels in ("full", "eroded"):
            sample = reader.read(tile_id, labels=labels)
            height, width = reader.size(tile_id)
            assert {key: image.shape for key, image in sample.images.items()} == {
                "irrg": (3, height, width),
                "ndsm": (1, height, width),
            }
            assert set(np.unique(sample.target)) <= {*range(6), 255}


def test_other_pixels_under_the_same_names_are_another_identity_and_a_copy_is_the_same(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        write_isprs_folder("vaihingen", tmp_path / name, size=64, seed=seed)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    a, b, copied = (Vaihingen(root=tmp_path / name) for name in ("a", "b", "copy"))
    assert a.files_digest == copied.files_digest != b.files_digest
    assert a.identity == b.identity == copied.identity
