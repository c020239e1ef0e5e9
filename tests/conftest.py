"""Fixtures: a small dataset, a small method and a short recipe, so that a whole cell takes a second."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

# Several test processes share the cores; one thread each also fixes the order of sums.
torch.set_num_threads(1)

# No deadline: how long a case takes says nothing on a busy machine. The same cases every time.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


_LONGEST = ("test_triton_aot.py", "test_triton_gates.py", "test_triton_launches.py")
"""A minute of a processor and more, each or each of their groups."""


def pytest_collection_modifyitems(items):
    """Give a file to one process, unless its tests name groups, and the longest first.

    At the end one process would be left alone with them. Groups count under `--dist loadgroup`.
    """
    items.sort(key=lambda item: item.path.name not in _LONGEST)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """No test reads or writes the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def small_dataset():
    from mmbench.datasets.synthetic import Synthetic

    return Synthetic(split="small", tile_size=128)


@pytest.fixture(scope="session")
def normalizer(small_dataset):
    from mmbench.transforms import fit_normalizer

    return fit_normalizer(small_dataset)


@pytest.fixture
def short_recipe():
    from mmbench.recipe import load_recipe

    return load_recipe(
        "smoke",
        [
            "training.steps=3",
            "training.window=64",
            "training.batch_size=2",
            "evaluation.window=64",
            "methods.modality_dropout.base_width=8",
        ],
    )
