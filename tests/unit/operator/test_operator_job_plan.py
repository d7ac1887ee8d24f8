"""What is decided about a WorkerJob."""

import re
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from operating import (
    EARLIER,
    ENGINES,
    NAMESPACE,
    NOW,
    STAMP,
    chart_objects,
    cluster,
    condition,
    conditions,
    environment,
    job,
    owned,
)

from trireme_operator.api import JOB, WORKER_CLUSTER, WORKER_JOB, Object
from trireme_operator.plan.action import Delete, Patch, Plan
from trireme_operator.plan.job import (
    Observed,
    cluster_name,
    driver_name,
    has_ended,
    plan,
    refused,
    wants_output,
    worth_a_closer_look,
)
from trireme_operator.plan.pods import Trouble

READY = cluster(status={"conditions": [condition("Ready", "True", "Ready")]})
TEMPLATE = {"clusterTemplate": {"spec": {"engine": "dask", "replicas": 2, "suspend": False}}}


def own_cluster(item: Object, *status: Object) -> Object:
    return owned(cluster(name="mean", status={"conditions": [*status]}), item)


def batch_job(*conditions_: Object, suspend: bool = False, **status: Any) -> Object:
    return {
        "kind": "Job",
        "metadata": {"name": "mean-driver", "namespace": NAMESPACE, "uid": "uid-driver", "creationTimestamp": EARLIER},
        "spec": {"suspend": suspend},
        "status": {**status, "conditions": [*conditions_]},
    }


def pod(name: str = "mean-driver-x", phase: str = "Running", state: Object | None = None, **status: Any) -> Object:
    statuses = [{"name": "driver", "image": "mine:1", "state": state}] if state else []
    return {
        "kind": "Pod",
        "metadata": {"name": name},
        "status": {"phase": phase, "containerStatuses": statuses, **status},
    }


def decide(item: Object, **seen: Any) -> Plan:
    observed = Observed(**{"cluster": None, "driver": None, **seen})
    return plan(item, observed, NOW)


def names(objects: list[Object]) -> list[tuple[str, str]]:
    return [(item["kind"], item["metadata"]["name"]) for item in objects]


CLUSTER = ("WorkerCluster", "mean")
SCRIPT = ("ConfigMap", "mean-script")
DRIVER = ("Job", "mean-driver")
OWN = job(**TEMPLATE)
OWN_READY = own_cluster(OWN, condition("Ready", "True", "Ready"))
OWN_WAITING = own_cluster(OWN, condition("Ready", "False", "NoWorkers"))
COMPLETE = condition("Complete", "True")
FAILED = condition("Failed", "True", "BackoffLimitExceeded")


@pytest.mark.parametrize(
    ("item", "seen", "applied", "created", "ready"),
    [
        # A cluster of its own is made, and waited for.
        (OWN, {}, [CLUSTER], [], ("False", "Creating")),
        (OWN, {"cluster": own_cluster(OWN)}, [CLUSTER], [], ("False", "Creating")),
        (OWN, {"cluster": OWN_WAITING}, [CLUSTER], [], ("False", "NoWorkers")),
        (OWN, {"cluster": OWN_READY}, [CLUSTER, SCRIPT], [DRIVER], ("True", "Ready")),
        (OWN, {"cluster": OWN_READY, "driver": batch_job()}, [CLUSTER], [], ("True", "Ready")),
        # A borrowed one is only waited for.
        (job(), {}, [], [], ("False", "NotFound")),
        (job(), {"cluster": cluster()}, [], [], ("False", "Creating")),
        (job(), {"cluster": READY}, [SCRIPT], [DRIVER], ("True", "Ready")),
        (job(driver={"command": ["true"]}), {"cluster": READY}, [], [DRIVER], ("True", "Ready")),
        # A driver that runs is not started again when its cluster loses its workers, or goes.
        (job(), {"cluster": cluster(), "driver": batch_job()}, [], [], ("False", "Creating")),
        (job(), {"driver": batch_job()}, [], [], ("False", "NotFound")),
        # Suspended before it began, it waits.
        (job(suspend=True), {"cluster": READY}, [], [], ("True", "Ready")),
        # Its end is about to be told: a cluster that is about to go is not mended any more.
        (OWN, {"cluster": OWN_WAITING, "driver": batch_job(COMPLETE)}, [], [], ("False", "NoWorkers")),
        (OWN, {"cluster": OWN_WAITING, "driver": batch_job(FAILED)}, [], [], ("False", "NoWorkers")),
    ],
)
def test_on_the_way_to_a_driver(
    item: Object,
    seen: Object,
    applied: list[tuple[str, str]],
    created: list[tuple[str, str]],
    ready: tuple[str, str],
) -> None:
    found = decide(item, **seen)
    assert names(found.apply) == applied
    assert names(found.create) == created
    assert found.delete == []
    assert found.status is not None
    told = conditions(found.status)["ClusterReady"]
    assert (told["status"], told["reason"]) == ready


