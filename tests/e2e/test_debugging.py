"""docs/debugging.md as it stands: each manifest is applied, each command prints what is written there."""

import pytest
from reader import Reader

from on_cluster import Kubectl
from pages import every

BLOCKS = every("docs/debugging.md")
TITLES = list(dict.fromkeys(block.heading for block in BLOCKS))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """All of them at once, in one namespace: most of the time is that which they take to fail."""
    kubectl = Kubectl("debugging-test")
    kubectl("delete", "namespace", kubectl.namespace, "--ignore-not-found")
    kubectl("create", "namespace", kubectl.namespace)
    for block in BLOCKS:
        if block.language == "yaml":
            kubectl("apply", "--filename=-", stdin=block.text)
    # What takes longest to begin with; how long it takes to fail is written there.
    for name in ("hungry", "doubles"):
        kubectl.wait(f"wj/{name}", "jsonpath={.status.startTime}", seconds=180)
    yield Reader(tmp_path_factory.mktemp("debugging"), kubectl)
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.mark.parametrize("title", TITLES)
def test_it_goes_as_written(reader, title):
    consoles = [block.text for block in BLOCKS if block.heading == title and block.language == "console"]
    assert consoles
    for console in consoles:
        reader.follows(console)
