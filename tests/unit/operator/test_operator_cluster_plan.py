"""What is decided about a WorkerCluster."""

import json
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from operating import EARLIER, NAMESPACE, NOW, STAMP, cluster, condition, conditions, group, job, owned, workers_of

from trireme_operator.api import CONFIG_MAP, Key, Object, key_of
from trireme_operator.plan.action import Delete
from trireme_operator.plan.cluster import (
    Observed,
    desired_replicas,
    for_drivers,
    look_again,
    misplaced,
    missing_code,
    plan,
    secret,
    shrinks,
    status,
    taken,
    values,
    worth_a_closer_look,
)
from trireme_operator.plan.cluster import owned as as_owned
from trireme_operator.plan.difference import must_apply
from trireme_operator.plan.group import complete
from trireme_operator.plan.pods import Trouble

LIMITS = {"limits": {"cpu": "2", "memory": "3Gi"}}
NOTHING = Observed({})


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, {"replicas": 1}),
        ({"replicas": 4}, {"replicas": 4}),
        ({"replicas": 0}, {"replicas": 0}),
        ({"replicas": 4, "suspend": True}, {"replicas": 0}),
        ({"replicas": 4, "suspend": False}, {"replicas": 4}),
        ({"image": "mine:1"}, {"replicas": 1, "image": "mine:1"}),
        ({"resources": LIMITS}, {"replicas": 1, "resources": LIMITS}),
        ({"drainSeconds": 7}, {"replicas": 1, "drainSeconds": 7}),
        ({"code": {"configMap": "tasks"}}, {"replicas": 1, "code": {"configMap": "tasks"}}),
        ({"env": [{"name": "A", "value": "b"}]}, {"replicas": 1, "env": [{"name": "A", "value": "b"}]}),
        (
            {"dask": {"scheduler": {"resources": LIMITS}, "config": {"distributed": {"x": 1}}}},
            {"replicas": 1, "scheduler": {"resources": LIMITS}, "config": {"distributed": {"x": 1}}},
        ),
        ({"values": {"podLabels": {"a": "b"}}}, {"replicas": 1, "podLabels": {"a": "b"}}),
    ],
)
def test_values_of_a_spec(spec: Object, expected: Object) -> None:
    assert values(cluster(**spec)) == expected


