"""The kernels of modal_attention on a GPU: what the interpreter cannot show."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mmbench_kernels import modal_attention, stats
from mmbench_kernels._availability import triton_reasons
from mmbench_kernels.ops import _counter_hash
from mmbench_kernels.ops.modal_attention import modal_attention_qkvpacked, modal_attention_reference
from tests.kernels.modal_attention_problems import (
    LIMITS,
    MODES,
    assert_close,
    errors,
    finite,
    patterns,
    random_qkv,
    relative_error,
)

REASONS = (
    triton_reasons(torch.device("cuda"), torch.float32) if torch.cuda.is_available() else ["no CUDA device"]
)
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(REASONS), reason="; ".join(REASONS))]


@pytest.fixture(autouse=True)
def seeded_and_exact() -> Iterator[None]:
    """Fix the seed, and leave float32 to its full precision."""
    torch.manual_seed(0)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def widest(dtype: torch.dtype) -> int:
    """Return the widest head that the kernels take in a dtype."""
    return 64 if dtype == torch.float32 else 128


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lengths", [[33], [64, 65], [5, 0, 128, 70]])
def test_every_pattern_in_one_batch_equals_the_definition(
    lengths: list[int], mode: str, dropout_p: float, dtype: torch.dtype
) -> None:
    present = patterns(len(lengths)).cuda()
    inputs = random_qkv(len(present), 2, sum(lengths), 32, dtype=dtype, device="cuda")
    options: dict[str, Any] = {"present": present, "modality_len": lengths, "mode": mode}
    assert_close(inputs, dropout_p=dropout_p, seed=9, **options)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("tokens", [2, 17, 64, 97, 128, 1000, 1025, 2048])
def test_all_numbers_of_tokens_have_right_tails(tokens: int, dtype: torch.dtype) -> None:
    assert_close(random_qkv(1, 2, tokens, 32, dtype=dtype, device="cuda"), dropout_p=0.1, seed=5)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("width", [1, 16, 32, 40, 64, 100, 128])
def test_every_width_of_a_head_is_padded_to_a_tile(width: int, dtype: torch.dtype) -> None:
    if width > widest(dtype):
        pytest.skip(f"{dtype} is left to torch beyond {widest(dtype)}")
    assert_close(random_qkv(2, 2, 150, width, dtype=dtype, device="cuda"), dropout_p=0.1, seed=5, scale=0.2)


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize(("precision", "limits"), [("high", (5e-6, 1e-5)), ("medium", (1e-3, 2e-3))])
def test_float32_on_tensor_cores_has_the_digits_of_the_setting(
    precision: str, limits: tuple[float, float], width: int
) -> None:
    torch.set_float32_matmul_precision(precision)
    found = errors(random_qkv(2, 2, 200, width, device="cuda"), dropout_p=0.1, seed=5)
    assert found[0] < limits[0]
    assert found[1] < limits[1]


@pytest.mark.parametrize("dtype", LIMITS)
def test_the_error_is_at_most_twice_that_of_torch_in_the_same_dtype(dtype: torch.dtype) -> None:
    inputs = random_qkv(2, 4, 1000, 32, dtype=dtype, device="cuda")
    expected = modal_attention_reference(*(x.double() for x in inputs))[0]
    found, other = (
        (value.double() - expected).abs().max()
        for value in (modal_attention(*inputs, backend="triton"), modal_attention_reference(*inputs)[0])
    )
    assert float(found) <= 2 * float(other) + 1e-6


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, 0x1234567887654321])
def test_the_hashes_have_the_bits_of_the_cpu(seed: int) -> None:
    from mmbench_kernels._triton import _counter_hash as kernels

    found = kernels.line_hashes(torch.tensor(seed, device="cuda"), 2, 3, 1000)
    for sample in range(2):
        expected = _counter_hash.line_hashes(torch.tensor(seed), sample, 3, 1000)
        assert all(torch.equal(one[sample].cpu(), other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("dropout_p", [0.1, 0.5, 0.999])
def test_the_same_entries_are_dropped_as_on_the_cpu(dropout_p: float, dtype: torch.dtype) -> None:
    tokens = widest(dtype)
    zeros = torch.zeros(2, 2, tokens, tokens, dtype=dtype)
    identity = torch.eye(tokens, dtype=dtype).expand_as(zeros)
    options: dict[str, Any] = {"dropout_p": dropout_p, "seed": 12}
    expected = modal_attention(zeros, zeros, identity, **options) != 0
    on_device = (zeros.cuda(), zeros.cuda(), identity.cuda())
    assert torch.equal((modal_attention(*on_device, backend="triton", **options) != 0).cpu(), expected)


def test_what_is_skipped_is_not_read() -> None:
    q, k, v = random_qkv(3, 2, 300, 32, dtype=torch.float16, device="cuda")
    present = torch.tensor([[True, False], [False, False], [False, True]], device="cuda")
    absent = ~present.repeat_interleave(150, dim=1)[:, None, :, None]
    options: dict[str, Any] = {"present": present, "mode": "skip_tokens", "dropout_p": 0.2, "seed": 4}
    gradient = torch.randn_like(q)
    found = []
    for fill in (0.0, math.nan):
        leaves = [x.masked_fill(absent, fill).requires_grad_() for x in (q, k, v)]
        out = modal_attention(*leaves, backend="triton", **options)
        found.append((out, *torch.autograd.grad(out, leaves, gradient.masked_fill(absent, fill))))
    for clean, dirty in zip(*found, strict=True):
        assert torch.equal(clean, dirty)
        assert not dirty.masked_select(absent).any()


def test_extreme_scores_keep_finite_gradients() -> None:
    inputs = [x.requires_grad_() for x in random_qkv(1, 2, 100, 32, device="cuda")]
    out = modal_attention(inputs[0] * 1e4, *inputs[1:], dropout_p=0.1, seed=1, backend="triton")
    assert bool(out.isfinite().all())
    assert all(bool(grad.isfinite().all()) for grad in torch.autograd.grad(out.sum(), inputs))


def test_packed_tensors_and_gradients_of_any_strides_are_taken() -> None:
    packed = torch.randn(2, 210, 3, 4, 32, dtype=torch.bfloat16, device="cuda").requires_grad_()
    options: dict[str, Any] = {"dropout_p": 0.2, "seed": 4, "backend": "triton"}
    copies = stats.copies
    out = modal_attention_qkvpacked(packed, **options)
    assert out.transpose(1, 2).is_contiguous()
    (found,) = torch.autograd.grad(out, packed, torch.ones_like(out), retain_graph=True)
    assert stats.copies == copies
    (summed,) = torch.autograd.grad(out.sum(), packed)  # a gradient whose strides are all zero
    assert torch.equal(found, summed)
    plain = [x.detach().contiguous().requires_grad_() for x in packed.permute(2, 0, 3, 1, 4).unbind(0)]
    expected = modal_attention(*plain, **options)
    assert torch.equal(out, expected)
    wanted = torch.autograd.grad(expected, plain, torch.ones_like(expected))
    assert torch.equal(found, torch.stack([x.transpose(1, 2) for x in wanted], 2))


@pytest.mark.parametrize("dtype", LIMITS)
def test_ten_runs_give_the_same_bits(dtype: torch.dtype) -> None:
    inputs = [x.requires_grad_() for x in random_qkv(2, 4, 777, 32, dtype=dtype, device="cuda")]
    present = torch.tensor([[True, False, True], [True, True, True]], device="cuda")
    gradient = torch.randn_like(inputs[0])

    def run() -> list[Tensor]:
        out = modal_attention(*inputs, present=present, mode="skip_keys", dropout_p=0.1, seed=3)
        return [out, *torch.autograd.grad(out, inputs, gradient)]

    first = run()
    for _ in range(9):
        assert all(map(torch.equal, first, run()))


def test_a_sample_has_the_bits_that_it_has_alone() -> None:
    inputs = random_qkv(4, 4, 300, 32, dtype=torch.bfloat16, device="cuda")
    present = patterns(2).cuda()
    for mode in MODES:
        together = modal_attention(*inputs, present=present, mode=mode, backend="triton")
        for sample in range(4):
            rows = slice(sample, sample + 1)
            own = [x[rows] for x in inputs]
            alone = modal_attention(*own, present=present[rows], mode=mode, backend="triton")
            assert torch.equal(together[rows], alone)


def captured(call: Callable[[], list[Tensor]]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    """Return a graph of a call and its outputs, after a warm-up that compiles."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = call()
    return graph, outputs


