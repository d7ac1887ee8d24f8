"""The operator of the cluster steps aside, so that a test's own is alone with the real API server.

Tests may run side by side (pytest-xdist), each in its namespace: whoever begins stops the operator, and it is started
again when all have ended.
"""

import subprocess
import sys
from contextlib import contextmanager

import pytest

from on_cluster import CONTEXT, TOP, Kubectl, run, until

SYSTEM = Kubectl("trireme-system")
OPERATOR = "deployment/trireme-operator"


def pytest_collection_modifyitems(items):
    """Begin with what takes minutes, so that at the end nobody waits for it alone."""
    items.sort(key=lambda item: item.path.name != "test_crash.py")


def pytest_sessionfinish(session):
    """Start the cluster's operator again, in the process that waits for those that run the tests side by side."""
    if session.config.getoption("numprocesses", None) and not hasattr(session.config, "workerinput"):
        start_the_operator()


def start_the_operator():
    SYSTEM("scale", OPERATOR, "--replicas=1")
    SYSTEM.wait(OPERATOR, "condition=Available")


@pytest.fixture(scope="session", autouse=True)
def only_the_tests_operator(tmp_path_factory, request):
    """Stop the cluster's own operator, and lend a kubeconfig whose current context is the cluster's."""
    SYSTEM("scale", OPERATOR, "--replicas=0")
    until(lambda: not SYSTEM("get", "pods", "--output=name").strip())
    config = tmp_path_factory.mktemp("kube") / "config"
    config.write_text(run("kubectl", "config", "view", f"--context={CONTEXT}", "--minify", "--flatten", "--raw").stdout)
    patch = pytest.MonkeyPatch()
    patch.setenv("KUBECONFIG", str(config))
    yield
    patch.undo()
    if not hasattr(request.config, "workerinput"):
        start_the_operator()


@pytest.fixture
def operators(kubectl, tmp_path):
    """Start operators as processes that look after the test's namespace; those that still run are ended after it."""
    started = []

    def start(*flags):
        log = (tmp_path / f"operator-{len(started)}.log").open("wb")
        command = (
            *(sys.executable, "-m", "trireme_operator", f"--charts={TOP / 'charts'}", "--port=0"),
            *(f"--namespace={kubectl.namespace}", f"--own-namespace={kubectl.namespace}", *flags),
        )
        process = subprocess.Popen(command, stdout=log, stderr=log)
        started.append((process, log))
        return process

    yield start
    for process, log in started:
        process.terminate()
        process.wait(30)
        log.close()


@pytest.fixture
def operator(operators):
    """Run one operator for the length of the test."""
    return operators("--no-leader-election")


@pytest.fixture
def operated(operators):
    """Run one operator for the length of a with block."""

    @contextmanager
    def running():
        process = operators("--no-leader-election")
        yield
        process.terminate()
        process.wait(30)

    return running
