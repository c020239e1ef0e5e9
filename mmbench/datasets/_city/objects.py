"""Draws what stands on the ground and is no building: trees, cars, containers."""

from __future__ import annotations

import math

import numpy as np

from mmbench.datasets._city.canvas import Canvas, Field, Mask
from mmbench.datasets._city.materials import BUILDING, CAR, CLUTTER, GLASS, TREE, Paint, leaf_paint
from mmbench.datasets._city.plan import Box, Car, Container, Tree


def draw_car(canvas: Canvas, car: Car) -> None:
    """Draw one car unless something stands there already."""
    local = canvas.local(car.box)
    if local is None:
        return
    half_a, half_b = car.box.half_u, car.box.half_v
    a, b = local.a / np.float32(half_a), local.b / np.float32(half_b)
    body = (a**8 + b**8) < 1.0  # a rectangle with round corners
    if not body.any() or (canvas.surface_m[local.patch][body] > 0.3).any():
        return
    paint = Paint(car.spectrum, fine=0.03, grain=0.03)
    canvas.fill(local.patch, body, paint, CAR)
    windows = body & (np.abs(b) < 0.82) & (((a > 0.22) & (a < 0.5)) | ((a > -0.85) & (a < -0.62)))
    canvas.fill(local.patch, windows, GLASS)
    cabin = np.where((a > -0.9) & (a < 0.5), car.height_m, 0.62 * car.height_m).astype(np.float32)
    canvas.raise_to(local.patch, body, cabin, cabin * np.float32(car.seen))


def draw_container(canvas: Canvas, container: Container) -> None:
    """Draw one container unless something stands there already."""
    box = container.box
    local = canvas.local(box)
    if local is None:
        return
    body = (np.abs(local.a) < box.half_u) & (np.abs(local.b) < box.half_v)
    if not body.any() or (canvas.surface_m[local.patch][body] > 0.3).any():
        return
    canvas.fill(local.patch, body, Paint(container.spectrum, fine=0.04, courses=0.05), CLUTTER)
    canvas.raise_to(local.patch, body, container.height_m, container.height_m)


def draw_tree(rng: np.random.Generator, canvas: Canvas, tree: Tree) -> None:
    """Draw one tree over whatever is lower."""
    local = canvas.local(Box(tree.u, tree.v, tree.radius_m, tree.radius_m))
    if local is None:
        return
    textures = canvas.textures
    angle: Field = np.arctan2(local.b, local.a)
    lobes = 0.10 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.07 * np.sin(5 * angle + rng.uniform(0, 6))
    rim = lobes + 0.10 * textures.mid[local.patch] + 0.06 * textures.grain[local.patch] + 0.08
    radius: Field = (np.hypot(local.a, local.b) / np.float32(tree.radius_m) + rim).astype(np.float32)
    dome = np.sqrt(np.clip(1.0 - radius * radius, 0.0, None))
    bumps = 0.35 * textures.mid[local.patch] + 0.22 * textures.grain[local.patch]
    crown = (tree.height_m * (0.55 + 0.45 * dome) + bumps).astype(np.float32)
    if (canvas.label[local.patch][radius < 0.35] == BUILDING).any():  # no trunk grows through a roof
        return
    mask: Mask = (radius < 1.0) & (crown > canvas.surface_m[local.patch])
    if tree.bare:
        _draw_twigs(rng, canvas, local.patch, mask, radius, angle, crown)
    else:
        canvas.fill(local.patch, mask, leaf_paint(tree.spectrum), TREE)
        canvas.raise_to(local.patch, mask, crown, crown)
        canvas.twigs[local.patch][mask] = 0.0


def _draw_twigs(
    rng: np.random.Generator,
    canvas: Canvas,
    patch: tuple[slice, slice],
    mask: Mask,
    radius: Field,
    angle: Field,
    crown: Field,
) -> None:
    """Draw a bare tree: limbs that fork outward; the ground shows through and is what matching finds."""
    wander = angle + 0.12 * canvas.textures.mid[patch]
    limbs = np.zeros_like(radius)
    for fork, (count, start) in enumerate(((5, 0.0), (11, 0.2), (23, 0.4), (41, 0.55))):
        ridge = np.abs(np.sin(0.5 * count * wander + rng.uniform(0, 2 * math.pi)))
        width = 0.5 * count * (0.05 + 0.02 * fork) / np.clip(radius * 4, 0.25, None)
        limbs = np.maximum(limbs, (ridge < width) & (radius > start))
    haze = np.clip(0.35 + 0.3 * canvas.textures.fine[patch] + 0.2 * canvas.textures.grain[patch], 0.0, 1.0)
    cover = np.where(limbs > 0, 0.75, 0.55 * haze).astype(np.float32)
    canvas.label[patch][mask] = TREE
    canvas.twigs[patch][mask] = np.maximum(canvas.twigs[patch], cover)[mask]
    solid = mask & (limbs > 0) & (canvas.surface_m[patch] < 2.0)
    canvas.surface_m[patch][solid] = crown[solid]
    found = mask & (canvas.textures.coarse[patch] > 1.1) & (canvas.textures.grain[patch] > 0.2)
    canvas.seen_m[patch][found] = np.maximum(canvas.seen_m[patch], 0.6 * crown)[found]
