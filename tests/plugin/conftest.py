"""Keeps this distribution out of the tests of the repository that holds it."""

from pathlib import Path


def pytest_ignore_collect(config):
    return None if config.rootpath == Path(__file__).parent else True
