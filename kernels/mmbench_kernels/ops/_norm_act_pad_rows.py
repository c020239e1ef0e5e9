"""The computation of `norm_act_pad` and of its gradient on channels-last rows.

Axes: B batch, n samples of a block, C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    group_mean,
    over_width,
    power_sums,
)


def forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    groups: str,
    eps: float,
    slope: float,
    pad: int,
    pad_mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, and mean and 1/sqrt(var + eps) of each group, (B, C or 1) float64."""
    y, mean, rstd = forward_fake(x, weight, bias, groups, eps, slope, pad, pad_mode)
    if x.numel() == 0:
        return y, mean, rstd
    channels, height, width = x.shape[1:]
    rows, dtype = as_rows(x), compute_dtype(x)
    inner = as_rows(y)[:, pad : pad + height, pad * channels : (pad + width) * channels]
    walk = blocks(slice(0, len(rows)), height, rows.shape[2])
    scratch = Scratch(rows, walk[0])
    for block in walk:
        values, shift, centre, square = _moments(rows[block.samples], block, channels, groups, scratch)
        scale = ((square - centre * centre).clamp_(min=0) + eps).rsqrt_()
        mean[block.samples] = (centre + shift)[:, : mean.shape[1]]
        rstd[block.samples] = scale[:, : mean.shape[1]]
        offset = -centre * scale
        if weight is not None:
            scale, offset = scale * weight, offset * weight
        if bias is not None:
            offset = offset + bias
        scale_row, offset_row = over_width(scale, width, dtype), over_width(offset, width, dtype)
        for piece in reversed(block.pieces):  # the last pieces are still in the cache
            part = scratch.cast(values[:, piece])
            result = scratch.first[: len(part), : part.shape[1]]
            torch.addcmul(offset_row, part, scale_row, out=result)
            target = inner[block.samples, piece]
            if dtype == y.dtype:
                torch.ops.aten.leaky_relu.out(result, slope, out=target)
            else:
                target.copy_(F.leaky_relu_(result, slope))
    _fill_border(y.permute(0, 2, 3, 1), pad, pad_mode)
    return y, mean, rstd


