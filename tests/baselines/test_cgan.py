"""cGAN: its size, its adversarial terms and who learns from them. What it shares is in test_imputation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_baselines.cgan import CGAN
from mmbench_baselines.method import Batch
from mmbench_baselines.optim import OptimizerParams


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small() -> CGAN:
    torch.manual_seed(0)
    return CGAN({"irrg": 3, "ndsm": 1}, 5, base_width=2, generator_width=4, discriminator_width=4).double()


def pairs(batch_size: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"irrg": 3, "ndsm": 1}
    return {
        name: torch.rand(batch_size, channels, 32, 48, generator=generator, dtype=torch.float64) * 2 - 1
        for name, channels in shapes.items()
    }


def full_batch() -> Batch:
    images = pairs()
    target = torch.arange(2 * 32 * 48).reshape(2, 32, 48) % 5
    return Batch(images, torch.ones(2, 2, dtype=torch.bool), target, images)


def gradients(module: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in module.parameters() if p.requires_grad]


def answer_always(method: CGAN, name: str, logit: float) -> None:
    """Make a discriminator give this logit to every patch."""
    last = method.discriminators[name].convs[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(logit)


def test_the_parameter_counts_are_the_specified_ones() -> None:
    with torch.device("meta"):
        method = CGAN({"rgb": 3, "ndsm": 1}, 5)
    assert size(method) == 10_073_335
    assert tuple(map(size, method.generators.values())) == (1_545_219, 1_544_193)
    assert tuple(map(size, method.discriminators.values())) == (2_767_553, 2_767_553)
    assert tuple(map(size, method.encoders.values())) == (491_712, 491_568)
    # The heads of the coarser scales are in the count though nothing trains them.
    assert (size(method.decoder), size(method.decoder.side_heads)) == (465_537, 1_220)


# --- the terms ---------------------------------------------------------------------------------------------


def test_the_terms_of_a_worked_case_are_those_of_the_formulas() -> None:
    method = small()
    # Every patch is called real with probability 3/4.
    answer_always(method, "ndsm", math.log(3))
    given = torch.zeros(2, 3, 32, 32, dtype=torch.float64)
    real, fake = torch.full_like(given[:, :1], 0.5), torch.full_like(given[:, :1], -0.25)
    terms = {k: t.item() for k, t in method.generation_terms("ndsm", given, real, fake).items()}
    called_real, called_fake = -math.log(3 / 4), -math.log(1 / 4)
    assert list(terms) == ["discriminator", "adversarial", "reconstruction"]
    assert terms["discriminator"] == pytest.approx((called_real + called_fake) / 2)
    assert terms["adversarial"] == pytest.approx(0.05 * called_real)
    assert terms["adversarial"] + terms["reconstruction"] == pytest.approx(0.05 * (called_real + 100 * 0.75))


def test_the_adversarial_terms_are_cross_entropies_of_the_discriminators_patches() -> None:
    method, images = small(), pairs()
    given, real = images["irrg"], images["ndsm"]
    fake = method.generators["ndsm"](given)
    terms = method.generation_terms("ndsm", given, real, fake)
    judge = method.discriminators["ndsm"]
    on_real, on_fake = judge(given, real), judge(given, fake)
    assert on_real.shape == (2, 1, 2, 4)
    halved = (F.softplus(-on_real).mean() + F.softplus(on_fake).mean()) / 2
    assert terms["discriminator"].item() == pytest.approx(halved.item(), rel=1e-12)
    assert terms["adversarial"].item() == pytest.approx(0.05 * F.softplus(-on_fake).mean().item(), rel=1e-12)


def test_a_discriminator_sees_the_source_beside_the_real_and_the_generated_image() -> None:
    method, batch, seen = small(), full_batch(), []
    assert batch.complete is not None
    for name, judge in method.discriminators.items():
        judge.register_forward_pre_hook(lambda _m, inputs, name=name: seen.append((name, *inputs)))
    method.training_step(batch)
    assert [name for name, *_ in seen] == ["irrg"] * 2 + ["ndsm"] * 2
    for name, condition, candidate in seen:
        source = {"irrg": "ndsm", "ndsm": "irrg"}[name]
        assert torch.equal(condition, batch.complete[source])
        fake = method.generators[name](batch.complete[source])
        assert torch.equal(candidate, batch.complete[name]) or torch.equal(candidate, fake)
    assert sum(torch.equal(c, batch.complete[n]) for n, _, c in seen) == 2


# --- who learns from what ----------------------------------------------------------------------------------


def test_the_generators_loss_never_reaches_a_discriminator() -> None:
    method = small()
    terms = method.training_step(full_batch())
    kept = [t for name, t in terms.items() if not name.startswith("discriminator")]
    torch.stack(kept).sum().backward()
    assert all(grad is None for grad in gradients(method.discriminators))
    assert all(grad is not None for grad in gradients(method.generators))


def test_the_discriminators_loss_reaches_nothing_else() -> None:
    method = small()
    terms = method.training_step(full_batch())
    (terms["discriminator.irrg"] + terms["discriminator.ndsm"]).backward()
    assert all(grad is not None for grad in gradients(method.discriminators))
    rest = (method.generators, method.encoders, method.decoder)
    assert all(grad is None for part in rest for grad in gradients(part))


def test_the_adversarial_term_moves_a_generator_towards_being_called_real() -> None:
    method, batch = small(), full_batch()
    before = method.training_step(batch)["adversarial.ndsm"]
    before.backward()
    with torch.no_grad():
        for parameter in method.generators["ndsm"].parameters():
            parameter -= 1e-3 * parameter.grad / parameter.grad.norm().clamp(min=1e-12)
    assert method.training_step(batch)["adversarial.ndsm"] < before


def test_the_discriminators_take_no_step_without_their_own_loss() -> None:
    method = small()
    *_, discriminators = method.configure_optimizers(OptimizerParams())
    # Weights only: the gradient of a bias that feeds a normalisation is zero but for rounding.
    weights = [p for p in method.discriminators.parameters() if p.ndim > 1]
    before = [p.detach().clone() for p in weights]
    terms = method.training_step(full_batch())
    torch.stack([t for n, t in terms.items() if not n.startswith("discriminator")]).sum().backward()
    discriminators.step()
    assert all(torch.equal(*p) for p in zip(before, weights, strict=True))
    (terms["discriminator.irrg"] + terms["discriminator.ndsm"]).backward()
    discriminators.step()
    assert not any(torch.equal(*p) for p in zip(before, weights, strict=True))


def test_three_optimisers_share_the_parameters_out() -> None:
    method = small()
    optimizers = method.configure_optimizers(OptimizerParams("sgd", lr=0.5))
    assert [(type(o).__name__, o.defaults["lr"], o.defaults.get("betas")) for o in optimizers] == [
        ("SGD", 0.5, None),
        ("Adam", 2e-4, (0.5, 0.999)),
        ("Adam", 2e-4, (0.5, 0.999)),
    ]
    held = [[id(p) for group in o.param_groups for p in group["params"]] for o in optimizers]
    assert held[1] == [id(p) for p in method.generators.parameters()]
    assert held[2] == [id(p) for p in method.discriminators.parameters()]
    assert sorted(itertools.chain(*held)) == sorted(id(p) for p in method.parameters())


def test_the_parts_have_the_names_of_gemmnets() -> None:
    names = ["encoder.irrg", "encoder.ndsm", "fusion_decoder", "generators", "discriminators"]
    assert list(small().parts()) == names