@pytest.mark.parametrize(
    ("before", "suspend", "patched"),
    [
        (False, False, None),
        (True, True, None),
        (False, True, True),
        (True, False, False),
    ],
)
@pytest.mark.parametrize("with_own_cluster", [True, False])
def test_suspending_reaches_the_driver(
    before: bool, suspend: bool, patched: bool | None, with_own_cluster: bool
) -> None:
    item = job(suspend=suspend, **(TEMPLATE if with_own_cluster else {}))
    seen = own_cluster(item, condition("Ready", "True", "Ready")) if with_own_cluster else READY
    found = decide(item, cluster=seen, driver=batch_job(suspend=before))
    assert found.patch == (
        [] if patched is None else [Patch(JOB, NAMESPACE, "mean-driver", {"spec": {"suspend": patched}})]
    )
    assert found.status is not None
    told = conditions(found.status)["Suspended"]
    assert (told["status"], told["reason"]) == (("True", "Suspended") if suspend else ("False", "NotSuspended"))


@pytest.mark.parametrize(
    ("suspend", "of_template", "expected"),
    [(False, False, False), (True, False, True), (False, True, True), (True, True, True)],
)
def test_suspending_reaches_the_own_cluster(suspend: bool, of_template: bool, expected: bool) -> None:
    item = job(suspend=suspend, clusterTemplate={"spec": {"engine": "dask", "suspend": of_template}})
    before = deepcopy(item)
    (made,) = decide(item).apply
    assert made["spec"]["suspend"] is expected
    assert item == before


def test_the_own_cluster_is_as_its_template_says() -> None:
    (made,) = decide(OWN).apply
    assert made["spec"] == TEMPLATE["clusterTemplate"]["spec"]
    assert made["metadata"]["namespace"] == NAMESPACE
    assert made["metadata"]["labels"]["trireme.dev/job"] == "mean"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-job-mean"


@pytest.mark.parametrize("ready", [True, False])
def test_a_cluster_of_somebody_else_is_not_taken(ready: bool) -> None:
    theirs = cluster(name="mean", status={"conditions": [condition("Ready", str(ready))]})
    found = decide(OWN, cluster=theirs)
    assert (found.apply, found.create, found.patch, found.delete) == ([], [], [], [])
    assert found.status is not None
    told = conditions(found.status)["ClusterReady"]
    assert (told["status"], told["reason"]) == ("False", "NameTaken")
    assert "mean" in told["message"]


def test_the_script_is_a_config_map_of_the_jobs() -> None:
    (script,) = decide(job(driver={"script": "print('here')"}), cluster=READY).apply
    assert script["data"] == {"main.py": "print('here')"}
    assert script["metadata"]["namespace"] == NAMESPACE
    assert script["metadata"]["ownerReferences"][0]["uid"] == "uid-job-mean"
    # Seen by watches that select by this label alone.
    assert script["metadata"]["labels"]["app.kubernetes.io/part-of"] == "trireme"


