"""`modal_attention` by Triton's kernels: `mmbench::modal_attention_triton` and its backward.

Triton is imported at the first launch, not before.

Axes: B batch, H head, N token, D width of a head, M modality.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmbench_kernels.ops._attention_operator import declare_attention

# Repeated in `_triton`, which is not imported here; a test holds them together.
WIDEST, WIDEST_FLOAT32, SLOTS = 128, 64, 16


def limits(q: Tensor, present: Tensor | None) -> list[str]:
    """Return what the kernels cannot do in a call, for `choose_backend`.

    Args:
        q: (B, H, N, D).
        present: (B, M) that is used, or None.
    """
    found = []
    widest = WIDEST_FLOAT32 if q.dtype == torch.float32 else WIDEST
    if not 1 <= q.shape[3] <= widest:
        found.append(f"the width of a head is {q.shape[3]}, expected 1 to {widest} in {q.dtype}")
    if present is not None and present.shape[1] > SLOTS:
        found.append(f"present has {present.shape[1]} modalities, expected at most {SLOTS}")
    return found


def _forward(q: Tensor, k: Tensor, v: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    from mmbench_kernels._triton._attention_call import Options
    from mmbench_kernels._triton.modal_attention import attend

    return attend(q, k, v, Options(*options))


def _backward(
    grad_out: Tensor,
    grad_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    from mmbench_kernels._triton._attention_call import Options
    from mmbench_kernels._triton.modal_attention_backward import attend_backward

    return attend_backward(grad_out, grad_lse, q, k, v, out, lse, Options(*options))


modal_attention_triton_forward, modal_attention_triton_backward = declare_attention(
    "modal_attention_triton", _forward, _backward
)
