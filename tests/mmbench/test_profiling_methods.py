"""Counts of whole methods: parts, scenarios, and that nothing is changed by counting."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmbench.profiling.counts import DRY_RUN, count_method
from mmbench.profiling.report import LOSS, OTHER, Work
from mmbench.registry import find, names
from mmbench.scenarios.scenario import whole_modality_scenarios
from mmbench_baselines.method import Batch, Method, Output

MODALITIES = {"irrg": 3, "ndsm": 1}
SCENARIOS = whole_modality_scenarios(list(MODALITIES))
TINY = {
    "gemmnet": {
        "train_size": 32,
        "token_width": 32,
        "hidden_width": 32,
        "generator_width": 4,
        "discriminator_width": 4,
    },
    "mmformer": {"train_size": 32, "token_width": 32, "hidden_width": 32},
    "shaspec": {"width": 8},
    "cgan": {"discriminator_width": 4},
}


class TwoParts(Method):
    """A convolution a part, one of them shared by two branches, and a product that is no module's."""

    title = "two parts"
    paper = source = ""

    def __init__(self, modalities, num_classes, *, ignore_index: int = 255) -> None:
        super().__init__(modalities, num_classes, ignore_index=ignore_index)
        self.encoder = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1)])
        self.head = nn.Conv2d(4, num_classes, 1)

    def forward(self, images, present: Tensor) -> Output:
        features = self.encoder[0](images["irrg"])
        mixed = torch.matmul(features, features.mean(dim=(0, 1)))
        return Output(self.head(torch.relu(mixed)))

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        return {
            "ce": nn.functional.cross_entropy(output.logits, batch.target, ignore_index=self.ignore_index)
        }


def parts_of(case):
    return {share.name: share.costs for share in case.parts}


def summed(costs, name):
    return sum((getattr(c, name) for c in costs), Work())


def test_backward_is_attributed_to_the_part_whose_forward_made_it():
    case, *_ = count_method(TwoParts(MODALITIES, 5), SCENARIOS[:1], [2], 8).cases
    parts = parts_of(case)
    assert list(parts) == ["encoder", "head", LOSS, OTHER]
    encoder, head, product = 2 * 2 * 64 * 4 * 27, 2 * 2 * 64 * 5 * 4, 2 * 2 * 4 * 8 * 8 * 8
    assert parts["encoder"].training_forward.flops == encoder
    assert parts["encoder"].training_backward.flops == encoder  # the images need no gradient
    assert parts["head"].training_backward.flops == 2 * head
    assert parts[OTHER].training_forward.flops == product
    assert parts[OTHER].training_backward.flops == 2 * product
    assert parts[LOSS].training_forward.flops == parts[LOSS].training_backward.flops == 0
    assert parts[LOSS].training_backward.launches > 0


def test_checkpointed_modules_are_counted_again_in_their_own_part():
    class Checkpointed(TwoParts):
        def forward(self, images, present: Tensor) -> Output:
            def encode(image: Tensor) -> Tensor:
                return torch.relu(self.encoder[0](image))  # its output is needed, so it is computed again

            return Output(self.head(checkpoint(encode, images["irrg"], use_reentrant=False)))

    parts = parts_of(count_method(Checkpointed(MODALITIES, 5), SCENARIOS[:1], [1], 8).cases[0])
    assert parts["encoder"].training_backward.flops == 2 * parts["encoder"].training_forward.flops


@pytest.mark.parametrize("name", names("method"))
def test_every_method_is_counted_dry_under_every_scenario_and_its_parts_sum_to_the_whole(name):
    method = find("method", name)(MODALITIES, 5, **TINY.get(name, {}))
    side = max(32, method.size_minimum)
    counts = count_method(method, SCENARIOS, [2], side)
    assert counts.counted_on == DRY_RUN
    assert [case.scenario for case in counts.cases] == [scenario.name for scenario in SCENARIOS]
    assert 0 < counts.parameters_inference <= sum(p.numel() for p in method.parameters())
    for case in counts.cases:
        # A unimodal method has nothing to learn from a batch without its modality.
        assert case.costs.inference.flops > 0 or name == "unimodal"
        for shares in (case.parts, case.operators):
            for pass_name in ("inference", "training_forward", "training_backward"):
                whole = getattr(case.costs, pass_name)
                assert summed([s.costs for s in shares], pass_name) == whole
        assert sum(s.costs.saved_bytes for s in case.parts) == case.costs.saved_bytes
    assert count_method(method, SCENARIOS, [2], side).cases == counts.cases  # and again the same


@pytest.mark.parametrize("name", ["gemmnet", "modality_dropout", "shaspec"])
def test_a_dry_run_of_a_method_counts_what_its_real_run_counts(name):
    torch.manual_seed(0)
    method = find("method", name)(MODALITIES, 5, **TINY.get(name, {}))
    side = max(32, method.size_minimum)
    dry = count_method(method, SCENARIOS, [2], side)
    real = count_method(method, SCENARIOS, [2], side, finish=lambda: None)
    assert real.counted_on == "cpu"
    for one, other in zip(dry.cases, real.cases, strict=True):
        for name_of_pass in ("inference", "training_forward", "training_backward"):
            assert getattr(one.costs, name_of_pass) == getattr(other.costs, name_of_pass)
        assert sum(share.inference_time for share in other.parts) == pytest.approx(1)
        assert sum(share.training_time for share in other.operators) == pytest.approx(1)


