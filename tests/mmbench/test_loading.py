"""Normalisation, crops that depend on (seed, number) alone, and padding with ignore."""

import numpy as np
import torch

from mmbench.datasets._dataset import Window
from mmbench.loading import RandomCrops, read_window, training_batches
from mmbench.transforms import turn


def test_normalised_training_tiles_lie_in_minus_one_to_one_with_mean_zero(small_dataset, normalizer):
    for name in small_dataset.modalities:
        values = np.concatenate(
            [
                normalizer(name, small_dataset.read(t).images[name]).reshape(
                    small_dataset.modalities[name], -1
                )
                for t in small_dataset.split.train
            ],
            axis=1,
        )
        assert values.dtype == np.float32
        assert np.abs(values).max() <= 1
        assert np.abs(values).max() > 0.99  # the largest deviation is the scale
        assert np.abs(values.mean(axis=1)).max() < 1e-4


def test_statistics_do_not_depend_on_validation_or_test_tiles(small_dataset, normalizer, monkeypatch):
    from mmbench.transforms import fit_normalizer

    read = []
    original = small_dataset.read
    monkeypatch.setattr(small_dataset, "read", lambda t, *a, **k: (read.append(t), original(t, *a, **k))[1])
    assert fit_normalizer(small_dataset) == normalizer
    assert set(read) == set(small_dataset.split.train)


def test_crop_number_n_is_the_same_in_any_order_and_with_any_number_of_workers(small_dataset, normalizer):
    def crops():
        return RandomCrops(small_dataset, normalizer, window=64, count=6, seed=5)

    backwards = {n: crops()[n] for n in reversed(range(6))}
    for workers in (0, 2):
        batches = list(training_batches(crops(), batch_size=2, workers=workers))
        assert len(batches) == 3
        for b, batch in enumerate(batches):
            for i in range(2):
                images, target = backwards[2 * b + i]
                assert torch.equal(batch.target[i], torch.from_numpy(target))
                for name, image in images.items():
                    assert torch.equal(batch.images[name][i], torch.from_numpy(image))


def test_another_seed_gives_other_crops(small_dataset, normalizer):
    a, b = (RandomCrops(small_dataset, normalizer, window=64, count=1, seed=s)[0] for s in (0, 1))
    assert not np.array_equal(a[0]["irrg"], b[0]["irrg"])


def test_all_modalities_and_the_target_are_turned_alike(small_dataset, normalizer):
    """A crop must be a turned crop of the tile: the same turn explains every modality and the target."""
    images, target = RandomCrops(small_dataset, normalizer, window=128, count=1, seed=3)[0]
    found = [
        (whole, quarter_turns, flip)
        for whole in map(small_dataset.read, small_dataset.split.train)
        for quarter_turns in range(4)
        for flip in (False, True)
        if np.array_equal(turn(whole.target, quarter_turns, flip), target)
    ]
    assert found
    assert any(
        all(
            np.array_equal(turn(normalizer(name, whole.images[name]), quarter_turns, flip), image)
            for name, image in images.items()
        )
        for whole, quarter_turns, flip in found
    )


def test_a_window_beyond_the_tile_is_mirrored_and_its_target_ignored(small_dataset, normalizer):
    tile_id = small_dataset.split.train[0]
    images, target = read_window(small_dataset, normalizer, tile_id, Window(96, 0, 64, 128), labels="full")
    assert (target[32:] == small_dataset.ignore_index).all()
    assert (target[:32] != small_dataset.ignore_index).all()
    for image in images.values():
        assert np.array_equal(image[:, 32:], image[:, 31::-1])


def test_a_quarter_turn_and_a_flip_move_pixels_where_they_should_go():
    square = np.array([[1, 2], [3, 4]])
    assert turn(square, 1, False).tolist() == [[2, 4], [1, 3]]
    assert turn(square, 0, True).tolist() == [[2, 1], [4, 3]]
