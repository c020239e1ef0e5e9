"""`modal_fuse` on a GPU: its two operators, whose kernels Triton compiles at their first launch.

Axes: B batch, M modality, C channel of one modality, K channels of all, O channel of the result, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmbench_kernels.ops._modal_fuse_rows import refuse_unmapped
from mmbench_kernels.ops._registration import declare
from mmbench_kernels.ops._rows import empty_dense_map

MOST_MODALITIES = 4
MOST_CHANNELS = 128


def limits(widths: Sequence[int], outputs: int) -> list[str]:
    """Return what of a call the kernels cannot do, each a sentence without its point.

    Args:
        widths: C of each modality.
        outputs: O.
    """
    found = []
    if len(widths) > MOST_MODALITIES:
        found.append(f"there are {len(widths)} modalities, expected {MOST_MODALITIES} or fewer")
    if not all(1 <= width <= MOST_CHANNELS for width in (*widths, outputs)):
        found.append(
            f"the maps have {list(widths)} channels and the result {outputs}, "
            f"expected 1 to {MOST_CHANNELS} each"
        )
    return found


def modal_fuse_triton(
    maps: Sequence[Tensor],
    matrix: Tensor,
    bias: Tensor | None,
    present: Tensor | None,
    *options: Any,
) -> Tensor:
    """Return the fused map, (B, O, H, W), channels-last if the first map is.

    Args:
        maps: Those that there are, (B, C, H, W) of one dtype, of any strides.
        matrix: (O, K).
        bias: (O,) or None.
        present: (B, M) bool or None.
        options: Which modalities have a map, C of all, groups, eps, negative_slope, missing.
    """
    y: Tensor = _FORWARD(maps, matrix, bias, present, *options)[0]
    return y


def _check_presence(present: Tensor, slots: Sequence[int], missing: str) -> None:
    """Refuse a modality present without a map, and with "drop" a sample of none; on a GPU without waiting."""
    unmapped = [slot for slot in range(present.shape[1]) if slot not in slots]
    if present.device.type == "cpu":
        for slot in unmapped:
            if present[:, slot].any():
                refuse_unmapped(slot, int(present[:, slot].nonzero()[0]))
        if missing == "drop" and not present.any(1).all():
            raise ValueError(
                f"modal_fuse: sample {int((~present.any(1)).nonzero()[0])} has no modality present, which "
                "missing='drop' cannot normalise; use missing='zero'"
            )
        return
    for slot in unmapped:
        torch._assert_async(
            ~present[:, slot].any(), f"modal_fuse: features[{slot}] is None, but a sample has it present"
        )
    if missing == "drop":
        torch._assert_async(
            present.any(1).all(),
            "modal_fuse: a sample has no modality present, which missing='drop' cannot normalise",
        )


def _forward(
    features: list[Tensor], weight: Tensor, bias: Tensor | None, present: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor]:
    from mmbench_kernels._triton import _modal_fuse_configs, modal_fuse

    problem = _modal_fuse_configs.Problem(*options)
    if present is not None:
        _check_presence(present, problem.slots, problem.missing)
    if features[0].numel() == 0:
        return _forward_fake(features, weight, bias, present, *options)
    return modal_fuse.forward(features, weight, bias, present, problem)


def _forward_fake(
    features: list[Tensor], weight: Tensor, bias: Tensor | None, present: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor]:
    _, widths, groups, *_ = options
    first = features[0]
    statistics = first.new_empty(
        3, len(first), sum(widths) if groups == "channel" else 1, dtype=torch.float64
    )
    return empty_dense_map(first, len(weight), *first.shape[2:]), statistics


def _backward(
    grad: Tensor,
    features: list[Tensor],
    weight: Tensor,
    statistics: Tensor,
    present: Tensor | None,
    with_bias: bool,
    *options: Any,
) -> tuple[list[Tensor], Tensor, Tensor]:
    from mmbench_kernels._triton import _modal_fuse_configs, modal_fuse_backward

    if features[0].numel() == 0:
        maps, *sums = _backward_fake(grad, features, weight, statistics, present, with_bias)
        return maps, sums[0].zero_(), sums[1].zero_()
    problem = _modal_fuse_configs.Problem(*options)
    return modal_fuse_backward.backward(
        grad, features, weight, statistics, present, problem, with_bias=with_bias
    )


def _backward_fake(
    grad: Tensor,
    features: list[Tensor],
    weight: Tensor,
    statistics: Tensor,
    present: Tensor | None,
    with_bias: bool,
    *_: Any,
) -> tuple[list[Tensor], Tensor, Tensor]:
    maps = [empty_dense_map(each, *each.shape[1:]) for each in features]
    of_weight = weight.new_empty(weight.shape, dtype=torch.float32)
    return maps, of_weight, weight.new_empty(len(weight) if with_bias else 0, dtype=torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, weight, bias, present, *options = inputs
    _, statistics = output
    ctx.mark_non_differentiable(statistics)
    ctx.set_materialize_grads(False)  # else a small tensor of zeros for it in every backward
    ctx.save_for_backward(weight, statistics, present, *features)
    ctx.options = options
    ctx.bias_dtype = None if bias is None else bias.dtype


def _gradients(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
    weight, statistics, present, *features = ctx.saved_tensors
    if grad is None:  # nothing depends on y
        return [None] * len(features), *(None,) * 9
    with_bias = ctx.bias_dtype is not None
    maps, of_weight, of_bias = _BACKWARD(grad, features, weight, statistics, present, with_bias, *ctx.options)
    bias = of_bias.to(ctx.bias_dtype) if with_bias else None
    return maps, of_weight.to(weight.dtype), bias, *(None,) * 7


_OPTIONS = "int[] slots, int[] widths, str groups, float eps, float negative_slope, str missing"
_BACKWARD = declare(
    "modal_fuse_triton_backward(Tensor grad, Tensor[] features, Tensor weight, Tensor statistics, "
    f"Tensor? present, bool with_bias, {_OPTIONS}) -> (Tensor[], Tensor, Tensor)",
    _backward,
    _backward_fake,
)
_FORWARD = declare(
    f"modal_fuse_triton(Tensor[] features, Tensor weight, Tensor? bias, Tensor? present, {_OPTIONS}) "
    "-> (Tensor, Tensor)",
    _forward,
    _forward_fake,
    backward=_gradients,
    setup_context=_setup_context,
)