def made_driver(item: Object, on: Object = READY) -> Object:
    (made,) = decide(item, cluster=on).create
    return made


@pytest.mark.parametrize(
    ("spec", "backoff", "deadline"),
    [
        ({}, 0, None),
        ({"backoffLimit": 3}, 3, None),
        ({"activeDeadlineSeconds": 60}, 0, 60),
    ],
)
def test_limits_of_the_driver(spec: Object, backoff: int, deadline: int | None) -> None:
    made = made_driver(job(**spec))["spec"]
    assert (made["backoffLimit"], made.get("activeDeadlineSeconds")) == (backoff, deadline)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_driver_and_its_pod_are_found_again(engine: str) -> None:
    made = made_driver(job(), cluster(engine, status=READY["status"]))
    expected = {
        "app.kubernetes.io/name": engine,
        # The network policy of the cluster lets in its instance's pods.
        "app.kubernetes.io/instance": "numbers",
        "app.kubernetes.io/component": "driver",
        "app.kubernetes.io/part-of": "trireme",
        "app.kubernetes.io/managed-by": "trireme-operator",
        "trireme.dev/job": "mean",
    }
    assert made["metadata"]["labels"] == expected
    assert made["spec"]["template"]["metadata"]["labels"] == expected
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-job-mean"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_driver_is_let_in_by_the_network_policy(engine: str) -> None:
    labels = made_driver(job(), cluster(engine, status=READY["status"]))["spec"]["template"]["metadata"]["labels"]
    policy = chart_objects(engine)["NetworkPolicy", "numbers"]
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"][0]["podSelector"]["matchLabels"].items() <= labels.items()


def made_pod(driver: Object | None = None, engine: str = "dask", **spec: Any) -> Object:
    item = job(driver={"script": "print(1)", **(driver or {})} if "command" not in (driver or {}) else driver)
    found: Object = made_driver(item, cluster(engine, status=READY["status"], **spec))["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spec", [{}, {"code": {"configMap": "tasks"}}])
