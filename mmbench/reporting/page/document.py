"""The whole page: contents, data, style and script put into one file that can load nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

from mmbench._version import __version__
from mmbench.records import Record
from mmbench.reporting.data_places import DEFAULT_PLACE, DataPlace
from mmbench.reporting.escaping import one_line
from mmbench.reporting.html_tables import html_table
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.page.contents import Picture, board_facts, board_pictures, method_facts
from mmbench.reporting.page.numbers import record_data, study_data
from mmbench.reporting.page.studies import Study, find_studies
from mmbench.reporting.page.tiles import tile_data
from mmbench.reporting.regimes import regime_view
from mmbench.reporting.views import leaderboard_table

_SCRIPTS = ("elements.js", "score_table.js", "provenance.js", "tiles.js", "page.js")
"""One after the other; the last begins the work."""


@dataclass(frozen=True)
class _Part:
    """What the template needs of one leaderboard."""

    board: Leaderboard
    title: str
    facts: dict[str, str]
    table: Markup
    pictures: Sequence[Picture]
    no_pictures: str
    refused: dict[str, str]


def page_text(
    results: Path,
    records: Sequence[Record],
    boards: Sequence[Leaderboard],
    command: str,
    place: DataPlace = DEFAULT_PLACE,
) -> str:
    """Return the page of a report.

    Args:
        results: Folder of the records.
        records: Scored under the label policy of the boards.
        boards: All that `leaderboards` makes of these records, in its order.
        command: That reads the same records, for the page to say.
        place: Where the data behind the records lie.

    Raises:
        MMBenchError: If it was said where the data lie, and they are not the recorded ones.
    """
    studies = find_studies(results, records, boards)
    behind = [record for record in records if any(record.id in board.records for board in boards)]
    told = [
        study_data(results, study) | {"tiles": tile_data(results, study.board, records, place)}
        for study in studies
    ]
    data = {"studies": told, "records": {record.id: record_data(record) for record in behind}}
    style, script = _file("page.css"), "\n".join(map(_file, _SCRIPTS))
    return _template().render(
        version=__version__,
        command=command,
        parts=[
            _part(results, records, study, data_of["title"])
            for study, data_of in zip(studies, told, strict=True)
        ],
        methods=list(method_facts(behind)),
        regimes=[Markup(html_table(table)) for table in regime_view(boards) if len(boards) > 1],
        policy=_security_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(embedded_json(data)),
    )


def _part(results: Path, records: Sequence[Record], study: Study, title: str) -> _Part:
    """Return what the template needs of one leaderboard."""
    board = study.board
    pictures, no_pictures = board_pictures(results, board, records)
    table = Markup(html_table(leaderboard_table(board)))  # made of escaped words
    return _Part(board, title, board_facts(board), table, pictures, no_pictures, dict(study.refused))


def embedded_json(data: Any) -> str:
    """Return data as JSON that a `script` element can hold: no word in it can end the element.

    Every text is one line, as in the tables.

    Raises:
        ValueError: If a number is not finite: JSON has no word for it.
    """
    text = json.dumps(_lines(data), allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _lines(data: Any) -> Any:
    """Return data with every text, keys also, in one harmless line."""
    if isinstance(data, str):
        # A picture of megabytes is one line already, and to look at each of its letters takes seconds.
        return data if data.startswith("data:image/") else one_line(data)
    if isinstance(data, dict):
        return {one_line(str(key)): _lines(value) for key, value in data.items()}
    return [_lines(value) for value in data] if isinstance(data, (list, tuple)) else data


def _template() -> Template:
    """Return the template; every text put into it is one line and escaped."""
    environment = Environment(
        loader=DictLoader({"page.html": _file("page.html")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: one_line(value) if type(value) is str else value,
    )
    return environment.get_template("page.html")


def _file(name: str) -> str:
    """Return a file that lies beside this module."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _security_policy(style: str, script: str) -> str:
    """Return what a browser may run and load: this style, this script, pictures within the page, no more."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )
