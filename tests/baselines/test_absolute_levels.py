"""What a method's normalisation lets it see of a modality's level, as of a height above ground.

With statistics of each channel, a constant added to an image is gone after the first normalisation, whatever
was trained: such a method sees the edge of a roof, but not whether what fills its window is roof or lawn.
"""

import pytest
import torch

from mmbench.registry import find

_MODALITIES = {"irrg": 3, "ndsm": 1}
_SMALL = {
    "gemmnet": {"train_size": 64, "discriminator_width": 8, "generator_width": 8, "token_width": 32},
    "mmformer": {"train_size": 64, "token_width": 32, "hidden_width": 32},
}


def _change(name, seen=lambda height: height + 0.4, **options):
    """By how much of their spread the logits change when 0.4 is added to the height, or as `seen` says."""
    torch.manual_seed(0)
    method = find("method", name)(_MODALITIES, 6, **_SMALL.get(name, {}), **options).eval()
    images = {m: torch.rand(1, c, 64, 64) * 0.5 - 0.5 for m, c in _MODALITIES.items()}
    raised = images | {"ndsm": seen(images["ndsm"])}
    present = torch.ones(1, 2, dtype=torch.bool)
    with torch.no_grad():
        before, after = (method(given, present).logits for given in (images, raised))
    return float((before - after).abs().max() / before.std())


@pytest.mark.parametrize("name", ["gemmnet", "ae", "cgan", "mmformer"])
def test_statistics_of_each_channel_hide_a_constant_that_is_added_to_a_modality(name):
    options = {} if name == "mmformer" else {"norm": "channel"}
    assert _change(name, **options) < 1e-3


@pytest.mark.parametrize("name", ["gemmnet", "ae", "cgan"])
def test_statistics_of_the_sample_let_it_show(name):
    assert _change(name, norm="sample") > 0.1


@pytest.mark.parametrize(
    "name", ["modality_dropout", "early_fusion", "late_fusion", "expert_switch", "unimodal"]
)
def test_the_controls_see_it(name):
    assert _change(name) > 0.1


@pytest.mark.parametrize(
    ("name", "blind"), [("shaspec", True), ("modality_dropout", True), ("early_fusion", False)]
)
def test_an_encoder_of_one_modality_that_normalises_first_does_not_see_its_scale(name, blind):
    change = _change(name, lambda height: 2 * height)
    assert change < 0.03 if blind else change > 0.1  # rounding: ShaSpec is ill-conditioned at this size
