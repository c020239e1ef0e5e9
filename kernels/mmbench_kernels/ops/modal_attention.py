"""Multi-head attention over the tokens of all modalities, which may leave out what is absent.

Axes: B batch, H head, N token, D width of a head, M modality. The tokens of a modality stand together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypedDict, Unpack, get_args, overload

import torch
from torch import Tensor
from torch.nn import functional as F

from mmbench_kernels._availability import Backend, choose_backend
from mmbench_kernels.ops import _counter_hash
from mmbench_kernels.ops._attention_operator import modal_attention_forward
from mmbench_kernels.ops._modal_attention_triton import limits, modal_attention_triton_forward

Mode = Literal["full", "skip_keys", "skip_tokens"]


class AttentionOptions(TypedDict, total=False):
    """The keyword arguments of `modal_attention`, without `return_lse`."""

    present: Tensor | None
    modality_len: int | Sequence[int] | None
    mode: Mode
    dropout_p: float
    seed: int | Tensor | None
    scale: float | None
    backend: Backend


@overload
def modal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    return_lse: Literal[False] = False,
    **options: Unpack[AttentionOptions],
) -> Tensor: ...


@overload
def modal_attention(
    q: Tensor, k: Tensor, v: Tensor, *, return_lse: Literal[True], **options: Unpack[AttentionOptions]
) -> tuple[Tensor, Tensor]: ...


def modal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    present: Tensor | None = None,
    modality_len: int | Sequence[int] | None = None,
    mode: Mode = "full",
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    scale: float | None = None,
    return_lse: bool = False,
    backend: Backend = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Return softmax(scale · q kᵀ) v for each head, with dropout on the softmax matrix.

    Dropout is a hash of the place (b, h, i, j) in the whole sequence, defined in `_counter_hash`: the same
    seed drops the same entries in every mode, forward and backward, on every device. Saved for backward are
    q, k, v, the result and the logarithm of the denominator, nothing of size N x N. Float16 and bfloat16 are
    computed in float32; Triton's kernels round the factors of products to them. Results are deterministic.
    Without dropout, a sample has the bits that it has alone.

    Args:
        q: (B, H, N, D) float queries, any strides.
        k: (B, H, N, D) keys.
        v: (B, H, N, D) values.
        present: (B, M) bool, needed by the modes that skip.
        modality_len: Tokens of each modality, one number for all or one a modality; None: N / M.
        mode: "full": every token attends to every token, and `present` is not read. "skip_keys": tokens of
            absent modalities are not attended to; a sample without any gives zeros. "skip_tokens": nor do
            they attend: their rows are zeros, with zero gradients.
        dropout_p: Probability of dropping an entry of the softmax matrix; the kept ones are rescaled.
        seed: Of the dropout, int or int64 tensor of one number; None: drawn from torch's generator.
        scale: Factor of the scores; None: 1 / sqrt(D).
        return_lse: Whether to return the logarithm of the softmax's denominator too.
        backend: "auto" takes Triton's kernels where they can run and there is something to gain: with
            "full", without dropout and without `return_lse`, torch has kernels of its own. "torch" never
            takes them, "triton" always. They take D up to 128, in float32 up to 64, and M up to 16. Tensors
            whose D is not 16, 32, 64 or 128, or whose rows do not begin at multiples of 16 elements, are
            copied for them first, and counted in `stats.copies`.

    Returns:
        (B, H, N, D), the dtype of q. With `return_lse` also (B, H, N), float32 or, for float64, float64: the
        logarithm of the sum of exp(score) over attended keys, dropped or not; -inf where there is none.

    Raises:
        TypeError: If dtypes or devices of the arguments do not go together.
        ValueError: If shapes do not, or an argument has a value that it may not have.
        RuntimeError: If the backend cannot run.
    """
    _check_tensors(q, k, v)
    lengths = _lengths(q, present, modality_len, mode)
    if not 0 <= dropout_p < 1:
        raise ValueError(f"modal_attention: dropout_p is {dropout_p}, expected 0 <= dropout_p < 1")
    q, k, v = _as_autocast_has_it(q, k, v)
    present = None if mode == "full" else present
    path = choose_backend("modal_attention", backend, q, k, v, limits=limits(q, present))
    if mode == "full" and dropout_p == 0 and not return_lse and backend != "triton":
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    seed = _seed_tensor(seed, q.device) if dropout_p > 0 else None
    attend = modal_attention_triton_forward if path == "triton" else modal_attention_forward
    out, lse = attend(q, k, v, present, lengths, mode == "skip_tokens", dropout_p, seed, scale)
    return (out, lse) if return_lse else out


def modal_attention_qkvpacked(qkv: Tensor, **options: Unpack[AttentionOptions]) -> Tensor:
    """Return `modal_attention` of queries, keys and values in one tensor, without copying them apart.

    Args:
        qkv: (B, N, 3, H, D).
        **options: Those of `modal_attention`.

    Returns:
        (B, H, N, D), stored as (B, N, H, D); see `modal_attention`.

    Raises:
        ValueError: If the shape is another.
    """
    if qkv.ndim != 5 or qkv.shape[2] != 3:
        raise ValueError(f"modal_attention_qkvpacked: qkv {tuple(qkv.shape)}; expected (B, N, 3, H, D)")
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return modal_attention(q, k, v, **options)


