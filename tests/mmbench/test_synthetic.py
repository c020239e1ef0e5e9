"""The synthetic town: the same from the same seed, faulty where a surface model is, and a proper dataset."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from mmbench.datasets import synthetic as module
from mmbench.datasets._city import make_tile
from mmbench.datasets._city.canvas import Canvas, Textures
from mmbench.datasets._city.height import measure_height
from mmbench.datasets._city.materials import BUILDING, CAR, IMPERVIOUS, LOW_VEGETATION, TREE, Paint
from mmbench.datasets._city.objects import draw_tree
from mmbench.datasets._city.optical import Sun, cast_shadow
from mmbench.datasets._city.plan import Tree
from mmbench.datasets._dataset import Window
from mmbench.datasets.synthetic import Synthetic
from mmbench.errors import DataError, InvalidRecipeError, UnknownNameError

_DIGEST = """
import hashlib, sys
from mmbench.datasets.synthetic import Synthetic
sample = Synthetic(split="small", tile_size=96, seed=3).read("test_01", labels="eroded")
digest = hashlib.sha256()
for array in (*sample.images.values(), sample.target):
    digest.update(array.tobytes())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def standard():
    """Every training and test tile of the default split, by role."""
    town = Synthetic()
    return {role: [town.read(tile_id) for tile_id in town.split.role(role)] for role in ("train", "test")}


@pytest.fixture(scope="module")
def pixels(standard):
    """All pixels of the test tiles: optical (3, N), height_m (N,), target (N,)."""
    tiles = standard["test"]
    return (
        np.concatenate([tile.images["irrg"].reshape(3, -1) for tile in tiles], axis=1),
        np.concatenate([tile.images["ndsm"].ravel() for tile in tiles]),
        np.concatenate([tile.target.ravel() for tile in tiles]),
    )


@pytest.fixture(scope="module")
def town():
    return Synthetic(split="small", tile_size=160)


def _digest_elsewhere(hash_seed):
    """Return the digest of a tile as another process makes it."""
    answer = subprocess.run(
        [sys.executable, "-c", _DIGEST],
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.strip()


def test_two_processes_with_different_hash_seeds_give_the_same_pixels():
    sample = Synthetic(split="small", tile_size=96, seed=3).read("test_01", labels="eroded")
    digest = hashlib.sha256()
    for array in (*sample.images.values(), sample.target):
        digest.update(array.tobytes())
    assert _digest_elsewhere("1") == _digest_elsewhere("2") == digest.hexdigest()


def test_other_seeds_roles_and_numbers_give_other_tiles():
    reads = [
        Synthetic(seed=seed, tile_size=64).read(tile_id).images["irrg"].tobytes()
        for seed in (0, 1)
        for tile_id in ("train_00", "train_01", "val_00", "test_00")
    ]
    assert len(set(reads)) == len(reads)


@pytest.mark.parametrize(("size", "gsd_m"), [((64, 64), 0.1), ((65, 130), 0.05), ((512, 384), 0.09)])
def test_a_tile_has_the_promised_shapes_types_and_ranges(size, gsd_m):
    tile = make_tile(4, size, gsd_m)
    assert tile.optical.shape == (4, *size)
    assert tile.optical.dtype == np.uint8
    for heights in (tile.height_m, tile.terrain_m):
        assert heights.shape == size
        assert heights.dtype == np.float32
        assert np.isfinite(heights).all()
    assert -3 < tile.height_m.min() < tile.height_m.max() < 40
    assert np.abs(np.diff(tile.terrain_m, axis=1)).max() < 0.2 * gsd_m
    assert tile.target.shape == size
    assert tile.target.dtype == np.uint8
    assert tile.target.max() <= 5


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 0, "size": (0, 64)}, {"seed": 0, "gsd_m": 0.0}])
def test_a_tile_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="expected a seed from 0"):
        make_tile(**wrong)


def test_all_six_classes_occur_in_train_and_test_of_the_standard_split(standard):
    for role, tiles in standard.items():
        counts = sum(np.bincount(tile.target.ravel(), minlength=6) for tile in tiles)
        assert (counts / counts.sum() > 0.005).all(), f"{role}: {counts / counts.sum()}"


def test_cars_nearly_vanish_in_the_height_and_buildings_stand(pixels):
    _, height_m, target = pixels
    assert (height_m[target == CAR] < 1.0).mean() > 0.75
    assert np.median(height_m[target == CAR]) < 0.7
    assert (height_m[target == BUILDING] > 2.0).mean() > 0.95


def _lone_tree(bare):
    shape, gsd_m, rng = (160, 160), 0.1, np.random.default_rng(5)
    canvas = Canvas(shape, gsd_m, 0.3, Textures.draw(rng, shape, gsd_m), Paint((100, 100, 100, 100)))
    draw_tree(rng, canvas, Tree(0.0, 0.0, radius_m=4.0, height_m=9.0, bare=bare, spectrum=(120, 60, 80, 60)))
    height_m = measure_height(rng, canvas, np.zeros(shape, np.float32))
    return canvas, float(np.median(height_m[canvas.label == TREE]))


def test_a_bare_tree_is_in_the_label_and_the_picture_but_not_in_the_height():
    bare, bare_height_m = _lone_tree(bare=True)
    leafed, leafed_height_m = _lone_tree(bare=False)
    assert np.array_equal(bare.label, leafed.label)
    assert (bare.label == TREE).sum() > 2000
    assert bare.twigs[bare.label == TREE].mean() > 0.1
    assert bare_height_m < 0.5
    assert leafed_height_m > 5.0


