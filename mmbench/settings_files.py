"""Texts of settings that people write, YAML or JSON: read without trusting them, and quoted in few words."""

from __future__ import annotations

import reprlib
from typing import Any

_MOST_VALUES = 100_000
_MOST_LEVELS, _MOST_ITEMS, _MOST_LETTERS = 3, 8, 100
"""Of a value that is quoted."""


class _Strict:
    """Has a YAML loader take only true and false for truth values, and refuse a key that stands twice.

    To YAML 1.1 off, no and n are false, but to people they are words. Of two keys the last would win.
    """

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)  # type: ignore[misc]  # the loader's
        is_word = tag == "tag:yaml.org,2002:bool" and value.lower() not in ("true", "false")
        return "tag:yaml.org,2002:str" if is_word else tag

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key.value, str):
                raise ValueError(f"key {quote(key.value)} stands twice")
            seen.add(key.value if isinstance(key.value, str) else id(key))
        return super().construct_mapping(node, deep)  # type: ignore[misc]  # the loader's


def parse_yaml(text: str, *, strings_only: bool = False) -> Any:
    """Return what a YAML or JSON text holds; of words, only true and false are truth values.

    Args:
        text: One document.
        strings_only: Keep every scalar the string that was written: to YAML 1.1 an unquoted 2_10 is 210.

    Raises:
        ValueError: In one line, if it is no YAML, or holds itself or far more than a person writes.
    """
    import yaml

    try:
        loader = type("Loader", (_Strict, yaml.BaseLoader if strings_only else yaml.SafeLoader), {})
        content = yaml.load(text, Loader=loader)
    # The loader meets values that are none, as !!int x, with any error.
    except Exception as error:
        raise ValueError(
            f"not YAML or JSON: {' '.join(str(error).split()) or type(error).__name__}"
        ) from error
    # Names for parts let a few lines stand for millions of values, or for a list that holds itself.
    waiting, count = [content], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        if count + len(waiting) > _MOST_VALUES:
            raise ValueError(f"it holds more than {_MOST_VALUES} values, or itself")
    return content


def quote(value: Any) -> str:
    """Return a value for a message: one line, cut where it is long."""
    form = reprlib.Repr()
    form.maxlevel, form.maxstring, form.maxother = _MOST_LEVELS, _MOST_LETTERS, _MOST_LETTERS
    form.maxlist = form.maxdict = _MOST_ITEMS
    return form.repr(value)
