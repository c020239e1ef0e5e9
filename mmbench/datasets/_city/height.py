"""Measures the height as surface matching would: smeared edges, noise, filled holes, things not found."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmbench.datasets._city.canvas import Canvas, Field
from mmbench.datasets._city.materials import TREE
from mmbench.datasets._city.noise import blocky_noise, value_noise


def measure_height(rng: np.random.Generator, canvas: Canvas, shadow: Field) -> Field:
    """Return the height above ground that matching finds.

    Args:
        rng: Source of the faults.
        canvas: What was drawn.
        shadow: (H, W), 0 lit to 1 dark; matching is worse in the dark.

    Returns:
        (H, W) float32, metres, finite.
    """
    gsd_m = canvas.gsd_m
    height = _jag(rng, canvas.seen_m, gsd_m)
    height = ndimage.gaussian_filter(height, 0.22 / gsd_m, truncate=2.5)
    height = _lose(rng, canvas, height, shadow)
    unsure = np.float32(0.04) + np.float32(0.14) * shadow + np.float32(0.35) * _crowns(canvas)
    height += unsure * value_noise(rng, canvas.shape, 0.4 / gsd_m)
    height += np.float32(0.12) * value_noise(rng, canvas.shape, 6.0 / gsd_m)  # the ground model is off, too
    height += np.float32(0.02) * rng.standard_normal(canvas.shape, dtype=np.float32)
    return height


def _jag(rng: np.random.Generator, height_m: Field, gsd_m: float) -> Field:
    """Return the surface with edges that bulge outward and jump from match window to match window."""
    reach = max(1, round(0.3 / gsd_m))
    bulged = ndimage.maximum_filter(height_m, size=1 + 2 * round(0.2 / gsd_m))
    cell = max(2, round(0.35 / gsd_m))
    rows = np.arange(height_m.shape[0])[:, None] + np.rint(
        np.clip(blocky_noise(rng, height_m.shape, cell), -2, 2) * reach
    ).astype(np.intp)
    columns = np.arange(height_m.shape[1]) + np.rint(
        np.clip(blocky_noise(rng, height_m.shape, cell), -2, 2) * reach
    ).astype(np.intp)
    jagged: Field = bulged[
        np.clip(rows, 0, height_m.shape[0] - 1), np.clip(columns, 0, height_m.shape[1] - 1)
    ]
    return jagged


def _lose(rng: np.random.Generator, canvas: Canvas, height_m: Field, shadow: Field) -> Field:
    """Fill the holes of the match from around them: more of them in crowns and in shade."""
    doubt = value_noise(rng, canvas.shape, 1.5 / canvas.gsd_m)
    doubt += np.float32(0.5) * shadow + np.float32(0.35) * _crowns(canvas)
    hole = doubt > 1.55
    weight = 1 - hole.astype(np.float32)
    sigma = 1.2 / canvas.gsd_m
    around = _blur(height_m * weight, sigma) / np.maximum(_blur(weight, sigma), np.float32(1e-3))
    share = _blur(hole.astype(np.float32), 0.15 / canvas.gsd_m)
    filled: Field = (height_m + (around - height_m) * share).astype(np.float32)
    return filled


def _crowns(canvas: Canvas) -> Field:
    """Return 1 in crowns and fading around them; bare ones hardly trouble the match: (H, W)."""
    leafed = (canvas.label == TREE) & (canvas.seen_m > 1.0)
    bare = (canvas.label == TREE) & ~leafed
    trouble = leafed.astype(np.float32) + np.float32(0.15) * bare
    return _blur(trouble, 0.3 / canvas.gsd_m)


def _blur(field: Field, sigma: float) -> Field:
    """Blur by two box filters, quick at any width."""
    size = max(3, round(2 * sigma))
    blurred: Field = ndimage.uniform_filter(ndimage.uniform_filter(field, size), size)
    return blurred
