"""What the end-to-end tests share: kubectl on the cluster of `make cluster-up`, and a namespace each."""

import json
import os
import re
import subprocess
import time
import uuid
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
CONTEXT = "kind-trireme"


def run(*command, stdin=None, check=True, seconds=300):
    """Run a command; a failure shows all that it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=TOP,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, namespace):
        self.namespace = namespace

    def __call__(self, *arguments, stdin=None, check=True, seconds=300):
        command = ("kubectl", f"--context={CONTEXT}", f"--namespace={self.namespace}", *arguments)
        return run(*command, stdin=stdin, check=check, seconds=seconds).stdout

    def apply(self, *objects):
        self("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, *arguments):
        return json.loads(self("get", *arguments, "--output=json"))

    def wait(self, what, condition, seconds=120):
        self("wait", what, f"--for={condition}", f"--timeout={seconds}s", seconds=seconds + 10)


def until(question, seconds=60):
    """Ask until the answer is true, and return it; the last answer is in the failure."""
    deadline = time.monotonic() + seconds
    pause = 0.2
    while not (found := question()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {found!r} after {seconds} s")
        subprocess.run(["sleep", str(pause)], check=True)
    return found


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


@pytest.fixture
def kubectl(request):
    """Lend kubectl in a namespace of the test's own, gone after it."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    kubectl = Kubectl(f"{name}-{uuid.uuid4().hex[:6]}")
    kubectl("create", "namespace", kubectl.namespace)
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
