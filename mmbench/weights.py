"""Trained weights on disk: safetensors whose header says how to rebuild the method and its input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from mmbench.errors import DataError
from mmbench.recipe import Recipe, explain
from mmbench.registry import find
from mmbench.transforms import ChannelStatistics, Normalizer
from mmbench_baselines.method import Method

_NEXT = "make them with 'mmbench train'"


@dataclass(frozen=True)
class Header:
    """What must be known to use the weights again.

    Attributes:
        method: The registry's key.
        options: The keyword arguments it was built with.
        seed: Of the training.
        recipe: The resolved recipe.
        dataset: The registry's key.
        dataset_options: The constructor's keyword arguments, without the root.
        modalities: Modality -> channels.
        num_classes: K.
        ignore_index: Of the target.
        statistics: Of the training tiles.
    """

    method: str
    options: dict[str, Any]
    seed: int
    recipe: Recipe
    dataset: str
    dataset_options: dict[str, Any]
    modalities: dict[str, int]
    num_classes: int
    ignore_index: int
    statistics: dict[str, ChannelStatistics]

    @property
    def normalizer(self) -> Normalizer:
        """The normalisation the method was trained with."""
        return Normalizer(self.statistics)


def save_weights(path: Path, method: Method, header: Header) -> None:
    """Write a method's state and the header to one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in method.state_dict().items()}
    words = asdict(header) | {"recipe": header.recipe.model_dump(mode="json")}
    save_file(state, path, metadata={"mmbench": json.dumps(words)})


def load_weights(path: Path) -> tuple[Method, Header]:
    """Rebuild a trained method on the CPU.

    Raises:
        DataError: If the file is missing, damaged, not written by `save_weights`, or of another architecture.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            metadata: Mapping[str, str] = stream.metadata() or {}
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"weights {path}: cannot be read ({error}); {_NEXT}") from error
    try:
        header = TypeAdapter(Header).validate_json(metadata.get("mmbench", "{}"))
    except ValidationError as error:
        raise DataError(f"weights {path}: header: {explain(error)}; {_NEXT}") from error
    method = find("method", header.method)(
        header.modalities, header.num_classes, ignore_index=header.ignore_index, **header.options
    )
    try:
        method.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise DataError(f"weights {path}: do not fit {header.method!r} as it is now: {first}") from error
    return method, header
