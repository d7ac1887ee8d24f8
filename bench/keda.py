"""KEDA on the size of a Celery cluster of ours: a ScaledObject of the queue's length, as its users write it.

There may be no registry that has its images, so it is built from its Go module: half an hour on two cores, once.
"""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from measuring import CACHE, run
from reconcile import CONTEXT, Cluster, kubectl, until
from work import NAME

VERSION = "2.21.0"
_MODULE = f"github.com/kedacore/keda/v2@v{VERSION}"
_IMAGE = f"bench/keda:{VERSION}"
_DOCKERFILE = """FROM trireme/base:dev
COPY operator /keda
COPY adapter /keda-adapter
USER 1000:1000
"""
_READY = '{.status.conditions[?(@.type=="Ready")].status}'
# Its webhooks only check what is applied.
_KUSTOMIZATION = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1",
    "kind": "Kustomization",
    "resources": [f"../{part}" for part in ("crd", "general", "rbac", "manager", "metrics-server", "service_account")],
    "images": [
        {"name": f"ghcr.io/kedacore/{name}", "newName": "bench/keda", "newTag": VERSION}
        for name in ("keda", "keda-metrics-apiserver")
    ],
    "patches": [
        {
            "target": {"kind": "Deployment"},
            "patch": json.dumps(
                [{"op": "replace", "path": "/spec/template/spec/containers/0/imagePullPolicy", "value": "Never"}]
            ),
        }
    ],
}


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Run KEDA in the cluster."""
    home = _built()
    run("docker", "build", f"--tag={_IMAGE}", str(home / "image"))
    run(str(CACHE / "bin" / "kind"), "load", "docker-image", f"--name={CONTEXT.removeprefix('kind-')}", _IMAGE)
    manifests = home / "keda.yaml"
    manifests.write_text(run("kubectl", "kustomize", str(home / "source" / "config" / "bench")))
    kubectl("apply", "--server-side", "--force-conflicts", f"--filename={manifests}")
    try:
        kubectl("rollout", "status", "deployment", "--namespace=keda", "--timeout=300s")
        kubectl("wait", "--for=condition=Available", "apiservice/v1beta1.external.metrics.k8s.io", "--timeout=120s")
        yield
    finally:
        # While it is there, to take its finalizers away.
        kubectl("delete", "scaledobjects", "--all", "--all-namespaces")
        kubectl("delete", "--ignore-not-found", "--wait=false", f"--filename={manifests}")


def scale(cluster: Cluster, most: int) -> None:
    """Have KEDA size a Celery cluster from 0, as soon as it can: it looks once a second, where its default is 30 s."""
    kubectl("apply", f"--namespace={cluster.name}", f"--filename={_objects(cluster, most)}")
    until(
        lambda: "True" in kubectl("get", "scaledobject", NAME, f"--namespace={cluster.name}", f"-o=jsonpath={_READY}")
    )


def _objects(cluster: Cluster, most: int) -> Path:
    password = {"parameter": "password", "name": f"{NAME}-auth", "key": "password"}
    trigger = {
        "type": "redis",
        "metadata": {"address": f"{NAME}-broker.{cluster.name}.svc:6379", "listName": "celery", "listLength": "1"},
        "authenticationRef": {"name": NAME},
    }
    scaled = {
        "scaleTargetRef": {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerCluster", "name": NAME},
        "minReplicaCount": 0,
        "maxReplicaCount": most,
        "pollingInterval": 1,
        "cooldownPeriod": 5,
        "triggers": [trigger],
    }
    # The cluster's own policy lets nobody else in.
    peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}]
    policy = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": peers}]}
    items = [
        ("networking.k8s.io/v1", "NetworkPolicy", policy),
        ("keda.sh/v1alpha1", "TriggerAuthentication", {"secretTargetRef": [password]}),
        ("keda.sh/v1alpha1", "ScaledObject", scaled),
    ]
    path = CACHE / f"bench-{cluster.name}.json"
    objects = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": NAME}, "spec": spec} for version, kind, spec in items
    ]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    return path


def _built() -> Path:
    """Return a folder with its source, and its programs in a folder for an image."""
    home = CACHE / f"bench-keda-{VERSION}"
    if home.exists():
        return home
    new = home.with_name(f"{home.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    downloaded = json.loads(run("go", "mod", "download", "-json", _MODULE))["Dir"]
    shutil.copytree(downloaded, new / "source")
    for path in (new / "source").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (new / "source" / "config" / "bench").mkdir()
    (new / "source" / "config" / "bench" / "kustomization.yaml").write_text(json.dumps(_KUSTOMIZATION))
    (new / "image").mkdir()
    (new / "image" / "Dockerfile").write_text(_DOCKERFILE)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    for program in ("operator", "adapter"):
        build = ["go", "build", "-trimpath", "-ldflags=-s -w", f"-o={new / 'image' / program}", f"./cmd/{program}"]
        subprocess.run(build, cwd=new / "source", env=environment, check=True)
    new.rename(home)
    return home
