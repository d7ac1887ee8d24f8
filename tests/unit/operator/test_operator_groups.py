"""Further groups of a cluster's workers: what they take from it, what is refused, how they end."""

import asyncio
from typing import Any

import pytest
from operating import NAMESPACE, NOW, STATUS, Twin, cluster, conditions, environment, group

from trireme_operator.api import Key, Object
from trireme_operator.plan import cluster as cluster_plan
from trireme_operator.plan import group as group_plan

ENGINES = ("dask", "spark", "celery")
NUMBERS = Key("WorkerCluster", NAMESPACE, "numbers")
BIG = Key("WorkerGroup", NAMESPACE, "big")
WORKERS = Key("Deployment", NAMESPACE, "big-worker")
OWN_WORKERS = Key("Deployment", NAMESPACE, "numbers-worker")
LIMITS = {"limits": {"cpu": "2", "memory": "4Gi"}}
DATA = {"volumes": [{"name": "data", "emptyDir": {}}], "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
SCRATCH = [{"name": "scratch", "emptyDir": {}}]
CHILDREN = {
    WORKERS,
    Key("PodDisruptionBudget", NAMESPACE, "big-worker"),
    Key("ConfigMap", NAMESPACE, "big-conf"),
    Key("ConfigMap", NAMESPACE, "big-scripts"),
}


def fresh(item: Object) -> Object:
    return {**item, "metadata": {name: value for name, value in item["metadata"].items() if name != "generation"}}


def settled(*items: Object, **options: Any) -> Twin:
    twin = Twin(**options)
    for item in items:
        twin.put(fresh(item))
    asyncio.run(twin.settle())
    return twin


def change(twin: Twin, key: Key, **spec: Any) -> None:
    item = twin.objects[key]
    twin.put({**item, "spec": {**item["spec"], **spec}})
    asyncio.run(twin.settle())


def told(twin: Twin, type_: str = "Ready") -> tuple[str, str, str]:
    found = conditions(twin.objects[BIG]["status"])[type_]
    return found["status"], found["reason"], found["message"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_group_is_made_ready_and_then_costs_no_write(engine: str) -> None:
    twin = settled(cluster(engine, replicas=1), group(replicas=3))
    children = {
        key
        for key, item in twin.objects.items()
        if any(owner["kind"] == "WorkerGroup" for owner in item["metadata"].get("ownerReferences", []))
    }
    assert children == CHILDREN
    assert told(twin)[:2] == ("True", "Ready")
    assert told(twin, "Progressing")[1] == "Settled"
    status = twin.objects[BIG]["status"]
    assert (status["replicas"], status["readyReplicas"]) == (3, 3)
    assert status["capacity"]
    labels = twin.objects[WORKERS]["spec"]["selector"]["matchLabels"]
    assert set(status["selector"].split(",")) <= {f"{name}={value}" for name, value in labels.items()}
    # Its cluster has a selector, a size and objects of its own still.
    assert twin.objects[OWN_WORKERS]["spec"]["replicas"] == 1
    own = twin.objects[OWN_WORKERS]["spec"]["selector"]["matchLabels"]
    assert not own.items() <= twin.objects[WORKERS]["spec"]["template"]["metadata"]["labels"].items()
    before = len(twin.writes)
    twin.restart()
    for key in (NUMBERS, BIG):
        asyncio.run(twin.reconciler().reconcile(key))
    assert twin.writes[before:] == []


def test_a_group_may_come_before_its_cluster() -> None:
    twin = settled(group())
    assert told(twin) == (
        "False",
        "ClusterNotFound",
        "spec.clusterRef.name: there is no WorkerCluster numbers in this namespace: create it",
    )
    assert twin.objects.keys() == {BIG}
    twin.put(fresh(cluster()))
    asyncio.run(twin.settle())
    assert told(twin)[1] == "Ready"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_group_ends_with_its_cluster_and_no_operator_is_needed(engine: str) -> None:
    twin = settled(cluster(engine), group())
    assert twin.objects[BIG]["metadata"]["ownerReferences"] == [
        {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerCluster", "name": "numbers", "uid": "uid-numbers"}
    ]
    twin.remove(NUMBERS)
    assert not twin.objects.keys() - {Key("Secret", NAMESPACE, "numbers-auth")}


def test_the_reference_to_its_cluster_is_there_before_anything_is_made() -> None:
    twin = settled(cluster(), group())
    about_group = [write for write in twin.writes if write[1] in {BIG, *CHILDREN}]
    assert about_group[0] == ("patch", BIG)


def test_owners_that_others_gave_a_group_stay_and_that_of_an_earlier_cluster_goes() -> None:
    argo = {"apiVersion": "v1", "kind": "ConfigMap", "name": "argo", "uid": "argo"}
    old = {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerCluster", "name": "numbers", "uid": "old"}
    mine = group()
    mine["metadata"]["ownerReferences"] = [argo, old]
    patch = group_plan.adoption(mine, cluster())
    assert patch
    assert patch.body["metadata"]["ownerReferences"] == [argo, {**old, "uid": "uid-numbers"}]


def test_a_cluster_without_its_group_goes_on() -> None:
    twin = settled(cluster(), group())
    twin.remove(BIG)
    asyncio.run(twin.settle())
    assert not twin.objects.keys() & CHILDREN
    assert OWN_WORKERS in twin.objects


def test_while_its_cluster_goes_nothing_is_done() -> None:
    twin = settled(cluster(), group())
    twin.put({**twin.objects[NUMBERS], "metadata": {**twin.objects[NUMBERS]["metadata"], "deletionTimestamp": "x"}})
    asyncio.run(twin.reconciler().reconcile(BIG))
    assert told(twin)[1] == "ClusterNotFound"
    assert twin.objects.keys() >= CHILDREN


def values(engine: str, own: Object, theirs: Object) -> Object:
    return cluster_plan.values(group_plan.complete(group(**own), cluster(engine, **theirs)))


@pytest.mark.parametrize(
    ("own", "theirs", "expected"),
    [
        ({}, {"image": "mine:1", "drainSeconds": 7}, {"image": "mine:1", "drainSeconds": 7, "replicas": 1}),
        ({"image": "other:1"}, {"image": "mine:1"}, {"image": "other:1"}),
        # Else the requests of one might be above the limits of the other.
        (
            {"resources": LIMITS},
            {"resources": {"limits": {"cpu": "1"}, "requests": {"memory": "8Gi"}}},
            {"resources": LIMITS},
        ),
        ({}, {"replicas": 5}, {"replicas": 1}),
        ({"replicas": 0}, {}, {"replicas": 0}),
        ({"replicas": 4, "suspend": True}, {}, {"replicas": 0}),
        ({"replicas": 4}, {"suspend": True}, {"replicas": 0}),
        (
            {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "value": "3"},
                    {"name": "C", "value": "4"},
                ]
            },
        ),
        (
            {"values": {"nodeSelector": {"disk": "fast"}}},
            {"values": {"nodeSelector": {"zone": "a"}, "podLabels": {"a": "b"}}},
            {"nodeSelector": {"zone": "a", "disk": "fast"}, "podLabels": {"a": "b"}},
        ),
        ({"code": {"configMap": "b"}}, {"code": {"configMap": "a"}}, {"code": {"configMap": "b"}}),
        ({}, DATA, DATA),
        # No mount of a volume that is not there.
        ({"volumes": SCRATCH}, DATA, {"volumes": SCRATCH, "volumeMounts": None}),
        (
            {"volumes": SCRATCH, "volumeMounts": [{"name": "scratch", "mountPath": "/s"}]},
            DATA,
            {"volumes": SCRATCH, "volumeMounts": [{"name": "scratch", "mountPath": "/s"}]},
        ),
        ({"volumeMounts": []}, DATA, {"volumes": None, "volumeMounts": []}),
        (
            {"placement": {"spread": "Nodes"}, "dask": {"spill": {"size": "2Gi"}}},
            {"placement": {"nodeLabels": {"a": "b"}}, "volumes": [{"name": "a", "emptyDir": {}}]},
            {
                "placement": {"spread": "Nodes"},
                "spill": {"size": "2Gi"},
                "volumes": [{"name": "a", "emptyDir": {}}],
            },
        ),
    ],
)
def test_what_is_left_out_is_the_clusters(own: Object, theirs: Object, expected: Object) -> None:
    found = values("dask", own, theirs)
    assert {name: found.get(name) for name in expected} == expected
    assert found["cluster"] == "numbers"


def test_the_engines_block_is_put_over_the_clusters() -> None:
    theirs = {"dask": {"config": {"distributed": {"a": 1}}, "workerResources": {"SSD": 1}}}
    found = values("dask", {"dask": {"workerResources": {"GPU": 1}}}, theirs)
    assert found["workerResources"] == {"SSD": 1, "GPU": 1}
    assert found["config"] == {"distributed": {"a": 1}}
    found = values("celery", {"celery": {"queues": ["a"]}}, {"celery": {"queues": ["b"], "app": "shop"}})
    assert (found["queues"], found["app"]) == (["a"], "shop")
    assert found["auth"] == {"existingSecret": "numbers-auth"}


def test_a_monitor_is_a_groups_own_only_if_it_is_sized_by_its_work() -> None:
    sized = {"autoscaling": {"maxReplicas": 2}}
    assert "monitor" not in values("celery", {}, sized)
    assert values("celery", {**sized, "celery": {"queues": ["a"]}}, {})["monitor"] == {"demand": True}


def test_a_change_of_the_cluster_reaches_its_groups() -> None:
    twin = settled(cluster(env=[{"name": "A", "value": "1"}]), group(env=[{"name": "B", "value": "2"}]))
    change(twin, NUMBERS, env=[{"name": "A", "value": "3"}])
    found = environment(twin.objects[WORKERS]["spec"]["template"]["spec"])
    assert (found["A"], found["B"]) == ("3", "2")
    change(twin, NUMBERS, suspend=True)
    assert twin.objects[WORKERS]["spec"]["replicas"] == 0
    assert told(twin) == ("False", "Suspended", "spec.suspend, here or of the cluster, holds the workers at 0")


REFUSED = [
    ("dask", {"celery": {"queues": ["a"]}}, "spec.celery: WorkerCluster numbers is of engine dask: remove it"),
    ("celery", {"dask": {"workerResources": {"GPU": 1}}}, "spec.dask: WorkerCluster numbers is of engine celery"),
    ("spark", {"autoscaling": {"maxReplicas": 2}}, "spec.autoscaling: executors run on any worker"),
    ("celery", {"autoscaling": {"maxReplicas": 2}}, "spec.celery.queues: a group with spec.autoscaling is sized by"),
    ("dask", {"values": {"replicas": 2}}, "spec.values.replicas: set spec.replicas instead"),
    ("dask", {"values": {"cluster": "other"}}, "spec.values.cluster: make a WorkerGroup instead"),
    ("dask", {"resources": {"limits": {"cpu": "1", "memory": "1Mi"}}}, "resources.limits.memory: 1Mi is too small"),
    ("celery", {"celery": {"queues": ["a", "a"]}}, "queues"),
    ("dask", {"values": {"master": {}}}, "master"),
]


@pytest.mark.parametrize(("engine", "spec", "message"), REFUSED)
def test_what_is_refused_names_the_field(engine: str, spec: Object, message: str) -> None:
    twin = settled(cluster(engine), group(**spec))
    status, reason, found = told(twin)
    assert (status, reason) == ("False", "InvalidSpec")
    assert message in found
    assert not twin.objects.keys() & CHILDREN
    assert twin.objects[OWN_WORKERS]["spec"]["replicas"] == 1
    assert [event["reason"] for event in twin.events if event["involvedObject"]["kind"] == "WorkerGroup"] == [
        "InvalidSpec"
    ]


@pytest.mark.parametrize("value", ["replicas", "cluster"])
def test_a_value_that_is_refused_of_a_cluster_does_not_reach_its_groups(value: str) -> None:
    twin = settled(cluster(), group(replicas=2))
    before = twin.objects[WORKERS]
    change(twin, NUMBERS, values={value: 7})
    status, reason, found = told(twin)
    assert (status, reason) == ("False", "InvalidSpec")
    assert found.startswith(f"of WorkerCluster numbers: spec.values.{value}: ")
    assert twin.objects[WORKERS] == before


def test_a_group_that_turns_bad_keeps_what_it_has() -> None:
    twin = settled(cluster(), group(replicas=2))
    before = twin.objects[WORKERS]
    change(twin, BIG, celery={"queues": ["a"]})
    assert told(twin)[1] == "InvalidSpec"
    assert twin.objects[WORKERS] == before


def test_a_group_with_its_clusters_name_is_refused() -> None:
    twin = settled(cluster(), group("numbers"))
    found = conditions(twin.objects[Key("WorkerGroup", NAMESPACE, "numbers")]["status"])["Ready"]
    assert (found["reason"], found["message"]) == (
        "InvalidSpec",
        "metadata.name: numbers is the cluster's: give the group another name",
    )


def test_a_group_with_another_clusters_name_leaves_that_alone() -> None:
    twin = settled(cluster(), cluster(name="big"), group("big"))
    assert told(twin)[1] == "NameTaken"
    assert "is not this group's: delete it, or name this group otherwise" in told(twin)[2]
    owners = twin.objects[WORKERS]["metadata"]["ownerReferences"]
    assert [(owner["kind"], owner["name"]) for owner in owners] == [("WorkerCluster", "big")]


def test_celery_workers_that_name_no_queues_leave_those_of_groups_alone() -> None:
    twin = settled(cluster("celery"), group(celery={"queues": ["reports", "mail"]}), group("plain"))

    def options(name: str) -> list[str]:
        command = twin.objects[Key("Deployment", NAMESPACE, name)]["spec"]["template"]["spec"]["containers"][0][
            "command"
        ]
        return [word for word in command if "queues" in word]

    left = ["--exclude-queues=mail,reports"]
    assert options("numbers-worker") == left
    assert options("plain-worker") == left
    assert options("big-worker") == ["--queues=reports,mail"]
    change(twin, NUMBERS, celery={"queues": ["celery", "mail"]})
    assert options("numbers-worker") == options("plain-worker") == ["--queues=celery,mail"]
    twin.remove(BIG)
    change(twin, NUMBERS, celery={})
    assert options("numbers-worker") == options("plain-worker") == []


def test_a_group_that_runs_again_what_was_put_aside_rolls_no_other_workers() -> None:
    twin = settled(cluster("celery"), group(celery={"queues": ["trireme.dead", "trireme.poison"]}))
    deployment = twin.objects[Key("Deployment", NAMESPACE, "numbers-worker")]
    command = deployment["spec"]["template"]["spec"]["containers"][0]["command"]
    assert not [word for word in command if "queues" in word]


def test_spark_executors_that_only_a_group_has_room_for_wait_for_that() -> None:
    own = {"resources": {"limits": {"cpu": "1", "memory": "2Gi"}}, "spark": {"executor": {"cores": 4}}}
    twin = settled(cluster("spark", **own))
    ready = conditions(twin.objects[NUMBERS]["status"])["Ready"]
    assert (ready["reason"], OWN_WORKERS in twin.objects) == ("InvalidSpec", False)
    assert "executor.cores" in ready["message"]
    assert "of a group" in ready["message"]
    # As large as the cluster's own.
    twin.put(fresh(group()))
    asyncio.run(twin.settle())
    assert OWN_WORKERS not in twin.objects
    twin.put(fresh(group(resources={"limits": {"cpu": "4", "memory": "8Gi"}})))
    asyncio.run(twin.settle())
    assert (
        "spark.executor.cores 4\n"
        in twin.objects[Key("ConfigMap", NAMESPACE, "numbers-conf")]["data"]["spark-defaults.conf"]
    )
    assert {OWN_WORKERS, WORKERS} <= twin.objects.keys()
    # What runs goes on without it.
    twin.remove(BIG)
    asyncio.run(twin.settle())
    assert OWN_WORKERS in twin.objects
    assert conditions(twin.objects[NUMBERS]["status"])["Ready"]["reason"] == "InvalidSpec"


def test_an_engine_that_does_not_answer_keeps_a_group_from_being_ready() -> None:
    whole = group_plan.complete(group(replicas=1), cluster())
    for answers, reason in ((False, "ClusterNotReady"), (True, "NoWorkers")):
        status = cluster_plan.status(whole, cluster_plan.Observed({}, answers=answers), NOW)
        STATUS["WorkerGroup"].validate(status)
        assert conditions(status)["Ready"]["reason"] == reason


def test_a_broker_elsewhere_is_taken_to_answer() -> None:
    twin = settled(cluster("celery", values={"broker": {"url": "redis://x/0"}}), group(celery={"queues": ["a"]}))
    assert told(twin)[1] == "Ready"


def test_a_crash_after_any_write_leaves_nothing_else_behind() -> None:
    expected = settled(cluster("celery"), group(celery={"queues": ["a"]}))
    for number in range(1, len(expected.writes) + 1):
        found = settled(cluster("celery"), group(celery={"queues": ["a"]}), crash_after=number)
        assert found.state() == expected.state(), f"after write {number}"
