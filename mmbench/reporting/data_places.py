"""Where the data behind records lie, for pictures of them: no record holds a path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmbench.errors import InvalidRecipeError
from mmbench.records import Record


@dataclass(frozen=True)
class DataPlace:
    """What was said of where a recorded dataset lies.

    Attributes:
        root: Its folder; None is where it is looked for by default.
        split_file: The file of tiles that the run was given; None where it took a named split.
    """

    root: Path | None = None
    split_file: Path | None = None

    @property
    def is_said(self) -> bool:
        """Whether anything was said: then data that do not fit are an error, not pictures left out."""
        return self.root is not None or self.split_file is not None

    def check_fits(self, records: Sequence[Record]) -> None:
        """Refuse one place for the data of several datasets.

        Raises:
            InvalidRecipeError: Naming them.
        """
        names = sorted({record.identity["dataset"]["name"] for record in records})
        if self.is_said and len(names) > 1:
            raise InvalidRecipeError(
                f"--root and --split-file are of one dataset, the records of {', '.join(map(repr, names))}; "
                "choose one of them with --dataset"
            )


DEFAULT_PLACE = DataPlace()
"""Where nothing was said."""
