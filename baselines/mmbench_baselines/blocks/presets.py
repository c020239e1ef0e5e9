"""Named combinations of the choices in which a method as published differs from the method as meant.

A method declares its choices as a frozen dataclass, one field a choice, and one instance of it a preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Variant = TypeVar("Variant", bound=DataclassInstance)
else:
    Variant = TypeVar("Variant")

Preset = Literal["default", "golden_corrected", "released"]


def resolve_variant(presets: Mapping[str, Variant], preset: str, **choices: Any) -> Variant:
    """Return the preset with the given choices in place of its own; None keeps the preset's.

    Args:
        presets: Name -> choices; every field is a `Literal` or a bool.
        preset: One of the names.
        **choices: Field -> value.

    Raises:
        ValueError: If the preset or a value is unknown.
    """
    if preset not in presets:
        raise ValueError(f"preset is {preset!r}, expected one of {sorted(presets)}")
    variant = replace(
        presets[preset], **{name: value for name, value in choices.items() if value is not None}
    )
    hints = get_type_hints(type(variant))
    for field in fields(variant):
        value, allowed = getattr(variant, field.name), get_args(hints[field.name]) or (False, True)
        if value not in allowed:
            raise ValueError(f"{field.name} is {value!r}, expected one of {list(allowed)}")
    return variant
