"""mmFormer's behaviour: what it accepts, what it may see, what learns from what, and its own numbers."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from mmbench import registry
from mmbench.testing import check_method
from mmbench_baselines.blocks.transformer import Transformer, TransformerParams
from mmbench_baselines.method import Batch
from mmbench_baselines.mmformer import MMFormer
from mmbench_baselines.mmformer.presets import PRESETS

GOLDEN = Path(__file__).parents[1] / "golden"
SEVERAL: list[dict[str, int]] = [
    {"sar": 2},
    {"ndsm": 1, "irrg": 3},
    {"irrg": 3, "sar": 2, "ndsm": 1},
    {"rgb": 3, "nir": 1, "sar": 2, "lidar": 5},
]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load(GOLDEN / "make_mmformer_default.py")
tiny, mixed_batch = maker.tiny, maker.mixed_batch


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms.values())).sum()


def every_pattern(count: int) -> tuple[list[bool], ...]:
    return tuple(list(p) for p in itertools.product((True, False), repeat=count) if any(p))


def size(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def grads(module: nn.Module) -> list[torch.Tensor | None]:
    return [parameter.grad for parameter in module.parameters()]


def rows_of(batch: Batch, rows: list[int]) -> Batch:
    assert batch.complete is not None
    images, complete = (
        {name: image[rows] for name, image in several.items()} for several in (batch.images, batch.complete)
    )
    return Batch(images, batch.present[rows], batch.target[rows], complete)


def as_float(batch: Batch) -> Batch:
    assert batch.complete is not None
    images, complete = (
        {name: image.float() for name, image in several.items()} for several in (batch.images, batch.complete)
    )
    return dataclasses.replace(batch, images=images, complete=complete)


# --- facts -------------------------------------------------------------------------------------------------


def test_the_registry_finds_it_by_its_folder() -> None:
    assert registry.entry("method", "mmformer").title == "mmFormer"
    assert registry.find("method", "mmformer") is MMFormer


@pytest.mark.parametrize("preset", PRESETS)
def test_the_parameter_counts_are_those_of_the_paper_and_of_the_smaller_variant(preset: Any) -> None:
    with torch.device("meta"):
        paper = MMFormer({"rgb": 3, "ndsm": 1}, 5, preset=preset)
        small = MMFormer({"rgb": 3, "ndsm": 1}, 5, token_width=256, hidden_width=512, preset=preset)
    assert (size(paper), size(small)) == (18_843_718, 3_951_174)
    encoders = list(paper.encoders.values())
    assert [size(e.encoder) for e in encoders] == [491_712, 491_568]
    assert size(*(e.token_proj for e in encoders)) == 132_096
    assert size(*(e.positions for e in encoders)) == 1_048_576
    assert [size(e.transformer) for e in encoders] == [5_250_048, 5_250_048]
    assert (size(paper.fusion.transformer), size(paper.fusion.inter_proj)) == (5_250_048, 262_400)
    assert (size(paper.fusion.decoder), size(paper.modality_decoder)) == (465_537, 201_685)


def test_the_paper_hides_uniformly_and_trains_with_amsgrad() -> None:
    method = tiny()
    assert set(method.patterns(0, 10).values()) == {1 / 3}
    training = MMFormer.paper_training
    (optimizer,) = method.configure_optimizers(training.optimizer)
    assert type(optimizer) is torch.optim.Adam
    facts = {"lr": 2e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-4, "amsgrad": True}
    assert {name: optimizer.defaults[name] for name in facts} == facts
    assert training.schedule.factor(50, 100) == pytest.approx(0.5**0.9)
    assert training.accumulation == 1


def test_convolutions_start_kaiming_normal_and_positions_at_zero() -> None:
    torch.manual_seed(0)
    method = MMFormer({"irrg": 3, "ndsm": 1}, 5, token_width=64, hidden_width=64, train_size=64)
    large = [m.weight for m in method.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 4000]
    assert len(large) > 10
    for weight in large:
        assert weight.std().item() == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.05)
    assert not method.encoders["irrg"].positions.table.any()


def test_the_parts_are_disjoint_and_cover_every_parameter() -> None:
    method = tiny()
    parts = method.parts()
    owned = [id(p) for modules in parts.values() for module in modules for p in module.parameters()]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(p) for p in method.parameters()}
    assert {"encoder.irrg", "encoder.ndsm", "intra", "inter", "fusion_decoder"} < parts.keys()


def test_the_numbers_of_the_default_have_not_moved() -> None:
    expected = json.loads((GOLDEN / "mmformer_default.json").read_text(encoding="utf-8"))
    measured = maker.measure()
    assert list(measured) == list(expected)
    for tokens, groups in expected.items():
        assert {group: list(values) for group, values in measured[tokens].items()} == {
            g: list(v) for g, v in groups.items()
        }
        for group, values in groups.items():
            assert measured[tokens][group] == pytest.approx(values, rel=1e-9)


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "best"}, "preset is 'best', expected one of"),
        ({"layout": "cat"}, "layout is 'cat', expected one of"),
        ({"tokens": "drop"}, "tokens is 'drop', expected one of"),
        ({"modality_supervision": "none"}, "modality_supervision is 'none', expected one of"),
        ({"clamp": "yes"}, "clamp is 'yes', expected one of"),
        ({"train_size": 40}, "train_size is 40, expected a multiple of 16"),
        ({"heads": 3}, "not a multiple of 3 heads"),
        ({"dropout": 1.0}, "dropout is 1.0, expected"),
        ({"modalities": dict.fromkeys("abcde", 1)}, r"got 5 modalities \(a, b, c, d, e\), expected 1 to 4"),
    ],
)
def test_an_unknown_option_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)


@pytest.mark.parametrize(("extent", "padded"), [((40, 32), "48x32"), ((16, 50), "32x64")])
def test_a_size_it_cannot_take_is_refused_with_the_size_to_pad_to(
    extent: tuple[int, int], padded: str
) -> None:
    batch = mixed_batch(*extent)
    with pytest.raises(ValueError, match=f"got {extent[0]}x{extent[1]}, pad to {padded}"):
        tiny()(batch.images, batch.present)


# --- modalities, sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"tokens": "skip"}, {"preset": "released"}], ids=str)
@pytest.mark.parametrize("modalities", SEVERAL, ids=len)
def test_any_one_to_four_modalities_keep_the_contract(
    modalities: dict[str, int], options: dict[str, str]
) -> None:
    sizes = {"base_width": 2, "token_width": 16, "hidden_width": 16, "heads": 4, "train_size": 64}
    check_method(MMFormer, modalities, sizes | options)


@pytest.mark.parametrize("extent", [(32, 32), (48, 48), (96, 128)])
def test_other_sizes_than_the_trained_one_work(extent: tuple[int, int]) -> None:
    method, batch = tiny(), mixed_batch(*extent)
    terms = method.training_step(batch)
    total(terms).backward()
    assert bool(total(terms).isfinite())
    assert method.eval()(batch.images, batch.present).logits.shape == (3, 5, *extent)


@pytest.mark.parametrize("modalities", SEVERAL, ids=len)
@pytest.mark.parametrize("tokens", ["attend", "skip"])
def test_every_parameter_gets_a_finite_gradient_under_every_pattern(
    modalities: dict[str, int], tokens: str
) -> None:
    method = tiny(modalities, tokens=tokens)
    for pattern in every_pattern(len(modalities)):
        batch = mixed_batch(32, 32, modalities=modalities, patterns=(pattern,))
        method.zero_grad()
        total(method.training_step(batch)).backward()
        assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads(method))
        taught = [
            any(bool(grad.any()) for grad in grads(e.encoder) if grad is not None)
            for e in method.encoders.values()
        ]
        assert taught == pattern


# --- presence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("tokens", ["attend", "skip"])
def test_each_sample_of_a_mixed_batch_has_the_result_it_has_alone(tokens: str, training: bool) -> None:
    modalities = SEVERAL[2]
    method = tiny(modalities, tokens=tokens).train(training)
    batch = mixed_batch(modalities=modalities, patterns=every_pattern(3))
    with torch.no_grad():
        together = method(batch.images, batch.present).logits
        for row in range(len(together)):
            one = rows_of(batch, [row])
            alone = method(one.images, one.present).logits
            # Not bit for bit: PyTorch's matrix products round otherwise for another number of rows.
            assert torch.allclose(alone[0], together[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize("tokens", ["attend", "skip"])
def test_what_its_neighbours_show_changes_no_bit_of_a_sample(tokens: str) -> None:
    method, batch = tiny(tokens=tokens).float().eval(), as_float(mixed_batch())
    with torch.no_grad():
        first = method(batch.images, batch.present).logits
        for row in range(len(first)):
            others = {
                name: torch.where(torch.arange(3)[:, None, None, None] == row, image, image.flip(2) - 0.3)
                for name, image in batch.images.items()
            }
            second = method(others, batch.present).logits
            assert torch.equal(first[row], second[row])
            assert not torch.equal(first[row - 1], second[row - 1])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("tokens", ["attend", "skip"])
def test_hidden_content_changes_no_bit_of_the_evaluation(tokens: str, preset: str) -> None:
    method, batch = tiny(tokens=tokens, preset=preset).eval(), mixed_batch()
    hidden = {name: ~batch.present[:, c, None, None, None] for c, name in enumerate(batch.images)}
    other = {name: torch.where(hidden[name], 0.77, image) for name, image in batch.images.items()}
    with torch.no_grad():
        first, second = (method(images, batch.present).logits for images in (batch.images, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("tokens", ["attend", "skip"])
def test_in_training_no_gradient_of_any_head_reaches_a_hidden_slot(tokens: str, preset: str) -> None:
    method, batch = tiny(tokens=tokens, preset=preset), mixed_batch()
    images = {name: image.clone().requires_grad_() for name, image in batch.images.items()}
    output = method(images, batch.present)
    alone = [head for _, head in output.aux["alone"].values()]
    sum(head.square().sum() for head in (output.logits, *output.aux["sides"], *alone)).backward()
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


def test_evaluation_encodes_what_is_present_and_runs_the_fused_head_only() -> None:
    method, batch, rows = tiny().eval(), mixed_batch(), []

    def refuse(*_: object) -> None:
        raise AssertionError("this module has no part in evaluation")

    for part in (method.modality_decoder, *method.fusion.decoder.side_heads):
        part.register_forward_hook(refuse)
    for encoder in method.encoders.values():
        encoder.register_forward_hook(lambda _m, inputs, _o: rows.append(len(inputs[0])))
    assert method(batch.images, batch.present).aux == {}
    assert rows == [2, 2]


# --- absent tokens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2])
def test_left_out_tokens_are_zeros_and_the_rest_is_the_sequence_without_them(depth: int) -> None:
    torch.manual_seed(0)
    transformer = Transformer(TransformerParams(16, 32, heads=4, depth=depth, dropout=0.0)).double()
    tokens, positions = torch.randn(3, 6, 16).double(), torch.randn(1, 6, 16).double()
    attended = torch.tensor([[True, True, True], [True, True, False], [False, True, False]])
    result = transformer(tokens, positions, attended)
    kept = attended.repeat_interleave(2, dim=1)  # three modalities of two tokens
    assert not result[~kept].any()
    for row, keep in enumerate(kept):
        without = transformer(tokens[row : row + 1, keep], positions[:, keep])[0]
        assert torch.allclose(result[row, keep], without, rtol=0, atol=1e-12)


def test_absent_tokens_attend_as_positions_unless_they_are_skipped() -> None:
    batch, moved = mixed_batch(), {}
    for tokens in ("attend", "skip"):
        method = tiny(tokens=tokens).eval()
        with torch.no_grad():
            before = method(batch.images, batch.present).logits
            method.encoders["ndsm"].positions.table.add_(torch.arange(9.0)[None, :, None])
            after = method(batch.images, batch.present).logits
        moved[tokens] = (before - after).abs().amax(dim=(1, 2, 3)) > 1e-9
    assert maker.PATTERNS[1] == [True, False]
    assert moved["attend"].tolist() == [True, True, True]
    assert moved["skip"].tolist() == [True, False, True]


def test_with_everything_present_nothing_is_skipped() -> None:
    batch = mixed_batch(patterns=([True, True],))
    first, second = (tiny(tokens=t)(batch.images, batch.present).logits for t in ("attend", "skip"))
    assert torch.allclose(first, second, rtol=0, atol=1e-12)


# --- training ----------------------------------------------------------------------------------------------


def test_a_modality_alone_learns_where_it_is_present() -> None:
    method, batch = tiny(), mixed_batch()
    assert not method.sees_hidden_in_training
    terms = method.training_step(dataclasses.replace(batch, complete=None))
    for column, name in enumerate(batch.images):
        holding = rows_of(batch, batch.present[:, column].nonzero().squeeze(1).tolist())
        assert len(holding.target) == 2
        expected = method.training_step(holding)[f"modality.{name}"]
        assert torch.allclose(terms[f"modality.{name}"], expected, rtol=1e-12)


def test_a_modality_that_no_sample_has_gives_no_loss() -> None:
    terms = tiny().training_step(mixed_batch(patterns=([True, False], [True, False])))
    assert terms["modality.ndsm"].item() == 0
    assert terms["modality.irrg"].item() > 0


@pytest.mark.parametrize("preset", ["released", "golden_corrected"])
def test_as_published_a_modality_alone_learns_from_hidden_content(preset: str) -> None:
    method, batch = tiny(preset=preset), mixed_batch(patterns=([True, False], [True, False]))
    assert method.sees_hidden_in_training
    method.training_step(batch)["modality.ndsm"].backward()
    assert all(bool(grad.any()) for grad in grads(method.modality_decoder.head) if grad is not None)
    with pytest.raises(ValueError, match=r"batch\.complete = None, expected the images before hiding"):
        method.training_step(dataclasses.replace(batch, complete=None))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_target_without_valid_pixels_gives_zero_and_finite_gradients(preset: str) -> None:
    method, batch = tiny(preset=preset), mixed_batch()
    terms = method.training_step(dataclasses.replace(batch, target=torch.full_like(batch.target, 255)))
    total(terms).backward()
    assert torch.equal(torch.stack(list(terms.values())), torch.zeros(7, dtype=torch.float64))
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads(method))


def test_a_loss_in_evaluation_is_that_of_the_fused_head() -> None:
    method, batch = tiny(), mixed_batch()
    fused = method.training_step(batch)["fused"]
    terms = method.eval().loss(method(batch.images, batch.present), batch)
    assert list(terms) == ["fused"]
    assert torch.allclose(terms["fused"], fused, rtol=1e-12)


@pytest.mark.parametrize(
    "choice",
    [
        {"layout": "released"},
        {"tokens": "skip"},
        {"modality_supervision": "all"},
        {"interp": "prob"},
        {"clamp": True},
        {"dice_classes": "all"},
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
@pytest.mark.parametrize("tokens", ["attend", "skip"])
def test_dropout_acts_inside_the_attention_only_where_asked_and_never_in_evaluation(
    tokens: str, sites: str, matrix: float
) -> None:
    method, batch = tiny(dropout=0.3, dropout_sites=sites, tokens=tokens), mixed_batch()
    attention = method.fusion.transformer.layers[0].attention
    assert (attention.matrix_dropout, attention.proj_dropout.p) == (matrix, matrix)
    torch.manual_seed(0)
    first, second = (method(batch.images, batch.present).logits for _ in range(2))
    assert not torch.equal(first, second)
    method.eval()
    first, second = (method(batch.images, batch.present).logits for _ in range(2))
    assert torch.equal(first, second)


# --- precision, storage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("tokens", ["attend", "skip"])
def test_bfloat16_autocast_gives_finite_logits_and_gradients(tokens: str, preset: str) -> None:
    method, batch = tiny(tokens=tokens, preset=preset).float(), as_float(mixed_batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = method.training_step(batch)
        logits = method.eval()(batch.images, batch.present).logits
    total(terms).backward()
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads(method))
    exact = method(batch.images, batch.present).logits
    assert logits.dtype == torch.bfloat16
    # Norms over maps of six pixels magnify the rounding: 0.14 here, 0.04 at 256 pixels and true widths.
    assert torch.linalg.norm(logits - exact) < 0.25 * torch.linalg.norm(exact)


def test_saved_weights_give_the_same_bits_in_a_new_instance() -> None:
    method, batch = tiny().eval(), mixed_batch()
    copy = tiny().eval()
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
        copy.load_state_dict(method.state_dict())
        first, second = (m(batch.images, batch.present).logits for m in (method, copy))
    assert torch.equal(first, second)
