"""Seeded batches that a method can take, as the harness makes them.

Axes: B batch, M modality, C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from mmbench.scenarios.scenario import Scenario, hide, whole_modality_scenarios
from mmbench.testing._require import require
from mmbench_baselines.method import Batch, Method

LEAST_SIDE = 32
"""Of a window, pixels; recipes have no smaller ones."""
LARGER_SIDE = 96
"""Of the few checks that are done on larger windows too, pixels; all would take nine times as long."""


def example_side(method: Method, least: int = LEAST_SIDE) -> int:
    """Return the smallest side from `least` on, pixels, that the method takes."""
    return -(-max(least, method.size_minimum) // method.size_multiple) * method.size_multiple


def example_images(
    method: Method, batch_size: int, *, seed: int = 1, size: tuple[int, int] | None = None
) -> dict[str, Tensor]:
    """Return images in [-1, 1], modality -> (B, C, H, W) float32, nothing hidden.

    Args:
        method: Its modalities and sizes are kept to.
        batch_size: B.
        seed: Of the values.
        size: (H, W); None is the smallest square.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size or (example_side(method),) * 2
    return {
        name: torch.rand(batch_size, channels, height, width, generator=generator) * 2 - 1
        for name, channels in method.modalities.items()
    }


def scenarios_of(method: Method) -> list[Scenario]:
    """Return the scenarios of a method's modalities, `full` first."""
    return whole_modality_scenarios(list(method.modalities))


def every_pattern(method: Method) -> Tensor:
    """Return all presence patterns as the rows of one batch, (2^M - 1, M) bool."""
    return torch.tensor([scenario.present for scenario in scenarios_of(method)])


def example_batch(method: Method, present: Tensor) -> Batch:
    """Return a small seeded batch as the harness makes it, a few pixels ignored.

    Args:
        method: Its modalities, classes and sizes are kept to.
        present: (B, M) bool.
    """
    images = example_images(method, len(present))
    side = example_side(method)
    generator = torch.Generator().manual_seed(2)
    target = torch.randint(0, method.num_classes, (len(present), side, side), generator=generator)
    target[:, :4] = method.ignore_index
    return Batch(hide(images, present), present, target, images if method.sees_hidden_in_training else None)


def tensors_of(batch: Batch) -> dict[str, Tensor]:
    """Return every tensor of a batch by the words for it."""
    named = {f"images[{name!r}]": image for name, image in batch.images.items()}
    named |= {f"complete[{name!r}]": image for name, image in (batch.complete or {}).items()}
    return named | {"present": batch.present, "target": batch.target}


@contextmanager
def left_alone(tensors: Mapping[str, Tensor], what: str) -> Iterator[None]:
    """Require that nothing is written to the tensors inside.

    Args:
        tensors: Words for it -> tensor.
        what: Who is to leave them alone, for the message.
    """
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    yield
    for name, tensor in tensors.items():
        require(torch.equal(tensor, copies[name]), f"{what} wrote into {name}; inputs are the caller's")


@contextmanager
def fixed_chance() -> Iterator[None]:
    """Seed torch inside, and leave its generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
