"""Plans a lot with a detached house: drive, garage, terrace, garden."""

from __future__ import annotations

import numpy as np

from mmbench.datasets._city.furnish import (
    building_at,
    car_at,
    grass_paint,
    heap_at,
    hedge_at,
    paving,
    shrubs_at,
    tree_at,
)
from mmbench.datasets._city.materials import CLUTTER, GROUND, IMPERVIOUS, LOW_VEGETATION, weathered
from mmbench.datasets._city.plan import Block, Box, Plan, Surface

_DRIVE_HALF_M = 1.4


def fill_lot(
    rng: np.random.Generator, plan: Plan, kerb: float, side: float, depth: float, v: float, length: float
) -> None:
    """Plan one lot.

    Args:
        rng: Source of all draws.
        plan: Receives the things.
        kerb: Where the lot meets the street, along u.
        side: 1 if the lot lies toward larger u, else -1.
        depth: Of the lot, away from the street, metres.
        v: Middle of the lot along the street.
        length: Of the lot along the street, metres.
    """

    def strip(near: float, far: float, middle_v: float, half_v: float) -> Box:
        """Return the rectangle between two distances from the street."""
        return Box(kerb + side * (near + far) / 2, middle_v, abs(far - near) / 2, half_v)

    plan.surfaces.append(Surface(strip(0.0, depth, v, length / 2), grass_paint(rng), LOW_VEGETATION))
    setback = rng.uniform(1.0, 3.5)
    behind = setback + 2 * rng.uniform(3.8, 5.2)
    drive_v = v + length / 2 - _DRIVE_HALF_M
    drive_end = (setback + behind) / 2 + rng.uniform(-2.0, 2.0)
    paved = paving(rng)
    plan.surfaces.append(Surface(strip(0.0, drive_end, drive_v, _DRIVE_HALF_M), paved, IMPERVIOUS))
    plan.surfaces.append(Surface(strip(0.0, setback, v - 1.0, 0.7), paved, IMPERVIOUS))
    half_front = min(rng.uniform(4.2, 6.0), length / 2 - 2.0)
    house = strip(setback, behind, v - 1.0, half_front)
    plan.buildings.append(building_at(rng, house, rng.uniform(3.0, 6.5), flat_share=0.22))
    if rng.random() < 0.6:
        garage = strip(drive_end, drive_end + 5.6, drive_v, 1.5)
        plan.buildings.append(building_at(rng, garage, rng.uniform(2.3, 2.9), flat_share=0.9, fittings=0.0))
    if rng.random() < 0.35:
        parked = kerb + side * max(2.4, drive_end - 2.6)
        plan.cars.append(car_at(rng, parked, drive_v, rng.normal(0.0, 0.03)))
    if depth - behind > 2.5:
        ends = sorted((kerb + side * behind, kerb + side * depth))
        _fill_garden(rng, plan, Block(ends[0], ends[1], v - length / 2, v + length / 2))
    if rng.random() < 0.4:
        spot = kerb + side * rng.uniform(0.8, setback), v - length / 2 + 1.0
        plan.trees.append(tree_at(rng, *spot, radius_m=rng.uniform(1.0, 2.4)))


def _fill_garden(rng: np.random.Generator, plan: Plan, garden: Block) -> None:
    """Behind the house: a terrace, one special thing, hedges, shrubs and trees."""
    if rng.random() < 0.7:
        terrace = garden.inner(0.8, rng.uniform(0.15, 0.35))
        plan.surfaces.append(Surface(terrace.box(), paving(rng), IMPERVIOUS))
    _add_feature(rng, plan, *garden.point(rng, 1.0))
    if rng.random() < 0.8:
        hedge = Box(garden.box().u, garden.upper + 0.5, garden.width / 2, rng.uniform(0.35, 0.8))
        plan.surfaces.append(hedge_at(rng, hedge))
    for _ in range(int(rng.integers(1, 5))):
        plan.surfaces.append(shrubs_at(rng, *garden.point(rng, 0.5), radius_m=rng.uniform(0.8, 2.4)))
    for _ in range(int(rng.integers(1, 5))):
        plan.trees.append(tree_at(rng, *garden.point(rng, 0.5), radius_m=rng.uniform(1.3, 3.4)))


def _add_feature(rng: np.random.Generator, plan: Plan, u: float, v: float) -> None:
    """Add a pool, a vegetable bed, a shed, a heap, or nothing."""
    draw = rng.random()
    if draw < 0.2:
        pool = Box(u, v, rng.uniform(1.2, 2.2), rng.uniform(1.8, 3.2))
        plan.surfaces.append(Surface(pool, weathered(GROUND["pool"], rng), CLUTTER))
    elif draw < 0.45:
        bed = Box(u, v, rng.uniform(1.0, 2.0), rng.uniform(1.5, 3.0))
        plan.surfaces.append(Surface(bed, weathered(GROUND["soil"], rng), LOW_VEGETATION))
    elif draw < 0.7:
        shed = Box(u, v, rng.uniform(1.2, 1.8), rng.uniform(1.2, 2.2), rng.normal(0.0, 0.1))
        plan.buildings.append(building_at(rng, shed, rng.uniform(2.0, 2.5), flat_share=0.6, fittings=0.0))
    elif draw < 0.85:
        plan.surfaces.append(heap_at(rng, u, v, rng.uniform(1.0, 2.2)))