def modal_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    present: Tensor | None = None,
    modality_len: int | Sequence[int] | None = None,
    mode: Mode = "full",
    dropout_p: float = 0.0,
    seed: int | Tensor = 0,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the result and the logarithm of the denominator by definition, with whole matrices.

    The oracle of `modal_attention`, for its arguments: differentiable, in the dtype that it gets.
    """
    lengths = _lengths(q, present, modality_len, mode)
    scores = q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    lost = torch.zeros_like(scores, dtype=torch.bool)
    if mode != "full" and present is not None:
        absent = ~present.repeat_interleave(torch.tensor(lengths, device=present.device), dim=1)
        lost |= absent[:, None, None, :]
        if mode == "skip_tokens":
            lost |= absent[:, None, :, None]
    lse = scores.masked_fill(lost, -math.inf).logsumexp(-1)
    weights = (
        (scores - lse[..., None].masked_fill(lse[..., None] == -math.inf, 0))
        .masked_fill(lost, -math.inf)
        .exp()
    )
    if dropout_p > 0:
        keep = _whole_keep(_seed_tensor(seed, q.device), q.shape, dropout_p)
        weights = weights * keep * _counter_hash.keep_scale(dropout_p)
    return weights @ v, lse


def _whole_keep(seed: Tensor, shape: torch.Size, dropout_p: float) -> Tensor:
    """Return (B, H, N, N) int32, 1 where an entry is kept."""
    batch, heads, tokens, _ = shape
    keep = torch.empty((batch, heads, tokens, tokens), dtype=torch.int32, device=seed.device)
    for sample, out in enumerate(keep):
        _counter_hash.keep(*_counter_hash.line_hashes(seed, sample, heads, tokens), dropout_p, out=out)
    return keep


def _check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    if not q.ndim == k.ndim == v.ndim == 4 or not q.shape == k.shape == v.shape:
        raise ValueError(
            f"modal_attention: q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}; "
            "expected three equal shapes (B, H, N, D)"
        )
    if not q.is_floating_point():
        raise TypeError(f"modal_attention: q is {q.dtype}, expected a floating type")
    for name, x in (("k", k), ("v", v)):
        if (x.dtype, x.device) != (q.dtype, q.device):
            raise TypeError(
                f"modal_attention: {name} is {x.dtype} on {x.device}, q is {q.dtype} on {q.device}; "
                "expected the same for q, k and v"
            )


def _lengths(
    q: Tensor, present: Tensor | None, modality_len: int | Sequence[int] | None, mode: str
) -> list[int]:
    """Return the tokens of each modality, checked; [] where nothing says how many modalities there are."""
    if mode not in get_args(Mode):
        raise ValueError(f"modal_attention: mode is {mode!r}, expected 'full', 'skip_keys' or 'skip_tokens'")
    if present is None:
        if mode != "full":
            raise ValueError(f"modal_attention: present is None, expected (B, M) bool for mode={mode!r}")
        return []
    if present.dtype != torch.bool or present.device != q.device:
        raise TypeError(
            f"modal_attention: present is {present.dtype} on {present.device}, expected bool on {q.device}"
        )
    batch, tokens = q.shape[0], q.shape[2]
    if present.ndim != 2 or present.shape[0] != batch or present.shape[1] == 0:
        raise ValueError(
            f"modal_attention: present {tuple(present.shape)}, expected (B, M), B = {batch}, M > 0"
        )
    count = present.shape[1]
    if modality_len is None:
        modality_len = tokens // count
    lengths = [modality_len] * count if isinstance(modality_len, int) else list(modality_len)
    if len(lengths) != count or sum(lengths) != tokens or min(lengths) < 0:
        raise ValueError(
            f"modal_attention: modality_len gives {lengths} tokens, expected {count} lengths (present has "
            f"{count} modalities) that sum to N = {tokens}"
        )
    return lengths


def _as_autocast_has_it(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors in the dtype in which autocast would have attention computed, float64 as it is."""
    device = tensors[0].device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return tensors
    lower = torch.get_autocast_dtype(device)
    return tuple(x if x.dtype == torch.float64 else x.to(lower) for x in tensors)


def _seed_tensor(seed: int | Tensor | None, device: torch.device) -> Tensor:
    if seed is None:
        return torch.randint(0, 2**63 - 1, (), dtype=torch.int64, device=device)
    if not isinstance(seed, Tensor):
        # Filled by the device: a copy from the host could not be captured in a CUDA graph.
        return torch.full((), seed, dtype=torch.int64, device=device)
    if seed.dtype != torch.int64 or seed.device != device:
        raise TypeError(f"modal_attention: seed is {seed.dtype} on {seed.device}, expected int64 on {device}")
    if seed.numel() != 1:
        raise ValueError(f"modal_attention: seed {tuple(seed.shape)}, expected one number")
    return seed.reshape(())
