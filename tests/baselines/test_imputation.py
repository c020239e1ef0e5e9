"""What AE and cGAN share: who may see what, what is imputed, what learns from what, and their own numbers."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmbench import registry
from mmbench_baselines.method import Batch
from mmbench_baselines.optim import OptimizerParams

GOLDEN = Path(__file__).parents[1] / "golden"
METHODS = ["ae", "cgan"]

spec = importlib.util.spec_from_file_location("maker", GOLDEN / "make_imputing_defaults.py")
assert spec is not None
assert spec.loader is not None
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)
tiny, mixed_batch = maker.tiny, maker.mixed_batch

pytestmark = pytest.mark.parametrize("name", METHODS)


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms.values())).sum()


def with_pattern(batch: Batch, pattern: list[bool]) -> Batch:
    assert batch.complete is not None
    present = torch.tensor([pattern]).expand(len(batch.target), -1)
    images = {key: batch.complete[key] * float(here) for key, here in zip(batch.images, pattern, strict=True)}
    return dataclasses.replace(batch, images=images, present=present)


def learned(module: nn.Module) -> set[bool]:
    """Return whether its weights have a gradient that is not zero: {True}, {False} or both.

    Weights only: the gradient of a bias that feeds a normalisation is zero but for rounding.
    """
    weights = [p for p in module.parameters() if p.ndim > 1]
    return {p.grad is not None and bool(p.grad.abs().sum() > 0) for p in weights}


# --- facts -------------------------------------------------------------------------------------------------


def test_the_registry_finds_it_by_its_file(name: str) -> None:
    found = registry.find("method", name)
    assert registry.entry("method", name).title == found.title == {"ae": "AE", "cgan": "cGAN"}[name]


def test_the_card_says_that_the_definition_is_ours(name: str) -> None:
    found = registry.find("method", name)
    assert "no official definition or code is public" in found.source
    assert "032e884" in found.source
    assert found.deviations[0].startswith("No official definition or code exists: this one is ours")


def test_the_numbers_of_the_default_have_not_moved(name: str) -> None:
    expected = json.loads((GOLDEN / f"{name}_default.json").read_text(encoding="utf-8"))
    measured = maker.measure(name)
    assert {g: list(v) for g, v in measured.items()} == {g: list(v) for g, v in expected.items()}
    for group, values in expected.items():
        assert measured[group] == pytest.approx(values, rel=1e-9)


def test_convolutions_of_the_generation_start_as_in_pix2pix(name: str) -> None:
    method = registry.find("method", name)({"irrg": 3, "ndsm": 1}, 5)
    adversaries = [*method.generators.values(), *getattr(method, "discriminators", {}).values()]
    layers = [x for part in adversaries for x in part.modules() if hasattr(x, "kernel_size")]
    weights = torch.cat([layer.weight.detach().flatten() for layer in layers])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert all(not layer.bias.any() for layer in layers)


def test_the_parts_are_disjoint_and_cover_every_parameter(name: str) -> None:
    method = tiny(name)
    owned = [id(p) for modules in method.parts().values() for m in modules for p in m.parameters()]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(p) for p in method.parameters()}


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "channels", [{"irrg": 3}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 3, "d": 4}]
)
def test_other_than_two_modalities_are_refused_with_the_reason(name: str, channels: dict[str, int]) -> None:
    reason = rf"{name.upper()} got {len(channels)} modalities .* expected 2: its generators map one modality"
    with pytest.raises(ValueError, match=reason):
        registry.find("method", name)(channels, 5)


@pytest.mark.parametrize(
    ("extent", "message"),
    [((40, 32), "got 40x32, pad to 48x32"), ((32, 16), "at least 32; got 32x16, pad to 32x32")],
)
def test_a_wrong_size_is_refused_with_the_size_to_pad_to(
    name: str, extent: tuple[int, int], message: str
) -> None:
    batch = mixed_batch(*extent)
    for refuse in (
        lambda: tiny(name)(batch.images, batch.present),
        lambda: tiny(name).training_step(batch),
    ):
        with pytest.raises(ValueError, match=message):
            refuse()


def test_training_without_the_complete_images_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name.upper()}\.training_step got batch\.complete = None"):
        tiny(name).training_step(dataclasses.replace(mixed_batch(), complete=None))


# --- presence and imputation -------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("rows", [maker.PATTERNS, [[True, False], [True, False], [False, True]]])
def test_each_sample_of_a_mixed_batch_gets_the_bits_it_has_alone(
    name: str, rows: list[list[bool]], training: bool
) -> None:
    method, batch, present = tiny(name).train(training), mixed_batch(), torch.tensor(rows)
    with torch.no_grad():
        together = method(batch.images, present).logits
        for row in range(len(together)):
            images = {key: image[row : row + 1] for key, image in batch.images.items()}
            assert torch.equal(method(images, present[row : row + 1]).logits[0], together[row])


def test_hidden_content_changes_no_bit_of_the_evaluation(name: str) -> None:
    method, batch = tiny(name).eval(), mixed_batch()
    hidden = {key: ~batch.present[:, column, None, None, None] for column, key in enumerate(batch.images)}
    other = {key: torch.where(hidden[key], 0.77, image) for key, image in batch.images.items()}
    with torch.no_grad():
        first, second = (method(images, batch.present).logits for images in (batch.images, other))
    assert torch.equal(first, second)


def test_in_training_no_gradient_of_the_logits_reaches_a_hidden_slot(name: str) -> None:
    method, batch = tiny(name), mixed_batch()
    images = {key: image.clone().requires_grad_() for key, image in batch.images.items()}
    method(images, batch.present).logits.square().sum().backward()
    for column, image in enumerate(images.values()):
        assert image.grad is not None
        assert torch.equal(image.grad.abs().sum(dim=(1, 2, 3)) > 0, batch.present[:, column])


def test_no_tensor_of_the_caller_is_written_to(name: str) -> None:
    method, batch = tiny(name), mixed_batch()
    assert batch.complete is not None
    given = [*batch.images.values(), *batch.complete.values(), batch.present, batch.target]
    before = [tensor.clone() for tensor in given]
    total(method.training_step(batch)).backward()
    method.eval()(batch.images, batch.present)
    assert all(torch.equal(*pair) for pair in zip(given, before, strict=True))


def test_the_imputed_images_are_real_where_present_and_generated_where_not(name: str) -> None:
    method, batch = tiny(name).eval(), mixed_batch()
    with torch.no_grad():
        imputed = method(batch.images, batch.present).imputed
        for column, (key, image) in enumerate(batch.images.items()):
            source = {"irrg": "ndsm", "ndsm": "irrg"}[key]
            here = batch.present[:, column]
            assert torch.equal(imputed[key][here], image[here])
            assert torch.equal(imputed[key][~here], method.generators[key](batch.images[source][~here]))
            assert imputed[key].abs().max() <= 1


def test_an_imputed_image_is_segmented_like_a_given_one(name: str) -> None:
    method, batch = tiny(name).eval(), mixed_batch()
    with torch.no_grad():
        output = method(batch.images, batch.present)
        given = method(output.imputed, torch.ones_like(batch.present))
    assert torch.equal(output.logits, given.logits)


def test_evaluation_runs_a_generator_on_the_rows_that_need_it_only(name: str) -> None:
    method, batch, rows = tiny(name).eval(), mixed_batch(), []
    for generator in method.generators.values():
        generator.register_forward_hook(lambda _m, inputs, _o: rows.append(len(inputs[0])))
    method(batch.images, batch.present)
    assert rows == [1, 1]
    full = with_pattern(batch, [True, True])
    method(full.images, full.present)
    assert rows == [1, 1]


# --- training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", maker.PATTERNS)
def test_every_trainable_parameter_gets_a_finite_gradient_under_every_pattern(
    name: str, pattern: list[bool]
) -> None:
    method = tiny(name)
    total(method.training_step(with_pattern(mixed_batch(), pattern))).backward()
    grads = {key: p.grad for key, p in method.named_parameters()}
    assert {key for key, grad in grads.items() if grad is None} == {
        key for key in grads if key.startswith("decoder.side_heads")
    }
    assert all(bool(grad.isfinite().all()) for grad in grads.values() if grad is not None)


def test_generators_learn_from_a_batch_where_nothing_is_hidden(name: str) -> None:
    method = tiny(name)
    assert method.sees_hidden_in_training
    terms = method.training_step(with_pattern(mixed_batch(), [True, True]))
    for key, generator in method.generators.items():
        method.zero_grad()
        terms[f"reconstruction.{key}"].backward(retain_graph=True)
        assert learned(generator) == {True}


def test_each_generator_runs_once_a_step_and_on_every_row(name: str) -> None:
    method, rows = tiny(name), []
    for generator in method.generators.values():
        generator.register_forward_hook(lambda _m, inputs, _o: rows.append(len(inputs[0])))
    method.training_step(mixed_batch())
    assert rows == [3, 3]


def test_the_segmentation_teaches_the_generator_of_a_missing_modality_alone(name: str) -> None:
    method = tiny(name)
    method.training_step(with_pattern(mixed_batch(), [True, False]))["segmentation"].backward()
    assert learned(method.generators["ndsm"]) == {True}
    assert learned(method.generators["irrg"]) == {False}


def test_training_segments_what_evaluation_segments(name: str) -> None:
    method, batch = tiny(name), mixed_batch()
    output = method(batch.images, batch.present)
    assert torch.equal(
        method.training_step(batch)["segmentation"], method.loss(output, batch)["segmentation"]
    )


def test_the_reconstruction_is_5_times_the_mean_absolute_difference_on_every_row(name: str) -> None:
    method, batch = tiny(name), mixed_batch()
    assert batch.complete is not None
    terms = method.training_step(batch)
    for key, source in {"irrg": "ndsm", "ndsm": "irrg"}.items():
        difference = (method.generators[key](batch.complete[source]) - batch.complete[key]).abs().mean()
        assert terms[f"reconstruction.{key}"].item() == pytest.approx(5 * difference.item(), rel=1e-12)


def test_a_target_without_valid_pixels_gives_zero_and_finite_gradients(name: str) -> None:
    method, batch = tiny(name), mixed_batch()
    terms = method.training_step(dataclasses.replace(batch, target=torch.full_like(batch.target, 255)))
    total(terms).backward()
    assert terms["segmentation"].item() == 0
    assert all(bool(p.grad.isfinite().all()) for p in method.parameters() if p.grad is not None)


# --- sizes, precision, storage -----------------------------------------------------------------------------


@pytest.mark.parametrize("extent", [(32, 32), (96, 128)])
def test_any_multiple_of_16_from_32_works(name: str, extent: tuple[int, int]) -> None:
    method, batch = tiny(name), mixed_batch(*extent)
    terms = method.training_step(batch)
    total(terms).backward()
    assert bool(total(terms).isfinite())
    assert method.eval()(batch.images, batch.present).logits.shape == (3, 5, *extent)


def test_bfloat16_autocast_gives_finite_logits_and_gradients(name: str) -> None:
    method, batch = tiny(name).float(), mixed_batch()
    assert batch.complete is not None
    images = {key: image.float() for key, image in batch.images.items()}
    complete = {key: image.float() for key, image in batch.complete.items()}
    batch = dataclasses.replace(batch, images=images, complete=complete)
    exact = method.training_step(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert bool(method(batch.images, batch.present).logits.isfinite().all())
        terms = method.training_step(batch)
    total(terms).backward()
    assert all(bool(p.grad.isfinite().all()) for p in method.parameters() if p.requires_grad)
    for key, term in terms.items():
        assert term.item() == pytest.approx(exact[key].item(), rel=0.05)


def test_saved_weights_give_the_same_bits_in_a_new_instance(name: str) -> None:
    method, batch = tiny(name).eval(), mixed_batch()
    copy: Any = registry.find("method", name)(maker.MODALITIES, maker.NUM_CLASSES, **maker.WIDTHS[name])
    copy = copy.double().eval()
    copy.load_state_dict(method.state_dict())
    with torch.no_grad():
        first, second = (m(batch.images, batch.present).logits for m in (method, copy))
    assert torch.equal(first, second)


def test_nothing_is_kept_between_batches_but_parameters(name: str) -> None:
    # Running statistics would let a generated image depend on the batches before, and differ in evaluation.
    assert list(tiny(name).buffers()) == []


def test_an_optimiser_step_moves_every_trainable_weight(name: str) -> None:
    method, batch = tiny(name), mixed_batch()
    weights = {key: p for key, p in method.named_parameters() if p.ndim > 1}
    before = {key: p.detach().clone() for key, p in weights.items()}
    optimizers = method.configure_optimizers(OptimizerParams("sgd", lr=0.1))
    total(method.training_step(batch)).backward()
    for optimizer in optimizers:
        optimizer.step()
    still = {key for key, p in weights.items() if torch.equal(before[key], p)}
    assert still == {key for key in before if key.startswith("decoder.side_heads")}
