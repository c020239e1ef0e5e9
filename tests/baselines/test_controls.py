"""The controls: what each learns from, whom it asks, and that nothing hidden and no neighbour is seen."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mmbench.testing import check_method
from mmbench_baselines.blocks.control import Control
from mmbench_baselines.early_fusion import EarlyFusion
from mmbench_baselines.expert_switch import ExpertSwitch
from mmbench_baselines.late_fusion import LateFusion
from mmbench_baselines.method import Batch, uniform_patterns
from mmbench_baselines.optim import build_optimizer
from mmbench_baselines.unimodal import Unimodal

NUM_CLASSES = 3
CHANNELS = {"rgb": 3, "ndsm": 1, "nir": 2, "spectral": 5}

each_control = pytest.mark.parametrize("kind", [Unimodal, ExpertSwitch, LateFusion, EarlyFusion])
each_count = pytest.mark.parametrize("count", [1, 2, 3, 4])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def build(kind: type[Control], count: int = 2, **options: Any) -> Any:
    """Return a narrow control in float64 whose weights are not those of a fresh one.

    Fresh biases are 0, and then an empty image would give 0 whatever the weights are.
    """
    modalities = dict(itertools.islice(CHANNELS.items(), count))
    model = kind(modalities, NUM_CLASSES, base_width=8, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def random_images(model: Control, batch_size: int, height: int = 32, width: int = 32) -> dict[str, Tensor]:
    return {
        name: torch.randn(batch_size, channels, height, width, dtype=torch.float64)
        for name, channels in model.modalities.items()
    }


def every_pattern(count: int) -> Tensor:
    return torch.tensor(list(uniform_patterns(count)))


def random_batch(model: Control, present: Tensor) -> Batch:
    target = torch.randint(0, NUM_CLASSES, (len(present), 32, 32))
    target[:, :8] = model.ignore_index
    return Batch(random_images(model, len(present)), present, target)


def total_loss(model: Control, batch: Batch) -> Tensor:
    return torch.stack(list(model.training_step(batch).values())).sum()


def take(batch: Batch, rows: Tensor) -> Batch:
    images = {name: image[rows] for name, image in batch.images.items()}
    return Batch(images, batch.present[rows], batch.target[rows])


def gradients(model: Control, module: torch.nn.Module, batch: Batch) -> list[Tensor]:
    """Return the gradients of the loss to a part's parameters, zeros where there are none."""
    model.zero_grad()
    total_loss(model, batch).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in module.parameters()]


def with_other_rows(batch: Batch, rows: Tensor) -> Batch:
    """Return the batch with new images and targets in some rows."""
    other = {n: image.index_copy(0, rows, torch.randn_like(image[rows])) for n, image in batch.images.items()}
    return Batch(other, batch.present, batch.target.index_fill(0, rows, 1))


@each_control
@each_count
def test_a_mixed_batch_gives_each_sample_what_it_gets_alone(kind: type[Control], count: int) -> None:
    model, present = build(kind, count), every_pattern(count)
    images = random_images(model, len(present))
    for training in (False, True):
        model.train(training)
        with torch.inference_mode():
            logits = model(images, present).logits
            for row in range(len(present)):
                one = slice(row, row + 1)
                alone = model({name: x[one] for name, x in images.items()}, present[one]).logits
                if training:
                    torch.testing.assert_close(logits[one], alone, rtol=0, atol=1e-6)
                else:
                    assert torch.equal(logits[one], alone)


@each_control
def test_logits_do_not_change_by_a_bit_with_what_is_hidden(kind: type[Control]) -> None:
    model, present = build(kind, 3).eval(), every_pattern(3)
    images = random_images(model, len(present))
    columns = dict(zip(images, present.unbind(1), strict=True))
    with torch.inference_mode():
        logits = model(images, present).logits
        for value in (0.0, 1e6, float("nan")):
            hidden = {n: torch.where(columns[n][:, None, None, None], x, value) for n, x in images.items()}
            assert torch.equal(model(hidden, present).logits, logits)


