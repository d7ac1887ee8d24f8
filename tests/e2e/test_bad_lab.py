"""What `make cluster-up` can't do it says in one line, and leaves all as it was."""

import pytest

from on_cluster import run

pytestmark = pytest.mark.alone  # the lab itself is tried


def errors(done):
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def test_an_unknown_node_image(make):
    before = run("docker", "ps", "--no-trunc", "--format={{.ID}}", "--filter=name=trireme-").stdout
    done = run("make", "--no-print-directory", "cluster-up", "KIND_NODE_IMAGE=trireme/nowhere:1", check=False)
    assert done.returncode
    (line,) = errors(done)
    assert line.startswith("error: KIND_NODE_IMAGE=trireme/nowhere:1: no such image here, and it can't be pulled: ")
    assert run("docker", "ps", "--no-trunc", "--format={{.ID}}", "--filter=name=trireme-").stdout == before


def test_no_engine_where_it_should_be(tmp_path):
    settings = ("DOCKER_HOST=unix:///nowhere/docker.sock", f"TRIREME_CACHE={tmp_path}")
    done = run("env", *settings, "make", "--no-print-directory", "cluster-up", check=False)
    assert done.returncode
    assert errors(done) == [
        "error: no Docker engine answers at DOCKER_HOST=unix:///nowhere/docker.sock: start it, or unset DOCKER_HOST"
    ]
