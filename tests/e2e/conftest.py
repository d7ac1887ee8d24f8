"""Targets of the Makefile, and which tests are left out where."""

import os
from pathlib import Path

import pytest

from on_cluster import run


def pytest_collection_modifyitems(config, items):
    """Leave an engine alone that the system, not the lab, looks after: others may have containers in it."""
    if Path("/run/systemd/system").is_dir() or os.geteuid():
        left_out = [item for item in items if item.get_closest_marker("engine")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def make():
    """Run a target of the Makefile."""

    def target(*arguments, check=True, seconds=600):
        return run("make", "--no-print-directory", *arguments, check=check, seconds=seconds)

    return target