def test_forward_and_backward_are_captured_in_a_graph_which_reads_presence_and_seed_again() -> None:
    inputs = [x.requires_grad_() for x in random_qkv(2, 2, 100, 32, device="cuda")]
    present = torch.ones(2, 2, dtype=torch.bool, device="cuda")
    seed = torch.tensor(3, device="cuda")
    gradient = torch.randn(2, 2, 100, 32, device="cuda")
    options: dict[str, Any] = {"modality_len": [30, 70], "mode": "skip_tokens", "dropout_p": 0.2}

    def run() -> list[Tensor]:
        out = modal_attention(*inputs, present=present, seed=seed, **options)
        return [out, *torch.autograd.grad(out, inputs, gradient)]

    graph, outputs = captured(run)
    present[0, 1] = False
    seed.fill_(4)
    graph.replay()
    assert all(map(torch.equal, outputs, run()))


def test_a_seed_of_the_generator_is_drawn_anew_by_every_replay() -> None:
    inputs = random_qkv(1, 2, 64, 32, device="cuda")
    graph, outputs = captured(lambda: [modal_attention(*inputs, dropout_p=0.5)])
    graph.replay()
    first = outputs[0].clone()
    graph.replay()
    assert not torch.equal(first, outputs[0])


def test_nothing_waits_for_the_device() -> None:
    inputs = [x.requires_grad_() for x in random_qkv(2, 2, 100, 32, device="cuda")]
    present = torch.tensor([[True, False], [True, True]], device="cuda")
    options: dict[str, Any] = {"present": present, "mode": "skip_keys", "dropout_p": 0.2, "seed": 7}
    modal_attention(*inputs, **options).sum().backward()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        modal_attention(*inputs, **options).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_nothing_of_the_size_of_the_matrix_is_allocated() -> None:
    batch, heads, tokens, width = 2, 8, 4096, 32
    inputs = random_qkv(batch, heads, tokens, width, dtype=torch.bfloat16, device="cuda")
    leaves = [x.requires_grad_() for x in inputs]
    modal_attention(*leaves, dropout_p=0.1, seed=1).sum().backward()  # compiles
    for leaf in leaves:
        leaf.grad = None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = modal_attention(*leaves, dropout_p=0.1, seed=1)
    torch.autograd.grad(out, leaves, torch.ones_like(out))
    used = torch.cuda.max_memory_allocated() - before
    rows = batch * heads * tokens
    # Result, its gradient, three gradients; hashes twice, logarithm, sum; each rounded up by the allocator.
    assert used <= 5 * rows * width * 2 + 6 * rows * 4 + (1 << 20)


