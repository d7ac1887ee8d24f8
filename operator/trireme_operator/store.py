"""What was last seen of the cluster, by kind and key."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

from trireme_operator.api import (
    CRON_LABEL,
    GROUP_LABEL,
    JOB,
    JOB_LABEL,
    LABEL_INSTANCE,
    POD,
    QUOTA_SHORT,
    RESOURCE_QUOTA,
    WORKER_CLUSTER,
    WORKER_CRON_JOB,
    WORKER_GROUP,
    WORKER_JOB,
    Key,
    Object,
    cluster_name,
    key_of,
)
from trireme_operator.plan import attempts


class Store:
    """Objects by key, with the look-ups that reconciling needs."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Object]] = defaultdict(dict)
        self._by_owner: dict[str, set[Key]] = defaultdict(set)
        self._pods: dict[tuple[str, str], set[Key]] = defaultdict(set)
        self._failed: dict[str, list[Object]] = {}

    def get(self, key: Key) -> Object | None:
        """Return what was last seen under a key."""
        return self._objects[key.kind].get(key)

    def put(self, item: Object) -> None:
        """Take in an object that was seen, in place of what was seen before."""
        key = key_of(item)
        self._take_out(key)
        self._objects[key.kind][key] = item
        for owner in _owners(item):
            self._by_owner[owner].add(key)
        if key.kind == POD.kind:
            self._pods[_instance(item)].add(key)

    def remove(self, key: Key) -> None:
        """Forget an object that is gone, but for what `failed` tells."""
        old = self._take_out(key)
        if old is None:
            return
        self._failed.pop(old["metadata"].get("uid", ""), None)
        if key.kind == POD.kind and old.get("status", {}).get("phase") == "Failed":
            for owner in old["metadata"].get("ownerReferences", []):
                found = self.get(Key(JOB.kind, key.namespace, owner["name"])) if owner["kind"] == JOB.kind else None
                if found and found["metadata"]["uid"] == owner["uid"]:
                    self._failed[owner["uid"]] = [*self.failed(found), old][-attempts.MOST :]

    def _take_out(self, key: Key) -> Object | None:
        old = self._objects[key.kind].pop(key, None)
        if old is None:
            return None
        for owner in _owners(old):
            _discard(self._by_owner, owner, key)
        if key.kind == POD.kind:
            _discard(self._pods, _instance(old), key)
        return old

    def replace(self, kind: str, items: Iterable[Object]) -> set[Key]:
        """Take in a whole list of a kind; return the keys whose objects came, changed or went."""
        seen = {key_of(item): item for item in items}
        before = self._objects[kind]
        gone = before.keys() - seen.keys()
        new = {key for key, item in seen.items() if _version(item) != _version(before.get(key))}
        for key in gone:
            self.remove(key)
        for key in new:
            self.put(seen[key])
        return gone | new

    def owned(self, owner: Object) -> list[Object]:
        """Return the objects that refer to an owner."""
        return [self._objects[key.kind][key] for key in sorted(self._by_owner.get(owner["metadata"]["uid"], ()))]

    def pods(self, namespace: str, cluster: str) -> list[Object]:
        """Return the pods of a cluster and its drivers."""
        return [self._objects[key.kind][key] for key in sorted(self._pods.get((namespace, cluster), ()))]

    def failed(self, job: Object) -> list[Object]:
        """Return the pods of a batch/v1 Job that failed and are gone, in the order in which they went; the last ones.

        What Kubernetes ends for others' sake it deletes as well, a second later, and nothing else tells of it then.
        """
        return self._failed.get(job["metadata"]["uid"], [])

    def groups(self, namespace: str, cluster: str) -> list[Object]:
        """Return the groups of a cluster, by name, but for those that are about to go."""
        found = [
            group
            for group in self._objects[WORKER_GROUP.kind].values()
            if group["metadata"]["namespace"] == namespace
            and cluster_name(group) == cluster
            and "deletionTimestamp" not in group["metadata"]
        ]
        return sorted(found, key=lambda group: str(group["metadata"]["name"]))

    def quotas(self, namespace: str) -> list[Object]:
        """Return the ResourceQuotas of a namespace."""
        found = self._objects[RESOURCE_QUOTA.kind]
        return [item for key, item in found.items() if key.namespace == namespace]

    def of_kind(self, kind: str) -> list[Object]:
        """Return all objects of a kind."""
        return list(self._objects[kind].values())


Index = TypeVar("Index")


def _discard(keys: dict[Index, set[Key]], index: Index, key: Key) -> None:
    keys[index].discard(key)
    if not keys[index]:
        del keys[index]


def _instance(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"].get("labels", {}).get(LABEL_INSTANCE, "")


def _owners(item: Object) -> list[str]:
    return [reference["uid"] for reference in item["metadata"].get("ownerReferences", [])]


def _version(item: Object | None) -> str | None:
    return item["metadata"].get("resourceVersion") if item else None


def limited(quota: Object, before: Object | None, items: Iterable[Object]) -> list[Key]:
    """Return those of a namespace to look at when its quota changed: all, or those that lack room if it was only used.

    Args:
        quota: the ResourceQuota, as it is or was.
        before: as it was before; None if it is new.
        items: clusters, groups and jobs.
    """
    same = before is not None and before["spec"] == quota["spec"] and _hard(before) == _hard(quota)
    only_used = same and before is not quota
    return [
        key_of(item)
        for item in items
        if item["metadata"]["namespace"] == quota["metadata"]["namespace"]
        and (not only_used or any(one["type"] == QUOTA_SHORT for one in item.get("status", {}).get("conditions", [])))
    ]


def _hard(quota: Object) -> Object | None:
    """Return what a quota limits now; a change of its spec takes effect when its controller has seen it."""
    found: Object | None = quota.get("status", {}).get("hard", quota["spec"].get("hard"))
    return found


def concerned(item: Object, borrowers: Iterable[Object]) -> set[Key]:
    """Return the clusters, groups, jobs and cron jobs to look at when an object came, changed or went.

    Args:
        item: the object.
        borrowers: every WorkerJob and WorkerGroup, for those that refer to a cluster.
    """
    key = key_of(item)
    labels = item["metadata"].get("labels", {})
    if key.kind == WORKER_CRON_JOB.kind:
        return {key}
    if key.kind == WORKER_JOB.kind:
        name = labels.get(CRON_LABEL)
        return {key, Key(WORKER_CRON_JOB.kind, key.namespace, name)} if name else {key}
    found: set[Key] = set()
    if key.kind in (WORKER_CLUSTER.kind, WORKER_GROUP.kind):
        # What a group takes for itself, such as queues, the other workers of its cluster have to know.
        cluster = Key(WORKER_CLUSTER.kind, key.namespace, cluster_name(item))
        found |= {key, cluster}
        found |= {
            key_of(one)
            for one in borrowers
            if one["metadata"]["namespace"] == key.namespace
            and one["spec"].get("clusterRef", {}).get("name") == cluster.name
            and key.kind in (WORKER_CLUSTER.kind, one["kind"])
        }
    if name := labels.get(GROUP_LABEL):
        return {*found, Key(WORKER_GROUP.kind, key.namespace, name)}
    if name := labels.get(JOB_LABEL):
        found.add(Key(WORKER_JOB.kind, key.namespace, name))
    if name := labels.get(LABEL_INSTANCE):
        found.add(Key(WORKER_CLUSTER.kind, key.namespace, name))
    return found
