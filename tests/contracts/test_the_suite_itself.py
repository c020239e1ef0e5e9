"""The contract suite fails a method for each clause that it breaks, and says which."""

from types import MappingProxyType

import pytest
import torch
from torch import nn

from mmbench.errors import ProtocolError
from mmbench.testing import check_method
from mmbench_baselines.method import Method, Output
from mmbench_baselines.optim import build_optimizer


class Good(Method):
    """One convolution a modality, summed where present."""

    title, paper, source = "Good", "none", "none"
    size_multiple = 8
    size_minimum = 16

    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.convs = nn.ModuleDict({n: nn.Conv2d(c, num_classes, 1) for n, c in modalities.items()})

    def forward(self, images, present):
        self.check_input(images, present)
        return Output(self.features(images, present))

    def features(self, images, present):
        zero = torch.zeros(())  # a number without axes may stand on the CPU whatever the device
        return sum(
            torch.where(present[:, column, None, None, None], self.convs[name](image), zero)
            for column, (name, image) in enumerate(images.items())
        )

    def loss(self, output, batch):
        return {
            "ce": nn.functional.cross_entropy(output.logits, batch.target, ignore_index=self.ignore_index)
        }


class WithBatchNorm(Good):
    """Mixes the samples of a training batch, of what is present only."""

    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.norm = nn.BatchNorm2d(num_classes)
        self.dropout = nn.Dropout(0.3)

    def features(self, images, present):
        return self.dropout(self.norm(super().features(images, present)))


class LearnsFromHiddenAndSaysSo(Good):
    sees_hidden_in_training = True

    def training_step(self, batch):
        reconstruction = sum(
            (batch.complete[n] * c.weight.mean()).abs().mean() for n, c in self.convs.items()
        )
        return super().training_step(batch) | {"l1": reconstruction}


class ForTwoOnly(Good):
    def __init__(self, modalities, num_classes, **options):
        if len(modalities) != 2:
            raise ValueError(f"got {len(modalities)} modalities, expected 2: one is generated from the other")
        super().__init__(modalities, num_classes, **options)


class DropsPathsByBernoulli(Good):
    def features(self, images, present):
        logits = super().features(images, present)
        if not self.training:
            return logits
        kept = torch.bernoulli(torch.full_like(logits[:, :, :1, :1], 0.5))
        return logits * kept / 0.5


