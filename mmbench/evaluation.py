"""Every scenario over the tiles of a split: windows, stitched probabilities, one confusion matrix a tile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
from mmbench.recipe import EvaluationRecipe
from mmbench.scenarios.no_peek import check_no_peek
from mmbench.scenarios.scenario import Scenario, hide, whole_modality_scenarios
from mmbench.tile_reader import TileReader
from mmbench.transforms import Normalizer
from mmbench.windows import Stitcher, grid
from mmbench_baselines.method import Method

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each tile of each scenario with (done, in all, figures)."""


Predictor = Method | CompiledMethod


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
        tiles = self.dataset.split.role(role)
        method.eval()
        result: dict[str, NDArray[np.int64]] = {}
        for s, scenario in enumerate(self.scenarios):
            matrices = []
            for t, tile_id in enumerate(tiles):
                matrices.append(self._tile_confusion(method, tile_id, scenario, labels, imputation))
                if progress is not None:
                    progress(s * len(tiles) + t + 1, len(tiles) * len(self.scenarios), {})
            result[scenario.name] = np.stack(matrices)
        return result

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

    @torch.no_grad()
    def _tile_confusion(
        self,
        method: Predictor,
        tile_id: str,
        scenario: Scenario,
        labels: Labels,
        imputation: ImputationError | None,
    ) -> Confusion:
        """Predict one tile under one scenario and count it against the truth."""
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
        return confusion_matrix(
            reader.target, stitcher.prediction(), self.dataset.num_classes, self.dataset.ignore_index
        )
