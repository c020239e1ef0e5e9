"""Evaluation: one integer matrix a tile and scenario, on eroded labels, stitched from windows."""

import numpy as np
import pytest
import torch

from mmbench.errors import CellFailedError, DataError
from mmbench.evaluation import TEST_LABELS, Evaluator
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


def test_logits_that_are_not_finite_fail_the_cell_instead_of_scoring_it(
    small_dataset, normalizer, oracle, monkeypatch
):
    monkeypatch.setattr(
        oracle, "forward", lambda images, present: Output(images["irrg"].repeat(1, 2, 1, 1) * float("inf"))
    )
    with pytest.raises(CellFailedError, match="logits are not finite on tile"):
        _evaluator(small_dataset, normalizer).confusions(oracle, "test", TEST_LABELS)