def test_a_good_part_of_the_trees_is_missing_from_the_height(pixels):
    _, height_m, target = pixels
    assert 0.1 < (height_m[target == TREE] < 1.0).mean() < 0.6


def test_colours_of_roofs_and_streets_and_of_lawns_and_crowns_overlap(pixels):
    optical, _, target = pixels
    for one, other in ((IMPERVIOUS, BUILDING), (LOW_VEGETATION, TREE)):
        for channel in range(3):
            shares = [
                np.histogram(optical[channel, target == k], bins=32, range=(0, 256))[0] / (target == k).sum()
                for k in (one, other)
            ]
            assert np.minimum(*shares).sum() > 0.5, f"classes {one} and {other}, channel {channel}"


def test_a_tower_casts_a_shadow_of_the_right_length_away_from_the_sun():
    surface_m = np.zeros((100, 60), np.float32)
    surface_m[60:66, 20:40] = 4.0
    sun = Sun(azimuth=np.pi, elevation=np.arctan(2.0))  # from the bottom of the picture, 2 m for each metre
    shadow = cast_shadow(surface_m, sun, gsd_m=0.1)
    assert (shadow[45:58, 22:38] > 0.9).all()
    assert shadow[:36].max() < 0.1
    assert shadow[70:].max() < 0.1


def test_a_window_is_the_crop_of_the_whole_tile(town):
    whole = town.read("train_00", labels="eroded")
    part = town.read("train_00", Window(10, 33, 40, 77), labels="eroded")
    assert np.array_equal(part.target, whole.target[10:50, 33:110])
    for modality, channels in town.modalities.items():
        assert part.images[modality].shape == (channels, 40, 77)
        assert np.array_equal(part.images[modality], whole.images[modality][:, 10:50, 33:110])


def test_what_a_reader_does_to_a_sample_stays_out_of_the_cache(town):
    first = town.read("train_00")
    before = first.images["irrg"].copy()
    first.images["irrg"][:] = 0
    first.target[:] = 9
    again = town.read("train_00")
    assert np.array_equal(again.images["irrg"], before)
    assert again.target.max() <= 5


def test_a_window_beyond_the_tile_is_refused(town):
    with pytest.raises(ValueError, match="reaches beyond 160 x 160"):
        town.read("train_00", Window(100, 0, 61, 10))


def test_erosion_ignores_exactly_the_pixels_within_three_of_a_border(town):
    full, eroded = (town.read("test_00", labels=labels).target for labels in ("full", "eroded"))
    kept = eroded != town.ignore_index
    assert np.array_equal(eroded[kept], full[kept])
    distance = np.full(full.shape, np.inf)
    for k in range(town.num_classes):  # to the nearest pixel of another class
        if (full == k).any() and (full != k).any():
            distance = np.where(full == k, ndimage.distance_transform_edt(full == k), distance)
    assert np.array_equal(kept, distance > 3)
    assert 0.05 < (~kept).mean() < 0.6


def test_an_unknown_tile_is_an_error_that_names_it(town):
    for call in (town.read, town.size):
        with pytest.raises(DataError, match="no tile 'test_77'; expected one of train_00"):
            call("test_77")


def test_rgb_shares_red_and_green_with_irrg():
    irrg = Synthetic(split="small", tile_size=96)
    rgb = Synthetic(split="small", tile_size=96, optical="rgb")
    assert list(rgb.modalities.items()) == [("rgb", 3), ("ndsm", 1)]
    infrared, visible = irrg.read("val_00"), rgb.read("val_00")
    assert np.array_equal(infrared.images["irrg"][1:], visible.images["rgb"][:2])
    assert not np.array_equal(infrared.images["irrg"][0], visible.images["rgb"][2])
    assert irrg.identity != rgb.identity


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"optical": "nir"}, "'nir'"),
        ({"seed": -1}, "-1"),
        ({"tile_size": 8}, "8"),
    ],
)
def test_a_wrong_option_is_an_error_that_names_it(options, named):
    with pytest.raises(InvalidRecipeError, match=named):
        Synthetic(**options)


def test_an_unknown_split_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown split 'smal'\. Did you mean 'small'\?"):
        Synthetic(split="smal")


def test_a_tile_has_one_spelling_so_it_cannot_be_in_train_and_test(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train: [train_00]\ntest: [train_000]\n")
    with pytest.raises(InvalidRecipeError, match="unknown tiles train_000"):
        Synthetic(split=path)


def test_a_split_file_may_name_any_numbered_tile(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train: [train_40, val_07]\ntest: [test_123]\n")
    town = Synthetic(split=path, tile_size=64)
    assert town.split_name == "mine.yaml"
    assert town.split.val == ()
    assert town.size("test_123") == town.read("test_123").target.shape == (64, 64)


def test_a_split_file_with_an_unknown_id_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train: [train_00, area1]\ntest: [test_00]\n")
    with pytest.raises(InvalidRecipeError, match="unknown tiles area1"):
        Synthetic(split=path)


def test_the_cache_forgets_the_tile_that_was_not_used_for_longest(monkeypatch):
    monkeypatch.setattr(module, "_CACHED_TILES", 2)
    made = []
    town = Synthetic(split="small", tile_size=64)
    generate = town._generate
    monkeypatch.setattr(town, "_generate", lambda tile_id: made.append(tile_id) or generate(tile_id))
    for tile_id in ("train_00", "train_01", "train_00", "val_00", "train_00", "train_01"):
        town.read(tile_id)
    assert made == ["train_00", "train_01", "val_00", "train_01"]


def test_the_fake_copy_writes_nothing_and_reads(tmp_path):
    town = Synthetic.fake(tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert town.read(town.split.test[0]).target.shape == town.size(town.split.test[0]) == (128, 128)