@pytest.mark.parametrize("driver", [{"script": "print(1)"}, {"command": ["true"]}])
def test_the_drivers_pod_is_restricted(engine: str, spec: Object, driver: Object) -> None:
    made = made_pod(driver, engine, **spec)
    assert made["securityContext"]["runAsNonRoot"] is True
    assert made["securityContext"]["runAsUser"] == 1000
    assert made["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert made["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & made.keys()
    (container,) = made["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    kinds = {key for volume in made["volumes"] for key in volume} - {"name"}
    assert kinds <= {"configMap", "emptyDir"}
    # With a root file system that can't be written.
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert environment(made)["HOME"] == "/tmp"
    volumes = [volume["name"] for volume in made["volumes"]]
    assert sorted(volumes) == sorted(mount["name"] for mount in container["volumeMounts"])
    assert len(set(volumes)) == len(volumes)


@pytest.mark.parametrize(
    ("driver", "command", "args"),
    [
        ({"script": "x"}, ["python", "/opt/trireme/script/main.py"], None),
        ({"script": "x", "args": ["--n", "3"]}, ["python", "/opt/trireme/script/main.py"], ["--n", "3"]),
        ({"command": ["sh", "-c"], "args": ["exit 0"]}, ["sh", "-c"], ["exit 0"]),
        ({"command": ["true"], "args": []}, ["true"], None),
    ],
)
def test_what_the_driver_runs(driver: Object, command: list[str], args: list[str] | None) -> None:
    (container,) = made_pod(driver)["containers"]
    assert (container["command"], container.get("args")) == (command, args)


def test_the_script_is_where_the_command_looks_for_it() -> None:
    made = made_pod({"script": "x"})
    (volume,) = [volume["name"] for volume in made["volumes"] if volume.get("configMap") == {"name": "mean-script"}]
    mounts = {mount["name"]: mount["mountPath"] for mount in made["containers"][0]["volumeMounts"]}
    assert f"{mounts[volume]}/main.py" == made["containers"][0]["command"][1]


@pytest.mark.parametrize(
    ("driver", "spec", "image"),
    [
        ({"image": "mine"}, {"image": "theirs"}, "mine"),
        ({}, {"image": "theirs"}, "theirs"),
        ({}, {}, "trireme/dask:dev"),
    ],
)
def test_the_drivers_image(driver: Object, spec: Object, image: str) -> None:
    assert made_pod(driver, **spec)["containers"][0]["image"] == image


def test_the_drivers_resources_are_its_own() -> None:
    given = {"limits": {"memory": "1Gi"}}
    (container,) = made_pod({"resources": given})["containers"]
    assert container["resources"] == given
    container["resources"]["limits"]["memory"] = "changed"
    assert given == {"limits": {"memory": "1Gi"}}


def test_code_of_the_cluster_is_on_the_drivers_path() -> None:
    made = made_pod(code={"configMap": "tasks"})
    (volume,) = [volume["name"] for volume in made["volumes"] if volume.get("configMap") == {"name": "tasks"}]
    mounts = {mount["name"]: mount["mountPath"] for mount in made["containers"][0]["volumeMounts"]}
    assert environment(made)["PYTHONPATH"] == mounts[volume]
    assert "PYTHONPATH" not in environment(made_pod())


CONNECTION = {
    "dask": {
        "DASK_SCHEDULER_ADDRESS": "tcp://numbers-scheduler.team.svc:8786",
        "DASK_CONFIG": "/opt/trireme/conf",
    },
    "spark": {
        "POD_IP": {"fieldRef": {"fieldPath": "status.podIP"}},
        "SPARK_LOCAL_IP": "$(POD_IP)",
        "SPARK_LOCAL_HOSTNAME": "$(POD_IP)",
        "SPARK_MASTER": "spark://numbers-master.team.svc:7077",
        "SPARK_CONF_DIR": "/opt/trireme/conf",
        "SPARK_DRIVER_MEMORY": "1024m",
    },
    "celery": {
        "REDIS_PASSWORD": {"secretKeyRef": {"name": "numbers-auth", "key": "password"}},
        "CELERY_BROKER_URL": "redis://:$(REDIS_PASSWORD)@numbers-broker.team.svc:6379/0",
        "CELERY_RESULT_BACKEND": "redis://:$(REDIS_PASSWORD)@numbers-broker.team.svc:6379/1",
    },
}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_driver_finds_its_cluster(engine: str) -> None:
    made = made_pod({"env": [{"name": "MINE", "value": "1"}]}, engine)
    expected = {**CONNECTION[engine], "MINE": "1", "HOME": "/tmp", "PYTHONUNBUFFERED": "1"}
    assert environment(made) == expected
    # $(NAME) stands for a variable that comes before.
    before: set[str] = set()
    for variable in made["containers"][0]["env"]:
        assert set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) <= before
        before.add(variable["name"])


@pytest.mark.parametrize("engine", ["dask", "spark"])
def test_the_drivers_configuration_is_that_of_the_chart(engine: str) -> None:
    made = made_pod(engine=engine)
    (volume,) = [volume for volume in made["volumes"] if volume["name"] == "conf"]
    assert ("ConfigMap", volume["configMap"]["name"]) in chart_objects(engine)
    mounts = {mount["name"]: mount["mountPath"] for mount in made["containers"][0]["volumeMounts"]}
    assert mounts["conf"] == "/opt/trireme/conf"


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("dask", "DASK_SCHEDULER_ADDRESS"),
        ("spark", "SPARK_MASTER"),
        ("celery", "CELERY_BROKER_URL"),
        ("dask", "HOME"),
        ("celery", "PYTHONUNBUFFERED"),
    ],
)
def test_the_users_variable_wins(engine: str, name: str) -> None:
    made = made_pod({"env": [{"name": name, "value": "mine"}]}, engine)
    assert environment(made)[name] == "mine"
    if name in CONNECTION[engine]:
        assert [variable["name"] for variable in made["containers"][0]["env"]].count(name) == 1


