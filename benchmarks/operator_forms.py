"""Ways to compute each operator that `bench_operators.py` holds against each other.

"published" is the released code's form, "cleaned" what a careful author would write with torch's own
operators, "library" torch's fused attention. Each takes the tensors that are differentiated, then by name
those that are not. Axes: B batch, M modality, C channel, H W pixels, h head, N token, D width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import published_forms
import torch
from torch import Tensor
from torch.nn import functional as F

import mmbench_kernels
from mmbench_kernels.ops.modal_attention import modal_attention_reference
from mmbench_kernels.ops.modal_fuse import modal_fuse_reference
from mmbench_kernels.ops.multiscale_seg_loss import multiscale_seg_loss_reference
from mmbench_kernels.ops.norm_act_pad import norm_act_pad_reference

Run = Callable[..., Tensor]
CHANNELS_LAST = torch.channels_last


@dataclass(frozen=True)
class Form:
    """One way to compute a case.

    Attributes:
        run: (*leaves, **given) -> the result.
        memory_format: In which maps come, as from a network of this form.
        is_ours: Whether it is an operator of this project.
        checked: What is held against the definition instead, where `run` draws a dropout of its own.
    """

    run: Run
    memory_format: torch.memory_format = torch.contiguous_format
    is_ours: bool = False
    checked: Run | None = None


Forms = Mapping[str, Form]


def norm_act_pad_forms(groups: str, with_convolution: bool, backends: Sequence[str]) -> tuple[Forms, Run]:
    """Return the forms of norm, leaky ReLU and reflection of one pixel, and the definition.

    Args:
        groups: "sample" or "channel".
        with_convolution: Whether a 3x3 convolution follows, which must be fed in the form's own layout.
        backends: Of ours, "torch" and where it can run "triton".
    """

    def block(pad: Callable[[Tensor], Tensor]) -> Run:
        if with_convolution:
            return lambda x, weight, bias: F.conv2d(pad(x), weight, bias)
        return pad

    def cleaned(x: Tensor) -> Tensor:
        y = F.leaky_relu(_group_norm(x, groups), 0.2)
        return F.pad(y, (1, 1, 1, 1), mode="reflect")

    def ours(backend: str) -> Run:
        return block(lambda x: mmbench_kernels.norm_act_pad(x, groups=groups, backend=backend))

    published = block(lambda x: published_forms.norm_act_pad(x, groups=groups))
    forms = {"published": Form(published), **_cleaned(block(cleaned)), **_ours(ours, backends)}
    return forms, block(lambda x: norm_act_pad_reference(x, groups))


def modal_fuse_forms(groups: str, backends: Sequence[str]) -> tuple[Forms, Run]:
    """Return the forms of fusion by norm, leaky ReLU and 1x1 convolution, and the definition.

    Leaves: M maps (B, C, H, W), weight (C, M·C), bias (C,). Given: present (B, M).
    """

    def published(*leaves: Tensor, present: Tensor) -> Tensor:
        *maps, weight, bias = leaves
        zeroed = [each * row[:, None, None, None] for each, row in zip(maps, present.unbind(1), strict=True)]
        y = published_forms.normalise_and_rectify(torch.cat(zeroed, dim=1), groups)
        return F.conv2d(y, weight[:, :, None, None], bias)

    def cleaned(*leaves: Tensor, present: Tensor) -> Tensor:
        *maps, weight, bias = leaves
        zeroed = [each * row[:, None, None, None] for each, row in zip(maps, present.unbind(1), strict=True)]
        y = F.leaky_relu(_group_norm(torch.cat(zeroed, dim=1), groups), 0.2)
        return F.conv2d(y, weight[:, :, None, None], bias)

    def ours(backend: str) -> Run:
        def run(*leaves: Tensor, present: Tensor) -> Tensor:
            *maps, weight, bias = leaves
            options: Any = {"groups": groups, "backend": backend}
            return mmbench_kernels.modal_fuse(maps, weight, bias, present=present, **options)

        return run

    def definition(*leaves: Tensor, present: Tensor) -> Tensor:
        return modal_fuse_reference(leaves[:-2], leaves[-2], leaves[-1], present, groups)

    return {"published": Form(published), **_cleaned(cleaned), **_ours(ours, backends)}, definition


def seg_loss_forms(options: Mapping[str, Any], backends: Sequence[str]) -> tuple[Forms, Run]:
    """Return the forms of the losses of several heads, and the definition.

    Leaves: heads (B, K, h, w). Given: target (B, H, W). Others than ours are fed float32, as autocast would.

    Args:
        options: Keyword arguments of `multiscale_seg_loss`.
        backends: Of ours.
    """

    def published(*heads: Tensor, target: Tensor) -> Tensor:
        return published_forms.multiscale_seg_loss([each.float() for each in heads], target, **options)[0]

    def cleaned(*heads: Tensor, target: Tensor) -> Tensor:
        return multiscale_seg_loss_reference([each.float() for each in heads], target, **options)[0]

    def definition(*heads: Tensor, target: Tensor) -> Tensor:
        return multiscale_seg_loss_reference(heads, target, **options)[0]

    def ours(backend: str) -> Form:
        def run(*heads: Tensor, target: Tensor) -> Tensor:
            return mmbench_kernels.multiscale_seg_loss(heads, target, backend=backend, **options)[0]

        return Form(run, is_ours=True)

    forms = {"published": Form(published), "cleaned": Form(cleaned)}
    return forms | {_our_name(backend): ours(backend) for backend in backends}, definition


def attention_forms(
    mode: str,
    dropout_p: float,
    pattern: Sequence[Sequence[bool]],
    backends: Sequence[str],
    dtype: torch.dtype,
) -> tuple[Forms, Run]:
    """Return the forms of attention, and the definition. Leaves: q, k, v (B, h, N, D).

    Given, for the modes that skip: present (B, M).

    Args:
        mode: Of `modal_attention`; published models know "full" only, what stands for them masks the others.
        dropout_p: Of the softmax matrix.
        pattern: What `present` holds, for the form that asks on the host.
        backends: Of ours.
        dtype: Of the leaves.
    """

    def with_dropout(run: Callable[..., Tensor]) -> Form:
        if not dropout_p:
            return Form(run)
        return Form(partial(run, dropout_p=dropout_p), checked=run)

    def ours(backend: str) -> Form:
        seed = 7 if dropout_p else None
        options: dict[str, Any] = {"dropout_p": dropout_p, "seed": seed, "backend": backend}
        return Form(partial(mmbench_kernels.modal_attention, mode=mode, **options), is_ours=True)

    def definition(q: Tensor, k: Tensor, v: Tensor, *, dropped: bool = True, **given: Tensor) -> Tensor:
        options: dict[str, Any] = {"mode": mode, "dropout_p": dropout_p * dropped, "seed": 7}
        return modal_attention_reference(q, k, v, **options, **given)[0]

    masked = _Masked(mode, pattern)
    forms = {"published": with_dropout(masked.matrix), "library": with_dropout(masked.library)}
    if mode != "full":
        forms["library, gathered"] = Form(masked.gathered)
    elif (flash := _flash_attention(dtype)) is not None:
        forms["flash-attn"] = with_dropout(flash)
    return forms | {_our_name(backend): ours(backend) for backend in backends}, definition


@dataclass(frozen=True)
class _Masked:
    """Attention that leaves modalities out, by torch's operators."""

    mode: str
    pattern: Sequence[Sequence[bool]]

    @staticmethod
    def _tokens(present: Tensor, like: Tensor) -> Tensor:
        """Return (B, N) bool of the tokens that are there."""
        return present.repeat_interleave(like.shape[2] // present.shape[1], dim=1)

    def _without_absent_queries(self, out: Tensor, present: Tensor) -> Tensor:
        return out * self._tokens(present, out)[:, None, :, None] if self.mode == "skip_tokens" else out

    def matrix(
        self, q: Tensor, k: Tensor, v: Tensor, *, present: Tensor | None = None, dropout_p: float = 0.0
    ) -> Tensor:
        """Store the whole matrix (B, h, N, N)."""
        if present is None:
            return published_forms.modal_attention(q, k, v, dropout_p=dropout_p)
        scores = (q @ k.transpose(-2, -1)) * (1 / math.sqrt(q.shape[-1]))
        scores = scores.masked_fill(~self._tokens(present, k)[:, None, None, :], -math.inf)
        return self._without_absent_queries(torch.softmax(scores, dim=-1) @ v, present)

    def library(
        self, q: Tensor, k: Tensor, v: Tensor, *, present: Tensor | None = None, dropout_p: float = 0.0
    ) -> Tensor:
        """Give torch's fused attention a mask of the keys."""
        if present is None:
            return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p)
        mask = self._tokens(present, k)[:, None, None, :]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p)
        return self._without_absent_queries(out, present)

    def gathered(self, q: Tensor, k: Tensor, v: Tensor, *, present: Tensor) -> Tensor:
        """Give torch's fused attention, sample by sample, the tokens that are there."""
        rows = []
        length = q.shape[2] // present.shape[1]
        for sample, there in enumerate(self.pattern):
            own = slice(sample, sample + 1)
            spans = [slice(m * length, (m + 1) * length) for m, is_there in enumerate(there) if is_there]
            keys, values = (torch.cat([x[own, :, span] for span in spans], dim=2) for x in (k, v))
            if self.mode == "skip_keys":
                rows.append(F.scaled_dot_product_attention(q[own], keys, values))
                continue
            queries = torch.cat([q[own, :, span] for span in spans], dim=2)
            parts = F.scaled_dot_product_attention(queries, keys, values).split(length, dim=2)
            out = torch.zeros_like(q[own])
            for span, part in zip(spans, parts, strict=True):
                out[:, :, span] = part
            rows.append(out)
        return torch.cat(rows)


