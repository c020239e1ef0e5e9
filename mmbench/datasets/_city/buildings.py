"""Draws buildings: roofs and the small things on them."""

from __future__ import annotations

import math

import numpy as np

from mmbench.datasets._city.canvas import Canvas, Field, Local, Mask
from mmbench.datasets._city.materials import BUILDING, GLASS, SOLAR, Paint, Spectrum
from mmbench.datasets._city.plan import Building

_LIGHT: Spectrum = (150.0, 150.0, 150.0, 148.0)


def draw_building(rng: np.random.Generator, canvas: Canvas, building: Building) -> None:
    """Draw one building; taller ones stay in front where two overlap."""
    box = building.box
    local = canvas.local(box)
    if local is None:
        return
    height = _roof_height(building, local)
    mask = (np.abs(local.a) < box.half_u) & (np.abs(local.b) < box.half_v)
    mask &= height > canvas.surface_m[local.patch]
    canvas.fill(local.patch, mask, building.paint, BUILDING)
    canvas.raise_to(local.patch, mask, height, height)
    if building.roof == "flat" and rng.random() < 0.7:
        _draw_parapet(rng, canvas, building, local, mask)
    if building.fittings:
        _draw_fittings(rng, canvas, building, local, mask, height)


def _roof_height(building: Building, local: Local) -> Field:
    """Return the height of the roof's planes over the whole patch, metres."""
    box = building.box
    to_side, to_gable = box.half_v - np.abs(local.b), box.half_u - np.abs(local.a)
    if building.ridge == "v":
        to_side, to_gable = to_gable, to_side
    if building.roof == "flat":
        return np.full(local.a.shape, building.eaves_m, np.float32)
    rise = np.minimum(to_side, to_gable) if building.roof == "hip" else to_side
    return (np.float32(building.eaves_m) + np.float32(building.slope) * rise).astype(np.float32)


def _draw_parapet(
    rng: np.random.Generator, canvas: Canvas, building: Building, local: Local, mask: Mask
) -> None:
    box = building.box
    rim = np.maximum(np.abs(local.a) - box.half_u, np.abs(local.b) - box.half_v) > -0.25
    shade = rng.uniform(0.8, 1.5)
    near_infrared, red, green, blue = (shade * value for value in building.paint.spectrum)
    canvas.fill(local.patch, rim & mask, Paint((near_infrared, red, green, blue), fine=0.05))


def _draw_fittings(
    rng: np.random.Generator, canvas: Canvas, building: Building, local: Local, mask: Mask, height: Field
) -> None:
    """Draw chimneys and windows, or machines and domes on a flat roof; sometimes solar panels."""
    box, flat = building.box, building.roof == "flat"
    count = 1 + int(rng.integers(0, 3)) + int(box.half_u * box.half_v / 25 * flat)
    for _ in range(count):
        half = rng.uniform(0.3, 1.1) if flat else rng.uniform(0.25, 0.5)
        a, b = rng.uniform(-0.8, 0.8) * box.half_u, rng.uniform(-0.8, 0.8) * box.half_v
        spot = (np.abs(local.a - a) < half) & (np.abs(local.b - b) < half * rng.uniform(0.6, 1.4)) & mask
        glass = rng.random() < 0.35
        shade = rng.uniform(0.5, 1.15)
        near_infrared, red, green, blue = (shade * value for value in _LIGHT)
        canvas.fill(
            local.patch, spot, GLASS if glass else Paint((near_infrared, red, green, blue), fine=0.05)
        )
        if not glass:
            tip = height + np.float32(rng.uniform(0.4, 1.2))
            # Matching loses what is this small.
            canvas.raise_to(local.patch, spot, tip, height)
    if rng.random() < 0.2:
        a, b = rng.uniform(-0.4, 0.4) * box.half_u, math.copysign(0.5, rng.normal()) * box.half_v
        panel = (np.abs(local.a - a) < 0.5 * box.half_u) & (np.abs(local.b - b) < 0.3 * box.half_v) & mask
        canvas.fill(local.patch, panel, SOLAR)
