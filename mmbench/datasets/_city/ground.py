"""Draws what lies on the ground: surfaces, streets and their markings."""

from __future__ import annotations

import numpy as np

from mmbench.datasets._city.canvas import Canvas, Field, Mask
from mmbench.datasets._city.materials import IMPERVIOUS, LOW_VEGETATION, MARKING
from mmbench.datasets._city.plan import BEND_LENGTH_M, Plan, Street, Surface

_EVERYWHERE = (slice(None), slice(None))


def draw_ground(canvas: Canvas, plan: Plan) -> None:
    """Draw the surfaces in the plan's order, then the streets over them."""
    for surface in plan.surfaces:
        _draw_surface(canvas, surface)
    # All pavements, then all verges, then all carriageways: so that crossings come out right.
    across = [_distance(canvas, street) for street in plan.streets]
    within = [np.abs(distance) for distance in across]
    for street, distance in zip(plan.streets, within, strict=True):
        canvas.fill(_EVERYWHERE, distance < street.half_total, street.walk, IMPERVIOUS)
    for street, distance in zip(plan.streets, within, strict=True):
        if street.verge:
            verge = (distance < street.half_width + street.verge) & (distance >= street.half_width)
            canvas.fill(_EVERYWHERE, verge, street.green, LOW_VEGETATION)
    for street, distance in zip(plan.streets, within, strict=True):
        canvas.fill(_EVERYWHERE, distance < street.half_width, street.surface, IMPERVIOUS)
    for street, distance in zip(plan.streets, across, strict=True):
        if street.marked:
            _draw_markings(canvas, street, distance, plan.streets)


def _draw_surface(canvas: Canvas, surface: Surface) -> None:
    box = surface.box
    local = canvas.local(box, margin_m=0.3 * box.reach if surface.ragged else 0.0)
    if local is None:
        return
    mid = canvas.textures.mid[local.patch]
    if surface.ragged:
        coarse = canvas.textures.coarse[local.patch]
        radius = (local.a / box.half_u) ** 2 + (local.b / box.half_v) ** 2
        mask: Mask = radius + 0.3 * coarse + 0.12 * mid < 1.0
    else:
        mask = (np.abs(local.a) < box.half_u) & (np.abs(local.b) < box.half_v)
    canvas.fill(local.patch, mask, surface.paint, surface.label)
    if surface.height_m:
        bumps = 0.8 + 0.25 * mid + 0.15 * canvas.textures.grain[local.patch]
        if surface.ragged:  # heaps and beds rise from their rim
            bumps *= np.sqrt(np.clip(1.2 - radius, 0.0, 1.0))
        height = np.clip(surface.height_m * bumps, 0.0, None).astype(np.float32)
        canvas.raise_to(local.patch, mask, height, height)


def _distance(canvas: Canvas, street: Street) -> Field:
    """Return the signed distance from a street's centre line across its axis: (H, W), metres."""
    across, along = (canvas.u, canvas.v) if street.axis == "u" else (canvas.v, canvas.u)
    bend = np.float32(street.bend) * np.sin(along * np.float32(1 / BEND_LENGTH_M) + np.float32(street.phase))
    distance: Field = across - np.float32(street.centre) - bend
    return distance


def _draw_markings(canvas: Canvas, street: Street, distance: Field, streets: list[Street]) -> None:
    """Draw a dashed centre line, and stripes for walkers beside each crossing; worn away in places."""
    carriageway = np.nonzero(np.abs(distance) < street.half_width - 0.3)
    across = distance[carriageway]
    along = (canvas.v if street.axis == "u" else canvas.u)[carriageway]
    line = (np.abs(across) < 0.07) & (np.mod(along, 5.0) < 2.6)
    beside = np.zeros_like(line)
    for other in streets:
        if other.axis != street.axis:
            gap = np.abs(along - np.float32(other.centre)) - np.float32(other.half_width + other.bend)
            line &= gap > 3.0
            if other.marked:
                beside |= (gap > 0.8) & (gap < 3.6)
    drawn = line | (beside & (np.mod(across, 1.0) < 0.5))
    drawn &= canvas.textures.grain[carriageway] > -0.9
    mask = np.zeros(canvas.shape, np.bool_)
    mask[carriageway] = drawn
    canvas.fill(_EVERYWHERE, mask, MARKING)
