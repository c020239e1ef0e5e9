"""Normalisation, crops that depend on (seed, number) alone, padding with ignore, tiles window by window."""

import numpy as np
import pytest
import torch

from mmbench import transforms
from mmbench.datasets._dataset import Window
from mmbench.errors import DataError, EnvironmentMissingError
from mmbench.loading import RandomCrops, read_window, training_batches
from mmbench.tile_reader import TileReader
from mmbench.transforms import ChannelStatistics, Normalizer, fit_normalizer, turn
from mmbench.windows import grid


def _plain(statistics, image):
    """The formula of the protocol, a line of numpy."""
    low, high, mean, scale = (
        np.asarray(v, dtype=np.float32)[:, None, None]
        for v in (statistics.low, statistics.high, statistics.mean, statistics.scale)
    )
    return np.clip((np.clip(image.astype(np.float32), low, high) - mean) / scale, -1, 1)


def _same_bits(a, b):
    return a.dtype == b.dtype == np.float32 and np.array_equal(a.view(np.uint32), b.view(np.uint32))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64])
def test_normalising_in_place_equals_the_plain_formula_bit_for_bit(kind):
    rng = np.random.default_rng(0)
    statistics = ChannelStatistics(
        (3.7, 0.0, 40.1), (251.3, 99.9, 40.1), (90.123, 31.7, 40.1), (150.0, 68.2, 1.0)
    )
    image = (rng.random((3, 40, 50)) * 300 - 20 * (kind in (np.float32, np.float64))).astype(kind)
    if kind == np.float32:
        image[0, 0, :4] = np.nan, np.inf, -np.inf, -0.0
    normalizer = Normalizer({"x": statistics})
    assert _same_bits(normalizer("x", image), _plain(statistics, image))
    for quarter_turns in range(4):
        turned = turn(image, quarter_turns, True)
        assert _same_bits(normalizer("x", turned), np.ascontiguousarray(_plain(statistics, turned)))


def test_normalising_leaves_the_pixels_as_they_were(small_dataset, normalizer):
    image = small_dataset.read(small_dataset.split.train[0]).images["ndsm"]
    image.flags.writeable = False
    assert normalizer("ndsm", image) is not image


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


@pytest.mark.parametrize(("rows", "pixels"), [(512, 2**18), (50, 2**18), (7, 1000)])
def test_statistics_are_those_of_whole_tiles_however_they_are_read(small_dataset, monkeypatch, rows, pixels):
    monkeypatch.setattr(transforms, "_STRIP_ROWS", rows)
    monkeypatch.setattr(transforms, "_PIXELS_PER_TILE", pixels)
    step = max(1, round((128 * 128 / pixels) ** 0.5))
    tiles = [small_dataset.read(t).images for t in small_dataset.split.train]
    for name, found in fit_normalizer(small_dataset).statistics.items():
        values = np.concatenate([t[name][:, ::step, ::step].reshape(len(t[name]), -1) for t in tiles], axis=1)
        assert found == transforms._channel_statistics(values.astype(np.float32))


def test_statistics_do_not_depend_on_validation_or_test_tiles(small_dataset, normalizer, monkeypatch):
    read = []
    original = small_dataset.read
    monkeypatch.setattr(small_dataset, "read", lambda t, *a, **k: (read.append(t), original(t, *a, **k))[1])
    assert fit_normalizer(small_dataset) == normalizer
    assert set(read) == set(small_dataset.split.train)


def test_crop_number_n_is_the_same_in_any_order_and_with_any_number_of_workers(small_dataset, normalizer):
    def crops():
        return RandomCrops(small_dataset, normalizer, window=64, count=31, seed=5)

    backwards = {n: crops()[n] for n in reversed(range(31))}
    for workers in (0, 1, 2):
        # All are kept: a batch may not change when the memory it was read into is used again.
        batches = list(training_batches(crops(), batch_size=2, workers=workers))
        assert [len(batch.target) for batch in batches] == [2] * 15 + [1]
        for number, (images, target) in backwards.items():
            batch, row = batches[number // 2], number % 2
            assert batch.target.dtype == torch.int64
            assert np.array_equal(batch.target[row].numpy(), target)
            assert list(batch.images) == list(images) == list(small_dataset.modalities)
            for name, image in images.items():
                assert _same_bits(batch.images[name][row].numpy(), image)


def test_the_number_of_workers_does_not_change_what_torch_draws_next(small_dataset, normalizer):
    drawn = []
    for workers in (0, 2):
        torch.manual_seed(0)
        crops = RandomCrops(small_dataset, normalizer, window=64, count=2, seed=5)
        list(training_batches(crops, batch_size=2, workers=workers))
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]


