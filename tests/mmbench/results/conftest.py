"""Fixtures: records as somebody else might send them, made of stored ones and changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from mmbench.metrics import scores
from mmbench.records import fingerprint

_STORED = Path(__file__).parents[3] / "benchmarks/results/laptop"


class ForeignRecords:
    """A folder that gets copies of stored records, each changed as a forger or an accident might."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        number: int = 0,
        change: Callable[[dict[str, Any]], object] | None = None,
        recount: Callable[[dict[str, Any]], object] | None = None,
        *,
        keep_id: bool = False,
        rescore: bool = False,
    ) -> Path:
        """Copy a stored record and return the path of the copy.

        Of its matrices those of the labels of its scores are copied; its predictions are not.

        Args:
            number: Its place in the order of the ids.
            change: Changes the content in place.
            recount: Changes the matrices in place.
            keep_id: Whether the id stays, whatever becomes of the identity.
            rescore: Whether the scores are derived again from the matrices, as a careful forger would.
        """
        source = sorted(_STORED.glob("*.json"))[number]
        content = json.loads(source.read_text(encoding="utf-8"))
        stored = load_file(source.with_suffix(".safetensors"))
        matrices = {name: stored[name] for name in content["scenarios"]}
        if recount is not None:
            recount(matrices)
        if change is not None:
            change(content)
        if rescore:
            for name in content["scenarios"]:
                content["scenarios"][name] = asdict(scores(matrices[name].sum(0), content["scored_classes"]))
        if not keep_id:
            content["id"] = fingerprint(content["identity"])
        path = self.folder / f"{content['id']}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        if content["status"] == "done":
            save_file(matrices, path.with_suffix(".safetensors"))
        return path


@pytest.fixture
def foreign(tmp_path):
    """A folder for records of somebody else."""
    return ForeignRecords(tmp_path / "foreign")
