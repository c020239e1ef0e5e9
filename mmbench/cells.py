"""Cells: method × dataset × recipe × seed; what makes the identity of each, and its state in a folder."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mmbench.datasets._dataset import TEST_LABELS, Dataset, Role
from mmbench.devices import resolve_precision
from mmbench.errors import DataError, InvalidRecipeError, UnknownNameError
from mmbench.evaluation import Evaluator
from mmbench.recipe import Recipe
from mmbench.records import (
    PROTOCOL_VERSION,
    Record,
    code_hash,
    fingerprint,
    read_record,
    read_records,
    record_path,
)
from mmbench.registry import VARIANT_MARK, entry, find
from mmbench.transforms import Normalizer, fit_normalizer
from mmbench_baselines.method import Method


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
        compiled: Whether the test tiles are predicted by compiled graphs.
        command: As typed, for the record.
    """

    dataset_name: str
    dataset: Dataset
    recipe: Recipe
    device: torch.device
    results: Path
    workers: int = 0
    compiled: bool = False
    command: str = ""

    @cached_property
    def normalizer(self) -> Normalizer:
        """Statistics of the training tiles, computed once a run."""
        return fit_normalizer(self.dataset)

    def check_tiles(self) -> None:
        """Read every validation and test tile once: what is wrong with them must show before training.

        Raises:
            DataError: Naming the file and what is wrong with it, or the role without a scored class.
        """
        roles: tuple[Role, ...] = ("val", "test")
        for role in roles:
            tiles = self.dataset.split.role(role)
            scored = False
            for tile_id in tiles:
                target = self.dataset.read(tile_id, labels=self.dataset.split.labels_of(tile_id)).target
                scored = scored or bool(np.isin(target, self.dataset.scored_classes).any())
            if tiles and not scored:
                raise DataError(
                    f"dataset {self.dataset_name!r}: {role} tiles {', '.join(tiles)} show no scored class; "
                    f"nothing could be scored. Look at them with 'mmbench data check {self.dataset_name}'"
                )

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
    """A method, or a variant of it written `name:variant`, with one seed."""

    method: str
    seed: int

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method.partition(VARIANT_MARK)[0]

    @property
    def variant(self) -> str:
        """The name of its variant, or "" for the method as the recipe has it."""
        return self.method.partition(VARIANT_MARK)[2]

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


def with_variants(recipe: Recipe, methods: list[str]) -> Recipe:
    """Return a recipe that holds the options of the variants among some methods, under their own names.

    They are the method's options in the recipe, over them the variant's, over them what the recipe sets for
    the variant itself.

    Args:
        recipe: As loaded.
        methods: Names, some with a variant, as "mmformer:small".

    Raises:
        UnknownNameError: If there is no such method or variant.
    """
    options = dict(recipe.methods)
    for full in dict.fromkeys([*methods, *recipe.methods]):
        name, mark, _ = full.partition(VARIANT_MARK)
        if mark:
            of_name, own = recipe.methods.get(name, {}), recipe.methods.get(full, {})
            options[full] = {**of_name, **variant_options(full), **own}
    return recipe.model_copy(update={"methods": options})


def variant_options(full: str) -> Mapping[str, Any]:
    """Return the options of a variant, of its full name as "mmformer:small".

    Raises:
        UnknownNameError: If there is no such method or variant.
    """
    name, _, variant = full.partition(VARIANT_MARK)
    method_class = find("method", name)
    options = method_class.variant_options(variant)
    if options is None:
        known, hint = method_class.variants, f"mmbench info {name}"
        raise UnknownNameError(f"variant of {name}", variant, known, hint=hint)
    return options


def check_options(recipe: Recipe, methods: list[str], dataset: Dataset) -> None:
    """Refuse, before anything is trained, what the methods or the split cannot take.

    Raises:
        UnknownNameError: If a method is unknown, in the run or in the recipe.
        InvalidRecipeError: Naming the option or the window, and what the method takes; or if the recipe has a
            search and the split no validation tiles.
    """
    for name in dict.fromkeys([*methods, *recipe.methods]):
        entry("method", name)
    if recipe.training.search is not None and not dataset.split.val:
        raise InvalidRecipeError(
            f"recipe {recipe.name}: training.search decides on validation tiles and split "
            f"{dataset.split_name!r} has none; choose a split with some, or --set training.search=null"
        )
    for name in methods:
        method_class, options = find("method", name), recipe.methods.get(name, {})
        known = option_defaults(method_class)
        for option in options:
            if option not in known:
                raise InvalidRecipeError(
                    f"recipe {recipe.name}: method {name!r} has no option {option!r}; "
                    f"it has: {', '.join(known)}"
                )
        for key, side in (("training", recipe.training.window), ("evaluation", recipe.evaluation.window)):
            if side < method_class.size_minimum or side % method_class.size_multiple:
                raise InvalidRecipeError(
                    f"recipe {recipe.name}: {key}.window is {side}; method {name!r} takes multiples of "
                    f"{method_class.size_multiple} from {method_class.size_minimum}"
                )
        if options:
            _try_options(recipe, name, dataset)


def _try_options(recipe: Recipe, name: str, dataset: Dataset) -> None:
    """Build a method without memory, to learn whether it accepts the values of its options."""
    try:
        with torch.device("meta"):
            find("method", name)(dataset.modalities, dataset.num_classes, **recipe.methods[name])
    except Exception as error:  # a method may raise anything for a value it cannot take
        words = " ".join(str(error).split())
        if not isinstance(error, ValueError):
            words = f"{type(error).__name__}: {words}"
        raise InvalidRecipeError(f"recipe {recipe.name}: methods.{name}: {words}") from error


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
        "method": {"name": method.name, "options": options},
        "code": code_hash(method, dataset),
        "dataset": {
            "name": run.dataset_name,
            "modalities": run.dataset.modalities,
            "split": hashlib.sha256(split.encode()).hexdigest()[:16],
            **run.dataset.identity,
            "files": run.dataset.files_digest,
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
        if record.status == "done" and not path.with_suffix(".safetensors").is_file():
            return State("missing", "its confusion matrices are gone")
        if record.status == "done":
            return State("done")
        return State("failed", (record.error or {}).get("message", ""))
    others = [
        record.identity
        for record in (stored if stored is not None else read_records(run.results))
        if (record.identity["method"]["name"], record.method.get("variant", "")) == (cell.name, cell.variant)
        and record.identity["seed"] == cell.seed
        and record.identity["dataset"]["name"] == run.dataset_name
        and record.recipe_name == run.recipe.name
    ]
    if not others:
        return State("missing")
    nearest = min(others, key=lambda other: len(_differing(other, wanted)))
    return State("stale", _first_differences(nearest, wanted))


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys in which two identities differ."""
    before, after = flatten(old), flatten(new)
    return [k for k in {**before, **after} if before.get(k) != after.get(k)]


def _first_differences(old: Mapping[str, Any], new: Mapping[str, Any], limit: int = 3) -> str:
    """Name the keys in which two identities differ, with both values where they are short."""
    before, after, changed = flatten(old), flatten(new), _differing(old, new)
    words = [
        f"{key} changed" if key.startswith("code.") else f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in changed[:limit]
    ]
    return "; ".join(words) + (f"; and {len(changed) - limit} more" if len(changed) > limit else "")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
