"""GEMMNet's behaviour: what it accepts, what it may see, what learns from what, and its own numbers."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from mmbench import registry
from mmbench_baselines.blocks.gan import ImageGenerator
from mmbench_baselines.gemmnet import GEMMNet
from mmbench_baselines.gemmnet.presets import PRESETS
from mmbench_baselines.method import Batch
from mmbench_baselines.optim import OptimizerParams

GOLDEN = Path(__file__).parents[1] / "golden"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load(GOLDEN / "make_gemmnet_default.py")
tiny, mixed_batch = maker.tiny, maker.mixed_batch


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms.values())).sum()


def with_pattern(batch: Batch, pattern: list[bool]) -> Batch:
    assert batch.complete is not None
    present = torch.tensor([pattern]).expand(len(batch.target), -1)
    images = {
        name: batch.complete[name] * float(here) for name, here in zip(batch.images, pattern, strict=True)
    }
    return dataclasses.replace(batch, images=images, present=present)


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def grads(module: nn.Module) -> list[torch.Tensor | None]:
    return [parameter.grad for parameter in module.parameters()]


# --- facts -------------------------------------------------------------------------------------------------


def test_the_registry_finds_it_by_its_folder() -> None:
    assert registry.entry("method", "gemmnet").title == "GEMMNet"
    assert registry.find("method", "gemmnet") is GEMMNet


@pytest.mark.parametrize(
    ("preset", "judges"), [("released", (2_769_601, 2_765_505)), ("default", (2_767_553,) * 2)]
)
def test_the_parameter_counts_are_the_published_ones(preset: Any, judges: tuple[int, int]) -> None:
    with torch.device("meta"):
        method = GEMMNet({"rgb": 3, "ndsm": 1}, 5, preset=preset)
    assert size(method) == 14_284_236
    assert tuple(map(size, method.discriminators.values())) == judges
    assert tuple(map(size, method.generators.values())) == (2_399_491, 2_398_465)
    assert [size(encoder.encoder) for encoder in method.encoders.values()] == [491_712, 491_568]
    assert (size(method.fusion.decoder), size(method.modality_decoder)) == (465_537, 201_685)
    assert (size(method.fusion.transformer), size(method.fusion.inter_proj)) == (526_336, 131_328)


@pytest.mark.parametrize(
    ("skips", "counts"), [(False, (1_379_841, 1_379_843)), (True, (1_544_193, 1_545_219))]
)
def test_the_generator_without_tokens_has_the_size_that_ae_and_cgan_need(skips: bool, counts: Any) -> None:
    pairs = ((3, 1), (1, 3))
    assert tuple(size(ImageGenerator(*pair, 32, norm="instance", skips=skips)) for pair in pairs) == counts


def test_the_paper_hides_uniformly() -> None:
    assert set(tiny().patterns(0, 10).values()) == {1 / 3}


def test_the_parts_are_disjoint_and_cover_every_parameter() -> None:
    method = tiny()
    parts = method.parts()
    owned = [id(p) for modules in parts.values() for module in modules for p in module.parameters()]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(p) for p in method.parameters()}
    assert {"encoder.irrg", "encoder.ndsm", "intra", "inter", "generators", "discriminators"} < parts.keys()


def test_the_numbers_of_the_default_have_not_moved() -> None:
    expected = json.loads((GOLDEN / "gemmnet_default.json").read_text(encoding="utf-8"))
    measured = maker.measure()
    assert {group: list(values) for group, values in measured.items()} == {
        g: list(v) for g, v in expected.items()
    }
    for group, values in expected.items():
        assert measured[group] == pytest.approx(values, rel=1e-9)


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modalities", [{"irrg": 3}, {"irrg": 3, "ndsm": 1, "sar": 2}])
def test_other_than_two_modalities_are_refused_with_the_reason(modalities: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"expected 2: its generators map one modality to the other"):
        GEMMNet(modalities, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "best"}, "preset is 'best', expected one of"),
        ({"norm": "batch"}, "norm is 'batch', expected one of"),
        ({"clamp": "yes"}, "clamp is 'yes', expected one of"),
        ({"transformer": "none"}, "transformer is 'none', expected one of"),
        ({"train_size": 40}, "train_size is 40, expected a multiple of 16"),
        ({"heads": 3}, "not a multiple of 3 heads"),
        ({"dropout": 1.0}, "dropout is 1.0, expected"),
    ],
)
def test_an_unknown_option_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_a_size_that_is_no_multiple_of_16_is_refused_with_the_size_to_pad_to() -> None:
    batch = mixed_batch(40, 32)
    with pytest.raises(ValueError, match="got 40x32, pad to 48x32"):
        tiny()(batch.images, batch.present)


def test_training_without_the_complete_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch\.complete = None, expected the images before hiding"):
        tiny().training_step(dataclasses.replace(mixed_batch(), complete=None))


# --- presence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_a_sample_does_not_depend_on_the_samples_beside_it(training: bool) -> None:
    method, batch = tiny().train(training), mixed_batch()
    # Two samples lack the same modality, so that its generator sees a sub-batch of more than one.
    batch = dataclasses.replace(batch, present=torch.tensor([[True, False], [True, False], [False, True]]))
    with torch.no_grad():
        together = method(batch.images, batch.present).logits
        for row in range(len(together)):
            images = {name: image[row : row + 1] for name, image in batch.images.items()}
            alone = method(images, batch.present[row : row + 1]).logits
            assert torch.allclose(alone[0], together[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize("preset", PRESETS)
def test_hidden_content_changes_no_bit_of_the_evaluation(preset: str) -> None:
    method, batch = tiny(preset=preset).eval(), mixed_batch()
    hidden = {name: ~batch.present[:, c, None, None, None] for c, name in enumerate(batch.images)}
    other = {name: torch.where(hidden[name], 0.77, image) for name, image in batch.images.items()}
    with torch.no_grad():
        first, second = (method(images, batch.present).logits for images in (batch.images, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize("preset", PRESETS)
def test_in_training_no_gradient_of_the_logits_reaches_a_hidden_slot(preset: str) -> None:
    method, batch = tiny(preset=preset), mixed_batch()
    images = {name: image.clone().requires_grad_() for name, image in batch.images.items()}
    output = method(images, batch.present)
    (output.logits.square().sum() + sum(head.square().sum() for head in output.aux.values())).backward()
    for column, image in enumerate(images.values()):
        assert image.grad is not None
        reached = image.grad.abs().sum(dim=(1, 2, 3)) > 0
        assert torch.equal(reached, batch.present[:, column])


@pytest.mark.parametrize("preset", PRESETS)
def test_no_tensor_of_the_caller_is_written_to(preset: str) -> None:
    method, batch = tiny(preset=preset), mixed_batch()
    assert batch.complete is not None
    given = [*batch.images.values(), *batch.complete.values(), batch.present, batch.target]
    before = [tensor.clone() for tensor in given]
    method.training_step(batch)
    method.eval()(batch.images, batch.present)
    assert all(torch.equal(*pair) for pair in zip(given, before, strict=True))


def test_evaluation_runs_the_fused_head_and_the_needed_generators_only() -> None:
    method, batch, rows = tiny().eval(), mixed_batch(), []

    def refuse(*_: object) -> None:
        raise AssertionError("this module has no part in evaluation")

    for part in (method.modality_decoder, *method.discriminators.values(), *method.fusion.decoder.side_heads):
        part.register_forward_hook(refuse)
    for generator in method.generators.values():
        generator.register_forward_hook(lambda _m, inputs, _o: rows.append(len(inputs[0])))
    assert method(batch.images, batch.present).aux == {}
    assert rows == [1, 1]
    full = with_pattern(batch, [True, True])
    method(full.images, full.present)
    assert rows == [1, 1]


# --- training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", maker.PATTERNS)
def test_every_parameter_gets_a_finite_gradient_under_every_pattern(pattern: list[bool]) -> None:
    method = tiny()
    total(method.training_step(with_pattern(mixed_batch(), pattern))).backward()
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads(method))


def test_each_generator_runs_once_a_step_and_on_every_row() -> None:
    method, rows = tiny(), []
    for generator in method.generators.values():
        generator.register_forward_hook(lambda _m, inputs, _o: rows.append(len(inputs[0])))
    method.training_step(mixed_batch())
    assert rows == [3, 3]


@pytest.mark.parametrize(
    ("pattern", "learned"), [([True, True], set()), ([True, False], {"ndsm"}), ([False, True], {"irrg"})]
)
def test_in_the_released_form_a_generator_learns_where_its_modality_is_hidden(
    pattern: list[bool], learned: set[str]
) -> None:
    terms = tiny(preset="released").training_step(with_pattern(mixed_batch(), pattern))
    for kind in ("reconstruction", "adversarial", "discriminator"):
        assert {name.removeprefix(f"{kind}.") for name in terms if name.startswith(kind)} == learned


def test_the_adversarial_term_leaves_the_discriminators_alone_and_the_other_way_round() -> None:
    method = tiny()
    terms = method.training_step(mixed_batch())
    (terms["adversarial.ndsm"] + terms["adversarial.irrg"]).backward(retain_graph=True)
    assert all(grad is None for grad in grads(method.discriminators))
    assert all(grad is not None for grad in grads(method.generators))
    method.zero_grad()
    (terms["discriminator.ndsm"] + terms["discriminator.irrg"]).backward()
    assert all(grad is not None for grad in grads(method.discriminators))
    assert all(grad is None for grad in grads(method.generators))


def test_the_joint_form_lets_the_adversarial_term_reach_the_discriminators() -> None:
    method = tiny(adversarial="joint")
    method.training_step(mixed_batch())["adversarial.ndsm"].backward()
    assert all(grad is not None for grad in grads(method.discriminators["ndsm"]))


def test_the_segmentation_teaches_the_generator_of_a_missing_modality() -> None:
    method = tiny()
    method.training_step(with_pattern(mixed_batch(), [True, False]))["fused"].backward()
    assert all(grad is not None for grad in grads(method.generators["ndsm"]))
    assert all(grad is None for grad in grads(method.generators["irrg"]))


def test_the_optimisers_share_the_parameters_out() -> None:
    method, params = tiny(), OptimizerParams("sgd", lr=0.5)
    optimizers = method.configure_optimizers(params)
    assert [type(o).__name__ for o in optimizers] == ["SGD", "Adam", "Adam"]
    assert [(o.defaults["lr"], o.defaults.get("betas")) for o in optimizers] == [
        (0.5, None),
        (2e-4, (0.5, 0.999)),
        (2e-4, (0.5, 0.999)),
    ]
    held = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in method.parameters())
    assert len(tiny(adversarial="joint").configure_optimizers(params)) == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_a_target_without_valid_pixels_gives_zero_and_finite_gradients(preset: str) -> None:
    method, batch = tiny(preset=preset), mixed_batch()
    terms = method.training_step(dataclasses.replace(batch, target=torch.full_like(batch.target, 255)))
    total(terms).backward()
    segmentation = [terms[name] for name in terms if name.startswith(("fused", "scale", "modality"))]
    assert torch.equal(torch.stack(segmentation), torch.zeros(7, dtype=torch.float64))
    assert all(bool(grad.isfinite().all()) for grad in grads(method) if grad is not None)


@pytest.mark.parametrize(
    "choice",
    [
        {"norm": "channel"},
        {"tokens": "released"},
        {"adversarial": "joint"},
        {"generator_training": "hidden"},
        {"interp": "prob"},
        {"clamp": True},
        {"dice_classes": "all"},
        {"gan_norm": "batch"},
    ],
)
def test_each_choice_overrides_its_preset_and_changes_the_step(choice: dict[str, Any]) -> None:
    def step(**options: Any) -> torch.Tensor:
        method = tiny(**options)
        total(method.training_step(mixed_batch())).backward()
        return torch.cat([grad.flatten() for grad in grads(method) if grad is not None])

    assert not torch.allclose(step(), step(**choice), rtol=1e-6)
    ((name, value),) = choice.items()
    assert getattr(tiny(**choice).variant, name) == value
    restored = {name: getattr(PRESETS["default"], name)}
    assert getattr(tiny(preset="released", **restored).variant, name) == restored[name]


@pytest.mark.parametrize(("sites", "matrix"), [("branch", 0.0), ("all", 0.3)])
def test_dropout_acts_inside_the_attention_only_where_asked_and_never_in_evaluation(
    sites: str, matrix: float
) -> None:
    method, batch = tiny(dropout=0.3, dropout_sites=sites), mixed_batch()
    attention = method.fusion.transformer.layers[0].attention
    assert (attention.matrix_dropout, attention.proj_dropout.p) == (matrix, matrix)
    torch.manual_seed(0)
    first, second = (method(batch.images, batch.present).logits for _ in range(2))
    assert not torch.equal(first, second)
    method.eval()
    first, second = (method(batch.images, batch.present).logits for _ in range(2))
    assert torch.equal(first, second)


def test_idle_generators_move_running_statistics_and_nothing_else() -> None:
    batch, results = with_pattern(mixed_batch(), [True, True]), []
    for idle in (False, True):
        method = tiny(preset="released", idle_generators=idle)
        before = method.generators["ndsm"].downs[1].norm.running_mean.clone()
        loss = total(method.training_step(batch))
        loss.backward()
        assert torch.equal(before, method.generators["ndsm"].downs[1].norm.running_mean) != idle
        assert all(grad is None for grad in grads(method.generators))
        results.append(loss.item())
    assert results[0] == results[1]


# --- sizes, ablation, precision, storage -------------------------------------------------------------------


@pytest.mark.parametrize("extent", [(32, 32), (64, 64), (96, 128)])
@pytest.mark.parametrize("preset", PRESETS)
def test_other_sizes_than_the_trained_one_work(extent: tuple[int, int], preset: str) -> None:
    method, batch = tiny(preset=preset), mixed_batch(*extent)
    terms = method.training_step(batch)
    total(terms).backward()
    assert bool(total(terms).isfinite())
    assert method.eval()(batch.images, batch.present).logits.shape == (3, 5, *extent)


@pytest.mark.parametrize("transformer", ["both", "intra", "inter", "off"])
def test_the_ablations_leave_no_dead_parameter(transformer: str) -> None:
    method, batch = tiny(transformer=transformer), mixed_batch()
    total(method.training_step(batch)).backward()
    assert all(grad is not None for grad in grads(method))
    names = [name for name, _ in method.named_parameters() if not name.startswith("generators")]
    assert any("encoders.irrg.transformer" in name for name in names) == (transformer in ("both", "intra"))
    assert any("fusion.transformer" in name for name in names) == (transformer in ("both", "inter"))
    assert any("positions" in name for name in names) == (transformer != "off")


def test_bfloat16_autocast_gives_finite_logits_and_gradients() -> None:
    method, batch = tiny().float(), mixed_batch()
    assert batch.complete is not None
    images = {name: image.float() for name, image in batch.images.items()}
    complete = {name: image.float() for name, image in batch.complete.items()}
    batch = dataclasses.replace(batch, images=images, complete=complete)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert bool(method(batch.images, batch.present).logits.isfinite().all())
        terms = method.training_step(batch)
    total(terms).backward()
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads(method))


def test_saved_weights_give_the_same_bits_in_a_new_instance() -> None:
    method, batch = tiny().eval(), mixed_batch()
    copy = tiny().eval()
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
        copy.load_state_dict(method.state_dict())
        first, second = (m(batch.images, batch.present).logits for m in (method, copy))
    assert torch.equal(first, second)
