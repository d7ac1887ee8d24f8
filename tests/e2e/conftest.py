"""Targets of the Makefile, and which tests are left out where."""

import os
from pathlib import Path

import pytest

from on_cluster import run

# By what each takes: one file is dealt after the other, and at the end nobody should wait for a long one.
LONGEST_FIRST = ("autoscale", "spark", "client", "demo", "brokers", "places", "celery")


def pytest_collection_modifyitems(config, items):
    """Begin with what takes minutes, and leave out what the machine is not the lab's to try on.

    An engine that the system looks after may have others' containers in it; packages are installed by root alone.
    """
    root = os.geteuid() == 0
    unwanted = []
    if Path("/run/systemd/system").is_dir() or not root:
        unwanted.append("engine")
    if not root or not Path("/etc/debian_version").exists():
        unwanted.append("debian")
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in unwanted)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    order = {f"test_{name}.py": position for position, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture
def make():
    """Run a target of the Makefile."""

    def target(*arguments, check=True, seconds=600):
        return run("make", "--no-print-directory", *arguments, check=check, seconds=seconds)

    return target