@pytest.mark.parametrize(
    ("memory", "heap"),
    [("1Gi", "614m"), ("2Gi", "1228m"), ("4G", "2288m"), (2147483648, "1228m"), ("512Mi", "470m"), ("64Mi", "470m")],
)
def test_the_heap_of_a_spark_driver_follows_from_its_limit(memory: Any, heap: str) -> None:
    made = made_pod({"resources": {"limits": {"memory": memory}}}, "spark")
    assert environment(made)["SPARK_DRIVER_MEMORY"] == heap


def ended(code: int, reason: str = "Error", message: str = "") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


OOM = "the driver used more memory than spec.driver.resources.limits.memory gives it (exit code 137)"


@pytest.mark.parametrize(
    ("failed", "pods", "output", "reason", "message"),
    [
        (
            "BackoffLimitExceeded",
            [pod(state=ended(1))],
            "Traceback\nValueError: no\n",
            "DriverFailed",
            "the driver ended with exit code 1: ValueError: no",
        ),
        ("BackoffLimitExceeded", [pod(state=ended(3))], "", "DriverFailed", "the driver ended with exit code 3"),
        # A log that can't be read any more: the kubelet kept its end.
        (
            "BackoffLimitExceeded",
            [pod(state=ended(2, message="a\nlast line\n"))],
            None,
            "DriverFailed",
            "the driver ended with exit code 2: last line",
        ),
        ("BackoffLimitExceeded", [pod(state=ended(137, "OOMKilled"))], None, "OOMKilled", OOM),
        ("BackoffLimitExceeded", [pod(state=ended(137, "OOMKilled"))], "half way\n", "OOMKilled", OOM),
        # Killed, but not for its memory.
        (
            "BackoffLimitExceeded",
            [pod(state=ended(137))],
            None,
            "DriverFailed",
            "the driver ended with exit code 137",
        ),
        # The newest pod tells.
        (
            "BackoffLimitExceeded",
            [pod("old", state=ended(137, "OOMKilled")), pod("new", state=ended(1))],
            None,
            "DriverFailed",
            "the driver ended with exit code 1",
        ),
        (
            "DeadlineExceeded",
            [pod(state=ended(143))],
            "half way",
            "DeadlineExceeded",
            "the driver took longer than spec.activeDeadlineSeconds allows",
        ),
        ("BackoffLimitExceeded", [], None, "BackoffLimitExceeded", "so it is"),
        ("BackoffLimitExceeded", [pod(state={"running": {}})], None, "BackoffLimitExceeded", "so it is"),
    ],
)
def test_why_a_job_failed(failed: str, pods: list[Object], output: str | None, reason: str, message: str) -> None:
    driver = batch_job(condition("Failed", "True", failed), failed=1)
    found = decide(job(), cluster=READY, driver=driver, pods=pods, output=output).status
    assert found is not None
    told = conditions(found)
    assert (told["Failed"]["status"], told["Failed"]["reason"]) == ("True", reason)
    assert told["Failed"]["message"] == message
    assert "Complete" not in told
    assert found["output"] == (output or "")
    assert "completionTime" not in found


@pytest.mark.parametrize(
    ("status", "output", "expected"),
    [
        ({"completionTime": EARLIER}, "0.5", {"completionTime": EARLIER, "output": "0.5"}),
        ({}, None, {"completionTime": STAMP, "output": ""}),
    ],
)
def test_a_complete_job_tells_its_output(status: Object, output: str | None, expected: Object) -> None:
    driver = batch_job(COMPLETE, succeeded=1, **status)
    found = decide(job(), cluster=READY, driver=driver, output=output).status
    assert found is not None
    assert expected.items() <= found.items()
    told = conditions(found)
    assert (told["Complete"]["status"], told["Complete"]["reason"]) == ("True", "Completed")
    assert "Failed" not in told


