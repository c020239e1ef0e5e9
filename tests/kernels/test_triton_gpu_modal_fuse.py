"""The kernels of modal_fuse on a GPU: what the interpreter cannot show."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mmbench_kernels import modal_fuse
from mmbench_kernels._availability import triton_reasons
from mmbench_kernels.ops.modal_fuse import modal_fuse_reference
from tests.kernels.modal_fuse_problems import LIMITS, assert_close, errors, inputs, relative_error

REASONS = (
    triton_reasons(torch.device("cuda"), torch.float32) if torch.cuda.is_available() else ["no CUDA device"]
)
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(REASONS), reason="; ".join(REASONS))]

GROUPS_AND_MISSING = list(itertools.product(("sample", "channel"), ("zero", "drop")))


@pytest.fixture(autouse=True)
def seeded_and_exact() -> Iterator[None]:
    """Fix the seed, and leave float32 to its full precision."""
    torch.manual_seed(0)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def patterns(modalities: int, missing: str) -> Tensor:
    rows = list(itertools.product((True, False), repeat=modalities))
    return torch.tensor(rows if missing == "zero" else rows[:-1], device="cuda")


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("widths", [(3,), (8, 8), (2, 1, 3, 4)])
@pytest.mark.parametrize(("groups", "missing"), GROUPS_AND_MISSING)
def test_it_equals_its_definition_with_all_gradients_for_every_pattern(
    groups: str, missing: str, widths: tuple[int, ...], dtype: torch.dtype
) -> None:
    present = patterns(len(widths), missing)
    problem = inputs(widths, len(present), dtype=dtype, device="cuda")
    assert_close(*problem, present, groups=groups, missing=missing)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("width", "outputs", "size"),
    [(8, 8, (128, 128)), (16, 16, (33, 64)), (32, 32, (31, 65)), (64, 64, (64, 64)), (128, 128, (16, 32)),
     (127, 65, (5, 33)), (1, 1, (2, 2)), (33, 20, (1, 1))],
)  # fmt: skip
def test_all_widths_and_sizes_have_the_digits_of_their_dtype(
    width: int, outputs: int, size: tuple[int, int], memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    maps, weight, bias = inputs((width, width), 2, size, outputs, dtype, "cuda")
    maps = [each.to(memory_format=memory_format) for each in maps]
    present = torch.tensor([[True, True], [True, False]], device="cuda")
    assert_close(maps, weight, bias, present, groups="sample")


@pytest.mark.parametrize(("precision", "limit"), [("high", 5e-6), ("medium", 1e-3)])
def test_float32_multiplies_as_precisely_as_torch_is_told_to(precision: str, limit: float) -> None:
    torch.set_float32_matmul_precision(precision)
    maps, weight, bias = inputs((64, 64), 2, (32, 32), 64, device="cuda")
    forward, gradients = errors(maps, weight, bias, groups="channel")
    assert forward < limit
    assert gradients < 2 * limit


@pytest.mark.parametrize("groups", ["sample", "channel"])
def test_a_mean_of_a_thousand_standard_deviations_costs_no_digit(groups: str) -> None:
    maps, weight, bias = inputs((8, 8), 2, (64, 65), 8, device="cuda")
    assert_close([each + 1000 for each in maps], weight, bias, groups=groups)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "a window": lambda x: torch.nn.functional.pad(x, (3, 2, 1, 1))[:, :, 1:-1, 3:-2],
    "some channels of channels-last": lambda x: torch.cat((x, x), 1).to(memory_format=torch.channels_last)[
        :, : x.shape[1]
    ],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": lambda x: x[:1, :, :1, :1].expand_as(x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_maps_and_gradients_of_any_strides_are_read(layout: str) -> None:
    maps, weight, bias = inputs((8, 8), 2, (33, 32), 8, device="cuda")
    maps[0] = LAYOUTS[layout](maps[0])
    assert_close(maps, weight, bias, groups="sample")
    leaves = [each.detach().requires_grad_() for each in (*maps, weight, bias)]
    fused = modal_fuse(leaves[:2], leaves[2], leaves[3], groups="sample", backend="triton")
    seed = LAYOUTS[layout](torch.randn_like(fused))
    found = torch.autograd.grad(fused, leaves, seed, retain_graph=True)
    wanted = torch.autograd.grad(fused, leaves, seed.contiguous())
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("groups", "missing"), GROUPS_AND_MISSING)
def test_a_missing_map_is_never_read(groups: Any, missing: Any) -> None:
    maps, weight, bias = inputs((8, 8), 2, (33, 32), 8, device="cuda")
    present = torch.tensor([[True, False], [True, False]], device="cuda")
    results = []
    for second in (torch.zeros_like(maps[1]), torch.full_like(maps[1], torch.nan), None):
        leaves = [each.detach().requires_grad_() for each in (maps[0], weight, bias)]
        hidden = [] if second is None else [second.requires_grad_()]
        fused = modal_fuse([leaves[0], second], leaves[1], leaves[2], present=present, groups=groups,
                           missing=missing, backend="triton")  # fmt: skip
        *found, of_hidden = torch.autograd.grad(fused.square().sum(), [*leaves, *(hidden or leaves[:1])])
        assert not hidden or not of_hidden.any()
        results.append([fused.detach(), *found])
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def step(dtype: torch.dtype = torch.float32) -> Callable[[], list[Tensor]]:
    """Return a forward and backward on inputs of its own, over enough pixels for all multiprocessors."""
    maps, weight, bias = inputs((8, 8), 2, (257, 256), 8, dtype, "cuda")
    leaves = [each.requires_grad_() for each in (*maps, weight, bias)]
    present = torch.tensor([[True, True], [True, False]], device="cuda")
    seed = torch.randn(2, 8, 257, 256, device="cuda").to(dtype)

    def run() -> list[Tensor]:
        fused = modal_fuse(maps, weight, bias, present=present, groups="sample", backend="triton")
        return [fused.detach(), *torch.autograd.grad(fused, leaves, seed)]

    return run


@pytest.mark.parametrize("dtype", LIMITS)
def test_ten_runs_agree_bit_for_bit(dtype: torch.dtype) -> None:
    run = step(dtype)
    first = run()
    for _ in range(9):
        assert all(torch.equal(one, two) for one, two in zip(first, run(), strict=True))


def test_the_host_never_waits_and_a_graph_can_be_captured() -> None:
    run = step()
    expected = run()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    for each in captured:
        each.zero_()
    graph.replay()
    assert all(torch.equal(one, two) for one, two in zip(expected, captured, strict=True))


def test_forward_needs_little_memory_beside_its_result() -> None:
    maps, weight, bias = inputs((8, 8), 2, (512, 512), 8, device="cuda")
    modal_fuse(maps, weight, bias, groups="sample", backend="triton")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    fused = modal_fuse(maps, weight, bias, groups="sample", backend="triton")
    torch.cuda.synchronize()
    extra = torch.cuda.max_memory_allocated() - before - fused.numel() * fused.element_size()
    assert extra < maps[0].numel() * maps[0].element_size() / 20


def test_offsets_beyond_31_bits_are_right() -> None:
    reach = 1 << 31
    if torch.cuda.mem_get_info()[0] < 3 * reach:
        pytest.skip("needs 6 GiB of free GPU memory")
    far = torch.zeros(reach + 4 * 15, dtype=torch.float16, device="cuda").as_strided(
        (2, 4, 3, 5), (reach, 15, 5, 1)
    )
    maps, weight, bias = inputs((4, 2), 2, (3, 5), dtype=torch.float16, device="cuda")
    far.copy_(maps[0])
    assert_close([far, maps[1]], weight, bias, groups="sample")


def test_it_compiles_whole() -> None:
    maps, weight, bias = inputs((8, 8), 2, (33, 32), 8, device="cuda")
    present = torch.tensor([[True, True], [True, False]], device="cuda")

    def call() -> Tensor:
        return modal_fuse(maps, weight, bias, present=present, groups="sample")

    leaves = [each.requires_grad_() for each in (*maps, weight, bias)]
    compiled = torch.compile(call, fullgraph=True)()
    assert torch.equal(compiled, call())
    found, wanted = (torch.autograd.grad(each.square().sum(), leaves) for each in (compiled, call()))
    torch.testing.assert_close(found, wanted)


def test_half_maps_take_float32_weights() -> None:
    maps, _, _ = inputs((8, 8), 2, (33, 32), dtype=torch.float16, device="cuda")
    weight, bias = torch.randn(8, 16, 1, 1, device="cuda"), torch.randn(8, device="cuda")
    fused = modal_fuse(maps, weight, bias, groups="sample", backend="triton")
    present = torch.ones(2, 2, dtype=torch.bool)
    doubled = [each.double() for each in maps]
    expected = modal_fuse_reference(doubled, weight.flatten(1).double(), bias.double(), present, "sample")
    assert fused.dtype == torch.float16
    assert relative_error(fused, expected) < 1e-3


@pytest.mark.parametrize(
    ("second", "missing", "words"),
    [("None", "zero", "features[1] is None"), ("maps", "drop", "no modality present")],
)
def test_what_cannot_be_is_asserted_on_the_device(second: str, missing: str, words: str) -> None:
    # In a process of its own: a failed assertion leaves the device unusable to it.
    script = (
        "import torch; from mmbench_kernels import modal_fuse\n"
        "maps = torch.ones(1, 2, 4, 4, device='cuda')\n"
        f"present = torch.full((1, 2), {second == 'None'}, device='cuda')\n"
        f"modal_fuse([maps, {second}], torch.ones(3, 4, device='cuda'), present=present, groups='sample',\n"
        f"           missing={missing!r}, backend='triton')\n"
        "torch.cuda.synchronize()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert words in done.stdout + done.stderr
