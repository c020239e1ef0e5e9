"""The command line: one module a verb, heavy imports inside the verb.

Exit codes: 0 ok; 1 internal error; 2 usage or invalid recipe; 3 unknown name; 4 data missing or wrong;
5 finished with failed cells; 6 a method broke the protocol; 7 environment; 130 interrupted.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from mmbench._version import __version__
from mmbench.allocator import keep_freed_memory
from mmbench.cli import (
    compare,
    data,
    doctor,
    evaluate,
    info,
    listing,
    plan,
    power,
    profile,
    report,
    results,
    run,
    train,
)
from mmbench.errors import MMBenchError

_INTERRUPTED = 130
_INTERRUPTED_WORDS = {
    "run": "; finished cells are kept: run the same command to go on",
    "data prepare": "; what is prepared is kept: run the same command to go on",
    "data synth": "; nothing was written",
    "results merge": "; what is copied is kept: run the same command to go on",
}
"""What is left of a verb's work; of the others there is nothing to go on with."""

app = typer.Typer(
    name="mmbench",
    help="Benchmark of multimodal semantic segmentation when a modality is missing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("list")(listing.list_names)
app.command("info")(info.show)
app.add_typer(data.app, name="data")
app.command("plan")(plan.plan)
app.command("run")(run.run)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("profile")(profile.profile)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)
app.command("compare")(compare.compare)
app.command("power")(power.power)
app.add_typer(results.app, name="results")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    """Hold the options before the verb."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: Without the program's name; None takes those of the process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    keep_freed_memory()  # once, for every method of every verb alike
    logging.getLogger("tifffile").disabled = True  # what is wrong with a file is said in our own one line
    try:
        result = app(arguments, prog_name="mmbench", standalone_mode=False)
    except MMBenchError as error:
        return _fail(str(error), error.exit_code, debug)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(_interruption(arguments), _INTERRUPTED, debug)
    except OSError as error:
        words = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        return _fail(f"the system refused a file: {words}. Check the path, its rights and the disk", 7, debug)
    except Exception as error:  # noqa: BLE001  (the last place to turn an error into a line and a code)
        if type(error).__name__ == "NoArgsIsHelpError":  # nothing is wrong, something is to be chosen
            typer.echo(error.format_message(), err=True)  # type: ignore[attr-defined]
            return error.exit_code  # type: ignore[attr-defined, no-any-return]
        if _is_usage_error(error):
            return _fail(error.format_message(), error.exit_code, debug)  # type: ignore[attr-defined]
        words = " ".join(str(error).split())
        return _fail(f"internal: {type(error).__name__}: {words}. Run again with --debug", 1, debug)
    if result == _INTERRUPTED:  # the option parser may turn the interruption into a code of its own
        return _fail(_interruption(arguments), _INTERRUPTED, debug)
    return result if isinstance(result, int) else 0


def _interruption(arguments: Sequence[str]) -> str:
    """Say that a verb was interrupted, and what is left of its work."""
    if "--delete" in arguments:
        return "interrupted; run the same command to delete the rest"
    words = [argument for argument in arguments if not argument.startswith("-")]
    verb = " ".join(words[:2]) if words[:1] in (["data"], ["results"]) else "".join(words[:1])
    return f"interrupted{_INTERRUPTED_WORDS.get(verb, '')}"


def _is_usage_error(error: Exception) -> bool:
    """Whether this is the option parser's complaint (typer may carry a parser of its own)."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _fail(message: str, code: int, debug: bool) -> int:
    """Print the one line, and the traceback where it was asked for."""
    if debug:
        traceback.print_exc()
    typer.echo(f"error: {message}", err=True)
    return code