@pytest.mark.parametrize(
    ("spec", "above", "expected"),
    [
        # Maps are merged at every depth, as Helm does.
        (
            {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
            {"resources": {"limits": {"memory": "2Gi"}, "requests": {"cpu": "1m"}}},
            {"resources": {"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "1m"}}},
        ),
        ({"env": [{"name": "A"}]}, {"env": [{"name": "B"}]}, {"env": [{"name": "B"}]}),
        ({"image": "a"}, {"image": "b"}, {"image": "b"}),
        ({"image": "a"}, {"image": {"name": "b"}}, {"image": {"name": "b"}}),
        ({"code": {"configMap": "a"}}, {"code": None}, {"code": None}),
        ({"code": {"configMap": "a"}}, {}, {"code": {"configMap": "a"}}),
    ],
)
def test_free_values_go_over_the_spec(spec: Object, above: Object, expected: Object) -> None:
    assert values(cluster(**spec, values=above)) == {"replicas": 1, **expected}


@pytest.mark.parametrize(
    ("engine", "auth"),
    [
        ("dask", None),
        ("spark", {"existingSecret": "numbers-auth"}),
        ("celery", {"existingSecret": "numbers-auth"}),
    ],
)
def test_only_an_engine_with_a_password_is_told_its_secret(engine: str, auth: Object | None) -> None:
    assert values(cluster(engine)).get("auth") == auth


def test_the_block_of_another_engine_is_no_value() -> None:
    found = values(cluster("celery", celery={"app": "mine"}, dask={"config": {"a": 1}}))
    assert found == {"replicas": 1, "app": "mine", "auth": {"existingSecret": "numbers-auth"}}


def test_values_share_nothing_with_the_spec() -> None:
    item = cluster(
        env=[{"name": "A"}], resources=deepcopy(LIMITS), dask={"config": {"a": {}}}, values={"podLabels": {"b": []}}
    )
    before = deepcopy(item)
    found = values(item)
    found["env"][0]["name"] = found["resources"]["limits"]["cpu"] = "changed"
    found["config"]["a"]["new"] = found["podLabels"]["new"] = True
    found["podLabels"]["b"].append(1)
    assert item == before


def config_map(name: str, **metadata: Any) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE, **metadata}}


def test_what_is_applied_is_the_clusters_own() -> None:
    rendered = [config_map("numbers-conf", labels={"app.kubernetes.io/managed-by": "Helm", "mine": "yes"})]
    before = deepcopy(rendered)
    (found,) = plan(cluster(), as_owned(cluster(), rendered), NOTHING, "secret", NOW).apply
    assert found["metadata"].pop("annotations").keys() == {"trireme.dev/applied"}
    assert found["metadata"] == {
        "name": "numbers-conf",
        "namespace": NAMESPACE,
        "labels": {
            "app.kubernetes.io/name": "dask",
            "app.kubernetes.io/instance": "numbers",
            "app.kubernetes.io/part-of": "trireme",
            "app.kubernetes.io/managed-by": "trireme-operator",
            "mine": "yes",
        },
        "ownerReferences": [
            {
                "apiVersion": "trireme.dev/v1alpha1",
                "kind": "WorkerCluster",
                "name": "numbers",
                "uid": "uid-numbers",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    # The renderer remembers what it gave, and gives it to others.
    assert rendered == before


def test_the_order_of_the_chart_is_kept() -> None:
    rendered = [config_map(name) for name in ("b", "c", "a")]
    found = plan(cluster(), as_owned(cluster(), rendered), NOTHING, "secret", NOW).apply
    assert [item["metadata"]["name"] for item in found] == ["b", "c", "a"]


def test_a_field_that_goes_shows_in_what_is_applied() -> None:
    before, after = (
        as_owned(cluster(), [{**config_map("conf", annotations={"mine": "yes"}), "data": data}])[0]
        for data in ({"a": "1", "b": "2"}, {"a": "1"})
    )
    assert after["metadata"]["annotations"]["mine"] == "yes"
    assert must_apply(after, before)
    assert not must_apply(after, deepcopy(after))


def test_only_what_is_the_clusters_and_no_longer_rendered_is_pruned() -> None:
    item = cluster()
    kept, stale = owned(config_map("kept"), item), owned(config_map("stale", uid="uid-stale"), item)
    namesakes = owned(config_map("namesakes"), cluster(name="other"))
    secret_ = owned({**config_map("password"), "kind": "Secret"}, item)
    nobodys = config_map("nobodys", uid="x")
    observed = Observed.of(item, [kept, stale, namesakes, secret_, nobodys])
    found = plan(item, as_owned(item, [config_map("kept")]), observed, "secret", NOW)
    assert found.delete == [Delete(CONFIG_MAP, NAMESPACE, "stale", "uid-stale")]


def test_an_earlier_clusters_objects_are_not_this_ones() -> None:
    item = cluster()
    earlier = deepcopy(item)
    earlier["metadata"]["uid"] = "uid-earlier"
    assert Observed.of(item, [owned(config_map("conf"), earlier)]) == NOTHING


ELSEWHERE = {"broker": {"url": "redis://elsewhere:6379/0"}}
MISSED = 'secret "numbers-auth" not found'


def with_pods(kind: str, name: str, secret: str = "numbers-auth") -> Object:
    """Return a controller whose pods have a variable from a Secret."""
    variable = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": secret, "key": "password"}}}
    container = {"name": name, "env": [{"name": "A", "value": "b"}, variable]}
    return {"kind": kind, "metadata": {"name": name}, "spec": {"template": {"spec": {"containers": [container]}}}}


def waiting_pod(component: str, message: str) -> Object:
    waiting = {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": message}}, "image": "mine:1"}
    labels = {"app.kubernetes.io/component": component}
    metadata = {"name": component, "labels": labels, "creationTimestamp": EARLIER}
    return {"metadata": metadata, "spec": {}, "status": {"containerStatuses": [waiting]}}


MASTER, BROKER = with_pods("StatefulSet", "numbers-master"), with_pods("StatefulSet", "numbers-broker")
WORKER, FLOWER = with_pods("Deployment", "numbers-worker"), with_pods("Deployment", "numbers-flower")


@pytest.mark.parametrize(
    ("item", "wanted", "seen", "pods", "is_made"),
    [
        (cluster("celery"), [BROKER, WORKER], [], [], True),
        (cluster("spark"), [MASTER, WORKER], [], [], True),
        # Dask has none: one of that name is a user's.
        (cluster("dask"), [with_pods("Deployment", "numbers-scheduler")], [], [], False),
        # A group that was there first is none of what is made.
        (cluster("celery"), [BROKER, WORKER], [group()], [], True),
        (cluster("celery"), [BROKER, WORKER], [config_map("numbers-conf")], [], True),
        # What the operator can't read it must not write twice: the broker already runs with the first password.
        (cluster("celery"), [BROKER, WORKER], [BROKER], [], False),
        (cluster("celery"), [BROKER, WORKER], [BROKER, WORKER], [], False),
        # Somebody deleted it: a broker that starts anew has to have one, and others have to have the broker's.
        (cluster("celery"), [BROKER, WORKER], [BROKER, WORKER], [waiting_pod("broker", MISSED)], True),
        (cluster("celery"), [BROKER, WORKER], [BROKER, WORKER], [waiting_pod("worker", MISSED)], False),
        (cluster("celery"), [BROKER, WORKER], [BROKER, WORKER], [waiting_pod("driver", MISSED)], False),
        (cluster("spark"), [MASTER, WORKER], [MASTER, WORKER], [waiting_pod("master", MISSED)], True),
        # Where nobody needs it, there is none.
        (cluster("celery", values=ELSEWHERE), [with_pods("Deployment", "numbers-worker", "mine")], [], [], False),
        (cluster("celery"), [with_pods("StatefulSet", "numbers-broker", "mine")], [], [], False),
        (cluster("celery", values=ELSEWHERE), [FLOWER], [], [], True),
        (cluster("celery", values=ELSEWHERE), [FLOWER], [FLOWER], [], False),
        (cluster("celery", values=ELSEWHERE), [FLOWER], [FLOWER], [waiting_pod("flower", MISSED)], True),
        # The broker was elsewhere until now.
        (cluster("celery"), [BROKER, WORKER], [WORKER], [], True),
    ],
)
def test_when_the_password_is_made(
    item: Object, wanted: list[Object], seen: list[Object], pods: list[Object], is_made: bool
) -> None:
    observed = Observed.of(item, [owned(one, item) for one in seen], pods)
    found = plan(item, as_owned(item, wanted), observed, "guess", NOW).create
    assert [made["metadata"]["name"] for made in found] == (["numbers-auth"] if is_made else [])


def test_a_group_makes_no_password() -> None:
    whole = complete(group(), cluster("celery"))
    assert plan(whole, as_owned(whole, [with_pods("Deployment", "big-worker")]), NOTHING, "guess", NOW).create == []


def test_a_password_that_only_the_broker_has_is_asked_for() -> None:
    item = cluster("celery", replicas=1)
    observed = replace(seen(item, 1, {}), pods=[waiting_pod("worker", MISSED)])
    found = conditions(status(item, observed, NOW))
    assert found["Ready"]["reason"] == "CreateContainerConfigError"
    assert found["Ready"]["message"] == (
        "the Secret numbers-auth is gone: create it with the password that the broker has in its environment, "
        "or restart the broker, and there is a new one"
    )


def test_the_secret_goes_with_its_cluster() -> None:
    item = cluster("celery")
    found = secret(item, "guess")
    assert (found["apiVersion"], found["kind"], found["stringData"]) == ("v1", "Secret", {"password": "guess"})
    assert found["metadata"]["namespace"] == NAMESPACE
    assert found["metadata"]["ownerReferences"][0]["uid"] == "uid-numbers"
    assert found["metadata"]["labels"]["app.kubernetes.io/part-of"] == "trireme"


CONTROL = {
    "dask": ("Deployment", "numbers-scheduler"),
    "spark": ("StatefulSet", "numbers-master"),
    "celery": ("StatefulSet", "numbers-broker"),
}


def seen(item: Object, control: int | None = 1, workers: Object | None = None, capacity: str | None = None) -> Observed:
    """Observe a cluster whose control pod has so many ready, and whose worker Deployment has such a status."""
    objects = []
    if control is not None:
        kind, name = CONTROL[item["spec"]["engine"]]
        objects.append({"kind": kind, "metadata": {"name": name}, "status": {"readyReplicas": control}})
    if workers is not None:
        annotations = {} if capacity is None else {"trireme.dev/capacity": capacity}
        metadata = {"name": "numbers-worker", "annotations": annotations}
        objects.append({"kind": "Deployment", "metadata": metadata, "status": workers})
    return Observed.of(item, [owned(one, item) for one in objects])


def all_ready(count: int) -> Object:
    return {"replicas": count, "updatedReplicas": count, "readyReplicas": count}


SETTLED = ("False", "Settled")
CHANGING = ("True", "WorkersChanging")
SUSPENDED = ("False", "Suspended")


@pytest.mark.parametrize(
    ("spec", "control", "workers", "ready", "progressing"),
    [
        ({"replicas": 2}, None, None, ("False", "ControlNotReady"), CHANGING),
        ({"replicas": 2}, 0, {}, ("False", "ControlNotReady"), CHANGING),
        ({"replicas": 2}, 0, all_ready(2), ("False", "ControlNotReady"), SETTLED),
        ({"replicas": 2}, 1, {"replicas": 2, "updatedReplicas": 2}, ("False", "NoWorkers"), CHANGING),
        ({"replicas": 2}, 1, {**all_ready(2), "readyReplicas": 1}, ("True", "Ready"), CHANGING),
        ({"replicas": 2}, 1, all_ready(2), ("True", "Ready"), SETTLED),
        # An old pod still counts while a new one takes its place.
        ({"replicas": 2}, 1, {**all_ready(2), "updatedReplicas": 1}, ("True", "Ready"), CHANGING),
        ({"replicas": 2}, 1, {**all_ready(2), "replicas": 3}, ("True", "Ready"), CHANGING),
        ({"replicas": 2}, 1, all_ready(3), ("True", "Ready"), CHANGING),
        ({"replicas": 0}, 1, {}, ("True", "Ready"), SETTLED),
        # There is no Deployment yet.
        ({"replicas": 0}, 1, None, ("False", "NoWorkers"), CHANGING),
        ({"replicas": 2, "suspend": True}, 1, {}, SUSPENDED, SETTLED),
        ({"replicas": 2, "suspend": True}, 1, all_ready(2), SUSPENDED, CHANGING),
        ({"replicas": 2, "suspend": True}, 0, {}, SUSPENDED, SETTLED),
    ],
)
@pytest.mark.parametrize("engine", CONTROL)
def test_conditions(
    engine: str,
    spec: Object,
    control: int | None,
    workers: Object | None,
    ready: tuple[str, str],
    progressing: tuple[str, str],
) -> None:
    item = cluster(engine, **spec)
    found = conditions(status(item, seen(item, control, workers), NOW))
    assert (found["Ready"]["status"], found["Ready"]["reason"]) == ready
    assert (found["Progressing"]["status"], found["Progressing"]["reason"]) == progressing
    assert {one["observedGeneration"] for one in found.values()} == {3}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ("False", "NotSuspended")),
        ({"suspend": False}, ("False", "NotSuspended")),
        ({"suspend": True}, ("True", "Suspended")),
    ],
)
def test_suspended(spec: Object, expected: tuple[str, str]) -> None:
    found = conditions(status(cluster(**spec), NOTHING, NOW))["Suspended"]
    assert (found["status"], found["reason"]) == expected


def test_a_control_pod_that_can_not_be_made_is_told() -> None:
    item = cluster(replicas=2)
    observed = seen(item, 0, {})
    quota = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}
    observed.objects[Key("Deployment", NAMESPACE, "numbers-scheduler")]["status"]["conditions"] = [quota]
    told = conditions(status(item, observed, NOW))
    assert told["Ready"]["reason"] == "QuotaExceeded"
    # The workers are not in that trouble.
    assert told["Progressing"]["reason"] == "WorkersChanging"


def test_messages_say_how_many() -> None:
    item = cluster(replicas=4)
    found = conditions(status(item, seen(item, 1, {"replicas": 3}), NOW))
    assert found["Ready"]["message"] == "no worker of 4 is ready yet"
    assert found["Progressing"]["message"] == "workers come or go, until 4 are ready"


@pytest.mark.parametrize(
    ("workers", "replicas", "ready"),
    [(None, 0, 0), ({}, 0, 0), ({"replicas": 3}, 3, 0), ({"replicas": 3, "readyReplicas": 2}, 3, 2)],
)
def test_counts(workers: Object | None, replicas: int, ready: int) -> None:
    item = cluster(replicas=3)
    found = status(item, seen(item, 1, workers), NOW)
    assert (found["replicas"], found["readyReplicas"], found["observedGeneration"]) == (replicas, ready, 3)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (None, {}),
        ('{"threads": 2, "memory": "1932735283"}', {"threads": "2", "memory": "1932735283"}),
        # Anybody may write there.
        ("", {}),
        ("much", {}),
        ("[2]", {}),
        ("2", {}),
        ("null", {}),
    ],
)
def test_capacity_is_what_the_workers_are_marked_with(annotation: str | None, expected: Object) -> None:
    item = cluster()
    assert status(item, seen(item, 1, {}, annotation), NOW)["capacity"] == expected


