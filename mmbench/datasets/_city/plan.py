"""The things a plan of the city is made of, in metres in the frame of the street grid.

The frame (u, v) is turned against the image; the middle of the tile is its origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mmbench.datasets._city.materials import Paint, Spectrum

Axis = Literal["u", "v"]
Roof = Literal["flat", "gable", "hip"]


@dataclass(frozen=True)
class Box:
    """A rectangle: centre, half sides, and a turn against the frame in radians."""

    u: float
    v: float
    half_u: float
    half_v: float
    turn: float = 0.0

    @property
    def reach(self) -> float:
        """Half of the diagonal, metres."""
        return math.hypot(self.half_u, self.half_v)


@dataclass(frozen=True)
class Block:
    """A rectangle of ground along the axes of the frame, by its edges."""

    left: float
    right: float
    upper: float
    lower: float

    @property
    def width(self) -> float:
        """Extent along u."""
        return self.right - self.left

    @property
    def length(self) -> float:
        """Extent along v."""
        return self.lower - self.upper

    def box(self) -> Box:
        """Return the block by its centre and half sides."""
        return Box(
            (self.left + self.right) / 2, (self.upper + self.lower) / 2, self.width / 2, self.length / 2
        )

    def inner(self, share_u: float, share_v: float) -> Block:
        """Return the middle of the block, these shares of its extents."""
        cut_u, cut_v = (1 - share_u) / 2 * self.width, (1 - share_v) / 2 * self.length
        return Block(self.left + cut_u, self.right - cut_u, self.upper + cut_v, self.lower - cut_v)

    def point(self, rng: np.random.Generator, margin: float) -> tuple[float, float]:
        """Return a random point, `margin` inside where there is room."""
        box = self.box()
        half_u, half_v = max(box.half_u - margin, 0.1), max(box.half_v - margin, 0.1)
        return rng.uniform(box.u - half_u, box.u + half_u), rng.uniform(box.v - half_v, box.v + half_v)


@dataclass(frozen=True)
class Street:
    """A street along one axis of the grid, gently bent.

    Attributes:
        axis: The axis that is constant along the street.
        centre: Where it crosses that axis.
        half_width: Of the carriageway.
        verge: Width of a green strip on each side, may be 0.
        pavement: Width of the pavement on each side.
        bend: Amplitude of the bend.
        phase: Of the bend, radians.
        surface: Paint of the carriageway.
        walk: Paint of the pavement.
        green: Paint of the verge.
        marked: Whether it has a centre line and crossings.
    """

    axis: Axis
    centre: float
    half_width: float
    verge: float
    pavement: float
    bend: float
    phase: float
    surface: Paint
    walk: Paint
    green: Paint
    marked: bool

    @property
    def half_total(self) -> float:
        """Half width with verges and pavements."""
        return self.half_width + self.verge + self.pavement

    def offset(self, along: float) -> float:
        """Return the position of the centre line at a position along the street."""
        return self.centre + self.bend * math.sin(along / BEND_LENGTH_M + self.phase)

    def slope(self, along: float) -> float:
        """Return the tangent of the angle between the street and its axis."""
        return self.bend / BEND_LENGTH_M * math.cos(along / BEND_LENGTH_M + self.phase)


BEND_LENGTH_M = 14.0


@dataclass(frozen=True)
class Surface:
    """A patch of ground; `ragged` makes it an ellipse with an uneven rim."""

    box: Box
    paint: Paint
    label: int
    ragged: bool = False
    height_m: float = 0.0
    """Height of its bumps: shrubs, heaps of soil."""


@dataclass(frozen=True)
class Building:
    """A building; `slope` is the tangent of the roof's pitch, `ridge` the axis that a gable runs along."""

    box: Box
    eaves_m: float
    roof: Roof
    slope: float
    ridge: Axis
    paint: Paint
    fittings: bool
    """Whether small things stand on the roof: chimneys, air conditioning, solar panels."""


@dataclass(frozen=True)
class Tree:
    """A tree; a bare one is a web of twigs that surface matching does not see."""

    u: float
    v: float
    radius_m: float
    height_m: float
    bare: bool
    spectrum: Spectrum


@dataclass(frozen=True)
class Car:
    """A car, long side along the box's first axis; `seen` is the share of its height that matching keeps."""

    box: Box
    height_m: float
    spectrum: Spectrum
    seen: float


@dataclass(frozen=True)
class Container:
    """A box of steel that belongs to clutter."""

    box: Box
    height_m: float
    spectrum: Spectrum


@dataclass
class Plan:
    """Everything that stands in a tile and just around it."""

    streets: list[Street] = field(default_factory=list)
    surfaces: list[Surface] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    cars: list[Car] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
