"""The segmentation loss in bands of rows: what it sums over pixels, and its gradient in closed form.

Every head of a band is worked on at once while it lies in the processor's cache, so that no probability of
a whole image is ever stored. Bilinear interpolation is two small matrix products, and so is its adjoint:
no scatter, hence the same bits in every run.

Axes: G head, B batch, K class, H W pixels of the target, h w pixels of a head, R rows of a band, n = R·W.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_BAND_ELEMENTS = 393_216
"""Logits in a band, all heads together, by measurement: fewer cost calls, more leave the cache."""
_COLUMN_BLOCK = 64
"""Columns interpolated at once: the matrix is a narrow band, a product with all of it mostly adds zeros."""


@dataclass(frozen=True)
class LossForm:
    """The choices that the sums over pixels depend on.

    Attributes:
        clamp: Range of the probability inside the logarithm, or None.
        probabilities: Whether the softmax comes before the interpolation.
        align_corners: Of the interpolation.
    """

    clamp: tuple[float, float] | None
    probabilities: bool
    align_corners: bool

    def limits(self, dtype: torch.dtype) -> tuple[float, float] | None:
        """Return the range inside the logarithm; None where log-softmax needs no guard."""
        if self.clamp is None and self.probabilities:
            return torch.finfo(dtype).tiny, float("inf")
        return self.clamp


@dataclass(frozen=True)
class _Axis:
    """Bilinear interpolation along one axis: the matrix (out, in) and the inputs that each output reads."""

    matrix: Tensor
    low: list[int]
    high: list[int]

    @classmethod
    def between(cls, source: int, size: int, align_corners: bool, like: Tensor) -> _Axis:
        """Return the interpolation from `source` to `size` points, as torch.nn.functional.interpolate's."""
        index = torch.arange(size, dtype=torch.float64)
        if align_corners:
            position = index * ((source - 1) / (size - 1) if size > 1 else 0.0)
        else:
            position = ((index + 0.5) * (source / size) - 0.5).clamp(min=0)
        low = position.long().clamp(max=source - 1)
        high = (low + 1).clamp(max=source - 1)
        matrix = torch.zeros(size, source, dtype=torch.float64)
        rows = torch.arange(size)
        matrix[rows, low] += 1 - (position - low)
        matrix[rows, high] += position - low
        return cls(matrix.to(like), low.tolist(), high.tolist())

    def blocks(self, size: int) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield outputs, the inputs they read, and the part of the matrix between them."""
        for start in range(0, len(self.low), size):
            yield self.block(start, min(start + size, len(self.low)))

    def block(self, start: int, stop: int) -> tuple[slice, slice, Tensor]:
        """Return the outputs start..stop, the inputs they read, and the part of the matrix between them."""
        outputs, inputs = slice(start, stop), slice(self.low[start], self.high[stop - 1] + 1)
        return outputs, inputs, self.matrix[outputs, inputs]


class _Coarse:
    """A head smaller than the target: one sample of it at a time, stretched to full width."""

    def __init__(self, head: Tensor, size: tuple[int, int], form: LossForm, like: Tensor) -> None:
        """Prepare the interpolation of (B, K, h, w) to size (H, W)."""
        self.form = form
        self.shape = head.shape[1:]
        values = head.to(like.dtype)
        self.values = torch.softmax(values, dim=1) if form.probabilities else values.contiguous()
        self.rows = _Axis.between(self.shape[1], size[0], form.align_corners, like)
        self.columns = _Axis.between(self.shape[2], size[1], form.align_corners, like)
        self.wide = like.new_empty(self.shape[0], self.shape[1], size[1])  # (K, h, W)

    def load(self, sample: int) -> None:
        """Stretch the columns of one sample."""
        source, wide = self.values[sample].flatten(0, 1), self.wide.flatten(0, 1)  # (K·h, w), (K·h, W)
        for outputs, inputs, matrix in self.columns.blocks(_COLUMN_BLOCK):
            torch.mm(source[:, inputs], matrix.t(), out=wide[:, outputs])

    def fill(self, start: int, stop: int, out: Tensor) -> None:
        """Write the rows start..stop of the loaded sample to out (K, R, W)."""
        _, inputs, matrix = self.rows.block(start, stop)
        torch.bmm(matrix.expand(len(out), -1, -1), self.wide[:, inputs], out=out)

    def gather(self, start: int, stop: int, gradient: Tensor, wide: Tensor) -> None:
        """Add to the gradient of the stretched sample, (K, h, W), that of its rows start..stop, (K, R, W)."""
        _, inputs, matrix = self.rows.block(start, stop)
        # Not baddbmm_, which takes the batch apart where the result is a slice.
        wide[:, inputs] += torch.bmm(matrix.t().expand(len(gradient), -1, -1), gradient)

    def finish(self, sample: int, wide: Tensor) -> Tensor:
        """Return the gradient (K, h, w) of one sample's logits from that of the stretched sample."""
        gradient = wide.new_zeros(self.shape)
        target, source = gradient.flatten(0, 1), wide.flatten(0, 1)
        for outputs, inputs, matrix in self.columns.blocks(_COLUMN_BLOCK):
            target[:, inputs].addmm_(source[:, outputs], matrix)
        if not self.form.probabilities:
            return gradient
        p = self.values[sample]
        return p * (gradient - (p * gradient).sum(dim=0))


