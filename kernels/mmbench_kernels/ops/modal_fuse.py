"""Fusion of the maps of all modalities by norm, leaky rectifier and 1x1 convolution, without joining them.

Axes: B batch, M modality, C channel of one modality, K channels of all, O channel of the result, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mmbench_kernels._availability import Backend, choose_backend
from mmbench_kernels.ops import _modal_fuse_rows as rows
from mmbench_kernels.ops._modal_fuse_rows import refuse_unmapped
from mmbench_kernels.ops._modal_fuse_triton import limits, modal_fuse_triton
from mmbench_kernels.ops._registration import declare
from mmbench_kernels.ops._rows import Groups, is_fused_by_compiler, worth_pieces
from mmbench_kernels.ops.norm_act_pad import norm_act_pad

Missing = Literal["zero", "drop"]


def modal_fuse(
    features: Sequence[Tensor | None],
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    present: Tensor | None = None,
    groups: Groups,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
    missing: Missing = "zero",
    backend: Backend = "auto",
) -> Tensor:
    """Return conv1x1(lrelu((x - mean) / sqrt(var + eps))), x being the maps joined on C.

    A missing modality is never read. With "zero" the result is that of zeros in its place, as they add
    lrelu(-mean / sqrt(var + eps)) times the sum of their weights to every pixel; "drop" leaves them out of
    statistics and sum. Kept for backward by Triton, and of large samples on a CPU: the maps, weight, mean and
    1/sqrt(var + eps). Triton's kernels take up to 4 modalities of up to 128 channels each, up to 128 channels
    of the result, and read maps of any strides where they lie.

    Args:
        features: M maps (B, C, H, W) float of one dtype; C may differ. None where no sample has the
            modality; its C is an equal share of what the others leave of K.
        weight: (O, K) or (O, K, 1, 1).
        bias: (O,) or None.
        present: (B, M) bool, or None if every map that is not None is present in every sample.
        groups: "channel" takes mean and variance over (H, W) of each channel, "sample" over (K, H, W).
        eps: Added to the variance.
        negative_slope: Slope below zero, 0 or more.
        missing: "zero" or "drop".
        backend: "auto" takes Triton where it can run, "torch" never; "triton" raises with the reasons why it
            cannot run.

    Returns:
        (B, O, H, W), the dtype of the maps, or of autocast; channels-last for large samples on a CPU, and by
        Triton if the first map is.

    Raises:
        TypeError: If the maps are not of one floating-point dtype, or present is not bool.
        ValueError: If shapes do not fit, an option is unknown, a modality is present whose map is None, or
            with "drop" a sample has none. By Triton on a GPU these two are found without waiting for it, and
            an assertion on the device fails.
        RuntimeError: If the backend cannot run, or a gradient of a gradient is asked for.
    """
    maps = [each for each in features if each is not None]
    _check_maps(maps, negative_slope, groups, missing)
    matrix = weight.flatten(1)
    widths = _widths(features, matrix, bias)
    batch = len(maps[0])
    if present is not None and (present.dtype != torch.bool or present.shape != (batch, len(features))):
        raise (TypeError if present.dtype != torch.bool else ValueError)(
            f"modal_fuse: present is {tuple(present.shape)} {present.dtype}, "
            f"expected ({batch}, {len(features)}) torch.bool"
        )
    slots = [slot for slot, each in enumerate(features) if each is not None]
    options = (slots, widths, groups, eps, negative_slope, missing)
    path = choose_backend("modal_fuse", backend, *maps, matrix, limits=limits(widths, len(matrix)))
    if path == "triton":
        return modal_fuse_triton(maps, matrix, bias, present, *options)
    values, device = batch and maps[0][0].numel() * len(maps), maps[0].device
    if missing == "zero" and (is_fused_by_compiler(device) or not worth_pieces(values, device)):
        return _plain(features, widths, matrix, bias, present, groups, eps, negative_slope)
    y: Tensor = _FORWARD(maps, matrix, bias, present, *options)[0]
    return y


def _plain(
    features: Sequence[Tensor | None],
    widths: Sequence[int],
    matrix: Tensor,
    bias: Tensor | None,
    present: Tensor | None,
    groups: Groups,
    eps: float,
    negative_slope: float,
) -> Tensor:
    """Return the same by torch's own operators, with missing="zero"."""
    like = next(each for each in features if each is not None)
    visible = []
    for slot, (each, channels) in enumerate(zip(features, widths, strict=True)):
        if each is None:
            if present is not None and bool(present[:, slot].any()):
                refuse_unmapped(slot, int(present[:, slot].nonzero()[0]))
            each = like.new_zeros(len(like), channels, *like.shape[2:])
        elif present is not None:
            each = torch.where(present[:, slot, None, None, None], each, 0)
        visible.append(each)
    x = torch.cat(visible, dim=1)
    y = norm_act_pad(x, groups=groups, eps=eps, negative_slope=negative_slope, pad=0)
    return F.conv2d(y, matrix[:, :, None, None], bias)


