"""What to do about a WorkerCluster, or about a WorkerGroup that has all it takes from its cluster (see group.py)."""

import json
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta

from trireme_operator.api import (
    CAPACITY_ANNOTATION,
    CHART_KINDS,
    DEPLOYMENT,
    DRIVERS_ANNOTATION,
    GROUP_LABEL,
    KINDS,
    LABEL_COMPONENT,
    LABEL_INSTANCE,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_PART_OF,
    PART_OF,
    QUOTA_SHORT,
    RENEWED_ANNOTATION,
    STATEFUL_SET,
    WORKER_CLUSTER,
    Key,
    Object,
    cluster_name,
    is_group,
    key_of,
    owned_by,
    owner_reference,
)
from trireme_operator.engines import ENGINES, Adapter
from trireme_operator.plan import quota, rivals, scaling
from trireme_operator.plan.action import Delete, Patch, Plan
from trireme_operator.plan.attempts import Forgetting, began_at
from trireme_operator.plan.conditions import Condition, find, merge, moment, timestamp
from trireme_operator.plan.difference import sealed
from trireme_operator.plan.pods import Fields, Trouble, of_deployment, of_pods, waits_for_secret
from trireme_operator.plan.scaling import Scaling

MANAGER = "trireme-operator"
NO_WORKERS = "NoWorkers"
"""Why a cluster is not Ready although its engine answers, and nothing is known to keep its workers from coming."""
LOOK_CLOSER_SECONDS = 3.0
"""How long something may take to be ready before it is asked why it is not."""
_CALM_SECONDS = 30.0
# The same as in trireme.values.clusters, held together by its tests.
_COPIED = ("image", "resources", "drainSeconds", "code", "env", "volumes", "volumeMounts", "placement")
_WORKER = Fields("spec.image", "spec.resources", "spec.values.priorityClassName")
_WITH_PODS = {DEPLOYMENT.kind, STATEFUL_SET.kind}
_PRUNED = {kind.kind: kind for kind in CHART_KINDS}


@dataclass(frozen=True)
class Observed:
    """What was seen of a cluster.

    Args:
        objects: its own ones.
        pods: its pods, of every component.
        trouble: what a closer look found, where no object's status tells.
        has_control: whether its chart renders a control pod; not so when the broker is elsewhere.
        answers: whether the engine of a group's cluster answers; None for a cluster, whose own objects tell.
        scaling: what the autoscaler says; None if nothing yet.
        short: what its namespace's quotas have no room for.
        unknown: what is wrong with keys of its configuration that are taken all the same.
    """

    objects: dict[Key, Object]
    pods: Sequence[Object] = ()
    trouble: Trouble | None = None
    has_control: bool = True
    answers: bool | None = None
    scaling: Scaling | None = None
    short: Trouble | None = None
    unknown: Sequence[str] = ()

    @classmethod
    def of(cls, cluster: Object, objects: Iterable[Object], pods: Sequence[Object] = ()) -> "Observed":
        """Keep those objects that this cluster owns; its groups, which users make, are none of them."""
        own = {key_of(item): item for item in objects if owned_by(item, cluster) and not is_group(item)}
        return cls(own, pods)


def adapter(cluster: Object) -> Adapter:
    """Return the adapter of a cluster's engine."""
    return ENGINES[cluster["spec"]["engine"]]


def desired_replicas(cluster: Object) -> int:
    """Return how many workers there should be."""
    spec = cluster["spec"]
    return 0 if spec.get("suspend") else int(spec.get("replicas", 1))


def shrinks(cluster: Object, observed: Observed) -> bool:
    """Tell whether some of a cluster's workers are to go, so that it matters which."""
    workers = observed.objects.get(worker_key(cluster))
    return workers is not None and 0 < desired_replicas(cluster) < int(workers["spec"].get("replicas", 1))


def misplaced(cluster: Object) -> Trouble | None:
    """Return what is wrong with spec.values that no schema can tell."""
    if "replicas" in cluster["spec"].get("values", {}):
        return Trouble("InvalidSpec", "spec.values.replicas: set spec.replicas instead, the one size of a cluster")
    if "cluster" in cluster["spec"].get("values", {}):
        return Trouble("InvalidSpec", "spec.values.cluster: make a WorkerGroup instead, whose spec.clusterRef names it")
    return None


