"""Photometric augmentation: by option, on the optical image alone, from a generator of its own."""

import numpy as np
import pytest
import torch

from mmbench.loading import RandomCrops, training_batches
from mmbench.transforms import PhotometricChange, draw_photometric


@pytest.fixture
def crops(small_dataset, normalizer):
    def make(**options):
        return RandomCrops(small_dataset, normalizer, window=64, count=8, seed=2, **options)

    return make


def test_light_changes_the_optical_image_and_neither_heights_nor_labels_nor_geometry(crops):
    plain, lit = crops(), crops(photometric=0.4)
    for number in range(8):
        (images, target), (changed, same_target) = plain[number], lit[number]
        assert np.array_equal(target, same_target)
        assert np.array_equal(images["ndsm"], changed["ndsm"])
        assert not np.array_equal(images["irrg"], changed["irrg"])


def test_a_sample_has_one_brightness_and_contrast_for_all_its_channels_clipped_to_one(crops):
    for number in range(8):
        change = draw_photometric(0.4, seed=2, number=number)
        image = crops()[number][0]["irrg"]
        expected = np.clip(image * np.float32(change.contrast) + np.float32(change.brightness), -1, 1)
        assert np.array_equal(crops(photometric=0.4)[number][0]["irrg"], expected)


def test_a_strength_of_nothing_is_no_augmentation_bit_for_bit(crops):
    for number in range(8):
        (images, target), (same, same_target) = crops()[number], crops(photometric=0.0)[number]
        assert np.array_equal(target, same_target)
        for name, image in images.items():
            assert np.array_equal(image.view(np.uint32), same[name].view(np.uint32))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_light_of_a_sample_does_not_depend_on_the_workers(crops, workers):
    single = [crops(photometric=0.3)[number][0]["irrg"] for number in range(8)]
    batches = training_batches(crops(photometric=0.3), batch_size=2, workers=workers)
    assert np.array_equal(torch.cat([batch.images["irrg"] for batch in batches]).numpy(), np.stack(single))


def test_draws_fill_their_ranges_and_differ_by_seed_and_number():
    changes = [draw_photometric(0.2, seed, number) for seed in range(2) for number in range(500)]
    assert len(set(changes)) == len(changes)
    brightness, contrast = np.array([(c.brightness, c.contrast) for c in changes]).T
    for values, middle in ((brightness, 0), (contrast, 1)):
        assert np.abs(values - middle).max() <= 0.2
        assert values.min() < middle - 0.19
        assert values.max() > middle + 0.19
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.1


def test_a_change_worked_by_hand():
    image = np.array([[[-1.0, 0.0, 0.5, 1.0]]], dtype=np.float32)
    PhotometricChange(brightness=0.25, contrast=0.5).apply(image)
    assert image.tolist() == [[[-0.25, 0.25, 0.5, 0.75]]]
    PhotometricChange(brightness=0.5, contrast=1.5).apply(image)
    assert image.tolist() == [[[0.125, 0.875, 1.0, 1.0]]]
