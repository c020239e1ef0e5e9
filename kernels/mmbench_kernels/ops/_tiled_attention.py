"""Attention of one sample in tiles of some queries by all keys, forward and backward, dropout or not.

Nothing of size N x N outlives a tile. The speed on a CPU comes from few passes over a tile that stays in
cache, each vectorised: powers of 2, not of e, masks as products of integers, sums over queries transposed.

Axes: H head, N query token, K key token, D width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmbench_kernels.ops import _counter_hash

# Entries of a tile: for each CPU thread, and on another device.
_TILE_ENTRIES, _DEVICE_TILE_ENTRIES = 1 << 18, 1 << 24
_LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Dropout:
    """Which entries of a sample's softmax matrix are dropped.

    Attributes:
        rows: (H, N) int32, hashes of the queries.
        columns: (H, K) int32, hashes of the keys.
        probability: Of dropping an entry.
    """

    rows: Tensor
    columns: Tensor
    probability: float

    def keep(self, heads: slice, queries: slice, out: Tensor) -> Tensor:
        """Write 1 where an entry of a tile is kept, 0 elsewhere, into `out` (h, n, K) int32."""
        rows, columns = self.rows[heads, queries], self.columns[heads]
        return _counter_hash.keep(rows, columns, self.probability, out=out)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, dropout: Dropout | None) -> tuple[Tensor, Tensor]:
    """Return the result and the logarithm of the softmax's denominator.

    Args:
        q: (H, N, D) float32 or float64.
        k: (H, K, D), K > 0.
        v: (H, K, D).
        scale: Of the scores.
        dropout: None: nothing is dropped.

    Returns:
        (H, N, D) and (H, N).
    """
    q, k, v = (q * (scale * _LOG2_E)).contiguous(), k.contiguous(), v.contiguous()
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:2])
    (scores_buffer,), keep_buffer = _buffers(q, k, 1, dropout)
    for heads, queries, shape in _tiles(q, k):
        scores = _shaped(scores_buffer, shape)
        torch.bmm(q[heads, queries], k[heads].transpose(1, 2), out=scores)
        top = scores.amax(2, keepdim=True)
        weights = scores.sub_(top).exp2_()
        total = weights.sum(2, keepdim=True)
        lse[heads, queries] = total.log2().add_(top).div_(_LOG2_E).squeeze(2)
        if dropout is not None:
            _zero_dropped(weights, dropout.keep(heads, queries, _shaped(keep_buffer, shape)))
            total.div_(_counter_hash.keep_scale(dropout.probability))
        out[heads, queries] = torch.bmm(weights, v[heads]).div_(total)
    return out, lse


def attend_backward(
    grad_out: Tensor,
    delta: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lse: Tensor,
    scale: float,
    dropout: Dropout | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients to q, k and v; see `attend`.

    Args:
        grad_out: (H, N, D), gradient to the result.
        delta: (H, N), sum over D of grad_out · result, minus the gradient to `lse`.
        q: (H, N, D).
        k: (H, K, D).
        v: (H, K, D).
        lse: (H, N), what `attend` returned.
        scale: Of the scores.
        dropout: As in `attend`.
    """
    width, delta = q.shape[2], delta[:, :, None].contiguous()
    # One more channel lets the product subtract the logarithm of the denominator by itself.
    q = torch.cat([q * (scale * _LOG2_E), lse[:, :, None] * -_LOG2_E], dim=2)
    k = torch.cat([k, k.new_ones(k.shape[:2])[:, :, None]], dim=2)
    v, grad_out = v.contiguous(), grad_out.contiguous()
    if dropout is not None:
        grad_out = grad_out * _counter_hash.keep_scale(dropout.probability)
    grad_q = q.new_empty(grad_out.shape)
    # Transposed: a product that sums over the rows of a tile is nearly twice as fast this way round.
    grad_k, grad_v = (x.new_zeros(x.shape[0], width, x.shape[1]) for x in (k, v))
    (weights_buffer, grads_buffer), keep_buffer = _buffers(q, k, 2, dropout)
    for heads, queries, shape in _tiles(q, k):
        tile_q, tile_grad = q[heads, queries], grad_out[heads, queries]
        weights, grads = _shaped(weights_buffer, shape), _shaped(grads_buffer, shape)
        torch.bmm(tile_q, k[heads].transpose(1, 2), out=weights).exp2_()
        torch.bmm(tile_grad, v[heads].transpose(1, 2), out=grads)
        if dropout is None:
            kept = weights
            grads.sub_(delta[heads, queries]).mul_(weights)
        else:
            keep = dropout.keep(heads, queries, _shaped(keep_buffer, shape))
            kept = _select_kept(weights, keep)
            grads.mul_(kept).addcmul_(weights, delta[heads, queries], value=-1)
        grad_v[heads].baddbmm_(tile_grad.transpose(1, 2), kept)
        grad_k[heads].baddbmm_(tile_q[:, :, :width].transpose(1, 2), grads)
        grad_q[heads, queries] = torch.bmm(grads, k[heads, :, :width])
    return grad_q.mul_(scale), grad_k.div_(_LOG2_E).transpose(1, 2), grad_v.transpose(1, 2)


def _zero_dropped(weights: Tensor, keep: Tensor) -> None:
    """Set dropped weights to zero; on float32 by its bits, which spares a conversion of the mask."""
    if weights.dtype == torch.float32:
        weights.view(torch.int32).mul_(keep)
    else:
        weights.mul_(keep)


def _select_kept(weights: Tensor, keep: Tensor) -> Tensor:
    """Return the weights with zeros for the dropped ones, on float32 in the memory of `keep`."""
    if weights.dtype == torch.float32:
        return keep.mul_(weights.view(torch.int32)).view(torch.float32)
    return weights * keep


def _tile_size(q: Tensor, k: Tensor) -> tuple[int, int]:
    """Return how many heads and queries a tile has: heads more than one only where it has all queries."""
    entries = _TILE_ENTRIES * torch.get_num_threads() if q.device.type == "cpu" else _DEVICE_TILE_ENTRIES
    queries = max(1, min(q.shape[1], entries // k.shape[1]))
    return max(1, min(q.shape[0], entries // (queries * k.shape[1]))), queries


def _tiles(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice, tuple[int, int, int]]]:
    """Yield each tile's heads, queries and shape (h, n, K)."""
    heads, queries = _tile_size(q, k)
    for head in range(0, q.shape[0], heads):
        for query in range(0, q.shape[1], queries):
            ends = min(head + heads, q.shape[0]), min(query + queries, q.shape[1])
            shape = ends[0] - head, ends[1] - query, k.shape[1]
            yield slice(head, ends[0]), slice(query, ends[1]), shape


def _buffers(q: Tensor, k: Tensor, count: int, dropout: Dropout | None) -> tuple[list[Tensor], Tensor]:
    """Return memory for `count` tiles of floats and, with dropout, for one of int32."""
    heads, queries = _tile_size(q, k)
    entries = heads * queries * k.shape[1]
    keep = torch.empty(0 if dropout is None else entries, dtype=torch.int32, device=q.device)
    return [q.new_empty(entries) for _ in range(count)], keep


def _shaped(buffer: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return the front of a buffer as a tile."""
    return buffer[: math.prod(shape)].view(shape)
