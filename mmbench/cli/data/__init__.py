"""`mmbench data …`: what can be done with datasets, one module a verb."""

from __future__ import annotations

import typer

from mmbench.cli.data import check, prepare, stats, synth

app = typer.Typer(help="Work with datasets.", no_args_is_help=True, rich_markup_mode=None)
app.command("check")(check.check)
app.command("prepare")(prepare.prepare)
app.command("stats")(stats.stats)
app.command("synth")(synth.synth)


@app.callback()
def _group() -> None:
    """Keep `data` a group whatever the number of its verbs."""
