"""Whether what a raster dataset declares fits together; checked when it is opened, refused in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mmbench.datasets._dataset import Split
from mmbench.datasets._rasters.folders import Source
from mmbench.datasets._rasters.layers import Layer, is_index, is_number
from mmbench.errors import InvalidRecipeError
from mmbench.settings_files import quote

if TYPE_CHECKING:
    from mmbench.datasets._rasters.dataset import RasterDataset

_MOST_MODALITIES = 4
_MOST_CLASSES = 254
_NEEDED = ("classes", "palette", "scored_classes", "gsd_m", "splits", "sources", "layers")


def check_declarations(dataset: RasterDataset) -> None:
    """Refuse a dataset whose class attributes do not fit together.

    What a `Layer`, a `Source` or a `Split` can see of itself, it refuses when it is made.

    Args:
        dataset: The instance, whose attributes may differ from its class's.

    Raises:
        InvalidRecipeError: Naming dataset, class and attribute, what was found and what was expected.
    """
    for attribute in _NEEDED:
        if not hasattr(dataset, attribute):
            _refuse(dataset, attribute, "is missing")
    if not is_number(dataset.gsd_m) or dataset.gsd_m <= 0:
        _refuse(dataset, "gsd_m", f"is {quote(dataset.gsd_m)}; expected metres per pixel, above 0")
    _check_classes(dataset)
    _check_colours(dataset)
    _check_mapping(dataset, "splits", Split)
    _check_mapping(dataset, "sources", Source)
    if "full" not in dataset.sources:
        _refuse(
            dataset, "sources", f"are {', '.join(dataset.sources)}; expected the labels, `full`, among them"
        )
    _check_layers(dataset)


def choose_modalities(dataset: RasterDataset, given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the modalities that were asked for, in that order; None is all.

    Raises:
        InvalidRecipeError: If they are no list of declared ones, or more than can be run.
    """
    chosen = list(dataset.layers) if given is None else given
    is_list = isinstance(chosen, (list, tuple)) and all(isinstance(key, str) for key in chosen)
    if not is_list or not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(dataset.layers):
        raise InvalidRecipeError(
            f"dataset {dataset.name!r}: modalities are {quote(chosen)}; "
            f"expected some of {list(dataset.layers)}, each once, as a list"
        )
    if len(chosen) > _MOST_MODALITIES:
        raise InvalidRecipeError(
            f"dataset {dataset.name!r}: modalities are {quote(chosen)}; expected 1 to {_MOST_MODALITIES}. "
            "Choose with the option modalities"
        )
    return tuple(chosen)


def refuse_shared_files(dataset: RasterDataset) -> None:
    """Refuse two tiles that are read from one file: one may be for training, the other for the test.

    Raises:
        InvalidRecipeError: Naming both tiles and the file.
    """
    owners: dict[tuple[str, Path], str] = {}
    for file in dataset.files():
        if file.path is None:
            continue
        owner = owners.setdefault((file.kind, file.path), file.tile_id)
        if owner != file.tile_id:
            raise InvalidRecipeError(
                f"dataset {dataset.name!r}: tiles {quote(owner)} and {quote(file.tile_id)} are both read "
                f"from {file.path}; expected a file for each. Correct the split or the files' names"
            )


def _refuse(dataset: RasterDataset, attribute: str, words: str) -> NoReturn:
    raise InvalidRecipeError(f"dataset {dataset.name!r}, class {type(dataset).__name__}: {attribute} {words}")


