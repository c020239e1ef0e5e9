"""FLOP of each operator that multiplies and accumulates; 2 FLOP for a multiply-accumulate.

A formula sees the operator's arguments by the names of its schema, and counts what the operator does, not
what it declares. Axes: B batch, C channel, H head, N token, D width of a head, O output channel, S places.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Arguments = Mapping[str, Any]
Formula = Callable[[Arguments, Any], int]
"""(arguments by name, output) -> FLOP."""

_FORMULAS: dict[str, Formula] = {}
_KNOWN_NAMESPACES = ("aten", "prims", "prim")
_SUSPICIOUS = re.compile(r"conv|mm|matmul|attention|linear|einsum|rnn|lstm|gru|cdist|^mkldnn")
_HARMLESS = re.compile(r"upsample|gamma")


class UncountedOperatorError(RuntimeError):
    """An operator that may multiply and accumulate has no formula: its work would be counted as nothing."""


def formula(*names: str) -> Callable[[Formula], Formula]:
    """Make a function the formula of operators.

    Args:
        names: "namespace::name", without the overload.
    """

    def keep(function: Formula) -> Formula:
        for name in names:
            _FORMULAS[name] = function
        return function

    return keep


def has_formula(name: str) -> bool:
    """Whether an operator, "namespace::name", has a formula."""
    return name in _FORMULAS


def flops_of(operator: torch._ops.OpOverload, arguments: Arguments, output: Any) -> int:
    """Return the FLOP of one call.

    Args:
        operator: That was called.
        arguments: By the names of its schema.
        output: What it returned.

    Raises:
        UncountedOperatorError: If it is of another library, or looks like a product, and has no formula.
    """
    name = operator._schema.name
    found = _FORMULAS.get(name)
    if found is not None:
        return found(arguments, output)
    namespace, _, bare = name.partition("::")
    if namespace not in _KNOWN_NAMESPACES or (_SUSPICIOUS.search(bare) and not _HARMLESS.search(bare)):
        raise UncountedOperatorError(
            f"operator {name} has no FLOP formula, and would be counted as 0; give it one with "
            f"@mmbench.profiling.formulas.formula({name!r}), returning 0 if it has no products"
        )
    return 0


@formula(
    "mmbench::norm_act_pad",
    "mmbench::norm_act_pad_backward",
    "mmbench::multiscale_seg_loss",
    "mmbench::multiscale_seg_loss_backward",
    "mmbench::norm_act_pad_triton",
    "mmbench::norm_act_pad_triton_backward",
    "mmbench::multiscale_seg_loss_triton",
    "mmbench::multiscale_seg_loss_triton_backward",
)
def _no_products(given: Arguments, output: Any) -> int:
    return 0


@formula("aten::mm")
def _matrix_product(given: Arguments, output: Any) -> int:
    return _product(given["self"], given["mat2"])


@formula("aten::bmm")
def _batched_product(given: Arguments, output: Any) -> int:
    return _product(given["self"], given["mat2"])


@formula("aten::addmm", "aten::_addmm_activation")
def _biased_product(given: Arguments, output: Any) -> int:
    return _product(given["mat1"], given["mat2"])


@formula("aten::baddbmm")
def _biased_batched_product(given: Arguments, output: Any) -> int:
    return _product(given["batch1"], given["batch2"])


@formula("aten::mv")
def _matrix_vector(given: Arguments, output: Any) -> int:
    return 2 * int(given["self"].numel())


@formula("aten::addmv")
def _biased_matrix_vector(given: Arguments, output: Any) -> int:
    return 2 * int(given["mat"].numel())


@formula("aten::dot", "aten::vdot")
def _dot(given: Arguments, output: Any) -> int:
    return 2 * int(given["self"].numel())


def _product(left: Tensor, right: Tensor) -> int:
    """Of (…, n, k) by (…, k, m)."""
    return 2 * left.numel() * right.shape[-1]


@formula(
    "aten::convolution",
    "aten::_convolution",
    "aten::convolution_overrideable",
    "aten::mkldnn_convolution",
    "aten::cudnn_convolution",
)
def _convolution(given: Arguments, output: Any) -> int:
    source = given["self"] if "self" in given else given["input"]
    transposed = bool(given.get("transposed", False))
    return _convolution_flops(source.shape, given["weight"].shape, output.shape, transposed)


@formula("aten::convolution_backward", "aten::convolution_backward_overrideable")
def _convolution_backward(given: Arguments, output: Any) -> int:
    forward = _convolution_flops(
        given["input"].shape, given["weight"].shape, given["grad_output"].shape, bool(given["transposed"])
    )
    # The gradients of the input and of the weight each take every product of the forward once more.
    return forward * sum(bool(wanted) for wanted in given["output_mask"][:2])


def _convolution_flops(
    source: Sequence[int], weight: Sequence[int], output: Sequence[int], transposed: bool
) -> int:
    """Of a convolution: each place of the smaller side of the map meets each weight of its group.

    Args:
        source: (B, C, *S).
        weight: (O, C / groups, *kernel); transposed, (C, O / groups, *kernel).
        output: (B, O, *S).
        transposed: Whether the source's places are those that meet the kernel.
    """
    places = source if transposed else output
    # weight holds O · C / groups · kernel either way, so groups need no further care.
    return 2 * places[0] * math.prod(places[2:]) * math.prod(weight)


@formula(
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_fused_attention_overrideable",
)
def _attention(given: Arguments, output: Any) -> int:
    return _attention_flops(given["query"], given["value"], _pairs(given))


@formula(
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
    "aten::_scaled_dot_product_flash_attention_backward",
    "aten::_scaled_dot_product_efficient_attention_backward",
    "aten::_scaled_dot_product_cudnn_attention_backward",
    "aten::_scaled_dot_product_fused_attention_overrideable_backward",
)
def _attention_backward(given: Arguments, output: Any) -> int:
    return _attention_backward_flops(given["query"], given["value"], _pairs(given))


@formula("mmbench::modal_attention", "mmbench::modal_attention_triton")
def _modal_attention(given: Arguments, output: Any) -> int:
    return _attention_flops(given["q"], given["v"], _modal_pairs(given))


@formula("mmbench::modal_attention_backward", "mmbench::modal_attention_triton_backward")
def _modal_attention_backward(given: Arguments, output: Any) -> int:
    return _attention_backward_flops(given["q"], given["v"], _modal_pairs(given))


@formula("mmbench::modal_fuse", "mmbench::modal_fuse_triton")
def _modal_fuse(given: Arguments, output: Any) -> int:
    return _fuse_flops(given)


@formula("mmbench::modal_fuse_backward", "mmbench::modal_fuse_triton_backward")
def _modal_fuse_backward(given: Arguments, output: Any) -> int:
    return 2 * _fuse_flops(given)  # the gradients of the maps and of the weight


def _fuse_flops(given: Arguments) -> int:
    """Of a 1x1 convolution of the maps that are there; an absent one adds a constant."""
    batch, _, height, width = given["features"][0].shape if given["features"] else (0, 0, 0, 0)
    present, slots = given["present"], given["slots"]
    maps = [batch if present is None else int(present[:, slot].sum()) for slot in slots]
    channels = sum(count * given["widths"][slot] for count, slot in zip(maps, slots, strict=True))
    return int(2 * height * width * channels * given["weight"].shape[0])


def _attention_flops(query: Tensor, value: Tensor, pairs: int) -> int:
    """Of softmax(q kᵀ) v, for pairs of a query and a key that meet in all heads and samples."""
    return 2 * pairs * (query.shape[-1] + value.shape[-1])


def _attention_backward_flops(query: Tensor, value: Tensor, pairs: int) -> int:
    """Of fused attention's five products: the scores once more, and the gradients of q, k, softmax and v."""
    return 2 * pairs * (3 * query.shape[-1] + 2 * value.shape[-1])


def _pairs(given: Arguments) -> int:
    """Return how many pairs of a query and a key meet; a mask that is added saves none."""
    query, keys = given["query"], given["key"].shape[-2]
    queries = query.shape[-2]
    met: int = sum(min(row + 1, keys) for row in range(queries)) if given.get("is_causal") else queries * keys
    return int(math.prod(query.shape[:-2])) * int(met)


def _modal_pairs(given: Arguments) -> int:
    """Return how many pairs meet where each sample attends only to the tokens of its modalities."""
    batch, heads, tokens, _ = given["q"].shape
    if given["present"] is None:
        return int(batch * heads * tokens * tokens)
    lengths = torch.tensor(given["lengths"], device=given["present"].device)
    keys = [int(count) for count in (given["present"] * lengths).sum(1)]
    pairs = sum(count * (count if given["skips_queries"] else int(tokens)) for count in keys)
    return int(heads) * pairs
