"""dask-kubernetes in a pod, because only there its autoscaler can ask schedulers; outside it forwards a port each time.

It is installed from PyPI for the Python of our Dask image and unpacked into a pod of that image, so that no image has
to be built for it.
"""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lightkube.generic_resource import create_namespaced_resource
from measuring import CACHE, UV, run
from reconcile import (
    CONTEXT,
    DASK_CLUSTER,
    DASK_KUBERNETES,
    Cluster,
    Object,
    dask_cluster_spec,
    is_true,
    kubectl,
    named,
    until,
)
from work import json_lines, loads

NAME = "peer"
WORKERS = {"dask.org/cluster-name": NAME, "dask.org/component": "worker"}
DASK_GROUP = create_namespaced_resource("kubernetes.dask.org", "v1", "DaskWorkerGroup", "daskworkergroups")
DASK_AUTOSCALER = create_namespaced_resource("kubernetes.dask.org", "v1", "DaskAutoscaler", "daskautoscalers")
IMAGE = {"image": "trireme/dask:dev", "imagePullPolicy": "Never"}
OPERATOR = "peer-operator"
# What the autoscaler asks first; without it, it takes the scheduler's other port.
ROUTES = [
    "distributed.http.scheduler.prometheus",
    "distributed.http.scheduler.info",
    "distributed.http.scheduler.json",
    "distributed.http.scheduler.api",
    "distributed.http.health",
    "distributed.http.proxy",
    "distributed.http.statics",
]


@contextlib.contextmanager
def autoscaled(cluster: Cluster, replicas: int, least: int, most: int) -> Iterator[None]:
    """Run a DaskCluster with a DaskAutoscaler, with the same pods as ours, and the operator for it."""
    _start_operator(cluster)
    try:
        cluster.client.create(DASK_CLUSTER.from_dict(_dask_cluster(cluster, replicas)))
        until(lambda: _connected(cluster) == replicas)
        # An autoscaler whose first question fails asks again after a minute.
        until(lambda: _is_answered(cluster), every=1)
        spec = {"cluster": NAME, "minimum": least, "maximum": most}
        cluster.client.create(DASK_AUTOSCALER.from_dict(_object(cluster, "DaskAutoscaler", spec)))
        yield
    finally:
        _forget(cluster)


def drive(cluster: Cluster, script: str, seconds: float) -> list[Object]:
    """Run a driver of the cluster to its end, and return the JSON that it printed."""
    environment = [
        {"name": "DASK_SCHEDULER_ADDRESS", "value": f"tcp://{NAME}-scheduler:8786"},
        {"name": "PYTHONUNBUFFERED", "value": "1"},
    ]
    resources = loads.LARGE
    container = {"name": "driver", **IMAGE, "command": ["python", "-c", script], "env": environment}
    spec = {"restartPolicy": "Never", "enableServiceLinks": False, "containers": [container | {"resources": resources}]}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "peer-driver"}, "spec": spec})
    ends = ("Succeeded", "Failed")
    until(lambda: cluster.get("Pod", "peer-driver").get("status", {}).get("phase") in ends, seconds, 1)
    printed = kubectl("logs", "pod/peer-driver", f"--namespace={cluster.name}")
    if cluster.get("Pod", "peer-driver")["status"]["phase"] == "Failed":
        raise RuntimeError(f"the driver failed:\n{printed}")
    return json_lines(printed)


def _object(cluster: Cluster, kind: str, spec: Object) -> Object:
    metadata = {"name": NAME, "namespace": cluster.name}
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _dask_cluster(cluster: Cluster, replicas: int) -> Object:
    spec = named(dask_cluster_spec(replicas), NAME)
    for part in ("worker", "scheduler"):
        spec[part]["spec"]["containers"][0]["resources"] = loads.WORKER
    routes = {"name": "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES", "value": json.dumps(ROUTES)}
    spec["scheduler"]["spec"]["containers"][0]["env"] = [routes]
    return _object(cluster, "DaskCluster", spec)


