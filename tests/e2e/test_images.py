"""The images reach a registry, from which any other cluster takes them."""

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from on_cluster import run, until

pytestmark = pytest.mark.alone  # the engine, the nodes and the disk are shared

CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: 127.0.0.1:{port}}}
"""


@pytest.fixture
def registry(tmp_path):
    """Run Debian's registry on the loopback interface."""
    if shutil.which("docker-registry") is None:
        run("apt-get", "update")
        run("env", "RUNLEVEL=1", "apt-get", "install", "--yes", "--no-install-recommends", "docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "config.yml"
    config.write_text(CONFIG.format(folder=tmp_path / "data", port=port))
    server = subprocess.Popen(
        ["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield f"127.0.0.1:{port}"
    server.terminate()
    server.wait(30)


def catalog(registry):
    try:
        with urllib.request.urlopen(f"http://{registry}/v2/_catalog") as answer:
            return json.load(answer)["repositories"]
    except urllib.error.URLError:
        return None


@pytest.mark.debian
def test_make_push(make, registry):
    until(lambda: catalog(registry) is not None)
    printed = make("push", f"REGISTRY={registry}/team").stdout
    images = ("celery", "dask", "operator", "rabbitmq", "redis", "spark", "spark-client")
    names = [f"team/trireme/{image}" for image in images]
    assert catalog(registry) == names
    for name in names:
        assert f"{registry}/{name}:dev" in printed
    run("docker", "pull", f"{registry}/team/trireme/redis:dev")
    run("docker", "rmi", f"{registry}/team/trireme/redis:dev")


def test_make_push_without_a_registry(make):
    done = make("push", check=False)
    assert done.returncode
    assert "error: REGISTRY is not set" in done.stderr
