"""The error of generated images: of hidden modalities only, in normalised units, beside the training mean."""

import pytest
import torch

from mmbench.cells import Cell, Run
from mmbench.evaluation import Evaluator
from mmbench.execution import run_cell
from mmbench.imputation import ImputationError
from mmbench.recipe import EvaluationRecipe
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.tables import console_table
from mmbench_baselines.method import Method, Output


def test_only_modalities_that_a_batch_lacks_are_counted():
    real = {"a": torch.tensor([[[[1.0, -1.0]]]]), "b": torch.tensor([[[[0.5, 0.25]]]])}
    imputed = {"a": torch.tensor([[[[0.5, 0.0]]]]), "b": torch.zeros(1, 1, 1, 2)}
    error = ImputationError()
    error.add({}, real, torch.tensor([[False, True]]))
    assert error.as_dict() == {}
    error.add(imputed, real, torch.tensor([[False, True]]))
    assert error.as_dict() == {"a": {"l1": 0.75, "l1_of_mean": 1.0}}
    error.add(imputed, real, torch.tensor([[True, False]]))
    assert error.as_dict()["b"] == {"l1": 0.375, "l1_of_mean": 0.375}
    error.add({"a": real["a"]}, real, torch.tensor([[False, True]]))
    assert error.as_dict()["a"] == {"l1": 0.375, "l1_of_mean": 1.0}


class Guess(Method):
    """Takes every missing image for 0.1 everywhere."""

    title = paper = source = "none"

    def __init__(self, modalities, num_classes, *, ignore_index=255):
        super().__init__(modalities, num_classes, ignore_index=ignore_index)
        self.bias = torch.nn.Parameter(torch.zeros(num_classes, 1, 1))

    def forward(self, images, present):
        imputed = {
            name: torch.where(present[:, i, None, None, None], image, torch.full_like(image, 0.1))
            for i, (name, image) in enumerate(images.items())
        }
        first = next(iter(images.values()))
        return Output(self.bias.expand(len(first), -1, *first.shape[2:]), imputed=imputed)

    def loss(self, output, batch):
        return {"zero": output.logits.sum() * 0}


def test_the_evaluation_compares_with_the_images_before_hiding(small_dataset, normalizer):
    evaluator = Evaluator(
        small_dataset, normalizer, EvaluationRecipe(window=64, overlap=0, batch_size=2), torch.device("cpu")
    )
    method = Guess(small_dataset.modalities, small_dataset.num_classes)
    error = ImputationError()
    evaluator.confusions(method, "test", "eroded", imputation=error)
    tiles = [small_dataset.read(tile_id) for tile_id in small_dataset.split.test]
    for name in small_dataset.modalities:
        values = torch.cat([torch.from_numpy(normalizer(name, t.images[name])).flatten() for t in tiles])
        assert error.as_dict()[name]["l1"] == pytest.approx((values - 0.1).abs().mean().item(), rel=1e-5)
        assert error.as_dict()[name]["l1_of_mean"] == pytest.approx(values.abs().mean().item(), rel=1e-5)


def test_a_record_of_a_method_that_generates_holds_the_error_and_the_table_says_it(
    small_dataset, short_recipe, tmp_path
):
    run = Run("synthetic", small_dataset, short_recipe, torch.device("cpu"), tmp_path)
    record = run_cell(run, Cell("ae", 0))
    assert set(record.imputation) == {"irrg", "ndsm"}
    assert all(0 < found["l1"] < 2 for found in record.imputation.values())
    (board,) = leaderboards([record])
    words = console_table(board)
    assert f"ae: irrg {record.imputation['irrg']['l1']:.3f} (" in words
    assert "Generated images" in words
    other = run_cell(run, Cell("modality_dropout", 0))
    assert other.imputation == {}
    (board,) = leaderboards([other])
    assert "Generated images" not in console_table(board)
