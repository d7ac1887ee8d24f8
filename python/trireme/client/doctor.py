"""What is wrong with a cluster, the installation or an object, and what to do about it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from trireme.client.kube import ConnectionLost, Forbidden, Kube, NotFound, Object
from trireme.errors import TriremeError

# The chart's own kubeVersion.
_LEAST_MINOR = 28
KINDS = ("workerclusters", "workergroups", "workerjobs", "workercronjobs")
_STUCK_SECONDS = 120
_RESTARTS = 3
# Verb, resource, group, subresource: what the commands do.
_RIGHTS = (
    ("create", "workerjobs", "trireme.dev", ""),
    ("create", "workerclusters", "trireme.dev", ""),
    ("delete", "workerclusters", "trireme.dev", ""),
    ("delete", "workerjobs", "trireme.dev", ""),
    ("get", "deployments", "apps", ""),
    ("get", "services", "", ""),
    ("get", "configmaps", "", ""),
    ("create", "configmaps", "", ""),
    ("list", "pods", "", ""),
    ("get", "pods", "", "log"),
    # Of a WebSocket, API servers ask for the one or the other.
    ("get", "pods", "", "portforward"),
    ("create", "pods", "", "portforward"),
    ("get", "secrets", "", ""),
)
_SINGULAR = dict(zip(KINDS, ("WorkerCluster", "WorkerGroup", "WorkerJob", "WorkerCronJob"), strict=True))
_HELM = "helm upgrade --install trireme charts/trireme --namespace trireme-system --create-namespace"
# docs/conditions.md has all reasons; these are those that users meet first.
_FIXES = {
    "CodeNotFound": "create the ConfigMap that the message names, in the same namespace",
    "CrashLoopBackOff": "kubectl logs --previous of the pod tells why",
    "DriverFailed": "trireme logs {name} has all that the driver printed",
    "Evicted": "raise the memory requests towards what is used",
    "ImagePullBackOff": "correct the image's name, or give access to it by imagePullSecrets",
    "Invalid": "correct the field that the message names",
    "InvalidSpec": "correct the field that the message names",
    "NameTaken": "delete what has that name, or choose another one",
    "NotFound": "create the cluster, or correct the name in spec.clusterRef",
    "OOMKilled": "raise the memory limit that the message names, or make the work smaller",
    "QuotaExceeded": "lower the resources, or raise the quota that the message names",
    "Unschedulable": "lower the requests, or add nodes that have room",
}
_CALM = (
    *("Ready", "Starting", "NoWorkers", "Creating", "Suspended", "ControlNotReady", "ClusterNotReady"),
    *("JobAlreadyActive", "Ended", "Stopped"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        what: in one line.
        fix: what to do.
        error: whether something fails by it; else it may.
    """

    what: str
    fix: str
    error: bool = True


def examine(kube: Kube, name: str | None = None, plurals: Sequence[str] = KINDS) -> Iterator[Finding]:
    """Look at everything, or at the objects of one name more closely.

    Args:
        kube: the namespace.
        name: of a cluster, a group, a job or a cron job.
        plurals: of the kinds that it may be of.

    Yields:
        Each finding as it is found.
    """
    try:
        yield from _version(kube.request("GET", "/version"))
    except TriremeError as error:
        yield Finding(str(error), "check the kubeconfig, the context and the network: kubectl version")
        if isinstance(error, ConnectionLost):
            return
    checks: tuple[Callable[[Kube], Iterator[Finding]], ...] = (_kinds, _operator, _rights, _quotas)
    for check in checks:
        yield from _allowed(check, kube)
    yield from _allowed(lambda kube: _objects(kube, name, plurals), kube)
    yield from _allowed(lambda kube: _pods(kube, name), kube)


def _allowed(check: Callable[[Kube], Iterator[Finding]], kube: Kube) -> Iterator[Finding]:
    try:
        yield from check(kube)
    except Forbidden as error:
        yield Finding(str(error), "ask whoever may, or for that right", error=False)
    except TriremeError as error:
        yield Finding(str(error), "mend that first", error=True)