def broker(port: str) -> Object:
    """Return the Service of a broker, which tells by its port what it is."""
    metadata = {"name": "numbers-broker", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"name": port}]}}


@pytest.mark.parametrize(
    ("engine", "expected", "objects"),
    [
        (
            "dask",
            {
                "scheduler": "tcp://numbers-scheduler.team.svc:8786",
                "dashboard": "http://numbers-scheduler.team.svc:8787/status",
            },
            [],
        ),
        (
            "spark",
            {"master": "spark://numbers-master.team.svc:7077", "ui": "http://numbers-master.team.svc:8080"},
            [],
        ),
        ("celery", {"broker": "redis://numbers-broker.team.svc:6379"}, [broker("tcp-redis")]),
        ("celery", {"broker": "amqp://numbers-broker.team.svc:5672"}, [broker("tcp-amqp")]),
        # Nobody knows yet.
        ("celery", {}, []),
    ],
)
def test_endpoints_and_selector(engine: str, expected: Object, objects: list[Object]) -> None:
    found = status(cluster(engine), Observed({key_of(item): item for item in objects}), NOW)
    assert {point["name"]: point["url"] for point in found["endpoints"]} == expected
    assert found["selector"] == (
        f"app.kubernetes.io/name={engine},app.kubernetes.io/instance=numbers,app.kubernetes.io/component=worker"
    )


