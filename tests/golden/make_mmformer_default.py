"""Regression numbers of mmFormer's default: `python tests/golden/make_mmformer_default.py` writes them anew.

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
    from mmbench_baselines.method import Batch
    from mmbench_baselines.mmformer import MMFormer

TARGET = Path(__file__).with_name("mmformer_default.json")
MODALITIES = {"irrg": 3, "ndsm": 1}
NUM_CLASSES = 5
PATTERNS = ([True, True], [True, False], [False, True])


def tiny(modalities: dict[str, int] = MODALITIES, **options: Any) -> MMFormer:
    """Return a small mmFormer in float64, without dropout unless asked, with seeded random weights."""
    from mmbench_baselines.mmformer import MMFormer

    sizes = {"base_width": 2, "token_width": 16, "hidden_width": 32, "heads": 4, "train_size": 48}
    method = MMFormer(modalities, NUM_CLASSES, **{**sizes, "dropout": 0.0, **options}).double()
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


def mixed_batch(
    height: int = 48,
    width: int = 32,
    *,
    modalities: dict[str, int] = MODALITIES,
    patterns: tuple[list[bool], ...] = PATTERNS,
) -> Batch:
    """Return one sample a pattern, with hidden slots at 0, an absent class and ignored pixels."""
    from mmbench_baselines.method import Batch

    random = np.random.RandomState(1)
    complete = {
        name: torch.from_numpy(random.uniform(-1, 1, (len(patterns), channels, height, width)))
        for name, channels in modalities.items()
    }
    target = torch.from_numpy(random.randint(0, NUM_CLASSES - 1, (len(patterns), height, width)))
    target[:, :4] = 255
    present = torch.tensor(patterns)
    images = {
        name: image * present[:, column, None, None, None]
        for column, (name, image) in enumerate(complete.items())
    }
    return Batch(images, present, target, complete)


def measure() -> dict[str, dict[str, dict[str, float]]]:
    """Return the numbers of the default and of the variant that skips absent tokens."""
    return {tokens: measure_variant(tokens) for tokens in ("attend", "skip")}


def measure_variant(tokens: str) -> dict[str, dict[str, float]]:
    """Return the loss terms, the gradient norms and a checksum of the probabilities of each pattern."""
    method, batch = tiny(tokens=tokens), mixed_batch()
    terms = method.training_step(batch)
    torch.stack(list(terms.values())).sum().backward()
    norms = {
        part: torch.stack([p.grad.norm() for m in modules for p in m.parameters()]).norm().item()
        for part, modules in method.parts().items()
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
