"""Taking out of words what tells who wrote them, and where: paths, names of users and hosts, addresses."""

from __future__ import annotations

import getpass
import platform
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HIDDEN_PATH, HIDDEN_NAME = "<path>", "<name>"

_ABSOLUTE = re.compile(
    r"(?<![\w.<)/\\])(?:file://|~[\w.-]{0,64}[/\\]|[A-Za-z]:[\\/]|\\\\(?=[\w.-])|/(?=[\w.~$@+-]))[^'\"`:;\n]*"
)
"""From a root to the next quote, colon or semicolon: a folder may have spaces and commas in its name, and a
word too many is better hidden than one too few."""
_TOKEN = re.compile(r"[^\s'\"`:;,()\[\]<>]+")
_ENDING = re.compile(r"\.\w{1,12}\.?$")
_MAIL = re.compile(r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)*")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")
_HOME = re.compile(r"(?:/home/|/Users/|[A-Za-z]:\\+Users\\+)([\w.-]{1,64})")
_FEWEST_LETTERS = 2
_MOST_LETTERS = 2000
"""Of a message that is kept; a longer one is cut."""


def scrub(words: str, names: Iterable[str]) -> str:
    """Return words in which paths, mail and network addresses and some names are hidden.

    Args:
        words: A message or a fact about a machine.
        names: Of users and hosts; whole words are hidden, whatever their case.
    """
    words = _ABSOLUTE.sub(HIDDEN_PATH, words[:_MOST_LETTERS])
    words = _TOKEN.sub(_without_path, words)
    for pattern in (_MAIL, _ADDRESS):
        words = pattern.sub(HIDDEN_NAME, words)
    for name in sorted(names, key=len, reverse=True):
        words = _word(name).sub(HIDDEN_NAME, words)
    return words


def names_here() -> set[str]:
    """Return the names of this machine and of whoever is logged in."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = ""
    host = platform.node()
    return _usable({user, Path.home().name, host, host.partition(".")[0]})


def names_in(value: Any) -> set[str]:
    """Return the names of users whose home folders stand in any text of nested mappings and lists."""
    return _usable({name for text in texts(value) for name in _HOME.findall(text)})


def names_left(value: Any, names: Iterable[str]) -> set[str]:
    """Return those of some names that stand as words in any text of nested mappings and lists."""
    left = {name: _word(name) for name in names}
    return {name for text in texts(value) for name, word in left.items() if word.search(text)}


def place_left(value: Any) -> str:
    """Return the first text of nested mappings and lists with an absolute path or a mail address, or ""."""
    return next((text for text in texts(value) if _ABSOLUTE.search(text) or _MAIL.search(text)), "")


def texts(value: Any) -> Iterator[str]:
    """Yield every text of nested mappings and lists, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from texts(key)
            yield from texts(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from texts(child)


def _without_path(token: re.Match[str]) -> str:
    """Return a word, hidden if it is a relative path: 1/2 and irrg/ndsm are none."""
    separators = token[0].count("/") + token[0].count("\\")
    is_path = separators > 1 or (separators == 1 and _ENDING.search(token[0]) is not None)
    return HIDDEN_PATH if is_path else token[0]


def _word(name: str) -> re.Pattern[str]:
    """Return what finds a name as a whole word, also in user_7 and node-3."""
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)


def _usable(names: set[str]) -> set[str]:
    """Leave out what is too short to be told from other words."""
    return {name for name in names if len(name) >= _FEWEST_LETTERS}
