"""The guard, the poison and the mutations themselves: each must see what it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl

from mmbench_kernels._triton import _launch
from tests.kernels.interpreted.mutations import mutated


@triton.jit
def copy_kernel(x_ptr, y_ptr, size, first, BLOCK: tl.constexpr):
    place = first + tl.arange(0, BLOCK)
    tl.store(y_ptr + place, tl.load(x_ptr + place, mask=place < size, other=0.0), mask=place < size)


@triton.jit
def write_all_kernel(y_ptr, BLOCK: tl.constexpr):
    tl.store(y_ptr + tl.arange(0, BLOCK), tl.zeros((BLOCK,), tl.float32))


@triton.jit
def add_kernel(y_ptr):
    tl.atomic_add(y_ptr, 1.0)


def test_accesses_within_the_tensors_pass_and_masked_lanes_are_not_looked_at() -> None:
    x, y = torch.randn(5), torch.zeros(5)
    copy_kernel[(1,)](x, y, 5, 0, BLOCK=8)
    assert torch.equal(x, y)


@pytest.mark.parametrize(("size", "first"), [(6, 0), (5, -1)])
def test_one_lane_beyond_either_end_is_refused(size: int, first: int) -> None:
    x, y = torch.randn(5), torch.zeros(5)
    with pytest.raises(Exception, match="load outside of every tensor: 1 of"):
        copy_kernel[(1,)](x, y, size, first, BLOCK=8)


def test_a_slice_of_larger_memory_ends_where_the_slice_ends() -> None:
    whole, y = torch.randn(9), torch.zeros(9)
    with pytest.raises(Exception, match="load outside of every tensor"):
        copy_kernel[(1,)](whole[2:7], y, 6, 0, BLOCK=8)


def test_a_store_is_looked_at_too() -> None:
    with pytest.raises(Exception, match="store outside of every tensor: 3 of 8 lanes, the first 0 bytes"):
        write_all_kernel[(1,)](torch.zeros(5), BLOCK=8)


def test_atomics_are_refused() -> None:
    with pytest.raises(Exception, match="an atomic operation"):
        add_kernel[(1,)](torch.zeros(1))


def test_fresh_memory_of_kernels_is_nan_or_as_far_from_right_as_integers_go() -> None:
    device = torch.device("cpu")
    assert bool(_launch.empty((2, 3), dtype=torch.float16, device=device).isnan().all())
    assert int(_launch.empty((1,), dtype=torch.int32, device=device)) == -(2**31)


def test_a_mutation_changes_the_text_exactly_once_or_refuses(tmp_path: Path) -> None:
    module = mutated("_launch", "-(-size // block)", "size // block", tmp_path)
    assert module.ceil_div(5, 2) == 2
    assert _launch.ceil_div(5, 2) == 3
    with pytest.raises(ValueError, match="0 times, expected once"):
        mutated("_launch", "no such text", "", tmp_path)
