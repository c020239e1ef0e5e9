"""The reader on real Potsdam pixels, where a copy of the crops is at hand."""

import os
from pathlib import Path

import numpy as np
import pytest

from mmbench.datasets._dataset import Window
from mmbench.datasets.potsdam import Potsdam

REPOSITORY = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get("MMBENCH_REALDATA") or REPOSITORY.parent / "shared" / "realdata") / "potsdam-mini"
pytestmark = pytest.mark.skipif(
    not REAL.is_dir(),
    reason=f"no real crops in {REAL}; MMBENCH_REALDATA names the folder that holds potsdam-mini",
)
PIXELS = {
    "2_10": (110121, 67023, 40942, 33466, 10592, 0),
    "2_11": (20488, 25052, 42984, 173620, 0, 0),
}


@pytest.fixture
def split(tmp_path):
    path = tmp_path / "crops.yaml"
    path.write_text("train: [2_10]\ntest: [2_11]\n")
    return path


@pytest.fixture
def reader(split):
    return Potsdam(root=REAL, split=split, height="dsm")


@pytest.mark.parametrize("tile_id", PIXELS)
def test_the_pixels_of_each_class_are_those_that_were_counted(reader, tile_id):
    target = reader.read(tile_id).target
    assert tuple(np.bincount(target.ravel(), minlength=6)) == PIXELS[tile_id]


@pytest.mark.parametrize("tile_id", PIXELS)
def test_eroded_labels_only_take_pixels_away(reader, tile_id):
    full, eroded = (reader.read(tile_id, labels=labels).target for labels in ("full", "eroded"))
    kept = eroded != 255
    assert 0.8 < kept.mean() < 0.99
    np.testing.assert_array_equal(eroded[kept], full[kept])


def test_heights_above_ground_are_plausible(reader):
    sample = reader.read("2_10")
    height = sample.images["dsm"][0]
    median = [np.median(height[sample.target == index]) for index in range(5)]
    impervious, building, low_vegetation, _, car = median
    assert impervious < 0.5
    assert low_vegetation < 1
    assert 0.7 < car < 1.6
    assert 8 < building < 14
    assert height.min() == 0
    assert height.max() < 25
    sample = reader.read("2_11")
    height = sample.images["dsm"][0]
    assert np.median(height[sample.target == 2]) < 1
    assert 9 < np.median(height[sample.target == 1]) < 14


def test_vegetation_is_bright_in_the_first_channel_of_irrg_and_not_in_rgb(reader, split):
    infrared_red_green = reader.read("2_10").images["irrg"].astype(float)
    red_green_blue = Potsdam(root=REAL, split=split, height="dsm", optical="rgb").read("2_10").images["rgb"]
    np.testing.assert_array_equal(infrared_red_green[1:], red_green_blue[:2])
    infrared, red, _ = infrared_red_green
    index = (infrared - red) / (infrared + red + 1)
    target = reader.read("2_10").target
    assert index[target == 2].mean() > index[target == 0].mean() + 0.05


def test_a_window_equals_the_crop(reader):
    whole, part = reader.read("2_11"), reader.read("2_11", Window(100, 200, 128, 96))
    for key, image in part.images.items():
        np.testing.assert_array_equal(image, whole.images[key][:, 100:228, 200:296])
    np.testing.assert_array_equal(part.target, whole.target[100:228, 200:296])
