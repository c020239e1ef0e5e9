"""The computation of `modal_fuse` and of its gradient on channels-last rows, by runs of equal patterns.

Axes: B batch, n samples of a block, M modality, C channel of one modality, K channels of all, O channels of
the result, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

from mmbench_kernels.ops._rows import (
    Block,
    Scratch,
    as_rows,
    blocks,
    channel_sums,
    compute_dtype,
    empty_map,
    far_from_zero,
    over_width,
    power_sums,
)

# Matrix products with fewer columns than this leave vector registers empty: several pixels then share a row.
NARROW = 16


@dataclass(frozen=True)
class Options:
    """What a call fixes besides its tensors; slots are the modalities with a map, widths the C of all."""

    slots: Sequence[int]
    widths: Sequence[int]
    groups: str
    eps: float
    slope: float
    missing: str

    def columns(self, modality: int) -> slice:
        """Return where a modality's channels stand among the K."""
        ends = list(accumulate(self.widths))
        return slice(ends[modality] - self.widths[modality], ends[modality])

    def absent(self, pattern: Sequence[int]) -> list[int]:
        """Return the modalities that stand in as zeros and shift the statistics."""
        if self.missing == "drop" or self.groups == "channel":  # a channel of zeros stays zero
            return []
        return [modality for modality in range(len(self.widths)) if modality not in pattern]

    def runs(self, batch: int, present: Tensor | None) -> Iterator[tuple[slice, tuple[int, ...]]]:
        """Yield consecutive samples with the same modalities present, and these."""
        available = tuple(self.slots)
        patterns = [available] * batch
        if present is not None:
            patterns = [tuple(m for m, there in enumerate(row) if there) for row in present.tolist()]
        start = 0
        for pattern, group in groupby(patterns):
            stop = start + len(list(group))
            if not set(pattern) <= set(available):
                slot = min(set(pattern) - set(available))
                refuse_unmapped(slot, start)
            if not pattern and self.missing == "drop":
                raise ValueError(
                    f"modal_fuse: sample {start} has no modality present, which missing='drop' cannot "
                    "normalise; use missing='zero'"
                )
            yield slice(start, stop), pattern
            start = stop


def refuse_unmapped(slot: int, sample: int) -> NoReturn:
    """Raise for a modality that is present without a map."""
    raise ValueError(f"modal_fuse: features[{slot}] is None, but sample {sample} has it present")


