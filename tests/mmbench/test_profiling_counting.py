"""Counted by hand: 2 FLOP a multiply-accumulate, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mmbench_kernels
from mmbench.profiling.counting import Counter
from mmbench.profiling.dry_run import DryRun
from mmbench.profiling.formulas import UncountedOperatorError, has_formula
from mmbench.profiling.report import Work


def count(function, *inputs):
    """Return (forward, backward) of the sum of what a function returns."""
    counter = Counter()
    with counter.during("training_forward"):
        output = function(*inputs)
    if output.requires_grad:
        with counter.during("training_backward"):
            output.sum().backward()
    return counter.total("training_forward").work, counter.total("training_backward").work


def tensor(*shape):
    return torch.randn(shape, requires_grad=True)


def test_a_convolution_with_stride_groups_and_bias_is_counted_exactly():
    layer = nn.Conv2d(8, 4, 3, stride=2, padding=1, groups=2)
    forward, backward = count(layer, tensor(2, 8, 9, 9))
    places, weights = 5 * 5, 4 * (8 // 2) * 9
    assert forward.flops == 2 * 2 * places * weights
    assert backward.flops == 2 * forward.flops
    # float32: input, weight and bias are read, the output is written.
    assert forward.bytes == 4 * (2 * 8 * 81 + weights + 4 + 2 * 4 * places)
    assert forward.launches == 1


def test_a_frozen_input_of_a_convolution_costs_no_gradient():
    layer = nn.Conv2d(3, 4, 3)
    forward, backward = count(layer, torch.randn(1, 3, 6, 6))
    assert backward.flops == forward.flops  # of the weight alone


def test_a_transposed_convolution_counts_the_places_of_its_input():
    layer = nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1, groups=2)
    forward, backward = count(layer, tensor(3, 6, 5, 7))
    assert forward.flops == 2 * 3 * 35 * 6 * (4 // 2) * 16
    assert backward.flops == 2 * forward.flops


def test_linear_and_batched_products_are_counted_exactly():
    forward, backward = count(nn.Linear(8, 5), tensor(3, 8))
    assert (forward.flops, backward.flops) == (2 * 3 * 8 * 5, 4 * 3 * 8 * 5)
    forward, backward = count(torch.bmm, tensor(2, 3, 4), tensor(2, 4, 5))
    assert (forward.flops, backward.flops) == (2 * 2 * 3 * 4 * 5, 4 * 2 * 3 * 4 * 5)


def test_fused_attention_is_not_counted_as_nothing():
    q, k, v = tensor(2, 3, 5, 8), tensor(2, 3, 7, 8), tensor(2, 3, 7, 8)
    forward, backward = count(F.scaled_dot_product_attention, q, k, v)
    pairs = 2 * 3 * 5 * 7
    assert forward.flops == 2 * pairs * 16
    assert backward.flops == 2 * pairs * 8 * 5  # the scores are computed once more


def test_a_mask_saves_no_product_and_causality_half_of_them():
    q = torch.randn(1, 2, 6, 4)
    mask = torch.zeros(6, 6)
    assert count(lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=mask), q)[0].flops == 2 * 72 * 8
    causal = count(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), q)[0]
    assert causal.flops == 2 * 2 * 21 * 8


def test_attention_with_dropout_is_counted_through_its_stored_matrices():
    q = tensor(2, 3, 5, 8)
    forward, backward = count(lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5), q)
    assert forward.flops == 2 * (2 * 3 * 25) * 16
    assert backward.flops == 2 * forward.flops


def test_norms_and_activations_move_bytes_and_do_no_products():
    forward, backward = count(nn.Sequential(nn.GroupNorm(2, 4), nn.ReLU()), tensor(2, 4, 6, 6))
    assert forward.flops == backward.flops == 0
    assert forward.bytes > 4 * 4 * 2 * 4 * 36  # both read and write the map
    assert backward.launches >= 2


def test_views_are_free_and_an_expanded_axis_is_read_once():
    counter = Counter()
    with counter.during("inference"):
        torch.randn(4, 1).expand(4, 100).t().reshape(-1)[:4].detach()
    work = counter.total().work
    # randn writes 4 numbers; reshape copies 4 read, 400 written; the slice is a view.
    assert work == Work(flops=0, bytes=4 * 4 + 4 * 4 + 4 * 400, launches=2)


def test_inference_mode_counts_what_no_grad_counts():
    layer = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 25, 2))
    x = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        expected = count(layer, x)[0]
    with torch.inference_mode():
        assert count(layer, x)[0].flops == expected.flops > 0


def test_a_transformer_layer_of_torch_is_counted_in_evaluation_too():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with torch.no_grad():
        forward, _ = count(layer, torch.randn(2, 5, 8))
    tokens = 2 * 5
    assert forward.flops == 2 * tokens * (8 * 24 + 8 * 8 + 2 * 8 * 16) + 4 * 2 * 25 * 8


def test_the_results_are_those_without_a_counter():
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 6, 6)
    counter = Counter()
    with torch.no_grad(), counter.during("inference"):
        counted = layer(x)
    assert torch.equal(counted, layer(x))


def test_an_operator_without_a_formula_raises():
    with torch.library._scoped_library("mmbench_test_ops", "DEF") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: x * 2, "CompositeExplicitAutograd")
        with pytest.raises(UncountedOperatorError, match="mmbench_test_ops::twice has no FLOP formula"):
            count(torch.ops.mmbench_test_ops.twice, torch.randn(3))


def test_every_operator_of_the_kernels_has_a_formula():
    names = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("mmbench::")}
    assert not [name for name in names if not has_formula(name.partition(".")[0])]


def test_modal_attention_is_counted_by_the_tokens_that_are_there():
    q = tensor(2, 2, 6, 8)
    forward, backward = count(lambda x: mmbench_kernels.modal_attention(x, x, x, dropout_p=0.1), q)
    assert forward.flops == 2 * (2 * 2 * 36) * 16
    assert backward.flops == 2 * (2 * 2 * 36) * 8 * 5


def fused(maps, missing):
    """Count the fusion of maps of 3 and 5 channels into 6, the second absent from the first sample."""
    weight = torch.randn(6, 8, 1, 1, requires_grad=True)
    present = torch.tensor([[True, False], [True, True]])
    return count(
        lambda: mmbench_kernels.modal_fuse(
            maps, weight, None, present=present, groups="channel", missing=missing
        )
    )


def test_modal_fuse_is_counted_by_the_maps_that_are_there():
    forward, backward = fused([tensor(2, 3, 4, 4), tensor(2, 5, 4, 4)], "drop")
    assert forward.flops == 2 * 16 * 6 * (2 * 3 + 1 * 5)
    assert backward.flops == 2 * forward.flops


def test_modal_fuse_of_large_samples_leaves_out_absent_maps_and_of_small_ones_multiplies_zeros():
    # Small samples take torch's own convolution, which reads the zeros that stand for an absent map.
    small, _ = fused([tensor(2, 3, 4, 4), tensor(2, 5, 4, 4)], "zero")
    assert small.flops == 2 * 16 * 6 * (2 * 3 + 2 * 5)
    with DryRun() as dry:
        maps = [dry.hollow(2, channels, 1024, 512).requires_grad_() for channels in (3, 5)]
        large, backward = fused(maps, "zero")
    assert large.flops == 2 * 1024 * 512 * 6 * (2 * 3 + 1 * 5)
    assert backward.flops == 2 * large.flops
    assert large.launches < small.launches


def test_norm_act_pad_of_large_samples_is_one_launch_that_reads_the_map_and_writes_it_padded():
    with DryRun() as dry:
        x = dry.hollow(2, 8, 512, 512).requires_grad_()
        forward, backward = count(lambda: mmbench_kernels.norm_act_pad(x, groups="channel"))
    assert forward.flops == backward.flops == 0
    assert forward.launches == 1
    read, written, statistics = 2 * 8 * 512 * 512, 2 * 8 * 514 * 514, 2 * (2 * 8)
    assert forward.bytes == pytest.approx(4 * (read + written + statistics), rel=1e-4)


def test_a_dry_run_counts_what_a_real_run_counts():
    layer = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()
    )
    real = count(layer, tensor(2, 3, 64, 64))
    layer.zero_grad(set_to_none=True)
    with DryRun() as dry:
        assert count(layer, dry.hollow(2, 3, 64, 64).requires_grad_()) == real


def test_a_dry_run_keeps_whole_numbers_and_computes_no_images():
    with DryRun() as dry:
        image = dry.hollow(3, 4, 8, 8)
        rows = torch.tensor([True, False, True]).nonzero().squeeze(1)
        assert rows.tolist() == [0, 2]
        assert image[rows].shape == (2, 4, 8, 8)
        assert image[torch.tensor([False, True, True])].shape == (2, 4, 8, 8)
        assert bool(torch.isfinite(image).all())
        assert not bool(torch.isnan(image).any())
        assert image.sum().item() == 0