@pytest.mark.parametrize("end", [condition("Complete", "False"), condition("Failed", "False")])
def test_an_end_that_is_not_true_is_none(end: Object) -> None:
    found = decide(job(), cluster=READY, driver=batch_job(end)).status
    assert found is not None
    assert conditions(found).keys() == {"ClusterReady", "Suspended", "DriverRunning"}
    assert "output" not in found


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], ("False", "Starting", "the driver's pod starts")),
        ([pod()], ("True", "Running", "pod mean-driver-x runs")),
        ([pod(phase="Pending")], ("False", "Starting", "the driver's pod starts")),
        ([pod("old", phase="Failed", state=ended(1)), pod("new")], ("True", "Running", "pod new runs")),
        ([pod(state={"running": {}})], ("True", "Running", "pod mean-driver-x runs")),
        (
            [pod(phase="Pending", state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})],
            (
                "False",
                "ImagePullBackOff",
                "spec.driver.image: mine:1 can't be pulled: correct its name, or give access to it",
            ),
        ),
        (
            [pod(phase="Pending", state={"waiting": {"reason": "ContainerCreating"}})],
            ("False", "Starting", "the driver's pod starts"),
        ),
        (
            [pod(phase="Pending", conditions=[UNSCHEDULABLE])],
            (
                "False",
                "Unschedulable",
                "no node takes a pod: 0/1 nodes: lower spec.driver.resources.requests, or add nodes",
            ),
        ),
        (
            [pod(phase="Running", conditions=[{**UNSCHEDULABLE, "status": "True"}])],
            ("True", "Running", "pod mean-driver-x runs"),
        ),
        ([pod(phase="Failed", state=ended(137, "OOMKilled"))], ("False", "OOMKilled", OOM)),
        (
            [pod(phase="Succeeded", state=ended(0, "Completed"))],
            ("False", "Ended", "pod mean-driver-x has ended"),
        ),
    ],
)
def test_how_the_driver_fares(pods: list[Object], expected: tuple[str, str, str]) -> None:
    found = decide(job(), cluster=READY, driver=batch_job(active=1), pods=pods).status
    assert found is not None
    told = conditions(found)["DriverRunning"]
    assert (told["status"], told["reason"], told["message"]) == expected


@pytest.mark.parametrize(
    ("before", "counts", "attempts"),
    [
        (None, None, 0),
        (None, {"active": 1}, 1),
        (None, {"active": 1, "failed": 2}, 3),
        ({"attempts": 1}, {"succeeded": 1, "failed": 1}, 2),
        # Never counted back, when a Job forgets or is gone.
        ({"attempts": 3}, {"active": 1}, 3),
        ({"attempts": 3}, None, 3),
    ],
)
def test_attempts(before: Object | None, counts: Object | None, attempts: int) -> None:
    driver = None if counts is None else batch_job(**counts)
    found = decide(job(status=before), cluster=cluster(), driver=driver).status
    assert found is not None
    assert found["attempts"] == attempts


@pytest.mark.parametrize(
    ("before", "driver", "start"),
    [
        ({}, None, None),
        ({}, batch_job(startTime=STAMP), STAMP),
        # The first start, though a resumed Job starts anew.
        ({"startTime": EARLIER}, batch_job(startTime=STAMP), EARLIER),
        ({"startTime": EARLIER}, None, EARLIER),
    ],
)
def test_start_time(before: Object, driver: Object | None, start: str | None) -> None:
    found = decide(job(status=before), cluster=READY, driver=driver).status
    assert found is not None
    assert found.get("startTime") == start


@pytest.mark.parametrize(("item", "cluster_"), [(job(), "numbers"), (OWN, "mean")])
def test_names(item: Object, cluster_: str) -> None:
    assert (cluster_name(item), driver_name(item)) == (cluster_, "mean-driver")
    found = decide(item).status
    assert found is not None
    assert (found["cluster"], found["observedGeneration"]) == (cluster_, 2)


