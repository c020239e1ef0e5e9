"""Which records may stand in a ranked table, by what they did and not by what they claim.

A record says of itself whether it is ranked; one from elsewhere may say anything. Its identity makes its id,
so the recipe and the options in it are what the id stands for.
"""

from __future__ import annotations

import json
from functools import cache, lru_cache
from typing import Any

from pydantic import ValidationError

from mmbench.cells import option_defaults
from mmbench.recipe import Recipe, load_recipe, recipe_names
from mmbench.records import Record, fingerprint
from mmbench.registry import entries, find
from mmbench.scenarios.scenario import whole_modality_scenarios

MIXED_CASE = "mixed"
"""The no-peek case of a batch of mixed patterns."""


def why_not_ranked(record: Record) -> str:
    """Return why a record, finished or failed, may not stand in a ranked table; "" if it may.

    The settings in its identity must be those of a ranked recipe that ships with this version, the method's
    options its own defaults or those of its variant (a recipe that sets others is not ranked), the id that of
    the identity, and, where it is finished, the proof of no-peek complete.
    """
    if not record.ranked or not _is_ranked_recipe(json.dumps(record.identity["recipe"], sort_keys=True)):
        return f"recipe {record.recipe_name} is not the ranked one"
    if record.id != fingerprint(record.identity):
        return "the ids of the records are not those of their identities"
    if not _has_plain_options(record):
        return "options of the method are not its own defaults or those of its variant"
    if record.status == "done" and unproved_cases(record):
        return "no-peek was not proved"
    return ""


def unproved_cases(record: Record) -> list[str]:
    """Return the cases in which it was not proved that the method looks at nothing hidden.

    The proof covers every subset of the modalities and a batch of mixed patterns; of one modality there is
    nothing to hide.
    """
    modalities = list(record.identity["dataset"]["modalities"])
    missing = [s.name for s in whole_modality_scenarios(modalities) if not all(s.present)]
    expected = [*missing, MIXED_CASE] if missing else []
    return [case for case in expected if case not in record.no_peek]


@lru_cache(maxsize=1024)
def _is_ranked_recipe(settings: str) -> bool:
    """Whether settings, as JSON, are those of a ranked recipe that ships."""
    words = {"name": "of a record", "description": "", "ranked": False}
    try:
        # Read as a recipe, so that a key that is younger than the record has its default there.
        found = Recipe.model_validate_json(json.dumps(json.loads(settings) | words)).settings()
    except ValidationError:
        return False
    return found in _ranked_settings()


@cache
def _ranked_settings() -> list[dict[str, Any]]:
    """Return the settings of the ranked recipes that ship."""
    return [recipe.settings() for recipe in map(load_recipe, recipe_names()) if recipe.ranked]


def _has_plain_options(record: Record) -> bool:
    """Whether a method has the options that it has where a recipe sets none."""
    method, facts = record.identity["method"], record.method
    known = entries("method").get(method["name"])
    if known is None or known.origin != "mmbench":
        # Nobody's code is imported because a record names it: what the record says must do.
        return not facts.get("set_options")
    return bool(method["options"] == _plain_options(method["name"], facts.get("variant", "")))


@cache
def _plain_options(name: str, variant: str) -> dict[str, Any] | None:
    """Return the options of one of mmbench's own methods or its variant; None if it has no such variant."""
    method_class = find("method", name)
    of_variant = method_class.variant_options(variant) if variant else {}
    if of_variant is None:
        return None
    plain: dict[str, Any] = json.loads(json.dumps(option_defaults(method_class) | dict(of_variant)))
    return plain
