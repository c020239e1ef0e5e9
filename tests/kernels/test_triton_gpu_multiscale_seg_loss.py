"""The kernels of multiscale_seg_loss on a GPU: what the interpreter cannot show."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mmbench_kernels import multiscale_seg_loss
from mmbench_kernels._availability import triton_reasons
from mmbench_kernels.ops.multiscale_seg_loss import multiscale_seg_loss_reference
from tests.kernels.multiscale_seg_loss_problems import (
    LIMITS,
    OPTIONS,
    compare,
    layouts,
    random_heads,
    random_target,
    relative_error,
)

REASONS = (
    triton_reasons(torch.device("cuda"), torch.float32) if torch.cuda.is_available() else ["no CUDA device"]
)
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(REASONS), reason="; ".join(REASONS))]

# The heads of GEMMNet, at a quarter of its size, and some that no power of two fits.
SIZES = (
    (128, 128),
    (64, 64),
    (32, 32),
    (16, 16),
    (8, 8),
    (1, 1),
    (100, 75),
    (127, 128),
    (200, 150),
    (3, 128),
)

EVERY_INTERP = pytest.mark.parametrize("interp", ["logit", "prob"])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def heads_on_gpu(
    batch: int, classes: int, sizes: Sequence[tuple[int, int]], dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    return random_heads(batch, classes, sizes, dtype, "cuda")


def target_on_gpu(*shape: int, classes: int) -> Tensor:
    return random_target(*shape, classes=classes, device="cuda")


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", LIMITS)
def test_loss_and_gradient_are_those_of_the_definition(dtype: torch.dtype, options: dict[str, Any]) -> None:
    compare(heads_on_gpu(2, 6, SIZES, dtype), target_on_gpu(2, 128, 128, classes=6), **options)


@EVERY_INTERP
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 8, 9, 16, 17, 31, 32])
def test_every_number_of_classes_up_to_32_is_taken(classes: int, dtype: torch.dtype, interp: str) -> None:
    heads = heads_on_gpu(1, classes, ((97, 65), (48, 32), (5, 7)), dtype)
    compare(heads, target_on_gpu(1, 97, 65, classes=classes), interp=interp)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (31, 33), (64, 1000), (1025, 3)])
@pytest.mark.parametrize("head", [(1, 1), (2, 3), (17, 64), (70, 130)])
def test_sizes_that_nothing_divides_meet_at_the_borders_of_blocks(
    size: tuple[int, int], head: tuple[int, int], align_corners: bool
) -> None:
    compare(heads_on_gpu(1, 6, (head,)), target_on_gpu(1, *size, classes=6), align_corners=align_corners)


@EVERY_INTERP
def test_heads_and_targets_of_any_strides_are_read_where_they_lie(interp: str) -> None:
    target = target_on_gpu(2, 40, 36, classes=5)
    for head in heads_on_gpu(2, 5, ((40, 36), (20, 18))):
        for name, same in layouts(head).items():
            compare([same], target.mT.contiguous().mT if name == "transposed" else target, interp=interp)
    compare(heads_on_gpu(2, 5, ((40, 36),)), target.byte())


def test_a_window_of_the_papers_size_keeps_the_precision_of_float32() -> None:
    sizes = [(512, 512)] * 3 + [(512 >> scale, 512 >> scale) for scale in (1, 2, 3, 4)]
    compare(
        heads_on_gpu(2, 6, sizes),
        target_on_gpu(2, 512, 512, classes=6),
        interp="prob",
        clamp=(0.005, 1.0),
        dice_classes="all",
        align_corners=True,
    )


def test_extreme_and_constant_logits_stay_finite() -> None:
    target = target_on_gpu(1, 64, 64, classes=4)
    for fill in (1e4, -1e4, 0.0):
        heads = [torch.full((1, 4, n, n), fill, device="cuda", requires_grad=True) for n in (64, 16)]
        signs = [
            (1e4 * head.sign()).detach().requires_grad_() for head in heads_on_gpu(1, 4, ((64, 64), (9, 9)))
        ]
        for each in (heads, signs):
            total, table = multiscale_seg_loss(each, target, backend="triton")
            assert torch.isfinite(table).all()
            assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(total, each))


def step(heads: Sequence[Tensor], target: Tensor, **options: Any) -> list[Tensor]:
    """Return the table of terms and all gradients."""
    total, table = multiscale_seg_loss(heads, target, backend="triton", **options)
    return [table.detach(), *torch.autograd.grad(total, heads)]


@EVERY_INTERP
def test_ten_runs_have_the_same_bits(interp: str) -> None:
    heads, target = heads_on_gpu(2, 6, SIZES), target_on_gpu(2, 128, 128, classes=6)
    first = step(heads, target, interp=interp)
    for _ in range(9):
        again = step(heads, target, interp=interp)
        assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))


@EVERY_INTERP
def test_a_cuda_graph_of_both_passes_repeats_on_new_values(interp: str) -> None:
    heads, target = heads_on_gpu(2, 6, SIZES), target_on_gpu(2, 128, 128, classes=6)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles, which may not happen while capturing
        for _ in range(3):
            step(heads, target, interp=interp)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(heads, target, interp=interp)
    with torch.no_grad():
        for head in heads:
            head.copy_(torch.randn_like(head))
        target.copy_(target_on_gpu(2, 128, 128, classes=6))
    graph.replay()
    torch.cuda.synchronize()
    again = step(heads, target, interp=interp)
    assert all(torch.equal(one, two) for one, two in zip(captured, again, strict=True))


def test_the_host_never_waits_for_the_device() -> None:
    heads, target = heads_on_gpu(2, 6, SIZES), target_on_gpu(2, 128, 128, classes=6)
    step(heads, target)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(heads, target)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@EVERY_INTERP
def test_no_pass_needs_a_coarse_heads_probabilities_at_the_size_of_the_target(interp: str) -> None:
    heads, target = heads_on_gpu(4, 6, [(256, 256)] * 4), target_on_gpu(4, 512, 512, classes=6)
    step(heads, target, interp=interp)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(heads, target, interp=interp)
    peak = torch.cuda.max_memory_allocated() - before
    gradients = sum(head.nbytes for head in heads)
    assert peak - gradients < 0.9 * 4 * 4 * 6 * 512 * 512  # bytes of one head's float32 probabilities


def test_a_gradient_on_another_stream_is_right() -> None:
    heads, target = heads_on_gpu(2, 6, SIZES), target_on_gpu(2, 128, 128, classes=6)
    expected = step(heads, target)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        found = step(heads, target)
    torch.cuda.current_stream().wait_stream(side)
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))


def test_offsets_beyond_two_to_the_31_are_right() -> None:
    free, _ = torch.cuda.mem_get_info()
    if free < 28 << 30:
        pytest.skip(f"needs 28 GiB of free GPU memory, there are {free / 2**30:.0f}")
    heads = torch.randn(5, 32, 4096, 4096, device="cuda", dtype=torch.float16)  # 2.7 billion values
    target = torch.randint(0, 32, (5, 4096, 4096), device="cuda", dtype=torch.uint8)
    _, alone = step([heads[-1:].detach().requires_grad_()], target[-1:])
    table, whole = step([heads.requires_grad_()], target)
    assert torch.isfinite(table).all()
    # Both terms divide by sums over the batch, which are five times as large and, of noise, otherwise alike.
    assert relative_error(5 * whole[-1:].float(), alone.double()) < 0.05


def test_a_compiled_step_is_the_eager_one() -> None:
    heads, target = heads_on_gpu(2, 6, ((64, 64), (16, 16))), target_on_gpu(2, 64, 64, classes=6)

    def function(*given: Tensor) -> Tensor:
        return multiscale_seg_loss([2 * head for head in given], target, backend="triton")[0]

    compiled = torch.compile(function, fullgraph=True)
    eager, graph = function(*heads), compiled(*heads)
    torch.testing.assert_close(graph, eager)
    torch.testing.assert_close(torch.autograd.grad(graph, heads), torch.autograd.grad(eager, heads))


def test_auto_takes_the_kernels_here_and_torch_stays_within_their_limits() -> None:
    heads, target = heads_on_gpu(2, 6, SIZES), target_on_gpu(2, 128, 128, classes=6)
    tables = {
        name: multiscale_seg_loss(heads, target, backend=name)[1] for name in ("auto", "triton", "torch")
    }
    assert torch.equal(tables["auto"], tables["triton"])
    expected = multiscale_seg_loss_reference([head.double() for head in heads], target)[1].detach()
    assert relative_error(tables["torch"].detach(), expected) <= LIMITS[torch.float32][0]


WRONG_CLASS = """
import torch
from mmbench_kernels import multiscale_seg_loss

target = torch.zeros(1, 8, 8, dtype=torch.int64, device="cuda")
target[0, 7, 7] = 3
multiscale_seg_loss([torch.zeros(1, 3, 8, 8, device="cuda")], target, backend="triton")
torch.cuda.synchronize()
"""


def test_a_class_outside_of_the_range_stops_the_device_with_the_reason() -> None:
    # In a process of its own: after a failed assertion on the device, no CUDA call of a process succeeds.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    found = subprocess.run(
        [sys.executable, "-c", WRONG_CLASS], env=environment, capture_output=True, text=True
    )
    assert found.returncode != 0
    assert "target holds a class that is neither in 0..2 nor ignore_index 255" in found.stdout + found.stderr