def _version(found: Object) -> Iterator[Finding]:
    minor = "".join(filter(str.isdigit, str(found.get("minor", ""))))
    if found.get("major") == "1" and minor and int(minor) < _LEAST_MINOR:
        yield Finding(f"Kubernetes is {found['gitVersion']}", f"upgrade it: 1.{_LEAST_MINOR} or newer is needed")


def _kinds(kube: Kube) -> Iterator[Finding]:
    for plural in KINDS:
        try:
            found = kube.get("customresourcedefinitions", f"{plural}.trireme.dev")
        except NotFound:
            yield Finding(f"the cluster knows no {plural}.trireme.dev", f"install Trireme: {_HELM}")
            continue
        yield from kind_findings(plural, found)


def kind_findings(plural: str, found: Object) -> Iterator[Finding]:
    """Tell what is wrong with a CRD.

    Args:
        plural: of its kind.
        found: the CustomResourceDefinition.
    """
    versions = {version["name"]: version for version in found["spec"]["versions"] if version.get("served")}
    if "v1alpha1" not in versions:
        yield Finding(f"{plural}.trireme.dev is served as {', '.join(versions)}", "use a `trireme` of that version")
        return
    spec = versions["v1alpha1"]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    wanted = {"workerclusters": spec, "workerjobs": spec.get("driver", {}).get("properties", {})}.get(plural)
    if wanted is not None and "code" not in wanted:
        yield Finding(f"{plural}.trireme.dev is older than this command: it has no field `code`", f"upgrade: {_HELM}")


