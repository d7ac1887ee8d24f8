"""Names of the API and of what is put on objects."""

import sys
from typing import Any, NamedTuple, TypeAlias

GROUP = "trireme.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object as JSON."""

LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_NAME = "app.kubernetes.io/name"
LABEL_PART_OF = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
PART_OF = "trireme"
SELECTOR = f"{LABEL_PART_OF}={PART_OF}"
"""What the operator watches of other APIs' objects."""

CAPACITY_ANNOTATION = f"{GROUP}/capacity"
"""On a worker Deployment: what one worker offers, as JSON."""

DRIVERS_ANNOTATION = f"{GROUP}/drivers"
"""On a worker Deployment: what drivers get beside what workers have, as JSON: image, env, envFrom, volumes, mounts."""

APPLIED_ANNOTATION = f"{GROUP}/applied"
"""On what the operator applies: a digest of all that it applied, so that it sees when that has changed."""

RENEWED_ANNOTATION = f"{GROUP}/renewed"
"""On pod templates: since when pods have what took the place of what was lost: a password, a master."""

JOB_MANAGER = f"{GROUP}/workerjob-controller"
"""In a WorkerJob's spec.managedBy: this operator."""

SCALER = "trireme-autoscaler"
"""The field manager of what the autoscaler writes: who set a size, in a cluster's managedFields."""

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""On a pod: a Deployment that shrinks lets those with the least go first."""

GROUP_LABEL = f"{GROUP}/group"
"""On what belongs to a WorkerGroup: its name."""

JOB_LABEL = f"{GROUP}/job"
"""On what belongs to a WorkerJob: its name."""

CRON_LABEL = f"{GROUP}/cronjob"
"""On a WorkerJob that a WorkerCronJob made: the latter's name."""

SCHEDULED_ANNOTATION = f"{GROUP}/cronjob-scheduled-timestamp"
"""On a WorkerJob that a WorkerCronJob made: when it was due."""

QUOTA_SHORT = "QuotaShort"
"""The condition of what the namespace's ResourceQuotas have no room for."""


class Kind(NamedTuple):
    """An API's kind, and how its objects are found in it."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """The apiVersion of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version


WORKER_CLUSTER = Kind(GROUP, VERSION, "WorkerCluster", "workerclusters")
WORKER_GROUP = Kind(GROUP, VERSION, "WorkerGroup", "workergroups")
WORKER_JOB = Kind(GROUP, VERSION, "WorkerJob", "workerjobs")
WORKER_CRON_JOB = Kind(GROUP, VERSION, "WorkerCronJob", "workercronjobs")
JOB = Kind("batch", "v1", "Job", "jobs")
POD = Kind("", "v1", "Pod", "pods")
SECRET = Kind("", "v1", "Secret", "secrets")
EVENT = Kind("", "v1", "Event", "events")
RESOURCE_QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
STATEFUL_SET = Kind("apps", "v1", "StatefulSet", "statefulsets")

CHART_KINDS = (
    CONFIG_MAP,
    Kind("", "v1", "Service", "services"),
    Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    STATEFUL_SET,
    DEPLOYMENT,
)
"""What engine charts render, in the order it is applied: what pods mount goes before them."""

WATCHED = (WORKER_CLUSTER, WORKER_GROUP, WORKER_JOB, WORKER_CRON_JOB, *CHART_KINDS, JOB, POD, RESOURCE_QUOTA)


KINDS = {kind.kind: kind for kind in (*WATCHED, SECRET, EVENT, LEASE)}
"""Every kind that the operator knows, by name."""


class Key(NamedTuple):
    """Which object: `kind` is the kind's name, unique among those that the operator knows."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


def key_of(item: Object) -> Key:
    """Return the key of an object."""
    return Key(item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])


def share_texts(item: Object) -> None:
    """Let equal texts of ConfigMaps be one in memory: all clusters of an engine have the same scripts."""
    if item.get("kind") == CONFIG_MAP.kind and item.get("data"):
        texts = item["data"].items()
        item["data"] = {name: sys.intern(text) if isinstance(text, str) else text for name, text in texts}


def is_group(item: Object) -> bool:
    """Tell whether an object is a further group of a cluster's workers."""
    return bool(item["kind"] == WORKER_GROUP.kind)


def cluster_name(workers: Object) -> str:
    """Return the name of the cluster that a WorkerCluster is, or a WorkerGroup is a part of."""
    return str(workers["spec"]["clusterRef"]["name"] if is_group(workers) else workers["metadata"]["name"])


def owner_reference(owner: Object) -> Object:
    """Return the reference that makes the owner's end the end of the object that carries it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owned_by(item: Object, owner: Object) -> bool:
    """Tell whether the object is controlled by this very owner, not by a namesake of an earlier time."""
    references = item["metadata"].get("ownerReferences", [])
    return any(reference["uid"] == owner["metadata"]["uid"] for reference in references)