@each_control
def test_what_is_hidden_gets_no_gradient_and_cannot_spoil_that_of_the_weights(kind: type[Control]) -> None:
    model, present = build(kind), torch.tensor([[True, False], [True, True], [False, True]])
    batch = random_batch(model, present)
    for name, column in zip(batch.images, present.unbind(1), strict=True):
        batch.images[name][~column] = float("nan")
        batch.images[name].requires_grad_()
    total_loss(model, batch).backward()
    for image, column in zip(batch.images.values(), present.unbind(1), strict=True):
        assert image.grad is not None
        assert not image.grad[~column].any()
        assert image.grad[1].any()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@each_control
@each_count
def test_gradients_are_finite_for_every_pattern(kind: type[Control], count: int) -> None:
    model = build(kind, count)
    for present in every_pattern(count).split(1):
        model.zero_grad()
        total_loss(model, random_batch(model, present)).backward()
        found = [p.grad for p in model.parameters() if p.grad is not None]
        assert found
        assert all(torch.isfinite(gradient).all() for gradient in found)


@each_control
@pytest.mark.parametrize(("height", "width"), [(1, 1), (37, 50)])
def test_any_size_is_taken(kind: type[Control], height: int, width: int) -> None:
    model = build(kind)
    logits = model(random_images(model, 3, height, width), every_pattern(2)).logits
    assert logits.shape == (3, NUM_CLASSES, height, width)
    assert torch.isfinite(logits).all()


@each_control
def test_inputs_of_a_wrong_size_are_refused_with_the_right_one(kind: type[Control]) -> None:
    model, present = build(kind), every_pattern(2)
    images = random_images(model, 3)
    with pytest.raises(ValueError, match=r"images\['ndsm'\] is \(3, 1, 16, 32\), expected \(3, 1, 32, 32\)"):
        model(images | {"ndsm": images["ndsm"][:, :, :16]}, present)
    with pytest.raises(ValueError, match=r"present is \(2, 2\) torch.bool, expected \(3, 2\) torch.bool"):
        model(images, present[:2])


@each_control
def test_a_width_that_groups_do_not_divide_is_refused(kind: type[Control]) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__}: base_width is 12, expected a positive multiple"):
        kind({"rgb": 3}, NUM_CLASSES, base_width=12)


@each_control
def test_inputs_are_not_written(kind: type[Control]) -> None:
    model = build(kind)
    batch = random_batch(model, every_pattern(2))
    before = [x.clone() for x in (*batch.images.values(), batch.target, batch.present)]
    total_loss(model, batch).backward()
    after = (*batch.images.values(), batch.target, batch.present)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@each_control
def test_the_state_dict_holds_all_there_is(kind: type[Control]) -> None:
    one, other, present = build(kind).eval(), build(kind).eval(), every_pattern(2)
    images = random_images(one, len(present))
    expected = one(images, present).logits
    assert not torch.equal(other(images, present).logits, expected)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(images, present).logits, expected)


