"""mmFormer against the numbers of the authors' model: weights, inputs and outputs at a tiny size, float64."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmbench_baselines.blocks.losses import segmentation_parts
from mmbench_baselines.method import Batch, Output
from mmbench_baselines.mmformer import MMFormer

ARCHIVE = Path(__file__).parents[1] / "golden" / "mmformer.npz"
PREFIX = {"released": "expect", "golden_corrected": "corrected"}
SCENARIOS = ("full", "miss_ndsm", "miss_rgb", "mixed")
CASES = [(preset, scenario) for preset in PREFIX for scenario in SCENARIOS]

# Ten times the error that an independent implementation had, never less than 1e-10.
PROBABILITY, FEATURE, LOSS, GRADIENT = 3e-7, 8e-6, 1e-10, 4e-7

# Canonical name -> ours; "<" stands for the index before the one that was matched.
NAMES = (
    (r"^encoder\.(\w+)\.stage(\d)", r"encoders.\1.encoder.stages.<\2"),
    (r"^token_proj\.(\w+)", r"encoders.\1.token_proj"),
    (r"^pos\.(\w+)", r"encoders.\1.positions.table"),
    (r"^intra\.(\w+)\.layer", r"encoders.\1.transformer.layers."),
    (r"^inter\.layer", r"fusion.transformer.layers."),
    (r"^inter_proj", r"fusion.inter_proj"),
    (r"^decoder\.fuse\.(fusion|up)(\d)", r"fusion.decoder.\1s.<\2"),
    (r"^decoder\.fuse\.head0", r"fusion.decoder.head"),
    (r"^decoder\.fuse\.head(\d)", r"fusion.decoder.side_heads.<\1"),
    (r"^decoder\.modality\.up(\d)", r"modality_decoder.ups.<\1"),
    (r"^decoder\.modality\.head0", r"modality_decoder.head"),
    (r"\.attn_norm\.", r".attention_norm."),
    (r"\.attn\.", r".attention."),
    (r"\.ffn_norm\.", r".feed_forward_norm."),
    (r"\.ffn\.", r".feed_forward."),
)


def our_name(canonical: str) -> str:
    name = canonical
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"<(\d)", lambda match: str(int(match[1]) - 1), name)


@cache
def archive() -> dict[str, NDArray[Any]]:
    with np.load(ARCHIVE, allow_pickle=False) as stored:
        return dict(stored)


def tiny(preset: Any) -> MMFormer:
    """Return the method at the archive's size, with the archive's weights, in float64."""
    sizes = {"base_width": 2, "token_width": 32, "hidden_width": 64, "heads": 4, "train_size": 48}
    method = MMFormer({"rgb": 3, "ndsm": 1}, 5, **sizes, dropout=0.0, preset=preset).double()
    stored = {our_name(k[6:]): torch.from_numpy(v) for k, v in archive().items() if k.startswith("param/")}
    method.load_state_dict(stored)
    return method


def golden_batch(scenario: str) -> Batch:
    """Return the archive's batch; hidden slots hold a value that would show."""
    data = archive()
    complete = dict(
        zip(("rgb", "ndsm"), torch.from_numpy(data["input"]).double().split([3, 1], 1), strict=True)
    )
    present = torch.from_numpy(data[f"present/{scenario}"])
    images = {
        name: torch.where(present[:, column, None, None, None], image, 7.0)
        for column, (name, image) in enumerate(complete.items())
    }
    return Batch(images, present, torch.from_numpy(data["label"]).long(), complete)


class Run(NamedTuple):
    """One training step and one evaluation, with what passed between the modules."""

    method: MMFormer
    terms: dict[str, Tensor]
    output: Output
    seen: dict[str, list[Any]]
    evaluated: Tensor


@cache
def run(preset: str, scenario: str) -> Run:
    """Run the step once for all tests of a case."""
    method, batch = tiny(preset), golden_batch(scenario)
    seen: dict[str, list[Any]] = {}
    for name in ("fusion.transformer", "fusion.inter_proj"):
        method.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: seen.setdefault(name, []).append(out)
        )
    outputs: list[Output] = []
    inner = method.loss

    def spy(output: Output, batch: Batch) -> dict[str, Tensor]:
        outputs.append(output)
        return inner(output, batch)

    method.loss = spy  # type: ignore[method-assign]
    terms = method.training_step(batch)
    torch.stack(list(terms.values())).sum().backward()
    with torch.no_grad():
        evaluated = tiny(preset).eval()(batch.images, batch.present).logits
    return Run(method, terms, outputs[0], seen, evaluated)


def difference(value: Tensor | float, expected: Any) -> float:
    value = torch.as_tensor(value, dtype=torch.float64).detach()
    expected = torch.as_tensor(expected, dtype=torch.float64)
    assert value.shape == expected.shape
    return float((value - expected).abs().max())


