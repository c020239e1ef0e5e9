"""Which methods and datasets exist: the file's name is the key, the folder is the list.

Plug-ins outside the repository are found by the entry-point groups `mmbench.methods` and `mmbench.datasets`,
each entry naming a module that holds one class; a single file outside is added by its path for this process.
Listing imports nothing: titles are read from the source.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import logging
import sys
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, overload

from mmbench.errors import InvalidRecipeError, MMBenchError, UnknownNameError

if TYPE_CHECKING:
    from mmbench.datasets._dataset import Dataset
    from mmbench_baselines.method import Method

Kind = Literal["method", "dataset"]
VARIANT_MARK = ":"
"""Between a method's name and that of a variant of it, as in mmformer:small."""
_PACKAGES: dict[str, str] = {"method": "mmbench_baselines", "dataset": "mmbench.datasets"}


@dataclass(frozen=True)
class Entry:
    """A method or dataset that was found.

    Attributes:
        name: The key, the file's name.
        module: Dotted name of the module that holds the class.
        file: Its source file; for a package, its `__init__.py`.
        origin: "mmbench", the distribution that brings the plug-in, or the path of a single file.
    """

    name: str
    module: str
    file: Path
    origin: str

    @property
    def title(self) -> str:
        """The class's `title`, read from the source without importing it."""
        return _literal_title(self.file) or ""

    @property
    def sources(self) -> list[Path]:
        """Every source file of this entry: one, or those of its package."""
        return sorted(self.file.parent.rglob("*.py")) if self.file.name == "__init__.py" else [self.file]


def names(kind: Kind) -> list[str]:
    """Return the names of a kind, sorted."""
    return sorted(entries(kind))


@cache
def entries(kind: Kind) -> dict[str, Entry]:
    """Return what is found of a kind, by name; the repository's own come before plug-ins."""
    package = _PACKAGES[kind]
    spec = importlib.util.find_spec(package)
    folders = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    found: dict[str, Entry] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()):
            file = path / "__init__.py" if path.is_dir() else path
            name = path.stem
            if name.startswith("_") or file.suffix != ".py" or not file.is_file():
                continue
            if _literal_title(file) is not None:
                found[name] = Entry(name, f"{package}.{name}", file, "mmbench")
    for point in importlib.metadata.entry_points(group=f"mmbench.{kind}s"):
        try:
            plugin = importlib.util.find_spec(point.module)
        except ModuleNotFoundError:  # an entry point outlives its module when a distribution is half removed
            logging.getLogger("mmbench").warning("plug-in %s: no module %s", point.name, point.module)
            continue
        if plugin is not None and plugin.origin is not None and point.name not in found:
            origin = point.dist.name if point.dist is not None else point.module
            found[point.name] = Entry(point.name, point.module, Path(plugin.origin), origin)
    return found


def add_file(kind: Kind, path: Path) -> str:
    """Add a method or dataset that is one file, for this process.

    Its folder joins the import path, as a script's does, so that reading processes find it too.

    Args:
        kind: What it is.
        path: The file; its name is the key.

    Returns:
        The key.

    Raises:
        UnknownNameError: If there is no such file.
        InvalidRecipeError: If its name is taken or is no module name, or it holds no class with a title.
    """
    if not path.is_file():
        raise UnknownNameError(f"{kind} file", str(path), names(kind), hint="there is no such file")
    file, name = path.resolve(), path.stem
    known = entries(kind)
    if name in known and known[name].file != file:
        raise InvalidRecipeError(f"{kind} file {path}: the name {name!r} is taken; give the file another one")
    try:
        title = _literal_title(file)
    except (SyntaxError, ValueError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        raise InvalidRecipeError(f"{kind} file {path}: is not Python ({words})") from error
    if title is None:
        raise InvalidRecipeError(
            f'{kind} file {path}: holds no class with a literal title = "…"; expected one '
            f"{'Method' if kind == 'method' else 'Dataset'} as CONTRIBUTING.md describes it"
        )
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != file:
        found = "no module name" if spec is None else f"the name of {spec.origin}"
        raise InvalidRecipeError(f"{kind} file {path}: {name!r} is {found}; give the file another one")
    known[name] = Entry(name, name, file, str(path))
    return name


def key(kind: Kind, name_or_file: str) -> str:
    """Return the key of a method or dataset given by name or by the path of its one file; see `add_file`.

    A variant may follow either.
    """
    file, mark, variant = name_or_file.rpartition(f".py{VARIANT_MARK}")
    if mark:
        return f"{add_file(kind, Path(f'{file}.py'))}{VARIANT_MARK}{variant}"
    return add_file(kind, Path(name_or_file)) if name_or_file.endswith(".py") else name_or_file


def entry(kind: Kind, name: str) -> Entry:
    """Return one entry; of a method's variant, `name:variant`, that of the method.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    found = entries(kind)
    if kind == "method":
        name = name.partition(VARIANT_MARK)[0]
    if name not in found:
        raise UnknownNameError(kind, name, found)
    return found[name]


@overload
def find(kind: Literal["method"], name: str) -> type[Method]: ...
@overload
def find(kind: Literal["dataset"], name: str) -> type[Dataset]: ...
def find(kind: Kind, name: str) -> type[Any]:
    """Import and return the class of that name.

    Raises:
        UnknownNameError: If there is none of that name.
        InvalidRecipeError: If a plug-in or a single file breaks when it is imported, or does not hold exactly
            one class with a `title` of its own.
        TypeError: If a module of the repository does not.
    """
    item = entry(kind, name)
    module = _import(kind, item)
    held = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__ and "title" in vars(value)
    ]
    if len(held) != 1:
        words = f"{kind} file {item.file}: holds {len(held)} classes with a title, expected exactly 1"
        raise TypeError(words) if item.origin == "mmbench" else InvalidRecipeError(words)
    return held[0]


def _import(kind: Kind, item: Entry) -> ModuleType:
    """Import an entry's module; an error in somebody's own file is theirs to mend, with the line it is in."""
    try:
        return importlib.import_module(item.module)
    except MMBenchError:
        raise
    # A module may raise anything, as a class body with a wrong Layer does.
    except Exception as error:
        if item.origin == "mmbench":
            raise
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == item.file]
        where = f"{item.file}, line {frames[-1].lineno} in {frames[-1].name}" if frames else str(item.file)
        words = " ".join(str(error).split())
        raise InvalidRecipeError(
            f"{kind} file {where}: cannot be imported ({type(error).__name__}: {words}). Correct it"
        ) from error


@cache
def _literal_title(file: Path) -> str | None:
    """Return the first class-level `title = "…"` of a source file, or None."""
    for node in ast.parse(file.read_text(encoding="utf-8"), filename=str(file)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for statement in node.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="title")], value=ast.Constant(value=str(title))):
                    return title
                case ast.AnnAssign(target=ast.Name(id="title"), value=ast.Constant(value=str(title))):
                    return title
    return None
