"""The option --json of the verbs that report on data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

JsonTarget = Annotated[
    str | None, typer.Option("--json", help="Also write JSON to this file; - prints it and nothing else.")
]
STANDARD_OUTPUT = "-"


def write_json(content: dict[str, Any], target: str) -> None:
    """Write a report to a file, or print it."""
    text = json.dumps(content, indent=2, allow_nan=False)
    if target == STANDARD_OUTPUT:
        typer.echo(text)
        return
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n", encoding="utf-8")
    typer.echo(f"wrote {path}", err=True)
