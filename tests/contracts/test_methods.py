"""The contract suite on every method that is found."""

import pytest
import torch

from mmbench.registry import find, names
from mmbench.testing import check_method

# The contract does not depend on widths; these keep the suite quick. A method that is not here runs with its
# defaults.
_SMALL = {
    "ae": {"generator_width": 8},
    "cgan": {"generator_width": 8, "discriminator_width": 8},
    "early_fusion": {"base_width": 8},
    "expert_switch": {"base_width": 8},
    "gemmnet": {
        "token_width": 32,
        "hidden_width": 32,
        "generator_width": 8,
        "discriminator_width": 8,
        "train_size": 64,
    },
    "late_fusion": {"base_width": 8},
    "mmformer": {"token_width": 32, "hidden_width": 64, "train_size": 64},
    "modality_dropout": {"base_width": 8},
    "shaspec": {"width": 8},
    "unimodal": {"base_width": 8},
}


@pytest.mark.parametrize("name", names("method"))
def test_the_method_keeps_the_contract(name):
    check_method(find("method", name), options=_SMALL.get(name))


@pytest.mark.parametrize("name", names("method"))
def test_the_defaults_build(name):
    with torch.device("meta"):
        method = find("method", name)({"irrg": 3, "ndsm": 1}, 6)
    assert sum(p.numel() for p in method.parameters()) > 0


def test_small_options_are_of_methods_that_exist():
    assert set(_SMALL) <= set(names("method"))
