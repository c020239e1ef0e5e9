"""AE: its size, its only generation loss, its one optimiser. What it shares is in test_imputation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmbench_baselines.ae import AE
from mmbench_baselines.optim import OptimizerParams


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small() -> AE:
    return AE({"irrg": 3, "ndsm": 1}, 5, base_width=2, generator_width=4)


def test_the_parameter_counts_are_the_specified_ones() -> None:
    with torch.device("meta"):
        method = AE({"rgb": 3, "ndsm": 1}, 5)
    assert size(method) == 4_208_501
    assert tuple(map(size, method.generators.values())) == (1_379_843, 1_379_841)
    assert tuple(map(size, method.encoders.values())) == (491_712, 491_568)
    # The heads of the coarser scales are in the count though nothing trains them.
    assert (size(method.decoder), size(method.decoder.side_heads)) == (465_537, 1_220)


def test_the_reconstruction_of_a_worked_case_is_5_times_its_l1() -> None:
    real, fake = torch.full((2, 1, 32, 32), 0.5), torch.full((2, 1, 32, 32), -0.25)
    terms = small().generation_terms("ndsm", torch.zeros(2, 3, 32, 32), real, fake)
    assert list(terms) == ["reconstruction"]
    assert terms["reconstruction"].item() == pytest.approx(3.75)


def test_all_that_is_imputed_passes_the_bottleneck() -> None:
    method = small()
    generator, image = method.generators["ndsm"], torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        generator.downs[-1].conv.weight.zero_()
        generator.downs[-1].conv.bias.zero_()
        first, second = generator(image), generator(-image)
    assert torch.equal(first, second)


def test_one_optimiser_of_the_given_kind_holds_everything() -> None:
    method = small()
    (optimizer,) = method.configure_optimizers(OptimizerParams("sgd", lr=0.5))
    assert (type(optimizer).__name__, optimizer.defaults["lr"]) == ("SGD", 0.5)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in method.parameters())


def test_the_parts_have_the_names_of_gemmnets() -> None:
    assert list(small().parts()) == ["encoder.irrg", "encoder.ndsm", "fusion_decoder", "generators"]
