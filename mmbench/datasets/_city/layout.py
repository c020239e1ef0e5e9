"""The plan of a tile: a grid of bent streets, and what lines them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from mmbench.datasets._city.blocks import fill_block
from mmbench.datasets._city.furnish import car_at, grass_paint, tree_at
from mmbench.datasets._city.materials import PAVED, weathered
from mmbench.datasets._city.plan import Axis, Block, Car, Plan, Street, Tree

_STREET_PAVING = ("asphalt", "asphalt", "asphalt", "concrete", "cobble", "cobble")


def plan_city(rng: np.random.Generator, reach_m: float) -> Plan:
    """Plan everything within `reach_m` of the tile's middle, and a little beyond.

    Args:
        rng: Source of all draws; the plan depends on nothing else but `reach_m`.
        reach_m: Half of the tile's diagonal, metres.
    """
    along_v = _streets(rng, "u", reach_m, nearest=(3.0, 13.0), spacing=(40.0, 58.0))
    along_u = _streets(rng, "v", reach_m, nearest=(8.0, 34.0), spacing=(56.0, 84.0))
    plan = Plan(streets=along_v + along_u)
    for left, right in pairwise(along_v):
        for upper, lower in pairwise(along_u):
            fill_block(rng, plan, _block_between(left, right, upper, lower))
    for street in along_v:
        _line_street(rng, plan, street, along_u, reach_m)
    for street in along_u:
        _line_street(rng, plan, street, along_v, reach_m)
    return plan


def _streets(
    rng: np.random.Generator,
    axis: Axis,
    reach_m: float,
    nearest: tuple[float, float],
    spacing: tuple[float, float],
) -> list[Street]:
    """Return the parallel streets that bound every block within reach, one `nearest` to the middle."""
    centres = [rng.uniform(*nearest) * rng.choice([-1.0, 1.0])]
    while centres[0] > -reach_m:
        centres.insert(0, centres[0] - rng.uniform(*spacing))
    while centres[-1] < reach_m:
        centres.append(centres[-1] + rng.uniform(*spacing))
    return [_street(rng, axis, centre) for centre in centres]


def _street(rng: np.random.Generator, axis: Axis, centre: float) -> Street:
    surface = weathered(PAVED[str(rng.choice(_STREET_PAVING))], rng)
    half_width = rng.uniform(2.8, 4.3)
    return Street(
        axis=axis,
        centre=centre,
        half_width=half_width,
        verge=rng.uniform(1.2, 2.6) if rng.random() < 0.45 else 0.0,
        pavement=rng.uniform(1.3, 2.4),
        bend=rng.uniform(0.2, 1.1),
        phase=rng.uniform(0.0, 2 * math.pi),
        surface=surface,
        walk=weathered(PAVED[str(rng.choice(("slabs", "slabs", "concrete", "cobble", "gravel")))], rng),
        green=grass_paint(rng),
        marked=bool(half_width > 3.5 and rng.random() < 0.8),
    )


def _block_between(left: Street, right: Street, upper: Street, lower: Street) -> Block:
    """Return the ground that four streets enclose, whatever way they bend."""
    return Block(
        left.centre + left.half_total + left.bend,
        right.centre - right.half_total - right.bend,
        upper.centre + upper.half_total + upper.bend,
        lower.centre - lower.half_total - lower.bend,
    )


def _line_street(
    rng: np.random.Generator, plan: Plan, street: Street, crossing: list[Street], reach_m: float
) -> None:
    """Park cars along both kerbs, drive some, and plant trees."""
    for side in (-1.0, 1.0):
        parking = rng.choice([0.1, 0.35, 0.6])
        planted = rng.choice([0.1, 0.5, 0.9])
        for along in np.arange(-reach_m, reach_m, 5.7) + rng.uniform(0.0, 5.7):
            if rng.random() < parking and _clear_of(crossing, along, 6.0):
                plan.cars.append(_street_car(rng, street, along, side * (street.half_width - 1.05)))
        for along in np.arange(-reach_m, reach_m, 9.0) + rng.uniform(0.0, 9.0):
            if rng.random() < planted and _clear_of(crossing, along, 3.0):
                away = street.half_width + (0.5 * street.verge if street.verge else 0.8)
                plan.trees.append(_street_tree(rng, street, along, side * away))
    for along in np.arange(-reach_m, reach_m, 17.0) + rng.uniform(0.0, 17.0):
        if street.half_width > 3.3 and rng.random() < 0.2:
            side = rng.choice([-1.0, 1.0])
            plan.cars.append(_street_car(rng, street, along, side * 0.28 * street.half_width, moving=True))


def _clear_of(crossing: list[Street], along: float, gap_m: float) -> bool:
    return all(abs(along - other.centre) > other.half_width + gap_m for other in crossing)


def _street_car(
    rng: np.random.Generator, street: Street, along: float, aside: float, *, moving: bool = False
) -> Car:
    across = street.offset(along) + aside
    angle = math.atan(street.slope(along)) + rng.normal(0.0, 0.02)
    if street.axis == "u":
        return car_at(rng, across, along, math.pi / 2 - angle, moving=moving)
    return car_at(rng, along, across, angle, moving=moving)


def _street_tree(rng: np.random.Generator, street: Street, along: float, aside: float) -> Tree:
    across = street.offset(along) + aside
    u, v = (across, along) if street.axis == "u" else (along, across)
    return tree_at(rng, u, v, radius_m=rng.uniform(1.8, 3.8))
