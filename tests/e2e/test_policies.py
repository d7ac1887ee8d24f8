"""Who may connect to whom: every port on which clusters listen, tried from every kind of pod."""

import contextlib
import json

import pytest
import yaml

from on_cluster import Kubectl, namespace, until
from pages import snippets
from traffic import CLUSTERS, GROUPS, JVM, OPERATOR, PROMETHEUS, labels

pytestmark = pytest.mark.alone  # the cluster is another

TASKS = "from celery import Celery\napp = Celery('tasks')\n"
# A driver with a session and an executor, which stays until it is ended.
DRIVER = """
import signal
from pyspark.sql import SparkSession

spark = SparkSession.builder.config("spark.dynamicAllocation.minExecutors", "1").getOrCreate()
print(spark.range(10).count(), flush=True)
signal.pause()
"""
PAGE = "docs/network.md"
TITLES = ("Let others in", "Let nothing out")
# What the page's policy opens to a namespace.
SCIENCE = {("numbers", "scheduler", 8786), ("numbers", "scheduler", 8787)}
# Prints which of the addresses in its argument take a connection.
CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def opens(place):
    try:
        socket.create_connection(place, timeout=2).close()
    except OSError:
        return False
    return True

places = json.loads(sys.argv[1])
with ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(opens, map(tuple, places)))))
"""
_LISTENS = "0A"
_LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")


def listening(table):
    """Return the ports in a pod's /proc/net/tcp and tcp6 on which others could reach it."""
    rows = [line.split() for line in table.splitlines() if not line.lstrip().startswith("sl")]
    places = [row[1].split(":") for row in rows if row[3] == _LISTENS]
    return {int(port, 16) for address, port in places if address not in _LOOPBACK}


def pod(name, own, *command):
    container = {"name": "main", "image": "trireme/test:dev", "command": command or ["sleep", "infinity"]}
    spec = {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": own}, "spec": spec}


def opened(kubectl, source, places):
    """Return which places, (address, port), take a connection from a pod."""
    answer = kubectl("exec", source, "--", "python", "-c", CONNECT, json.dumps(places))
    return {place for place, opens in zip(places, json.loads(answer), strict=True) if opens}


@pytest.fixture
def elsewhere():
    """Lend kubectl in a second namespace."""
    with namespace("elsewhere") as second:
        yield second


@pytest.fixture
def kept(kubectl):
    """Leave the test out where nothing keeps NetworkPolicies."""
    policy = {"podSelector": {"matchLabels": {"closed": "yes"}}, "policyTypes": ["Ingress"]}
    kubectl.apply(
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "closed"}, "spec": policy},
        pod("closed", {"closed": "yes"}, "python", "-m", "http.server", "8000"),
        pod("stranger", {}),
    )
    for name in ("closed", "stranger"):
        kubectl.wait(f"pod/{name}", "condition=Ready")
    address = kubectl.get("pod/closed")["status"]["podIP"]
    listens = ("exec", "closed", "--", "python", "-c", CONNECT, json.dumps([["127.0.0.1", 8000]]))
    until(lambda: "true" in kubectl(*listens))
    try:
        until(lambda: not opened(kubectl, "stranger", [(address, 8000)]), seconds=10)
    except AssertionError:
        pytest.skip("nothing keeps NetworkPolicies here: `make cluster-policies`")


def resource(kind, name, spec):
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def test_each_port_is_open_to_whom_it_is_for_and_to_nobody_else(kubectl, kept, elsewhere):
    """Beside the policies of docs/network.md, of which one lets pods of clusters connect to nothing but themselves."""
    (joining,) = snippets(PAGE, "", "yaml")
    assert yaml.safe_load(joining)["metadata"]["labels"] == labels("numbers")
    kubectl.apply(*(yaml.safe_load(text) for title in TITLES for text in snippets(PAGE, title, "yaml")))
    elsewhere("label", "namespace", elsewhere.namespace, "team=science")
    prometheus = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": elsewhere.namespace}},
        "podSelector": {"matchLabels": {"app": "prometheus"}},
    }
    kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
    for name, spec in CLUSTERS.items():
        values = {**spec.get("values", {}), "metrics": {"from": [prometheus]}}
        kubectl.apply(resource("WorkerCluster", name, {**spec, "values": values}), pod(f"of-{name}", labels(name)))
    kubectl.apply(*(resource("WorkerGroup", name, spec) for name, spec in GROUPS.items()))
    driver = {"clusterRef": {"name": "tables"}, "driver": {"script": DRIVER, "resources": JVM}}
    kubectl.apply(resource("WorkerJob", "driver", driver))
    elsewhere.apply(pod("prometheus", {"app": "prometheus"}), pod("twin", labels("numbers")))
    sources = {
        "stranger": (kubectl, "stranger"),
        "twin": (elsewhere, "twin"),
        "prometheus": (elsewhere, "prometheus"),
        **{f"of-{name}": (kubectl, f"of-{name}") for name in CLUSTERS},
    }
    for where, source in sources.values():
        where.wait(f"pod/{source}", "condition=Ready")
    for name in (*(f"wc/{name}" for name in CLUSTERS), *(f"wg/{name}" for name in GROUPS)):
        kubectl.wait(name, "condition=Ready", seconds=240)
    until(lambda: "10" in kubectl("logs", "--selector=trireme.dev/job=driver", check=False).split(), seconds=240)
    sources["operator"] = (Kubectl("trireme-system"), "deployment/trireme-operator")
    # Monitors and Flower are no part of Ready, and a group with queues of its own rolls what its cluster has.
    for name in kubectl("get", "deployments,statefulsets", "--output=name").split():
        kubectl("rollout", "status", name, "--timeout=240s")
    until(lambda: not [item for item in kubectl.get("pods")["items"] if "deletionTimestamp" in item["metadata"]])
    ports = {}
    for item in kubectl.get("pods", "--selector=app.kubernetes.io/component")["items"]:
        own = item["metadata"]["labels"]
        who = (own["app.kubernetes.io/instance"], own["app.kubernetes.io/component"])
        table = kubectl("exec", item["metadata"]["name"], "--", "cat", "/proc/net/tcp", "/proc/net/tcp6")
        ports |= {(item["status"]["podIP"], port): (*who, port) for port in listening(table)}
    everything = set(ports.values())
    assert everything >= OPERATOR | PROMETHEUS
    wanted = {
        "stranger": set(),
        "twin": SCIENCE,
        "prometheus": PROMETHEUS | SCIENCE,
        "operator": OPERATOR,
        **{f"of-{name}": {place for place in everything if place[0] == name} for name in CLUSTERS},
    }
    found = {}

    def as_wanted():
        for name, source in sources.items():
            found[name] = {ports[place] for place in opened(*source, sorted(ports))}
        return found == wanted

    # A network takes a moment to learn of the last pod; what it says then is compared.
    with contextlib.suppress(AssertionError):
        until(as_wanted, seconds=30)
    assert found == wanted
