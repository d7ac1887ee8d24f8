"""What to do about a WorkerCluster."""

import json
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta

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
from trireme_operator.plan.conditions import Condition, find, is_true, merge, moment, timestamp
from trireme_operator.plan.pods import Trouble, of_deployment, of_pods

MANAGER = "trireme-operator"
_COPIED = ("image", "resources", "drainSeconds", "code", "env")
_KINDS = {kind.kind: kind for kind in CHART_KINDS}


LOOK_CLOSER_SECONDS = 3.0
"""How long a cluster may take to be ready before it is asked why it is not, and between two such questions."""


@dataclass(frozen=True)
class Observed:
    """What was seen of a cluster.

    Args:
        objects: its own ones.
        pods: its pods, of every component.
        trouble: what a closer look found, where no object's status tells.
    """

    objects: dict[Key, Object]
    pods: Sequence[Object] = ()
    trouble: Trouble | None = None

    @classmethod
    def of(cls, cluster: Object, objects: Iterable[Object], pods: Sequence[Object] = ()) -> "Observed":
        """Keep those objects that this cluster owns."""
        return cls({key_of(item): item for item in objects if owned_by(item, cluster)}, pods)


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


def owned(cluster: Object, rendered: list[Object]) -> list[Object]:
    """Return the objects that a chart gave, as this cluster's own."""
    return [_owned(item, cluster) for item in rendered]


def plan(cluster: Object, wanted: list[Object], observed: Observed, password: str, now: datetime) -> Plan:
    """Decide what to do about a cluster whose chart rendered.

    Args:
        cluster: the WorkerCluster.
        wanted: what its chart gave, as its own.
        observed: what was seen of it.
        password: one to use if the cluster has none yet.
        now: the time.
    """
    keys = {key_of(item) for item in wanted}
    made = status(cluster, observed, now)
    return Plan(
        create=[secret(cluster, password)] if adapter(cluster).has_password and not observed.objects else [],
        apply=wanted,
        delete=[
            Delete(_KINDS[key.kind], key.namespace, key.name, item["metadata"]["uid"])
            for key, item in observed.objects.items()
            if key.kind in _KINDS and key not in keys
        ],
        status=made,
        again=None if is_true({"status": made}, "Ready") else LOOK_CLOSER_SECONDS,
    )


def refused(cluster: Object, problem: Trouble, observed: Observed, now: datetime) -> Plan:
    """Decide what to do about a cluster that can't be as it should: nothing, and say why."""
    return Plan(status=status(cluster, observed, now, problem))


def taken(item: Object) -> Trouble:
    """Say that an object's name is in use by something that is not this cluster's."""
    return Trouble(
        "NameTaken",
        f"a {item['kind']} {item['metadata']['name']} is there already and is not this cluster's: "
        "delete it, or name this cluster otherwise",
    )


def worth_a_closer_look(cluster: Object, now: datetime) -> bool:
    """Tell whether a cluster has not been ready for so long that something may be wrong."""
    ready = find(cluster, "Ready")
    if ready is None or ready["status"] == "True":
        return False
    return now - moment(ready["lastTransitionTime"]) >= timedelta(seconds=LOOK_CLOSER_SECONDS)


def missing_code(name: str) -> Trouble:
    """Say that the ConfigMap with the user's code is not there."""
    return Trouble("CodeNotFound", f"spec.code.configMap: there is no ConfigMap {name} in this namespace: create it")


def status(cluster: Object, observed: Observed, now: datetime, problem: Trouble | None = None) -> Object:
    """Return the status of a cluster.

    Args:
        cluster: the WorkerCluster.
        observed: what was seen of it.
        now: the time.
        problem: why nothing can be done about it before the spec, or something else, is changed.
    """
    name, namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
    engine = adapter(cluster)
    workers = observed.objects.get(Key(DEPLOYMENT.kind, namespace, f"{name}-worker"), {})
    control = observed.objects.get(Key(engine.control_kind.kind, namespace, f"{name}-{engine.control}"), {})
    counts = workers.get("status", {})
    ready = int(counts.get("readyReplicas", 0))
    capacity = workers.get("metadata", {}).get("annotations", {}).get(CAPACITY_ANNOTATION, "{}")
    host = f"{name}-{engine.control}.{namespace}.svc"
    answers = int(control.get("status", {}).get("readyReplicas", 0)) > 0
    suspended = bool(cluster["spec"].get("suspend"))
    conditions = [
        _ready(cluster, observed, answers, ready, workers, problem),
        _progressing(cluster, observed, workers, ready, problem),
        Condition(
            "Suspended",
            suspended,
            "Suspended" if suspended else "NotSuspended",
            "spec.suspend holds the workers at 0" if suspended else "spec.suspend is false",
        ),
    ]
    before = cluster.get("status", {}).get("conditions", [])
    return {
        "observedGeneration": cluster["metadata"]["generation"],
        "replicas": int(counts.get("replicas", 0)),
        "readyReplicas": ready,
        "selector": f"{LABEL_NAME}={engine.name},{LABEL_INSTANCE}={name},{LABEL_COMPONENT}=worker",
        "capacity": {key: str(value) for key, value in json.loads(capacity).items()},
        "endpoints": [{"name": point.name, "url": point.url.format(host=host)} for point in engine.endpoints],
        "conditions": merge(before, conditions, cluster["metadata"]["generation"], timestamp(now)),
    }


def _of_component(pods: Sequence[Object], component: str) -> list[Object]:
    return [pod for pod in pods if pod["metadata"]["labels"].get(LABEL_COMPONENT) == component]


def _ready(
    cluster: Object, observed: Observed, answers: bool, ready: int, workers: Object, problem: Trouble | None
) -> Condition:
    """Ready means that work is done: the engine answers, and at least one worker takes work if any should."""
    control, desired = adapter(cluster).control, desired_replicas(cluster)
    if problem:
        return Condition("Ready", False, problem.reason, problem.message)
    if not answers:
        fields = {"broker": "spec.celery.broker"}.get(control, "spec")
        found = of_pods(_of_component(observed.pods, control), fields) or observed.trouble
        return _waiting(found, "ControlNotReady", f"the {control} is not ready yet")
    if ready == 0 and desired > 0:
        found = _workers_trouble(observed, workers)
        return _waiting(found, "NoWorkers", f"no worker of {desired} is ready yet")
    return Condition("Ready", True, "Ready", f"the {control} answers, and workers are ready")


def _waiting(trouble: Trouble | None, reason: str, message: str) -> Condition:
    return Condition("Ready", False, trouble.reason if trouble else reason, trouble.message if trouble else message)


def _workers_trouble(observed: Observed, workers: Object) -> Trouble | None:
    return of_deployment(workers) or of_pods(_of_component(observed.pods, "worker"), "spec") or observed.trouble


def _progressing(
    cluster: Object, observed: Observed, workers: Object, ready: int, problem: Trouble | None
) -> Condition:
    counts = workers.get("status", {})
    desired = desired_replicas(cluster)
    settled = workers and ready == desired == counts.get("replicas", 0) == counts.get("updatedReplicas", 0)
    if problem:
        return Condition("Progressing", False, problem.reason, "nothing changes before that is mended: see Ready")
    if settled:
        return Condition("Progressing", False, "Settled", "as many workers are ready as are desired")
    if found := _workers_trouble(observed, workers):
        return Condition("Progressing", True, found.reason, found.message)
    return Condition("Progressing", True, "WorkersChanging", f"workers come or go, until {desired} are ready")
