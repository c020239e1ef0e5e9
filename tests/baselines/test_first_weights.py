"""How the convolutions of the methods start: the deviation of their first weights."""

import math

import pytest
import torch
from torch import nn

from mmbench.registry import find

_KAIMING, _PYTORCH = math.sqrt(2), math.sqrt(1 / 3)
"""Times 1 / sqrt(fan-in)."""
_SEGMENTER = {"gemmnet": ("encoders", "fusion", "modality_decoder")} | dict.fromkeys(
    ("ae", "cgan"), ("encoders", "decoder")
)


def _spread(modules):
    """Return the root mean square of all weights of convolutions, each times the root of its fan-in."""
    convolutions = [c for module in modules for c in module.modules() if isinstance(c, nn.Conv2d)]
    scaled = [c.weight.detach().flatten() * math.sqrt(c.weight[0].numel()) for c in convolutions]
    return float(torch.cat(scaled).square().mean().sqrt())


def _build(name, **options):
    torch.manual_seed(0)
    return find("method", name)({"irrg": 3, "ndsm": 1}, 6, **options)


@pytest.mark.parametrize("name", _SEGMENTER)
def test_a_segmenter_starts_as_mmformer_does(name):
    method = _build(name)
    assert _spread(getattr(method, part) for part in _SEGMENTER[name]) == pytest.approx(_KAIMING, rel=0.02)
    assert _spread([_build("mmformer")]) == pytest.approx(_KAIMING, rel=0.02)


@pytest.mark.parametrize("options", [{"init": "pytorch"}, {"preset": "released"}])
def test_gemmnet_as_released_starts_as_pytorch_does(options):
    method = _build("gemmnet", **options)
    assert _spread(getattr(method, part) for part in _SEGMENTER["gemmnet"]) == pytest.approx(
        _PYTORCH, rel=0.02
    )


@pytest.mark.parametrize("name", ["ae", "cgan"])
def test_generators_keep_the_start_of_pix2pix(name):
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    convolutions = [c for c in _build(name).generators.modules() if isinstance(c, kinds)]
    weights = torch.cat([c.weight.detach().flatten() for c in convolutions])
    assert float(weights.std()) == pytest.approx(0.02, rel=0.02)
