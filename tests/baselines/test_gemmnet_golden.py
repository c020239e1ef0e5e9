"""GEMMNet against the numbers of the authors' model: weights, inputs and outputs at a tiny size, float64."""

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
from mmbench_baselines.gemmnet import GEMMNet
from mmbench_baselines.method import Batch, Output

ARCHIVE = Path(__file__).parents[1] / "golden" / "gemmnet.npz"
PREFIX = {"released": "expect", "golden_corrected": "corrected"}
SCENARIOS = ("full", "miss_ndsm", "miss_rgb")
CASES = [(preset, scenario) for preset in PREFIX for scenario in SCENARIOS]

# Ten times the error that an independent implementation had, never less than 1e-10.
PROBABILITY, FEATURE, PATCH_LOGIT, LOSS, GRADIENT = 3e-7, 9e-6, 8e-7, 1e-10, 1e-10
STATISTIC = 6e-7  # running statistics are stored as float32

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
    (r"^generator\.\w+_to_(\w+?)\.(down|up)(\d)\.bn", r"generators.\1.\2s.<\3.norm"),
    (r"^generator\.\w+_to_(\w+?)\.(down|up)(\d)", r"generators.\1.\2s.<\3"),
    (r"^generator\.\w+_to_(\w+?)\.pos", r"generators.\1.bottleneck.positions.table"),
    (r"^generator\.\w+_to_(\w+?)\.token_proj", r"generators.\1.bottleneck.token_proj"),
    (r"^generator\.\w+_to_(\w+?)\.transformer\.layer", r"generators.\1.bottleneck.transformer.layers."),
    (r"^discriminator\.(\w+)\.conv(\d)\.conv", r"discriminators.\1.convs.<\2"),
    (r"^discriminator\.(\w+)\.conv(\d)\.bn", r"discriminators.\1.norms.<\2"),
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


def tiny(preset: str, **options: Any) -> GEMMNet:
    """Return the method at the archive's size, with the archive's weights, in float64."""
    method = GEMMNet(
        {"rgb": 3, "ndsm": 1},
        5,
        base_width=2,
        token_width=32,
        hidden_width=64,
        heads=4,
        generator_width=4,
        discriminator_width=4,
        train_size=48,
        dropout=0.0,
        preset=preset,  # type: ignore[arg-type]
        **options,
    ).double()
    stored = {our_name(k[6:]): torch.from_numpy(v) for k, v in archive().items() if k.startswith("param/")}
    # The counters of batch normalisation are not in the archive; nothing reads them.
    counters = {k: v for k, v in method.state_dict().items() if k.endswith("num_batches_tracked")}
    method.load_state_dict(stored | counters)
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

    method: GEMMNet
    terms: dict[str, Tensor]
    output: Output
    parts: dict[str, Tensor]
    seen: dict[str, list[Any]]
    buffers: dict[str, Tensor]
    evaluated: Tensor
    evaluated_parts: Tensor
    evaluated_fakes: dict[str, list[Any]]


@cache
def run(preset: str, scenario: str) -> Run:
    """Run the step once for all tests of a case."""
    method, batch = tiny(preset), golden_batch(scenario)
    seen: dict[str, list[Any]] = {}
    for name, module in method.named_modules():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.setdefault(name, []).append(out))
    outputs: list[Output] = []
    inner = method.loss

    def spy(output: Output, batch: Batch) -> dict[str, Tensor]:
        outputs.append(output)
        return inner(output, batch)

    method.loss = spy  # type: ignore[method-assign]
    terms = method.training_step(batch)
    torch.stack(list(terms.values())).sum().backward()
    buffers = {name: buffer.clone() for name, buffer in method.named_buffers()}
    trained, evaluated_fakes = dict(seen), {}
    parts = measure(method, {"fuse": outputs[0].logits, **outputs[0].aux}, batch)
    seen.clear()
    fresh = tiny(preset).eval()
    for name, module in fresh.generators.items():
        module.register_forward_hook(
            lambda _m, _i, out, name=name: evaluated_fakes.setdefault(name, []).append(out)
        )
    with torch.no_grad():
        evaluated = fresh(batch.images, batch.present).logits
    evaluated_parts = measure(fresh, {"fuse": evaluated}, batch)["fuse"]
    return Run(
        method, terms, outputs[0], parts, trained, buffers, evaluated, evaluated_parts, evaluated_fakes
    )


