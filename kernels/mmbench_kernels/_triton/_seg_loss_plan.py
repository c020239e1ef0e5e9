"""How the kernels of `multiscale_seg_loss` divide a head: cells, blocks and compiled-in constants.

Axes: B batch, K class, H W pixels of the target, h w pixels of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmbench_kernels._triton._launch import Config, ceil_div
from mmbench_kernels.ops._seg_loss_bands import LossForm


@dataclass(frozen=True)
class Axis:
    """Cells of one axis: pixel x of the target lies in cell (x·step + offset) // unit.

    A head of `source` pixels has source + 1 cells; cell c lies between its pixels c - 1 and c, and the first
    and the last reach past the border, where there is one pixel only. Positions are integers over a common
    unit: float32 would misplace the pixels of a large image by more than its own rounding.

    Attributes:
        size: Pixels of the target.
        source: Pixels of the head.
        step: How far apart two pixels of the target are.
        offset: Where the first one lies; 0 is the beginning of cell 0.
        unit: How long a cell is.
    """

    size: int
    source: int
    step: int
    offset: int
    unit: int

    @classmethod
    def between(cls, source: int, size: int, align_corners: bool) -> Axis:
        """Return the cells of torch.nn.functional.interpolate's bilinear mode."""
        if not align_corners:
            return cls(size, source, 2 * source, source + size, 2 * size)
        if source == 1:
            return cls(size, source, 1, size, size)
        unit = max(size - 1, 1)
        return cls(size, source, source - 1, unit, unit)

    @property
    def cells(self) -> int:
        """Number of cells, of which some may hold no pixel."""
        return self.source + 1

    def parts(self, most: int) -> int:
        """Return into how many parts of 2 pixels or more to cut a cell: a power of two, at most `most`."""
        widest = ceil_div(self.unit, self.step)
        parts = 1
        while 2 * parts <= most and 4 * parts <= widest:
            parts *= 2
        return parts

    def slots(self, length: int) -> int:
        """Return how many pixels of the head `length` neighbouring pixels of the target read at most."""
        return ceil_div((length - 1) * self.step, self.unit) + 2

    def arguments(self, name: str) -> dict[str, int]:
        """Return what a kernel must know, under names that begin with that of the axis."""
        return {
            f"{name}_source": self.source,
            f"{name}_step": self.step,
            f"{name}_offset": self.offset,
            f"{name}_unit": self.unit,
        }


AXIS_ARGUMENTS = [
    f"{name}_{fact}" for name in ("row", "column") for fact in ("source", "step", "offset", "unit")
]
"""Not specialised: one binary serves heads of every size."""


def padded(num_classes: int) -> int:
    """Return the smallest power of two, 2 or more, that holds the classes."""
    return 1 << max(num_classes - 1, 1).bit_length()


FEW_CLASSES = 6
"""Those of the data sets; the more there are, the nearer the registers are to their end."""


def encode_config(num_classes: int) -> Config:
    """Return the configuration of `encode_kernel`."""
    block = 4 * _lanes(num_classes)
    return Config({"PADDED": padded(num_classes), "ROWS": 16, "BLOCK": block}, num_warps=1)


def full_config(num_classes: int, item_bytes: int) -> Config:
    """Return the configuration of the kernels of heads that have the size of the target."""
    # As many neighbours for each lane as are one load of 16 bytes. With 4 in half precision the compiler
    # gives a pixel's classes to several threads, which takes 1.5 times the instructions; with more classes
    # than a few, 8 neighbours spill registers.
    neighbours = 16 // item_bytes if num_classes <= FEW_CLASSES else 4
    return _config(num_classes, {"ROWS": 4, "BLOCK": neighbours * _lanes(num_classes)})


def coarse_config(num_classes: int, columns: Axis) -> Config:
    """Return the configuration of the kernels that walk through cells."""
    lanes = _lanes(num_classes)
    return _config(num_classes, {"ROWS": 8, "LANES": lanes, "PARTS": columns.parts(lanes)})


def gather_config(num_classes: int) -> Config:
    """Return the configuration of `gather_kernel`."""
    return Config({"PADDED": padded(num_classes), "BLOCK": _lanes(num_classes)}, num_warps=1)


def _lanes(num_classes: int) -> int:
    """Return how many pixels a warp works on at once: as many as leave a thread 8 classes of one pixel."""
    return min(32, 256 // padded(num_classes))


def _config(num_classes: int, constants: Mapping[str, int]) -> Config:
    constants = {"PADDED": padded(num_classes), **constants}
    bound = None if num_classes <= FEW_CLASSES else 224
    return Config(constants, num_warps=1, max_registers=bound)


@dataclass(frozen=True)
class Plan:
    """How one head is divided among programs.

    Attributes:
        rows: The axis of rows; None of both for a head that has the size of the target.
        columns: The axis of columns.
        config: Of the kernels that go over the target.
        grid: (blocks of columns, blocks of rows, B).
        form: What the loss is.
    """

    rows: Axis | None
    columns: Axis | None
    config: Config
    grid: tuple[int, int, int]
    form: LossForm

    @classmethod
    def of(cls, head: Tensor, codes: Tensor, form: LossForm) -> Plan:
        """Plan for a head (B, K, h, w) and a target (B, H, W)."""
        batch, height, width = codes.shape
        rows = columns = None
        if head.shape[2:] == codes.shape[1:]:
            config = full_config(head.shape[1], head.element_size())
            blocks = ceil_div(width, config.constants["BLOCK"])
        else:
            rows, columns = (
                Axis.between(source, size, form.align_corners)
                for source, size in zip(head.shape[2:], codes.shape[1:], strict=True)
            )
            config = coarse_config(head.shape[1], columns)
            blocks = ceil_div(columns.cells, config.constants["LANES"] // config.constants["PARTS"])
        grid = (blocks, ceil_div(height, config.constants["ROWS"]), batch)
        return cls(rows, columns, config, grid, form)

    def keywords(self, num_classes: int) -> dict[str, Any]:
        """Return the arguments of a launch that follow from the plan."""
        limits = self.form.limits(torch.float32)
        low, high = limits or (0.0, 1.0)
        keywords = {"low": low, "high": high, "LIMITED": limits is not None, "CLASSES": num_classes}
        if self.rows is not None and self.columns is not None:
            keywords |= {**self.rows.arguments("row"), **self.columns.arguments("column")}
            keywords["PROBABILITIES"] = self.form.probabilities
        return keywords | self.config.keywords()