def test_addresses_beyond_2_to_the_31_are_right() -> None:
    stride = 2**31 + 16
    memory = (2 * stride) * 2 + (1 << 30)
    if torch.cuda.mem_get_info()[0] < memory:
        pytest.skip(f"needs {memory >> 30} GB of free device memory")
    storage = torch.empty(2 * stride, dtype=torch.float16, device="cuda")
    near = random_qkv(2, 1, 64, 32, dtype=torch.float16, device="cuda")[0]
    far = storage.as_strided((2, 1, 64, 32), (stride, 64 * 32, 32, 1)).copy_(near)
    expected = modal_attention(near, near, near, dropout_p=0.1, seed=1, backend="triton")
    assert torch.equal(modal_attention(far, far, far, dropout_p=0.1, seed=1, backend="triton"), expected)


@pytest.mark.parametrize("dtype", LIMITS)
def test_compiled_by_torch_it_gives_the_same_numbers(dtype: torch.dtype) -> None:
    inputs = [x.requires_grad_() for x in random_qkv(2, 2, 100, 32, dtype=dtype, device="cuda")]
    present = torch.tensor([[True, False], [True, True]], device="cuda")
    seed = torch.tensor(3, device="cuda")

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return modal_attention(q, k, v, present=present, mode="skip_keys", dropout_p=0.2, seed=seed) * 2

    expected, compiled = call(*inputs), torch.compile(call, fullgraph=True)(*inputs)
    for one, other in zip(
        (compiled, *torch.autograd.grad(compiled.sum(), inputs)),
        (expected, *torch.autograd.grad(expected.sum(), inputs)),
        strict=True,
    ):
        assert relative_error(one, other.double()) < 1e-6


def test_autocast_computes_in_its_own_dtype() -> None:
    inputs = [x.requires_grad_() for x in random_qkv(2, 2, 60, 32, device="cuda")]
    with torch.autocast("cuda", dtype=torch.bfloat16):
        out, lse = modal_attention(*inputs, dropout_p=0.1, seed=1, return_lse=True)
    assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    assert all(grad.dtype == torch.float32 for grad in torch.autograd.grad(out.sum(), inputs))
    assert bool(finite(lse).isfinite().all())


def test_importing_the_operators_does_not_import_triton() -> None:
    command = "import sys, mmbench_kernels; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command]).returncode == 0
