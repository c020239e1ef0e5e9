"""Scores by hand on 3x3 matrices, and against scikit-learn on random predictions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from mmbench import metrics
from mmbench.metrics import confusion_matrix, scores


def test_a_worked_matrix_gives_the_scores_worked_by_hand():
    confusion = np.array([[4, 1, 0], [2, 3, 0], [0, 1, 0]])
    result = scores(confusion, scored_classes=(0, 1, 2))
    assert result.iou == pytest.approx((4 / 7, 3 / 7, 0.0))
    assert result.f1 == pytest.approx((8 / 11, 6 / 10, 0.0))
    assert result.miou == pytest.approx((4 / 7 + 3 / 7 + 0) / 3)
    assert result.oa == pytest.approx(7 / 11)
    chance = (5 * 6 + 5 * 5 + 1 * 0) / 121
    assert result.kappa == pytest.approx((7 / 11 - chance) / (1 - chance))


def test_a_class_absent_from_the_truth_is_left_out_of_the_mean_but_its_predictions_are_errors():
    confusion = np.array([[4, 0, 1], [0, 5, 0], [0, 0, 0]])
    result = scores(confusion, scored_classes=(0, 1, 2))
    assert result.iou == (pytest.approx(4 / 5), 1.0, None)
    assert result.miou == pytest.approx((4 / 5 + 1) / 2)


def test_an_unscored_class_counts_in_overall_accuracy_only():
    confusion = np.array([[5, 0, 0], [0, 5, 0], [5, 0, 5]])
    result = scores(confusion, scored_classes=(0, 1))
    assert result.miou == pytest.approx((5 / 10 + 1) / 2)
    assert result.oa == pytest.approx(15 / 20)


def test_an_empty_matrix_has_no_scores():
    result = scores(np.zeros((3, 3), dtype=np.int64), scored_classes=(0, 1))
    assert (result.miou, result.mf1, result.oa, result.kappa) == (None, None, None, None)


def test_ignored_pixels_count_nowhere():
    target = np.array([[0, 255], [1, 255]], dtype=np.uint8)
    prediction = np.array([[0, 1], [0, 0]], dtype=np.uint8)
    assert confusion_matrix(target, prediction, 2, 255).tolist() == [[1, 0], [1, 0]]


def test_classes_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"prediction has classes 0\.\.7, expected 0\.\.5"):
        confusion_matrix(np.zeros((2, 2), int), np.array([[0, 7], [1, 1]]), 6, 255)


def test_a_target_below_zero_that_is_not_ignored_is_named():
    with pytest.raises(ValueError, match=r"target has classes -1\.\.1, expected 0\.\.5"):
        confusion_matrix(np.array([-1, 1]), np.array([0, 0]), 6, 255)


def test_whatever_is_predicted_on_ignored_pixels_is_no_error():
    target, prediction = np.array([-1, 2]), np.array([77, 1])
    assert confusion_matrix(target, prediction, 3, -1).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("kinds", [("u1", "u1"), ("i8", "u1"), ("u1", "i8"), ("i4", "u8")])
@pytest.mark.parametrize("classes", [2, 6, 16, 17, 60])
def test_pixels_are_counted_alike_in_chunks_whatever_the_types_and_the_number_of_classes(
    monkeypatch, kinds, classes
):
    rng = np.random.default_rng(classes)
    truth, guess = rng.integers(0, classes, (2, 50, 41))
    target = np.where(rng.random(truth.shape) < 0.3, 255, truth)
    expected = oracle.confusion_matrix(truth[target != 255], guess[target != 255], labels=range(classes))
    monkeypatch.setattr(metrics, "_CHUNK_PIXELS", 100)
    found = confusion_matrix(target.astype(kinds[0]), guess.astype(kinds[1]), classes, 255)
    assert found.dtype == np.int64
    assert np.array_equal(found, expected)


def test_a_mistake_in_the_last_chunk_is_found(monkeypatch):
    monkeypatch.setattr(metrics, "_CHUNK_PIXELS", 4)
    prediction = np.zeros(10, np.uint8)
    prediction[-1] = 6
    with pytest.raises(ValueError, match="prediction has classes"):
        confusion_matrix(np.zeros(10, np.uint8), prediction, 6, 255)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="expected equal shapes"):
        confusion_matrix(np.zeros((2, 2), int), np.zeros((2, 3), int), 6, 255)


@given(seed=st.integers(0, 2**32 - 1), pixels=st.integers(1, 400), ignored=st.floats(0, 0.9))
def test_every_score_equals_scikit_learns(seed, pixels, ignored):
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, 6, pixels), rng.integers(0, 6, pixels)
    target = np.where(rng.random(pixels) < ignored, 255, truth)
    valid = target != 255
    confusion = confusion_matrix(target, guess, 6, 255)
    labels = list(range(6))
    if not valid.any():
        assert confusion.sum() == 0
        return
    truth, guess = truth[valid], guess[valid]
    assert np.array_equal(confusion, oracle.confusion_matrix(truth, guess, labels=labels))
    result = scores(confusion, scored_classes=range(5))
    present = [k for k in range(5) if (truth == k).any()]
    assert result.oa == pytest.approx(oracle.accuracy_score(truth, guess))
    if result.kappa is not None:
        assert result.kappa == pytest.approx(oracle.cohen_kappa_score(truth, guess, labels=labels))
    if present:
        iou = oracle.jaccard_score(truth, guess, labels=present, average="macro", zero_division=0)
        f1 = oracle.f1_score(truth, guess, labels=present, average="macro", zero_division=0)
        assert result.miou == pytest.approx(iou)
        assert result.mf1 == pytest.approx(f1)
