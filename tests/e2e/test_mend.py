"""`make cluster-up` mends what broke, without being told what."""

import json
import os
import signal
from pathlib import Path

import pytest

from on_cluster import Kubectl, run, until

pytestmark = pytest.mark.alone  # the lab itself is tried

WORKER = "trireme-worker"
IMAGE = "docker.io/trireme/celery:dev"


def green(make):
    make("cluster-up")
    assert "error" not in make("cluster-status").stdout


def test_what_stands_is_left_alone(make):
    before = run("docker", "ps", "--no-trunc", "--format={{.ID}} {{.Status}}", "--filter=name=trireme-").stdout.split()[
        0
    ]
    green(make)
    assert (
        run("docker", "ps", "--no-trunc", "--format={{.ID}} {{.Status}}", "--filter=name=trireme-").stdout.split()[0]
        == before
    )


@pytest.mark.parametrize("stop", [("stop", "--time=1"), ("kill",)])
def test_a_stopped_node_is_started(make, stop):
    run("docker", *stop, WORKER)
    assert "stopped" in make("cluster-status", check=False).stdout
    green(make)


def test_an_image_missing_on_one_node_is_loaded(make):
    run("docker", "exec", WORKER, "ctr", "--namespace=k8s.io", "images", "rm", "--sync", IMAGE)
    assert "celery" in make("cluster-status", check=False).stdout
    green(make)
    listed = run("docker", "exec", WORKER, "ctr", "--namespace=k8s.io", "images", "list", "--quiet").stdout
    assert IMAGE in listed.split()


def test_a_stale_kubeconfig_is_written_anew(make):
    run("kubectl", "config", "set-cluster", "kind-trireme", "--server=https://127.0.0.1:1")
    green(make)
    run("kubectl", "config", "delete-context", "kind-trireme")
    green(make)
    Kubectl("default")("get", "nodes")


@pytest.mark.parametrize("how", [("delete",), ("scale", "--replicas=0")])
def test_a_missing_operator_is_installed(make, how):
    system = Kubectl("trireme-system")
    system(*how, "deployment", "trireme-operator")
    until(lambda: not [one for one in system.get("deployments")["items"] if one["status"].get("availableReplicas")])
    green(make)


def test_leftovers_of_an_interrupted_build_are_removed(make):
    cache = Path(os.environ.get("TRIREME_CACHE") or Path.home() / ".cache" / "trireme")
    left = cache / "saved-images.partial"
    left.mkdir(exist_ok=True)
    (left / "part").write_text("left")
    green(make)
    assert not left.exists()


@pytest.mark.engine
def test_a_killed_engine_is_started(make):
    os.kill(int(Path("/var/run/docker.pid").read_text()), signal.SIGKILL)
    until(lambda: run("docker", "version", check=False).returncode, seconds=20)
    assert "does not answer" in make("cluster-status", check=False).stdout
    green(make)


def test_a_half_made_cluster_is_made_anew(make):
    """Last, because what stood in the cluster is gone after it."""
    run("docker", "rm", "--force", "--volumes", WORKER)
    assert "half made" in make("cluster-status", check=False).stdout
    green(make)
    names = {
        item["metadata"]["name"] for item in json.loads(Kubectl("default")("get", "nodes", "--output=json"))["items"]
    }
    assert names == {"trireme-control-plane", WORKER}