@pytest.mark.parametrize(
    ("engine", "component", "names"),
    [
        ("spark", "connect", {"connect", "connect-ui"}),
        ("spark", "history", {"history"}),
        ("celery", "flower", {"flower"}),
    ],
)
def test_endpoints_of_servers_that_are_there(engine: str, component: str, names: set[str]) -> None:
    item = cluster(engine)
    server = {"kind": "Deployment", "metadata": {"name": f"numbers-{component}"}}
    found = status(item, Observed.of(item, [owned(server, item)]), NOW)["endpoints"]
    assert {point["name"] for point in found} == {*names, *({"master", "ui"} if engine == "spark" else ())}
    assert all(f"//numbers-{component}.team.svc:" in point["url"] for point in found if point["name"] in names)


@pytest.mark.parametrize(
    ("component", "count", "expected"),
    [
        ("connect", None, ("False", "ControlNotReady")),
        ("connect", 0, ("False", "ControlNotReady")),
        ("connect", 1, ("True", "Ready")),
        # It shows what was, and nobody waits for it.
        ("history", 0, ("True", "Ready")),
    ],
)
def test_a_server_that_clients_need_has_to_answer(component: str, count: int | None, expected: tuple[str, str]) -> None:
    item = cluster("spark", replicas=2)
    counts = {} if count is None else {"readyReplicas": count}
    server = {"kind": "Deployment", "metadata": {"name": f"numbers-{component}"}, "status": counts}
    before = seen(item, 1, all_ready(2))
    observed = replace(before, objects={**before.objects, **Observed.of(item, [owned(server, item)]).objects})
    told = conditions(status(item, observed, NOW))["Ready"]
    assert (told["status"], told["reason"]) == expected
    broken = replace(observed, pods=[pod(component, "ErrImagePull")])
    told = conditions(status(item, broken, NOW))["Ready"]
    if expected[0] == "False":
        assert told["reason"] == "ImagePullBackOff"
        assert told["message"].startswith("spec.image: ")


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ('{"image": "a", "env": []}', {"image": "a", "env": []}),
        ("[1]", {}),
        ("{", {}),
        (None, {}),
    ],
)
def test_what_drivers_get_besides_is_read_with_care(annotation: str | None, expected: Object) -> None:
    annotations = {} if annotation is None else {"trireme.dev/drivers": annotation}
    assert for_drivers({"metadata": {"annotations": annotations}}) == expected
    assert for_drivers({"metadata": {}}) == {}