@each_control
def test_bfloat16_autocast_is_finite_forward_and_back(kind: type[Control]) -> None:
    model, present = build(kind, 3).float(), every_pattern(3)
    batch = random_batch(model, present)
    images = {name: x.float() for name, x in batch.images.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = total_loss(model, Batch(images, present, batch.target))
        assert torch.isfinite(model(images, present).logits).all()
    total.backward()
    assert total.dtype == torch.float32
    assert torch.isfinite(total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@each_control
def test_a_target_of_ignored_pixels_costs_nothing(kind: type[Control]) -> None:
    model = build(kind)
    batch = random_batch(model, every_pattern(2))
    total = total_loss(model, Batch(batch.images, batch.present, torch.full_like(batch.target, 255)))
    total.backward()
    assert total.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@each_control
def test_it_learns_in_a_few_steps(kind: type[Control]) -> None:
    model = kind({"rgb": 3, "ndsm": 1}, 2, base_width=8)
    target = torch.zeros(4, 32, 32, dtype=torch.int64)
    target[:, 8:24, 4:20] = 1
    sign = 2.0 * target[:, None] - 1
    images = {"rgb": -sign.expand(-1, 3, -1, -1) / 2, "ndsm": sign / 2}
    present = torch.tensor([[True, False], [False, True], [True, True], [True, True]])
    optimizer = build_optimizer(model.parameters(), model.paper_training.optimizer)
    for _ in range(30):
        optimizer.zero_grad()
        total_loss(model, Batch(images, present, target)).backward()
        optimizer.step()
    right = model(images, present).logits.argmax(1).eq(target)
    taught = present.all(1) if kind is Unimodal else present.any(1)
    assert right[taught].float().mean().item() > 0.99


@each_control
def test_the_parts_are_all_there_is(kind: type[Control]) -> None:
    model = build(kind)
    sizes = {n: sum(p.numel() for m in ms for p in m.parameters()) for n, ms in model.parts().items()}
    assert sum(sizes.values()) == sum(p.numel() for p in model.parameters())
    one_network = ["encoder", "decoder"]
    assert list(sizes) == {
        ExpertSwitch: ["expert.rgb", "expert.ndsm", "expert.rgb+ndsm"],
        LateFusion: ["expert.rgb", "expert.ndsm"],
    }.get(kind, one_network)


@each_control
@pytest.mark.parametrize("count", [1, 3])
def test_the_contract_holds_for_other_modality_counts(kind: type[Control], count: int) -> None:
    check_method(kind, dict(itertools.islice(CHANNELS.items(), count)), {"base_width": 8})


@pytest.mark.parametrize("subset", ["rgb", "ndsm", "rgb+ndsm"])
def test_the_contract_holds_for_every_subset_of_the_unimodal_expert(subset: str) -> None:
    check_method(Unimodal, {"rgb": 3, "ndsm": 1}, {"base_width": 8, "subset": subset})


def test_the_switch_gives_what_the_unimodal_expert_of_the_present_subset_gives() -> None:
    switch, present = build(ExpertSwitch, 3).eval(), every_pattern(3).repeat(2, 1)
    images = random_images(switch, len(present))
    logits = switch(images, present).logits
    for pattern in every_pattern(3):
        subset = tuple(itertools.compress(switch.modalities, pattern.tolist()))
        single = build(Unimodal, 3, subset=subset).eval()
        single.expert.load_state_dict(switch.experts[switch.subsets.index(subset)].state_dict())
        rows = (present == pattern).all(1)
        alone = single({name: x[rows] for name, x in images.items()}, present[rows]).logits
        assert torch.equal(logits[rows], alone)


def test_the_switch_costs_as_much_as_its_experts_together() -> None:
    patterns = [p.tolist() for p in every_pattern(4)]
    experts = [build(Unimodal, 4, subset=list(itertools.compress(CHANNELS, p))) for p in patterns]
    sizes = [sum(p.numel() for p in model.parameters()) for model in (build(ExpertSwitch, 4), *experts)]
    assert sizes[0] == sum(sizes[1:])


def test_an_expert_of_the_switch_learns_from_the_samples_that_have_its_modalities_and_from_no_other() -> None:
    model, present = build(ExpertSwitch, 3), every_pattern(3)[[0, 2, 2, 5]]
    batch = random_batch(model, present)
    for subset, expert in zip(model.subsets, model.experts, strict=True):
        columns = [list(model.modalities).index(name) for name in subset]
        served = present[:, columns].all(dim=1)
        found = gradients(model, expert, batch)
        assert any(g.any() for g in found) == bool(served.any())
        others = with_other_rows(batch, (~served).nonzero().squeeze(1))
        for one, other in zip(found, gradients(model, expert, others), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_an_expert_of_the_switch_is_trained_as_it_would_be_alone() -> None:
    switch = build(ExpertSwitch)
    alone = build(Unimodal, subset=["ndsm"])
    place = switch.subsets.index(("ndsm",))
    alone.expert.load_state_dict(switch.experts[place].state_dict())
    batch = random_batch(switch, every_pattern(2))
    pairs = zip(
        gradients(switch, switch.experts[place], batch), gradients(alone, alone.expert, batch), strict=True
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_an_expert_without_a_sample_is_left_alone_by_the_optimiser() -> None:
    model = build(ExpertSwitch)
    (optimizer,) = model.configure_optimizers(model.paper_training.optimizer)
    before = [[p.detach().clone() for p in expert.parameters()] for expert in model.experts]
    total_loss(model, random_batch(model, torch.tensor([[True, False], [True, False]]))).backward()
    optimizer.step()
    moved = [
        any(not torch.equal(p, q) for p, q in zip(expert.parameters(), old, strict=True))
        for expert, old in zip(model.experts, before, strict=True)
    ]
    assert dict(zip(model.subsets, moved, strict=True)) == {
        ("rgb",): True,
        ("ndsm",): False,
        ("rgb", "ndsm"): False,
    }


def test_samples_weigh_in_the_loss_of_an_expert_of_the_switch_as_their_share_of_the_batch() -> None:
    model, present = build(ExpertSwitch), every_pattern(2)[[0, 1, 1, 2]]
    batch = random_batch(model, present)
    terms = model.training_step(batch)
    for subset in model.subsets:
        columns = [list(model.modalities).index(name) for name in subset]
        rows = present[:, columns].all(dim=1).nonzero().squeeze(1)
        alone = model.training_step(take(batch, rows))
        for term in ("cross_entropy", "dice"):
            name = f"{term}.{'+'.join(subset)}"
            torch.testing.assert_close(terms[name], len(rows) / 4 * alone[name], rtol=1e-12, atol=0)


def test_late_fusion_is_the_mean_of_the_present_experts_probabilities() -> None:
    model, present = build(LateFusion, 3).eval(), every_pattern(3)
    images = random_images(model, len(present))
    probabilities = [e(x).softmax(1) for e, x in zip(model.experts, images.values(), strict=True)]
    fused = model(images, present).logits.exp()
    for row, pattern in enumerate(present.tolist()):
        votes = [p[row] for p in itertools.compress(probabilities, pattern)]
        torch.testing.assert_close(fused[row], sum(votes) / len(votes), rtol=1e-10, atol=1e-12)


def test_late_fusion_stays_finite_when_its_experts_are_sure_of_the_same() -> None:
    model = build(LateFusion).float().eval()
    for expert in model.experts:
        expert.decoder.head.weight.data.zero_()
        expert.decoder.head.bias.data.copy_(torch.tensor([500.0, 0.0, -500.0]))
    images = {name: x.float() for name, x in random_images(model, 3).items()}
    logits = model(images, every_pattern(2)).logits
    assert torch.equal(logits[:, :, 0, 0], torch.tensor([0.0, -500.0, -1000.0]).expand(3, -1))


def test_an_expert_of_late_fusion_learns_wherever_its_modality_is_present_and_from_nothing_else() -> None:
    model, present = build(LateFusion), torch.tensor([[True, False], [True, True], [False, True]])
    batch = random_batch(model, present)
    for column, expert in enumerate(model.experts):
        found = gradients(model, expert, batch)
        assert any(g.any() for g in found)
        rows = present[:, column].nonzero().squeeze(1)
        unaccompanied = torch.zeros_like(present).index_fill(1, torch.tensor(column), True)
        single = take(Batch(batch.images, unaccompanied, batch.target), rows)
        alone = gradients(model, expert, single)
        for one, other in zip(found, alone, strict=True):
            torch.testing.assert_close(one, other * len(rows) / 3, rtol=1e-9, atol=1e-12)
    only_first = random_batch(model, torch.tensor([[True, False]]))
    assert set(model.training_step(only_first)) == {"cross_entropy.rgb", "dice.rgb"}
    assert not any(g.any() for g in gradients(model, model.experts[1], only_first))


def test_early_fusion_takes_a_missing_modality_for_the_training_mean() -> None:
    model, images = build(EarlyFusion).eval(), random_images(build(EarlyFusion), 1)
    missing = model(images, torch.tensor([[True, False]])).logits
    mean = model(images | {"ndsm": torch.zeros_like(images["ndsm"])}, torch.tensor([[True, True]])).logits
    assert torch.equal(missing, mean)
    assert not torch.equal(missing, model(images, torch.tensor([[True, True]])).logits)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (EarlyFusion, {}, {(True, True, True): 1.0}),
        (LateFusion, {}, {(True, True, True): 1.0}),
        (Unimodal, {}, {(True, True, True): 1.0}),
        (Unimodal, {"subset": "nir+rgb"}, {(True, False, True): 1.0}),
        (ExpertSwitch, {}, {(True, True, True): 1.0}),
    ],
)
def test_training_hides_only_what_the_idea_asks_for_under_every_recipe(
    kind: type[Control], options: dict[str, Any], expected: dict[tuple[bool, ...], float]
) -> None:
    assert kind.keeps_patterns
    assert build(kind, 3, **options).patterns(0, 10) == expected


def test_the_unimodal_expert_sees_its_subset_only() -> None:
    model, images = build(Unimodal, 3, subset=["ndsm"]).eval(), random_images(build(Unimodal, 3), 2)
    both, alone = torch.tensor([[True, True, False]] * 2), torch.tensor([[False, True, False]] * 2)
    logits = model(images, both).logits
    assert torch.equal(logits, model(images, alone).logits)
    assert torch.equal(logits, model(images | {"rgb": images["rgb"] + 1}, both).logits)
    assert not torch.equal(logits, model(images | {"ndsm": images["ndsm"] + 1}, both).logits)


def test_the_unimodal_expert_without_its_subset_gives_every_sample_the_same() -> None:
    model, images = build(Unimodal, 3, subset="ndsm").eval(), random_images(build(Unimodal, 3), 3)
    present = torch.tensor([[True, False, True], [True, False, False], [False, False, True]])
    logits = model(images, present).logits
    assert torch.equal(logits, logits[:1].expand(3, -1, -1, -1))


def test_the_unimodal_expert_learns_only_where_its_whole_subset_is_present() -> None:
    model = build(Unimodal, 3, subset="rgb+nir")
    present = torch.tensor(
        [[True, False, True], [True, True, True], [True, True, False], [False, True, False]]
    )
    batch, whole = random_batch(model, present), torch.tensor([0, 1])
    torch.testing.assert_close(total_loss(model, batch), total_loss(model, take(batch, whole)) / 2)
    found = gradients(model, model, batch)
    assert any(g.any() for g in found)
    others = gradients(model, model, with_other_rows(batch, torch.tensor([2, 3])))
    for one, other in zip(found, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    none = total_loss(model, take(batch, torch.tensor([2, 3])))
    none.backward()
    assert none.item() == 0


def test_the_order_and_form_of_a_subset_do_not_matter() -> None:
    first = build(Unimodal, 3, subset="rgb+nir").eval()
    images, present = random_images(first, 2), torch.tensor([[True, False, True], [True, True, True]])
    for subset in ("nir+rgb", ["nir", "rgb"], ("rgb", "nir")):
        other = build(Unimodal, 3, subset=subset).eval()
        other.load_state_dict(first.state_dict())
        assert torch.equal(other(images, present).logits, first(images, present).logits)


@pytest.mark.parametrize("subset", ["", "rbg", "rgb+", "rgb+rgb", "full", [], ["rgb", "dsm"], [["rgb"]], 3])
def test_a_wrong_subset_is_refused_with_what_there_is(subset: Any) -> None:
    with pytest.raises(ValueError, match=r"Unimodal: subset is .*, expected some of rgb, ndsm, each once"):
        build(Unimodal, 2, subset=subset)