def values(
    cluster: Object, registry: str = "", groups: Sequence[Object] = (), metrics_from: Sequence[Object] = ()
) -> Object:
    """Return the chart values that a WorkerCluster stands for; spec.values goes last.

    Args:
        cluster: the WorkerCluster, or a group of one.
        registry: where the images are that it does not name; empty for the chart's own names.
        groups: the other WorkerGroups of the cluster.
        metrics_from: who may read its metrics, as in the `from` of a NetworkPolicy.
    """
    spec = cluster["spec"]
    engine = adapter(cluster)
    found: Object = _in_registry(engine.images, registry) if registry else {}
    found |= {name: deepcopy(spec[name]) for name in _COPIED if name in spec}
    found["replicas"] = desired_replicas(cluster)
    if metrics_from:
        found["metrics"] = {"from": [*metrics_from]}
    if "autoscaling" in spec:
        found = overlay(found, engine.autoscaled)
    found = overlay(found, spec.get(engine.name, {}))
    found = overlay(found, engine.beside(spec, [group["spec"] for group in groups]))
    found = overlay(found, spec.get("values", {}))
    if is_group(cluster):
        found["cluster"] = cluster_name(cluster)
    if engine.has_password and not (isinstance(found.get("auth"), dict) and found["auth"].get("existingSecret")):
        # The chart would make a new password at each rendering.
        found["auth"] = {"existingSecret": secret_name(cluster)}
    return found


def _in_registry(images: Object, registry: str) -> Object:
    return {
        key: _in_registry(value, registry) if isinstance(value, dict) else f"{registry}/{value}"
        for key, value in images.items()
    }


def overlay(below: Object, above: Object) -> Object:
    """Return a map with another one's entries put over its own, map by map; the lower one is changed."""
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        below[key] = overlay(below[key], value) if both else deepcopy(value)
    return below


def secret_name(cluster: Object) -> str:
    """Return the name of the Secret with the cluster's password."""
    return f"{cluster_name(cluster)}-auth"


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
    metadata = {
        **item["metadata"],
        "namespace": cluster["metadata"]["namespace"],
        "ownerReferences": [owner_reference(cluster)],
        "labels": {
            LABEL_NAME: cluster["spec"]["engine"],
            LABEL_INSTANCE: cluster_name(cluster),
            LABEL_PART_OF: PART_OF,
            **item["metadata"].get("labels", {}),
            LABEL_MANAGED_BY: MANAGER,
        },
    }
    return {**item, "metadata": metadata}


def owned(cluster: Object, rendered: list[Object]) -> list[Object]:
    """Return the objects that a chart gave, as this cluster's own."""
    return [sealed(_owned(item, cluster)) for item in rendered]


def worker_key(cluster: Object) -> Key:
    """Return the key of the Deployment of a cluster's workers."""
    return Key(DEPLOYMENT.kind, cluster["metadata"]["namespace"], f"{cluster['metadata']['name']}-worker")


def control_key(cluster: Object) -> Key:
    """Return the key of the controller of a cluster's control pod."""
    engine = adapter(cluster)
    return Key(engine.control_kind.kind, cluster["metadata"]["namespace"], f"{cluster_name(cluster)}-{engine.control}")


def monitor_key(cluster: Object) -> Key:
    """Return the key of the Deployment that tells the demand of a cluster whose control pod is elsewhere."""
    return _deployment_key(cluster, adapter(cluster).monitor)


def _deployment_key(cluster: Object, component: str) -> Key:
    metadata = cluster["metadata"]
    return Key(DEPLOYMENT.kind, metadata["namespace"], f"{metadata['name']}-{component}")


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
    lacks_secret = _may_lack_secret(cluster, wanted, observed)
    # Of those that run, a control pod that waits for it needs no other start.
    having = (_needing(cluster, wanted) & observed.objects.keys()) - {control_key(cluster)}
    return Plan(
        create=[secret(cluster, password)] if lacks_secret else [],
        renew=[renewal(key, now) for key in sorted(having)] if lacks_secret else [],
        apply=wanted,
        patch=_renewed_servers(cluster, observed),
        delete=[
            Delete(_PRUNED[key.kind], key.namespace, key.name, item["metadata"]["uid"])
            for key, item in observed.objects.items()
            if key.kind in _PRUNED and key not in keys
        ],
        again=look_again(cluster, "Ready", now),
    )


def _renewed_servers(cluster: Object, observed: Observed) -> list[Patch]:
    """Begin servers anew whose control pod has forgotten them."""
    new = None if is_group(cluster) else forgetting(cluster, observed.pods)
    if new is None:
        return []
    found = []
    for server in adapter(cluster).servers:
        key = _deployment_key(cluster, server)
        template = observed.objects.get(key, {}).get("spec", {}).get("template", {}).get("metadata", {})
        is_renewed = template.get("annotations", {}).get(RENEWED_ANNOTATION, "") >= new.since
        began = [began_at(pod, server) for pod in of_component(observed.pods, server)]
        if template and not is_renewed and any(at is not None and at < new.since for at in began):
            found.append(renewal(key, moment(new.since)))
    return found