def modal_fuse_reference(
    features: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    present: Tensor,
    groups: Groups,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
    missing: Missing = "zero",
) -> Tensor:
    """Return what `modal_fuse` defines, sample by sample in the dtype of the maps; the oracle in float64."""
    fused = []
    for b, row in enumerate(present.tolist()):
        kept = [m for m, there in enumerate(row) if there or missing == "zero"]
        x = torch.cat([features[m][b] if row[m] else torch.zeros_like(features[m][b]) for m in kept])
        ends = torch.tensor([0] + [len(each[b]) for each in features]).cumsum(0).tolist()
        columns = torch.cat([torch.arange(ends[m], ends[m + 1]) for m in kept])
        axes = (1, 2) if groups == "channel" else (0, 1, 2)
        x = x - x.mean(axes, keepdim=True)
        x = x / (x.square().mean(axes, keepdim=True) + eps).sqrt()
        x = torch.where(x > 0, x, negative_slope * x)
        fused.append(F.conv2d(x, weight[:, columns, None, None], bias))
    return torch.stack(fused)


def _check_maps(maps: Sequence[Tensor], negative_slope: float, groups: str, missing: str) -> None:
    if not maps:
        raise ValueError("modal_fuse: features holds no map, expected one or more that are not None")
    shapes = [tuple(each.shape) for each in maps]
    if any(len(shape) != 4 or shape[:1] + shape[2:] != shapes[0][:1] + shapes[0][2:] for shape in shapes):
        raise ValueError(f"modal_fuse: the maps are {shapes}, expected (B, C, H, W) of equal B, H and W")
    if not maps[0].is_floating_point() or any(each.dtype != maps[0].dtype for each in maps):
        raise TypeError(
            f"modal_fuse: the maps are {[each.dtype for each in maps]}, expected one floating-point dtype"
        )
    if groups not in ("channel", "sample"):
        raise ValueError(f"modal_fuse: groups is {groups!r}, expected 'channel' or 'sample'")
    if missing not in ("zero", "drop"):
        raise ValueError(f"modal_fuse: missing is {missing!r}, expected 'zero' or 'drop'")
    if negative_slope < 0:
        raise ValueError(f"modal_fuse: negative_slope is {negative_slope}, expected 0 or more")


def _widths(features: Sequence[Tensor | None], matrix: Tensor, bias: Tensor | None) -> list[int]:
    """Return C of each modality; where there is no map, an equal share of what the others leave."""
    known = [None if each is None else each.shape[1] for each in features]
    rest = matrix.shape[1] - sum(each or 0 for each in known)
    unknown = known.count(None)
    if rest < 0 or (rest % unknown if unknown else rest):
        raise ValueError(
            f"modal_fuse: weight has {matrix.shape[1]} input channels, but the maps have {known} "
            "(None: no map)"
        )
    if bias is not None and bias.shape != (len(matrix),):
        raise ValueError(f"modal_fuse: bias has shape {tuple(bias.shape)}, expected ({len(matrix)},)")
    return [rest // unknown if each is None else each for each in known]


def _forward(
    features: list[Tensor], weight: Tensor, bias: Tensor | None, present: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return rows.forward(features, weight, bias, present, rows.Options(*options))


def _forward_fake(
    features: list[Tensor], weight: Tensor, bias: Tensor | None, present: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return rows.forward_fake(features, weight, rows.Options(*options))


def _backward(
    grad: Tensor,
    features: list[Tensor],
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    present: Tensor | None,
    *options: Any,
) -> tuple[list[Tensor], Tensor, Tensor]:
    return rows.backward(grad, features, weight, mean, rstd, present, rows.Options(*options))


def _backward_fake(
    grad: Tensor, features: list[Tensor], weight: Tensor, *_: Any
) -> tuple[list[Tensor], Tensor, Tensor]:
    return rows.backward_fake(features, weight)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    features, weight, bias, present, *options = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)  # else two small tensors of zeros for them in every backward
    ctx.save_for_backward(weight, mean, rstd, present, *features)
    ctx.options = options
    ctx.bias_dtype = None if bias is None else bias.dtype


def _gradients(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
    weight, mean, rstd, present, *features = ctx.saved_tensors
    if grad is None:  # nothing depends on y
        return [None] * len(features), *(None,) * 9
    maps, of_weight, of_bias = _BACKWARD(grad, features, weight, mean, rstd, present, *ctx.options)
    bias = None if ctx.bias_dtype is None else of_bias.to(ctx.bias_dtype)
    return maps, of_weight.to(weight.dtype), bias, *(None,) * 7


_OPTIONS = "int[] slots, int[] widths, str groups, float eps, float negative_slope, str missing"
_BACKWARD = declare(
    "modal_fuse_backward(Tensor grad, Tensor[] features, Tensor weight, Tensor mean, Tensor rstd, "
    f"Tensor? present, {_OPTIONS}) -> (Tensor[], Tensor, Tensor)",
    _backward,
    _backward_fake,
)
_FORWARD = declare(
    f"modal_fuse(Tensor[] features, Tensor weight, Tensor? bias, Tensor? present, {_OPTIONS}) "
    "-> (Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
    backward=_gradients,
    setup_context=_setup_context,
)
