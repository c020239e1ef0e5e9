"""Every scenario over the tiles of a split: windows, stitched probabilities, one confusion matrix a tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from mmbench.compilation import CompiledMethod
from mmbench.datasets._dataset import TEST_LABELS, Dataset, Labels, Role
from mmbench.devices import autocast
from mmbench.errors import CellFailedError, DataError
from mmbench.imputation import ImputationError
from mmbench.loading import read_window, stack
from mmbench.metrics import Confusion, confusion_matrix, scores
from mmbench.predictions import Predictions
from mmbench.recipe import EvaluationRecipe
from mmbench.records import matrix_name
from mmbench.scenarios.no_peek import check_no_peek
from mmbench.scenarios.scenario import Scenario, hide, whole_modality_scenarios
from mmbench.tile_reader import TileReader
from mmbench.transforms import Normalizer
from mmbench.truth import OtherTruth, other_truths
from mmbench.windows import Stitcher, grid
from mmbench_baselines.method import Method

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each tile of each scenario with (done, in all, figures)."""


Predictor = Method | CompiledMethod


@dataclass(frozen=True)
class Evaluation:
    """What a method gave on the test tiles.

    Attributes:
        confusions: Label policy, the protocol's first -> scenario -> (tiles, K, K) int64, tiles in the order
            of the split. All policies count the same predictions.
        predictions: Of one window of every tile under every scenario.
    """

    confusions: dict[Labels, dict[str, NDArray[np.int64]]]
    predictions: Predictions

    @property
    def headline(self) -> dict[str, NDArray[np.int64]]:
        """The matrices of the protocol's labels, scenario -> (tiles, K, K) int64."""
        return self.confusions[TEST_LABELS]

    def named_matrices(self) -> dict[str, NDArray[np.int64]]:
        """Return all matrices under the names by which a record stores them."""
        return self.headline | {
            matrix_name(scenario, policy): matrices
            for policy, by_scenario in self.confusions.items()
            for scenario, matrices in by_scenario.items()
            if policy != TEST_LABELS
        }


@dataclass(frozen=True)
class _PredictedTile:
    """A whole tile under one scenario: (H, W) uint8 classes and truth."""

    tile_id: str
    scenario: str
    prediction: NDArray[np.uint8]
    target: NDArray[np.uint8]