def upsampled(logits: Tensor) -> Tensor:
    """Return the released form of a coarse head: probabilities, then interpolation."""
    return torch.nn.functional.interpolate(
        logits.softmax(1), size=(48, 48), mode="bilinear", align_corners=True
    )


def stored_losses(key: str) -> dict[str, float]:
    data = archive()
    return dict(zip(data[f"{key}/loss_names"].tolist(), data[f"{key}/loss_values"].tolist(), strict=True))


def test_every_parameter_of_the_archive_has_its_place_and_no_other_exists() -> None:
    ours = list(tiny("released").state_dict())
    assert sorted(our_name(k[6:]) for k in archive() if k.startswith("param/")) == sorted(ours)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_released_probabilities_of_every_head_are_reproduced(scenario: str) -> None:
    data, output, key = archive(), run("released", scenario).output, f"expect/{scenario}"
    assert difference(output.logits.softmax(1), data[f"{key}/fuse_pred"]) < PROBABILITY
    for scale, side in enumerate(output.aux["sides"], start=1):
        expected = data[f"{key}/scale{scale}_pred_sub3"]
        assert difference(upsampled(side)[:, :, ::3, ::3], expected) < PROBABILITY
    assert len(output.aux["sides"]) == 4
    # Stored once: the segmentation of a modality alone does not depend on what is hidden.
    for modality in ("rgb", "ndsm"):
        samples, head = output.aux["alone"][modality]
        assert samples.tolist() == [0, 1]
        assert difference(head.softmax(1), data[f"expect/full/{modality}_pred"]) < PROBABILITY


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_released_tokens_and_bottleneck_are_reproduced(scenario: str) -> None:
    data, seen, key = archive(), run("released", scenario).seen, f"expect/{scenario}"
    assert difference(seen["fusion.transformer"][0], data[f"{key}/inter_tokens"]) < FEATURE
    assert difference(seen["fusion.inter_proj"][0], data[f"{key}/bottleneck"]) < FEATURE


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_corrected_probabilities_are_reproduced(scenario: str) -> None:
    predicted = run("golden_corrected", scenario).output.logits.softmax(1)
    expected = archive()[f"corrected/{scenario}/fuse_pred_sub2"]
    assert difference(predicted[:, :, ::2, ::2], expected) < PROBABILITY


@pytest.mark.parametrize(("preset", "scenario"), CASES)
def test_the_evaluation_gives_the_logits_of_the_training(preset: str, scenario: str) -> None:
    result = run(preset, scenario)
    assert difference(result.evaluated, result.output.logits.detach()) < 1e-12


@pytest.mark.parametrize(("preset", "scenario"), CASES)
def test_every_loss_term_is_reproduced(preset: str, scenario: str) -> None:
    result, expected = run(preset, scenario), stored_losses(f"{PREFIX[preset]}/{scenario}")
    heads = {"fuse": result.output.logits}
    heads |= {f"scale{index}": side for index, side in enumerate(result.output.aux["sides"], start=1)}
    heads |= {name: head for name, (_, head) in result.output.aux["alone"].items()}
    target = golden_batch(scenario).target
    parts = segmentation_parts(heads, target, result.method.variant, ignore_index=255)
    computed = {
        f"{name}.{kind}": part[i] for name, part in parts.items() for i, kind in enumerate(("ce", "dice"))
    }
    # What the step returned, term by term: the sum of both parts of a head.
    ours = {"fuse": "fused", "rgb": "modality.rgb", "ndsm": "modality.ndsm"}
    for name in heads:
        term = result.terms[ours.get(name, name.replace("scale", "scale."))]
        assert difference(term, expected[f"{name}.ce"] + expected[f"{name}.dice"]) < LOSS
    computed["total"] = torch.stack(list(result.terms.values())).sum()
    assert computed.keys() == expected.keys()
    assert {name for name in computed if difference(computed[name], expected[name]) > LOSS} == set()


@pytest.mark.parametrize(("preset", "scenario"), CASES)
def test_the_gradient_norm_of_every_parameter_is_reproduced(preset: str, scenario: str) -> None:
    data, parameters = archive(), dict(run(preset, scenario).method.named_parameters())
    names = [our_name(name) for name in data["grad_norm/names"].tolist()]
    assert sorted(names) == sorted(parameters)
    expected = torch.from_numpy(data[f"{PREFIX[preset]}/{scenario}/grad_norm"])
    gradients = [parameters[name].grad for name in names]
    ours = torch.tensor(
        [float("nan") if g is None else g.norm().item() for g in gradients], dtype=torch.float64
    )
    assert torch.equal(ours.isnan(), expected.isnan())
    received = ~expected.isnan()
    scale = expected[received].clamp(min=1e-3 * float(expected[received].max()))
    assert float(((ours - expected)[received].abs() / scale).max()) < GRADIENT
