"""Write shaspec_default.json: numbers of ShaSpec's default preset that only a deliberate change may alter.

Run it after such a change, from the root of the repository: python tests/golden/make_shaspec_default.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbench_baselines.method import Batch
from mmbench_baselines.shaspec import ShaSpec

FILE = Path(__file__).with_name("shaspec_default.json")
NUM_CLASSES, SIZE = 5, 96
CASES: dict[str, tuple[dict[str, int], list[list[bool]]]] = {
    "two": ({"rgb": 3, "ndsm": 1}, [[True, True], [True, False], [False, True]]),
    "three": (
        {"ndsm": 1, "rgb": 3, "nir": 2},
        [[True, True, True], [True, False, True], [False, True, False]],
    ),
}


def measure() -> dict[str, Any]:
    """Return logits, loss terms and gradient norms of seeded weights and inputs, float64, by case."""
    return {name: measure_case(modalities, present) for name, (modalities, present) in CASES.items()}


def measure_case(modalities: dict[str, int], rows: list[list[bool]]) -> dict[str, Any]:
    """Return the numbers of one set of modalities and one batch of patterns."""
    random = np.random.Generator(np.random.PCG64(0))  # its stream is the same in every version of NumPy

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(random.standard_normal(shape))

    model = ShaSpec(modalities, NUM_CLASSES, width=4).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The head is large, so that some probabilities are tiny: a clamp would show.
            spread = 10.0 if name.startswith("decoder.head") else 0.2
            parameter.copy_(spread * draw(*parameter.shape) + (1.0 if name.endswith("norm.weight") else 0.0))
    images = {name: draw(len(rows), channels, SIZE, SIZE) for name, channels in modalities.items()}
    target = torch.from_numpy(random.integers(0, NUM_CLASSES - 1, (len(rows), SIZE, SIZE)))  # one is absent
    target[:, :4] = model.ignore_index
    batch = Batch(images, torch.tensor(rows), target)
    output = model(batch.images, batch.present)
    terms = model.loss(output, batch)
    torch.stack(list(terms.values())).sum().backward()
    return {
        "logits": output.logits[:, :, ::48, ::48].flatten().tolist(),
        "loss": {name: term.item() for name, term in terms.items()},
        "gradient_norm": {name: gradient_norm(modules) for name, modules in model.parts().items()},
    }


def gradient_norm(modules: list[torch.nn.Module]) -> float:
    """Return the norm of all gradients of a part."""
    gradients = [p.grad.flatten() for m in modules for p in m.parameters() if p.grad is not None]
    return torch.cat(gradients).norm().item()


if __name__ == "__main__":
    FILE.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