def test_a_condition_that_stays_keeps_its_time() -> None:
    item = cluster(
        replicas=2,
        status={"conditions": [condition("Ready", "True"), condition("Progressing", "True"), condition("Old", "True")]},
    )
    found = conditions(status(item, seen(item, 1, all_ready(2)), NOW))
    times = {name: one["lastTransitionTime"] for name, one in found.items()}
    assert times == {"Ready": EARLIER, "Progressing": STAMP, "Suspended": STAMP}


def test_a_problem_is_told_beside_what_runs() -> None:
    item = cluster(replicas=2)
    observed = seen(item, 1, all_ready(2), json.dumps({"threads": 2}))
    found = status(item, observed, NOW, Trouble("InvalidSpec", "replicas: too many"))
    told = conditions(found)
    assert (told["Ready"]["status"], told["Ready"]["reason"]) == ("False", "InvalidSpec")
    assert told["Ready"]["message"] == "replicas: too many"
    assert (told["Progressing"]["status"], told["Progressing"]["reason"]) == ("False", "InvalidSpec")
    # What runs still runs, and is told.
    assert (found["readyReplicas"], found["capacity"]) == (2, {"threads": "2"})


@pytest.mark.parametrize(
    ("generation", "observed", "expected"),
    [(2, 2, SETTLED), (2, 3, SETTLED), (3, 2, CHANGING), (1, None, CHANGING)],
)
def test_counts_of_an_earlier_deployment_settle_nothing(
    generation: int, observed: int | None, expected: tuple[str, str]
) -> None:
    item = cluster(replicas=2)
    counts = all_ready(2) if observed is None else {**all_ready(2), "observedGeneration": observed}
    before = seen(item, 1, counts)
    before.objects[Key("Deployment", NAMESPACE, "numbers-worker")]["metadata"]["generation"] = generation
    told = conditions(status(item, before, NOW))["Progressing"]
    assert (told["status"], told["reason"]) == expected


