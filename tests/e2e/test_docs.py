"""The documentation as a reader has it: what no other test here runs of its commands and manifests."""

import json
import re

import pytest
import yaml
from reader import Reader

from on_cluster import TOP, namespace, until
from pages import PAGES, every, inline, manifests, snippets

SMALL = {"limits": {"cpu": "1", "memory": "384Mi"}, "requests": {"cpu": "20m", "memory": "128Mi"}}
SPECS = {
    "numbers": {"engine": "dask", "replicas": 1, "resources": SMALL, "dask": {"scheduler": {"resources": SMALL}}},
    "sums": {
        "engine": "celery",
        "replicas": 0,
        "code": {"configMap": "tasks"},
        "celery": {"app": "tasks", "broker": {"resources": SMALL}, "monitor": {"enabled": True, "resources": SMALL}},
    },
}


def resource(kind, name, spec):
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def kubectl():
    """Lend a namespace with a cluster of Dask and one of Celery, and a job that waits."""
    with namespace("docs") as kubectl:
        kubectl("create", "configmap", "tasks", "--from-literal=tasks.py=from celery import Celery\napp = Celery()\n")
        kubectl.apply(*(resource("WorkerCluster", name, spec) for name, spec in SPECS.items()))
        kubectl.apply(
            resource(
                "WorkerJob",
                "later",
                {"suspend": True, "clusterRef": {"name": "sums"}, "driver": {"script": "print(1)"}},
            )
        )
        yield kubectl


@pytest.fixture
def reader(kubectl, tmp_path):
    return Reader(tmp_path, kubectl)


@pytest.fixture
def empty():
    """Lend a namespace in which no name is taken."""
    with namespace("docs-empty") as empty:
        # What a Pod needs to be admitted comes a moment after its namespace.
        until(lambda: "/default" in empty("get", "serviceaccounts", "--output=name"))
        yield empty


def test_every_manifest_is_taken(empty):
    """By the API server, which prunes nothing silently and keeps nothing."""
    blocks = [
        block
        for page in PAGES
        for block in every(page)
        if block.language == "yaml" and not block.file and page != "docs/design.md"
    ]
    objects = [item for block in blocks for item in manifests(block.page, block.text)]
    assert len(objects) > 20
    stdin = "\n".join(map(json.dumps, objects))
    printed = empty("apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=stdin)
    assert printed.count("(server dry run)") == len(objects), printed


def test_samples_are_applied_as_written(reader):
    """Each has a test of its own; here the commands that apply them."""
    found = {line for page in PAGES for block in every(page) for line in block.text.splitlines()}
    applies = sorted(line for line in found if re.match(r"kubectl apply -f manifests/\S+( +#.*)?$", line))
    assert applies
    for command in applies:
        assert "(server dry run)" in reader.does(command.replace("apply", "apply --dry-run=server"))


def test_tasks_stay_on_their_node(reader, kubectl):
    (program,) = snippets("docs/locality.md", "Which worker reads what", "python")
    (console,) = snippets("docs/locality.md", "Which worker reads what", "console")
    reader.write("nodes.py", program)
    kubectl.wait("wc/numbers", "condition=Ready")
    reader.follows(console)


def test_runbooks(reader, kubectl):
    """Every look that they take; what changes something, or is for a pod that has ended, is another matter."""
    looks = {re.sub(r" --previous$| \| .*", "", look) for look in inline("docs/runbooks.md", "kubectl ")}
    looks = {look for look in looks if re.match(r"kubectl (-n|get --raw) ", look) and "port-forward" not in look}
    assert len(looks) > 10
    deployments = ("rollout", "status", "deployment/sums-monitor", "--timeout=120s")
    until(lambda: "sums-monitor" in kubectl("get", "deployments", "--output=name"))
    kubectl(*deployments)
    kubectl("rollout", "status", "statefulset/sums-broker", "--timeout=120s")
    for look in sorted(looks):
        words = look.replace(" NS ", f" {kubectl.namespace} ").replace(" JOB", " later")
        reader.does(re.sub(r"\bNAME\b", "sums", words))


def test_monitoring_by_values_of_the_chart(reader):
    upgrade, template = snippets("docs/monitoring.md", "", "sh")
    # An upgrade is refused, if only tried, where the kinds of prometheus-operator are not there; so it is but rendered.
    assert upgrade.startswith("helm upgrade trireme charts/trireme --namespace trireme-system --reuse-values ")
    printed = reader.does(upgrade.replace("upgrade", "template", 1).replace("--reuse-values ", ""))
    objects = [item for item in yaml.safe_load_all(printed) if item]
    kinds = {item["kind"] for item in objects}
    assert {"ServiceMonitor", "PodMonitor", "PrometheusRule"} <= kinds
    dashboards = [item for item in objects if item["kind"] == "ConfigMap" and "dashboard" in item["metadata"]["name"]]
    assert len(dashboards) == 1
    assert "kubernetes.io/metadata.name" in printed
    assert {item["kind"] for item in yaml.safe_load_all(reader.does(template)) if item} == {"PodMonitor"}


def test_the_package_is_installed(reader):
    """As the quick start says, into an environment of its own; by uv, which has a cache."""
    (install,) = snippets("docs/quickstart.md", "", "sh")
    # The package's own page has it from a registry, where this one is not yet.
    (page,) = snippets("python/README.md", "", "sh")
    uv = TOP / "lab" / "uv.sh"
    script = "\n".join((install, "python -c 'import distributed'", page.replace("install trireme", "install ./python")))
    script = script.replace("pip install", f"{uv} pip install --quiet")
    assert "Usage: trireme" in reader.does(f"{uv} venv --quiet it\nsource it/bin/activate\n{script}")
