"""The batches that a method is profiled on: one scenario, random images and targets.

Axes: B batch, C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmbench.scenarios.scenario import Scenario, hide
from mmbench_baselines.method import Batch, Method

MakeImage = Callable[..., Tensor]
"""(B, C, H, W) as four arguments -> an image."""


def random_images(device: torch.device, seed: int = 0) -> MakeImage:
    """Return a source of images uniform in [-1, 1] that leaves torch's own random state alone."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: (torch.rand(shape, generator=generator) * 2 - 1).to(device)


def profiling_batch(
    method: Method,
    scenario: Scenario,
    batch_size: int,
    size: int,
    device: torch.device,
    make_image: MakeImage,
) -> Batch:
    """Return a batch in which every sample has the modalities of one scenario.

    Args:
        method: Says which modalities, how many classes, and whether training sees what is hidden.
        scenario: Hides the others.
        batch_size: B.
        size: H and W, pixels.
        device: Of presence and target.
        make_image: Makes each image.
    """
    complete = {name: make_image(batch_size, c, size, size) for name, c in method.modalities.items()}
    present = scenario.rows(batch_size, device)
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(method.num_classes, (batch_size, size, size), generator=generator).to(device)
    return Batch(
        images=hide(complete, present),
        present=present,
        target=target,
        complete=complete if method.sees_hidden_in_training else None,
    )