def _may_lack_secret(cluster: Object, wanted: Sequence[Object], observed: Observed) -> bool:
    """Tell whether the Secret with a cluster's password has to be made, as far as that shows.

    The operator can't look: it is made before the first that needs it, and again once a pod waits for it; where there
    is a control pod, that one alone, because one that runs knows the old password only.
    """
    name, control = secret_name(cluster), control_key(cluster)
    needing = _needing(cluster, wanted)
    if not adapter(cluster).has_password or is_group(cluster) or not needing:
        return False
    pods = observed.pods
    if control in needing:
        needing, pods = {control}, of_component(pods, adapter(cluster).control)
    return not needing <= observed.objects.keys() or waits_for_secret(pods, name)


def _needing(cluster: Object, wanted: Sequence[Object]) -> set[Key]:
    """Return those whose pods have the password."""
    name = secret_name(cluster)
    return {key_of(item) for item in wanted if item["kind"] in _WITH_PODS and _has_password(item, name)}


def renewal(key: Key, now: datetime) -> Patch:
    """Return what makes pods begin anew, one after the other, as `kubectl rollout restart` does."""
    annotations = {RENEWED_ANNOTATION: timestamp(now)}
    body = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    return Patch(KINDS[key.kind], key.namespace, key.name, body)


def _has_password(item: Object, name: str) -> bool:
    """Tell whether pods get a variable from a Secret of this name."""
    return any(
        ((variable.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name") == name
        for container in item["spec"]["template"]["spec"]["containers"]
        for variable in container.get("env") or ()
    )


def forgetting(cluster: Object, pods: Sequence[Object]) -> Forgetting | None:
    """Return the control pod of a cluster if it knows none of the drivers that began before it.

    Args:
        cluster: the WorkerCluster.
        pods: its pods, of every component.
    """
    engine = adapter(cluster)
    there = [pod for pod in of_component(pods, engine.control) if "deletionTimestamp" not in pod["metadata"]]
    newest = max(there, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
    if newest is None or not (fix := engine.forgets(newest)):
        return None
    return Forgetting(engine.control, newest["metadata"]["creationTimestamp"], fix)


def control_fields(cluster: Object) -> Fields:
    """Return where a cluster's control pod is set."""
    engine = adapter(cluster)
    control = f"{engine.name}.{engine.control}"
    return Fields(engine.control_image, f"spec.{control}.resources", f"spec.values.{engine.control}.priorityClassName")


def lacks_quota(
    cluster: Object, wanted: Sequence[Object], pods: Sequence[Object], quotas: Sequence[Object]
) -> Trouble | None:
    """Say what a namespace's quotas have no room for, before a pod is refused: the size that is wanted, or the largest.

    Args:
        cluster: the WorkerCluster, or a complete group.
        wanted: what its chart gave.
        pods: the pods of the cluster.
        quotas: the ResourceQuotas of its namespace.
    """
    autoscaling = cluster["spec"].get("autoscaling")
    sizes = {"spec.replicas": desired_replicas(cluster)}
    if autoscaling and scaling.is_on(cluster) and scaling.sets_size(cluster):
        sizes["spec.autoscaling.maxReplicas"] = int(autoscaling["maxReplicas"])
    for field, size in sizes.items():
        to_come = []
        for item in wanted:
            if item["kind"] in _WITH_PODS:
                count = size if key_of(item) == worker_key(cluster) else item["spec"].get("replicas", 1)
                there = quota.there(pods, item["spec"]["selector"]["matchLabels"])
                to_come.append(quota.Wanted(count - there, item["spec"]["template"]["spec"]))
        if short := quota.shortage(quotas, to_come):
            reason = "DesiredExceedsQuota" if field == "spec.replicas" else "MaximumExceedsQuota"
            fix = f"raise the quota, or lower {field} or {_WORKER.resources}"
            return Trouble(reason, f"{size} workers have no room: {short}: {fix}")
    return None


def taken(item: Object, cluster: Object) -> Trouble:
    """Say that an object's name is in use by something that is not this cluster's, or this group's."""
    this = "this group" if is_group(cluster) else "this cluster"
    return Trouble(
        "NameTaken",
        f"a {item['kind']} {item['metadata']['name']} is there already and is not {this}'s: "
        f"delete it, or name {this} otherwise",
    )


def worth_a_closer_look(item: Object, type_: str, now: datetime) -> bool:
    """Tell whether a condition has been False for so long that something may be wrong; suspending is no trouble."""
    found = find(item, type_)
    if found is None or found["status"] != "False" or item["spec"].get("suspend"):
        return False
    return now - moment(found["lastTransitionTime"]) >= timedelta(seconds=LOOK_CLOSER_SECONDS)


def look_again(item: Object, type_: str, now: datetime) -> float | None:
    """Return the seconds until the next look at something that is not as it should be; rarer as time goes by."""
    found = find(item, type_)
    if item["spec"].get("suspend") or (found and found["status"] == "True"):
        return None
    waited = (now - moment(found["lastTransitionTime"])).total_seconds() if found else 0.0
    return min(_CALM_SECONDS, max(LOOK_CLOSER_SECONDS, waited / 4))


def missing_code(field: str, name: str) -> Trouble:
    """Say that a ConfigMap with the user's code is not there."""
    return Trouble("CodeNotFound", f"{field}: there is no ConfigMap {name} in this namespace: create it")


def status(cluster: Object, observed: Observed, now: datetime, problem: Trouble | None = None) -> Object:
    """Return the status of a cluster.

    Args:
        cluster: the WorkerCluster.
        observed: what was seen of it.
        now: the time.
        problem: why nothing can be done about it before the spec, or something else, is changed.
    """
    workers = observed.objects.get(worker_key(cluster), {})
    counts = workers.get("status", {})
    conditions = [
        _ready(cluster, observed, problem),
        _progressing(cluster, observed, problem),
        Condition("Suspended", True, "Suspended", scaling.held_at_0(cluster))
        if cluster["spec"].get("suspend")
        else Condition("Suspended", False, "NotSuspended", "spec.suspend is false"),
    ]
    if active := scaling.condition(cluster, observed.scaling):
        conditions.append(active)
    if contended := rivals.condition(cluster, observed.scaling):
        conditions.append(contended)
    if observed.short and not problem:
        conditions.append(Condition(QUOTA_SHORT, True, observed.short.reason, observed.short.message))
    # Groups have their cluster's, which tells it.
    if observed.unknown and cluster["kind"] == WORKER_CLUSTER.kind:
        told = f"spec.{cluster['spec']['engine']}.config: {'; '.join(observed.unknown)}"
        conditions.append(Condition("ConfigUnknown", True, "UnknownKeys", told))
    before = cluster.get("status", {}).get("conditions", [])
    sized = scaling.status(cluster, observed.scaling)
    return {
        "observedGeneration": cluster["metadata"]["generation"],
        "replicas": int(counts.get("replicas", 0)),
        "readyReplicas": int(counts.get("readyReplicas", 0)),
        "selector": ",".join(f"{label}={value}" for label, value in worker_labels(cluster).items()),
        "capacity": offered_by(workers),
        **({"autoscaling": sized} if sized else {}),
        **({} if is_group(cluster) else {"endpoints": _endpoints(cluster, observed)}),
        "conditions": merge(before, conditions, cluster["metadata"]["generation"], timestamp(now)),
    }


def _endpoints(cluster: Object, observed: Observed) -> list[Object]:
    engine, found = adapter(cluster), []
    name, namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
    for point in engine.endpoints:
        if point.component and _deployment_key(cluster, point.component) not in observed.objects:
            continue
        if not point.component and not observed.has_control:
            continue
        service = Key("Service", namespace, f"{name}-{point.component or engine.control}")
        ports = {port.get("name") for port in observed.objects.get(service, {}).get("spec", {}).get("ports", [])}
        if not point.port or point.port in ports:
            found.append({"name": point.name, "url": point.url.format(host=f"{service.name}.{namespace}.svc")})
    return found


def for_drivers(workers: Object) -> Object:
    """Read what drivers get beside what the workers of a Deployment have; nothing if somebody else wrote there."""
    try:
        found = json.loads(workers["metadata"]["annotations"][DRIVERS_ANNOTATION])
    except (AttributeError, KeyError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def worker_labels(cluster: Object) -> Object:
    """Return the labels by which the pods of a cluster's own workers are told, or of a group's."""
    instance, name = cluster_name(cluster), cluster["metadata"]["name"]
    if is_group(cluster):
        return {LABEL_INSTANCE: instance, LABEL_COMPONENT: "group-worker", GROUP_LABEL: name}
    return {LABEL_NAME: cluster["spec"]["engine"], LABEL_INSTANCE: instance, LABEL_COMPONENT: "worker"}


def workers_among(pods: Sequence[Object], cluster: Object) -> list[Object]:
    """Return those of the pods of one cluster that are its own workers, or a group's."""
    wanted = {label: worker_labels(cluster).get(label) for label in (LABEL_COMPONENT, GROUP_LABEL)}
    return [
        pod for pod in pods if all(pod["metadata"]["labels"].get(label) == value for label, value in wanted.items())
    ]


def offered_by(workers: Object) -> Object:
    """Read what one worker of a Deployment offers; nothing if somebody else wrote there."""
    try:
        offered = json.loads(workers["metadata"]["annotations"][CAPACITY_ANNOTATION])
        return {key: str(value) for key, value in offered.items()}
    except (AttributeError, KeyError, ValueError):
        return {}


def of_component(pods: Sequence[Object], component: str) -> list[Object]:
    """Return those of a cluster's pods that are of a component."""
    return [pod for pod in pods if pod["metadata"]["labels"].get(LABEL_COMPONENT) == component]


def _ready(cluster: Object, observed: Observed, problem: Trouble | None) -> Condition:
    """Ready means that work is done: the engine answers, and at least one worker takes work if any should."""
    if problem:
        return Condition("Ready", False, problem.reason, problem.message)
    if cluster["spec"].get("suspend"):
        return Condition("Ready", False, "Suspended", scaling.held_at_0(cluster))
    engine, desired = adapter(cluster), desired_replicas(cluster)
    control = observed.objects.get(control_key(cluster), {})
    workers = observed.objects.get(worker_key(cluster), {})
    answers = not observed.has_control or int(control.get("status", {}).get("readyReplicas", 0)) > 0
    if observed.answers is False:
        what = f"the {engine.control} of WorkerCluster {cluster_name(cluster)} is not ready: see its conditions"
        return _not_ready(Trouble("ClusterNotReady", what))
    if not (observed.answers or answers):
        fields = control_fields(cluster)
        pods = of_component(observed.pods, engine.control)
        found = of_deployment(control, fields) or of_pods(pods, fields) or observed.trouble
        return _not_ready(found or Trouble("ControlNotReady", f"the {engine.control} is not ready yet"))
    for server in engine.servers:
        deployment = observed.objects.get(_deployment_key(cluster, server))
        if deployment and not int(deployment.get("status", {}).get("readyReplicas", 0)):
            fields = Fields("spec.image", f"spec.{engine.name}.{server}.resources")
            found = of_deployment(deployment) or of_pods(of_component(observed.pods, server), fields)
            return _not_ready(found or Trouble("ControlNotReady", f"the {server} server is not ready yet"))
    if int(workers.get("status", {}).get("readyReplicas", 0)) == 0 and (desired > 0 or not workers):
        found = _workers_trouble(cluster, observed, workers)
        return _not_ready(found or Trouble(NO_WORKERS, f"no worker of {desired} is ready yet"))
    return Condition("Ready", True, "Ready", f"the {engine.control} answers, and workers are ready")


def _not_ready(trouble: Trouble) -> Condition:
    return Condition("Ready", False, trouble.reason, trouble.message)


def _workers_trouble(cluster: Object, observed: Observed, workers: Object) -> Trouble | None:
    pods, name = workers_among(observed.pods, cluster), secret_name(cluster)
    if adapter(cluster).has_password and waits_for_secret(pods, name):
        control = adapter(cluster).control
        problem = f"the Secret {name} is gone: create it with the password that the {control} has in its environment"
        return Trouble("CreateContainerConfigError", f"{problem}, or restart the {control}, and there is a new one")
    return of_deployment(workers, _WORKER) or of_pods(pods, _WORKER) or observed.trouble


def _progressing(cluster: Object, observed: Observed, problem: Trouble | None) -> Condition:
    workers = observed.objects.get(worker_key(cluster), {})
    counts = workers.get("status", {})
    desired = desired_replicas(cluster)
    seen = workers and counts.get("observedGeneration", 0) >= workers["metadata"].get("generation", 0)
    reached = all(counts.get(name, 0) == desired for name in ("replicas", "readyReplicas", "updatedReplicas"))
    if problem:
        return Condition("Progressing", False, problem.reason, "nothing changes before that is mended: see Ready")
    if seen and reached:
        return Condition("Progressing", False, "Settled", "as many workers are ready as are desired")
    if found := _workers_trouble(cluster, observed, workers):
        return Condition("Progressing", True, found.reason, found.message)
    return Condition("Progressing", True, "WorkersChanging", f"workers come or go, until {desired} are ready")
