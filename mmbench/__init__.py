"""mmbench: how good is a multimodal segmentation method when a modality is missing, and what does it cost?

Importing this package imports neither torch nor triton; the public names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mmbench._version import __version__

if TYPE_CHECKING:
    from mmbench.datasets._dataset import Dataset, Sample, Split, Window
    from mmbench.datasets._rasters.dataset import RasterDataset
    from mmbench.datasets._rasters.folders import Source
    from mmbench.datasets._rasters.layers import Layer
    from mmbench.errors import MMBenchError
    from mmbench.recipe import Recipe, load_recipe
    from mmbench_baselines.method import Batch, Method, Output

_HOMES = {
    "Batch": "mmbench_baselines.method",
    "Dataset": "mmbench.datasets._dataset",
    "Layer": "mmbench.datasets._rasters.layers",
    "MMBenchError": "mmbench.errors",
    "Method": "mmbench_baselines.method",
    "Output": "mmbench_baselines.method",
    "RasterDataset": "mmbench.datasets._rasters.dataset",
    "Recipe": "mmbench.recipe",
    "Sample": "mmbench.datasets._dataset",
    "Source": "mmbench.datasets._rasters.folders",
    "Split": "mmbench.datasets._dataset",
    "Window": "mmbench.datasets._dataset",
    "load_recipe": "mmbench.recipe",
}

__all__ = [
    "Batch",
    "Dataset",
    "Layer",
    "MMBenchError",
    "Method",
    "Output",
    "RasterDataset",
    "Recipe",
    "Sample",
    "Source",
    "Split",
    "Window",
    "__version__",
    "load_recipe",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mmbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