@pytest.mark.parametrize(
    ("status", "driver", "wanted", "over"),
    [
        (None, None, False, False),
        (None, batch_job(), False, False),
        (None, batch_job(COMPLETE), True, False),
        (None, batch_job(FAILED), True, False),
        ({"conditions": [condition("Complete", "False")]}, batch_job(COMPLETE), True, False),
        ({"conditions": [COMPLETE]}, batch_job(COMPLETE), False, True),
        ({"conditions": [FAILED]}, batch_job(FAILED), False, True),
    ],
)
def test_output_is_read_once(status: Object | None, driver: Object | None, wanted: bool, over: bool) -> None:
    item = job(status=status)
    assert (wants_output(item, driver), has_ended(item)) == (wanted, over)


def finished(end: str, ago: float, **spec: Any) -> Object:
    since = (NOW - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return job(status={"conditions": [condition(end, "True", since=since)]}, **spec)


@pytest.mark.parametrize("end", ["Complete", "Failed"])
@pytest.mark.parametrize(
    ("ttl", "ago", "gone", "again"),
    [
        (None, 10**6, False, None),
        (60, 0, False, 60),
        (60, 20, False, 40),
        (60, 59, False, 1),
        (60, 60, True, None),
        (60, 1000, True, None),
        (0, 0, True, None),
    ],
)
def test_time_to_live(end: str, ttl: int | None, ago: float, gone: bool, again: float | None) -> None:
    item = finished(end, ago, **({} if ttl is None else {"ttlSecondsAfterFinished": ttl}))
    found = decide(item, cluster=READY, driver=batch_job(condition(end, "True")))
    assert found.delete == ([Delete(WORKER_JOB, NAMESPACE, "mean", "uid-job-mean")] if gone else [])
    assert found.again == again
    assert (found.apply, found.create, found.patch, found.status) == ([], [], [], None)


@pytest.mark.parametrize("end", ["Complete", "Failed"])
def test_the_own_cluster_goes_at_the_end(end: str) -> None:
    item = finished(end, 5, **TEMPLATE)
    found = decide(item, cluster=own_cluster(item), driver=batch_job(condition(end, "True")))
    assert found.delete == [Delete(WORKER_CLUSTER, NAMESPACE, "mean", "uid-mean")]
    assert (found.apply, found.create) == ([], [])


@pytest.mark.parametrize(
    ("item", "seen"),
    [
        # Borrowed.
        (finished("Complete", 5), READY),
        # A namesake that somebody made since.
        (finished("Complete", 5, **TEMPLATE), cluster(name="mean")),
        (finished("Complete", 5, **TEMPLATE), None),
    ],
)
def test_no_other_cluster_goes_at_the_end(item: Object, seen: Object | None) -> None:
    found = decide(item, cluster=seen)
    assert (found.apply, found.create, found.delete) == ([], [], [])


def test_an_ended_job_is_not_run_again() -> None:
    found = decide(finished("Failed", 5), cluster=READY)
    assert found == Plan()


@pytest.mark.parametrize(
    ("pods", "trouble", "suspend", "expected"),
    [
        ([], Trouble("QuotaExceeded", "too much"), False, ("QuotaExceeded", "too much")),
        ([pod()], None, True, ("Suspended", "the driver is suspended")),
        ([], Trouble("QuotaExceeded", "too much"), True, ("Suspended", "the driver is suspended")),
    ],
)
def test_why_the_driver_has_no_pod(
    pods: list[Object], trouble: Trouble | None, suspend: bool, expected: tuple[str, str]
) -> None:
    found = decide(job(suspend=suspend), cluster=READY, driver=batch_job(), pods=pods, trouble=trouble).status
    assert found is not None
    told = conditions(found)["DriverRunning"]
    assert (told["status"], told["reason"], told["message"]) == ("False", *expected)


@pytest.mark.parametrize(
    ("seen", "again"),
    [
        ({"cluster": READY}, None),
        ({"cluster": READY, "driver": batch_job()}, 3),
        ({"cluster": READY, "driver": batch_job(), "pods": [pod()]}, None),
        ({"cluster": READY, "driver": batch_job(COMPLETE)}, None),
        ({"cluster": READY, "driver": batch_job(FAILED)}, None),
    ],
)
def test_a_driver_without_a_pod_is_looked_at_again(seen: Object, again: float | None) -> None:
    assert decide(job(), **seen).again == again


@pytest.mark.parametrize(
    ("driver", "pods", "age", "worth"),
    [
        (None, [], 60, False),
        (batch_job(), [], 2, False),
        (batch_job(), [], 3, True),
        (batch_job(), [pod()], 60, False),
        (batch_job(suspend=True), [], 60, False),
    ],
)
def test_when_a_closer_look_is_worth_it(driver: Object | None, pods: list[Object], age: float, worth: bool) -> None:
    made = datetime(2026, 1, 1, tzinfo=UTC)
    assert worth_a_closer_look(driver, pods, made + timedelta(seconds=age)) is worth


@pytest.mark.parametrize(
    ("for_good", "type_", "reason", "message", "state"),
    [
        (True, "Failed", "Invalid", "Job mean-driver: no", "Failed"),
        (False, "DriverRunning", "FailedCreate", "pods can't be made: Job mean-driver: no", "Starting"),
    ],
)
def test_a_refused_driver(for_good: bool, type_: str, reason: str, message: str, state: str) -> None:
    found = refused(job(), Observed(READY, None), "Job mean-driver: no", for_good, NOW)
    assert (found.apply, found.create, found.patch, found.delete) == ([], [], [], [])
    assert found.status is not None
    told = conditions(found.status)
    assert (told[type_]["status"], told[type_]["reason"]) == (str(for_good), reason)
    assert told[type_]["message"] == message
    assert found.status["state"] == state


@pytest.mark.parametrize(
    ("item", "seen", "state"),
    [
        (job(), {}, "WaitingForCluster"),
        (job(), {"cluster": cluster()}, "WaitingForCluster"),
        (job(), {"cluster": READY}, "Starting"),
        (job(), {"cluster": READY, "driver": batch_job()}, "Starting"),
        (job(), {"cluster": READY, "driver": batch_job(), "pods": [pod()]}, "Running"),
        # It runs, though its cluster has lost its workers.
        (job(), {"driver": batch_job(), "pods": [pod()]}, "Running"),
        (job(suspend=True), {"cluster": READY}, "Suspended"),
        (job(suspend=True), {"cluster": READY, "driver": batch_job(), "pods": [pod()]}, "Suspended"),
        (job(), {"cluster": READY, "driver": batch_job(COMPLETE)}, "Complete"),
        (job(), {"cluster": READY, "driver": batch_job(FAILED)}, "Failed"),
        (job(suspend=True), {"cluster": READY, "driver": batch_job(COMPLETE)}, "Complete"),
    ],
)
def test_the_state_in_one_word(item: Object, seen: Object, state: str) -> None:
    found = decide(item, **seen).status
    assert found is not None
    assert found["state"] == state
    assert ("duration" in found) is (state in ("Complete", "Failed"))


@pytest.mark.parametrize(
    ("seconds", "duration"),
    [
        (0, "0s"),
        (-5, "0s"),
        (59, "59s"),
        (60, "1m"),
        (61, "1m1s"),
        (3599, "59m59s"),
        (3600, "1h"),
        (3661, "1h1m"),
        (86399, "23h59m"),
        (86400, "1d"),
        (90000, "1d1h"),
    ],
)
def test_duration(seconds: int, duration: str) -> None:
    end = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    complete = batch_job(COMPLETE, startTime=EARLIER, completionTime=end)
    found = decide(job(), cluster=READY, driver=complete).status
    assert found is not None
    assert found["duration"] == duration


def test_the_duration_of_a_failure_is_until_it_was_seen() -> None:
    found = decide(job(), cluster=READY, driver=batch_job(FAILED, startTime=EARLIER)).status
    assert found is not None
    assert found["duration"] == "1d3h"
    never_started = decide(job(), cluster=READY, driver=batch_job(FAILED)).status
    assert never_started is not None
    assert never_started["duration"] == "0s"