def _check_classes(dataset: RasterDataset) -> None:
    """Refuse classes that are no names, and scored or ignored ones that do not fit them."""
    classes, scored, ignored = dataset.classes, dataset.scored_classes, dataset.ignore_index
    is_tuple = isinstance(classes, (tuple, list)) and all(isinstance(name, str) for name in classes)
    if not is_tuple or not 1 <= len(classes) <= _MOST_CLASSES:
        _refuse(dataset, "classes", f"is {quote(classes)}; expected a tuple of 1 to {_MOST_CLASSES} names")
    _refuse_repeated(dataset, "classes", classes)
    if not isinstance(scored, (tuple, list)) or not scored or not all(map(is_index, scored)):
        _refuse(dataset, "scored_classes", f"is {quote(scored)}; expected a tuple of class indices, from 0")
    if max(scored) >= len(classes):
        _refuse(
            dataset, "scored_classes", f"is {quote(scored)}; expected indices from 0 to {len(classes) - 1}"
        )
    _refuse_repeated(dataset, "scored_classes", scored)
    if not is_index(ignored) or not len(classes) <= ignored <= 255:
        _refuse(
            dataset,
            "ignore_index",
            f"is {quote(ignored)}; expected {len(classes)} to 255, beyond the classes",
        )


def _check_colours(dataset: RasterDataset) -> None:
    """Refuse a palette that does not give every class a colour of its own."""
    palette, classes = dataset.palette, dataset.classes
    if not isinstance(palette, (tuple, list)) or len(palette) != len(classes):
        _refuse(
            dataset,
            "palette",
            f"is {quote(palette)}; expected one (red, green, blue) for each of the {len(classes)} classes",
        )
    known_labels = isinstance(dataset.ignored_colours, Mapping) and set(dataset.ignored_colours) <= {
        "full",
        "eroded",
    }
    if not known_labels:
        _refuse(
            dataset,
            "ignored_colours",
            f"is {quote(dataset.ignored_colours)}; expected a mapping from 'full' or 'eroded' to colours",
        )
    ignored = [colour for colours in dataset.ignored_colours.values() for colour in colours]
    for attribute, colours in (("palette", list(palette)), ("ignored_colours", ignored)):
        for colour in colours:
            if not _is_colour(colour):
                _refuse(
                    dataset, attribute, f"holds {quote(colour)}; expected (red, green, blue), each 0 to 255"
                )
    _refuse_repeated(dataset, "palette", palette)
    if common := [colour for colour in palette if colour in ignored]:
        _refuse(dataset, "ignored_colours", f"holds {common[0]}, the colour of a class; expected others")


def _is_colour(colour: Any) -> bool:
    is_triple = isinstance(colour, tuple) and len(colour) == 3
    return is_triple and all(is_index(value) and value <= 255 for value in colour)


def _check_mapping(dataset: RasterDataset, attribute: str, kind: type[Any]) -> None:
    """Refuse an attribute that does not map names to things of a kind."""
    value = getattr(dataset, attribute)
    if not isinstance(value, Mapping) or not value:
        _refuse(dataset, attribute, f"is {quote(value)}; expected a mapping from names to {kind.__name__}")
    for name, held in value.items():
        if not isinstance(name, str) or not isinstance(held, kind):
            _refuse(
                dataset,
                f"{attribute}[{name!r}]",
                f"is a {type(held).__name__}; expected a {kind.__name__} under a name",
            )


def _check_layers(dataset: RasterDataset) -> None:
    """Refuse layers that are no tuples, or that read sources which are not declared."""
    if not isinstance(dataset.layers, Mapping) or not dataset.layers:
        _refuse(
            dataset, "layers", f"is {quote(dataset.layers)}; expected a mapping from modalities to tuples"
        )
    for key, ways in dataset.layers.items():
        where = f"layers[{key!r}]"
        if not isinstance(ways, tuple) or not ways or not all(isinstance(way, Layer) for way in ways):
            _refuse(dataset, where, f"is a {type(ways).__name__}; expected a tuple of Layer, as (Layer(…),)")
        for name in (name for way in ways for name in way.sources):
            if name not in dataset.sources:
                known = ", ".join(dataset.sources)
                _refuse(dataset, where, f"reads the unknown source {name!r}; expected one of {known}")
        if len({len(way.bands) for way in ways}) > 1:
            _refuse(dataset, where, "has ways of unequal channels; expected the same number in each")


def _refuse_repeated(dataset: RasterDataset, attribute: str, values: Any) -> None:
    repeated = [value for value, times in Counter(values).items() if times > 1]
    if repeated:
        _refuse(dataset, attribute, f"holds {quote(repeated[0])} twice; expected each once")