def test_an_error_of_the_data_keeps_its_kind_on_the_way_from_a_worker(small_dataset, normalizer, monkeypatch):
    def read(*_, **__):
        raise DataError("tile x: cut off")

    monkeypatch.setattr(small_dataset, "read", read)
    crops = RandomCrops(small_dataset, normalizer, window=64, count=2, seed=5)
    for workers in (0, 1):
        with pytest.raises(DataError, match="cut off"):
            next(training_batches(crops, batch_size=2, workers=workers))


def test_too_little_shared_memory_is_said_before_training(small_dataset, normalizer, monkeypatch):
    def refuse(self):
        raise RuntimeError("unable to resize file")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    crops = RandomCrops(small_dataset, normalizer, window=128, count=64, seed=5)
    with pytest.raises(EnvironmentMissingError, match=r"2 reading .* need 10 MiB .*enlarge /dev/shm"):
        next(training_batches(crops, batch_size=8, workers=2))


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
    assert target.dtype == np.uint8
    assert (target[32:] == small_dataset.ignore_index).all()
    assert (target[:32] != small_dataset.ignore_index).all()
    for image in images.values():
        assert np.array_equal(image[:, 32:], image[:, 31::-1])


def test_a_quarter_turn_and_a_flip_move_pixels_where_they_should_go():
    square = np.array([[1, 2], [3, 4]])
    assert turn(square, 1, False).tolist() == [[2, 4], [1, 3]]
    assert turn(square, 0, True).tolist() == [[2, 1], [4, 3]]


@pytest.mark.parametrize(
    ("window", "overlap", "batch_size"), [(48, 0.5, 3), (64, 0.0, 4), (50, 0.7, 100), (200, 0.5, 2)]
)
def test_a_tile_read_row_by_row_gives_the_same_windows_and_every_pixel_once(
    small_dataset, normalizer, monkeypatch, window, overlap, batch_size
):
    read = type(small_dataset).read
    pixels = 0

    def count(self, tile_id, window=None, *, labels="full"):
        nonlocal pixels
        sample = read(self, tile_id, window, labels=labels)
        pixels += sample.target.size
        return sample

    tile_id = small_dataset.split.test[0]
    windows = grid((128, 128), window, overlap)
    expected = [read_window(small_dataset, normalizer, tile_id, w, labels="eroded")[0] for w in windows]
    monkeypatch.setattr(type(small_dataset), "read", count)
    reader = TileReader(small_dataset, normalizer, tile_id, labels="eroded")
    seen = 0
    for part, images in reader.batches(windows, batch_size):
        assert part == windows[seen : seen + batch_size]
        for row in range(len(part)):
            for name, image in expected[seen].items():
                assert _same_bits(images[name][row].numpy(), image)
            seen += 1
    assert seen == len(windows)
    assert pixels == 128 * 128
    assert np.array_equal(reader.target, read(small_dataset, tile_id, labels="eroded").target)


def test_what_no_window_covers_of_a_tile_is_ignored_and_a_step_back_is_refused(small_dataset, normalizer):
    reader = TileReader(small_dataset, normalizer, small_dataset.split.test[0], labels="full")
    list(reader.batches([Window(32, 0, 32, 32)], 1))
    assert (reader.target[:32] == small_dataset.ignore_index).all()
    assert (reader.target[64:] == small_dataset.ignore_index).all()
    assert (reader.target[32:64] < small_dataset.num_classes).all()
    with pytest.raises(ValueError, match="lies above row 32"):
        list(reader.batches([Window(0, 0, 32, 32)], 1))


class _Broken:
    """A dataset whose tile cannot be read after the first crops."""

    def __init__(self, dataset):
        self._dataset = dataset

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def read(self, *arguments, **keywords):
        raise DataError("tile train_00: cannot be read. Unpack it again")


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_wrong_with_the_data_is_one_line_from_any_process(small_dataset, normalizer, workers):
    crops = RandomCrops(_Broken(small_dataset), normalizer, window=32, count=4, seed=0)
    with pytest.raises(DataError) as caught:
        list(training_batches(crops, batch_size=2, workers=workers))
    assert str(caught.value) == "tile train_00: cannot be read. Unpack it again"