@dataclass(frozen=True)
class Evaluator:
    """Scores methods on one dataset under one recipe and device."""

    dataset: Dataset
    normalizer: Normalizer
    recipe: EvaluationRecipe
    device: torch.device
    precision: str = "float32"

    @property
    def scenarios(self) -> list[Scenario]:
        """The whole-modality scenarios, `full` first."""
        return whole_modality_scenarios(list(self.dataset.modalities))

    def confusions(
        self,
        method: Predictor,
        role: Role,
        labels: Labels,
        progress: Progress | None = None,
        imputation: ImputationError | None = None,
    ) -> dict[str, NDArray[np.int64]]:
        """Score every scenario on the tiles of a role.

        Args:
            method: To score, or graphs compiled of it; left in evaluation mode.
            role: Whose tiles.
            labels: Which labels are the truth.
            progress: Told after each tile of each scenario.
            imputation: Counts the error of the images that the method generates, if it does.

        Returns:
            Scenario name -> (tiles, K, K) int64, tiles in the order of the split.
        """
        found: dict[str, list[Confusion]] = {}
        for tile in self._predicted_tiles(method, role, labels, progress, imputation):
            found.setdefault(tile.scenario, []).append(self._count(tile, tile.target))
        return {scenario: np.stack(matrices) for scenario, matrices in found.items()}

    def evaluate(
        self,
        method: Predictor,
        progress: Progress | None = None,
        imputation: ImputationError | None = None,
    ) -> Evaluation:
        """Score every scenario on the test tiles, under every label policy that the dataset has of them.

        Args:
            method: To score, or graphs compiled of it; left in evaluation mode.
            progress: Told after each tile of each scenario.
            imputation: Counts the error of the images that the method generates, if it does.
        """
        policies: list[Labels] = [TEST_LABELS, *(truth.policy for truth in self._other_truths)]
        found: dict[Labels, dict[str, list[Confusion]]] = {policy: {} for policy in policies}
        predictions = Predictions()
        for tile in self._predicted_tiles(method, "test", TEST_LABELS, progress, imputation):
            targets = {truth.policy: truth.target(tile.tile_id) for truth in self._other_truths}
            for policy, target in {TEST_LABELS: tile.target, **targets}.items():
                found[policy].setdefault(tile.scenario, []).append(self._count(tile, target))
            predictions.add(tile.tile_id, tile.scenario, tile.prediction)
        confusions = {
            policy: {scenario: np.stack(matrices) for scenario, matrices in by_scenario.items()}
            for policy, by_scenario in found.items()
        }
        return Evaluation(confusions, predictions)

    def validation_miou(self, method: Method) -> float:
        """Return the mean mIoU over the scenarios on the validation tiles, full labels.

        Raises:
            DataError: If no scored class occurs on them.
        """
        confusions = self.confusions(method, "val", "full")
        values = [scores(c.sum(0), self.dataset.scored_classes).miou for c in confusions.values()]
        defined = [value for value in values if value is not None]
        if not defined:
            raise DataError(
                f"validation tiles {', '.join(self.dataset.split.val)} show no scored class; "
                "choose others, or none (then the last checkpoint is used)"
            )
        return float(np.mean(defined))

    def check_no_peek(self, name: str, method: Method) -> list[str]:
        """Prove on a batch of test windows that the method does not look at hidden content.

        Raises:
            ProtocolError: If it does.
        """
        # Of the size that is scored: a part of a method may work from a size on only. Of two modalities the
        # proof takes some 80 windows through the network and nine back, little beside a split of thousands.
        # Two windows at least: only a batch of mixed patterns shows a leak through batch statistics.
        tile_id = self.dataset.split.test[0]
        windows = grid(self.dataset.size(tile_id), self.recipe.window, 0)
        chosen = [windows[0], windows[-1], windows[len(windows) // 2]]
        batch = stack(
            [read_window(self.dataset, self.normalizer, tile_id, w, labels=TEST_LABELS) for w in chosen]
        ).to(self.device)
        return check_no_peek(name, method, batch.images, self.scenarios)

    @cached_property
    def _other_truths(self) -> tuple[OtherTruth, ...]:
        """The test tiles' truth under the policies beside the protocol's, read once for all methods."""
        return other_truths(self.dataset)

    def _count(self, tile: _PredictedTile, target: NDArray[np.uint8]) -> Confusion:
        """Count a tile's prediction against a truth, (H, W) uint8."""
        return confusion_matrix(target, tile.prediction, self.dataset.num_classes, self.dataset.ignore_index)

    def _predicted_tiles(
        self,
        method: Predictor,
        role: Role,
        labels: Labels,
        progress: Progress | None,
        imputation: ImputationError | None,
    ) -> Iterator[_PredictedTile]:
        """Yield every tile of a role under every scenario, scenario by scenario."""
        tiles = self.dataset.split.role(role)
        method.eval()
        done, in_all = 0, len(tiles) * len(self.scenarios)
        for scenario in self.scenarios:
            for tile_id in tiles:
                yield self._predict_tile(method, tile_id, scenario, labels, imputation)
                done += 1
                if progress is not None:
                    progress(done, in_all, {})

    @torch.no_grad()
    def _predict_tile(
        self,
        method: Predictor,
        tile_id: str,
        scenario: Scenario,
        labels: Labels,
        imputation: ImputationError | None,
    ) -> _PredictedTile:
        """Predict one tile under one scenario, and read its truth on the way."""
        size = self.dataset.size(tile_id)
        reader = TileReader(self.dataset, self.normalizer, tile_id, labels=labels)
        stitcher = Stitcher(self.dataset.num_classes, size)
        windows = grid(size, self.recipe.window, self.recipe.overlap)
        for part, images in reader.batches(windows, self.recipe.batch_size):
            present = scenario.rows(len(part), self.device)
            moved = {name: image.to(self.device) for name, image in images.items()}
            with autocast(self.device, self.precision):
                output = method(hide(moved, present), present)
            logits = output.logits.float()
            if imputation is not None:
                imputation.add(output.imputed, moved, present)
            # The extremes are finite only if all are, and take a fraction of the time of looking at each.
            if not bool(torch.stack(torch.aminmax(logits)).isfinite().all()):
                raise CellFailedError(
                    f"logits are not finite on tile {tile_id}, scenario {scenario.name!r}; "
                    "lower the learning rate or set training.gradient_clip"
                )
            for window, of_window in zip(part, logits, strict=True):
                stitcher.add(window, of_window.softmax(0))
        return _PredictedTile(tile_id, scenario.name, stitcher.prediction(), reader.target)
