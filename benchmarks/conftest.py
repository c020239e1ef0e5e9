"""What every benchmark may use: lines that stand at the end of the run, where a reader looks."""

from __future__ import annotations

import pytest

_LINES = pytest.StashKey[list[str]]()


def pytest_configure(config):
    config.stash[_LINES] = []


@pytest.fixture(scope="session")
def said_at_the_end(request):
    """Lines to show after the last benchmark."""
    return request.config.stash[_LINES]


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash[_LINES]:
        terminalreporter.write_line(line)
