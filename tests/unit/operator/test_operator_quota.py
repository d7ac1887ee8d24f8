"""Quotas and limit ranges: seen before they bite, and told by their names when they do."""

import asyncio
from typing import Any

import pytest
from operating import NAMESPACE, Twin, cluster, condition, conditions, job

from trireme_operator.api import Key, Object
from trireme_operator.plan.attempts import DRIVER
from trireme_operator.plan.pods import Trouble, not_made
from trireme_operator.plan.quota import Wanted, shortage, there
from trireme_operator.store import limited

NUMBERS = Key("WorkerCluster", NAMESPACE, "numbers")


def quota(name: str = "team", used: Object | None = None, **spec: Any) -> Object:
    found: Object = {"kind": "ResourceQuota", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
    if used is not None:
        found["status"] = {"hard": spec["hard"], "used": used}
    return found


def pods(count: int, limits: Object | None = None, requests: Object | None = None, **spec: Any) -> Wanted:
    resources = {"limits": limits or {}, **({"requests": requests} if requests else {})}
    return Wanted(count, {"containers": [{"resources": resources}], **spec})


ONE = pods(1, {"cpu": "1", "memory": "1Gi"}, {"cpu": "100m"})
ASKING = pods(1, requests={"cpu": "100m"})


@pytest.mark.parametrize(
    ("quotas", "wanted", "words"),
    [
        ([], [ONE], None),
        ([quota(hard={"pods": "2"}, used={"pods": "1"})], [ONE], None),
        ([quota(hard={"pods": "2"}, used={"pods": "2"})], [ONE], "team: pods: 1 more needed, 0 left"),
        ([quota(hard={"count/pods": "2"}, used={})], [pods(3)], "count/pods: 3 more needed, 2 left"),
        # Nobody has counted yet.
        ([quota(hard={"pods": "2"})], [pods(3)], "pods: 3 more needed, 2 left"),
        ([quota(hard={"limits.memory": "4Gi"}, used={"limits.memory": "1536Mi"})], [ONE, ONE], None),
        (
            [quota(hard={"limits.memory": "4Gi"}, used={"limits.memory": "3584Mi"})],
            [ONE],
            "limits.memory: 1Gi more needed, 512Mi left",
        ),
        # A request that is not given is the limit; by either of its names.
        ([quota(hard={"requests.memory": "512Mi"})], [ONE], "requests.memory: 1Gi more needed, 512Mi left"),
        ([quota(hard={"memory": "512Mi"})], [ONE], "memory: 1Gi more needed, 512Mi left"),
        ([quota(hard={"cpu": "1"}, used={"cpu": "950m"})], [ONE], "cpu: 100m more needed, 50m left"),
        ([quota(hard={"requests.cpu": "300m"})], [pods(3, {"cpu": "1"}, {"cpu": "0.1"})], None),
        ([quota(hard={"limits.cpu": "2"})], [pods(2, {"cpu": "1500m"})], "limits.cpu: 3 more needed, 2 left"),
        (
            [quota(hard={"requests.nvidia.com/gpu": "1"})],
            [pods(2, {"nvidia.com/gpu": 1})],
            "gpu: 2 more needed, 1 left",
        ),
        # More is used than there is.
        ([quota(hard={"pods": "1"}, used={"pods": "5"})], [ONE], "pods: 1 more needed, 0 left"),
        # What is not about pods, or not about these.
        ([quota(hard={"services": "0", "requests.storage": "0", "persistentvolumeclaims": "0"})], [ONE], None),
        ([quota(hard={"pods": "0"}, scopes=["Terminating"])], [ONE], None),
        ([quota(hard={"pods": "0"}, scopes=["BestEffort"])], [ONE], None),
        ([quota(hard={"pods": "0"}, scopes=["BestEffort"])], [pods(1)], "pods: 1 more needed"),
        ([quota(hard={"pods": "0"}, scopes=["NotTerminating", "NotBestEffort"])], [ONE], "pods: 1 more needed"),
        # A request is enough, of CPU or memory, and of a container that ends before the others.
        ([quota(hard={"pods": "0"}, scopes=["NotBestEffort"])], [ASKING], "pods: 1 more needed"),
        ([quota(hard={"pods": "0"}, scopes=["BestEffort"])], [ASKING], None),
        ([quota(hard={"pods": "0"}, scopes=["BestEffort"])], [pods(1, {"ephemeral-storage": "1Gi"})], "pods: 1 more"),
        (
            [quota(hard={"pods": "0"}, scopes=["BestEffort"])],
            [pods(1, initContainers=[{"resources": {"limits": {"memory": "1Gi"}}}])],
            None,
        ),
        # None is to come.
        ([quota(hard={"pods": "0"})], [pods(0), pods(-2)], None),
        # The first of two, by name, with all that it lacks.
        (
            [quota("b", hard={"pods": "0"}), quota("a", hard={"pods": "0", "cpu": "0"})],
            [ONE],
            "ResourceQuota a: cpu: 100m more needed, 0 left, pods: 1 more needed, 0 left",
        ),
        # What an initial container takes is taken once.
        (
            [quota(hard={"limits.memory": "1Gi"})],
            [pods(1, {"memory": "1Gi"}, initContainers=[{"resources": {"limits": {"memory": "900Mi"}}}])],
            None,
        ),
        (
            [quota(hard={"limits.memory": "1Gi"})],
            [pods(1, {"memory": "1Gi"}, initContainers=[{"resources": {"limits": {"memory": "2Gi"}}}])],
            "limits.memory: 2Gi more needed, 1Gi left",
        ),
    ],
)
def test_what_a_quota_has_no_room_for(quotas: list[Object], wanted: list[Wanted], words: str | None) -> None:
    found = shortage(quotas, wanted)
    assert (words in found) if words and found else found is words is None


@pytest.mark.parametrize(
    ("operator", "values", "given", "counts"),
    [
        ("In", ["high"], "high", True),
        ("In", ["high"], "", False),
        ("NotIn", ["high"], "high", False),
        ("NotIn", ["high"], "low", True),
        ("Exists", [], "low", True),
        ("Exists", [], "", False),
        ("DoesNotExist", [], "", True),
        ("DoesNotExist", [], "low", False),
    ],
)
def test_a_quota_for_some_priorities(operator: str, values: list[str], given: str, counts: bool) -> None:
    chosen = {"scopeName": "PriorityClass", "operator": operator, "values": values}
    found = quota(hard={"pods": "0"}, scopeSelector={"matchExpressions": [chosen]})
    assert (shortage([found], [pods(1, priorityClassName=given)]) is not None) is counts


def test_which_pods_are_counted_already() -> None:
    def pod(phase: str, **labels: str) -> Object:
        return {"metadata": {"labels": labels}, "status": {"phase": phase}}

    found = [pod("Pending", a="b"), pod("Running", a="b", c="d"), pod("Failed", a="b"), pod("Running", a="x")]
    assert there(found, {"a": "b"}) == 2
    assert there([{"metadata": {}}], {"a": "b"}) == 0


SMALL: Object = {"limits": {"cpu": "1", "memory": "1Gi"}}


def fresh(item: Object) -> Object:
    return {**item, "metadata": {name: value for name, value in item["metadata"].items() if name != "generation"}}


def turned(twin: Twin) -> Object:
    asyncio.run(twin.settle())
    return conditions(twin.objects[NUMBERS]["status"])


@pytest.mark.parametrize(
    ("spec", "hard", "reason", "words"),
    [
        # A scheduler and two workers.
        ({"replicas": 2}, {"pods": "3"}, None, ""),
        ({"replicas": 2}, {"pods": "2"}, "DesiredExceedsQuota", "2 workers have no room: ResourceQuota team: pods: 3"),
        ({"replicas": 2}, {"limits.memory": "2560Mi"}, "DesiredExceedsQuota", "lower spec.replicas or spec.resources"),
        ({"replicas": 0, "autoscaling": {"minReplicas": 0, "maxReplicas": 2}}, {"pods": "3"}, None, ""),
        (
            {"replicas": 0, "autoscaling": {"minReplicas": 0, "maxReplicas": 3}},
            {"pods": "3"},
            "MaximumExceedsQuota",
            "3 workers have no room: ResourceQuota team: pods: 4 more needed, 3 left: raise the quota, or lower "
            "spec.autoscaling.maxReplicas",
        ),
        # Nothing is to come of it.
        ({"suspend": True, "replicas": 5, "autoscaling": {"maxReplicas": 9}}, {"pods": "1"}, None, ""),
        ({"replicas": 0, "autoscaling": {"maxReplicas": 9, "mode": "Observe"}}, {"pods": "1"}, None, ""),
    ],
)
def test_a_shortage_is_told_before_any_pod_is_made(spec: Object, hard: Object, reason: str | None, words: str) -> None:
    twin = Twin()
    twin.put(quota(hard=hard, used=dict.fromkeys(hard, "0")))
    twin.put(fresh(cluster(resources=SMALL, **spec)))
    asyncio.run(twin.reconciler().reconcile(NUMBERS))
    told = conditions(twin.objects[NUMBERS]["status"])
    assert told.get("QuotaShort", {}).get("reason") == reason
    assert words in told.get("QuotaShort", {}).get("message", "")
    events = [event["reason"] for event in twin.events if event["reason"] != "Suspended"]
    assert events == ([reason] if reason else [])


def test_a_shortage_of_a_cluster_that_runs_is_told_when_it_lasts() -> None:
    twin = Twin()
    twin.put(fresh(cluster(replicas=0, resources=SMALL)))
    assert "QuotaShort" not in turned(twin)
    twin.put(quota(hard={"pods": "1"}, used={"pods": "1"}))
    operator = twin.reconciler()
    item = twin.objects[NUMBERS]
    twin.put({**item, "spec": {**item["spec"], "replicas": 2}})
    assert asyncio.run(operator.reconcile(NUMBERS)) == 3
    assert "QuotaShort" not in conditions(twin.objects[NUMBERS]["status"])
    twin.clock.pass_(3)
    asyncio.run(operator.reconcile(NUMBERS))
    assert "pods: 3 more needed, 0 left" in conditions(twin.objects[NUMBERS]["status"])["QuotaShort"]["message"]
    # It is seen at once that there is room again.
    twin.put(quota(hard={"pods": "9"}, used={"pods": "1"}))
    asyncio.run(operator.reconcile(NUMBERS))
    assert "QuotaShort" not in conditions(twin.objects[NUMBERS]["status"])


@pytest.mark.parametrize(
    ("driver", "hard", "words"),
    [
        ({"command": ["true"], "resources": SMALL}, {"limits.memory": "1Gi"}, ""),
        (
            {"command": ["true"], "resources": SMALL},
            {"limits.memory": "512Mi"},
            "the driver has no room: ResourceQuota team: limits.memory: 1Gi more needed, 512Mi left: raise the quota, "
            "or lower spec.driver.resources",
        ),
    ],
)
def test_a_driver_that_has_no_room(driver: Object, hard: Object, words: str) -> None:
    twin = Twin()
    twin.put(quota(hard=hard, used={}))
    twin.put(fresh(job(driver=driver)))
    asyncio.run(twin.settle())
    told = conditions(twin.objects[Key("WorkerJob", NAMESPACE, "mean")]["status"])
    assert told.get("QuotaShort", {}).get("message", "") == words


def test_a_driver_whose_pod_is_only_not_seen_yet_has_room() -> None:
    twin, mean = Twin(), Key("WorkerJob", NAMESPACE, "mean")
    twin.put(fresh(cluster(replicas=1, resources=SMALL)))
    twin.put(fresh(job(driver={"command": ["true"], "resources": SMALL})))
    operator = twin.reconciler()
    while Key("Job", NAMESPACE, "mean-driver") not in twin.objects:
        asyncio.run(operator.reconcile(NUMBERS))
        twin.control()
        asyncio.run(operator.reconcile(NUMBERS))
        asyncio.run(operator.reconcile(mean))
    # Of its pod, the quota knows first.
    twin.put(quota(hard={"limits.memory": "1Gi"}, used={"limits.memory": "1Gi"}))
    assert asyncio.run(operator.reconcile(mean)) == 3
    assert "QuotaShort" not in conditions(twin.objects[mean]["status"])
    twin.clock.pass_(3)
    asyncio.run(operator.reconcile(mean))
    assert conditions(twin.objects[mean]["status"])["QuotaShort"]["reason"] == "DriverExceedsQuota"


def told_short(item: Object) -> Object:
    return {**item, "status": {"conditions": [condition("QuotaShort", "True")]}}


def test_whom_a_changed_quota_concerns() -> None:
    before, used = quota(hard={"pods": "1"}), quota(hard={"pods": "1"}, used={"pods": "1"})
    # Its controller has yet to see what is in its spec.
    lowered = {**used, "status": {**used["status"], "hard": {"pods": "9"}}}
    other = {**cluster(name="far"), "metadata": {"name": "far", "namespace": "elsewhere"}}
    items = [cluster(name="calm"), told_short(cluster(name="short")), told_short(job("late")), other]
    everyone = ["calm", "short", "late"]
    for quota_, was, expected in (
        (before, None, everyone),
        # Gone: it is what it was.
        (before, before, everyone),
        (quota(hard={"pods": "2"}), before, everyone),
        (used, before, ["short", "late"]),
        (lowered, {**lowered, "status": {**lowered["status"], "used": {"pods": "0"}}}, ["short", "late"]),
        (used, lowered, everyone),
    ):
        assert [key.name for key in limited(quota_, was, items)] == expected


FORBIDDEN = 'Error creating: pods "mean-driver-x" is forbidden: '


@pytest.mark.parametrize(
    ("message", "trouble"),
    [
        (
            "exceeded quota: team, requested: pods=1, used: pods=1, limited: pods=1",
            Trouble(
                "QuotaExceeded",
                "exceeded quota: team, requested: pods=1, used: pods=1, limited: pods=1: "
                "lower spec.driver.resources, or raise the quota",
            ),
        ),
        (
            "failed quota: team: must specify limits.cpu for: driver",
            Trouble(
                "FailedCreate",
                "can't be made: failed quota: team: must specify limits.cpu for: driver: "
                "set it in spec.driver.resources",
            ),
        ),
        *(
            (text, Trouble("LimitRangeViolated", f"{text}: change spec.driver.resources, or the LimitRange"))
            for text in (
                "maximum memory usage per Container is 512Mi, but limit is 1Gi",
                "[minimum cpu usage per Pod is 100m, but request is 10m, maximum memory usage per Pod is 1Gi]",
                "cpu max limit to request ratio per Container is 2, but provided ratio is 10.000000",
            )
        ),
        (
            "no PriorityClass with name high was found",
            Trouble(
                "FailedCreate",
                "can't be made: no PriorityClass with name high was found: create it, or correct "
                "spec.driver.priorityClassName",
            ),
        ),
    ],
)
def test_why_a_driver_is_not_made(message: str, trouble: Trouble) -> None:
    assert not_made(FORBIDDEN + message, DRIVER) == trouble
