"""What runs in the cluster before a user comes: metrics-server and the operator."""

import json
from pathlib import Path

from trireme_lab import images, paths
from trireme_lab.cache import digest
from trireme_lab.cluster import CONTEXT, NODES
from trireme_lab.commands import Log, Stopped, answer, wait_for
from trireme_lab.problem import Problem

NAMESPACE = "trireme-system"
RELEASE = "trireme"
_NAMESPACES = ("kube-system", "local-path-storage", NAMESPACE)
_MARK = "trireme-lab"
_WAIT = "--timeout=120s"


def key() -> str:
    """Return what the deployed things depend on."""
    return digest(paths.MANIFESTS, paths.CHARTS / "trireme", images.key(images.OPERATOR))


def is_current(kubectl: Path) -> bool:
    """Tell whether everything is deployed from these sources and available."""
    base = (kubectl, f"--context={CONTEXT}", "--request-timeout=5s")
    mark = answer(*base, "--namespace=kube-system", "get", "configmap", _MARK, "--output=jsonpath={.data.key}")
    return mark == key() and unavailable(kubectl) == [] and unsettled(kubectl) == []


def unavailable(kubectl: Path) -> list[str]:
    """Return the Deployments of the lab that have no available pod, as namespace/name."""
    text = answer(
        *(kubectl, f"--context={CONTEXT}", "--request-timeout=5s", "get", "deployments", "--all-namespaces"),
        "--output=jsonpath={range .items[*]}"
        '{.metadata.namespace}/{.metadata.name}={.status.availableReplicas}{"\\n"}{end}',
    )
    found = dict(line.split("=", 1) for line in (text or "").splitlines())
    wanted = (
        "kube-system/coredns",
        "kube-system/metrics-server",
        "local-path-storage/local-path-provisioner",
        f"{NAMESPACE}/trireme-operator",
    )
    return [name for name in wanted if found.get(name, "") in ("", "0")]


def unsettled(kubectl: Path) -> list[str]:
    """Return the lab's pods that do not run, are not ready, or only seem to be so, as namespace/name.

    A node that starts again takes a while to notice which containers are gone, and the controllers longer still.
    """
    started = {node: answer("docker", "inspect", "--format={{.State.StartedAt}}", node) or "" for node in NODES}
    found = []
    for namespace in _NAMESPACES:
        text = answer(
            *(kubectl, f"--context={CONTEXT}", "--request-timeout=5s", f"--namespace={namespace}"),
            *("get", "pods", "--output=json"),
        )
        for pod in json.loads(text)["items"] if text else []:
            if "deletionTimestamp" in pod["metadata"]:
                continue
            since = started.get(pod["spec"].get("nodeName", ""), "")[: len("2000-01-01T00:00:00")]
            containers = pod["status"].get("containerStatuses", [{"ready": False}])
            for container in containers:
                running = container.get("state", {}).get("running", {})
                if not container["ready"] or running.get("startedAt", "") < since:
                    found.append(f"{namespace}/{pod['metadata']['name']}")
    return found


def metrics_server(log: Log, kubectl: Path) -> None:
    """Apply metrics-server; its pod is waited for later."""
    log.run(
        kubectl, f"--context={CONTEXT}", "apply", "--server-side", "--force-conflicts", f"--filename={paths.MANIFESTS}"
    )


def operator(log: Log, helm: Path) -> None:
    """Install or upgrade the operator by its chart; its pods are replaced when its image changed."""
    # Also what was changed by hand since, such as its scale, becomes again what the chart says; Helm 3 does so unasked.
    force = [] if log.run(helm, "version", "--short").startswith("v3.") else ["--force-conflicts", "--take-ownership"]
    log.run(
        *(helm, f"--kube-context={CONTEXT}", "upgrade", RELEASE, paths.CHARTS / "trireme", "--install"),
        *(f"--namespace={NAMESPACE}", "--create-namespace", "--reset-values", *force),
        f"--set=replicas=1,podAnnotations.trireme\\.dev/image={images.key(images.OPERATOR)}",
    )


def settle(log: Log, kubectl: Path) -> None:
    """Wait until everything is available, and leave the mark that it is.

    Raises:
        Problem: something is not available within two minutes; names it.
    """
    base = (kubectl, f"--context={CONTEXT}")
    try:
        wait_for("all pods are ready", lambda: unsettled(kubectl) == [], seconds=180, every=0.5)
    except Stopped:
        raise
    except Problem as problem:
        raise Problem(f"not ready: {', '.join(unsettled(kubectl))}: `kubectl describe` tells why") from problem
    for namespace in _NAMESPACES:
        log.run(*base, f"--namespace={namespace}", "rollout", "status", "deployment", _WAIT)
    log.run(*base, "wait", "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io", _WAIT)
    # kubectl remembers for ten minutes which APIs there are; this has it look again, for `kubectl top` to work.
    log.run(*base, "api-resources", "--api-group=metrics.k8s.io")
    metadata = {"name": _MARK, "namespace": "kube-system"}
    mark = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": key()}})
    log.run(*base, "apply", "--server-side", "--force-conflicts", "--filename=-", stdin=mark)
