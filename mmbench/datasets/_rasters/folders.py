"""Where the files of a data folder lie, however its archives were unpacked."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from string import Formatter

from mmbench.datasets._rasters.formats import SUFFIXES
from mmbench.settings_files import quote

_MAX_DEPTH = 5  # an archive in a folder of its own, unpacked to a doubled folder, and some way down


@dataclass(frozen=True)
class Source:
    """One kind of file, one a tile.

    Attributes:
        folders: Names or patterns of the folder that holds it, the preferred one first, in any case; the
            empty pattern is the data folder itself. Only the innermost folder counts, so doubled folders do
            not matter, up to five levels below the data folder.
        name: The file's name with `{tile}` for the tile's id, or `{padded}` where the true name pads it.
        note: What to know when it is missing.
    """

    folders: tuple[str, ...]
    name: str
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse what finds no file or one for all tiles.

        Raises:
            ValueError: Naming the attribute that is wrong.
        """
        folders = self.folders
        if not isinstance(folders, tuple) or not folders or not all(isinstance(f, str) for f in folders):
            raise ValueError(
                f"source has folders {quote(folders)}; expected a tuple of names, as ('images',)"
            )
        if any("/" in folder or "\\" in folder for folder in folders):
            raise ValueError(
                f"source has folders {quote(folders)}; expected names, not paths: the innermost one"
            )
        expected = "expected a file name with {tile} or, for a padded id, {padded}, as '{tile}.tif'"
        try:
            fields = {field for _, field, _, _ in Formatter().parse(self.name) if field is not None}
        except (TypeError, ValueError) as error:
            raise ValueError(f"source has name {quote(self.name)}; {expected}") from error
        if not fields or not fields <= {"tile", "padded"} or "/" in self.name:
            raise ValueError(f"source has name {quote(self.name)}; {expected}")
        if not self.name.lower().endswith(SUFFIXES):
            raise ValueError(
                f"source has name {quote(self.name)}; expected it to end in {', '.join(SUFFIXES)}"
            )

    def path(self, tile_id: str, folder: str | None = None) -> Path:
        """Return the true path of a tile's file relative to the data; None is the preferred folder."""
        return Path(folder or self.folders[0]) / self.name.format(tile=tile_id, padded=_pad(tile_id))

    def describe(self, tile_id: str) -> str:
        """Return file and folders as a person would look for them."""
        folders = " or ".join(folder for folder in self.folders if folder and "*" not in folder)
        return f"{self.path(tile_id).name} (in {folders or 'the data folder'})"


class FolderIndex:
    """The image files below a folder, searched once."""

    def __init__(self, root: Path, *, padded_ids: bool = False) -> None:
        """List the images of `root` and its folders, five levels down; a missing root is an empty one.

        Args:
            root: The data folder.
            padded_ids: Whether ids are numbers that a name may pad with zeros, `2_7` as `02_07`; else each
                spelling is a tile of its own.
        """
        self.padded_ids = padded_ids
        self._found: dict[tuple[Source, str], Path | None] = {}
        self.unreadable: dict[Path, str] = {}
        """Folders that could not be listed, and what the system said."""
        self._files: dict[str, list[tuple[str, int, Path, bool]]] = {}
        base = len(root.parts)

        def remember(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                self.unreadable[Path(error.filename)] = error.strerror or type(error).__name__

        # Links are followed since data often live elsewhere; the depth keeps a circle of links finite.
        for folder, children, names in os.walk(root, followlinks=True, onerror=remember):
            parts = Path(folder).parts[base:]
            holder = parts[-1].lower() if parts else ""
            # A folder that is named like a file is kept too: it is refused by its name, not called missing.
            for name, is_folder in (*((n, False) for n in names), *((n, True) for n in children)):
                if name.lower().endswith(SUFFIXES):
                    entry = (holder, len(parts), Path(folder) / name, is_folder)
                    self._files.setdefault(name.lower(), []).append(entry)
            if len(parts) >= _MAX_DEPTH:
                children.clear()

    def find(self, source: Source, tile_id: str) -> Path | None:
        """Return a tile's file, or None.

        The exact name comes before the same name in other case, and then the preferred folder decides. Where
        ids may be padded the folder decides first: its copies may differ, and no two tiles share a name.
        """
        key = (source, tile_id)
        if key not in self._found:  # every window of a tile asks for its files several times
            self._found[key] = self._search(source, tile_id)
        return self._found[key]

    def _search(self, source: Source, tile_id: str) -> Path | None:
        names = [source.path(tile_id).name]
        if self.padded_ids:
            names += [source.name.format(tile=s, padded=s) for s in _spellings(tile_id)]
        ranked = []
        for spelling, name in enumerate(dict.fromkeys(names)):
            for holder, depth, path, is_folder in self._files.get(name.lower(), ()):
                rank = next((i for i, f in enumerate(source.folders) if fnmatchcase(holder, f.lower())), None)
                if rank is not None:
                    exact = (spelling, path.name != name)
                    order = (rank, *exact) if self.padded_ids else (*exact, rank)
                    ranked.append((is_folder, *order, depth, path))
        return min(ranked)[-1] if ranked else None


def data_root(name: str) -> Path:
    """Return where a dataset lies when no root is given.

    That is `<name>` in the folder that the environment variable MMBENCH_DATA names or, where it is not set,
    in the user's data folder of this system.
    """
    import platformdirs

    return Path(os.environ.get("MMBENCH_DATA") or platformdirs.user_data_dir("mmbench")) / name


def plain_id(tile_id: str) -> str:
    """Return a tile id without padding: `02_07` is `2_7`."""
    return "_".join(part.lstrip("0") or part for part in tile_id.split("_"))


def _pad(tile_id: str) -> str:
    return "_".join(part.zfill(2) for part in tile_id.split("_"))


def _spellings(tile_id: str) -> list[str]:
    """Return the id as it is, then with every mixture of padded and unpadded numbers."""
    parts = [dict.fromkeys((part, part.zfill(2))) for part in plain_id(tile_id).split("_")]
    return list(dict.fromkeys((tile_id, *("_".join(mixture) for mixture in itertools.product(*parts)))))
