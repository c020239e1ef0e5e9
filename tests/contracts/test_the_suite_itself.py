"""The contract suite fails a method for each clause that it breaks."""

import pytest
import torch
from torch import nn

from mmbench.testing import check_method
from mmbench_baselines.method import Method, Output
from mmbench_baselines.optim import build_optimizer


class Good(Method):
    """One convolution a modality, summed where present."""

    title, paper, source = "Good", "none", "none"
    size_multiple = 8

    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.convs = nn.ModuleDict({n: nn.Conv2d(c, num_classes, 1) for n, c in modalities.items()})

    def forward(self, images, present):
        self.check_input(images, present)
        zero = torch.zeros(())
        return Output(
            sum(
                torch.where(present[:, column, None, None, None], self.convs[name](image), zero)
                for column, (name, image) in enumerate(images.items())
            )
        )

    def loss(self, output, batch):
        return {
            "ce": nn.functional.cross_entropy(output.logits, batch.target, ignore_index=self.ignore_index)
        }


class NoSource(Good):
    source = ""


class WritesItsInput(Good):
    def forward(self, images, present):
        images["irrg"].mul_(0.5)
        return super().forward(images, present)


class HalfSize(Good):
    def forward(self, images, present):
        return Output(super().forward(images, present).logits[..., ::2, ::2])


class MixesSamples(Good):
    def forward(self, images, present):
        logits = super().forward(images, present).logits
        return Output(logits + logits.mean(0, keepdim=True))


class TakesAnySize(Good):
    def check_input(self, images, present):
        pass


class ForgetsAnOptimiser(Good):
    def configure_optimizers(self, params):
        return [build_optimizer(self.convs["irrg"].parameters(), params)]


class NeedsUndeclared(Good):
    def training_step(self, batch):
        return super().training_step(batch) | {"l1": batch.complete["irrg"].mean() * 0}


class KeepsStateElsewhere(Good):
    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.shift = torch.rand(1)

    def forward(self, images, present):
        return Output(super().forward(images, present).logits + self.shift)


class ImproperPatterns(Good):
    def patterns(self, step, total_steps):
        return {(False, False): 1.0}


class VectorLoss(Good):
    def loss(self, output, batch):
        return {"ce": super().loss(output, batch)["ce"].repeat(2)}


def test_a_method_that_keeps_the_contract_passes():
    check_method(Good)


@pytest.mark.parametrize(
    ("method_class", "words"),
    [
        (NoSource, "source is ''"),
        (WritesItsInput, r"wrote into images\['irrg'\]"),
        (HalfSize, "expected"),
        (MixesSamples, "with the batch it is in"),
        (TakesAnySize, "no multiple of 8"),
        (ForgetsAnOptimiser, "no optimiser holds"),
        (NeedsUndeclared, None),
        (KeepsStateElsewhere, "kept outside it"),
        (ImproperPatterns, "one True"),
        (VectorLoss, "expected a scalar"),
    ],
)
def test_each_broken_clause_is_found(method_class, words):
    expected = (AssertionError,) if words else (AssertionError, TypeError)
    with pytest.raises(expected, match=words):
        check_method(method_class)
