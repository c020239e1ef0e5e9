"""Single things placed by the planners: a building, a car, a tree, shrubs, a heap, a container, a paving."""

from __future__ import annotations

import math

import numpy as np

from mmbench.datasets._city.materials import (
    CAR_SPECTRA,
    CLUTTER,
    CONTAINER_SPECTRA,
    GROUND,
    LOW_VEGETATION,
    PAVED,
    ROOFS,
    Paint,
    Spectrum,
    leaf_paint,
    varied,
    vegetation,
    weathered,
)
from mmbench.datasets._city.plan import Axis, Box, Building, Car, Container, Roof, Surface, Tree


def paving(rng: np.random.Generator) -> Paint:
    """Return the paint of a yard, a drive or a terrace."""
    return weathered(PAVED[str(rng.choice(tuple(PAVED), p=(0.22, 0.22, 0.17, 0.17, 0.14, 0.08)))], rng)


def building_at(
    rng: np.random.Generator,
    box: Box,
    eaves_m: float,
    *,
    flat_share: float,
    fittings: float = 0.7,
    ridge: Axis | None = None,
) -> Building:
    """Return a building with a roof of some kind.

    Args:
        rng: Source of the draws.
        box: Its outline.
        eaves_m: Height of its eaves, metres.
        flat_share: Probability of a flat roof.
        fittings: Probability of things on the roof.
        ridge: What the ridge runs along; None is the longer side.
    """
    ridge = ridge or ("u" if box.half_u >= box.half_v else "v")
    if rng.random() < flat_share:
        kind = str(rng.choice(("bitumen", "gravel", "metal", "sedum"), p=(0.5, 0.25, 0.12, 0.13)))
        return Building(
            box, eaves_m, "flat", 0.0, ridge, weathered(ROOFS[kind], rng), rng.random() < fittings
        )
    kind = str(rng.choice(("tile", "slate", "metal"), p=(0.5, 0.38, 0.12)))
    roof: Roof = "gable" if rng.random() < 0.65 else "hip"
    slope = rng.uniform(0.35, 0.95)
    return Building(box, eaves_m, roof, slope, ridge, weathered(ROOFS[kind], rng), rng.random() < fittings)


def car_at(rng: np.random.Generator, u: float, v: float, turn: float, *, moving: bool = False) -> Car:
    """Return a car or, now and then, a van."""
    van = rng.random() < 0.08
    half_length = rng.uniform(2.5, 2.9) if van else rng.uniform(1.95, 2.4)
    return Car(
        box=Box(u, v, half_length, 1.0 if van else rng.uniform(0.85, 0.95), turn),
        height_m=rng.uniform(2.0, 2.5) if van else rng.uniform(1.4, 1.7),
        spectrum=_one_of(rng, CAR_SPECTRA),
        # A moving car is elsewhere in the next photograph, so matching sees the road.
        seen=0.0 if moving or rng.random() < 0.25 else rng.uniform(0.15, 0.6),
    )


def tree_at(rng: np.random.Generator, u: float, v: float, radius_m: float) -> Tree:
    """Return a tree; three in ten are bare."""
    return Tree(
        u=u,
        v=v,
        radius_m=radius_m,
        height_m=2.0 + radius_m * rng.uniform(1.2, 2.6),
        bare=bool(rng.random() < 0.3),
        spectrum=vegetation(rng, dryness=0.25, darkness=0.25),
    )


def grass_paint(rng: np.random.Generator) -> Paint:
    """Return a mown lawn or a meadow."""
    meadow = rng.random() < 0.5
    return Paint(
        vegetation(rng, dryness=0.4 if meadow else 0.25, darkness=0.1),
        fine=0.08,
        grain=0.10 if meadow else 0.05,
        mid=0.12 if meadow else 0.05,
        coarse=0.13,
        courses=0.0 if meadow else 0.02,
    )


def shrubs_at(rng: np.random.Generator, u: float, v: float, radius_m: float) -> Surface:
    """Return shrubs: from above like a crown, but too low to be a tree."""
    return _shrubs(rng, Box(u, v, radius_m, radius_m * rng.uniform(0.7, 1.3)), ragged=True)


def hedge_at(rng: np.random.Generator, box: Box) -> Surface:
    """Return a clipped hedge."""
    return _shrubs(rng, box, ragged=False)


def _shrubs(rng: np.random.Generator, box: Box, *, ragged: bool) -> Surface:
    paint = leaf_paint(vegetation(rng, dryness=0.22, darkness=0.22))
    return Surface(box, paint, LOW_VEGETATION, ragged=ragged, height_m=rng.uniform(0.4, 1.3))


def heap_at(rng: np.random.Generator, u: float, v: float, radius_m: float) -> Surface:
    """Return a heap of soil or sand."""
    paint = weathered(GROUND[str(rng.choice(("soil", "soil", "sand")))], rng)
    box = Box(u, v, radius_m, radius_m * rng.uniform(0.6, 1.0), rng.uniform(0.0, math.pi))
    return Surface(box, paint, CLUTTER, ragged=True, height_m=rng.uniform(0.3, 1.6))


def container_at(rng: np.random.Generator, u: float, v: float) -> Container:
    """Return a container, a skip or a cabin."""
    box = Box(u, v, rng.uniform(1.5, 3.0), 1.2, math.pi / 2 * int(rng.integers(2)) + rng.normal(0.0, 0.05))
    return Container(box, rng.uniform(1.2, 2.7), _one_of(rng, CONTAINER_SPECTRA))


def _one_of(rng: np.random.Generator, spectra: tuple[Spectrum, ...]) -> Spectrum:
    return varied(spectra[int(rng.integers(len(spectra)))], rng, 0.12)
