"""ShaSpec against the numbers of the authors' model (weights, inputs, outputs at a tiny size) and its own."""

from __future__ import annotations

import json
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmbench_baselines.method import Batch, Output
from mmbench_baselines.shaspec import ALIGNMENT_WEIGHT, DOMAIN_WEIGHT, ShaSpec

GOLDEN = Path(__file__).parents[1] / "golden"
PREFIX = {"released": "expect", "golden_corrected": "corrected"}
SCENARIOS = ("full", "miss_ndsm", "miss_rgb")
CASES = [(preset, scenario) for preset in PREFIX for scenario in SCENARIOS]

# Ten times the error that an independent implementation had, never less than 1e-10.
LOGIT, FEATURE, LOSS, GRADIENT = 2e-5, 1e-5, 1e-10, 1e-7

# Canonical name -> ours; "<" stands for the index before the one that was matched, ">" for 3 minus it.
NAMES = (
    (r"^encoder\.shared\.", r"shared_encoder."),
    (r"^encoder\.rgb\.", r"specific_encoders.0."),
    (r"^encoder\.ndsm\.", r"specific_encoders.1."),
    (r"\.layer(\d)\.block(\d)\.", r".layers.<\1.\2."),
    (r"(layers\.<\d\.\d)\.(conv|norm)1\.", r"\1.reduce.\2."),
    (r"(layers\.<\d\.\d)\.(conv|norm)2\.", r"\1.spatial.\2."),
    (r"(layers\.<\d\.\d)\.(conv|norm)3\.", r"\1.expand.\2."),
    (r"\.proj\.", r".shortcut."),
    (r"\.aspp\.branch(\d)", r".pyramid.branches.<\1"),
    (r"\.aspp\.", r".pyramid."),
    (r"^compose\.conv", r"compose"),
    (r"^domain", r"domain_head"),
    (r"^decoder\.(up|skip|block)(\d)", r"decoder.\1s.>\2"),
    (r"(blocks\.>\d)\.(conv|norm)1", r"\1.first.\2"),
    (r"(blocks\.>\d)\.(conv|norm)2", r"\1.second.\2"),
)


def our_name(canonical: str) -> str:
    name = canonical
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    name = re.sub(r"<(\d)", lambda match: str(int(match[1]) - 1), name)
    return re.sub(r">(\d)", lambda match: str(3 - int(match[1])), name)


class Run(NamedTuple):
    output: Output
    fused: Tensor
    terms: dict[str, float]
    gradient_norms: dict[str, float]


@cache
def archive() -> dict[str, Any]:
    with np.load(GOLDEN / "shaspec.npz", allow_pickle=False) as file:
        return dict(file)


@cache
def run(preset: Any, scenario: str) -> Run:
    numbers = archive()
    model = ShaSpec({"rgb": 3, "ndsm": 1}, 5, width=4, preset=preset).double()
    weights = {
        our_name(key.removeprefix("param/")): torch.from_numpy(value).double()
        for key, value in numbers.items()
        if key.startswith("param/")
    }
    model.load_state_dict(weights)
    decoded: list[Tensor] = []

    def keep_input(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        decoded.append(arguments[0].detach())

    model.decoder.register_forward_pre_hook(keep_input)
    image = torch.from_numpy(numbers["input"]).double()
    batch = Batch(
        {"rgb": image[:, :3], "ndsm": image[:, 3:]},
        torch.from_numpy(numbers[f"present/{scenario}"]),
        torch.from_numpy(numbers["label"]).long(),
    )
    output = model(batch.images, batch.present)
    terms = model.loss(output, batch)
    torch.stack(list(terms.values())).sum().backward()
    norms = {n: 0.0 if p.grad is None else p.grad.norm().item() for n, p in model.named_parameters()}
    return Run(output, decoded[0], {name: term.item() for name, term in terms.items()}, norms)


def check(value: Tensor, key: str, tolerance: float) -> None:
    np.testing.assert_allclose(value.detach().numpy(), archive()[key], rtol=0, atol=tolerance)


def test_every_parameter_has_exactly_one_canonical_name() -> None:
    canonical = [key.removeprefix("param/") for key in archive() if key.startswith("param/")]
    model = ShaSpec({"rgb": 3, "ndsm": 1}, 5, width=4, preset="released")
    assert sorted(map(our_name, canonical)) == sorted(model.state_dict())


@pytest.mark.parametrize(("preset", "scenario"), CASES)
def test_logits_and_features_are_those_of_the_authors_model(preset: str, scenario: str) -> None:
    ours, key = run(preset, scenario), f"{PREFIX[preset]}/{scenario}"
    check(ours.output.logits[:, :, ::2, ::2], f"{key}/logits_sub2", LOGIT)
    check(ours.output.aux["shared"][:, 0], f"{key}/shared.rgb", FEATURE)
    check(ours.output.aux["shared"][:, 1], f"{key}/shared.ndsm", FEATURE)
    check(ours.fused, f"{key}/fused", FEATURE)
    check(ours.output.aux["domain"], f"{key}/domain_logits", FEATURE)


@pytest.mark.parametrize(("preset", "scenario"), CASES)
def test_loss_terms_are_those_of_the_authors_model(preset: str, scenario: str) -> None:
    terms, key = run(preset, scenario).terms, f"{PREFIX[preset]}/{scenario}"
    values = archive()[f"{key}/loss_values"].tolist()
    expected = dict(zip(archive()[f"{key}/loss_names"].tolist(), values, strict=True))
    assert terms["segmentation"] == pytest.approx(expected["seg.ce"] + expected["seg.dice"], abs=LOSS)
    assert terms["alignment"] == pytest.approx(ALIGNMENT_WEIGHT * expected["shared"], abs=LOSS)
    assert terms["domain"] == pytest.approx(DOMAIN_WEIGHT * expected["specific"], abs=LOSS)
    assert sum(terms.values()) == pytest.approx(expected["total"], abs=LOSS)


@pytest.mark.parametrize(("preset", "scenario"), CASES)
def test_gradients_are_those_of_the_authors_model(preset: str, scenario: str) -> None:
    ours = run(preset, scenario).gradient_norms
    expected = archive()[f"{PREFIX[preset]}/{scenario}/grad_norm"]
    floor = 1e-3 * np.nanmax(expected)  # shifts ahead of a norm have a gradient of zero plus rounding
    for name, norm in zip(archive()["grad_norm/names"].tolist(), expected.tolist(), strict=True):
        if np.isnan(norm):  # receives none
            assert ours[our_name(name)] == 0, name
        else:
            assert abs(ours[our_name(name)] - norm) <= GRADIENT * max(norm, floor), name


def test_the_default_preset_still_gives_its_recorded_numbers() -> None:
    expected = json.loads((GOLDEN / "shaspec_default.json").read_text(encoding="utf-8"))
    measured = runpy.run_path(str(GOLDEN / "make_shaspec_default.py"))["measure"]()
    assert list(measured) == list(expected)
    for case, numbers in expected.items():
        np.testing.assert_allclose(measured[case]["logits"], numbers["logits"], rtol=0, atol=1e-8)
        assert measured[case]["loss"] == pytest.approx(numbers["loss"], rel=1e-9)
        assert measured[case]["gradient_norm"] == pytest.approx(numbers["gradient_norm"], rel=1e-7)
