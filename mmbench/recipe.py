"""Recipes: how every method of a run is trained and evaluated, in one strict model.

A recipe is one of the shipped YAML files or a user's own. Unknown keys and wrong types are errors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from mmbench.errors import InvalidRecipeError, UnknownNameError
from mmbench.settings_files import parse_yaml, quote
from mmbench_baselines.optim import OptimizerParams, ScheduleParams

_BRANCHES = ("OptimizerParams", "ScheduleParams", "literal['method']", "int")
_FOLDER = Path(__file__).parent / "recipes"
_MOST_WRONG, _MOST_LETTERS = 8, 100
"""Keys that one message names, and letters of one."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SearchRecipe(_Strict):
    """A small search for the learning rate: a short training with each, the best on validation tiles wins."""

    learning_rates: tuple[float, ...] = Field(min_length=2)
    """In the order of the trials; of equal scores the earlier wins."""
    steps: int = Field(ge=1)
    """Optimiser steps of a trial."""

    @field_validator("learning_rates")
    @classmethod
    def _usable(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if min(value) <= 0 or len(set(value)) < len(value):
            raise ValueError("expected different rates, each > 0")
        return value


class TrainingRecipe(_Strict):
    """The budget and how it is spent; the same for every method of a run."""

    steps: int = Field(ge=1)
    """Optimiser steps."""
    batch_size: int = Field(ge=1)
    """Crops a micro-batch."""
    window: int = Field(ge=32)
    """Side of a training crop, pixels."""
    photometric: float = Field(default=0.0, ge=0, le=0.5, allow_inf_nan=False)
    """Strength s of random light on the optical modalities: contrast in 1 ± s, brightness in ± s, after
    normalisation; 0 is none."""
    optimizer: OptimizerParams | Literal["method"]
    """One for all methods, or "method": the one of each method's paper."""
    schedule: ScheduleParams | Literal["method"]
    search: SearchRecipe | None = None
    """How each method's learning rate is chosen, the optimiser's among others, or none."""
    accumulation: int | Literal["method"] = 1
    """Micro-batches an optimiser step."""
    patterns: Literal["protocol", "method"]
    """What training hides: the protocol's uniform subsets, or what each method's paper hides."""
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient of the parameters of each optimiser, or none."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Autocast type; "auto" is bfloat16 on CUDA devices that have it and float32 elsewhere."""
    validations: int = Field(default=1, ge=1)
    """How often the validation tiles are scored, evenly spaced, the last time at the end."""

    @field_validator("accumulation")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("expected at least 1")
        return value

    @field_validator("optimizer")
    @classmethod
    def _usable_optimizer(cls, value: OptimizerParams | str) -> OptimizerParams | str:
        if isinstance(value, OptimizerParams) and (value.lr <= 0 or value.weight_decay < 0):
            raise ValueError("expected lr > 0 and weight_decay >= 0")
        return value

    @field_validator("search")
    @classmethod
    def _searchable(cls, value: SearchRecipe | None, info: ValidationInfo) -> SearchRecipe | None:
        optimizer = info.data.get("optimizer")
        if value is None or optimizer is None:
            return value
        if not isinstance(optimizer, OptimizerParams):
            raise ValueError('expected null with optimizer "method": each method brings its own rate')
        if optimizer.lr not in value.learning_rates:
            # It would have no effect, and whoever set it would not be told.
            raise ValueError(f"expected optimizer.lr, {optimizer.lr:g}, among learning_rates, or null")
        return value

    @field_validator("schedule")
    @classmethod
    def _usable_schedule(cls, value: ScheduleParams | str) -> ScheduleParams | str:
        if isinstance(value, ScheduleParams) and (value.period < 1 or value.warmup < 0 or value.power < 0):
            raise ValueError("expected period >= 1, warmup >= 0 and power >= 0")
        return value


class EvaluationRecipe(_Strict):
    """How tiles are scored."""

    window: int = Field(default=512, ge=32)
    """Side of a window, pixels."""
    overlap: float = Field(default=0.5, ge=0, lt=1)
    batch_size: int = Field(default=1, ge=1)


class Recipe(_Strict):
    """A named way to run the benchmark."""

    name: str
    description: str
    ranked: bool
    """Whether its records may stand in a leaderboard."""
    training: TrainingRecipe
    evaluation: EvaluationRecipe = EvaluationRecipe()
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of single methods, by method name."""

    def settings(self) -> dict[str, Any]:
        """Return what can change a score: everything but the words and other methods' options."""
        return self.model_dump(mode="json", exclude={"name", "description", "ranked", "methods"})


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_recipe(name_or_file: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a shipped recipe by name or a user's by path, and apply `key=value` overrides.

    Args:
        name_or_file: "smoke", "default", … or the path of a YAML file.
        overrides: As "training.steps=100"; values are YAML. A recipe so changed is not ranked.

    Raises:
        UnknownNameError: If there is no such recipe.
        InvalidRecipeError: Naming the key, what came and what was expected.
    """
    path = Path(name_or_file)
    if path.suffix not in (".yaml", ".yml"):
        if name_or_file not in recipe_names():
            raise UnknownNameError(
                "recipe", name_or_file, recipe_names(), hint="or give the path of a .yaml file"
            )
        path = _FOLDER / f"{name_or_file}.yaml"
    elif not path.is_file():
        raise UnknownNameError("recipe", name_or_file, recipe_names(), hint="there is no such file")
    content = _read_mapping(path)
    for override in overrides:
        _override(content, override)
    if overrides:
        content |= {"name": f"{content.get('name')} (changed)", "ranked": False}
    elif path.parent != _FOLDER:
        # Only what ships is ranked, and a copy of it must not pass for it.
        own = str(content.get("name"))
        content |= {"name": f"{own} ({path.name})" if own in recipe_names() else own, "ranked": False}
    _require_finite(content, name_or_file)
    try:
        # By way of JSON, where strict means that a number is a number, but a list may fill a tuple.
        return Recipe.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise InvalidRecipeError(f"recipe {name_or_file}: {explain(error)}") from error
    except (TypeError, ValueError) as error:  # a date as a key, a number of thousands of digits
        raise InvalidRecipeError(f"recipe {name_or_file}: {error}; expected words and numbers") from error


def _require_finite(value: Any, recipe: str, keys: tuple[str, ...] = ()) -> None:
    """Refuse .nan and .inf: no key of a recipe has a use for them, and comparisons let NaN pass."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRecipeError(f"recipe {recipe}: {_place(keys)} is {value}; expected a finite number")
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        _require_finite(child, recipe, (*keys, str(key)))


def _place(keys: Iterable[str]) -> str:
    """Return the dotted name of a key, quoted where it could not be printed."""
    where = ".".join(keys)
    return where if where.isprintable() and len(where) <= _MOST_LETTERS else quote(where)


def _read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML mapping."""
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRecipeError(f"recipe {path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InvalidRecipeError(f"recipe {path}: holds {type(content).__name__}, expected a mapping of keys")
    return content


def _override(content: dict[str, Any], override: str) -> None:
    """Set one dotted key of the recipe in place."""
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise InvalidRecipeError(f"override {override!r}: expected key=value, as in training.steps=100")
    try:
        parsed = parse_yaml(value)
    except ValueError as error:
        raise InvalidRecipeError(f"override {quote(override)}: the value is {error}") from error
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise InvalidRecipeError(f"override {override!r}: {parent!r} is not a group of keys")
    content[last] = parsed


def explain(error: ValidationError) -> str:
    """Say in one line which keys are wrong, what came and what was expected."""
    lines = []
    for detail in error.errors():
        # A union adds the branch it tried to the location; to a reader only the keys matter.
        keys = [str(part) for part in detail["loc"] if str(part) not in _BRANCHES]
        where = _place(keys)
        if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            lines.append(f"unknown key {where!r}")
        elif detail["type"] == "missing":
            lines.append(f"key {where!r} is missing")
        else:
            lines.append(f"{where} is {quote(detail['input'])}: {detail['msg']}")
    first = list(dict.fromkeys(lines))[:_MOST_WRONG]
    more = len(set(lines)) - len(first)
    return "; ".join(first) + (f"; and {more} more" if more else "")
