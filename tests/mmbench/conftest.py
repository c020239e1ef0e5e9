"""Fixtures: records without a training, for what is made of records."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch

from mmbench.cells import Cell, Run
from mmbench.datasets.synthetic import Synthetic
from mmbench.execution import run_cell
from mmbench.metrics import scores
from mmbench.recipe import load_recipe
from mmbench.records import Record, fingerprint, write_record

CLASSES = ["ground", "house", "clutter"]


@pytest.fixture
def make_record():
    """Return a function that makes the record of a finished cell of two scored classes and clutter.

    It takes the method's name, the seed, scenario -> mIoU, the recipe's name, what differs in the identity,
    and fields of the record. Its id is right, and its proof of no-peek is complete.
    """

    def make(name="it", seed=0, miou=None, recipe="default", identity=None, **fields):
        loaded = load_recipe(recipe)
        miou = {"full": 0.8, "irrg": 0.6, "ndsm": 0.4} if miou is None else miou
        content = {
            "protocol": 1,
            "method": {"name": name, "options": {}},
            "code": {"method": name, "blocks": "b", "operators": "o", "loop": "l", "dataset": "d"},
            "dataset": {"name": "town", "split": "s", "modalities": {"irrg": 3, "ndsm": 1}},
            "labels": {"train": "full", "test": "eroded"},
            "recipe": loaded.settings(),
            "precision": "float32",
            "seed": seed,
            **(identity or {}),
        }
        method = {"title": name, "parameters": 10**6, "sees_hidden_in_training": False}
        facts = {
            "id": fingerprint(content),
            "status": "done",
            "identity": content,
            "recipe_name": loaded.name,
            "ranked": loaded.ranked,
            "method": method | fields.pop("method", {}),
            "classes": CLASSES,
            "scored_classes": [0, 1],
            "scenarios": {
                name: {
                    **dict.fromkeys(("miou", "mf1", "oa", "kappa"), value),
                    **{key: [value, value, 0.0] for key in ("iou", "f1")},
                }
                for name, value in miou.items()
            },
            "training": {"seconds": 12.0},
            "no_peek": ["irrg", "ndsm", "mixed"],
            "environment": {"device": "cpu"},
            "provenance": {"split": "standard", "started": "2026-01-01"},
        }
        return Record(**(facts | fields))

    return make


@pytest.fixture
def make_failure(make_record):
    """Return a function that makes the record of a failed cell; a kind "protocol" convicts the method."""

    def make(name="it", seed=0, kind="method", message="no luck", **fields):
        error = {"kind": kind, "message": message}
        return make_record(name, seed, miou={}, status="failed", error=error, training={}, **fields)

    return make


@pytest.fixture
def store_record(tmp_path, make_record):
    """Return a function that stores a record with matrices of (scenario, tile) in `tmp_path`.

    It takes the method's name, the seed and scenario -> share of wrong pixels of each tile; its scores are
    those of the matrices.
    """

    def store(name, seed, wrong, extra=None, **fields):
        matrices = {scenario: np.stack([_matrix(s) for s in shares]) for scenario, shares in wrong.items()}
        scenarios = {s: asdict(scores(m.sum(0), [0, 1])) for s, m in matrices.items()}
        tiles = [f"t{number}" for number in range(len(next(iter(wrong.values()))))]
        record = make_record(name, seed, scenarios=scenarios, tiles=tiles, **fields)
        write_record(tmp_path, record, matrices | (extra or {}))
        return record

    return store


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of two finished cells on the small town, with all that a run stores; not to be changed."""
    results = tmp_path_factory.mktemp("trained")
    settings = ["training.steps=2", "training.window=64", "training.batch_size=2", "evaluation.window=64"]
    recipe = load_recipe("smoke", [*settings, "methods.modality_dropout.base_width=8"])
    dataset = Synthetic(split="small", tile_size=128)
    run = Run("synthetic", dataset, recipe, torch.device("cpu"), results)
    for method in ("modality_dropout", "early_fusion"):
        assert run_cell(run, Cell(method, 0)).status == "done"
    return results


def _matrix(wrong):
    """A tile of three classes of which a share is taken for the next class."""
    truth = np.array([1000, 600, 200])
    missed = np.rint(truth * wrong).astype(np.int64)
    return np.diag(truth - missed) + np.roll(np.diag(missed), 1, axis=1)
