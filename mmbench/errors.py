"""The errors a user can cause, each with the exit code of the command line.

The library raises them; only the command line turns them into a line and a code (`mmbench.cli`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MMBenchError(Exception):
    """Base of every error that is the user's to mend: one line saying where, what, expected, next step."""

    exit_code = 1


class InvalidRecipeError(MMBenchError):
    """A recipe, an option or a file of settings has a wrong key or value."""

    exit_code = 2


class UnknownNameError(MMBenchError):
    """A name that is not in the registry or in the recipes."""

    exit_code = 3

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "mmbench list") -> None:
        """Build the line, with the nearest known name.

        Args:
            kind: What was asked for, "method", "dataset" or "recipe".
            name: The name that came.
            known: The names that exist.
            hint: The command that lists them.
        """
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1)
        others = f" Known: {', '.join(known)}." if known else " There is none."
        guess = f" Did you mean {near[0]!r}?" if near else others
        super().__init__(f"unknown {kind} {name!r}.{guess} ({hint})")


class DataError(MMBenchError):
    """Data are missing, truncated, of the wrong type or labelled with unknown colours."""

    exit_code = 4


class CellFailedError(MMBenchError):
    """A cell could not be finished; its record says why."""

    exit_code = 5


class ProtocolError(MMBenchError):
    """A method broke the protocol: it looked at hidden content, or returned what is not logits."""

    exit_code = 6


class EnvironmentMissingError(MMBenchError):
    """The machine lacks what was asked for: a GPU, disk space, an extra."""

    exit_code = 7
