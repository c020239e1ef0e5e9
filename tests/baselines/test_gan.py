"""One pass of a discriminator for both adversarial terms, against the two passes it stands for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmbench_baselines.blocks.gan import (
    PatchDiscriminator,
    adversarial_loss,
    discriminator_loss,
    separate_losses,
)


def scene(norm: Any, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Return a discriminator, conditions, real images and generated ones."""
    torch.manual_seed(0)
    judge = PatchDiscriminator(4, 4, norm=norm).to(dtype)
    given, real, fake = (torch.randn(2, channels, 48, 48, dtype=dtype) for channels in (3, 1, 1))
    return judge, given, real, fake.requires_grad_()


def two_passes(judge: nn.Module, given: Tensor, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    return (
        discriminator_loss(judge, given, real, fake),
        adversarial_loss(judge, given, fake, freeze=True),
    )


def count_passes(judge: nn.Module) -> list[int]:
    passes: list[int] = []
    judge.register_forward_hook(lambda *_: passes.append(1))
    return passes


@pytest.mark.parametrize(("judged", "fooled"), [(1.0, 1.0), (0.3, -0.7), (1.0, 0.0), (0.0, 1.0)])
def test_the_shared_pass_gives_the_terms_and_gradients_of_two(judged: float, fooled: float) -> None:
    judge, given, real, fake = scene("instance")
    found = []
    for form in (separate_losses, two_passes):
        terms = form(judge, given, real, fake)
        total = judged * terms[0] + fooled * terms[1]
        found.append((*terms, *torch.autograd.grad(total, [fake, *judge.parameters()])))
    assert all(tensor.any() for tensor in found[1][:2])
    for shared, apart in zip(*found, strict=True):
        torch.testing.assert_close(shared, apart, rtol=1e-12, atol=1e-15)


def test_generated_images_are_judged_once() -> None:
    judge, given, real, fake = scene("instance")
    passes = count_passes(judge)
    separate_losses(judge, given, real, fake)
    assert len(passes) == 2  # the real ones are the other


def test_each_term_reaches_its_own_side_alone() -> None:
    judge, given, real, fake = scene("instance")
    judged, fooled = separate_losses(judge, given, real, fake)
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
        for form in (separate_losses, two_passes)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-15)


def test_running_statistics_move_as_with_two_passes() -> None:
    states, terms = [], []
    for form in (separate_losses, two_passes):
        judge, given, real, fake = scene("batch")
        terms.append(form(judge, given, real, fake))
        states.append(judge.state_dict())
    assert states[0]["norms.1.num_batches_tracked"] == 3
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert terms[0] == terms[1]


def test_the_shared_pass_keeps_less_for_backward() -> None:
    judge, given, real, fake = scene("instance", torch.float32)
    sizes = []
    for form in (separate_losses, two_passes):
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