def measure(method: GEMMNet, heads: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    parts = segmentation_parts(heads, batch.target, method.variant, ignore_index=255)
    return {name: part.detach() for name, part in parts.items()}


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


def missing_modality(scenario: str) -> str | None:
    return scenario.removeprefix("miss_") if scenario != "full" else None


def test_every_parameter_of_the_archive_has_its_place_and_no_other_exists() -> None:
    method = tiny("released")
    ours = {k for k in method.state_dict() if not k.endswith("num_batches_tracked")}
    assert {our_name(k[6:]) for k in archive() if k.startswith("param/")} == ours


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_released_probabilities_of_every_head_are_reproduced(scenario: str) -> None:
    data, result, key = archive(), run("released", scenario), f"expect/{scenario}/train"
    assert difference(result.output.logits.softmax(1), data[f"{key}/fuse_pred"]) < PROBABILITY
    for modality in ("rgb", "ndsm"):
        predicted = result.output.aux[f"modality.{modality}"].softmax(1)
        assert difference(predicted, data[f"{key}/{modality}_pred"]) < PROBABILITY
    for scale in (1, 2, 3, 4):
        predicted = upsampled(result.output.aux[f"scale.{scale}"])[:, :, ::3, ::3]
        assert difference(predicted, data[f"{key}/scale{scale}_pred_sub3"]) < PROBABILITY


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_released_tokens_and_bottleneck_are_reproduced(scenario: str) -> None:
    data, seen, key = archive(), run("released", scenario).seen, f"expect/{scenario}/train"
    for modality in ("rgb", "ndsm"):
        (features,) = seen[f"encoders.{modality}"]
        assert difference(features.tokens, data[f"{key}/intra_tokens.{modality}"]) < FEATURE
    assert difference(seen["fusion.transformer"][0], data[f"{key}/inter_tokens"]) < FEATURE
    assert difference(seen["fusion.inter_proj"][0], data[f"{key}/bottleneck"]) < FEATURE


@pytest.mark.parametrize("scenario", SCENARIOS[1:])
def test_the_released_generated_images_and_patch_logits_are_reproduced(scenario: str) -> None:
    data, result, key = archive(), run("released", scenario), f"expect/{scenario}"
    missing = missing_modality(scenario)
    (fake,) = result.seen[f"generators.{missing}"]
    assert difference(fake[:, :, ::2, ::2], data[f"{key}/train/imputed_sub2"]) < PROBABILITY
    real_logits, fake_logits = result.seen[f"discriminators.{missing}"]
    assert difference(real_logits, data[f"{key}/train/d_real_logits"]) < PATCH_LOGIT
    assert difference(fake_logits, data[f"{key}/train/d_fake_logits"]) < PATCH_LOGIT
    (evaluated,) = result.evaluated_fakes[str(missing)]
    assert difference(evaluated[:, :, ::2, ::2], data[f"{key}/eval/imputed_sub2"]) < PROBABILITY


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_released_running_statistics_after_one_step_are_reproduced(scenario: str) -> None:
    buffers, prefix = run("released", scenario).buffers, f"expect/{scenario}/train/bn_after/"
    stored = {our_name(k.removeprefix(prefix)): v for k, v in archive().items() if k.startswith(prefix)}
    assert len(stored) == 32
    assert all(difference(buffers[name], value) < STATISTIC for name, value in stored.items())


@pytest.mark.parametrize(("preset", "scenario"), CASES)
def test_every_loss_term_is_reproduced(preset: str, scenario: str) -> None:
    result, expected = run(preset, scenario), stored_losses(f"{PREFIX[preset]}/{scenario}/train")
    ours = {
        name.replace("modality.", "").replace("scale.", "scale"): part for name, part in result.parts.items()
    }
    computed = {
        f"{name}.{kind}": part[index]
        for name, part in ours.items()
        for index, kind in enumerate(("ce", "dice"))
    }
    missing, terms = missing_modality(scenario), result.terms
    if missing:
        real, fake = (seen.detach() for seen in result.seen[f"discriminators.{missing}"][:2])
        softplus = torch.nn.functional.softplus
        computed[f"gan.{missing}.d_real"] = softplus(-real).mean()
        computed[f"gan.{missing}.d_fake"] = softplus(fake).mean()
        computed[f"gan.{missing}.d"] = terms[f"discriminator.{missing}"] / 0.05
        computed[f"gan.{missing}.g_adv"] = terms[f"adversarial.{missing}"] / 0.05
        computed[f"gan.{missing}.g_l1"] = terms[f"reconstruction.{missing}"] / 0.05
        computed[f"gan.{missing}.g"] = (
            terms[f"adversarial.{missing}"] + terms[f"reconstruction.{missing}"]
        ) / 0.05
    computed["total"] = torch.stack(list(terms.values())).sum()
    assert computed.keys() == expected.keys()
    assert {name for name in computed if difference(computed[name], expected[name]) > LOSS} == set()


@pytest.mark.parametrize(("preset", "scenario"), CASES)
def test_the_gradient_norm_of_every_parameter_is_reproduced(preset: str, scenario: str) -> None:
    data, parameters = archive(), dict(run(preset, scenario).method.named_parameters())
    expected = torch.from_numpy(data[f"{PREFIX[preset]}/{scenario}/train/grad_norm"])
    gradients = [parameters[our_name(name)].grad for name in data["grad_norm/names"].tolist()]
    ours = torch.tensor(
        [float("nan") if g is None else g.norm().item() for g in gradients], dtype=torch.float64
    )
    assert torch.equal(ours.isnan(), expected.isnan())
    received = ~expected.isnan()
    scale = expected[received].clamp(min=1e-3 * float(expected[received].max()))
    assert float(((ours - expected)[received].abs() / scale).max()) < GRADIENT


@pytest.mark.parametrize(("preset", "scenario"), CASES)
def test_the_evaluation_is_reproduced(preset: str, scenario: str) -> None:
    data, result, key = archive(), run(preset, scenario), f"{PREFIX[preset]}/{scenario}"
    predicted = result.evaluated.softmax(1)
    if preset == "released":
        assert difference(predicted, data[f"{key}/eval/fuse_pred"]) < PROBABILITY
    else:
        trained = result.output.logits.softmax(1)
        assert difference(predicted[:, :, ::2, ::2], data[f"{key}/eval/fuse_pred_sub2"]) < PROBABILITY
        assert difference(trained[:, :, ::2, ::2], data[f"{key}/train/fuse_pred_sub2"]) < PROBABILITY
    assert difference(result.evaluated_parts, data[f"{key}/eval/fuse_ce_dice"]) < LOSS
