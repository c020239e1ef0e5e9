"""Regression numbers of GEMMNet's default: `python tests/golden/make_gemmnet_default.py` writes them anew.

Regenerate only where the default is meant to change, and say so in the commit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from mmbench_baselines.gemmnet import GEMMNet
    from mmbench_baselines.method import Batch

TARGET = Path(__file__).with_name("gemmnet_default.json")
MODALITIES = {"irrg": 3, "ndsm": 1}
NUM_CLASSES = 5
PATTERNS = ([True, True], [True, False], [False, True])


def tiny(**options: Any) -> GEMMNet:
    """Return a small GEMMNet in float64, without dropout unless asked, with seeded random weights."""
    from mmbench_baselines.gemmnet import GEMMNet

    sizes = {"base_width": 2, "token_width": 16, "hidden_width": 32, "heads": 4, "train_size": 48}
    widths = {"generator_width": 4, "discriminator_width": 4, "dropout": 0.0}
    method = GEMMNet(MODALITIES, NUM_CLASSES, **{**sizes, **widths, **options}).double()
    random = np.random.RandomState(0)  # its stream is frozen, that of a Generator is not
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            values = random.standard_normal(parameter.shape)
            if parameter.ndim > 1:
                values *= 0.5 if name.endswith("table") else (2 / parameter[0].numel()) ** 0.5
            else:
                values = 0.2 * values + (1 if name.endswith("weight") else 0)
            parameter.copy_(torch.from_numpy(values))
    return method


def mixed_batch(height: int = 48, width: int = 32) -> Batch:
    """Return three samples, one a pattern, with hidden slots at 0, an absent class and ignored pixels."""
    from mmbench_baselines.method import Batch

    random = np.random.RandomState(1)
    complete = {
        name: torch.from_numpy(random.uniform(-1, 1, (len(PATTERNS), channels, height, width)))
        for name, channels in MODALITIES.items()
    }
    target = torch.from_numpy(random.randint(0, NUM_CLASSES - 1, (len(PATTERNS), height, width)))
    target[:, :4] = 255
    present = torch.tensor(PATTERNS)
    images = {
        name: image * present[:, column, None, None, None]
        for column, (name, image) in enumerate(complete.items())
    }
    return Batch(images, present, target, complete)


def measure() -> dict[str, dict[str, float]]:
    """Return the loss terms, the gradient norms and a checksum of the probabilities of each pattern."""
    method, batch = tiny(), mixed_batch()
    terms = method.training_step(batch)
    torch.stack(list(terms.values())).sum().backward()
    norms = {
        name: torch.stack([p.grad.norm() for p in part.parameters() if p.grad is not None]).norm().item()
        for name, part in method.named_children()
    }
    with torch.no_grad():
        probabilities = method.eval()(batch.images, batch.present).logits.softmax(1)
    wave = torch.linspace(0, 30, probabilities[0].numel(), dtype=torch.float64).cos()
    checksums = (probabilities.flatten(1) @ wave).tolist()
    return {
        "terms": {name: term.item() for name, term in terms.items()},
        "gradient_norms": norms,
        "checksums": {str(pattern): value for pattern, value in zip(PATTERNS, checksums, strict=True)},
    }


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in ("kernels", "baselines")]
    TARGET.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