def _flash_attention(dtype: torch.dtype) -> Callable[..., Tensor] | None:
    """Return the package's attention on (B, h, N, D), or None where it cannot run."""
    if dtype == torch.float32 or not torch.cuda.is_available():
        return None
    try:
        from flash_attn import flash_attn_func
    except ImportError:
        return None

    def run(q: Tensor, k: Tensor, v: Tensor, *, dropout_p: float = 0.0) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return flash_attn_func(q, k, v, dropout_p=dropout_p).transpose(1, 2)

    return run


def _group_norm(x: Tensor, groups: str) -> Tensor:
    return torch.group_norm(x, 1 if groups == "sample" else x.shape[1])


def _cleaned(run: Run) -> Forms:
    """Return a form that takes maps in either layout."""
    return {"cleaned": Form(run), "cleaned, channels-last": Form(run, CHANNELS_LAST)}


def _our_name(backend: str) -> str:
    return "ours" if backend == "torch" else f"ours, {backend}"


def _ours(run_of: Callable[[str], Run], backends: Sequence[str]) -> Forms:
    """Return ours on channels-last maps, as the methods hand them on; Triton's kernels on planar ones too."""
    forms = {_our_name(each): Form(run_of(each), CHANNELS_LAST, is_ours=True) for each in backends}
    if "triton" in backends:
        forms["ours, triton, planar"] = Form(run_of("triton"), is_ours=True)
    return forms


def compiled(forms: Forms) -> Forms:
    """Return the forms with one more, the best starting point compiled by torch."""
    source = "cleaned" if "cleaned" in forms else "published"
    torch.compiler.reset()  # else the compiler gives up silently after a few cases
    form = forms[source]
    checked = None if form.checked is None else torch.compile(form.checked, dynamic=False)
    run = torch.compile(form.run, dynamic=False)
    return {**forms, f"{source}, compiled": Form(run, form.memory_format, checked=checked)}
