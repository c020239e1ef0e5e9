"""Device code of `multiscale_seg_loss`: what a pixel of the target costs, and what it reads of a head.

Bilinear interpolation cuts the target into cells: the pixels of a cell read the same four pixels of the head,
which a program therefore loads once. Cell c of an axis lies between the head's pixels c - 1 and c; how the
target's pixels lie in them is said by step, offset and unit, see `_seg_loss_plan.Axis`.

Axes: K class, padded to a power of two; L lane of a program, a pixel or a part of a cell's columns.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def cell_of(place, step, offset, unit):
    """Return the cell of a target pixel."""
    return (place * step + offset) // unit


@triton.jit
def first_of(cell, step, offset, unit, size):
    """Return the first target pixel of a cell, or of the next that holds one; `size` after the last."""
    return tl.minimum(tl.maximum((cell * unit - offset + step - 1) // step, 0), size)


@triton.jit
def share_of_next(place, cell, source, step, offset, unit):
    """Return the weight of the later of the two head pixels that a target pixel reads, float32 in [0, 1]."""
    share = (place * step + offset - cell * unit).to(tl.float32) * (1.0 / unit.to(tl.float32))
    # Beyond the border there is one pixel only, which must get all.
    return tl.where(cell == 0, 1.0, tl.where(cell == source, 0.0, share))


@triton.jit
def softmax(z):
    """Return the softmax (K, L) over classes of z, in which classes that do not exist are -inf."""
    power = tl.exp(z - tl.max(z, 0)[None, :])
    return power * (1.0 / tl.sum(power, 0))[None, :]


@triton.jit
def columns_of(block, step, offset, unit, size, LANES: tl.constexpr, PARTS: tl.constexpr):
    """Return the cell of each lane and its columns of the target, begin to end, (L,) each."""
    lane = tl.arange(0, LANES)
    cell = block * (LANES // PARTS) + lane // PARTS
    first = first_of(cell, step, offset, unit, size)
    count = first_of(cell + 1, step, offset, unit, size) - first
    part = lane % PARTS
    return cell, first + part * count // PARTS, first + (part + 1) * count // PARTS


@triton.jit
def ends_of(cell, source, stride):
    """Return the offsets of the two pixels of the head around a cell of an axis, int64; both exist."""
    before = tl.minimum(tl.maximum(cell - 1, 0), source - 1)
    after = tl.minimum(cell, source - 1)
    return before.to(tl.int64) * stride, after.to(tl.int64) * stride


@triton.jit
def load_corner(corner_ptr, class_offsets, exists, columns, PROBABILITIES: tl.constexpr):
    """Return a pixel of the head for each lane, (K, L) float32: its logits or, as chosen, their softmax.

    Args:
        corner_ptr: Class 0 of the first pixel of the row.
        class_offsets: (K, 1) int64, where each class begins.
        exists: (K, 1), which classes there are; the others are returned as 0.
        columns: (L,) int64, where the pixel of each lane lies in the row.
        PROBABILITIES: Whether to return the softmax.
    """
    z = tl.load(corner_ptr + (class_offsets + columns[None, :]), mask=exists, other=0.0).to(tl.float32)
    if PROBABILITIES:
        z = softmax(tl.where(exists, z, float("-inf")))
    return z


@triton.jit
def cost_of_logits(z, own, low, high, LIMITED: tl.constexpr):
    """Return the softmax of z, (K, L), and -log p of the target's class, (L,); `own` marks that class."""
    highest = tl.max(z, 0)
    power = tl.exp(z - highest[None, :])
    total = tl.sum(power, 0)
    p = power * (1.0 / total)[None, :]
    if LIMITED:
        cost = cost_of_probabilities(p, own, low, high)
    else:
        # Not of p, which may have underflowed.
        cost = tl.log(total) - tl.sum(tl.where(own, z - highest[None, :], 0.0), 0)
    return p, cost


@triton.jit
def cost_of_probabilities(p, own, low, high):
    """Return -log p of the target's class, (L,), p being clamped to low..high."""
    return -tl.log(limited(tl.sum(tl.where(own, p, 0.0), 0), low, high))


@triton.jit
def limited(p, low, high):
    """Return p clamped to low..high."""
    return tl.minimum(tl.maximum(p, low), high)


@triton.jit
def slope_of_logits(p, own, valid, pull, hit, every, low, high, LIMITED: tl.constexpr):
    """Return the gradient to the logits, (K, L), 0 where a pixel is ignored.

    With c = -pull·own/p + hit·own + every the gradient to p, that to the logits is p (c - Σ p c), in which
    the division by p cancels.

    Args:
        p: (K, L), the softmax.
        own: (K, L), marks the target's class.
        valid: (L,), whether a pixel counts.
        pull: (L,), gradient to -log p of the target's class.
        hit: (L,), gradient to p of the target's class as one of Σ p y.
        every: (K, 1), gradient to Σ p of each class.
        low: Below it there is no gradient to log p.
        high: Above it neither.
        LIMITED: Whether low and high hold.
    """
    chance = tl.sum(tl.where(own, p, 0.0), 0)
    if LIMITED:
        pull = tl.where((chance >= low) & (chance <= high), pull, 0.0)
    gain = hit * chance
    common = pull - gain - tl.sum(p * every, 0)
    slope = p * (every + common[None, :]) + tl.where(own, (gain - pull)[None, :], 0.0)
    return tl.where(valid[None, :], slope, 0.0)


@triton.jit
def slope_of_probabilities(p, own, valid, pull, hit, every, low, high):
    """Return the gradient to the probabilities, (K, L), 0 where a pixel is ignored; arguments as above."""
    chance = tl.sum(tl.where(own, p, 0.0), 0)
    inside = limited(chance, low, high)
    reply = hit - tl.where(inside == chance, pull / inside, 0.0)
    return tl.where(valid[None, :], every + tl.where(own, reply[None, :], 0.0), 0.0)
