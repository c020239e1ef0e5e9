"""The no-peek proof convicts every way of looking at hidden content, and no honest method."""

import pytest
import torch
from torch import nn

from mmbench.errors import CellFailedError, ProtocolError
from mmbench.scenarios.no_peek import check_no_peek
from mmbench.scenarios.scenario import whole_modality_scenarios
from mmbench_baselines.method import Method, Output

_MODALITIES = {"irrg": 3, "ndsm": 1}


class _Honest(Method):
    """Sums a convolution of each modality that is present."""

    title = paper = source = "test"

    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.convs = nn.ModuleDict({n: nn.Conv2d(c, num_classes, 1) for n, c in modalities.items()})

    def features(self, images, present):
        zero = torch.zeros(())
        return sum(
            torch.where(present[:, column, None, None, None], self.convs[name](image), zero)
            for column, (name, image) in enumerate(images.items())
        )

    def forward(self, images, present):
        return Output(self.features(images, present))

    def loss(self, output, batch):
        return {"ce": nn.functional.cross_entropy(output.logits, batch.target)}


class _LooksAtTheInput(_Honest):
    def features(self, images, present):
        return sum(self.convs[name](image) for name, image in images.items())


class _LooksAtABatchStatistic(_Honest):
    """Honest in each sample alone; its normalisation mixes samples."""

    def features(self, images, present):
        mean = sum(image.mean() for image in images.values())
        return super().features(images, present) + mean


class _LooksInTrainingOnly(_Honest):
    def features(self, images, present):
        honest = super().features(images, present)
        return honest + images["ndsm"].mean() if self.training else honest


class _LooksWithoutAGradient(_Honest):
    def features(self, images, present):
        return super().features(images, present) + images["ndsm"].detach().mean((1, 2, 3), keepdim=True)


class _NormalisesWhatIsHidden(_Honest):
    """Sees nothing in a constant, whatever its value; sees any real image."""

    def features(self, images, present):
        image = images["ndsm"].detach()
        return super().features(images, present) + (image - image.mean((2, 3), keepdim=True)).sign()


class _GradientOnly(_Honest):
    """Its values do not move, but training would pull on the hidden content."""

    def features(self, images, present):
        leak = images["irrg"].mean()
        return super().features(images, present) + (leak - leak.detach())


class _Remembers(_Honest):
    """Keeps what it saw complete, by the sum of each modality over the batch, for when one is hidden."""

    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.bank = {}

    def forward(self, images, present):
        output = super().forward(images, present)
        if self.training:
            return output
        keys = [float(image.sum()) for image in images.values()]
        if bool(present.all()):
            self.bank.update(dict.fromkeys(keys, output.logits.mean()))
            return output
        return Output(output.logits + sum(self.bank.get(key, 0) for key in keys))


class _Shared(dict):
    def __deepcopy__(self, memo):
        return self


class _RemembersInAllItsCopies(_Remembers):
    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.bank = _Shared()


def _check(method_class):
    torch.manual_seed(0)
    method = method_class(_MODALITIES, 4)
    images = {name: torch.rand(3, channels, 8, 8) for name, channels in _MODALITIES.items()}
    return check_no_peek("it", method, images, whole_modality_scenarios(list(_MODALITIES)))


def test_an_honest_method_passes_in_every_scenario_and_a_mixed_batch():
    assert _check(_Honest) == ["irrg", "ndsm", "mixed"]


@pytest.mark.parametrize(
    ("method_class", "words"),
    [
        (_LooksAtTheInput, "evaluation mode"),
        (_LooksAtABatchStatistic, "evaluation mode"),
        (_LooksInTrainingOnly, "training mode"),
        (_LooksWithoutAGradient, "evaluation mode"),
        (_NormalisesWhatIsHidden, "evaluation mode"),
        (_GradientOnly, "gradient"),
    ],
)
def test_each_leak_is_convicted(method_class, words):
    with pytest.raises(ProtocolError, match=f"'it' looks at hidden content.*{words}"):
        _check(method_class)


def test_a_leak_only_between_samples_is_seen_by_the_mixed_batch():
    class OnlyAcross(_Honest):
        def features(self, images, present):
            # Where all rows hide the same modality, its mean is not used; only a mixed batch shows the leak.
            mixed = bool(present.any(0).all()) and not bool(present.all())
            return super().features(images, present) + (images["ndsm"].mean() if mixed else 0)

    with pytest.raises(ProtocolError, match="'mixed'"):
        _check(OnlyAcross)


@pytest.mark.parametrize("method_class", [_Remembers, _RemembersInAllItsCopies])
def test_what_was_seen_complete_may_not_stand_in_for_what_is_hidden_later(method_class):
    with pytest.raises(
        ProtocolError, match=r"scenario 'irrg', evaluation mode.*seen the same images complete"
    ):
        _check(method_class)


def test_the_proof_leaves_the_method_and_the_random_state_as_they_were():
    class WithRunningStatistics(_Honest):
        def __init__(self, modalities, num_classes, **options):
            super().__init__(modalities, num_classes, **options)
            self.norm = nn.BatchNorm2d(num_classes)

        def features(self, images, present):
            return self.norm(super().features(images, present))

    method = WithRunningStatistics(_MODALITIES, 4)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    images = {name: torch.rand(2, channels, 8, 8) for name, channels in _MODALITIES.items()}
    state = torch.get_rng_state()
    check_no_peek("it", method, images, whole_modality_scenarios(list(_MODALITIES)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    assert method.training


def test_logits_that_are_not_finite_are_a_failure_and_no_conviction():
    class Diverged(_Honest):
        def forward(self, images, present):
            return Output(self.features(images, present) * float("nan"))

    with pytest.raises(CellFailedError, match="not finite; did its training diverge"):
        _check(Diverged)


def test_logits_of_a_wrong_shape_break_the_protocol():
    class Wrong(_Honest):
        def forward(self, images, present):
            return Output(self.features(images, present)[..., ::2])

    with pytest.raises(ProtocolError, match="logits of shape"):
        _check(Wrong)
