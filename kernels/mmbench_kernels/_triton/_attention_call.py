"""What the kernels of attention, forward and backward, are called with alike.

Axes: B batch, H head, N token, D width of a head, M modality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmbench_kernels import stats
from mmbench_kernels._triton import _counter_hash, _launch
from mmbench_kernels._triton._attention_configs import THREE_PRODUCTS_WIDTH, padded
from mmbench_kernels._triton._token_rows import slot_starts
from mmbench_kernels.ops._counter_hash import drop_count, keep_scale


@dataclass(frozen=True)
class Options:
    """The arguments of `modal_attention` that are not tensors of the size of q.

    Attributes:
        present: (B, M) bool, or None: everything is.
        lengths: Tokens of each modality; not read without `present`.
        skips_queries: Whether rows of absent modalities are zeros.
        dropout_p: Probability of dropping a weight.
        seed: int64, one number; None: nothing is dropped.
        scale: Factor of the scores.
    """

    present: Tensor | None
    lengths: Sequence[int]
    skips_queries: bool
    dropout_p: float
    seed: Tensor | None
    scale: float

    def arguments(self, q: Tensor) -> dict[str, Any]:
        """Return the arguments that all kernels have which compute weights.

        Args:
            q: (B, H, N, D) queries, not empty.
        """
        batch, heads, tokens, width = q.shape
        present, starts = None, None
        steps: tuple[int, ...] = (0, 0)
        if self.present is not None:
            present, starts = self.present.view(torch.uint8), slot_starts(self.lengths, q.device)
            steps = present.stride()
        rows, columns, threshold, kept = None, None, 0, 1.0
        if self.seed is not None and self.dropout_p > 0:
            rows, columns = _counter_hash.line_hashes(self.seed, batch, heads, tokens)
            threshold, kept = drop_count(self.dropout_p) - (1 << 31), keep_scale(self.dropout_p)
        return {
            "present_ptr": present,
            "starts_ptr": starts,
            "row_hashes_ptr": rows,
            "column_hashes_ptr": columns,
            "stride_pb": steps[0],
            "stride_pm": steps[1],
            "heads": heads,
            "tokens": tokens,
            "slots": len(self.lengths),
            "threshold": threshold,
            "keep_scale": kept,
            "SKIPS_QUERIES": self.skips_queries,
            "PRECISION": precision(q.dtype, width),
        }


def precision(dtype: torch.dtype, width: int) -> str:
    """Return how products of a dtype are computed, as `torch.set_float32_matmul_precision` has it.

    Args:
        dtype: Of the factors.
        width: D. For wide heads "high" is computed exactly: the parts of three products fill the registers.
    """
    if dtype != torch.float32:
        return "ieee"
    setting = torch.get_float32_matmul_precision()
    if setting == "medium":
        return "tf32"
    return "tf32x3" if setting == "high" and width <= THREE_PRODUCTS_WIDTH else "ieee"


def kernel_rows(x: Tensor) -> Tensor:
    """Return x, or a copy counted in `stats.copies` if its rows are not what the kernels are compiled for.

    These read 16 bytes at a time: single elements would need an address each, too many for the registers.

    Args:
        x: (B, H, N, D), any strides.

    Returns:
        (B, H, N, P), P the least of WIDTHS that holds D, zeros behind column D; the last stride is 1, the
        others are multiples of 16.
    """
    width = padded(x.shape[-1])
    ready = x.shape[-1] == width and x.data_ptr() % 16 == 0
    if ready and x.stride(-1) == 1 and all(step % 16 == 0 for step in x.stride()[:-1]):
        return x
    stats.copies += 1
    copy = x.new_zeros((*x.shape[:-1], width))
    copy[..., : x.shape[-1]] = x
    return copy


def without_padding(x: Tensor, width: int) -> Tensor:
    """Return the first D columns of (B, H, N, P), stored as (B, N, H, D), a counted copy unless D is P."""
    if x.shape[-1] == width:
        return x
    stats.copies += 1
    return x[..., :width].transpose(1, 2).contiguous().transpose(1, 2)


def stored_by_token(x: Tensor) -> Tensor:
    """Return unwritten memory for (B, H, N, D), stored as (B, N, H, D)."""
    batch, heads, tokens, width = x.shape
    memory = _launch.empty((batch, tokens, heads, width), dtype=x.dtype, device=x.device)
    return memory.transpose(1, 2)


def strides(letter: str, x: Tensor) -> dict[str, int]:
    """Return the strides of (B, H, N, D) by the names of a kernel's arguments; that of D is 1."""
    return {f"stride_{letter}{axis}": step for axis, step in zip("bhn", x.stride()[:3], strict=True)}


def programs(x: Tensor, rows: int) -> tuple[int]:
    """Return the grid of programs that have so many rows of one head each."""
    batch, heads, tokens, _ = x.shape
    return (batch * heads * _launch.ceil_div(tokens, rows),)
