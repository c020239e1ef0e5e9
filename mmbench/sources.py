"""What source code says, as a hash: it tells an edited reader, method or loop from the old one.

Comments, docstrings and layout do not count.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import mmbench

_HERE = Path(__file__).parent


def hash_sources(files: Iterable[Path]) -> str:
    """Hash the statements of some files, in the order of their names.

    Args:
        files: Python sources; of a file's path only its name and that of its folder count.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.parent.name}/{file.name}\n{_statements(file)}\n".encode())
    return digest.hexdigest()[:16]


def with_private_imports(files: Iterable[Path]) -> set[Path]:
    """Add the private dataset modules that some files import at their top, and what those import.

    A dataset outside the repository imports them by their public names: `from mmbench import RasterDataset`.
    """
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        found.add(file)
        waiting += [source for source in _private_imports(file) if source not in found]
    return found


@cache
def _private_imports(file: Path) -> tuple[Path, ...]:
    """Return the files of the private dataset modules that a file imports at its top."""
    sources: list[Path] = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        for module in _imported_modules(node):
            if module.startswith("mmbench.datasets._"):
                place = _HERE / "datasets" / module.split(".")[2]
                sources += place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    return tuple(sources)


def _imported_modules(node: ast.stmt) -> list[str]:
    """Return the modules that a statement imports; a public name of mmbench stands for its home."""
    if isinstance(node, ast.ImportFrom) and node.module == "mmbench":
        return [mmbench._HOMES.get(alias.name, "") for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    if isinstance(node, ast.Import) and any(alias.name == "mmbench" for alias in node.names):
        return list(mmbench._HOMES.values())
    return []


@cache
def _statements(file: Path) -> str:
    """Return a file's code without comments and docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)
