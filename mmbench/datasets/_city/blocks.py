"""What fills a block between streets: houses and gardens, a row, a market, a park, a building site."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mmbench.datasets._city.furnish import (
    building_at,
    car_at,
    container_at,
    grass_paint,
    heap_at,
    paving,
    shrubs_at,
    tree_at,
)
from mmbench.datasets._city.gardens import fill_lot
from mmbench.datasets._city.materials import CLUTTER, GROUND, IMPERVIOUS, LOW_VEGETATION, PAVED, weathered
from mmbench.datasets._city.plan import Block, Box, Plan, Surface


def fill_block(rng: np.random.Generator, plan: Plan, block: Block) -> None:
    """Lay grass over the block and build one kind of neighbourhood on it."""
    plan.surfaces.append(Surface(block.box(), grass_paint(rng), LOW_VEGETATION))
    if min(block.width, block.length) < 14.0:
        _fill_park(rng, plan, block)
        return
    chosen = int(rng.choice(len(_NEIGHBOURHOODS), p=[share for _, share in _NEIGHBOURHOODS]))
    _NEIGHBOURHOODS[chosen][0](rng, plan, block)


def _fill_houses(rng: np.random.Generator, plan: Plan, block: Block) -> None:
    """Detached houses on lots along the two long sides, or along one."""
    two_rows = block.width > 27.0
    depth = block.width / 2 if two_rows else block.width
    for side in (1.0, -1.0) if two_rows else (_either(rng),):
        kerb = block.left if side > 0 else block.right
        count = max(1, round(block.length / rng.uniform(13.0, 17.0)))
        length = block.length / count
        for number in range(count):
            fill_lot(rng, plan, kerb, side, depth, block.upper + (number + 0.5) * length, length)


def _fill_row(rng: np.random.Generator, plan: Plan, block: Block) -> None:
    """Joined town houses along one street or two, and a courtyard."""
    half_depth = min(rng.uniform(5.0, 6.6), block.width / 4)
    both = block.width > 5 * half_depth and rng.random() < 0.7
    for side in (1.0, -1.0) if both else (_either(rng),):
        kerb = block.left if side > 0 else block.right
        eaves_m, flat_share = rng.uniform(7.0, 13.0), float(rng.random() < 0.3)
        v = block.upper + rng.uniform(0.0, 3.0)
        while v < block.lower - 8.0:
            front = min(rng.uniform(9.0, 17.0), block.lower - v)
            if rng.random() < 0.9:
                box = Box(kerb + side * (half_depth + 0.5), v + front / 2, half_depth, front / 2)
                own_eaves_m = eaves_m + rng.normal(0.0, 0.7)
                plan.buildings.append(building_at(rng, box, own_eaves_m, flat_share=flat_share, ridge="v"))
            v += front
    side_m = 2 * half_depth + 1.0
    yard = Block(block.left + side_m, block.right - side_m * both, block.upper, block.lower)
    _fill_courtyard(rng, plan, yard)


def _fill_courtyard(rng: np.random.Generator, plan: Plan, yard: Block) -> None:
    paved = yard.inner(rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.9))
    plan.surfaces.append(Surface(paved.box(), paving(rng), IMPERVIOUS))
    for _ in range(int(rng.integers(2, 7))):
        u, v = yard.point(rng, 1.0)
        bed = Box(u, v, rng.uniform(1.5, 4.0), rng.uniform(1.5, 5.0))
        plan.surfaces.append(Surface(bed, grass_paint(rng), LOW_VEGETATION))
    for _ in range(int(rng.integers(4, 10))):
        plan.trees.append(tree_at(rng, *yard.point(rng, 0.5), radius_m=rng.uniform(1.8, 4.2)))
    for _ in range(int(rng.integers(1, 6))):
        plan.surfaces.append(shrubs_at(rng, *yard.point(rng, 1.0), radius_m=rng.uniform(0.8, 2.6)))
    if rng.random() < 0.6:
        garages = Box(paved.box().u, yard.lower - 4.0, min(yard.width / 2, 8.0), 2.9)
        plan.buildings.append(building_at(rng, garages, 2.6, flat_share=1.0, fittings=0.0))
    for _ in range(int(rng.integers(0, 5))):
        plan.cars.append(car_at(rng, *paved.point(rng, 1.5), turn=math.pi / 2 * int(rng.integers(2))))
    for _ in range(int(rng.integers(0, 3))):
        plan.containers.append(container_at(rng, *paved.point(rng, 1.5)))


def _fill_market(rng: np.random.Generator, plan: Plan, block: Block) -> None:
    """A large flat building, a car park in rows, and a few containers behind."""
    share = rng.uniform(0.45, 0.65)
    split = block.upper + share * block.length
    plan.surfaces.append(Surface(block.inner(0.96, 0.97).box(), paving(rng), IMPERVIOUS))
    hall = Block(block.left, block.right, block.upper, split).inner(rng.uniform(0.75, 0.92), 0.88)
    plan.buildings.append(building_at(rng, hall.box(), rng.uniform(4.5, 9.0), flat_share=0.92, fittings=1.0))
    _fill_car_park(rng, plan, Block(block.left + 1.0, block.right - 1.0, split, block.lower - 1.0))
    for _ in range(int(rng.integers(0, 4))):
        u = rng.uniform(block.left + 2.0, block.right - 2.0)
        plan.containers.append(container_at(rng, u, split + rng.uniform(1.0, 3.0)))


def _fill_car_park(rng: np.random.Generator, plan: Plan, lot: Block) -> None:
    full = rng.uniform(0.25, 0.75)
    u = lot.left + 3.0
    while u < lot.right - 2.5:
        for v in np.arange(lot.upper + 5.0, lot.lower - 1.3, 2.6):
            if rng.random() < 0.1:
                plan.surfaces.append(Surface(Box(u, v, 2.4, 1.3), grass_paint(rng), LOW_VEGETATION))
                plan.trees.append(tree_at(rng, u, v, radius_m=rng.uniform(1.6, 2.8)))
            elif rng.random() < full:
                plan.cars.append(car_at(rng, u + rng.normal(0.0, 0.15), v, rng.normal(0.0, 0.03)))
        u += rng.choice([5.0, 10.5])


def _fill_park(rng: np.random.Generator, plan: Plan, block: Block) -> None:
    """Grass, groves, a path and a playground or a pond."""
    middle = block.box()
    path = Box(middle.u, middle.v, middle.half_u * 1.3, rng.uniform(0.8, 1.4), rng.uniform(-0.6, 0.6))
    plan.surfaces.append(Surface(path, weathered(PAVED["gravel"], rng), IMPERVIOUS))
    area = block.width * block.length
    for _ in range(1 + int(area / 400)):
        _plant_grove(rng, plan, block)
    for _ in range(int(area / 110)):
        plan.surfaces.append(shrubs_at(rng, *block.point(rng, 1.0), radius_m=rng.uniform(1.0, 3.5)))
    if rng.random() < 0.8:
        u, v = block.point(rng, 3.0)
        paint = weathered(GROUND[str(rng.choice(("sand", "water", "soil")))], rng)
        place = Box(u, v, rng.uniform(2.5, 6.0), rng.uniform(2.5, 6.0))
        plan.surfaces.append(Surface(place, paint, CLUTTER, ragged=True))
    if rng.random() < 0.4:
        box = Box(*block.point(rng, 3.0), 2.5, 3.0, rng.uniform(0.0, 1.5))
        plan.buildings.append(building_at(rng, box, 3.0, flat_share=0.5))


def _plant_grove(rng: np.random.Generator, plan: Plan, block: Block) -> None:
    u, v = block.point(rng, 2.0)
    for _ in range(int(rng.integers(2, 7))):
        spot = u + rng.normal(0.0, 3.5), v + rng.normal(0.0, 3.5)
        plan.trees.append(tree_at(rng, *spot, radius_m=rng.uniform(1.6, 5.0)))


def _fill_site(rng: np.random.Generator, plan: Plan, block: Block) -> None:
    """A building site: bare soil, heaps, containers, a shell and the weeds around."""
    soil = weathered(GROUND["soil"], rng)
    plan.surfaces.append(Surface(block.inner(0.8, 0.75).box(), soil, CLUTTER, ragged=True))
    for _ in range(int(rng.integers(2, 6))):
        plan.surfaces.append(heap_at(rng, *block.point(rng, 2.0), radius_m=rng.uniform(1.5, 3.5)))
    for _ in range(int(rng.integers(2, 6))):
        plan.containers.append(container_at(rng, *block.point(rng, 2.0)))
    shell = Box(*block.point(rng, 6.0), rng.uniform(4.0, 7.0), rng.uniform(5.0, 9.0))
    plan.buildings.append(building_at(rng, shell, rng.uniform(3.0, 9.0), flat_share=1.0))
    for _ in range(int(rng.integers(3, 8))):
        plan.trees.append(tree_at(rng, *block.point(rng, 0.5), radius_m=rng.uniform(1.2, 3.4)))
    for _ in range(int(rng.integers(0, 4))):
        plan.cars.append(car_at(rng, *block.point(rng, 2.5), turn=rng.uniform(0.0, math.pi)))


def _either(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


_NEIGHBOURHOODS: tuple[tuple[Callable[[np.random.Generator, Plan, Block], None], float], ...] = (
    (_fill_houses, 0.37),
    (_fill_row, 0.26),
    (_fill_market, 0.17),
    (_fill_park, 0.09),
    (_fill_site, 0.11),
)
