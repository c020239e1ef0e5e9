"""Where the files of an ISPRS folder lie, however its archives were unpacked."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from mmbench.datasets._rasters.formats import SUFFIXES

_MAX_DEPTH = 3  # an archive in a folder of its own, unpacked to a doubled folder


@dataclass(frozen=True)
class Source:
    """One kind of file, one a tile.

    Attributes:
        folders: Names or patterns of the folder that holds it, the preferred one first, in any case; the
            empty pattern is the data folder itself. Only the innermost folder counts, so doubled folders do
            not matter.
        name: The file's name with `{tile}` for the tile's id, or `{padded}` where the true name pads it.
        note: What to know when it is missing.
    """

    folders: tuple[str, ...]
    name: str
    note: str = ""

    def path(self, tile_id: str, folder: str | None = None) -> Path:
        """Return the true path of a tile's file relative to the data; None is the preferred folder."""
        return Path(folder or self.folders[0]) / self.name.format(tile=tile_id, padded=_pad(tile_id))

    def describe(self, tile_id: str) -> str:
        """Return file and folders as a person would look for them."""
        folders = " or ".join(folder for folder in self.folders if folder and "*" not in folder)
        return f"{self.path(tile_id).name} (in {folders})"


class FolderIndex:
    """The image files below a folder, searched once."""

    def __init__(self, root: Path) -> None:
        """List the images of `root` and its folders, three levels down; a missing root is an empty one."""
        self._files: dict[str, list[tuple[str, int, Path]]] = {}
        base = len(root.parts)
        # Links are followed since data often live elsewhere; the depth keeps a circle of links finite.
        for folder, children, names in os.walk(root, followlinks=True):
            parts = Path(folder).parts[base:]
            if len(parts) >= _MAX_DEPTH:
                children.clear()
            holder = parts[-1].lower() if parts else ""
            for name in names:
                if name.lower().endswith(SUFFIXES):
                    entry = (holder, len(parts), Path(folder) / name)
                    self._files.setdefault(name.lower(), []).append(entry)

    def find(self, source: Source, tile_id: str) -> Path | None:
        """Return a tile's file from the preferred folder, whether its id is padded with zeros or not."""
        ranked = []
        for spelling in _spellings(tile_id):
            name = source.name.format(tile=spelling, padded=spelling).lower()
            for holder, depth, path in self._files.get(name, ()):
                rank = next((i for i, f in enumerate(source.folders) if fnmatchcase(holder, f.lower())), None)
                if rank is not None:
                    ranked.append((rank, depth, path))
        return min(ranked)[2] if ranked else None


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