@pytest.mark.parametrize(("workers", "ready"), [(1, ("True", "Ready")), (0, ("False", "NoWorkers"))])
def test_a_cluster_without_a_control_pod_waits_for_its_workers_alone(workers: int, ready: tuple[str, str]) -> None:
    item = cluster("celery")
    found = status(item, replace(seen(item, None, all_ready(workers)), has_control=False), NOW)
    told = conditions(found)["Ready"]
    assert (told["status"], told["reason"]) == ready
    assert found["endpoints"] == []


def test_workers_of_another_name_do_not_count() -> None:
    item = cluster(replicas=1)
    other = owned({"kind": "Deployment", "metadata": {"name": "numbers-other"}, "status": all_ready(1)}, item)
    observed = Observed({Key("Deployment", NAMESPACE, "numbers-other"): other})
    assert status(item, observed, NOW)["readyReplicas"] == 0


@pytest.mark.parametrize(
    ("spec", "there", "which"),
    [
        ({"replicas": 2}, 3, True),
        ({}, 2, True),
        ({"replicas": 2}, 2, False),
        ({"replicas": 3}, 2, False),
        # All go.
        ({"replicas": 0}, 2, False),
        ({"replicas": 1, "suspend": True}, 2, False),
        ({"replicas": 1}, None, False),
    ],
)
def test_when_it_matters_which_workers_go(spec: Object, there: int | None, which: bool) -> None:
    item = cluster(**spec)
    made = {} if there is None else {key_of(one): one for one in [workers_of(cluster(replicas=there))]}
    assert shrinks(item, Observed(made)) is which