def test_counting_changes_neither_the_method_nor_a_random_state():
    method = find("method", "gemmnet")(MODALITIES, 5, preset="released", **TINY["gemmnet"])
    method.train()
    before, state = copy.deepcopy(method.state_dict()), torch.get_rng_state()
    count_method(method, SCENARIOS, [2], 32)
    count_method(method, SCENARIOS, [2], 32, finish=lambda: None)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    assert method.training
    assert all(p.grad is None for p in method.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in method.modules())
    assert "loss" not in vars(method)


def test_a_method_that_cannot_run_dry_is_counted_on_its_device():
    class Reading(TwoParts):
        def forward(self, images, present: Tensor) -> Output:
            if float(images["irrg"].abs().max()) == 0:
                raise RuntimeError("an image without content")
            return super().forward(images, present)

    counts = count_method(Reading(MODALITIES, 5), SCENARIOS[:1], [1], 8)
    assert counts.counted_on == "cpu"
    assert (
        counts.cases[0].costs.inference
        == (
            count_method(TwoParts(MODALITIES, 5), SCENARIOS[:1], [1], 8).cases[0].costs.inference
            + Work(bytes=0)
        )
        or counts.cases[0].costs.inference.flops > 0
    )


# GFLOP of methods.md, section 6, at 512 x 512: an image at inference, full / miss ndsm / miss rgb.
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("gemmnet", {"preset": "released"}, (25.6, 36.8, 36.9)),
        ("mmformer", {}, (71.1, None, None)),
        ("mmformer", {"token_width": 256, "hidden_width": 512}, (25.6, None, None)),
        ("shaspec", {}, (172, None, None)),
        ("shaspec", {"width": 32}, (44, None, None)),
        ("ae", {}, (14.4, 21.1, 21.1)),
        ("cgan", {}, (14.4, 23.3, 23.5)),
    ],
)
def test_inference_agrees_with_the_published_methods_within_a_percent(name, options, expected):
    # A blank: our default leaves out the branches of an absent modality, which the published code runs.
    method = find("method", name)({"irrg": 3, "ndsm": 1}, 5, **options)
    cases = count_method(method, SCENARIOS, [1], 512, training=False).cases
    for case, giga in zip(cases, expected, strict=True):
        if giga is not None:
            assert case.costs.inference.flops / 1e9 == pytest.approx(giga, rel=0.01), case.scenario


def test_a_training_step_of_the_released_gemmnet_agrees_part_by_part():
    method = find("method", "gemmnet")(MODALITIES, 5, preset="released")
    full, missing_ndsm, missing_irrg = count_method(method, SCENARIOS, [2], 512).cases
    assert full.costs.training_forward.flops / 1e9 == pytest.approx(116, rel=0.01)
    # Fused attention keeps no matrix and computes the scores once more in backward: 2 FLOP for each pair of
    # 1024 tokens in two modalities and of 2048 in both, 8 heads of width 32, 2 images.
    scores = 2 * 2 * (2 * 1024**2 + 2048**2) * 8 * 32 / 1e9
    assert full.costs.training.flops / 1e9 == pytest.approx(258 + scores, rel=0.005)
    for case, encoder, judged, forward, whole in (
        (missing_ndsm, 3.7, 25.6, 277, 769),
        (missing_irrg, 3.7, 26.1, 280, 778),
    ):
        # The published step also encodes the hidden image, and judges the generated one twice.
        spared = 2 * (encoder + judged)
        assert case.costs.training_forward.flops / 1e9 == pytest.approx(forward - spared, rel=0.01)
        # Of the pass that is left, backward has the weights' part (2 units) and the image's (1), not 2 + 2.
        spared += 2 * judged
        assert case.costs.training.flops / 1e9 == pytest.approx(whole - spared + scores, rel=0.01)
    per_image = {
        "encoder.irrg": 3.74,
        "encoder.ndsm": 3.66,
        "intra": 2 * 2.15 + 0.13,
        "inter": 6.44 + 0.27,
        "fusion_decoder": 7.02,
        "modality_decoder": 2 * 4.99,
        "generators": 11.25 * 2,
    }
    parts = parts_of(full)
    for name, giga in per_image.items():
        assert parts[name].training_forward.flops / 2e9 == pytest.approx(giga, rel=0.01), name
    judging = parts_of(missing_ndsm)["discriminators"]
    assert judging.training_forward.flops / 2e9 == pytest.approx(2 * 25.6, rel=0.01)
    assert judging.training_backward.flops / 2e9 == pytest.approx((2 + 2 + 1) * 25.6, rel=0.01)
