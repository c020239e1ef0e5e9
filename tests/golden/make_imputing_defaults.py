"""Regression numbers of AE and cGAN: `python tests/golden/make_imputing_defaults.py` writes them anew.

Regenerate only where a default is meant to change, and say so in the commit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from mmbench_baselines.blocks.imputation import ImputingMethod
    from mmbench_baselines.method import Batch

FOLDER = Path(__file__).parent
WIDTHS: dict[str, dict[str, int]] = {
    "ae": {"base_width": 2, "generator_width": 4},
    "cgan": {"base_width": 2, "generator_width": 4, "discriminator_width": 4},
}
MODALITIES = {"irrg": 3, "ndsm": 1}
NUM_CLASSES = 5
PATTERNS = ([True, True], [True, False], [False, True])


def tiny(name: str, **options: Any) -> ImputingMethod:
    """Return a small method in float64 with seeded random weights."""
    from mmbench.registry import find

    method: Any = find("method", name)(MODALITIES, NUM_CLASSES, **WIDTHS[name], **options).double()
    random = np.random.RandomState(0)  # its stream is frozen, that of a Generator is not
    with torch.no_grad():
        for key, parameter in method.named_parameters():
            values = random.standard_normal(parameter.shape)
            if parameter.ndim > 1:
                values *= (2 / parameter[0].numel()) ** 0.5
            else:
                values = 0.2 * values + (1 if key.endswith("weight") else 0)
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


def measure(name: str) -> dict[str, dict[str, float]]:
    """Return loss terms, gradient norms of the parts, and checksums of probabilities and imputed images."""
    method, batch = tiny(name), mixed_batch()
    terms = method.training_step(batch)
    torch.stack(list(terms.values())).sum().backward()
    norms = {}
    for part, modules in method.parts().items():
        gradients = [p.grad.norm() for m in modules for p in m.parameters() if p.grad is not None]
        norms[part] = torch.stack(gradients).norm().item()
    with torch.no_grad():
        output = method.eval()(batch.images, batch.present)
    sums = {"probabilities": checksum(output.logits.softmax(1))}
    sums |= {f"imputed.{modality}": checksum(image) for modality, image in output.imputed.items()}
    return {
        "terms": {key: term.item() for key, term in terms.items()},
        "gradient_norms": norms,
        "checksums": sums,
    }


def checksum(values: torch.Tensor) -> float:
    """Return the product with a wave, which no exchange of values leaves alone."""
    wave = torch.linspace(0, 30, values.numel(), dtype=values.dtype).cos()
    return (values.flatten() @ wave).item()


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in (".", "kernels", "baselines")]
    for key in WIDTHS:
        text = json.dumps(measure(key), indent=1) + "\n"
        (FOLDER / f"{key}_default.json").write_text(text, encoding="utf-8")
