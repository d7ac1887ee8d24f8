"""What to do about a WorkerCluster."""

import json
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass

from trireme_operator.api import (
    CAPACITY_ANNOTATION,
    CHART_KINDS,
    DEPLOYMENT,
    LABEL_COMPONENT,
    LABEL_INSTANCE,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_PART_OF,
    PART_OF,
    Key,
    Object,
    key_of,
    owned_by,
    owner_reference,
)
from trireme_operator.engines import ENGINES, Adapter
from trireme_operator.plan.action import Delete, Plan
from trireme_operator.plan.conditions import Condition, merge

MANAGER = "trireme-operator"
_COPIED = ("image", "resources", "drainSeconds", "code", "env")
_KINDS = {kind.kind: kind for kind in CHART_KINDS}


@dataclass(frozen=True)
class Observed:
    """What was seen of a cluster's own objects."""

    objects: dict[Key, Object]

    @classmethod
    def of(cls, cluster: Object, objects: Iterable[Object]) -> "Observed":
        """Keep those that this cluster owns."""
        return cls({key_of(item): item for item in objects if owned_by(item, cluster)})


def adapter(cluster: Object) -> Adapter:
    """Return the adapter of a cluster's engine."""
    return ENGINES[cluster["spec"]["engine"]]


def desired_replicas(cluster: Object) -> int:
    """Return how many workers there should be."""
    spec = cluster["spec"]
    return 0 if spec.get("suspend") else int(spec.get("replicas", 1))


def values(cluster: Object) -> Object:
    """Return the chart values that a WorkerCluster stands for; spec.values goes last."""
    spec = cluster["spec"]
    engine = adapter(cluster)
    found: Object = {name: deepcopy(spec[name]) for name in _COPIED if name in spec}
    found["replicas"] = desired_replicas(cluster)
    found.update(deepcopy(spec.get(engine.name, {})))
    if engine.has_password:
        found["auth"] = {"existingSecret": secret_name(cluster)}
    return _overlay(found, spec.get("values", {}))


def _overlay(below: Object, above: Object) -> Object:
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        below[key] = _overlay(below[key], value) if both else deepcopy(value)
    return below


def secret_name(cluster: Object) -> str:
    """Return the name of the Secret with the cluster's password."""
    return f"{cluster['metadata']['name']}-auth"


def secret(cluster: Object, password: str) -> Object:
    """Return the Secret with the cluster's password."""
    return _owned(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": secret_name(cluster), "labels": {}},
            "stringData": {"password": password},
        },
        cluster,
    )


def _owned(item: Object, cluster: Object) -> Object:
    name, namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
    metadata = {
        **item["metadata"],
        "namespace": namespace,
        "ownerReferences": [owner_reference(cluster)],
        "labels": {
            LABEL_NAME: cluster["spec"]["engine"],
            LABEL_INSTANCE: name,
            LABEL_PART_OF: PART_OF,
            **item["metadata"].get("labels", {}),
            LABEL_MANAGED_BY: MANAGER,
        },
    }
    return {**item, "metadata": metadata}


def plan(cluster: Object, rendered: list[Object], observed: Observed, password: str, now: str) -> Plan:
    """Decide what to do about a cluster whose chart rendered.

    Args:
        cluster: the WorkerCluster.
        rendered: what its chart gave.
        observed: its objects as last seen.
        password: one to use if the cluster has none yet.
        now: the time, as in JSON.
    """
    wanted = [_owned(item, cluster) for item in rendered]
    keys = {key_of(item) for item in wanted}
    return Plan(
        create=[secret(cluster, password)] if adapter(cluster).has_password and not observed.objects else [],
        apply=wanted,
        delete=[
            Delete(_KINDS[key.kind], key.namespace, key.name, item["metadata"]["uid"])
            for key, item in observed.objects.items()
            if key.kind in _KINDS and key not in keys
        ],
        status=status(cluster, observed, now),
    )


def refused(cluster: Object, problem: str, observed: Observed, now: str) -> Plan:
    """Decide what to do about a cluster whose chart refuses its values: nothing, and say why."""
    return Plan(status=status(cluster, observed, now, problem))


def status(cluster: Object, observed: Observed, now: str, problem: str | None = None) -> Object:
    """Return the status of a cluster.

    Args:
        cluster: the WorkerCluster.
        observed: its objects as last seen.
        now: the time, as in JSON.
        problem: why its chart could not be rendered.
    """
    name, namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
    engine = adapter(cluster)
    workers = observed.objects.get(Key(DEPLOYMENT.kind, namespace, f"{name}-worker"), {})
    control = observed.objects.get(Key(engine.control_kind.kind, namespace, f"{name}-{engine.control}"), {})
    counts = workers.get("status", {})
    ready = int(counts.get("readyReplicas", 0))
    desired = desired_replicas(cluster)
    capacity = workers.get("metadata", {}).get("annotations", {}).get(CAPACITY_ANNOTATION, "{}")
    host = f"{name}-{engine.control}.{namespace}.svc"
    found: Object = {
        "observedGeneration": cluster["metadata"]["generation"],
        "replicas": int(counts.get("replicas", 0)),
        "readyReplicas": ready,
        "selector": f"{LABEL_NAME}={engine.name},{LABEL_INSTANCE}={name},{LABEL_COMPONENT}=worker",
        "capacity": {key: str(value) for key, value in json.loads(capacity).items()},
        "endpoints": [{"name": point.name, "url": point.url.format(host=host)} for point in engine.endpoints],
    }
    answers = int(control.get("status", {}).get("readyReplicas", 0)) > 0
    conditions = [
        _ready(engine, answers, ready, desired, problem),
        _progressing(workers, ready, desired, problem),
        Condition(
            "Suspended",
            bool(cluster["spec"].get("suspend")),
            "Suspended" if cluster["spec"].get("suspend") else "Running",
            "spec.suspend holds the workers at 0" if cluster["spec"].get("suspend") else "spec.suspend is false",
        ),
    ]
    before = cluster.get("status", {}).get("conditions", [])
    found["conditions"] = merge(before, conditions, cluster["metadata"]["generation"], now)
    return found


def _ready(engine: Adapter, answers: bool, ready: int, desired: int, problem: str | None) -> Condition:
    """Ready means that work is done: the engine answers, and at least one worker takes work if any should."""
    if problem:
        return Condition("Ready", False, "InvalidSpec", problem)
    if not answers:
        return Condition("Ready", False, "ControlNotReady", f"the {engine.control} is not ready yet")
    if ready == 0 and desired > 0:
        return Condition("Ready", False, "NoWorkers", f"no worker of {desired} is ready yet")
    return Condition("Ready", True, "Ready", f"the {engine.control} answers, and workers are ready")


def _progressing(workers: Object, ready: int, desired: int, problem: str | None) -> Condition:
    counts = workers.get("status", {})
    updated = int(counts.get("updatedReplicas", 0))
    total = int(counts.get("replicas", 0))
    settled = workers and ready == desired == total == updated
    if problem:
        return Condition("Progressing", False, "InvalidSpec", "nothing changes before the spec is mended")
    if settled:
        return Condition("Progressing", False, "Settled", "as many workers are ready as are desired")
    return Condition(
        "Progressing", True, "WorkersChanging", f"{ready} of {desired} workers are ready, {total} are there"
    )
