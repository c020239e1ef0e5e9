"""What the tables read of a record beyond `Record`'s own fields, which leaves the inner mappings open."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmbench.datasets._dataset import Labels
from mmbench.recipe import explain
from mmbench.records import PROTOCOL_VERSION, Record
from mmbench.settings_files import quote

_MOST_MODALITIES = 8
_MOST = 10**18
"""Of any amount: far beyond what is measured, and sums of such amounts stay numbers."""
_Amount = Annotated[float, Field(ge=0, le=_MOST)]
_Count = Annotated[int, Field(ge=0, le=_MOST)]


class _Part(BaseModel):
    """Strict about what it names, open to what other versions add."""

    model_config = ConfigDict(extra="allow", strict=True)


class _MethodIdentity(_Part):
    name: str
    options: dict[str, Any]


class _Code(_Part):
    method: str
    blocks: str
    operators: str
    loop: str
    dataset: str


class _DatasetIdentity(_Part):
    name: str
    # Of more, the subsets are too many to be scored; a stranger's could be too many to be listed.
    modalities: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=_MOST_MODALITIES)
    split: str


class _Labels(_Part):
    train: Labels
    test: Labels


class _Recipe(_Part):
    training: dict[str, Any]
    evaluation: dict[str, Any]


class _Identity(_Part):
    protocol: int
    method: _MethodIdentity
    code: _Code
    dataset: _DatasetIdentity
    labels: _Labels
    recipe: _Recipe
    precision: str
    seed: _Count


class _MethodFacts(_Part):
    title: str
    variant: str = ""
    set_options: dict[str, Any] = {}
    note: str = ""


class _AnyRecord(_Part):
    identity: _Identity
    method: _MethodFacts
    provenance: dict[str, Any]


class _TrainedMethod(_MethodFacts):
    parameters: _Count
    sees_hidden_in_training: bool


class _Trial(_Part):
    learning_rate: _Amount
    seconds: _Amount
    chosen: bool


class _Training(_Part):
    seconds: _Amount
    trials: list[_Trial] = []


class _Environment(_Part):
    device: str


class _ImputationError(_Part):
    l1: _Amount
    l1_of_mean: _Amount


class _Work(_Part):
    flops: _Count
    bytes: _Count
    launches: _Count


class _Profile(_Part):
    parameters_inference: _Count
    inference: dict[str, _Work]


class _DoneRecord(_AnyRecord):
    method: _TrainedMethod
    training: _Training
    environment: _Environment
    imputation: dict[str, _ImputationError]
    profile: _Profile | None
    error: None


class _Error(_Part):
    kind: Literal["method", "protocol"]
    message: str


class _FailedRecord(_AnyRecord):
    scenarios: dict[str, Any] = Field(max_length=0)
    error: _Error


def schema_problem(record: Record) -> str:
    """Say in one line what a table could not read of a record; "" if there is nothing.

    The protocol must be this version's, and a record either finished or failed, not both.
    """
    content = record.model_dump()
    try:
        (_DoneRecord if record.status == "done" else _FailedRecord).model_validate(content)
    except ValidationError as error:
        return f"{explain(error)}; it was not written by this version"
    if record.identity["protocol"] != PROTOCOL_VERSION:
        return f"is of protocol {record.identity['protocol']}; this version knows {PROTOCOL_VERSION}"
    for words in _shown_names(record):
        if not words.isprintable():
            return f"names {quote(words)}; expected characters that can be printed, on one line"
    classes = range(len(record.classes))
    if not classes or len(set(record.classes)) < len(classes):
        return f"names {len(record.classes)} classes, some twice or none at all; expected different ones"
    scored = record.scored_classes
    if not scored or len(set(scored)) < len(scored) or not set(scored) <= set(classes):
        return f"scored_classes is {scored}; expected different numbers from 0 to {len(classes) - 1}"
    return ""


def _shown_names(record: Record) -> list[str]:
    """Return what figures and tables call a row and its columns."""
    options = record.method.get("set_options", {})
    return [
        record.identity["method"]["name"],
        record.method.get("variant", ""),
        *(f"{key}={value}" for key, value in options.items()),
        *record.identity["dataset"]["modalities"],
        *record.classes,
    ]
