"""What every benchmark may use: lines that stand at the end of the run, where a reader looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbench.allocator import keep_freed_memory

_LINES = pytest.StashKey[list[str]]()


def pytest_addoption(parser):
    parser.addoption("--ratios", type=Path, help="file for what bench_speed.py measured, as JSON")
    parser.addoption("--operators", type=Path, help="file for what bench_operators.py measured, as JSON")
    parser.addoption(
        "--compile-forms",
        action="store_true",
        help="bench_operators.py: hold against torch.compile on a CPU too",
    )


def pytest_configure(config):
    keep_freed_memory()  # as the command line does, for every side alike
    config.stash[_LINES] = []


@pytest.fixture(scope="session")
def said_at_the_end(request):
    """Lines to show after the last benchmark."""
    return request.config.stash[_LINES]


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash[_LINES]:
        terminalreporter.write_line(line)