def forward_fake(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    groups: str,
    eps: float,
    slope: float,
    pad: int,
    pad_mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `forward` returns, uninitialised."""
    batch, channels, height, width = x.shape
    count = channels if groups == "channel" else 1
    mean, rstd = (x.new_empty(batch, count, dtype=torch.float64) for _ in range(2))
    return empty_map(x, channels, height + 2 * pad, width + 2 * pad), mean, rstd


def _moments(
    values: Tensor, block: Block, channels: int, groups: str, scratch: Scratch
) -> tuple[Tensor, Tensor | int, Tensor, Tensor]:
    """Return values less a shift, the shift, and the mean and the mean square of what is left, (n, C)."""
    width = values.shape[2] // channels
    pixels = values.shape[1] * width

    def group_moments() -> Iterator[Tensor]:
        sums = power_sums(values, block.pieces, channels, scratch)
        return (group_mean(each / pixels, groups) for each in sums)

    mean, square = group_moments()
    if not far_from_zero(mean, square):
        return values, 0, mean, square
    dtype = compute_dtype(values)
    shift = mean.to(dtype)
    values = values.to(dtype) - over_width(shift, width, dtype)
    mean, square = group_moments()
    return values, shift, mean, square


def _fill_border(y: Tensor, pad: int, pad_mode: str) -> None:
    """Fill the border of (B, H + 2·pad, W + 2·pad, C) in place."""
    bottom, right = y.shape[1] - pad, y.shape[2] - pad
    if pad_mode == "zeros" and pad:
        for border in (y[:, :pad], y[:, bottom:], y[:, :, :pad], y[:, :, right:]):
            border.zero_()
        return
    middle = y[:, pad:bottom]
    for i in range(1, pad + 1):
        middle[:, :, pad - i] = middle[:, :, pad + i]
        middle[:, :, right - 1 + i] = middle[:, :, right - 1 - i]
    for i in range(1, pad + 1):
        y[:, pad - i] = y[:, pad + i]
        y[:, bottom - 1 + i] = y[:, bottom - 1 - i]


def backward(
    grad: Tensor,
    y: Tensor,
    x: Tensor | None,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    groups: str,
    slope: float,
    pad: int,
    pad_mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight (C,) and bias (C,); x is None where x̂ can be had from y."""
    gradient, of_weight, of_bias = backward_fake(grad, y, x, weight, mean, rstd, groups, slope, pad, pad_mode)
    if y.numel():
        walk = _Gradient(grad, y, x, weight, mean, rstd, slope, pad, pad_mode)
        total, product = walk.write(as_rows(gradient), groups)
        of_weight.copy_(product)
        of_bias.copy_(total)
    return gradient, of_weight, of_bias


def backward_fake(
    grad: Tensor,
    y: Tensor,
    x: Tensor | None,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    groups: str,
    slope: float,
    pad: int,
    pad_mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `backward` returns, uninitialised, zero for an empty batch."""
    channels, height, width = y.shape[1:]
    gradient = empty_map(y, channels, height - 2 * pad, width - 2 * pad)
    of_weight, of_bias = (y.new_zeros(channels, dtype=compute_dtype(y)) for _ in range(2))
    return gradient, of_weight, of_bias


class _Gradient:
    """The gradient of one call, block by block.

    With d = ∂L/∂(x̂·weight + bias), folded over the border, the sums Σd and Σd·x̂ of each channel are the
    gradients of bias and weight. ∂L/∂x = (d·weight - mean(d·weight) - x̂·mean(d·weight·x̂)) / sqrt(var + eps).
    """

    def __init__(
        self,
        grad: Tensor,
        y: Tensor,
        x: Tensor | None,
        weight: Tensor | None,
        mean: Tensor,
        rstd: Tensor,
        slope: float,
        pad: int,
        pad_mode: str,
    ) -> None:
        self.slope, self.pad, self.dtype = slope, pad, compute_dtype(y)
        self.channels = y.shape[1]
        self.height, self.width = y.shape[2] - 2 * pad, y.shape[3] - 2 * pad
        self.grad, self.y, self.x = as_rows(grad), as_rows(y), None if x is None else as_rows(x)
        self.weight = weight
        self.mean, self.rstd = (each.expand(-1, self.channels) for each in (mean, rstd))
        self.reflect = pad > 0 and pad_mode == "reflect"

    def write(self, rows: Tensor, groups: str) -> tuple[Tensor, Tensor]:
        """Write ∂L/∂x to (B, H, W·C) rows; return Σd and Σd·x̂ of each channel, over the batch too."""
        walk = blocks(slice(0, len(rows)), self.height, rows.shape[2])
        scratch = Scratch(self.y, walk[0], 2 * self.pad)
        totals = []
        for block in walk:
            total, product = self._sums(block, scratch)
            self._write_block(block, rows, total, product, groups, scratch)
            totals.append((total.sum(0), product.sum(0)))
        total, product = (torch.stack(each).sum(0) for each in zip(*totals, strict=True))
        return total, product

    def _inner(self, rows: Tensor, samples: slice) -> Tensor:
        """Return the part of padded rows that is not border."""
        columns = slice(self.pad * self.channels, (self.pad + self.width) * self.channels)
        return rows[samples, self.pad : self.pad + self.height, columns]

    def _rectified(self, grad: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the gradient before the rectifier."""
        grad, y = grad.to(self.dtype), y.to(self.dtype)
        out = torch.empty_like(grad, memory_format=torch.contiguous_format) if out is None else out
        torch.ops.aten.leaky_relu_backward.grad_input(grad, y, self.slope, True, grad_input=out)
        return out

    def _normalised(self, block: Block, piece: slice, out: Tensor) -> Tensor:
        """Return x̂ of a piece."""
        if self.x is None:
            y = self._inner(self.y, block.samples)[:, piece].to(self.dtype)
            torch.ops.aten.leaky_relu.out(y, 1 / self.slope, out=out)
            return out
        mean, rstd = self.mean[block.samples], self.rstd[block.samples]
        shift = mean.to(self.dtype)
        torch.sub(self.x[block.samples, piece].to(self.dtype), self._row(shift), out=out)
        return torch.addcmul(self._row((shift - mean) * rstd), out, self._row(rstd), out=out)

    def _row(self, values: Tensor) -> Tensor:
        return over_width(values, self.width, self.dtype)

    def _sums(self, block: Block, scratch: Scratch) -> tuple[Tensor, Tensor]:
        """Return Σd and Σd·x̂ over the pixels, (n, C) float64."""
        # A border pixel has the y of the inner one it mirrors: sums over the border need no folding.
        grad, y, extra = self.grad[block.samples], self.y[block.samples], 2 * self.pad
        if not self.reflect:
            grad, y, extra = self._inner(grad, slice(None)), self._inner(y, slice(None)), 0
        size = grad.shape[2]
        total = grad.new_zeros(len(grad), size, dtype=self.dtype)
        product = scratch.second[: len(grad), : block.pieces[0].stop + extra, :size].zero_()
        for piece in block.pieces:
            stop = piece.stop + (extra if piece.stop == self.height else 0)
            part, result = grad[:, piece.start : stop], y[:, piece.start : stop]
            total += self._rectified(part, result, scratch.first[: len(part), : part.shape[1], :size]).sum(1)
            if self.x is None:  # d·x̂ = grad·y on both sides of zero
                accumulator = product[:, : part.shape[1]]
                torch.addcmul(accumulator, part.to(self.dtype), result.to(self.dtype), out=accumulator)
        if self.x is None:
            return channel_sums(total, self.channels), channel_sums(product.sum(1), self.channels)
        return channel_sums(total, self.channels), self._products_with_input(block)

    def _products_with_input(self, block: Block) -> Tensor:
        """Return Σd·x̂ where y does not tell x̂, (n, C) float64."""
        grad, y = self._inner(self.grad, block.samples), self._inner(self.y, block.samples)
        normalised = torch.empty_like(grad, dtype=self.dtype, memory_format=torch.contiguous_format)
        self._normalised(block, slice(None), normalised)
        total = channel_sums((self._rectified(grad, y) * normalised).sum(1), self.channels)
        if self.reflect:
            maps = normalised.view(-1, self.height, self.width, self.channels)
            for index, part in self._folded_border(block.samples):
                total += (part * maps[index]).double().sum(1)
        return total

    def _write_block(
        self, block: Block, rows: Tensor, total: Tensor, product: Tensor, groups: str, scratch: Scratch
    ) -> None:
        """Write ∂L/∂x of a block."""
        rstd = self.rstd[block.samples]
        weight: Tensor | int = 1 if self.weight is None else self.weight
        pixels = self.height * self.width
        constant, factor = (-group_mean(each * weight / pixels, groups) * rstd for each in (total, product))
        scale = (rstd * weight).to(self.dtype)
        scale_row, constant_row, factor_row = (self._row(each) for each in (scale, constant, factor))
        grad, y = self._inner(self.grad, block.samples), self._inner(self.y, block.samples)
        for piece in reversed(block.pieces):  # the last pieces are still in the cache
            target = rows[block.samples, piece]
            shape = (slice(target.shape[0]), slice(target.shape[1]), slice(target.shape[2]))
            part = self._normalised(block, piece, scratch.first[shape])
            torch.addcmul(constant_row, part, factor_row, out=part)
            rectified = self._rectified(grad[:, piece], y[:, piece], scratch.second[shape])
            if target.dtype == self.dtype:
                torch.addcmul(part, rectified, scale_row, out=target)
            else:
                target.copy_(part.addcmul_(rectified, scale_row))
        if self.reflect:
            maps = rows[block.samples].view(-1, self.height, self.width, self.channels)
            for index, part in self._folded_border(block.samples):
                maps[index] += part * scale[:, None]

    def _folded_border(self, samples: slice) -> Iterator[tuple[tuple[int | slice, ...], Tensor]]:
        """Yield what reflected pixels add to d: an index into (n, H, W, C), and (n, W or H, C)."""
        pad, bottom, right, every = self.pad, self.pad + self.height, self.pad + self.width, slice(None)
        grad, y = (
            each[samples].view(-1, self.height + 2 * pad, self.width + 2 * pad, self.channels)
            for each in (self.grad, self.y)
        )
        for i in range(1, pad + 1):
            for source, target in ((pad - i, i), (bottom - 1 + i, self.height - 1 - i)):
                yield (every, target), self._rectified(grad[:, source, pad:right], y[:, source, pad:right])
        for start in (0, right):
            columns = slice(start, start + pad)
            part = self._rectified(grad[:, :, columns], y[:, :, columns])  # (n, H + 2·pad, pad, C)
            for i in range(1, pad + 1):
                part[:, pad + i] += part[:, pad - i]
                part[:, bottom - 1 - i] += part[:, bottom - 1 + i]
            for column in range(pad):
                target = pad - column if start == 0 else self.width - 2 - column
                yield (every, every, target), part[:, pad:bottom, column]
