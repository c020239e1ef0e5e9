"""Windows cover a tile, and stitching sums probabilities."""

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