def forward(
    features: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor | None,
    present: Tensor | None,
    options: Options,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the fused map, and mean and 1/sqrt(var + eps) of each group, (B, K or 1) float64."""
    result, mean, rstd = forward_fake(features, weight, options)
    first = features[0]
    batch, _, height, width = first.shape
    dtype = compute_dtype(first)
    rows = {slot: as_rows(each) for slot, each in zip(options.slots, features, strict=True)}
    target = as_rows(result)
    outputs = len(weight)
    matrix = weight.to(dtype)
    for samples, pattern in options.runs(batch, present):
        widest = max((options.widths[m] for m in pattern), default=outputs)
        for block in blocks(samples, height, width * max(widest, outputs)):
            scratch = {m: Scratch(rows[m], block) for m in pattern}
            values, centre, scale, shift = _normalisation(rows, block, pattern, scratch, options)
            for m in pattern:
                columns = options.columns(m)
                wide = slice(None) if options.groups == "channel" else slice(0, 1)
                where = columns if options.groups == "channel" else slice(None)
                mean[block.samples, where] = (centre[m] + shift[m])[:, wide]
                rstd[block.samples, where] = scale[m][:, wide]
            base = _constant(mean, rstd, block, pattern, matrix, bias, options)
            mixers = {m: _mixer(matrix[:, options.columns(m)].t(), width) for m in pattern}
            offset_rows = {m: over_width(-centre[m] * scale[m], width, dtype) for m in pattern}
            scale_rows = {m: over_width(scale[m], width, dtype) for m in pattern}
            for piece in reversed(block.pieces):  # the last pieces are still in the cache
                out = target[block.samples, piece]
                mixed = out if out.dtype == dtype else torch.empty_like(out, dtype=dtype)
                mixed.view(len(base), -1, outputs).copy_(base[:, None])
                for m in pattern:
                    part = scratch[m].cast(values[m][:, piece])
                    active = scratch[m].first[: len(part), : part.shape[1]]
                    torch.addcmul(offset_rows[m], part, scale_rows[m], out=active)
                    F.leaky_relu_(active, options.slope)
                    mixer = mixers[m]
                    mixed.view(-1, mixer.shape[1]).addmm_(active.view(-1, mixer.shape[0]), mixer)
                if mixed is not out:
                    out.copy_(mixed)
    return result, mean, rstd


def forward_fake(
    features: Sequence[Tensor], weight: Tensor, options: Options
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `forward` returns where nothing is present, the map uninitialised."""
    first = features[0]
    batch, _, height, width = first.shape
    count = sum(options.widths) if options.groups == "channel" else 1
    mean = first.new_zeros(batch, count, dtype=torch.float64)
    rstd = first.new_full((batch, count), options.eps**-0.5 if options.eps else 1.0, dtype=torch.float64)
    return empty_map(first, weight.shape[0], height, width), mean, rstd


def _mixer(matrix: Tensor, width: int) -> Tensor:
    """Return a matrix that mixes channels, or a block diagonal of it for several pixels of a row at once."""
    repeat = max(1, NARROW // max(1, min(matrix.shape)))
    while width % repeat:
        repeat //= 2
    return torch.kron(torch.eye(repeat, dtype=matrix.dtype, device=matrix.device), matrix.contiguous())


def _normalisation(
    rows: dict[int, Tensor],
    block: Block,
    pattern: Sequence[int],
    scratch: dict[int, Scratch],
    options: Options,
) -> tuple[dict[int, Tensor], dict[int, Tensor], dict[int, Tensor], dict[int, Tensor]]:
    """Return values, mean, 1/sqrt(var + eps) and the shift taken off the values, of each modality present."""
    values = {m: rows[m][block.samples] for m in pattern}
    zero = {m: values[m].new_zeros(len(values[m]), options.widths[m], dtype=torch.float64) for m in pattern}
    mean, square = _moments(values, zero, block, pattern, scratch, options)
    shift = zero
    if any(far_from_zero(mean[m], square[m]) for m in pattern):
        dtype = compute_dtype(values[pattern[0]])
        shift = {m: mean[m].to(dtype).double() for m in pattern}
        for m in pattern:
            width = values[m].shape[2] // options.widths[m]
            values[m] = values[m].to(dtype) - over_width(shift[m], width, dtype)
        mean, square = _moments(values, shift, block, pattern, scratch, options)
    rstd = {m: ((square[m] - mean[m] ** 2).clamp_(min=0) + options.eps).rsqrt_() for m in pattern}
    return values, mean, rstd, shift


def _moments(
    values: dict[int, Tensor],
    shift: dict[int, Tensor],
    block: Block,
    pattern: Sequence[int],
    scratch: dict[int, Scratch],
    options: Options,
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Return mean and mean square of the shifted values for each channel's group, (n, C)."""
    sums = {m: power_sums(values[m], block.pieces, options.widths[m], scratch[m]) for m in pattern}
    pixels = {m: values[m][0].numel() // options.widths[m] for m in pattern}
    if options.groups == "channel" or not pattern:
        return {m: sums[m][0] / pixels[m] for m in pattern}, {m: sums[m][1] / pixels[m] for m in pattern}
    one = pattern[0]
    zeros = pixels[one] * sum(options.widths[m] for m in options.absent(pattern))
    count = zeros + sum(pixels[m] * options.widths[m] for m in pattern)
    off = shift[one][:, :1]  # what zeros become by the shift, negated
    total = torch.stack([sums[m][0].sum(1, keepdim=True) for m in pattern]).sum(0) - zeros * off
    square = torch.stack([sums[m][1].sum(1, keepdim=True) for m in pattern]).sum(0) + zeros * off * off
    return (
        {m: (total / count).expand(-1, options.widths[m]) for m in pattern},
        {m: (square / count).expand(-1, options.widths[m]) for m in pattern},
    )


def _constant(
    mean: Tensor,
    rstd: Tensor,
    block: Block,
    pattern: Sequence[int],
    matrix: Tensor,
    bias: Tensor | None,
    options: Options,
) -> Tensor:
    """Return what every pixel of a sample gets without a map, (n, O): bias and zeroed modalities."""
    base = matrix.new_zeros(block.samples.stop - block.samples.start, len(matrix))
    if bias is not None:
        base += bias.to(matrix.dtype)
    for m in options.absent(pattern):
        base += _zero_activation(mean, rstd, block, options).to(matrix.dtype) * matrix[
            :, options.columns(m)
        ].sum(1)
    return base


def _zero_activation(mean: Tensor, rstd: Tensor, block: Block, options: Options) -> Tensor:
    """Return what a zeroed value becomes, (n, 1) float64."""
    return F.leaky_relu(-mean[block.samples] * rstd[block.samples], options.slope)


def backward(
    grad: Tensor,
    features: Sequence[Tensor],
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    present: Tensor | None,
    options: Options,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return the gradients of the maps, of weight (O, K) and of bias (O,)."""
    gradients, of_weight, of_bias = backward_fake(features, weight)
    batch, _, height, width = features[0].shape
    walk = _Gradient(grad, features, weight, mean, rstd, options)
    targets = {slot: as_rows(each) for slot, each in zip(options.slots, gradients, strict=True)}
    for samples, pattern in options.runs(batch, present):
        for slot in options.slots:
            if slot not in pattern:
                targets[slot][samples] = 0
        widest = max((options.widths[m] for m in pattern), default=1)
        for block in blocks(samples, height, width * max(widest, len(weight))):
            walk.add_block(block, pattern, targets, of_weight, of_bias)
    return gradients, of_weight, of_bias


def backward_fake(features: Sequence[Tensor], weight: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return what `backward` returns, uninitialised, or zero where it is a sum."""
    dtype = compute_dtype(features[0])
    maps = [empty_map(each, *each.shape[1:]) for each in features]
    return maps, weight.new_zeros(weight.shape, dtype=dtype), weight.new_zeros(len(weight), dtype=dtype)


class _Gradient:
    """The gradient of one call, block by block.

    With d = ∂L/∂x̂, also of the zeroed values, ∂L/∂x = (d - mean(d) - x̂·mean(d·x̂)) / sqrt(var + eps).
    """

    def __init__(
        self,
        grad: Tensor,
        features: Sequence[Tensor],
        weight: Tensor,
        mean: Tensor,
        rstd: Tensor,
        options: Options,
    ) -> None:
        self.dtype, self.options = compute_dtype(grad), options
        self.width, self.pixels = grad.shape[3], grad.shape[2] * grad.shape[3]
        self.grad, self.matrix = as_rows(grad), weight.to(self.dtype)
        self.rows = {slot: as_rows(each) for slot, each in zip(options.slots, features, strict=True)}
        self.mean, self.rstd = mean, rstd

    def add_block(
        self,
        block: Block,
        pattern: Sequence[int],
        targets: dict[int, Tensor],
        of_weight: Tensor,
        of_bias: Tensor,
    ) -> None:
        """Write ∂L/∂x of a block, and add its share to the gradients of weight and bias."""
        pooled = channel_sums(self.grad[block.samples].sum(1, dtype=self.dtype), len(self.matrix))  # (n, O)
        of_bias += pooled.sum(0)
        scratch = {m: Scratch(self.rows[m], block) for m in pattern}
        sums = {}
        for m in pattern:
            total, product, share = self._collect(block, m, targets[m], scratch[m])
            of_weight[:, self.options.columns(m)] += share
            sums[m] = (total, product)
        if self.options.groups == "sample":
            sums = self._pooled_sums(block, pattern, sums, pooled, of_weight)
        for m in pattern:
            self._write(block, m, targets[m], sums[m], scratch[m])

    def _statistics(self, block: Block, modality: int) -> tuple[Tensor, Tensor]:
        """Return mean and 1/sqrt(var + eps) of a modality's channels, (n, C)."""
        columns = self.options.columns(modality) if self.options.groups == "channel" else slice(0, 1)
        width = self.options.widths[modality]
        mean, rstd = (each[block.samples, columns].expand(-1, width) for each in (self.mean, self.rstd))
        return mean, rstd

    def _row(self, values: Tensor) -> Tensor:
        return over_width(values, self.width, self.dtype)

    def _normalised(self, block: Block, modality: int, piece: slice, scratch: Scratch) -> Tensor:
        """Return x̂ of a piece, in the first scratch."""
        mean, rstd = self._statistics(block, modality)
        shift = mean.to(self.dtype)
        part = scratch.cast(self.rows[modality][block.samples, piece])
        out = scratch.first[: len(part), : part.shape[1]]
        torch.sub(part, self._row(shift), out=out)
        return torch.addcmul(self._row((shift - mean) * rstd), out, self._row(rstd), out=out)

    def _collect(
        self, block: Block, modality: int, target: Tensor, scratch: Scratch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Write d to the target; return Σd and Σd·x̂ (n, C), and the gradient of the weights (O, C)."""
        matrix = self.matrix[:, self.options.columns(modality)]
        mixer = _mixer(matrix, self.width)
        total = matrix.new_zeros(block.samples.stop - block.samples.start, scratch.first.shape[2])
        product, share = torch.zeros_like(total), torch.zeros_like(mixer)
        for piece in block.pieces:
            normalised = self._normalised(block, modality, piece, scratch)
            active = scratch.second[: len(normalised), : normalised.shape[1]]
            torch.ops.aten.leaky_relu.out(normalised, self.options.slope, out=active)
            grad = self.grad[block.samples, piece].to(self.dtype).reshape(-1, mixer.shape[0])
            tall = active.view(-1, mixer.shape[1])
            share.addmm_(grad.t(), tall)
            torch.mm(grad, mixer, out=tall)
            torch.ops.aten.leaky_relu_backward.grad_input(
                active, normalised, self.options.slope, False, grad_input=active
            )
            target[block.samples, piece] = active
            total += active.sum(1)
            product += normalised.mul_(active).sum(1)
        repeat = len(share) // len(matrix)
        diagonal = share.view(repeat, len(matrix), repeat, -1).diagonal(dim1=0, dim2=2).sum(-1)
        width = self.options.widths[modality]
        return channel_sums(total, width), channel_sums(product, width), diagonal

    def _pooled_sums(
        self,
        block: Block,
        pattern: Sequence[int],
        sums: dict[int, tuple[Tensor, Tensor]],
        pooled: Tensor,
        of_weight: Tensor,
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """Return the sums of the whole sample, spread over its channels; add the zeroed ones' weights."""
        total, product = (
            torch.stack([each[i].sum(1, keepdim=True) for each in sums.values()]).sum(0)
            if sums
            else torch.zeros_like(pooled[:, :1])
            for i in range(2)
        )
        channels = sum(self.options.widths[m] for m in pattern)
        value = -self.mean[block.samples] * self.rstd[block.samples]  # (n, 1), what zero is normalised to
        activation = F.leaky_relu(value, self.options.slope)
        for m in self.options.absent(pattern):
            columns = self.options.columns(m)
            of_weight[:, columns] += (pooled * activation).sum(0)[:, None]
            back = (pooled @ self.matrix[:, columns].double()).sum(1, keepdim=True)
            back = torch.where(value > 0, back, self.options.slope * back)
            total, product = total + back, product + back * value
            channels += self.options.widths[m]
        return {
            m: (
                (total / channels).expand(-1, self.options.widths[m]),
                (product / channels).expand(-1, self.options.widths[m]),
            )
            for m in pattern
        }

    def _write(
        self, block: Block, modality: int, target: Tensor, sums: tuple[Tensor, Tensor], scratch: Scratch
    ) -> None:
        """Turn d in the target into ∂L/∂x."""
        rstd = self._statistics(block, modality)[1]
        constant, factor = (self._row(-each / self.pixels * rstd) for each in sums)
        scale = self._row(rstd)
        for piece in reversed(block.pieces):  # the last pieces are still in the cache
            part = self._normalised(block, modality, piece, scratch)
            torch.addcmul(constant, part, factor, out=part)
            here = target[block.samples, piece]
            if here.dtype == self.dtype:
                torch.addcmul(part, here, scale, out=here)
            else:
                here.copy_(part.addcmul_(here.to(self.dtype), scale))
