"""One pass of a discriminator for both adversarial terms, against the two passes it stands for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_baselines.blocks.gan import (
    PatchDiscriminator,
    adversarial_losses,
)


def scene(norm: Any, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Return a discriminator, conditions, real images and generated ones."""
    torch.manual_seed(0)
    judge = PatchDiscriminator(4, 4, norm=norm).to(dtype)
    given, real, fake = (torch.randn(2, channels, 48, 48, dtype=dtype) for channels in (3, 1, 1))
    return judge, given, real, fake.requires_grad_()


def one_pass(
    judge: nn.Module, given: Tensor, real: Tensor, fake: Tensor, *, freeze: bool = True
) -> tuple[Tensor, Tensor]:
    return adversarial_losses(judge, given, real, fake, freeze=freeze)


def two_passes(
    judge: nn.Module, given: Tensor, real: Tensor, fake: Tensor, *, freeze: bool = True
) -> tuple[Tensor, Tensor]:
    on_real, on_detached = judge(given, real), judge(given, fake.detach())
    frozen = {name: parameter.detach() for name, parameter in judge.named_parameters()}
    on_fake = torch.func.functional_call(judge, frozen, (given, fake)) if freeze else judge(given, fake)
    against_real = F.binary_cross_entropy_with_logits(on_real, torch.ones_like(on_real))
    against_fake = F.binary_cross_entropy_with_logits(on_detached, torch.zeros_like(on_detached))
    fooled = F.binary_cross_entropy_with_logits(on_fake, torch.ones_like(on_fake))
    return (against_real + against_fake) / 2, fooled


def count_passes(judge: nn.Module) -> list[int]:
    passes: list[int] = []
    judge.register_forward_hook(lambda *_: passes.append(1))
    return passes


@pytest.mark.parametrize(("judged", "fooled"), [(1.0, 1.0), (0.3, -0.7), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("freeze", [True, False])
def test_the_shared_pass_gives_the_terms_and_gradients_of_two(
    judged: float, fooled: float, norm: Any, freeze: bool
) -> None:
    judge, given, real, fake = scene(norm)
    found = []
    for form in (one_pass, two_passes):
        terms = form(judge, given, real, fake, freeze=freeze)
        total = judged * terms[0] + fooled * terms[1]
        found.append((*terms, *torch.autograd.grad(total, [fake, *judge.parameters()])))
    assert all(tensor.any() for tensor in found[1][:2])
    for shared, apart in zip(*found, strict=True):
        torch.testing.assert_close(shared, apart, rtol=1e-12, atol=1e-15)


def test_generated_images_are_judged_once() -> None:
    judge, given, real, fake = scene("instance")
    passes = count_passes(judge)
    one_pass(judge, given, real, fake)
    assert len(passes) == 2  # the real ones are the other


def test_each_term_reaches_its_own_side_alone() -> None:
    judge, given, real, fake = scene("instance")
    judged, fooled = one_pass(judge, given, real, fake)
    fooled.backward()  # nor does it take the other's graph with it
    assert fake.grad is not None
    assert all(parameter.grad is None for parameter in judge.parameters())
    fake.grad = None
    judged.backward()
    assert fake.grad is None
    assert all(parameter.grad is not None for parameter in judge.parameters())


def test_a_generator_that_needs_no_gradient_leaves_the_discriminator_its_own() -> None:
    judge, given, real, fake = scene("instance")
    parameters = list(judge.parameters())
    parameters[0].requires_grad_(False)
    found = [
        torch.autograd.grad(form(judge, given, real, fake.detach())[0], parameters[1:])
        for form in (one_pass, two_passes)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-15)


def test_running_statistics_move_as_with_two_passes() -> None:
    states = []
    for form in (one_pass, two_passes):
        judge, given, real, fake = scene("batch")
        form(judge, given, real, fake)
        states.append(judge.state_dict())
    assert states[0]["norms.1.num_batches_tracked"] == 3
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-12, atol=1e-12)


def test_the_shared_pass_keeps_less_for_backward() -> None:
    judge, given, real, fake = scene("instance", torch.float32)
    sizes = []
    for form in (one_pass, two_passes):
        kept: dict[int, int] = {}

        def note(saved: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
            return saved

        # The hooks see the graph inside the shared pass too.
        with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
            terms = form(judge, given, real, fake)
        sizes.append(sum(kept.values()))
        del terms
    assert sizes[0] < 0.75 * sizes[1]
