"""`mmbench compare A B`: by how much two methods differ, how sure that is, on which classes and where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmbench.cli import _options as options
from mmbench.cli import _scoring as shared
from mmbench.cli.data._json import STANDARD_OUTPUT, JsonTarget, write_json
from mmbench.errors import DataError, InvalidRecipeError

if TYPE_CHECKING:
    from mmbench.reporting.comparison import Comparison
    from mmbench.reporting.comparison_tables import Windows
    from mmbench.reporting.disagreement import RecordPair
    from mmbench.reporting.leaderboard import Leaderboard
    from mmbench.reporting.selection import Selection

_ROW = "A row of the report: a method's name, with the options behind it where it has several rows."
_FIGURE = (
    "Draw the tiles that separate them most, and who is right where they differ: a .png, .pdf or .svg file."
)


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help=_ROW)],
    second: Annotated[str, typer.Argument(metavar="B", help=_ROW)],
    results: options.Results = Path("results"),
    metric: shared.MetricName = "miou",
    scenario: shared.ScenarioName = "mean",
    labels: shared.LabelPolicy = None,
    dataset: shared.OnlyDataset = None,
    recipe: shared.OnlyRecipe = None,
    json: JsonTarget = None,
    figure: Annotated[Path | None, typer.Option("--figure", help=_FIGURE)] = None,
    root: options.Root = None,
    split_file: options.SplitFile = None,
) -> None:
    """Hold two methods against each other, from stored records; runs nothing.

    --root and --split-file say where the data lie, for the images and the truth in the figure.
    """
    shared.check_scoring(metric, labels)
    _check_figure(figure, root, split_file)
    from mmbench.reporting.comparison import compare as hold_against
    from mmbench.reporting.comparison_tables import comparison_json, comparison_tables, verdict
    from mmbench.reporting.selection import check_column, find_pair, select
    from mmbench.reporting.tables import console_text

    selection = select(results, metric, labels, dataset, recipe)  # type: ignore[arg-type]
    board, one, other = find_pair(selection, first, second)
    matrices = selection.matrices([one, other])
    check_column(matrices.columns, scenario)
    found = hold_against(matrices, one.label, other.label, board.metric, scenario)
    pairs = selection.record_pairs(one, other)
    if figure is not None:
        _draw(figure, selection, board, found, pairs, root, split_file)
    windows = _compare_predictions(results, pairs)
    if json is not None:
        write_json(comparison_json(board, found, windows), json)
    if json != STANDARD_OUTPUT:
        parts = [verdict(found), *map(console_text, comparison_tables(board, found, windows))]
        typer.echo("\n\n".join(parts))


def _check_figure(figure: Path | None, root: Path | None, split_file: Path | None) -> None:
    """Refuse, before anything is computed, a file that cannot be drawn, and data that nobody would look at.

    Raises:
        InvalidRecipeError: Saying what was expected.
    """
    if figure is None:
        if root is not None or split_file is not None:
            raise InvalidRecipeError(
                "--root and --split-file are for the pictures of --figure; expected them with it"
            )
        return
    from mmbench.profiling.figure_style import FIGURE_FORMATS

    if figure.suffix.lower() not in FIGURE_FORMATS:
        known = ", ".join(FIGURE_FORMATS)
        raise InvalidRecipeError(f"--figure {figure}: expected a name that ends with {known}")


def _draw(
    figure: Path,
    selection: Selection,
    board: Leaderboard,
    found: Comparison,
    pairs: list[RecordPair],
    root: Path | None,
    split_file: Path | None,
) -> None:
    """Write the figure of a comparison."""
    from mmbench.profiling.figure_style import save_figure
    from mmbench.reporting.data_places import DataPlace
    from mmbench.reporting.figures.compared import draw_compared

    place = DataPlace(root, split_file)
    save_figure(draw_compared(selection.results, board, found, pairs, place), figure)
    typer.echo(f"wrote {figure}", err=True)


def _compare_predictions(results: Path, pairs: list[RecordPair]) -> Windows:
    """Return on how many pixels the predictions differ, or why that is not known."""
    from mmbench.reporting.disagreement import find_disagreement

    try:
        return find_disagreement(results, pairs)
    except DataError as error:
        return str(error)
