"""Running a cell: build, train, prove no-peek, score, and store a record whatever comes of it."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmbench import search, training
from mmbench._version import __version__
from mmbench.cells import Cell, Run, identity
from mmbench.compilation import CompiledMethod
from mmbench.datasets._prepared.dataset import pixel_source
from mmbench.devices import environment
from mmbench.errors import CellFailedError, DataError, ProtocolError
from mmbench.evaluation import Evaluation
from mmbench.imputation import ImputationError
from mmbench.metrics import scores
from mmbench.profiling.record_profile import record_profile
from mmbench.records import Record, fingerprint, read_record, record_path, write_record
from mmbench.registry import entry, find
from mmbench.transforms import random_generator
from mmbench_baselines.method import Method

_LOG = logging.getLogger("mmbench")

Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called with (phase, done, in all, latest figures)."""


def build_method(run: Run, cell: Cell) -> Method:
    """Build a method with seeded weights on the run's device."""
    torch.manual_seed(int(random_generator("torch", cell.seed).integers(2**63)))
    method_class = find("method", cell.method)
    options = run.recipe.methods.get(cell.method, {})
    return method_class(
        run.dataset.modalities, run.dataset.num_classes, ignore_index=run.dataset.ignore_index, **options
    ).to(run.device)


def train_cell(
    run: Run, cell: Cell, method: Method, tell: Callable[[str], training.Progress | None]
) -> tuple[training.TrainingResult, list[search.Trial]]:
    """Train a method in place, with the learning rate that the recipe's search finds, if it asks for one.

    Args:
        run: What the cells share.
        cell: Whose method it is.
        method: With its first weights; see `build_method`.
        tell: Phase -> what is told of its steps.

    Returns:
        What training left behind, and the trials of the search.
    """
    recipe, trials = search.search_learning_rate(
        partial(build_method, run, cell),
        run.dataset,
        run.normalizer,
        run.recipe.training,
        seed=cell.seed,
        evaluator=run.evaluator,
        workers=run.workers,
        progress=tell("search"),
    )
    result = training.train(
        method,
        run.dataset,
        run.normalizer,
        recipe,
        seed=cell.seed,
        evaluator=run.evaluator,
        workers=run.workers,
        progress=tell("train"),
    )
    return result, trials


def run_cell(run: Run, cell: Cell, progress: Progress | None = None) -> Record:
    """Train and evaluate a cell and store its record, whatever comes of it.

    Args:
        run: What the cells share.
        cell: To run.
        progress: Told of every step and tile.

    Returns:
        The record, which is stored; its status is "failed" if the method failed or broke the protocol. A
        failure does not take the place of a finished record of the same cell.

    Raises:
        DataError: If the data are at fault; every other cell would meet the same.
    """
    wanted = identity(run, cell)
    record = _blank_record(run, cell, wanted)
    began = time.perf_counter()
    evaluation: Evaluation | None = None
    with _log_to(run.results / f"{record.id}.log"):
        _LOG.info("%s on %s, recipe %s: %s", cell, run.dataset_name, run.recipe.name, run.command)
        try:
            method = build_method(run, cell)
            record.method["parameters"] = sum(p.numel() for p in method.parameters())
            record.method["sees_hidden_in_training"] = method.sees_hidden_in_training
            evaluation = _train_and_score(run, cell, method, record, progress)
            record.status = "done"
        except DataError:
            _LOG.error("stopped by the data:\n%s", traceback.format_exc())
            raise
        # A method is a stranger's code: whatever it raises fails its cell and must not stop the others.
        except Exception as error:  # noqa: BLE001
            _LOG.error("failed:\n%s", traceback.format_exc())
            kind = "protocol" if isinstance(error, ProtocolError) else "method"
            message = " ".join(str(error).split())
            if not isinstance(error, ProtocolError | CellFailedError):
                message = f"{type(error).__name__}: {message}"
            record.error = {"kind": kind, "message": message}
            evaluation = None
        record.provenance["seconds"] = round(time.perf_counter() - began, 1)
        _LOG.info("%s after %.1f s", record.status, record.provenance["seconds"])
        if record.status == "failed" and _is_finished(run.results, record.id):
            _LOG.error("the finished record of this cell is kept, this failure is not stored")
            return record
        if evaluation is None:
            return read_record(write_record(run.results, record))
        stored = write_record(run.results, record, evaluation.named_matrices(), evaluation.predictions)
        return read_record(stored)


def _is_finished(results: Path, record_id: str) -> bool:
    """Whether a finished record stands under this id."""
    path = record_path(results, record_id)
    return path.is_file() and read_record(path).status == "done"


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
            "variant": cell.variant,
            "set_options": dict(run.recipe.methods.get(cell.method, {})),
            "note": method_class.beware,
        },
        classes=list(run.dataset.classes),
        scored_classes=list(run.dataset.scored_classes),
        tiles=list(run.dataset.split.test),
        environment=environment(run.device),
        provenance={
            "mmbench": __version__,
            "command": run.command,
            "split": run.dataset.split_name,
            "pixels": pixel_source(run.dataset),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def _train_and_score(
    run: Run, cell: Cell, method: Method, record: Record, progress: Progress | None
) -> Evaluation:
    """Train, prove no-peek, score every scenario; fill the record."""

    def tell(phase: str) -> Callable[[int, int, dict[str, float]], None] | None:
        return None if progress is None else partial(progress, phase)

    result, trials = train_cell(run, cell, method, tell)
    record.training = asdict(result) | {
        "seconds": round(result.seconds, 1),
        "trials": [asdict(trial) for trial in trials],
    }
    record.no_peek = run.evaluator.check_no_peek(cell.method, method)
    imputation = ImputationError()
    predictor = CompiledMethod(method) if run.compiled else method
    evaluation = run.evaluator.evaluate(predictor, tell("test"), imputation)
    if isinstance(predictor, CompiledMethod):
        record.provenance["compiled"] = predictor.summary()
        _LOG.info("compiled: %s", predictor.summary())
    record.imputation = imputation.as_dict()
    record.scenarios = {
        name: asdict(scores(matrices.sum(0), run.dataset.scored_classes))
        for name, matrices in evaluation.headline.items()
    }
    record.provenance["label_policies"] = list(evaluation.confusions)
    record.profile = record_profile(
        method, run.evaluator.scenarios, run.recipe.evaluation.window, run.evaluator.precision
    )
    return evaluation


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
