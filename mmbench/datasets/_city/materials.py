"""What the ground and the things on it look like: spectra and textures.

A spectrum is (near infrared, red, green, blue), counts of an eight-bit camera in full sun on flat ground.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Spectrum = tuple[float, float, float, float]

IMPERVIOUS, BUILDING, LOW_VEGETATION, TREE, CAR, CLUTTER = range(6)


@dataclass(frozen=True)
class Paint:
    """A spectrum and how strongly each texture field modulates it (relative to the spectrum).

    Attributes:
        spectrum: Near infrared, red, green, blue.
        fine: Pixel-sized grain.
        grain: Texture of 0.25 m.
        mid: Texture of 0.8 m.
        coarse: Texture of 4 m.
        courses: Stripes of roof tiles or of a mower along the street grid.
        joints: Dark joints between slabs.
    """

    spectrum: Spectrum
    fine: float = 0.0
    grain: float = 0.0
    mid: float = 0.0
    coarse: float = 0.0
    courses: float = 0.0
    joints: float = 0.0


# Flat roofs and streets look alike on purpose: colour alone cannot tell them apart.
PAVED: dict[str, Paint] = {
    "asphalt": Paint((86, 82, 86, 84), fine=0.05, grain=0.05, mid=0.02, coarse=0.06),
    "concrete": Paint((122, 119, 116, 108), fine=0.04, grain=0.04, mid=0.02, coarse=0.06),
    "gravel": Paint((112, 108, 102, 92), fine=0.09, grain=0.08, mid=0.02, coarse=0.05),
    "slabs": Paint((110, 106, 106, 99), fine=0.04, grain=0.04, coarse=0.05, joints=0.16),
    "cobble": Paint((88, 86, 90, 86), fine=0.10, grain=0.10, coarse=0.05),
    "brick": Paint((130, 114, 90, 80), fine=0.05, grain=0.05, coarse=0.06, joints=0.08),
}
ROOFS: dict[str, Paint] = {
    "bitumen": Paint((85, 82, 86, 85), fine=0.05, grain=0.05, mid=0.02, coarse=0.06),
    "gravel": Paint((114, 110, 104, 95), fine=0.08, grain=0.08, mid=0.02, coarse=0.05),
    "metal": Paint((146, 143, 141, 134), fine=0.04, grain=0.03, coarse=0.05, courses=0.03),
    "tile": Paint((150, 128, 84, 68), fine=0.05, grain=0.05, coarse=0.05, courses=0.09),
    "slate": Paint((72, 69, 75, 77), fine=0.05, grain=0.05, coarse=0.05, courses=0.05),
    "sedum": Paint((116, 82, 82, 62), fine=0.07, grain=0.07, mid=0.06, coarse=0.10),
}
GROUND: dict[str, Paint] = {
    "soil": Paint((108, 98, 84, 70), fine=0.06, grain=0.07, mid=0.07, coarse=0.10),
    "sand": Paint((158, 148, 132, 110), fine=0.05, grain=0.05, mid=0.04, coarse=0.06),
    "water": Paint((38, 56, 74, 78), fine=0.03, coarse=0.08),
    "pool": Paint((46, 84, 132, 146), fine=0.04, mid=0.04),
}
CAR_SPECTRA: tuple[Spectrum, ...] = (
    (182, 184, 186, 186),
    (150, 150, 152, 154),
    (96, 96, 100, 102),
    (52, 50, 54, 56),
    (44, 42, 46, 48),
    (172, 132, 58, 54),
    (70, 58, 78, 118),
    (120, 124, 128, 130),
)
CONTAINER_SPECTRA: tuple[Spectrum, ...] = (
    (168, 138, 70, 52),
    (92, 62, 90, 136),
    (160, 162, 160, 156),
    (110, 70, 100, 74),
)
GLASS = Paint((36, 36, 42, 48), fine=0.03)
SOLAR = Paint((40, 42, 52, 70), fine=0.03, courses=0.12)
MARKING = Paint((176, 178, 178, 172), fine=0.06, grain=0.08)
BARK: Spectrum = (112, 88, 87, 80)

_LUSH = np.array([150.0, 62.0, 80.0, 56.0])
_DRY = np.array([108.0, 92.0, 88.0, 66.0])
_DARK = np.array([96.0, 46.0, 60.0, 50.0])


def leaf_paint(spectrum: Spectrum) -> Paint:
    """Return the texture that crowns and shrubs share, in a given colour."""
    return Paint(spectrum, fine=0.10, grain=0.14, mid=0.12, coarse=0.05)


def weathered(paint: Paint, rng: np.random.Generator, spread: float = 0.16) -> Paint:
    """Return the paint with the lightness and a little of the hue of one particular object."""
    return replace(paint, spectrum=varied(paint.spectrum, rng, spread))


def varied(spectrum: Spectrum, rng: np.random.Generator, spread: float) -> Spectrum:
    """Return the spectrum lighter or darker by `spread` (log), and a little off in hue."""
    factor = np.exp(rng.normal(0.0, spread)) * np.exp(rng.normal(0.0, 0.03, size=4))
    return _spectrum(np.array(spectrum) * factor)


def vegetation(rng: np.random.Generator, *, dryness: float, darkness: float) -> Spectrum:
    """Return a leaf or grass spectrum; lawns, shrubs and crowns overlap because all are drawn from here.

    Args:
        rng: Source of the draw.
        dryness: Mean share of dry matter, 0 to 1.
        darkness: Mean share of dark needles, 0 to 1.
    """
    dry = float(np.clip(rng.normal(dryness, 0.22), 0.0, 1.0))
    dark = float(np.clip(rng.normal(darkness, 0.22), 0.0, 1.0 - dry))
    mixed = _LUSH * (1 - dry - dark) + _DRY * dry + _DARK * dark
    return varied(_spectrum(mixed), rng, 0.10)


def _spectrum(values: NDArray[np.float64]) -> Spectrum:
    near_infrared, red, green, blue = (float(value) for value in values)
    return near_infrared, red, green, blue
