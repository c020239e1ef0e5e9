"""The traps of the ISPRS data that public code falls into; each of these tests fails without its cure.

Axes: H W pixels, C channel.
"""

from collections import Counter

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.datasets._dataset import Window
from mmbench.datasets._synthesis import write_isprs_folder
from mmbench.datasets.potsdam import Potsdam
from mmbench.datasets.vaihingen import Vaihingen
from mmbench.errors import DataError, InvalidRecipeError
from mmbench.loading import read_window
from mmbench.tile_reader import TileReader
from mmbench.transforms import fit_normalizer
from mmbench.windows import grid

PALETTE = [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)]
BLACK = (0, 0, 0)
SIDE = 16


@pytest.fixture
def folder(tmp_path):
    """Write three tiles, 2_10, 4_12 and 2_13; returns a function (**options) -> reader of them."""
    split = tmp_path / "split.yaml"
    split.write_text("train: [2_10]\nval: [4_12]\ntest: [2_13]\n")
    write_isprs_folder("potsdam", tmp_path / "potsdam", size=48, tiles=("2_10", "4_12", "2_13"))
    return lambda **options: Potsdam(root=tmp_path / "potsdam", split=split, **options)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Write one tile; returns a function (pixels, labels) -> the target that is read from such a label."""
    root = tmp_path_factory.mktemp("planted")
    write_isprs_folder("potsdam", root / "potsdam", size=SIDE, tiles=("2_10", "2_11"))
    (root / "split.yaml").write_text("train: [2_10]\ntest: [2_11]\n")
    folders = {"full": "5_Labels_for_participants", "eroded": "5_Labels_for_participants_no_Boundary"}
    ends = {"full": "label.tif", "eroded": "label_noBoundary.tif"}

    def read(pixels, labels="full"):
        path = root / "potsdam" / folders[labels] / f"top_potsdam_2_10_{ends[labels]}"
        extra = [0] * (pixels.shape[2] - 3)
        tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=extra, compression="lzw")
        return Potsdam(root=root / "potsdam", split=root / "split.yaml").read("2_10", labels=labels).target

    return read


COLOURS = st.one_of(
    st.sampled_from([*PALETTE, BLACK]),
    st.sampled_from([(252, 255, 0), (255, 255, 254), (0, 0, 254), (1, 0, 0)]),
    st.tuples(*[st.integers(0, 255)] * 3),
)


@settings(max_examples=150)
@given(
    colours=st.lists(COLOURS, min_size=1, max_size=6),
    places=st.integers(0, 2**32 - 1),
    labels=st.sampled_from(["full", "eroded"]),
    alpha=st.sampled_from([None, 0, 255]),
)
def test_any_colours_of_a_label_become_classes_or_are_refused_with_count_and_colour(
    planted, colours, places, labels, alpha
):
    chosen = np.random.default_rng(places).integers(0, len(colours), (SIDE, SIDE))
    pixels = np.array(colours, np.uint8)[chosen]
    meaning = {colour: index for index, colour in enumerate(PALETTE)} | (
        {BLACK: 255} if labels == "eroded" else {}
    )
    counts = Counter(map(tuple, pixels.reshape(-1, 3).tolist()))
    unknown = Counter({colour: count for colour, count in counts.items() if colour not in meaning})
    if alpha is not None:
        pixels = np.concatenate([pixels, np.full((SIDE, SIDE, 1), alpha, np.uint8)], axis=2)
    if not unknown:
        expected = [[meaning[tuple(colour)] for colour in row] for row in pixels[..., :3].tolist()]
        np.testing.assert_array_equal(planted(pixels, labels), expected)
        return
    with pytest.raises(DataError) as caught:
        planted(pixels, labels)
    text, most = str(caught.value), max(unknown.values())
    named = [
        colour for colour in unknown if f" has {most} pixel{'s' * (most > 1)} of the colour {colour}" in text
    ]
    assert len(named) == 1
    assert unknown[named[0]] == most
    rest, colours = unknown.total() - most, len(unknown) - 1
    has = "has" if rest == 1 else "have"
    others = f", {rest} more {has} {colours} other unknown colour{'s' * (colours > 1)}; "
    assert (others in text) == (len(unknown) > 1)
    assert len(text.splitlines()) == 1


def test_the_colour_of_6_7_and_the_overlay_picture_of_4_12_give_way_to_the_participants_copies(tmp_path):
    tiles, root = ("4_12", "6_7", "2_13"), tmp_path / "potsdam"
    write_isprs_folder("potsdam", root, size=48, tiles=tiles)
    (tmp_path / "split.yaml").write_text("train: [4_12]\nval: [6_7]\ntest: [2_13]\n")
    expected = {tile: Potsdam(root=root, split=tmp_path / "split.yaml").read(tile).target for tile in tiles}
    overlay, yellow = (root / f"5_Labels_all/top_potsdam_{tile}_label.tif" for tile in ("4_12", "6_7"))
    picture = tifffile.imread(root / "2_Ortho_RGB/top_potsdam_4_12_RGB.tif")
    tifffile.imwrite(overlay, picture // 2 + tifffile.imread(overlay) // 2, photometric="rgb")
    pixels = tifffile.imread(yellow)
    pixels[3:10, 5:10] = (252, 255, 0)
    tifffile.imwrite(yellow, pixels, photometric="rgb")
    reader = Potsdam(root=root, split=tmp_path / "split.yaml")
    for tile in tiles:
        np.testing.assert_array_equal(reader.read(tile).target, expected[tile])
    for path in (root / "5_Labels_for_participants").iterdir():
        path.unlink()
    reader = Potsdam(root=root, split=tmp_path / "split.yaml")
    with pytest.raises(
        DataError, match=rf"{yellow} has 35 pixels of the colour \(252, 255, 0\); .*participants"
    ):
        reader.read("6_7")
    with pytest.raises(DataError, match=rf"{overlay} has \d+ pixels of the colour .* other unknown colours"):
        reader.read("4_12")


def test_black_means_ignored_in_eroded_labels_and_nothing_in_full_ones(planted):
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    pixels[2:4, 5:9] = BLACK
    expected = np.zeros((SIDE, SIDE))
    expected[2:4, 5:9] = 255
    np.testing.assert_array_equal(planted(pixels, "eroded"), expected)
    with pytest.raises(DataError, match=r"has 8 pixels of the colour \(0, 0, 0\)"):
        planted(pixels, "full")


def test_infrared_red_green_are_channels_3_0_1_of_rgbir_and_the_picture_named_irrg_has_no_red(folder):
    reader = folder()
    root = reader.root
    pixels = np.arange(4, dtype=np.uint8) * 50 + np.zeros(
        (48, 48, 1), np.uint8
    )  # red 0, green 50, blue 100, 150
    tifffile.imwrite(
        root / "4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif", pixels, photometric="rgb", extrasamples=[0]
    )
    assert folder().read("2_10").images["irrg"][:, 0, 0].tolist() == [150, 0, 50]
    assert folder(optical="rgb").read("2_10").images["rgb"][:, 0, 0].tolist() == [0, 50, 100]
    for path in (root / "4_Ortho_RGBIR").iterdir():
        path.unlink()
    tifffile.imwrite(root / "2_Ortho_RGB/top_potsdam_2_10_RGB.tif", pixels[..., :3], photometric="rgb")
    tifffile.imwrite(
        root / "3_Ortho_IRRG/top_potsdam_2_10_IRRG.tif", pixels[..., [3, 1, 2]], photometric="rgb"
    )
    assert folder().read("2_10").images["irrg"][:, 0, 0].tolist() == [150, 0, 50]


@pytest.mark.parametrize("layout", ["potsdam", "vaihingen"])
def test_normalised_heights_are_decimetres_and_255_is_25_metres_and_a_half(layout, tmp_path):
    tiles = {"potsdam": ("2_10", "2_11"), "vaihingen": ("1", "3")}[layout]
    write_isprs_folder(layout, tmp_path / layout, size=48, tiles=tiles)
    (tmp_path / "split.yaml").write_text("train: [{}]\ntest: [{}]\n".format(*tiles))
    reader = {"potsdam": Potsdam, "vaihingen": Vaihingen}[layout](
        root=tmp_path / layout, split=tmp_path / "split.yaml"
    )
    height, width = reader.size(tiles[0])
    blocks = np.zeros((height, width), np.uint8)  # blocks of 8 pixels: no loss by JPEG
    blocks[:, 8:16], blocks[:, 16:] = 40, 255
    (path,) = [file.path for file in reader.files() if file.tile_id == tiles[0] and "ndsm" in file.kind]
    path.write_bytes(imagecodecs.jpeg8_encode(blocks, level=100))
    metres = reader.read(tiles[0]).images["ndsm"][0]
    assert metres.dtype == np.float32
    np.testing.assert_array_equal(metres, blocks.astype(np.float32) / np.float32(10))
    assert metres.max() == 25.5


def test_the_extremes_of_a_tile_do_not_scale_its_other_pixels(folder):
    reader = folder()
    normalizer = fit_normalizer(reader)
    before = reader.read("2_13", labels="eroded").images
    path = reader.root / "1_DSM_normalisation/dsm_potsdam_02_13_normalized_lastools.jpg"
    heights = imagecodecs.jpeg8_decode(path.read_bytes())
    heights[:8, :8] = 255  # one JPEG block
    path.write_bytes(imagecodecs.jpeg8_encode(heights, level=100))
    picture = reader.root / "4_Ortho_RGBIR/top_potsdam_2_13_RGBIR.tif"
    pixels = tifffile.imread(picture)
    pixels[:8, :8], pixels[8:16, :8] = 255, 0
    tifffile.imwrite(picture, pixels, photometric="rgb", extrasamples=[0])
    changed = folder()
    assert changed.read("2_13", labels="eroded").images["ndsm"].max() == 25.5 > before["ndsm"].max()
    after, _ = read_window(changed, normalizer, "2_13", Window(0, 0, 48, 48), labels="eroded")
    below = slice(16, 48)  # the rows below the changed block
    np.testing.assert_array_equal(after["irrg"][:, below], normalizer("irrg", before["irrg"])[:, below])
    difference = after["ndsm"] - normalizer("ndsm", before["ndsm"])
    assert np.abs(difference[:, below]).max() < 0.05  # it went through JPEG once more
    assert fit_normalizer(changed) == normalizer  # and a test tile is no part of the statistics


@pytest.mark.parametrize("height", ["ndsm", "dsm"])
def test_which_height_was_read_is_part_of_the_identity(folder, height):
    identity = folder(height=height).identity
    assert identity["height"] == height
    assert (identity["ground"] is None) == (height == "ndsm")
    assert identity["sources"][height] == [{"ndsm": "ndsm_lastools", "dsm": "dsm"}[height]]


def test_padding_beyond_a_tile_is_ignored_and_not_impervious(folder):
    """48 x 48 pixels under windows of 64: 44 % of the score would be padding."""
    reader = folder()
    normalizer = fit_normalizer(reader)
    for labels in ("full", "eroded"):
        truth = reader.read("2_13", labels=labels).target
        _, target = read_window(reader, normalizer, "2_13", Window(0, 0, 64, 64), labels=labels)
        np.testing.assert_array_equal(target[:48, :48], truth)
        assert (target[48:] == 255).all()
        assert (target[:, 48:] == 255).all()
        tile = TileReader(reader, normalizer, "2_13", labels=labels)
        for windows, images in tile.batches(grid((48, 48), 64, 0.5), 1):
            assert len(windows) == 1
            assert all(torch.isfinite(image).all() for image in images.values())
        np.testing.assert_array_equal(tile.target, truth)  # what is scored ends with the tile


def test_only_the_tiles_of_the_chosen_split_are_required(tmp_path):
    for layout, dataset in (("potsdam", Potsdam), ("vaihingen", Vaihingen)):
        tiles = tuple(tile for tile in dataset.splits["ssrs"].tiles if tile != "7_10")
        write_isprs_folder(layout, tmp_path / layout, size=SIDE, tiles=tiles)
        reader = dataset(root=tmp_path / layout, split="ssrs")
        reader.require_files()
        assert {file.tile_id for file in reader.files()} == set(tiles)
        with pytest.raises(DataError, match=f"dataset '{layout}' is incomplete"):
            dataset(root=tmp_path / layout, split="official").require_files()


def test_unpadded_ids_of_both_heights_are_found(folder):
    root = folder().root
    for path in [*(root / "1_DSM").iterdir(), *(root / "1_DSM_normalisation").iterdir()]:
        path.rename(path.with_name(path.name.replace("_02_", "_2_").replace("_04_", "_4_")))
    for height in ("ndsm", "dsm"):
        folder(height=height).require_files()
        folder(height=height).read("4_12")


@pytest.mark.parametrize(
    "name", ["ISPRS_semantic_labeing_Vaihingen_ground_truth_eroded", "ISPRS_semantic_labeing_Vaihingen"]
)
def test_the_old_spelling_of_the_eroded_vaihingen_folder_is_found(name, tmp_path):
    tiles, root = ("1", "3"), tmp_path / "vaihingen"
    write_isprs_folder("vaihingen", root, size=48, tiles=tiles)
    (tmp_path / "split.yaml").write_text("train: [1]\ntest: [3]\n")
    expected = Vaihingen(root=root, split=tmp_path / "split.yaml").read("3", labels="eroded").target
    (root / name).mkdir()
    for path in [*root.rglob("*_noBoundary.tif")]:
        path.replace(root / name / path.name)
    reader = Vaihingen(root=root, split=tmp_path / "split.yaml")
    reader.require_files()
    np.testing.assert_array_equal(reader.read("3", labels="eroded").target, expected)


def test_training_reads_full_labels_and_testing_eroded_ones(folder):
    reader = folder()
    assert [reader.split.labels_of(tile) for tile in ("2_10", "4_12", "2_13")] == ["full", "full", "eroded"]
    labels = {file.tile_id: file.kind for file in reader.files() if file.purpose == "label"}
    assert labels == {"2_10": "full", "4_12": "full", "2_13": "eroded"}


def test_five_class_labels_ignore_clutter_and_are_another_identity(folder):
    six = folder()
    path = six.root / "5_Labels_for_participants" / "top_potsdam_2_10_label.tif"
    pixels = tifffile.imread(path)
    pixels[:5, :7] = PALETTE[5]
    tifffile.imwrite(path, pixels, photometric="rgb")
    six, five = folder(), folder(label_mode="five-class")
    expected = six.read("2_10").target
    assert (expected == 5).sum() >= 35
    np.testing.assert_array_equal(five.read("2_10").target, np.where(expected == 5, 255, expected))
    eroded = six.read("2_13", labels="eroded").target
    found = five.read("2_13", labels="eroded").target
    np.testing.assert_array_equal(found, np.where(eroded == 5, 255, eroded))
    assert (six.num_classes, five.num_classes) == (6, 5)
    assert five.classes == six.classes[:5]
    assert six.identity != five.identity
    pixels[0, 0] = BLACK  # stays refused in full labels
    tifffile.imwrite(path, pixels, photometric="rgb")
    with pytest.raises(DataError, match=r"is for eroded labels only"):
        folder(label_mode="five-class").read("2_10")
    with pytest.raises(
        InvalidRecipeError, match=r"label_mode is 'four-class'; expected six-class or five-class"
    ):
        folder(label_mode="four-class")