@pytest.mark.parametrize(("spec", "expected"), [({}, 1), ({"replicas": 5}, 5), ({"replicas": 5, "suspend": True}, 0)])
def test_desired_replicas(spec: Object, expected: int) -> None:
    assert desired_replicas(cluster(**spec)) == expected


def pod(component: str, reason: str) -> Object:
    container = {"name": component, "image": "mine:1", "state": {"waiting": {"reason": reason}}}
    labels = {"app.kubernetes.io/component": component}
    return {"metadata": {"name": "x", "labels": labels}, "status": {"containerStatuses": [container]}}


QUOTA = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}
ELSEWHERE = Trouble("CodeNotFound", "no such ConfigMap")
IMAGE_PROBLEM = ("ImagePullBackOff", "spec.image: mine:1 can't be pulled: correct its name, or give access to it")


@pytest.mark.parametrize(
    ("control", "workers", "pods", "trouble", "ready", "progressing"),
    [
        (0, {}, [pod("scheduler", "ErrImagePull")], None, IMAGE_PROBLEM, ("WorkersChanging", None)),
        (0, {}, [], ELSEWHERE, ("CodeNotFound", "no such ConfigMap"), ("CodeNotFound", "no such ConfigMap")),
        # What is wrong with the workers is not what is wrong with the scheduler.
        (0, {}, [pod("worker", "ErrImagePull")], None, ("ControlNotReady", None), IMAGE_PROBLEM),
        (1, {}, [pod("worker", "ErrImagePull")], None, IMAGE_PROBLEM, IMAGE_PROBLEM),
        (1, {}, [pod("driver", "ErrImagePull")], None, ("NoWorkers", None), ("WorkersChanging", None)),
        (1, {}, [], ELSEWHERE, ("CodeNotFound", "no such ConfigMap"), ("CodeNotFound", "no such ConfigMap")),
        (1, {"conditions": [QUOTA]}, [], None, ("QuotaExceeded", None), ("QuotaExceeded", None)),
        # One worker works: it is ready, and the other is in trouble.
        (1, {"replicas": 2, "readyReplicas": 1}, [pod("worker", "ErrImagePull")], None, ("Ready", None), IMAGE_PROBLEM),
        (1, all_ready(2), [pod("worker", "ErrImagePull")], None, ("Ready", None), ("Settled", None)),
    ],
)
def test_conditions_tell_what_is_wrong(
    control: int,
    workers: Object,
    pods: list[Object],
    trouble: Trouble | None,
    ready: tuple[str, str | None],
    progressing: tuple[str, str | None],
) -> None:
    item = cluster(replicas=2)
    observed = replace(seen(item, control, workers), pods=pods, trouble=trouble)
    found = conditions(status(item, observed, NOW))
    for type_, (reason, message) in {"Ready": ready, "Progressing": progressing}.items():
        assert found[type_]["reason"] == reason
        assert message in (None, found[type_]["message"])
    assert found["Ready"]["status"] == str(ready[0] == "Ready")
    assert found["Progressing"]["status"] == str(progressing[0] != "Settled")