def _connected(cluster: Cluster) -> int | None:
    found = cluster.proxied(f"services/{NAME}-scheduler:8787/proxy/json/identity.json")
    return len(found["workers"]) if found else None


def _is_answered(cluster: Cluster) -> bool:
    """Tell whether the scheduler's Service leads from the operator to the scheduler by now."""
    code = f"from urllib.request import urlopen; urlopen('http://{NAME}-scheduler:8787/health', timeout=5)"
    try:
        kubectl("exec", OPERATOR, f"--namespace={cluster.name}", "--", "python", "-c", code)
    except subprocess.CalledProcessError:
        return False
    return True


def _start_operator(cluster: Cluster) -> None:
    there = f"--namespace={cluster.name}"
    kubectl("create", "serviceaccount", OPERATOR, there)
    account = f"--serviceaccount={cluster.name}:{OPERATOR}"
    kubectl("create", "rolebinding", OPERATOR, "--clusterrole=cluster-admin", account, there)
    kopf = f"python -m kopf run --standalone -m dask_kubernetes.operator.controller -n {cluster.name}"
    # Its files come after it has started.
    script = f"until [ -e /peer/complete ]; do sleep 0.2; done; exec {kopf}"
    container = {
        "name": "operator",
        **IMAGE,
        "command": ["sh", "-c", script],
        "env": [{"name": "PYTHONPATH", "value": "/peer/files"}, {"name": "HOME", "value": "/tmp"}],
        "volumeMounts": [{"name": "peer", "mountPath": "/peer"}],
    }
    spec = {
        "serviceAccountName": OPERATOR,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": [{"name": "peer", "emptyDir": {}}],
    }
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": OPERATOR}, "spec": spec})
    until(lambda: is_true(cluster.get("Pod", OPERATOR), "Ready"))
    inside = ("exec", OPERATOR, there, "--")
    files = _installed(kubectl(*inside, "python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip())
    crds = next(files.glob("dask_kubernetes/operator/deployment/helm/*/crds"))
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(crds))
    kubectl("wait", "--for=condition=Established", "crd", "--all")
    with subprocess.Popen(
        ["tar", "--create", f"--directory={files.parent}", files.name], stdout=subprocess.PIPE
    ) as packed:
        unpack = ["tar", "--extract", "--directory=/peer", f"--transform=s,^{files.name},files,"]
        command = ["kubectl", f"--context={CONTEXT}", "exec", "--stdin", OPERATOR, there, "--", *unpack]
        subprocess.run(command, stdin=packed.stdout, check=True)
    kubectl(*inside, "touch", "/peer/complete")


def _installed(version: str) -> Path:
    """Return a folder with the operator and all it needs, for a version of Python."""
    home = CACHE / f"bench-{DASK_KUBERNETES.replace('==', '-')}-py{version}"
    if not home.exists():
        target = home.with_name(f"{home.name}.new")
        run(UV, "pip", "install", "--quiet", f"--target={target}", f"--python-version={version}", DASK_KUBERNETES)
        target.rename(home)
    return home


def _forget(cluster: Cluster) -> None:
    """Delete what the peer's finalizers would keep, whether its operator still lives or not."""
    kinds = {DASK_AUTOSCALER: "daskautoscalers", DASK_GROUP: "daskworkergroups", DASK_CLUSTER: "daskclusters"}
    there = f"--namespace={cluster.name}"
    kubectl("delete", f"pod/{OPERATOR}", there, "--grace-period=1", "--ignore-not-found")
    kubectl("delete", ",".join(kinds.values()), "--all", there, "--wait=false")
    patch = ("--type=merge", '--patch={"metadata":{"finalizers":null}}')
    for resource, plural in kinds.items():
        for item in cluster.client.list(resource, namespace=cluster.name):
            with contextlib.suppress(subprocess.CalledProcessError):
                # It may be gone by now.
                kubectl("patch", f"{plural}/{item['metadata']['name']}", there, *patch)
