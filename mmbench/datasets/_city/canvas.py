"""The canvas on which a plan is drawn: label, paint and surface of every pixel.

Axes: H W pixels, with a margin around the tile so that things outside it cast their shadows in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmbench.datasets._city.materials import Paint
from mmbench.datasets._city.noise import value_noise
from mmbench.datasets._city.plan import Box

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Patch = tuple[slice, slice]


@dataclass(frozen=True)
class Textures:
    """Random fields shared by all paints, each (H, W) float32 with mean about 0."""

    fine: Field
    grain: Field
    mid: Field
    coarse: Field

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: tuple[int, int], gsd_m: float) -> Textures:
        """Draw the fields for a canvas of that shape, pixels."""
        return cls(
            fine=rng.standard_normal(shape, dtype=np.float32),
            grain=value_noise(rng, shape, 0.25 / gsd_m),
            mid=value_noise(rng, shape, 0.8 / gsd_m),
            coarse=value_noise(rng, shape, 4.0 / gsd_m),
        )


class Local(NamedTuple):
    """A patch of the canvas in the coordinates of one thing on it: a, b in metres from its centre."""

    patch: Patch
    a: Field
    b: Field


class Canvas:
    """What is drawn so far.

    Attributes:
        gsd_m: Metres per pixel.
        u, v: (H, W) float32, the frame of the street grid, metres.
        label: (H, W) uint8 class index.
        paint: (H, W) int16, index into `paints`.
        surface_m: (H, W) float32, the true height above ground; the sun sees this.
        seen_m: (H, W) float32, the height that surface matching could find at best.
        twigs: (H, W) float32, cover by bare twigs, 0 to 1.
    """

    def __init__(
        self, shape: tuple[int, int], gsd_m: float, turn: float, textures: Textures, base: Paint
    ) -> None:
        """Start with `base` everywhere, as class 0, in a frame turned by `turn` radians."""
        self.shape = shape
        self.gsd_m = gsd_m
        self.textures = textures
        self._cosine, self._sine = math.cos(turn), math.sin(turn)
        x = ((np.arange(shape[1]) - shape[1] / 2 + 0.5) * gsd_m).astype(np.float32)
        y = ((np.arange(shape[0]) - shape[0] / 2 + 0.5) * gsd_m).astype(np.float32)[:, None]
        self.u: Field = x * np.float32(self._cosine) + y * np.float32(self._sine)
        self.v: Field = y * np.float32(self._cosine) - x * np.float32(self._sine)
        self.label = np.zeros(shape, np.uint8)
        self.paint = np.zeros(shape, np.int16)
        self.paints: list[Paint] = [base]
        self.surface_m = np.zeros(shape, np.float32)
        self.seen_m = np.zeros(shape, np.float32)
        self.twigs = np.zeros(shape, np.float32)

    def local(self, box: Box, margin_m: float = 0.0) -> Local | None:
        """Return the patch around a box in the box's coordinates, or None when it lies off the canvas."""
        x = box.u * self._cosine - box.v * self._sine
        y = box.u * self._sine + box.v * self._cosine
        reach = box.reach + margin_m
        rows = self._span(y, reach, self.shape[0])
        columns = self._span(x, reach, self.shape[1])
        if rows is None or columns is None:
            return None
        patch = (rows, columns)
        u, v = self.u[patch] - np.float32(box.u), self.v[patch] - np.float32(box.v)
        cosine, sine = np.float32(math.cos(box.turn)), np.float32(math.sin(box.turn))
        return Local(patch, u * cosine + v * sine, v * cosine - u * sine)

    def _span(self, centre_m: float, reach_m: float, length: int) -> slice | None:
        first = max(0, math.floor((centre_m - reach_m) / self.gsd_m + length / 2))
        last = min(length, math.ceil((centre_m + reach_m) / self.gsd_m + length / 2))
        return slice(first, last) if first < last else None

    def fill(self, patch: Patch, mask: Mask, paint: Paint, label: int | None = None) -> None:
        """Paint a mask within a patch; the label stays where none is given."""
        self.paints.append(paint)
        self.paint[patch][mask] = len(self.paints) - 1
        if label is not None:
            self.label[patch][mask] = label

    def raise_to(self, patch: Patch, mask: Mask, height_m: Field | float, seen_m: Field | float) -> None:
        """Set the true and the matchable height of a mask within a patch, metres."""
        for heights, value in ((self.surface_m, height_m), (self.seen_m, seen_m)):
            heights[patch][mask] = value[mask] if isinstance(value, np.ndarray) else value


def slopes(height_m: Field, gsd_m: float) -> tuple[Field, Field]:
    """Return the slopes down the rows and along the columns, metres per metre; flat where a wall stands."""
    down = ndimage.correlate1d(height_m, (-0.5, 0.0, 0.5), axis=0, mode="nearest") / np.float32(gsd_m)
    along = ndimage.correlate1d(height_m, (-0.5, 0.0, 0.5), axis=1, mode="nearest") / np.float32(gsd_m)
    wall = (np.abs(down) > 4.0) | (np.abs(along) > 4.0)
    down[wall] = 0.0
    along[wall] = 0.0
    return down, along
