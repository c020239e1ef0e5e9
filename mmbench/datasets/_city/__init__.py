"""A seeded procedural town: co-registered optical image, matched height and labels, without any data.

The same seed, size and ground sampling distance give the same tile, in any process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._city.buildings import draw_building
from mmbench.datasets._city.canvas import Canvas, Textures
from mmbench.datasets._city.ground import draw_ground
from mmbench.datasets._city.height import measure_height
from mmbench.datasets._city.layout import plan_city
from mmbench.datasets._city.materials import PAVED, weathered
from mmbench.datasets._city.noise import value_noise
from mmbench.datasets._city.objects import draw_car, draw_container, draw_tree
from mmbench.datasets._city.optical import Sun, cast_shadow, render_optical

__all__ = ["GENERATOR_VERSION", "CityTile", "make_tile"]

GENERATOR_VERSION = 1
"""Raised whenever the pixels of a seed change."""

_MARGIN_M = 5.0


@dataclass(frozen=True)
class CityTile:
    """One tile of the town.

    Attributes:
        optical: (4, H, W) uint8: near infrared, red, green, blue.
        height_m: (H, W) float32, metres above ground, with the faults of a matched surface model; finite.
        terrain_m: (H, W) float32, smooth elevation of the ground, metres.
        target: (H, W) uint8: 0 impervious, 1 building, 2 low vegetation, 3 tree, 4 car, 5 clutter.
    """

    optical: NDArray[np.uint8]
    height_m: NDArray[np.float32]
    terrain_m: NDArray[np.float32]
    target: NDArray[np.uint8]


def make_tile(seed: int, size: tuple[int, int] = (512, 512), gsd_m: float = 0.1) -> CityTile:
    """Build a tile.

    Args:
        seed: Any integer from 0; another seed is another part of town under another sun.
        size: (H, W), pixels.
        gsd_m: Ground sampling distance, metres per pixel.

    Raises:
        ValueError: If the seed is negative, the size empty or the sampling distance not positive.
    """
    if seed < 0 or min(size) < 1 or gsd_m <= 0:
        raise ValueError(
            f"make_tile: seed {seed}, size {size}, gsd_m {gsd_m}; expected a seed from 0, a size from (1, 1) "
            "and a positive sampling distance"
        )
    # One stream a stage: a change in one stage leaves the draws of the others as they were.
    layout, drawing, light, camera, matching = (
        np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(5)
    )
    margin = round(_MARGIN_M / gsd_m)
    shape = (size[0] + 2 * margin, size[1] + 2 * margin)
    canvas = _draw(layout, drawing, shape, gsd_m)
    sun = Sun.draw(light)
    shadow = cast_shadow(canvas.surface_m, sun, gsd_m)
    inner = (slice(margin, margin + size[0]), slice(margin, margin + size[1]))
    return CityTile(
        optical=np.ascontiguousarray(render_optical(camera, canvas, sun, shadow)[:, inner[0], inner[1]]),
        height_m=np.ascontiguousarray(measure_height(matching, canvas, shadow)[inner]),
        terrain_m=_terrain(light, size, gsd_m),
        target=np.ascontiguousarray(canvas.label[inner]),
    )


def _draw(
    layout: np.random.Generator, drawing: np.random.Generator, shape: tuple[int, int], gsd_m: float
) -> Canvas:
    """Plan the town and draw it, lowest things first."""
    plan = plan_city(layout, reach_m=math.hypot(*shape) * gsd_m / 2)
    turn = drawing.uniform(0.0, math.pi)
    base = weathered(PAVED["slabs"], drawing)
    canvas = Canvas(shape, gsd_m, turn, Textures.draw(drawing, shape, gsd_m), base)
    draw_ground(canvas, plan)
    for building in plan.buildings:
        draw_building(drawing, canvas, building)
    for container in plan.containers:
        draw_container(canvas, container)
    for car in plan.cars:
        draw_car(canvas, car)
    for tree in plan.trees:
        draw_tree(drawing, canvas, tree)
    return canvas


def _terrain(rng: np.random.Generator, size: tuple[int, int], gsd_m: float) -> NDArray[np.float32]:
    """Return rolling ground: a base, a tilt of up to 3 %, waves of 40 m."""
    base, down, right = rng.uniform(30, 280), rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03)
    rows = (np.arange(size[0], dtype=np.float32) * np.float32(gsd_m))[:, None]
    columns = np.arange(size[1], dtype=np.float32) * np.float32(gsd_m)
    waves = value_noise(rng, size, 40.0 / gsd_m)
    ground: NDArray[np.float32] = (base + down * rows + right * columns + 0.5 * waves).astype(np.float32)
    return ground
