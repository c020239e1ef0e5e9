"""ShaSpec's own promises: per-sample patterns, nothing seen of what is hidden, options, sizes, costs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmbench_baselines.method import Batch, Output, uniform_patterns
from mmbench_baselines.shaspec import ShaSpec

NUM_CLASSES, SIZE = 3, 64
CHANNELS = {"rgb": 3, "ndsm": 1, "nir": 2, "spectral": 4}
PRESETS: tuple[Any, ...] = ("default", "golden_corrected", "released")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def build(count: int = 2, **options: Any) -> ShaSpec:
    """Return a tiny model of the first `count` modalities, float64, with norms that are not the identity."""
    modalities = dict(itertools.islice(CHANNELS.items(), count))
    model = ShaSpec(modalities, NUM_CLASSES, width=2, **options).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".norm." in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def random_images(
    model: ShaSpec, batch_size: int, height: int = SIZE, width: int = SIZE
) -> dict[str, Tensor]:
    return {
        name: torch.randn(batch_size, channels, height, width, dtype=torch.float64)
        for name, channels in model.modalities.items()
    }


def every_pattern(count: int) -> Tensor:
    return torch.tensor(list(uniform_patterns(count)))


def refill_hidden(images: Mapping[str, Tensor], present: Tensor, value: float) -> dict[str, Tensor]:
    columns = zip(images.items(), present.unbind(1), strict=True)
    return {name: torch.where(p[:, None, None, None], x, value) for (name, x), p in columns}


def random_batch(model: ShaSpec, present: Tensor) -> Batch:
    target = torch.randint(0, NUM_CLASSES, (len(present), SIZE, SIZE))
    target[:, :8] = model.ignore_index
    return Batch(random_images(model, len(present)), present, target)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_mixed_batch_gives_each_sample_what_it_gets_alone(count: int) -> None:
    model, present = build(count).eval(), every_pattern(count)
    images = random_images(model, len(present))
    with torch.inference_mode():
        logits = model(images, present).logits
        assert logits.shape == (len(present), NUM_CLASSES, SIZE, SIZE)
        for row in range(len(present)):
            one = slice(row, row + 1)
            alone = model({name: x[one] for name, x in images.items()}, present[one]).logits
            torch.testing.assert_close(logits[one], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("preset", PRESETS)
def test_logits_do_not_change_by_a_bit_with_what_is_hidden(preset: str) -> None:
    model, present = build(3, preset=preset).eval(), every_pattern(3)
    images = random_images(model, len(present))
    with torch.inference_mode():
        logits = model(refill_hidden(images, present, 0.0), present).logits
        for value in (1e6, -3.0, float("nan")):
            other = model(refill_hidden(images, present, value), present).logits
            assert torch.equal(logits, other)


@pytest.mark.parametrize("preset", PRESETS)
def test_no_gradient_reaches_what_is_hidden_and_some_reaches_what_is_present(preset: str) -> None:
    model, present = build(2, preset=preset), torch.tensor([[True, False], [True, True], [True, False]])
    batch = random_batch(model, present)
    leaves = {name: x.requires_grad_() for name, x in batch.images.items()}
    torch.stack(list(model.training_step(batch).values())).sum().backward()
    for column, leaf in zip(present.unbind(1), leaves.values(), strict=True):
        assert leaf.grad is not None
        assert not leaf.grad[~column].any()
        assert leaf.grad[column].flatten(1).any(1).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_gradients_are_finite_for_every_pattern_and_reach_every_weight_in_the_mixed_batch(count: int) -> None:
    model = build(count)
    for present in (*every_pattern(count).split(1), every_pattern(count)):
        model.zero_grad()
        terms = model.training_step(random_batch(model, present))
        torch.stack(list(terms.values())).sum().backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    assert set(gradients) == {name for name, _ in model.named_parameters()}


def test_absent_modalities_are_not_encoded_by_default_and_are_as_released() -> None:
    present = torch.tensor([[True, False, True], [False, False, True], [True, False, False]])

    def rows_encoded(preset: str) -> list[int]:
        model, rows = build(3, preset=preset), []

        def count_rows(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            rows.append(len(arguments[0]))

        for encoder in (model.shared_encoder, *model.specific_encoders):
            encoder.register_forward_pre_hook(count_rows)
        model(random_images(model, 3), present)
        return rows

    assert rows_encoded("default") == [4, 2, 2]
    assert rows_encoded("released") == [9, 3, 3, 3]


def decoder_input(
    model: ShaSpec, images: Mapping[str, Tensor], present: Tensor
) -> tuple[Tensor, list[Tensor]]:
    kept: list[Any] = []
    with model.decoder.register_forward_pre_hook(lambda _, arguments: kept.extend(arguments)):
        model(images, present)
    count = present.shape[1]
    fused, skips = kept
    return fused.unflatten(1, (count, -1)), [skip.unflatten(1, (count, -1)) for skip in skips]


@pytest.mark.parametrize(("substitute", "sources"), [("mean", [0, 2]), ("first", [0])])
def test_an_absent_modality_takes_shared_feature_and_skips_of_the_present(
    substitute: Any, sources: list[int]
) -> None:
    model, images = build(3, substitute=substitute), random_images(build(3), 1)
    full = model(images, torch.tensor([[True, True, True]])).aux["shared"]
    _, full_skips = decoder_input(model, images, torch.tensor([[True, True, True]]))
    fused, skips = decoder_input(model, images, torch.tensor([[True, False, True]]))
    torch.testing.assert_close(fused[:, 1], full[:, sources].mean(1), rtol=1e-9, atol=1e-9)
    for skip, full_skip in zip(skips, full_skips, strict=True):
        torch.testing.assert_close(skip[:, 1], full_skip[:, sources].mean(1), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(skip[:, ::2], full_skip[:, ::2], rtol=1e-9, atol=1e-9)


def test_alignment_and_domain_count_what_is_present() -> None:
    model, present = build(3), torch.tensor([[True, False, True], [True, True, True], [False, True, False]])
    shared, domain = torch.randn(3, 3, 4, 2, 2), torch.randn(3, 3, 3)
    batch = Batch({}, present, torch.zeros(3, 4, 4, dtype=torch.int64))
    output = Output(torch.zeros(3, NUM_CLASSES, 4, 4), {"shared": shared, "domain": domain})
    terms = model.loss(output, batch)
    distances = [
        [(shared[b, i] - shared[b, j]).abs().mean() for b in rows]
        for (i, j), rows in {(0, 1): [1], (0, 2): [0, 1], (1, 2): [1]}.items()
    ]
    expected = sum(torch.stack(pair).mean() for pair in distances)
    torch.testing.assert_close(terms["alignment"], 0.1 * expected)
    surprises = [-domain[b, m].log_softmax(0)[m] for b, m in present.nonzero().tolist()]
    torch.testing.assert_close(terms["domain"], 0.02 * torch.stack(surprises).mean())


def test_one_modality_has_nothing_to_align_or_to_name() -> None:
    model = build(1)
    terms = model.training_step(random_batch(model, torch.ones(2, 1, dtype=torch.bool)))
    assert terms["alignment"].item() == terms["domain"].item() == 0
    assert terms["segmentation"].item() > 0


def test_fewer_channels_are_repeated_in_turn_for_the_shared_encoder() -> None:
    model, images = build(4), random_images(build(4), 1)
    kept: list[Tensor] = []
    model.shared_encoder.register_forward_pre_hook(lambda _, arguments: kept.append(arguments[0]))
    model(images, torch.ones(1, 4, dtype=torch.bool))
    for row, (image, channels) in enumerate(
        zip(images.values(), ([0, 1, 2, 0], [0] * 4, [0, 1, 0, 1], [0, 1, 2, 3]), strict=True)
    ):
        assert torch.equal(kept[0][row], image[0, channels])


def test_the_pyramid_looks_at_the_cell_and_2_4_and_8_away() -> None:
    impulse = torch.zeros(1, 8, 17, 17, dtype=torch.float64)
    impulse[:, :, 8, 8] = 1
    reached = []
    for branch in build(2).shared_encoder.pyramid.branches:
        seen = branch.conv(impulse).abs().sum((0, 1)).nonzero() - 8
        reached.append(sorted({abs(offset) for offset in seen.flatten().tolist()}))
    assert reached == [[0], [0, 2], [0, 4], [0, 8]]


@pytest.mark.parametrize("pool_branch", ["affine", "constant"])
def test_the_global_branch_depends_on_the_image_only_without_its_norm(pool_branch: Any) -> None:
    pyramid, kept = build(2, pool_branch=pool_branch).shared_encoder.pyramid, []
    pyramid.merge.register_forward_pre_hook(lambda _, arguments: kept.append(arguments[0][:, -8:]))
    for _ in range(2):
        pyramid(torch.randn(1, 8, 3, 3, dtype=torch.float64))
    shift = torch.nn.functional.leaky_relu(pyramid.pool.norm.bias, 0.01)[:, None, None].expand(1, 8, 3, 3)
    if pool_branch == "constant":
        assert all(torch.allclose(branch, shift, atol=1e-12) for branch in kept)
    else:
        assert not torch.allclose(kept[0], kept[1])
        assert all(torch.equal(branch, branch[..., :1, :1].expand_as(branch)) for branch in kept)


def test_what_the_pyramid_s_global_branch_holds_never_reaches_the_logits() -> None:
    model, images = build(2, pool_branch="affine"), random_images(build(2), 2)
    present = torch.tensor([[True, True], [False, True]])
    before = model(images, present).logits
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".pool." in name:
                parameter.normal_()
    torch.testing.assert_close(model(images, present).logits, before, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 64), (64, 160)])
def test_sizes_that_are_multiples_of_32_from_64_are_taken(height: int, width: int) -> None:
    model = build(2)
    logits = model(random_images(model, 1, height, width), torch.tensor([[True, False]])).logits
    assert logits.shape == (1, NUM_CLASSES, height, width)


@pytest.mark.parametrize(("size", "padded"), [((32, 64), "64x64"), ((70, 100), "96x128")])
def test_other_sizes_are_refused_with_the_size_to_pad_to(size: tuple[int, int], padded: str) -> None:
    model = build(2)
    with pytest.raises(ValueError, match=f"multiples of 32 and at least 64.*pad to {padded}"):
        model(random_images(model, 1, *size), torch.tensor([[True, True]]))


@pytest.mark.parametrize("preset", PRESETS)
def test_inputs_are_not_written(preset: str) -> None:
    model, present = build(2, preset=preset), torch.tensor([[True, False], [True, True]])
    batch = random_batch(model, present)
    before = [x.clone() for x in (*batch.images.values(), batch.target, present)]
    torch.stack(list(model.training_step(batch).values())).sum().backward()
    after = (*batch.images.values(), batch.target, present)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_state_dict_holds_all_there_is(preset: str) -> None:
    one, other = build(2, preset=preset).eval(), build(2, preset=preset).eval()
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
        terms = model.training_step(Batch(images, present, batch.target))
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    assert total.dtype == torch.float32
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_target_of_ignored_pixels_costs_no_segmentation() -> None:
    model, present = build(2), torch.tensor([[True, False], [True, True]])
    batch = random_batch(model, present)
    ignored = torch.full_like(batch.target, model.ignore_index)
    terms = model.training_step(Batch(batch.images, present, ignored))
    assert terms["segmentation"].item() == 0
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_parts_have_the_specified_numbers_of_parameters() -> None:
    with torch.device("meta"):
        model = ShaSpec({"rgb": 3, "ndsm": 1}, 5, preset="released")
        narrow = ShaSpec({"rgb": 3, "ndsm": 1}, 5, preset="released", width=32)
    sizes = {n: sum(p.numel() for m in ms for p in m.parameters()) for n, ms in model.parts().items()}
    assert sizes == {
        "shared_encoder": 17_568_064,
        "encoder.rgb": 17_568_064,
        "encoder.ndsm": 17_561_792,
        "compose": 1_179_648,
        "decoder": 2_958_304,
        "domain_head": 514,
    }
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(56.84e6, abs=5e3)
    assert sum(p.numel() for p in narrow.parameters()) == pytest.approx(14.25e6, abs=5e3)


def test_the_paper_s_patterns_warm_up_on_everything_then_draw_size_and_subset() -> None:
    model = build(3)
    assert model.patterns(0, 9) == model.patterns(3, 9) == {(True, True, True): 1.0}
    later = model.patterns(4, 9)
    assert set(later) == set(uniform_patterns(3))
    for size in (1, 2, 3):
        chances = [chance for pattern, chance in later.items() if sum(pattern) == size]
        assert sum(chances) == pytest.approx(1 / 3)
        assert max(chances) == min(chances)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "fixed"}, "preset is 'fixed'.*golden_corrected"),
        ({"pool_branch": "max"}, "pool_branch is 'max'.*'affine'"),
        ({"width": 5}, "width is 5, expected an even"),
        ({"loss_scope": "all"}, "skip_absent=True leaves out; set it to False"),
        ({"substitute_skips": False}, "skip_absent=True leaves out; set it to False"),
        ({"preset": "released", "skip_absent": True}, "skip_absent=True leaves out"),
    ],
)
def test_options_that_are_unknown_or_contradict_each_other_are_refused(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        ShaSpec({"rgb": 3, "ndsm": 1}, NUM_CLASSES, **({"width": 2} | options))


def test_more_than_four_modalities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got 5 modalities.*expected 1 to 4"):
        ShaSpec(CHANNELS | {"dsm": 1}, NUM_CLASSES, width=2)
