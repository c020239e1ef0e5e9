"""Kernels and configurations that the gates must refuse: a gate that nothing fails proves nothing.

Each is the real thing with one fault: a tile too large for the registers, a pointer of unknown alignment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import triton
import triton.language as tl

from mmbench_kernels._triton._aot import CAPABILITIES, AotCase, Gates
from mmbench_kernels._triton._launch import Config
from mmbench_kernels._triton._norm_act_pad_cases import cases
from mmbench_kernels._triton.modal_attention import aot_cases as modal_attention_cases
from mmbench_kernels._triton.modal_fuse import aot_cases as modal_fuse_cases
from mmbench_kernels._triton.multiscale_seg_loss import aot_cases as multiscale_seg_loss_cases


@dataclass(frozen=True)
class BadCase:
    """A case, the words with which its gates must refuse it, and where they must."""

    case: AotCase
    words: str
    capabilities: tuple[int, ...] = CAPABILITIES


def aot_cases() -> list[AotCase]:
    return [*(bad.case for bad in BAD_CASES), *GOOD_CASES]


@triton.jit
def product_kernel(
    a_ptr,  # (M, depth)
    b_ptr,  # (depth, N)
    c_ptr,  # (M, N)
    depth,
    a_stride,
    b_stride,
    c_stride,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Write a tile of a product of matrices whose sizes are multiples of the blocks."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, depth, BLOCK_K):
        places = start + tl.arange(0, BLOCK_K)
        a = tl.load(a_ptr + rows[:, None] * a_stride + places[None, :])
        b = tl.load(b_ptr + places[:, None] * b_stride + columns[None, :])
        total += tl.dot(a, b)
    tl.store(c_ptr + rows[:, None] * c_stride + columns[None, :], total.to(tl.float16))


PRODUCT_POINTERS = ("a_ptr", "b_ptr", "c_ptr")
PRODUCT_NUMBERS = ("depth", "a_stride", "b_stride", "c_stride")


def product(name: str, gates: Gates, *, stages: int = 2, aligned: bool = True) -> AotCase:
    return AotCase(
        name=name,
        kernel=product_kernel,
        signature=dict.fromkeys(PRODUCT_POINTERS, "*fp16") | dict.fromkeys(PRODUCT_NUMBERS, "i32"),
        constants={},
        config=Config({"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 128}, num_warps=8, num_stages=stages),
        dtype="fp16",
        aligned=(*PRODUCT_POINTERS, *PRODUCT_NUMBERS) if aligned else (),
        gates=gates,
    )


def norm_act_pad(what: str, name: str, **changes: Any) -> AotCase:
    """Return a shipped case of `norm_act_pad` under another name, with changes."""
    (case,) = (case for case in cases() if case.name == what)
    return replace(case, name=name, **changes)


SUMS = "sums planar 8x512x512 plain fp32"
PACKED = "apply channels-last 8x512x512 plain fp16"

BAD_CASES = [
    BadCase(
        norm_act_pad(SUMS, "a tile of 8192", config=Config({"BLOCK_P": 8192, "BLOCK_C": 1}, 4)),
        "spills: ",
    ),
    BadCase(norm_act_pad(PACKED, "loads of unknown alignment", aligned=()), "wide loads: none"),
    BadCase(norm_act_pad(PACKED, "stores of unknown alignment", aligned=()), "wide stores: none"),
    BadCase(
        norm_act_pad(PACKED, "as many blocks as fit no registers", gates=Gates(blocks_per_sm=16)),
        "registers: ",
    ),
    BadCase(norm_act_pad(PACKED, "few registers", gates=Gates(max_registers=16)), "at most 16"),
    BadCase(
        norm_act_pad(PACKED, "no products, though claimed", gates=Gates(tensor_cores=True)),
        "tensor cores: 0 instructions, expected some",
    ),
    BadCase(product("products where none may be", Gates(tensor_cores=False)), "instructions, expected none"),
    BadCase(
        product("copies of unknown alignment", Gates(asynchronous_loads=True), stages=3, aligned=False),
        "asynchronous loads: none",
    ),
    BadCase(product("five stages of 64 KB", Gates(), stages=5), "shared memory: "),
    BadCase(
        product("shared memory over a limit of its own", Gates(max_shared_bytes=1 << 10)),
        "bytes, at most 1024",
    ),
    BadCase(
        product("many instructions", Gates(max_instructions_per_pair=0.1, pairs=128 * 128)),
        "instructions a pair: ",
    ),
]

GOOD_CASES = [
    product("a sound product", Gates(tensor_cores=True, asynchronous_loads=True, wide_stores=True), stages=3)
]
"""The same without the fault, which must pass."""


def modal_fuse(what: str, name: str, **changes: Any) -> AotCase:
    """Return a shipped case of `modal_fuse` under another name, with changes."""
    (case,) = (case for case in modal_fuse_cases() if case.name == what)
    return replace(case, name=name, **changes)


WIDE = {"BLOCK_P": 64, "BLOCK_C": 32, "BLOCK_O": 64}

BAD_CASES += [
    BadCase(
        modal_fuse(
            "sums fp32 ieee 64 flat", "float32 sums over a tile for half precision", config=Config(WIDE, 4)
        ),
        "spills: ",
    ),
    BadCase(
        modal_fuse("mix fp32 ieee 2x64 flat", "tensor cores for ieee", gates=Gates(tensor_cores=True)),
        "tensor cores: 0 instructions, expected some",
    ),
    BadCase(
        modal_fuse("maps fp16 ieee 8 flat", "a map of unknown alignment", aligned=()), "wide loads: none"
    ),
]


def multiscale_seg_loss(what: str, name: str, **changes: Any) -> AotCase:
    """Return a shipped case of `multiscale_seg_loss` under another name, with changes."""
    (case,) = (case for case in multiscale_seg_loss_cases() if case.name == what)
    return replace(case, name=name, **changes)


MANY_LANES = {"PADDED": 32, "ROWS": 8, "LANES": 32, "PARTS": 8}
FEW_PIXELS = {"PADDED": 8, "ROWS": 4, "BLOCK": 32}

BAD_CASES += [
    BadCase(
        multiscale_seg_loss(
            "coarse gradient fp32 32 32 prob", "32 classes of 32 pixels", config=Config(MANY_LANES, 1)
        ),
        "spills: ",
    ),
    BadCase(
        multiscale_seg_loss("full sums fp32 6", "heads of unknown alignment", aligned=()), "wide loads: none"
    ),
    BadCase(
        multiscale_seg_loss(
            "full gradient fp16 6",
            "a pixel's classes in several threads",
            config=Config(FEW_PIXELS, 1),
            gates=Gates(max_instructions_per_pair=200.0, pairs=FEW_PIXELS["BLOCK"]),
        ),
        "instructions a pair: ",
    ),
]


def modal_attention(what: str, name: str, **changes: Any) -> AotCase:
    """Return a shipped case of `modal_attention` under another name, with changes."""
    (case,) = (case for case in modal_attention_cases() if case.name == what)
    return replace(case, name=name, **changes)


def attention_tiles(queries: int, keys: int, warps: int) -> Config:
    return Config({"BLOCK_M": queries, "BLOCK_N": keys, "WIDTH": 32}, num_warps=warps, num_stages=2)


ATTENTION = "forward bf16 ieee 32"

BAD_CASES += [
    BadCase(
        modal_attention(ATTENTION, "128 queries and keys of 4 warps", config=attention_tiles(128, 128, 4)),
        "spills: ",
    ),
    BadCase(
        modal_attention(
            "query bf16 ieee 32", "gradients of 128 queries of 4 warps", config=attention_tiles(128, 64, 4)
        ),
        "spills: ",
    ),
    BadCase(
        modal_attention(
            "key_value bf16 ieee 32", "gradients of 128 keys of 4 warps", config=attention_tiles(64, 128, 4)
        ),
        "spills: ",
    ),
    BadCase(modal_attention("delta bf16 32", "results of unknown alignment", aligned=()), "wide loads: none"),
    BadCase(
        modal_attention(
            ATTENTION,
            "dropout at the price of none",
            gates=Gates(max_instructions_per_pair=10.0, pairs=128 * 64),
        ),
        "instructions a pair: 14",
    ),
]
