"""Windows cover a tile, and stitching sums probabilities."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmbench.datasets._dataset import Window
from mmbench.windows import Stitcher, grid


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    window=st.integers(8, 128),
    overlap=st.floats(0, 0.9),
)
def test_every_pixel_is_covered_and_no_window_leaves_a_tile_that_is_large_enough(
    height, width, window, overlap
):
    covered = np.zeros((height, width), dtype=int)
    for w in grid((height, width), window, overlap):
        covered[w.top : w.top + w.height, w.left : w.left + w.width] += 1
        assert w.top + w.height <= max(height, window)
        assert w.left + w.width <= max(width, window)
    assert covered.min() >= 1


def test_half_overlap_places_windows_half_a_window_apart_and_ends_with_the_tile():
    assert [w.left for w in grid((4, 11), 4, 0.5)] == [0, 2, 4, 6, 7]


def test_an_overlap_of_one_is_refused():
    with pytest.raises(ValueError, match="0 <= overlap < 1"):
        grid((8, 8), 4, 1.0)


def test_overlapping_probabilities_are_summed_and_the_largest_sum_wins():
    stitcher = Stitcher(2, (1, 3))
    stitcher.add(Window(0, 0, 1, 2), torch.tensor([[[0.9, 0.4]], [[0.1, 0.6]]]))
    stitcher.add(Window(0, 1, 1, 2), torch.tensor([[[0.7, 0.2]], [[0.3, 0.8]]]))
    # The middle pixel has 0.4 + 0.7 against 0.6 + 0.3: the first window alone would say class 1.
    assert stitcher.prediction().tolist() == [[0, 0, 1]]


def test_what_lies_beyond_the_tile_is_left_out():
    stitcher = Stitcher(2, (2, 2))
    stitcher.add(Window(0, 0, 4, 4), torch.rand(2, 4, 4))
    assert stitcher.prediction().shape == (2, 2)


def _stitched(size, window, overlap, seed, classes=3):
    """Return the stitcher's prediction and that of the sums of the whole tile, of probabilities with ties."""
    generator = torch.Generator().manual_seed(seed)
    stitcher, sums = Stitcher(classes, size), torch.zeros(classes, *size)
    for w in grid(size, window, overlap):
        probabilities = torch.rand(classes, window, window, generator=generator)
        probabilities = torch.where(probabilities > 0.8, (probabilities * 4).round() / 4, probabilities)
        stitcher.add(w, probabilities)
        rows, columns = min(window, size[0] - w.top), min(window, size[1] - w.left)
        sums[:, w.top : w.top + rows, w.left : w.left + columns] += probabilities[:, :rows, :columns]
    return stitcher.prediction(), sums.argmax(0).to(torch.uint8).numpy()


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    window=st.integers(1, 40),
    overlap=st.floats(0, 0.9),
    seed=st.integers(0, 100),
)
def test_a_rolling_band_predicts_what_the_sums_of_the_whole_tile_predict(
    height, width, window, overlap, seed
):
    window = max(window, 1 + max(height, width) // 8)
    found, expected = _stitched((height, width), window, overlap, seed)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


def test_the_lower_class_wins_a_tie():
    stitcher = Stitcher(3, (1, 2))
    stitcher.add(Window(0, 0, 1, 2), torch.tensor([[[0.2, 0.3]], [[0.4, 0.3]], [[0.4, 0.3]]]))
    assert stitcher.prediction().tolist() == [[1, 0]]


def test_rows_that_no_window_covers_are_of_the_first_class():
    stitcher = Stitcher(2, (5, 1))
    for top in (1, 3):
        stitcher.add(Window(top, 0, 1, 1), torch.tensor([[[0.1]], [[0.9]]]))
    assert stitcher.prediction().ravel().tolist() == [0, 1, 0, 1, 0]


def test_stitching_holds_one_row_of_windows_and_not_the_tile():
    size, window, classes = (4000, 500), 50, 6
    probabilities = torch.rand(classes, window, window)
    tracemalloc.start()
    stitcher = Stitcher(classes, size)
    for w in grid(size, window, 0.5):
        stitcher.add(w, probabilities)
    prediction = stitcher.prediction()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert prediction.nbytes < peak < prediction.nbytes + 5 * classes * window * size[1] * 4


@pytest.mark.parametrize("second", [Window(0, 4, 8, 8), Window(0, 2, 8, 8), Window(4, 0, 8, 8)])
def test_windows_out_of_order_are_refused(second):
    stitcher = Stitcher(2, (16, 16))
    stitcher.add(Window(4, 4, 8, 8) if second.top == 4 else Window(0, 4, 8, 8), torch.rand(2, 8, 8))
    with pytest.raises(ValueError, match="expected windows in the row-major order of grid"):
        stitcher.add(second, torch.rand(2, 8, 8))


def test_a_finished_tile_takes_no_more_windows():
    stitcher = Stitcher(2, (8, 8))
    stitcher.add(Window(0, 0, 8, 8), torch.rand(2, 8, 8))
    assert np.array_equal(stitcher.prediction(), stitcher.prediction())
    with pytest.raises(ValueError, match="row-major order"):
        stitcher.add(Window(4, 0, 4, 4), torch.rand(2, 4, 4))
