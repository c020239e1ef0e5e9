"""Evaluation: one integer matrix a tile and scenario, on eroded labels, stitched from windows."""

import numpy as np
import pytest
import torch

from mmbench.datasets._dataset import TEST_LABELS
from mmbench.errors import CellFailedError, DataError, ProtocolError
from mmbench.evaluation import Evaluator
from mmbench.recipe import EvaluationRecipe
from mmbench_baselines.method import Method, Output


class Oracle(Method):
    """Segments by thresholds on the images: per pixel, so windows cannot matter."""

    title = paper = source = "test"

    def forward(self, images, present):
        green = images["irrg"][:, 2]
        height = images["ndsm"][:, 0]
        logits = torch.stack([green * 0, height * 8, -green * 4, height + green, green - 3, green - 4], 1)
        return Output(logits)

    def loss(self, output, batch):
        raise NotImplementedError


def _evaluator(dataset, normalizer, **changes):
    settings = {"window": 64, "overlap": 0.5, "batch_size": 3} | changes
    return Evaluator(dataset, normalizer, EvaluationRecipe(**settings), torch.device("cpu"))


@pytest.fixture
def oracle(small_dataset):
    return Oracle(small_dataset.modalities, small_dataset.num_classes)


def test_there_is_a_matrix_for_every_scenario_and_tile_and_it_counts_every_valid_pixel(
    small_dataset, normalizer, oracle
):
    confusions = _evaluator(small_dataset, normalizer).confusions(oracle, "test", TEST_LABELS)
    assert list(confusions) == ["full", "irrg", "ndsm"]
    for matrices in confusions.values():
        assert matrices.dtype == np.int64
        assert matrices.shape == (len(small_dataset.split.test), 6, 6)
        for tile_id, matrix in zip(small_dataset.split.test, matrices, strict=True):
            target = small_dataset.read(tile_id, labels="eroded").target
            truth = np.bincount(target[target != 255], minlength=6)
            assert np.array_equal(matrix.sum(1), truth)


@pytest.mark.parametrize(("window", "overlap", "batch_size"), [(64, 0.0, 1), (48, 0.5, 4), (200, 0.0, 1)])
def test_a_per_pixel_method_scores_the_same_however_the_tile_is_cut(
    small_dataset, normalizer, oracle, window, overlap, batch_size
):
    whole = _evaluator(small_dataset, normalizer, window=128, overlap=0.0).confusions(
        oracle, "test", "eroded"
    )
    cut = _evaluator(
        small_dataset, normalizer, window=window, overlap=overlap, batch_size=batch_size
    ).confusions(oracle, "test", "eroded")
    for name, matrices in whole.items():
        assert np.array_equal(matrices, cut[name])


def test_windows_are_put_together_by_their_probabilities_and_not_by_their_logits(
    small_dataset, normalizer, oracle, monkeypatch
):
    """The first window is sure of class 0, the others think of class 1: one loses to it, three outvote it."""
    calls = 0

    def forward(images, present):
        nonlocal calls
        logits = torch.zeros(1, 6, 64, 64)
        logits[:, 0 if calls % 9 == 0 else 1] = 100 if calls % 9 == 0 else 4
        calls += 1
        return Output(logits)

    monkeypatch.setattr(oracle, "forward", forward)
    confusions = _evaluator(small_dataset, normalizer, batch_size=1).confusions(oracle, "test", "full")
    for matrix in confusions["full"]:
        assert matrix.sum(0).tolist() == [3 * 32 * 32, 128 * 128 - 3 * 32 * 32, 0, 0, 0, 0]


def test_a_hidden_modality_is_the_training_mean_to_the_method(small_dataset, normalizer, monkeypatch, oracle):
    seen = []
    forward = oracle.forward

    def spy(images, present):
        seen.append((images, present))
        return forward(images, present)

    monkeypatch.setattr(oracle, "forward", spy)
    _evaluator(small_dataset, normalizer).confusions(oracle, "test", TEST_LABELS)
    for images, present in seen:
        for column, image in enumerate(images.values()):
            assert bool(image.any()) == bool(present[:, column].all())


def test_scores_are_of_the_summed_matrix_not_a_mean_over_tiles(small_dataset, normalizer, oracle):
    from mmbench.metrics import scores

    matrices = _evaluator(small_dataset, normalizer).confusions(oracle, "val", "full")
    expected = np.mean([scores(m.sum(0), small_dataset.scored_classes).miou for m in matrices.values()])
    assert _evaluator(small_dataset, normalizer).validation_miou(oracle) == pytest.approx(expected)


def test_validation_tiles_without_a_scored_class_are_an_error(small_dataset, normalizer, oracle, monkeypatch):
    monkeypatch.setattr(type(small_dataset), "scored_classes", ())
    with pytest.raises(DataError, match="show no scored class"):
        _evaluator(small_dataset, normalizer).validation_miou(oracle)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_logit_that_is_not_finite_fails_the_cell_instead_of_scoring_it(
    small_dataset, normalizer, oracle, monkeypatch, value
):
    def forward(images, present):
        logits = images["irrg"].repeat(1, 2, 1, 1)
        logits[-1, 3, 5, 7] = value
        return Output(logits)

    monkeypatch.setattr(oracle, "forward", forward)
    with pytest.raises(CellFailedError, match="logits are not finite on tile"):
        _evaluator(small_dataset, normalizer).confusions(oracle, "test", TEST_LABELS)


def test_every_pixel_is_read_once_a_scenario_and_with_the_labels_asked_for(
    small_dataset, normalizer, oracle, monkeypatch
):
    read = small_dataset.read
    pixels = {"full": 0, "eroded": 0}

    def count(tile_id, window=None, *, labels="full"):
        sample = read(tile_id, window, labels=labels)
        pixels[labels] += sample.target.size
        return sample

    monkeypatch.setattr(small_dataset, "read", count)
    _evaluator(small_dataset, normalizer, overlap=0.75).confusions(oracle, "test", TEST_LABELS)
    assert pixels == {"full": 0, "eroded": 128 * 128 * len(small_dataset.split.test) * 3}


def test_the_no_peek_proof_is_of_windows_of_the_size_that_is_scored(small_dataset, normalizer):
    class LooksAtLargerImages(Oracle):
        def forward(self, images, present):
            logits = super().forward(images, present).logits
            return Output(logits if logits.shape[-1] >= 160 else logits * 0)

    method = LooksAtLargerImages(small_dataset.modalities, small_dataset.num_classes)
    assert _evaluator(small_dataset, normalizer, window=96).check_no_peek("it", method)
    with pytest.raises(ProtocolError, match="looks at hidden content"):
        _evaluator(small_dataset, normalizer, window=160).check_no_peek("it", method)
