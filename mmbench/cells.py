"""Cells: method × dataset × recipe × seed, what each one's identity is, its state, and running it."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mmbench import training
from mmbench._version import __version__
from mmbench.datasets._dataset import Dataset
from mmbench.devices import environment, resolve_precision
from mmbench.errors import CellFailedError, DataError, InvalidRecipeError, ProtocolError
from mmbench.evaluation import TEST_LABELS, Evaluator
from mmbench.metrics import scores
from mmbench.recipe import Recipe
from mmbench.records import (
    PROTOCOL_VERSION,
    Record,
    code_hash,
    fingerprint,
    read_record,
    read_records,
    record_path,
    write_record,
)
from mmbench.registry import entry, find
from mmbench.transforms import Normalizer, fit_normalizer, random_generator
from mmbench_baselines.method import Method

_LOG = logging.getLogger("mmbench")

Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called with (phase, done, in all, latest figures)."""


@dataclass(frozen=True)
class Run:
    """What the cells of one run share.

    Attributes:
        dataset_name: The registry's key.
        dataset: Opened, with its split.
        recipe: Checked against the methods by `check_options`.
        device: Where to train.
        results: Folder of the records.
        workers: Reading processes.
        command: As typed, for the record.
    """

    dataset_name: str
    dataset: Dataset
    recipe: Recipe
    device: torch.device
    results: Path
    workers: int = 0
    command: str = ""

    @cached_property
    def normalizer(self) -> Normalizer:
        """Statistics of the training tiles, computed once a run."""
        return fit_normalizer(self.dataset)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Scores methods on the dataset."""
        return Evaluator(
            self.dataset,
            self.normalizer,
            self.recipe.evaluation,
            self.device,
            resolve_precision(self.device, self.recipe.training.precision),
        )


@dataclass(frozen=True)
class Cell:
    """A method with one seed."""

    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.method} seed {self.seed}"


@dataclass(frozen=True)
class State:
    """Whether a cell must be run.

    Attributes:
        kind: "done"; "failed", "stale" (a record exists, of other settings or code) or "missing".
        reason: Why, for the last three.
    """

    kind: Literal["done", "failed", "stale", "missing"]
    reason: str = ""


def check_options(recipe: Recipe, methods: list[str]) -> None:
    """Refuse options that a method does not have.

    Raises:
        UnknownNameError: If a method is unknown, in the run or in the recipe.
        InvalidRecipeError: Naming the option and those there are.
    """
    for name in dict.fromkeys([*methods, *recipe.methods]):
        entry("method", name)
    for name in methods:
        known = option_defaults(find("method", name))
        for option in recipe.methods.get(name, {}):
            if option not in known:
                raise InvalidRecipeError(
                    f"recipe {recipe.name}: method {name!r} has no option {option!r}; "
                    f"it has: {', '.join(known)}"
                )


def option_defaults(method_class: type[Method]) -> dict[str, Any]:
    """Return the options of a method with their defaults: its keyword arguments but ignore_index."""
    parameters = inspect.signature(method_class.__init__).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name != "ignore_index"
    }


def identity(run: Run, cell: Cell) -> dict[str, Any]:
    """Return everything that can change the scores of a cell."""
    method, dataset = entry("method", cell.method), entry("dataset", run.dataset_name)
    options = option_defaults(find("method", cell.method)) | run.recipe.methods.get(cell.method, {})
    split = json.dumps(asdict(run.dataset.split), sort_keys=True)
    content = {
        "protocol": PROTOCOL_VERSION,
        "method": {"name": cell.method, "options": options},
        "code": code_hash(method, dataset),
        "dataset": {
            "name": run.dataset_name,
            "modalities": run.dataset.modalities,
            "split": hashlib.sha256(split.encode()).hexdigest()[:16],
            **run.dataset.identity,
        },
        "labels": {"train": "full", "test": TEST_LABELS},
        "recipe": run.recipe.settings(),
        "precision": resolve_precision(run.device, run.recipe.training.precision),
        "seed": cell.seed,
    }
    # Through JSON, so that it compares equal to what a stored record holds (tuples are lists there).
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def state(run: Run, cell: Cell, stored: list[Record] | None = None) -> State:
    """Say whether a cell is done, and if not, why.

    Args:
        run: Its results folder is looked into.
        cell: To look for.
        stored: The folder's records, where the caller has read them already.
    """
    wanted = identity(run, cell)
    path = record_path(run.results, fingerprint(wanted))
    if path.is_file():
        record = read_record(path)
        if record.status == "done":
            return State("done")
        return State("failed", (record.error or {}).get("message", ""))
    for record in stored if stored is not None else read_records(run.results):
        old = record.identity
        if (
            old["method"]["name"] == cell.method
            and old["seed"] == cell.seed
            and old["dataset"]["name"] == run.dataset_name
            and record.recipe_name == run.recipe.name
        ):
            return State("stale", _first_differences(old, wanted))
    return State("missing")


def _first_differences(old: Mapping[str, Any], new: Mapping[str, Any], limit: int = 3) -> str:
    """Name the keys in which two identities differ, with both values where they are short."""
    before, after = _flatten(old), _flatten(new)
    changed = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    words = [
        f"{key} changed" if key.startswith("code.") else f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in changed[:limit]
    ]
    return "; ".join(words) + (f"; and {len(changed) - limit} more" if len(changed) > limit else "")


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def build_method(run: Run, cell: Cell) -> Method:
    """Build a method with seeded weights on the run's device."""
    torch.manual_seed(int(random_generator("torch", cell.seed).integers(2**63)))
    method_class = find("method", cell.method)
    options = run.recipe.methods.get(cell.method, {})
    return method_class(
        run.dataset.modalities, run.dataset.num_classes, ignore_index=run.dataset.ignore_index, **options
    ).to(run.device)


