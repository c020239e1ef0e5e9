"""Multi-head attention over the tokens of all modalities.

Axes: B batch, H head, N token, D width of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def modal_attention(q: Tensor, k: Tensor, v: Tensor, *, dropout_p: float = 0.0) -> Tensor:
    """Return softmax(q kᵀ / sqrt(D)) v for each head, with dropout on the softmax matrix.

    Args:
        q: (B, H, N, D) float queries.
        k: (B, H, N, D) keys.
        v: (B, H, N, D) values.
        dropout_p: Probability of dropping an entry of the softmax matrix; the kept ones are rescaled.

    Returns:
        (B, H, N, D), the dtype of q.

    Raises:
        ValueError: If the shapes differ or dropout_p is outside [0, 1).
    """
    if not q.ndim == k.ndim == v.ndim == 4 or not q.shape == k.shape == v.shape:
        raise ValueError(
            f"modal_attention: q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}; "
            "expected three equal shapes (B, H, N, D)"
        )
    if not 0 <= dropout_p < 1:
        raise ValueError(f"modal_attention: dropout_p is {dropout_p}, expected 0 <= dropout_p < 1")
    if dropout_p == 0 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p)
    # On CPU, scaled_dot_product_attention with dropout leaves its fast path and is slower than this.
    scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
    return F.dropout(torch.softmax(scores, dim=-1), dropout_p) @ v
