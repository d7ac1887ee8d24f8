"""What a WorkerGroup is together with its cluster; as such, cluster.py says what to do about it."""

from copy import deepcopy

from trireme_operator.api import WORKER_CLUSTER, WORKER_GROUP, Object, cluster_name, owned_by, owner_reference
from trireme_operator.engines import ENGINES
from trireme_operator.plan.action import Patch
from trireme_operator.plan.cluster import adapter, misplaced, overlay
from trireme_operator.plan.pods import Trouble

# Given by a group, these take the place of the cluster's as a whole.
_REPLACED = ("image", "resources", "drainSeconds", "code", "placement")
# These together, because the one names the other.
_MOUNTED = ("volumes", "volumeMounts")
_OWN = ("clusterRef", "replicas", "autoscaling")


def complete(group: Object, cluster: Object | None) -> Object:
    """Return a group with what it leaves out as in its cluster; as it is, where there is no such cluster.

    Its size is its own. Environment variables are added to the cluster's, what is set in the engine's block and in
    `values` is put over what is there.
    """
    if cluster is None:
        return group
    own, theirs = group["spec"], cluster["spec"]
    engine = theirs["engine"]
    spec: Object = {"engine": engine}
    spec |= {name: own.get(name, theirs.get(name)) for name in _REPLACED if name in own or name in theirs}
    mounted = own if any(name in own for name in _MOUNTED) else theirs
    spec |= {name: mounted[name] for name in _MOUNTED if name in mounted}
    spec |= {name: own[name] for name in _OWN if name in own}
    spec["suspend"] = bool(own.get("suspend") or theirs.get("suspend"))
    env = {variable["name"]: variable for variable in (*theirs.get("env", ()), *own.get("env", ()))}
    if env:
        spec["env"] = list(env.values())
    for block in (engine, "values"):
        spec[block] = overlay(deepcopy(theirs.get(block, {})), own.get(block, {}))
    return {**group, "spec": spec}


def adoption(group: Object, cluster: Object) -> Patch | None:
    """Return what makes a group end with its cluster, whether or not an operator runs; None if it does already."""
    if owned_by(group, cluster):
        return None
    reference = {
        name: value
        for name, value in owner_reference(cluster).items()
        # It is the user's, and its end holds up nobody's.
        if name not in ("controller", "blockOwnerDeletion")
    }
    metadata = group["metadata"]
    # Of an earlier cluster of that name nothing is left.
    others = [
        other
        for other in metadata.get("ownerReferences", [])
        if (other["kind"], other["name"]) != (cluster["kind"], cluster["metadata"]["name"])
    ]
    body = {"metadata": {"ownerReferences": [*others, reference], "resourceVersion": metadata.get("resourceVersion")}}
    return Patch(WORKER_GROUP, metadata["namespace"], metadata["name"], body)


def no_cluster(group: Object) -> Trouble:
    """Say that a group's cluster is not there."""
    return Trouble(
        "ClusterNotFound",
        f"spec.clusterRef.name: there is no {WORKER_CLUSTER.kind} {cluster_name(group)} in this namespace: create it",
    )


def unfit(group: Object, cluster: Object) -> Trouble | None:
    """Return what is wrong with a group of this cluster that no schema can tell."""
    own, engine = group["spec"], adapter(cluster)
    name = cluster_name(group)
    if group["metadata"]["name"] == name:
        return _invalid(f"metadata.name: {name} is the cluster's: give the group another name")
    for block in ENGINES:
        if block in own and block != engine.name:
            return _invalid(f"spec.{block}: WorkerCluster {name} is of engine {engine.name}: remove it")
    if wrong := engine.unfit(own):
        return _invalid(wrong)
    if problem := misplaced(group):
        return problem
    if problem := misplaced(cluster):
        # Its values are the group's, too.
        return _invalid(f"of WorkerCluster {name}: {problem.message}")
    return None


def _invalid(message: str) -> Trouble:
    return Trouble("InvalidSpec", message)