@pytest.mark.parametrize(
    ("before", "seconds", "suspend", "worth"),
    [
        (None, 60, False, False),
        ("True", 60, False, False),
        ("False", 2, False, False),
        ("False", 3, False, True),
        ("False", 60, False, True),
        ("False", 60, True, False),
    ],
)
@pytest.mark.parametrize("make", [cluster, job])
def test_when_a_closer_look_is_worth_it(
    make: Any, before: str | None, seconds: float, suspend: bool, worth: bool
) -> None:
    told = [] if before is None else [condition("Ready", before, since=STAMP)]
    item = make(suspend=suspend, status={"conditions": [condition("Other", "False"), *told]})
    now = NOW + timedelta(seconds=seconds)
    assert worth_a_closer_look(item, "Ready", now) is worth
    assert worth_a_closer_look(item, "Missing", now) is False


@pytest.mark.parametrize(
    ("engine", "field"), [("dask", "spec.image"), ("spark", "spec.image"), ("celery", "spec.values.broker.image")]
)
def test_the_field_of_the_control_pods_image_is_named(engine: str, field: str) -> None:
    item = cluster(engine)
    component = CONTROL[engine][1].removeprefix("numbers-")
    observed = replace(seen(item, 0, {}), pods=[pod(component, "ErrImagePull")])
    assert conditions(status(item, observed, NOW))["Ready"]["message"].startswith(f"{field}: mine:1 ")


@pytest.mark.parametrize(
    ("engine", "field"),
    [
        ("dask", "spec.dask.scheduler.resources"),
        ("spark", "spec.spark.master.resources"),
        ("celery", "spec.celery.broker.resources"),
    ],
)
def test_the_field_of_the_control_pods_resources_is_named(engine: str, field: str) -> None:
    item = cluster(engine)
    labels = {"app.kubernetes.io/component": CONTROL[engine][1].removeprefix("numbers-")}
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    lonely = {"metadata": {"name": "x", "labels": labels}, "status": {"conditions": [waits]}}
    told = conditions(status(item, replace(seen(item, 0, {}), pods=[lonely]), NOW))["Ready"]
    assert f"lower {field}.requests" in told["message"]


@pytest.mark.parametrize(
    ("ready", "waited", "suspend", "again"),
    [
        (None, 0, False, 3),
        ("True", 60, False, None),
        ("False", 0, False, 3),
        ("False", 12, False, 3),
        # Rarer as time goes by.
        ("False", 40, False, 10),
        ("False", 100000, False, 30),
        ("False", 60, True, None),
        (None, 0, True, None),
    ],
)
def test_a_cluster_is_looked_at_again_until_it_is_ready(
    ready: str | None, waited: float, suspend: bool, again: float | None
) -> None:
    told = [] if ready is None else [condition("Ready", ready, since=STAMP)]
    item = cluster(suspend=suspend, status={"conditions": told})
    now = NOW + timedelta(seconds=waited)
    assert look_again(item, "Ready", now) == again
    assert plan(item, [], NOTHING, "guess", now).again == again


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [({}, False), ({"replicas": 2, "values": {"podLabels": {}}}, False), ({"values": {"replicas": 0}}, True)],
)
def test_the_size_of_a_cluster_is_no_chart_value(spec: Object, wrong: bool) -> None:
    found = misplaced(cluster(**spec))
    assert (found is not None) is wrong
    if found:
        assert found.reason == "InvalidSpec"
        assert "spec.values.replicas: set spec.replicas" in found.message


def test_troubles_say_what_to_do() -> None:
    name_taken = taken(config_map("numbers-conf"), cluster())
    assert name_taken.reason == "NameTaken"
    assert "ConfigMap numbers-conf" in name_taken.message
    found = missing_code("spec.code.configMap", "tasks")
    assert found.reason == "CodeNotFound"
    assert found.message.startswith("spec.code.configMap: there is no ConfigMap tasks ")