@dataclass(frozen=True)
class _Band:
    """Rows of one sample.

    Attributes:
        sample: Its index.
        start: First row.
        stop: Row after the last.
        logits: (G, K, n); of coarse heads, under `probabilities`, nothing of meaning.
        p: (G, K, n) probabilities.
        truth: (K, n) one-hot target, all zero where a pixel is ignored.
        valid: (n,) 1 or 0, or None where no pixel is ignored.
    """

    sample: int
    start: int
    stop: int
    logits: Tensor
    p: Tensor
    truth: Tensor
    valid: Tensor | None


class _Heads:
    """The heads of a batch, cut into bands; in a band full-size heads come first, whatever their order."""

    def __init__(self, logits: Sequence[Tensor], codes: Tensor, form: LossForm, dtype: torch.dtype) -> None:
        """Prepare heads (B, K, h, w) for a target of codes (B, H, W), class or K where ignored."""
        size = (codes.shape[1], codes.shape[2])
        like = codes.new_empty(0, dtype=dtype)
        fits = [tuple(head.shape[2:]) == size for head in logits]
        self.order = [i for i, fit in enumerate(fits) if fit] + [i for i, fit in enumerate(fits) if not fit]
        self.full = [head for head, fit in zip(logits, fits, strict=True) if fit]
        self.coarse = [
            _Coarse(head, size, form, like) for head, fit in zip(logits, fits, strict=True) if not fit
        ]
        self.codes, self.form, self.like = codes, form, like
        self.count, self.classes = len(logits), logits[0].shape[1]

    def bands(self) -> Iterator[_Band]:
        """Yield every band of every sample; what it holds is overwritten by the next."""
        batch, height, width = self.codes.shape
        # Cutting pays where a cache is small; elsewhere a band is a sample, and kernels are launched once.
        rows = max(1, _BAND_ELEMENTS // (self.count * self.classes * max(width, 1)))
        rows = min(rows, height) if self.codes.device.type == "cpu" else height
        names = torch.arange(self.classes, device=self.codes.device).to(self.codes.dtype)[:, None]
        store = self.like.new_empty(2, self.count * self.classes * rows * width)
        for sample in range(batch):
            for coarse in self.coarse:
                coarse.load(sample)
            for start in range(0, height, rows):
                stop = min(start + rows, height)
                shape = (self.count, self.classes, stop - start, width)
                length = self.count * self.classes * (stop - start) * width
                z, p = store[0, :length].view(shape), store[1, :length].view(shape)
                self._fill(sample, start, stop, z, p)
                code = self.codes[sample, start:stop].reshape(-1)
                truth = (code == names).to(p.dtype)
                known = code != self.classes
                valid = None if bool(known.all()) else known.to(p.dtype)
                yield _Band(sample, start, stop, z.flatten(2), p.flatten(2), truth, valid)

    def _fill(self, sample: int, start: int, stop: int, z: Tensor, p: Tensor) -> None:
        """Write logits and probabilities (G, K, R, W) of rows start..stop."""
        split = len(self.full)
        for index, head in enumerate(self.full):
            z[index].copy_(head[sample, :, start:stop])
        for index, coarse in enumerate(self.coarse, start=split):
            coarse.fill(start, stop, (p if self.form.probabilities else z)[index])
        chosen = slice(0, split if self.form.probabilities else self.count)
        torch.softmax(z[chosen], 1, out=p[chosen])

    def restore(self, values: Tensor) -> Tensor:
        """Return (G, ...) in the order in which the heads were given."""
        restored = torch.empty_like(values)
        restored[self.order] = values
        return restored


def sum_over_pixels(
    logits: Sequence[Tensor], codes: Tensor, weights: Tensor, form: LossForm
) -> tuple[Tensor, Tensor]:
    """Return what the loss needs to know of every head, summed over valid pixels.

    Args:
        logits: One (B, K, h, w) a head, of one dtype.
        codes: (B, H, W) class, or K where a pixel is ignored.
        weights: (B, K) of a class in a sample.
        form: See there.

    Returns:
        -Σ w log p of the target's class, (G,), and for each class Σ p y and Σ p, (G, 2, K); float64.
    """
    dtype = torch.promote_types(logits[0].dtype, torch.float32)
    heads = _Heads(logits, codes, form, dtype)
    limits, weights = form.limits(dtype), weights.to(dtype)
    entropy = weights.new_zeros(heads.count, dtype=torch.float64)
    sums = weights.new_zeros(heads.count, 2, heads.classes, dtype=torch.float64)
    for band in heads.bands():
        if band.valid is not None:
            band.p.mul_(band.valid)
        # Sums, which torch takes in pairs, not products with ones: those add one by one, off by 1e-4.
        sums[:, 1] += band.p.sum(dim=2)
        log_p = _log_target(band, limits)  # makes p·y of p
        sums[:, 0] += band.p.sum(dim=2)
        entropy -= log_p.mul_(weights[band.sample] @ band.truth).sum(dim=1)
    return heads.restore(entropy), heads.restore(sums)


def _log_target(band: _Band, limits: tuple[float, float] | None) -> Tensor:
    """Return log p of the target's class, (G, n), 0 or finite where ignored; leaves p·y in band.p."""
    own = band.p.mul_(band.truth).sum(dim=1)
    if band.valid is not None:
        own += 1 - band.valid
    if limits is not None:
        return own.clamp_(*limits).log_()
    # The logarithm of a softmax is exact until that underflows; the two passes of log_softmax are rarely due.
    if own.numel() and float(own.min()) > 1e3 * torch.finfo(own.dtype).tiny:
        return own.log_()
    classes = band.truth.argmax(dim=0).expand(len(band.p), 1, -1)
    picked = torch.log_softmax(band.logits, dim=1).gather(1, classes).squeeze(1)
    return picked if band.valid is None else torch.where(band.valid > 0, picked, 0.0)


def differentiate(
    logits: Sequence[Tensor], codes: Tensor, scale: Tensor, slopes: Tensor, form: LossForm
) -> list[Tensor]:
    """Return the gradient of the loss to every head.

    Args:
        logits: One (B, K, h, w) a head, of one dtype.
        codes: (B, H, W) class, or K where a pixel is ignored.
        scale: (G, B, K), gradient to -log p of the target's class, by class of the target.
        slopes: (G, 2, K), gradient to Σ p y and to Σ p of each class.
        form: See there.

    Returns:
        (B, K, h, w) a head.
    """
    dtype = torch.promote_types(logits[0].dtype, torch.float32)
    heads = _Heads(logits, codes, form, dtype)
    scale, slopes = scale.to(dtype)[heads.order], slopes.to(dtype)[heads.order]
    limits, split = form.limits(dtype), len(heads.full)
    gradients = [head.new_empty(head.shape) for head in logits]
    wide: list[Tensor] = []
    for band in heads.bands():
        if band.start == 0:
            wide = [torch.zeros_like(coarse.wide) for coarse in heads.coarse]
        gradient = _band_gradient(band, scale[:, band.sample], slopes, limits, split, form)
        gradient = gradient.view(heads.count, heads.classes, band.stop - band.start, -1)
        for index, part in zip(heads.order[:split], gradient, strict=False):
            gradients[index][band.sample, :, band.start : band.stop] = part
        for coarse, total, part in zip(heads.coarse, wide, gradient[split:], strict=True):
            coarse.gather(band.start, band.stop, part, total)
        if band.stop == codes.shape[1]:
            for index, coarse, total in zip(heads.order[split:], heads.coarse, wide, strict=True):
                gradients[index][band.sample] = coarse.finish(band.sample, total)
    return gradients


def _band_gradient(
    band: _Band,
    scale: Tensor,
    slopes: Tensor,
    limits: tuple[float, float] | None,
    split: int,
    form: LossForm,
) -> Tensor:
    """Return (G, K, n): the gradient to what a band holds, logits or, of coarse heads, probabilities.

    With c = -scale·y/p + slope0·y + slope1 the gradient to p, that to the logits is p (c - Σ p c), in which
    the division by p cancels.
    """
    own = torch.mul(band.p, band.truth, out=band.logits).sum(dim=1)  # (G, n)
    pull = scale @ band.truth  # (G, n), 0 where ignored
    hit = slopes[:, 0] @ band.truth
    clamped = None
    if limits is not None:
        clamped = own.clamp(*limits)
        pull *= clamped == own
    out, split = band.logits, split if form.probabilities else len(own)
    every = slopes[:, 1, :, None]  # (G, K, 1)
    if split:
        p, by_logit = band.p[:split], slice(0, split)
        if band.valid is not None:
            p *= band.valid
        mean = torch.bmm(slopes[by_logit, 1:], p).squeeze(1)  # Σ p slope1
        gain = hit[by_logit] * own[by_logit]
        torch.add(every[by_logit], (pull[by_logit] - mean - gain)[:, None], out=out[by_logit])
        out[by_logit] *= p
        out[by_logit].addcmul_(band.truth, (gain - pull[by_logit])[:, None])
    if clamped is not None and split < len(own):
        rest = slice(split, None)
        reply = hit[rest] - pull[rest] / clamped[rest]
        torch.addcmul(every[rest], band.truth, reply[:, None], out=out[rest])
        if band.valid is not None:
            out[rest] *= band.valid
    return out