def _operator(kube: Kube) -> Iterator[Finding]:
    found = kube.request("GET", "/apis/apps/v1/deployments", labelSelector="app.kubernetes.io/component=operator")
    operators = [
        one for one in found["items"] if one["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "trireme"
    ]
    if not operators:
        yield Finding("no operator is installed", f"install it: {_HELM}")
    elif not any(one.get("status", {}).get("readyReplicas") for one in operators):
        metadata = operators[0]["metadata"]
        yield Finding(
            f"the operator in namespace {metadata['namespace']} is not ready: what is applied stays as it is",
            f"kubectl --namespace {metadata['namespace']} describe deployment {metadata['name']}",
        )
    for one in operators:
        yield from operator_findings(one)


def operator_findings(operator: Object) -> Iterator[Finding]:
    """Tell whether an operator's Deployment is of another minor version than this package."""
    here, labels = version("trireme"), operator["metadata"].get("labels", {})
    there = labels.get("app.kubernetes.io/version", here)
    if here.split(".")[:2] != there.split(".")[:2]:
        where = operator["metadata"]["namespace"]
        yield Finding(
            f"trireme {here} here, operator {there} in namespace {where}",
            f"pip install 'trireme=={'.'.join(there.split('.')[:2])}.*', or upgrade the operator: {_HELM}",
            error=False,
        )


def _rights(kube: Kube) -> Iterator[Finding]:
    for verb, resource, group, sub in _RIGHTS:
        asked: Object = {"namespace": kube.namespace, "verb": verb, "resource": resource}
        asked |= {key: value for key, value in (("group", group), ("subresource", sub)) if value}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        answer = kube.request("POST", kube.path("selfsubjectaccessreviews"), review)
        if not answer["status"]["allowed"]:
            what = f"{resource}/{sub}" if sub else resource
            full = f"{resource}.{group}" if group else what
            yield Finding(
                f"no right to {verb} {full} in namespace {kube.namespace}",
                f"ask for a Role with the verb {verb} on {what}",
                error=False,
            )


def _quotas(kube: Kube) -> Iterator[Finding]:
    for quota in kube.list("resourcequotas"):
        status = quota.get("status", {})
        for resource, hard in status.get("hard", {}).items():
            used = status.get("used", {}).get(resource)
            if used == hard and hard != "0":
                yield Finding(
                    f"quota {quota['metadata']['name']} has no {resource} left: {used} of {hard} used",
                    "delete what is not needed, or raise the quota",
                    error=False,
                )


def _objects(kube: Kube, name: str | None, plurals: Sequence[str]) -> Iterator[Finding]:
    found = False
    for plural in plurals:
        items = [one for one in [kube.find(plural, name)] if one] if name else kube.list(plural)
        found = found or bool(items)
        for item in items:
            yield from object_findings(item)
    if name and not found:
        kinds = " nor a ".join(_SINGULAR[plural] for plural in plurals)
        yield Finding(
            f"there is {'neither a' if len(plurals) > 1 else 'no'} {kinds} {name} in namespace {kube.namespace}",
            "kubectl get wc,wg,wj,wcj --all-namespaces shows all",
        )


def object_findings(item: Object) -> Iterator[Finding]:
    """Tell what is wrong with an object of one of our kinds, by its conditions."""
    name, kind, status = item["metadata"]["name"], item["kind"], item.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", [])}
    if not status:
        yield Finding(
            f"{kind} {name}: nobody has looked at it", "see whether the operator runs, and for which namespaces"
        )
        return
    if "Complete" in conditions:
        return
    for type_, bad in (
        ("Failed", "True"),
        ("Ready", "False"),
        ("ClusterReady", "False"),
        ("DriverRunning", "False"),
        ("AutoscalingActive", "False"),
        ("ScalingContended", "True"),
    ):
        one = conditions.get(type_)
        if one and one["status"] == bad and one["reason"] not in _CALM:
            fix = _FIXES.get(one["reason"], "kubectl describe tells more; docs/conditions.md has all reasons")
            yield Finding(
                f"{kind} {name}: {one['reason']}: {one['message']}", fix.format(name=name), type_ != "AutoscalingActive"
            )
            return


def _pods(kube: Kube, name: str | None) -> Iterator[Finding]:
    selector = "app.kubernetes.io/part-of=trireme"
    pods = kube.list("pods", f"{selector},app.kubernetes.io/instance={name}" if name else selector)
    for pod in pods:
        yield from pod_findings(pod, datetime.now(UTC))


def pod_findings(pod: Object, now: datetime) -> Iterator[Finding]:
    """Tell what is wrong with a pod that no condition of its owner tells."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    began = datetime.fromisoformat(pod["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    age = (now - began).total_seconds()
    if "deletionTimestamp" in pod["metadata"]:
        due = datetime.fromisoformat(pod["metadata"]["deletionTimestamp"].replace("Z", "+00:00"))
        late = (now - due).total_seconds()
        if late > _STUCK_SECONDS:
            yield Finding(
                f"pod {name} should have gone {late:.0f} s ago", "see whether its node is up: kubectl get nodes"
            )
        return
    waiting = [
        one["state"]["waiting"] for one in status.get("containerStatuses", []) if "waiting" in one.get("state", {})
    ]
    if status.get("phase") == "Pending" and age > _STUCK_SECONDS:
        why: Any = next(
            (one["message"] for one in status.get("conditions", []) if one["status"] == "False" and "message" in one),
            "",
        )
        reason = waiting[0].get("reason", "") if waiting else ""
        yield Finding(f"pod {name} has been pending for {age:.0f} s: {reason or why}", f"kubectl describe pod {name}")
    for one in status.get("containerStatuses", []):
        last = one.get("lastState", {}).get("terminated", {})
        if one.get("restartCount", 0) >= _RESTARTS:
            why = last.get("reason", "an end")
            what = f"pod {name}: {one['name']} was restarted {one['restartCount']} times, last after {why}"
            fix = "raise its memory limit" if last.get("reason") == "OOMKilled" else f"kubectl logs --previous {name}"
            yield Finding(what, fix, error=False)
