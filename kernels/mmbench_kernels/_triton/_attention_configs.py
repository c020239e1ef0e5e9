"""How the kernels of attention are compiled, by dtype, precision of products and width of a head.

Of the tiles that were compiled, those with the fewest instructions a pair of query and key that need no stack
on sm_80, sm_90 and sm_100 alike: in float32 for every call, in half precision for one with dropout and all
that may be absent, which `_modal_attention_cases` compiles again. Other calls in half precision spill up to
112 bytes with heads of 128, 48 with heads of 64 on sm_100, 16 with heads of 16.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mmbench_kernels._triton._launch import Config

WIDTHS = (16, 32, 64, 128)
"""The widths that there are tiles for; others are padded to the next."""

FLOAT32_WIDTH = 64
"""The widest head in float32."""

THREE_PRODUCTS_WIDTH = 32
"""The widest head whose products of float32 are computed as three of TF32."""

FLOAT32_REGISTERS = 255
"""That a thread may have. Said, because ptxas spills else to fit one block more on a multiprocessor."""

# Queries, keys, warps, by width. Products of float32 on ordinary cores hold whole rows in registers.
_Tiles = Mapping[int, tuple[int, int, int]]
_FORWARD: Mapping[str, _Tiles] = {
    "half": {16: (128, 64, 8), 32: (128, 64, 8), 64: (128, 64, 8), 128: (128, 32, 8)},
    "ieee": {16: (32, 32, 4), 32: (32, 32, 4), 64: (32, 16, 8)},
    "tf32": {16: (64, 32, 4), 32: (64, 32, 4), 64: (128, 16, 8)},
    "tf32x3": {16: (64, 32, 4), 32: (64, 32, 4)},
}
_QUERY: Mapping[str, _Tiles] = {
    "half": {16: (128, 64, 8), 32: (128, 64, 8), 64: (128, 32, 8), 128: (128, 32, 8)},
    "ieee": {16: (32, 32, 4), 32: (32, 16, 4), 64: (32, 16, 8)},
    "tf32": {16: (128, 64, 8), 32: (64, 32, 4), 64: (32, 16, 4)},
    "tf32x3": {16: (64, 32, 4), 32: (64, 16, 4)},
}
_KEY_VALUE: Mapping[str, _Tiles] = {
    "half": {16: (32, 64, 4), 32: (32, 128, 8), 64: (32, 128, 8), 128: (16, 128, 8)},
    "ieee": {16: (32, 32, 4), 32: (16, 32, 4), 64: (16, 32, 8)},
    "tf32": {16: (16, 128, 8), 32: (32, 32, 4), 64: (32, 16, 8)},
    "tf32x3": {16: (16, 64, 4), 32: (16, 16, 4)},
}


def padded(width: int) -> int:
    """Return the least of WIDTHS that holds a head."""
    return next(each for each in WIDTHS if each >= width)


def forward_config(dtype: torch.dtype, width: int, precision: str) -> Config:
    """Return that of the forward kernel, for products of float32 in a precision of Triton's."""
    return _config(_FORWARD, dtype, width, precision)


def query_config(dtype: torch.dtype, width: int, precision: str) -> Config:
    """Return that of the kernel of the gradient to the queries."""
    return _config(_QUERY, dtype, width, precision)


def key_value_config(dtype: torch.dtype, width: int, precision: str) -> Config:
    """Return that of the kernel of the gradients to keys and values."""
    return _config(_KEY_VALUE, dtype, width, precision)


def delta_config(width: int) -> Config:
    """Return that of the kernel of the sums over D."""
    return Config({"BLOCK_M": 64, "WIDTH": padded(width)}, num_warps=4)


def _config(tables: Mapping[str, _Tiles], dtype: torch.dtype, width: int, precision: str) -> Config:
    kind = precision if dtype == torch.float32 else "half"
    block_m, block_n, warps = tables[kind][padded(width)]
    constants = {"BLOCK_M": block_m, "BLOCK_N": block_n, "WIDTH": padded(width)}
    bound = FLOAT32_REGISTERS if dtype == torch.float32 else None
    return Config(constants, num_warps=warps, num_stages=2, max_registers=bound)