def run_cell(
    run: Run, cell: Cell, progress: Progress | None = None, keep: Callable[[Method], None] | None = None
) -> Record:
    """Train and evaluate a cell and store its record, whatever comes of it.

    Args:
        run: What the cells share.
        cell: To run.
        progress: Told of every step and tile.
        keep: Given the trained method, to save its weights.

    Returns:
        The stored record; status "failed" if the method failed or broke the protocol.

    Raises:
        DataError: If the data are at fault; every other cell would meet the same.
    """
    wanted = identity(run, cell)
    record = _blank_record(run, cell, wanted)
    began = time.perf_counter()
    confusions: dict[str, NDArray[np.int64]] | None = None
    with _log_to(run.results / f"{record.id}.log"):
        _LOG.info("%s on %s, recipe %s: %s", cell, run.dataset_name, run.recipe.name, run.command)
        try:
            method = build_method(run, cell)
            record.method["parameters"] = sum(p.numel() for p in method.parameters())
            record.method["sees_hidden_in_training"] = method.sees_hidden_in_training
            confusions = _train_and_score(run, cell, method, record, progress)
            if keep is not None:
                keep(method)
            record.status = "done"
        except DataError:
            raise
        # A method is a stranger's code: whatever it raises fails its cell and must not stop the others.
        except Exception as error:  # noqa: BLE001
            _LOG.error("failed:\n%s", traceback.format_exc())
            kind = "protocol" if isinstance(error, ProtocolError) else "method"
            message = " ".join(str(error).split())
            if not isinstance(error, ProtocolError | CellFailedError):
                message = f"{type(error).__name__}: {message}"
            record.error = {"kind": kind, "message": message}
            confusions = None
        record.provenance["seconds"] = round(time.perf_counter() - began, 1)
        path = write_record(run.results, record, confusions)
        _LOG.info("%s after %.1f s", record.status, record.provenance["seconds"])
    return read_record(path)


def _blank_record(run: Run, cell: Cell, wanted: dict[str, Any]) -> Record:
    """Return the record of a cell before anything has happened."""
    method_class = find("method", cell.method)
    return Record(
        id=fingerprint(wanted),
        status="failed",
        identity=wanted,
        recipe_name=run.recipe.name,
        ranked=run.recipe.ranked,
        method={
            "title": method_class.title,
            "origin": entry("method", cell.method).origin,
            "set_options": dict(run.recipe.methods.get(cell.method, {})),
        },
        classes=list(run.dataset.classes),
        scored_classes=list(run.dataset.scored_classes),
        tiles=list(run.dataset.split.test),
        environment=environment(run.device),
        provenance={
            "mmbench": __version__,
            "command": run.command,
            "split": run.dataset.split_name,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def _train_and_score(
    run: Run, cell: Cell, method: Method, record: Record, progress: Progress | None
) -> dict[str, NDArray[np.int64]]:
    """Train, prove no-peek, score every scenario; fill the record."""

    def tell(phase: str) -> Callable[[int, int, dict[str, float]], None] | None:
        return None if progress is None else partial(progress, phase)

    result = training.train(
        method,
        run.dataset,
        run.normalizer,
        run.recipe.training,
        seed=cell.seed,
        evaluator=run.evaluator,
        workers=run.workers,
        progress=tell("train"),
    )
    record.training = asdict(result) | {"seconds": round(result.seconds, 1)}
    record.no_peek = run.evaluator.check_no_peek(cell.method, method)
    confusions = run.evaluator.confusions(method, "test", TEST_LABELS, tell("test"))
    record.scenarios = {
        name: asdict(scores(matrices.sum(0), run.dataset.scored_classes))
        for name, matrices in confusions.items()
    }
    return confusions


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Write the library's log to a file while a cell runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = _LOG.level
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOG.setLevel(level)
        _LOG.removeHandler(handler)
        handler.close()
