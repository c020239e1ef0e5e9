"""The kernels of norm_act_pad on a GPU: what the interpreter cannot show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mmbench_kernels import norm_act_pad
from mmbench_kernels._availability import triton_reasons
from mmbench_kernels.ops.norm_act_pad import Up2, norm_act_pad_reference
from tests.kernels.norm_act_pad_problems import LIMITS, compare, random_affine, relative_error

REASONS = (
    triton_reasons(torch.device("cuda"), torch.float32) if torch.cuda.is_available() else ["no CUDA device"]
)
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(REASONS), reason="; ".join(REASONS))]

EVERY_GROUP = pytest.mark.parametrize("groups", ["sample", "channel"])
EVERY_FORMAT = pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["planar", "packed"]
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def random_map(*shape: int, dtype: torch.dtype = torch.float32, memory_format: Any = None) -> Tensor:
    x = torch.randn(shape, device="cuda").to(dtype)
    return x if memory_format is None else x.to(memory_format=memory_format)


@EVERY_GROUP
@EVERY_FORMAT
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(("pad", "pad_mode"), [(1, "reflect"), (3, "reflect"), (2, "zeros"), (0, "none")])
@pytest.mark.parametrize(
    "shape", [(3, 3, 5, 4), (2, 16, 33, 31), (2, 8, 128, 128), (1, 127, 9, 8), (1, 1, 4, 4)]
)
def test_it_equals_its_definition_in_every_dtype_and_format(
    groups: str,
    memory_format: Any,
    dtype: torch.dtype,
    affine: bool,
    pad: int,
    pad_mode: str,
    shape: tuple[int, ...],
) -> None:
    x = random_map(*shape, dtype=dtype, memory_format=memory_format)
    parameters = random_affine(shape[1], "cuda") if affine else None
    compare(x, affine=parameters, groups=groups, pad=pad, pad_mode=pad_mode)


@EVERY_GROUP
@EVERY_FORMAT
@pytest.mark.parametrize("dtype", LIMITS)
def test_sources_are_joined_and_doubled_as_they_are_read(
    groups: str, memory_format: Any, dtype: torch.dtype
) -> None:
    skip = random_map(2, 8, 64, 48, dtype=dtype, memory_format=memory_format)
    half = random_map(2, 16, 32, 24, dtype=dtype, memory_format=memory_format)
    compare([skip, Up2(half)], affine=random_affine(24, "cuda"), groups=groups)


@EVERY_GROUP
@EVERY_FORMAT
def test_a_mean_of_a_thousand_deviations_costs_no_digits(groups: str, memory_format: Any) -> None:
    compare(random_map(2, 8, 128, 128, memory_format=memory_format) + 1000, groups=groups)


def test_strides_of_every_kind_are_read_in_place() -> None:
    base = random_map(2, 4, 36, 50)
    wide = base.to(memory_format=torch.channels_last)
    for x in (base[:, :, 1:30, 2:47], base[..., ::2], base.transpose(2, 3), wide[:, 1:3], wide[:, :, 1:30]):
        compare(x, groups="sample")
    compare(base, groups="channel", grad=torch.ones((), device="cuda").expand(2, 4, 38, 52))


def gradients(x: Tensor, **options: Any) -> list[Tensor]:
    x = x.detach().requires_grad_()
    y = norm_act_pad(x, backend="triton", **options)
    return [y.detach(), *torch.autograd.grad(y.float().square().sum(), x)]


@EVERY_GROUP
@EVERY_FORMAT
def test_ten_runs_have_the_same_bits(groups: str, memory_format: Any) -> None:
    x = random_map(4, 16, 256, 256, memory_format=memory_format)
    first = gradients(x, groups=groups)
    for _ in range(9):
        assert all(torch.equal(one, two) for one, two in zip(first, gradients(x, groups=groups), strict=True))


def test_a_cuda_graph_of_both_passes_repeats_on_new_values() -> None:
    x = random_map(2, 8, 64, 64).requires_grad_()
    weight, bias = (each.requires_grad_() for each in random_affine(8, "cuda"))
    leaves = (x, weight, bias)

    def step() -> Sequence[Tensor]:
        y = norm_act_pad(x, groups="sample", weight=weight, bias=bias, backend="triton")
        return [y, *torch.autograd.grad(y.square().sum(), leaves)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles, which may not happen while capturing
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        x.copy_(torch.randn_like(x))
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(one, two) for one, two in zip(captured, step(), strict=True))


@EVERY_FORMAT
def test_the_forward_pass_needs_no_memory_beside_its_result(memory_format: Any) -> None:
    x = random_map(4, 8, 512, 512, memory_format=memory_format)
    norm_act_pad(x, groups="sample", backend="triton")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    y = norm_act_pad(x, groups="sample", backend="triton")
    peak = torch.cuda.max_memory_allocated() - before
    assert peak < 1.02 * y.numel() * y.element_size()


def test_doubled_sources_never_lie_in_memory_joined() -> None:
    skip, half = random_map(4, 8, 512, 512), random_map(4, 8, 256, 256)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    y = norm_act_pad([skip, Up2(half)], groups="sample", backend="triton")
    assert torch.cuda.max_memory_allocated() - before < 1.02 * y.numel() * y.element_size()


def test_offsets_beyond_two_to_the_31_are_right() -> None:
    free, _ = torch.cuda.mem_get_info()
    if free < 24 << 30:
        pytest.skip(f"needs 24 GiB of free GPU memory, there are {free / 2**30:.0f}")
    x = torch.randn(5, 32, 4096, 4096, device="cuda", dtype=torch.float16)  # 2.7 billion values
    y = norm_act_pad(x, groups="channel", backend="triton")
    expected = norm_act_pad_reference(x[4:, 31:].double(), "channel")
    assert relative_error(y[4:, 31:], expected) < LIMITS[torch.float16][0]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_tensor_on_another_device_than_the_current_one_is_computed_there() -> None:
    x = torch.randn(2, 3, 8, 8, device="cuda:1")
    y = norm_act_pad(x, groups="sample", backend="triton")
    assert y.device == x.device
    assert relative_error(y, norm_act_pad_reference(x.double(), "sample")) < LIMITS[torch.float32][0]