class MasksColumnsByAPermutation(Good):
    def features(self, images, present):
        logits = super().features(images, present)
        if not self.training:
            return logits
        width = logits.shape[-1]
        hidden = torch.randperm(width, device=logits.device)[: width // 4]
        return logits.index_fill(3, hidden, 0.0)


class ChoosesByGumbel(Good):
    def features(self, images, present):
        logits = super().features(images, present)
        return logits * nn.functional.gumbel_softmax(logits, dim=1) if self.training else logits


class WithBatchNormOfItsOwn(ForTwoOnly):
    """A function, no module, on one pixel an image, too, as a pooling branch has it."""

    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.register_buffer("mean", torch.zeros(num_classes))
        self.register_buffer("variance", torch.ones(num_classes))

    def features(self, images, present):
        logits = super().features(images, present)
        pooled = logits.mean((2, 3), keepdim=True)
        return sum(
            nn.functional.batch_norm(x, self.mean, self.variance, training=self.training)
            for x in (logits, pooled)
        )


@pytest.mark.parametrize(
    "method_class",
    [
        Good,
        WithBatchNorm,
        WithBatchNormOfItsOwn,
        DropsPathsByBernoulli,
        MasksColumnsByAPermutation,
        ChoosesByGumbel,
        LearnsFromHiddenAndSaysSo,
        ForTwoOnly,
    ],
)
def test_a_method_that_keeps_the_contract_passes(method_class):
    check_method(method_class)


# --- hidden content and other samples ---


class LooksAtTheInput(Good):
    def features(self, images, present):
        return sum(self.convs[name](image) for name, image in images.items())


class LooksThroughAMeanOverTheBatch(Good):
    def features(self, images, present):
        return super().features(images, present) + sum(image.mean() for image in images.values())


class LooksThroughBatchNorm(Good):
    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.norms = nn.ModuleDict({n: nn.BatchNorm2d(c) for n, c in modalities.items()})

    def features(self, images, present):
        return super().features({n: self.norms[n](image) for n, image in images.items()}, present)


class LooksWithThreeModalities(Good):
    def features(self, images, present):
        honest = super().features(images, present)
        return honest + images["sar"].mean((1, 2, 3), keepdim=True) if "sar" in images else honest


class ReadsCompleteUndeclared(Good):
    def training_step(self, batch):
        return super().training_step(batch) | {"l1": batch.complete["irrg"].mean() * 0}


class ReadsCompleteWhereItIsThere(Good):
    def training_step(self, batch):
        extra = {} if batch.complete is None else {"l1": batch.complete["irrg"].mean()}
        return super().training_step(batch) | extra


class ReadsCompleteInLoss(LearnsFromHiddenAndSaysSo):
    def loss(self, output, batch):
        return super().loss(output, batch) | {"l2": batch.complete["irrg"].square().mean()}


class LearnsFromAbsentSlots(Good):
    def training_step(self, batch):
        return super().training_step(batch) | {"l1": batch.images["ndsm"].abs().mean()}


class Remembers(Good):
    """Keeps the last image that was there, for when it is not."""

    last = None

    def features(self, images, present):
        if bool(present.all()) and not self.training:
            self.last = images["ndsm"].mean()
        memory = 0.0 if self.last is None else self.last
        return super().features(images, present) + memory


class RemembersByTheBatch(Good):
    """Uses what it saw complete only where a modality, over the whole batch, is what it was then."""

    bank = MappingProxyType({})

    def features(self, images, present):
        logits = super().features(images, present)
        if self.training:
            return logits
        keys = [float(image.sum()) for image in images.values()]
        if bool(present.all()):
            self.bank = dict.fromkeys(keys, logits.mean())
            return logits
        return logits + sum(self.bank.get(key, 0.0) for key in keys)


class LooksAtLargerImages(Good):
    def features(self, images, present):
        honest = super().features(images, present)
        larger = honest.shape[-1] > 48
        return honest + images["ndsm"].mean((1, 2, 3), keepdim=True) if larger else honest


class UpdatesItsStateInEvaluation(Good):
    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def features(self, images, present):
        self.seen += len(present)
        return super().features(images, present)


class MixesSamplesALittle(Good):
    def features(self, images, present):
        logits = super().features(images, present)
        return logits + 1e-12 * logits.mean(0, keepdim=True)


class MixesSamplesInTraining(Good):
    def features(self, images, present):
        logits = super().features(images, present)
        return logits - logits.mean(0, keepdim=True) if self.training else logits


class ShufflesSamplesInTraining(Good):
    def features(self, images, present):
        logits = super().features(images, present)
        if not self.training:
            return logits
        return logits + logits[torch.randperm(len(logits), device=logits.device)]


class MixesSamplesInABatchNorm(Good):
    """Not by the normalisation: it only is a class of that name."""

    class Norm(nn.BatchNorm2d):
        def forward(self, logits):
            return logits - logits.mean(0) if self.training else super().forward(logits)

    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.norm = self.Norm(num_classes)

    def features(self, images, present):
        return self.norm(super().features(images, present))


# --- shapes, types, devices, inputs ---


class ReturnsATensor(Good):
    def forward(self, images, present):
        return super().forward(images, present).logits


class HalfSize(Good):
    def features(self, images, present):
        return super().features(images, present)[..., ::2, ::2]


class DoubleLogits(Good):
    def features(self, images, present):
        return super().features(images, present).double()


class HalfLogitsUnderAutocast(Good):
    def features(self, images, present):
        logits = super().features(images, present)
        return logits.half() if torch.is_autocast_enabled("cpu") else logits


class WritesItsInput(Good):
    def forward(self, images, present):
        images["irrg"].mul_(0.5)
        return super().forward(images, present)


class WritesItsTarget(Good):
    def training_step(self, batch):
        batch.target[batch.target == self.ignore_index] = 0
        return super().training_step(batch)


class CreatesOnTheCPU(Good):
    def features(self, images, present):
        logits = super().features(images, present)
        return logits + torch.zeros(len(present), 1, 1, 1)


class NamesADevice(Good):
    def features(self, images, present):
        logits = super().features(images, present)
        return logits + torch.zeros(len(present), 1, 1, 1, device="cpu")


class MovesItsLogits(Good):
    def features(self, images, present):
        return super().features(images, present).cpu()


class CreatesOnTheCPUInItsLoss(Good):
    def loss(self, output, batch):
        weight = torch.ones(self.num_classes)
        logits, target = output.logits, batch.target
        return {"ce": nn.functional.cross_entropy(logits, target, weight, ignore_index=self.ignore_index)}


class TakesAnySize(Good):
    def check_input(self, images, present):
        pass


class RefusesWithoutTheSizeToPadTo(Good):
    def check_input(self, images, present):
        if any(side % 8 or side < 16 for side in images["irrg"].shape[-2:]):
            raise ValueError("wrong size")


class OfOneSize(Good):
    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.positions = nn.Parameter(torch.zeros(num_classes, 32, 32))

    def features(self, images, present):
        return super().features(images, present) + self.positions


class RefusesThreeWithoutAWord(Good):
    def __init__(self, modalities, num_classes, **options):
        if len(modalities) == 3:
            raise ValueError("no")
        super().__init__(modalities, num_classes, **options)


# --- training and state ---


class NoGradientForOnePattern(Good):
    """Takes the root of a square that is zero where the second modality is absent."""

    def features(self, images, present):
        seen = self.convs["ndsm"].bias * present[:, 1, None]  # (B, K)
        return super().features(images, present) + seen.square().sqrt()[:, :, None, None]


class InfiniteUnderAutocast(Good):
    def loss(self, output, batch):
        scale = float("inf") if output.logits.dtype == torch.bfloat16 else 1.0
        return {"ce": super().loss(output, batch)["ce"] * scale}


class VectorLoss(Good):
    def loss(self, output, batch):
        return {"ce": super().loss(output, batch)["ce"].repeat(2)}


class ForgetsAnOptimiser(Good):
    def configure_optimizers(self, params):
        return [build_optimizer(self.convs["irrg"].parameters(), params)]


class StepsTwice(Good):
    def configure_optimizers(self, params):
        one = self.convs["irrg"].parameters()
        return [*super().configure_optimizers(params), build_optimizer(one, params)]


class KeepsStateElsewhere(Good):
    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.shift = torch.rand(1)

    def features(self, images, present):
        return super().features(images, present) + self.shift


class ForgetsWhatItLearnt(Good):
    """Starts from the same number every time, so that only training tells."""

    steps = 0

    def training_step(self, batch):
        self.steps += 1
        return super().training_step(batch)

    def features(self, images, present):
        return super().features(images, present) * (1 + self.steps)


class ForgetsWhereAModalityIsMissing(KeepsStateElsewhere):
    def features(self, images, present):
        missing = ~present.all(dim=1)[:, None, None, None]
        return Good.features(self, images, present) + missing * self.shift


class NoSource(Good):
    source = ""


class ImproperPatterns(Good):
    def patterns(self, step, total_steps):
        return {(False, False): 1.0}


@pytest.mark.parametrize(
    ("method_class", "words"),
    [
        (LooksAtTheInput, "looks at hidden content: in scenario 'irrg', evaluation mode"),
        (LooksThroughAMeanOverTheBatch, "looks at hidden content"),
        (LooksThroughBatchNorm, "looks at hidden content: in scenario 'mixed', training mode"),
        (LooksWithThreeModalities, "when only the content of absent slots changes"),
        (ReadsCompleteUndeclared, "declare it by sees_hidden_in_training"),
        (ReadsCompleteWhereItIsThere, "declare it by sees_hidden_in_training"),
        (ReadsCompleteInLoss, "only training_step may"),
        (LearnsFromAbsentSlots, "'l1' moves by .* when only the content of absent slots changes"),
        (Remembers, "keep nothing between calls"),
        (RemembersByTheBatch, "keep nothing between calls"),
        (LooksAtLargerImages, "looks at hidden content: in scenario 'irrg', evaluation mode"),
        (UpdatesItsStateInEvaluation, r"evaluation changed \['seen'\]"),
        (MixesSamplesALittle, "in evaluation, a sample's logits move by"),
        (MixesSamplesInTraining, "in training, a sample's logits move by"),
        (ShufflesSamplesInTraining, "in training, a sample's logits move by"),
        (MixesSamplesInABatchNorm, "in training, a sample's logits move by"),
        (ReturnsATensor, "returned Tensor, expected Output"),
        (HalfSize, "expected"),
        (DoubleLogits, r"from float32 images, logits are torch\.float64"),
        (HalfLogitsUnderAutocast, r"under bfloat16 autocast, logits are torch\.float16"),
        (WritesItsInput, r"forward wrote into images\['irrg'\]"),
        (WritesItsTarget, "training_step wrote into target"),
        (CreatesOnTheCPU, "created on a fixed device"),
        (NamesADevice, "created on a fixed device"),
        (MovesItsLogits, "logits are on the CPU"),
        (CreatesOnTheCPUInItsLoss, "created on a fixed device"),
        (TakesAnySize, "33x32 was taken, though the method's sizes are multiples of 8 from 16"),
        (RefusesWithoutTheSizeToPadTo, "without its size to pad to, 40x32"),
        (OfOneSize, r"images of \(40, 48\) pixels failed"),
        (RefusesThreeWithoutAWord, "3 modalities were refused by 'no'"),
        (NoGradientForOnePattern, "scenario 'irrg': gradient of"),
        (InfiniteUnderAutocast, "under bfloat16 autocast: loss term 'ce' is inf"),
        (VectorLoss, "expected a scalar"),
        (ForgetsAnOptimiser, r"hold \{'convs.*0\} times; .* in exactly one"),
        (StepsTwice, r"hold \{'convs.irrg.weight': 2, .*\} times; .* in exactly one"),
        (KeepsStateElsewhere, "kept outside it"),
        (ForgetsWhatItLearnt, "kept outside it"),
        (ForgetsWhereAModalityIsMissing, "kept outside it"),
        (NoSource, "source is ''"),
        (ImproperPatterns, "one True"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_each_broken_clause_is_found(method_class, words):
    with pytest.raises((AssertionError, ProtocolError), match=words):
        check_method(method_class)
