"""Renders the optical image: sunlight, cast shadows, texture, and the faults of a camera.

Axes: C (near infrared, red, green, blue), H W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmbench.datasets._city.canvas import Canvas, Field, slopes
from mmbench.datasets._city.materials import BARK

# The sky lights the shade, more in blue than in the near infrared.
_SKY_SHARE = np.array([0.33, 0.37, 0.43, 0.50], np.float32)
_LOW_M = np.float32(-1e3)


@dataclass(frozen=True)
class Sun:
    """Where the sun stands: azimuth clockwise from the top of the image, elevation, radians."""

    azimuth: float
    elevation: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Sun:
        """Draw a sun of the late morning: south-east to south-west, 35 to 52 degrees up."""
        return cls(math.radians(rng.uniform(140, 220)), math.radians(rng.uniform(35, 52)))

    @property
    def toward(self) -> tuple[float, float]:
        """Unit vector along the ground toward the sun: rows down, columns right."""
        return -math.cos(self.azimuth), math.sin(self.azimuth)


def cast_shadow(surface_m: Field, sun: Sun, gsd_m: float) -> Field:
    """Return how much of the sun is hidden at each pixel: (H, W) float32, 0 lit to 1 dark.

    The highest obstacle along the ray is found by doubling: after k rounds every pixel knows 2^k steps ahead.
    """
    rise = math.tan(sun.elevation) * gsd_m
    steps = max(1, math.ceil(float(surface_m.max()) / rise))
    obstacle = _ahead(surface_m, sun, 1) - np.float32(rise)
    reached = 1
    while reached < steps:
        further = _ahead(obstacle, sun, reached)
        further -= np.float32(reached * rise)
        np.maximum(obstacle, further, out=obstacle)
        reached *= 2
    dark = np.clip((obstacle - surface_m) * np.float32(2.0), 0.0, 1.0)
    blurred: Field = ndimage.gaussian_filter(dark, max(0.5, 0.08 / gsd_m), truncate=2.5)
    return blurred


def _ahead(field: Field, sun: Sun, steps: int) -> Field:
    """Return the field as seen `steps` pixels toward the sun; beyond the canvas nothing stands."""
    down, right = (round(steps * part) for part in sun.toward)
    moved = np.full_like(field, _LOW_M)
    height, width = field.shape
    if abs(down) < height and abs(right) < width:
        target = (slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right)))
        source = (slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right)))
        moved[target] = field[source]
    return moved


def render_optical(rng: np.random.Generator, canvas: Canvas, sun: Sun, shadow: Field) -> NDArray[np.uint8]:
    """Return the photograph of a drawn canvas.

    Args:
        rng: Source of the camera's noise and of the weather.
        canvas: What was drawn.
        sun: Where the light comes from.
        shadow: (H, W) from `cast_shadow`.

    Returns:
        (4, H, W) uint8.
    """
    table = np.array([paint.spectrum for paint in canvas.paints], np.float32).T  # (C, paints)
    texture = _texture(canvas)
    direct = _lambert(canvas, sun) * (1 - shadow)
    haze = rng.uniform(2.0, 9.0)
    gain = np.exp(rng.normal(0.0, 0.07)) * np.exp(rng.normal(0.0, 0.025, size=4))
    image = np.empty((4, *canvas.shape), np.uint8)
    for channel in range(4):
        colour: Field = table[channel][canvas.paint] * texture
        colour += (np.float32(BARK[channel]) - colour) * canvas.twigs
        colour *= _SKY_SHARE[channel] + (1 - _SKY_SHARE[channel]) * direct
        ndimage.gaussian_filter(colour, 0.55, truncate=3.0, output=colour)
        colour *= np.float32(gain[channel])
        colour += np.float32(haze * (1 + 0.35 * channel))
        colour += rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(2.0)
        image[channel] = np.clip(colour + 0.5, 0, 255).astype(np.uint8)
    return image


def _texture(canvas: Canvas) -> Field:
    """Return the factor of every pixel's texture, about 1."""
    fields = {
        "fine": canvas.textures.fine,
        "grain": canvas.textures.grain,
        "mid": canvas.textures.mid,
        "coarse": canvas.textures.coarse,
        "courses": np.sin(canvas.v * np.float32(2 * math.pi / 0.42)),
        "joints": -((np.mod(canvas.u, 0.9) < 0.12) | (np.mod(canvas.v, 0.9) < 0.12)).astype(np.float32),
    }
    factor = np.ones(canvas.shape, np.float32)
    for name, field in fields.items():
        weights = np.array([getattr(paint, name) for paint in canvas.paints], np.float32)
        factor += weights[canvas.paint] * field
    clipped: Field = np.clip(factor, np.float32(0.3), np.float32(1.9))
    return clipped


def _lambert(canvas: Canvas, sun: Sun) -> Field:
    """Return the sunlight on each slope, 1 on flat ground."""
    down, along = slopes(canvas.surface_m, canvas.gsd_m)
    toward_down, toward_right = sun.toward
    tilt = (down * np.float32(toward_down) + along * np.float32(toward_right)) / np.float32(
        math.tan(sun.elevation)
    )
    light = (1 - tilt) / np.sqrt(1 + down * down + along * along)
    return np.clip(light, 0.1, 1.6).astype(np.float32)
