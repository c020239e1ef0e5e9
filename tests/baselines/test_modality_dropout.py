"""The control: per-sample patterns, nothing seen of what is hidden, any size, small, and it learns."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mmbench_baselines.method import Batch, uniform_patterns
from mmbench_baselines.modality_dropout import ModalityDropout
from mmbench_baselines.optim import build_optimizer

NUM_CLASSES = 3
CHANNELS = {"rgb": 3, "ndsm": 1, "nir": 2, "spectral": 4}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def build(count: int = 2) -> ModalityDropout:
    modalities = dict(itertools.islice(CHANNELS.items(), count))
    return ModalityDropout(modalities, NUM_CLASSES, base_width=8).double()


def random_images(
    model: ModalityDropout, batch_size: int, height: int = 32, width: int = 32
) -> dict[str, Tensor]:
    return {
        name: torch.randn(batch_size, channels, height, width, dtype=torch.float64)
        for name, channels in model.modalities.items()
    }


def every_pattern(count: int) -> Tensor:
    return torch.tensor(list(uniform_patterns(count)))


def random_batch(model: ModalityDropout, present: Tensor) -> Batch:
    target = torch.randint(0, NUM_CLASSES, (len(present), 32, 32))
    target[:, :8] = model.ignore_index
    return Batch(random_images(model, len(present)), present, target)


def total_loss(model: ModalityDropout, batch: Batch) -> Tensor:
    return torch.stack(list(model.training_step(batch).values())).sum()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_mixed_batch_gives_each_sample_what_it_gets_alone(count: int) -> None:
    model, present = build(count).eval(), every_pattern(count)
    images = random_images(model, len(present))
    with torch.inference_mode():
        logits = model(images, present).logits
        for row in range(len(present)):
            one = slice(row, row + 1)
            alone = model({name: x[one] for name, x in images.items()}, present[one]).logits
            torch.testing.assert_close(logits[one], alone, rtol=1e-10, atol=1e-10)


def test_logits_do_not_change_by_a_bit_with_what_is_hidden() -> None:
    model, present = build(3).eval(), every_pattern(3)
    images = random_images(model, len(present))
    columns = dict(zip(images, present.unbind(1), strict=True))
    with torch.inference_mode():
        logits = model(images, present).logits
        for value in (0.0, 1e6, float("nan")):
            hidden = {n: torch.where(columns[n][:, None, None, None], x, value) for n, x in images.items()}
            assert torch.equal(model(hidden, present).logits, logits)


def test_what_is_hidden_gets_no_gradient_and_cannot_spoil_that_of_the_weights() -> None:
    model, present = build(2), torch.tensor([[True, False], [True, True], [False, True]])
    batch = random_batch(model, present)
    for name, column in zip(batch.images, present.unbind(1), strict=True):
        batch.images[name][~column] = float("nan")
        batch.images[name].requires_grad_()
    total_loss(model, batch).backward()
    for image, column in zip(batch.images.values(), present.unbind(1), strict=True):
        assert image.grad is not None
        assert not image.grad[~column].any()
        assert image.grad[column].flatten(1).any(1).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_gradients_are_finite_for_every_pattern(count: int) -> None:
    model = build(count)
    for present in every_pattern(count).split(1):
        model.zero_grad()
        total_loss(model, random_batch(model, present)).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_features_are_averaged_over_the_present_modalities() -> None:
    model = ModalityDropout({"left": 2, "right": 2}, NUM_CLASSES, base_width=8).double().eval()
    model.encoders[1].load_state_dict(model.encoders[0].state_dict())
    image = torch.randn(1, 2, 32, 32, dtype=torch.float64)
    images = {"left": image, "right": image}
    alone, both = (model(images, torch.tensor([[True, second]])).logits for second in (False, True))
    torch.testing.assert_close(both, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 16), (37, 50), (64, 17)])
def test_any_size_is_taken(height: int, width: int) -> None:
    model = build(2)
    logits = model(random_images(model, 2, height, width), torch.tensor([[True, False], [True, True]])).logits
    assert logits.shape == (2, NUM_CLASSES, height, width)
    assert torch.isfinite(logits).all()


def test_inputs_are_not_written() -> None:
    model, present = build(2), torch.tensor([[True, False], [True, True]])
    batch = random_batch(model, present)
    before = [x.clone() for x in (*batch.images.values(), batch.target, present)]
    total_loss(model, batch).backward()
    after = (*batch.images.values(), batch.target, present)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_state_dict_holds_all_there_is() -> None:
    one, other = build(2).eval(), build(2).eval()
    images, present = random_images(one, 2), torch.tensor([[True, False], [True, True]])
    expected = one(images, present).logits
    assert not torch.equal(other(images, present).logits, expected)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(images, present).logits, expected)


def test_bfloat16_autocast_is_finite_forward_and_back() -> None:
    model, present = build(3).float(), every_pattern(3)
    batch = random_batch(model, present)
    images = {name: x.float() for name, x in batch.images.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = total_loss(model, Batch(images, present, batch.target))
    total.backward()
    assert total.dtype == torch.float32
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_target_of_ignored_pixels_costs_nothing() -> None:
    model = build(2)
    batch = random_batch(model, torch.tensor([[True, False], [True, True]]))
    total = total_loss(model, Batch(batch.images, batch.present, torch.full_like(batch.target, 255)))
    total.backward()
    assert total.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_it_learns_to_read_either_modality_in_a_few_steps() -> None:
    model = ModalityDropout({"rgb": 3, "ndsm": 1}, 2, base_width=8)
    target = torch.zeros(4, 32, 32, dtype=torch.int64)
    target[:, 8:24, 4:20] = 1
    sign = 2.0 * target[:, None] - 1
    images = {"rgb": -sign.expand(-1, 3, -1, -1) / 2, "ndsm": sign / 2}
    present = torch.tensor([[True, False], [False, True], [True, True], [True, False]])
    optimizer = build_optimizer(model.parameters(), model.paper_training.optimizer)
    for _ in range(30):
        optimizer.zero_grad()
        total_loss(model, Batch(images, present, target)).backward()
        optimizer.step()
    assert model(images, present).logits.argmax(1).eq(target).float().mean().item() > 0.99


def test_the_control_is_small_and_its_parts_are_all_of_it() -> None:
    model = ModalityDropout({"rgb": 3, "ndsm": 1}, 6)
    sizes = {n: sum(p.numel() for m in ms for p in m.parameters()) for n, ms in model.parts().items()}
    assert list(sizes) == ["encoder.rgb", "encoder.ndsm", "decoder"]
    assert sum(sizes.values()) == sum(p.numel() for p in model.parameters()) < 2e6


def test_its_training_hides_every_subset_alike() -> None:
    assert build(2).patterns(0, 10) == uniform_patterns(2)


@pytest.mark.parametrize("base_width", [0, 12])
def test_a_width_that_groups_do_not_divide_is_refused(base_width: Any) -> None:
    with pytest.raises(ValueError, match=f"base_width is {base_width}, expected a positive multiple of 8"):
        ModalityDropout({"rgb": 3}, NUM_CLASSES, base_width=base_width)
