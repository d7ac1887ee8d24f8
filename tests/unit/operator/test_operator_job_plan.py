"""What is decided about a WorkerJob."""

import re
import subprocess
import sys
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
    workers_of,
)

from trireme_operator.api import JOB, WORKER_CLUSTER, WORKER_JOB, Object
from trireme_operator.plan.action import Delete, Patch, Plan
from trireme_operator.plan.difference import correction, must_apply
from trireme_operator.plan.job import (
    Observed,
    cluster_name,
    driver_name,
    has_ended,
    is_anothers,
    last_lines,
    plan,
    status,
    wants_output,
)
from trireme_operator.plan.pods import Trouble


def ready(engine: str = "dask", name: str = "numbers", **spec: Any) -> Object:
    told = {"observedGeneration": 3, "conditions": [condition("Ready", "True", "Ready")]}
    return cluster(engine, name, told, **spec)


READY = ready()
TEMPLATE = {"clusterTemplate": {"spec": {"engine": "dask", "replicas": 2, "suspend": False}}}


def own_cluster(item: Object, *status: Object) -> Object:
    return owned(cluster(name="mean", status={"observedGeneration": 3, "conditions": [*status]}), item)


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


def observe(**seen: Any) -> Observed:
    """Observe; the workers of a cluster that is there are as its chart says."""
    found = seen.setdefault("cluster", None)
    return Observed(**{"workers": workers_of(found) if found else None, **seen})


def decide(item: Object, **seen: Any) -> Plan:
    return plan(item, observe(**seen), NOW)


def tell(item: Object, refusal: Trouble | None = None, **seen: Any) -> Object:
    return status(item, observe(**seen), NOW, refusal)


def names(objects: list[Object]) -> list[tuple[str, str]]:
    return [(item["kind"], item["metadata"]["name"]) for item in objects]


CLUSTER = ("WorkerCluster", "mean")
SCRIPT = ("ConfigMap", "mean-script")
DRIVER = ("Job", "mean-driver")
OWN = job(**TEMPLATE)
OWN_READY = own_cluster(OWN, condition("Ready", "True", "Ready"))
OWN_DEAF = own_cluster(OWN, condition("Ready", "False", "ControlNotReady"))
OWN_WAITING = own_cluster(OWN, condition("Ready", "False", "NoWorkers"))
OWN_STUCK = own_cluster(OWN, condition("Ready", "False", "ImagePullBackOff"))
COMPLETE = condition("Complete", "True")
FAILED = condition("Failed", "True", "BackoffLimitExceeded")
PROGRAM: Object = {"code": {"configMap": "program"}}
STALE = {**READY, "status": {**READY["status"], "observedGeneration": 2}}


@pytest.mark.parametrize(
    ("item", "seen", "applied", "started", "ready_"),
    [
        # A cluster of its own is made, and waited for.
        (OWN, {}, [CLUSTER], [], ("False", "Creating")),
        (OWN, {"cluster": own_cluster(OWN)}, [CLUSTER], [], ("False", "Creating")),
        # Its driver starts beside its workers once the engine answers, unless something is in their way.
        (OWN, {"cluster": OWN_DEAF}, [CLUSTER], [], ("False", "ControlNotReady")),
        (OWN, {"cluster": OWN_WAITING}, [CLUSTER, SCRIPT], [DRIVER], ("False", "NoWorkers")),
        (OWN, {"cluster": OWN_STUCK}, [CLUSTER], [], ("False", "ImagePullBackOff")),
        (OWN, {"cluster": OWN_READY}, [CLUSTER, SCRIPT], [DRIVER], ("True", "Ready")),
        # The script is kept in place for the driver that mounts it.
        (OWN, {"cluster": OWN_READY, "driver": batch_job()}, [CLUSTER, SCRIPT], [], ("True", "Ready")),
        # A borrowed one is only waited for.
        (job(), {}, [], [], ("False", "NotFound")),
        (job(), {"cluster": cluster()}, [], [], ("False", "Creating")),
        (job(), {"cluster": READY}, [SCRIPT], [DRIVER], ("True", "Ready")),
        (job(driver={"command": ["true"]}), {"cluster": READY}, [], [DRIVER], ("True", "Ready")),
        # A driver that runs is not started again when its cluster loses its workers, or goes.
        (job(), {"cluster": cluster(), "driver": batch_job()}, [SCRIPT], [], ("False", "Creating")),
        (job(), {"driver": batch_job()}, [SCRIPT], [], ("False", "NotFound")),
        (job(driver={"command": ["true"]}), {"driver": batch_job()}, [], [], ("False", "NotFound")),
        (job(driver=PROGRAM), {"driver": batch_job()}, [], [], ("False", "NotFound")),
        (job(), {"cluster": READY, "driver": batch_job(COMPLETE)}, [], [], ("True", "Ready")),
        (job(driver=PROGRAM), {"cluster": READY}, [], [DRIVER], ("True", "Ready")),
        # What it says of itself is about an earlier spec, or it is to have no workers.
        (job(), {"cluster": STALE}, [], [], ("True", "Ready")),
        (job(), {"cluster": ready(suspend=True)}, [], [], ("True", "Ready")),
        # What the driver copies from its workers is not there yet.
        (job(), {"cluster": READY, "workers": None}, [], [], ("True", "Ready")),
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
    started: list[tuple[str, str]],
    ready_: tuple[str, str],
) -> None:
    found = decide(item, **seen)
    assert names(found.apply) == applied
    assert names(found.start) == started
    assert (found.create, found.delete) == ([], [])
    told = conditions(tell(item, **seen))["ClusterReady"]
    assert (told["status"], told["reason"]) == ready_


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
    there = {"cluster": seen, "driver": batch_job(suspend=before)}
    found = decide(item, **there)
    assert found.patch == (
        [] if patched is None else [Patch(JOB, NAMESPACE, "mean-driver", {"spec": {"suspend": patched}})]
    )
    told = conditions(tell(item, **there))["Suspended"]
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


SIZED: Object = {"clusterTemplate": {"spec": {"engine": "dask", "replicas": 2, "autoscaling": {"maxReplicas": 9}}}}


def with_size(made: Object, **spec: Any) -> Object:
    """Return the job's cluster as it is seen once it was made, and its size set to something else."""
    found = deepcopy(made)
    found["metadata"] |= {"uid": "uid-mean", "generation": 3}
    found["spec"] |= spec
    return found


@pytest.mark.parametrize("size", [0, 2, 5])
def test_the_size_of_an_own_cluster_is_the_autoscalers_once_it_is_there(size: int) -> None:
    item = job(**SIZED)
    (made,) = decide(item).apply
    # At first, the template's.
    assert made["spec"] == SIZED["clusterTemplate"]["spec"]
    seen = with_size(made, replicas=size)
    (kept,) = decide(item, cluster=seen).apply
    assert kept["spec"] == {**made["spec"], "replicas": size}
    # Nothing to do about that; it is in what is applied all the same, lest it went back to its default.
    assert not must_apply(kept, seen)
    assert correction(kept, seen) == {}


@pytest.mark.parametrize(
    ("change", "size"),
    [
        ({"image": "mine:2"}, 5),
        ({"autoscaling": {"maxReplicas": 4}}, 5),
        ({"suspend": True}, 5),
        # What the template says about the size does not count any more,
        ({"replicas": 3}, 5),
        # unless nobody else sets it.
        ({"autoscaling": None}, 2),
        ({"autoscaling": None, "replicas": 3}, 3),
    ],
)
def test_a_template_that_changes_leaves_the_size_to_the_autoscaler(change: Object, size: int) -> None:
    (made,) = decide(job(**SIZED)).apply
    template = {**SIZED["clusterTemplate"]["spec"], **change}
    template = {name: value for name, value in template.items() if value is not None}
    seen = with_size(made, replicas=5)
    (changed,) = decide(job(clusterTemplate={"spec": template}), cluster=seen).apply
    assert must_apply(changed, seen)
    assert changed["spec"] == {**template, "replicas": size}
    # Which is all: the next time it is as it should be.
    after = {**seen, "metadata": {**seen["metadata"], **changed["metadata"]}, "spec": changed["spec"]}
    assert not must_apply(decide(job(clusterTemplate={"spec": template}), cluster=after).apply[0], after)


def test_a_cluster_that_begins_to_be_sized_keeps_its_size() -> None:
    (made,) = decide(OWN).apply
    seen = with_size(made, replicas=2)
    (changed,) = decide(job(**SIZED), cluster=seen).apply
    assert changed["spec"] == SIZED["clusterTemplate"]["spec"]
    assert must_apply(changed, seen)


def test_a_size_that_nobody_gave_is_the_default() -> None:
    template: Object = {"clusterTemplate": {"spec": {"engine": "dask", "autoscaling": {"maxReplicas": 9}}}}
    (made,) = decide(job(**template)).apply
    assert "replicas" not in made["spec"]
    (kept,) = decide(job(**template), cluster=with_size(made)).apply
    assert kept["spec"]["replicas"] == 1
    # As the API server fills it in.
    assert not must_apply(kept, with_size(made, replicas=1))


def test_the_size_of_an_own_cluster_that_is_not_sized_is_the_templates() -> None:
    (made,) = decide(OWN).apply
    seen = with_size(made, replicas=7)
    (kept,) = decide(OWN, cluster=seen).apply
    assert kept["spec"]["replicas"] == 2
    assert must_apply(kept, seen)


@pytest.mark.parametrize(
    ("item", "is_so"),
    [
        (job(), False),
        (job(managedBy="trireme.dev/workerjob-controller"), False),
        (job(managedBy="kueue.x-k8s.io/multikueue"), True),
        (job(managedBy="trireme.dev/other"), True),
        # A cluster is nobody else's.
        (cluster(), False),
    ],
)
def test_whose_a_job_is(item: Object, is_so: bool) -> None:
    assert is_anothers(item) is is_so


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_cluster_of_somebody_else_is_not_taken(is_ready: bool) -> None:
    theirs = ready(name="mean")
    theirs["status"]["conditions"] = [condition("Ready", str(is_ready))]
    assert decide(OWN, cluster=theirs) == Plan()
    told = conditions(tell(OWN, cluster=theirs))["ClusterReady"]
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
    (made,) = decide(item, cluster=on).start
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
    made = made_driver(job(), ready(engine))
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
    labels = made_driver(job(), ready(engine))["spec"]["template"]["metadata"]["labels"]
    policy = chart_objects(engine)["NetworkPolicy", "numbers"]
    rule, _ = policy["spec"]["ingress"]
    assert rule["from"][0]["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_operator_may_ask_a_spark_driver() -> None:
    labels = made_driver(job(), ready("spark"))["spec"]["template"]["metadata"]["labels"]
    policy = chart_objects("spark")["NetworkPolicy", "numbers-driver"]
    selector = policy["spec"]["podSelector"]
    (components,) = selector["matchExpressions"]
    assert selector["matchLabels"].items() <= labels.items()
    assert labels[components["key"]] in components["values"]


def test_a_client_of_spark_connect_needs_its_address_alone() -> None:
    made = made_pod(engine="spark", spark={"mode": "connect"})
    (container,) = made["containers"]
    assert container["image"] == "trireme/spark-client:dev"
    found = environment(made)
    assert found["SPARK_REMOTE"] == "sc://numbers-connect.team.svc:15002/;authorization=Bearer%20$(_SPARK_AUTH_SECRET)"
    names = [variable["name"] for variable in container["env"]]
    assert names.index("_SPARK_AUTH_SECRET") < names.index("SPARK_REMOTE")
    assert not found.keys() & {"SPARK_DRIVER_MEMORY", "PYSPARK_SUBMIT_ARGS"}
    own = made_pod({"image": "mine:1"}, "spark", spark={"mode": "connect"})
    assert own["containers"][0]["image"] == "mine:1"


def test_spark_drivers_write_their_event_logs_to_the_claim() -> None:
    made = made_pod(engine="spark", values={"history": {"enabled": True, "existingClaim": "logs"}})
    (volume,) = [one["name"] for one in made["volumes"] if "persistentVolumeClaim" in one]
    mounts = {mount["name"]: mount["mountPath"] for mount in made["containers"][0]["volumeMounts"]}
    assert mounts[volume] == "/var/log/spark"


@pytest.mark.parametrize("engine", ENGINES)
def test_prometheus_finds_a_spark_driver_by_its_port(engine: str) -> None:
    (container,) = made_driver(job(), ready(engine))["spec"]["template"]["spec"]["containers"]
    ports = [{"name": "http-ui", "containerPort": 4040}] if engine == "spark" else []
    assert container.get("ports", []) == ports


def made_pod(driver: Object | None = None, engine: str = "dask", **spec: Any) -> Object:
    given = driver or {}
    item = job(driver=given if given.keys() & {"command", "code"} else {"script": "print(1)", **given})
    found: Object = made_driver(item, ready(engine, **spec))["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spec", [{}, {"code": {"configMap": "tasks"}}])
@pytest.mark.parametrize("driver", [{"script": "print(1)"}, {"command": ["true"]}, PROGRAM])
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
        (PROGRAM, ["python", "/opt/trireme/script/main.py"], None),
        ({**PROGRAM, "args": ["x"]}, ["python", "/opt/trireme/script/main.py"], ["x"]),
        ({**PROGRAM, "command": ["python", "-m", "mine"]}, ["python", "-m", "mine"], None),
    ],
)
def test_what_the_driver_runs(driver: Object, command: list[str], args: list[str] | None) -> None:
    (container,) = made_pod(driver)["containers"]
    assert (container["command"], container.get("args")) == (command, args)


@pytest.mark.parametrize(
    ("driver", "files"), [({"script": "x"}, "mean-script"), (PROGRAM, "program"), ({"command": ["true"]}, None)]
)
def test_the_program_is_where_the_command_looks_for_it(driver: Object, files: str | None) -> None:
    made = made_pod(driver)
    (container,) = made["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    if files is None:
        assert not {"script"} & mounts.keys()
        assert "workingDir" not in container
        return
    (volume,) = [volume["name"] for volume in made["volumes"] if volume.get("configMap") == {"name": files}]
    assert f"{mounts[volume]}/main.py" == container["command"][1]
    # Its files find each other.
    assert container["workingDir"] == mounts[volume]


@pytest.mark.parametrize(
    ("driver", "spec", "image"),
    [
        ({"image": "mine"}, {"image": "theirs"}, "mine"),
        ({}, {"image": "theirs"}, "theirs"),
        ({}, {"image": "theirs", "values": {"image": "over"}}, "over"),
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
    assert {"code"} & {volume["name"] for volume in made_pod()["volumes"]} == set()


@pytest.mark.parametrize("engine", ENGINES)
def test_volumes_of_the_cluster_and_its_own_are_the_drivers(engine: str) -> None:
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    mount = {"name": "data", "mountPath": "/data", "readOnly": True}
    own = {"name": "reports", "persistentVolumeClaim": {"claimName": "reports"}}
    own_mount = {"name": "reports", "mountPath": "/reports"}
    driver = {"volumes": [own], "volumeMounts": [own_mount]}
    made = made_pod({"script": "x", **driver}, engine, volumes=[claim], volumeMounts=[mount])
    assert [one for one in made["volumes"] if one["name"] in ("data", "reports")] == [claim, own]
    mounts = made["containers"][0]["volumeMounts"]
    assert [one for one in mounts if one["name"] in ("data", "reports")] == [mount, own_mount]


def test_a_volume_of_the_drivers_takes_the_place_of_the_clusters() -> None:
    shared, own = ({"name": "data", "persistentVolumeClaim": {"claimName": name}} for name in ("all", "mine"))
    mounts = [{"name": "data", "mountPath": "/data"}]
    driver = {"volumes": [own], "volumeMounts": mounts}
    made = made_pod(driver, volumes=[shared], volumeMounts=mounts)
    assert [one for one in made["volumes"] if one["name"] == "data"] == [own]
    assert [one for one in made["containers"][0]["volumeMounts"] if one["name"] == "data"] == mounts


@pytest.mark.parametrize(
    ("history", "given"),
    [
        ({"enabled": True, "directory": "s3a://logs"}, True),
        ({"enabled": True, "existingClaim": "logs"}, False),
        ({}, False),
    ],
)
def test_a_driver_that_writes_an_event_log_elsewhere_has_what_it_takes(history: Object, given: bool) -> None:
    keys = [{"secretRef": {"name": "s3"}}]
    made = made_pod(engine="spark", values={"history": history, "envFrom": keys})
    assert made["containers"][0].get("envFrom") == (keys if given else None)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"placement": {"nodeLabels": {"disk": "fast"}, "spread": "Nodes"}}, True),
        ({"placement": {"podLabels": {"app": "store"}, "mode": "Required"}}, True),
        ({"placement": {"spread": "Nodes"}}, False),
        # An affinity of the workers' own may be about what only they need, such as GPUs.
        ({"values": {"affinity": {"nodeAffinity": {"x": 1}}}}, False),
        ({}, False),
    ],
)
def test_a_driver_is_near_the_data_too(spec: Object, expected: bool) -> None:
    workers = workers_of(ready(**spec))["spec"]["template"]["spec"]
    made = made_pod(**spec)
    assert made.get("affinity") == (workers["affinity"] if expected else None)
    assert "topologySpreadConstraints" not in made


# By it Celery has the chart's settings in drivers, too.
LOADER = {"CELERY_LOADER": "trireme_app:Loader"}
PATH = {"dask": "/opt/trireme/code", "spark": "/opt/trireme/code", "celery": "/opt/trireme/code:/opt/trireme/scripts"}
NODE = {"NODE_NAME": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
CONNECTION = {
    "dask": {
        "DASK_SCHEDULER_ADDRESS": "tcp://numbers-scheduler.team.svc:8786",
        "DASK_CONFIG": "/opt/trireme/conf",
    },
    "spark": {
        "POD_IP": {"fieldRef": {"fieldPath": "status.podIP"}},
        "SPARK_LOCAL_HOSTNAME": "$(POD_IP)",
        "SPARK_MASTER": "spark://numbers-master.team.svc:7077",
        "SPARK_CONF_DIR": "/opt/trireme/conf",
        "_SPARK_AUTH_SECRET": {"secretKeyRef": {"name": "numbers-auth", "key": "password"}},
        "SPARK_DRIVER_MEMORY": "1024m",
        "PYSPARK_SUBMIT_ARGS": "--conf spark.cores.max=1 pyspark-shell",
    },
    "celery": {
        "REDIS_PASSWORD": {"secretKeyRef": {"name": "numbers-auth", "key": "password"}},
        "CELERY_BROKER_URL": "redis://:$(REDIS_PASSWORD)@numbers-broker.team.svc:6379/0",
        "CELERY_RESULT_BACKEND": "redis://:$(REDIS_PASSWORD)@numbers-broker.team.svc:6379/1",
        **LOADER,
    },
}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_driver_finds_its_cluster(engine: str) -> None:
    made = made_pod({"env": [{"name": "MINE", "value": "1"}]}, engine)
    own = {"MINE": "1", "HOME": "/tmp", "PYTHONUNBUFFERED": "1", "PYTHONPATH": PATH[engine]}
    assert environment(made) == {**CONNECTION[engine], **own, **NODE}
    # $(NAME) stands for a variable that comes before.
    before: set[str] = set()
    for variable in made["containers"][0]["env"]:
        assert set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) <= before
        before.add(variable["name"])


@pytest.mark.parametrize(
    ("engine", "spec", "expected"),
    [
        # By what the workers are told, whoever told them so.
        (
            "celery",
            {"values": {"broker": {"url": "amqp://elsewhere"}}},
            {"CELERY_BROKER_URL": "amqp://elsewhere", **LOADER},
        ),
        (
            "celery",
            {"values": {"broker": {"existingSecret": "mine"}}},
            {
                "CELERY_BROKER_URL": {"secretKeyRef": {"name": "mine", "key": "url"}},
                "CELERY_RESULT_BACKEND": {"secretKeyRef": {"name": "mine", "key": "result-backend", "optional": True}},
                **LOADER,
            },
        ),
        (
            "celery",
            {"values": {"auth": {"existingSecret": "mine"}}},
            {**CONNECTION["celery"], "REDIS_PASSWORD": {"secretKeyRef": {"name": "mine", "key": "password"}}},
        ),
        (
            "dask",
            {"env": [{"name": "DASK_SCHEDULER_ADDRESS", "value": "tls://proxy:1"}, {"name": "SECRET", "value": "x"}]},
            {**CONNECTION["dask"], "DASK_SCHEDULER_ADDRESS": "tls://proxy:1"},
        ),
    ],
)
def test_the_driver_connects_as_the_workers_do(engine: str, spec: Object, expected: Object) -> None:
    own = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1", "PYTHONPATH": PATH[engine]}
    assert environment(made_pod(engine=engine, **spec)) == {**expected, **own, **NODE}


def test_the_driver_pulls_images_as_the_workers_do() -> None:
    values = {"imagePullSecrets": [{"name": "key"}], "imagePullPolicy": "Always"}
    made = made_pod(values=values)
    assert made["imagePullSecrets"] == [{"name": "key"}]
    assert made["containers"][0]["imagePullPolicy"] == "Always"
    assert "imagePullSecrets" not in made_pod()


@pytest.mark.parametrize("engine", ENGINES)
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
        ("celery", "REDIS_PASSWORD"),
        ("spark", "POD_IP"),
        ("spark", "SPARK_DRIVER_MEMORY"),
        ("dask", "PYTHONPATH"),
    ],
)
def test_the_users_variable_wins(engine: str, name: str) -> None:
    made = made_pod({"env": [{"name": name, "value": "mine"}]}, engine)
    assert environment(made)[name] == "mine"
    # In the place of the other: what comes after may refer to it, and twice a name would be refused.
    default = [variable["name"] for variable in made_pod(engine=engine)["containers"][0]["env"]]
    assert [variable["name"] for variable in made["containers"][0]["env"]] == default


def test_variables_of_the_user_refer_to_those_before() -> None:
    given = [
        {"name": "REDIS_PASSWORD", "value": "mine"},
        {"name": "A", "value": "$(CELERY_BROKER_URL)"},
        {"name": "B", "value": "$(A)"},
    ]
    names_ = [variable["name"] for variable in made_pod({"env": given}, "celery")["containers"][0]["env"]]
    assert names_.index("REDIS_PASSWORD") < names_.index("CELERY_BROKER_URL") < names_.index("A")
    assert names_[-2:] == ["A", "B"]


def test_what_the_driver_is_made_from_is_left_as_it_was() -> None:
    on = ready("celery", code={"configMap": "tasks"})
    workers, item = workers_of(on), job(driver={"script": "x", "env": [{"name": "A", "value": "b"}], "args": ["a"]})
    before = deepcopy((on, workers, item))
    plan(item, Observed(on, workers), NOW)
    assert (on, workers, item) == before


@pytest.mark.parametrize(
    ("memory", "heap"),
    [("1Gi", "614m"), ("2Gi", "1228m"), ("4G", "2288m"), (2147483648, "1228m"), ("512Mi", "470m"), ("64Mi", "470m")],
)
def test_the_heap_of_a_spark_driver_follows_from_its_limit(memory: Any, heap: str) -> None:
    made = made_pod({"resources": {"limits": {"memory": memory}}}, "spark")
    assert environment(made)["SPARK_DRIVER_MEMORY"] == heap


@pytest.mark.parametrize(
    ("spec", "most"),
    [
        ({"replicas": 1}, 1),
        ({"replicas": 3}, 1),
        ({"replicas": 4}, 2),
        # A worker's at least.
        ({"replicas": 0}, 1),
        ({"replicas": 1, "resources": {"limits": {"cpu": "4", "memory": "8Gi"}}}, 4),
        ({"replicas": 5, "resources": {"limits": {"cpu": "4", "memory": "8Gi"}}}, 8),
        # Whoever says how many is obeyed.
        ({"replicas": 4, "spark": {"config": {"spark.cores.max": "3"}}}, None),
        ({"replicas": 4, "values": {"config": {"spark.cores.max": "3"}}}, None),
        ({"replicas": 4, "spark": {"config": {"spark.other": "3"}}}, 2),
    ],
)
def test_a_spark_driver_leaves_room_on_a_cluster_that_it_borrows(spec: Object, most: int | None) -> None:
    expected = None if most is None else f"--conf spark.cores.max={most} pyspark-shell"
    assert environment(made_pod(engine="spark", **spec)).get("PYSPARK_SUBMIT_ARGS") == expected
    # A cluster of its own is all its own.
    item = job(clusterTemplate={"spec": {"engine": "spark", **spec}})
    made = made_driver(item, owned(ready("spark", "mean", **spec), item))["spec"]["template"]["spec"]
    assert "PYSPARK_SUBMIT_ARGS" not in environment(made)


def ended(code: int, reason: str = "Error", message: str = "") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


KILLED = "the driver was killed (exit code 137), often for using more than spec.driver.resources.limits.memory"
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
        (
            "BackoffLimitExceeded",
            [pod(state=ended(137, "ContainerStatusUnknown", "The container could not be located"))],
            "",
            "DriverFailed",
            "the driver ended, and Kubernetes did not see how",
        ),
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
        # Killed, and nothing tells what for.
        (
            "BackoffLimitExceeded",
            [pod(state=ended(137))],
            None,
            "DriverFailed",
            KILLED,
        ),
        ("BackoffLimitExceeded", [pod(state=ended(137))], "half way\n", "DriverFailed", f"{KILLED}: half way"),
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
    found = tell(job(), cluster=READY, driver=driver, pods=pods, output=output)
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
    found = tell(job(), cluster=READY, driver=driver, output=output)
    assert expected.items() <= found.items()
    told = conditions(found)
    assert (told["Complete"]["status"], told["Complete"]["reason"]) == ("True", "Completed")
    assert "Failed" not in told


@pytest.mark.parametrize("end", [condition("Complete", "False"), condition("Failed", "False")])
def test_an_end_that_is_not_true_is_none(end: Object) -> None:
    found = tell(job(), cluster=READY, driver=batch_job(end))
    assert conditions(found).keys() == {"ClusterReady", "Suspended", "DriverRunning"}
    assert "output" not in found


LOST = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
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
        # Its node may not be there to end it.
        (
            [{**pod(phase="Running", conditions=[LOST]), "spec": {"nodeName": "far"}}],
            (
                "False",
                "DeletionByTaintManager",
                "the driver's node was lost, or tainted against its pod: the next one starts when pod mean-driver-x has"
                " ended; if its node far does not answer, bring it back, delete it, or taint it"
                " node.kubernetes.io/out-of-service",
            ),
        ),
        (
            [pod(phase="Running", conditions=[{**LOST, "reason": "EvictionByEvictionAPI"}])],
            ("True", "Running", "pod mean-driver-x runs"),
        ),
        ([pod(phase="Failed", state=ended(137, "OOMKilled"))], ("False", "OOMKilled", f"attempt 1: {OOM}")),
        (
            [pod(phase="Succeeded", state=ended(0, "Completed"))],
            ("False", "Ended", "pod mean-driver-x has ended"),
        ),
    ],
)
def test_how_the_driver_fares(pods: list[Object], expected: tuple[str, str, str]) -> None:
    found = tell(job(), cluster=READY, driver=batch_job(active=1), pods=pods)
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
    found = tell(job(status=before), cluster=cluster(), driver=driver)
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
    found = tell(job(status=before), cluster=READY, driver=driver)
    assert found.get("startTime") == start


@pytest.mark.parametrize(("item", "cluster_"), [(job(), "numbers"), (OWN, "mean")])
def test_names(item: Object, cluster_: str) -> None:
    assert (cluster_name(item), driver_name(item)) == (cluster_, "mean-driver")
    found = tell(item)
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


# As in a client of Dask whose loop ends with the wait of its batches: by tornado's clock, and told by asyncio.
AFTERWORD = """
import asyncio
import distributed
from tornado.locks import Event

print("an answer", flush=True)


async def wait_and_forget():
    wait = Event().wait(timeout=asyncio.get_running_loop().time())
    await asyncio.wait([wait])


asyncio.run(wait_and_forget())
"""


def test_what_a_client_of_dask_says_as_it_ends_is_not_the_output() -> None:
    command = [sys.executable, "-c", AFTERWORD]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    log = done.stdout
    assert re.match(r"an answer\n.*never retrieved\n.*Timeout.*\n.*Timeout\n\Z", log)
    said = log.removeprefix("an answer\n")
    assert [last_lines(given, "dask") for given in (log, log + said, said, f"{said}more\n")] == [
        "an answer",
        "an answer",
        "",
        f"{said}more",
    ]
    assert [last_lines(log, engine) for engine in ("celery", "spark", "")] == [log.strip()] * 3


DROPPED = (
    "2026-11-29T21:50:32.773 WARN Dispatcher: Message RequestMessage(10.244.1.20:7077, "
    "NettyRpcEndpointRef(spark://AppClient@10.244.0.82:43757), ExecutorUpdated(0,EXITED,Some(Command exited"
    " with code 0),Some(0),None)) dropped due to sparkEnv is stopped. Could not find AppClient.\n"
)
TRACED = """2026-11-29T21:50:32.801 WARN StandaloneAppClient$ClientEndpoint: Failed to connect to master 10.1.1.20:7077
org.apache.spark.SparkException: Exception thrown in awaitResult
\tat org.apache.spark.util.SparkThreadUtils$.awaitResult(SparkThreadUtils.scala:53)
Caused by: java.io.IOException: Failed to connect to /10.244.1.20:7077
\tat org.apache.spark.network.client.TransportClientFactory.createClient(TransportClientFactory.java:294)
\t... 4 more
Caused by: io.netty.channel.AbstractChannel$AnnotatedConnectException: finishConnect(..) failed: Refused
Caused by: java.net.ConnectException: finishConnect(..) failed with error(-111): Connection refused
"""


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("4950\n", "4950"),
        (f"4950\n{DROPPED}", "4950"),
        (f"4950\n{DROPPED}{TRACED}{DROPPED}", "4950"),
        (DROPPED, ""),
        (f"{TRACED}4950\n{DROPPED}", f"{TRACED}4950"),
        # What a program prints, and why it failed.
        (f"{DROPPED}ValueError: no such column\n", f"{DROPPED}ValueError: no such column"),
        (f"4950\n{DROPPED}".replace("WARN", "ERROR"), f"4950\n{DROPPED.strip()}".replace("WARN", "ERROR")),
    ],
)
def test_what_spark_warns_of_as_it_ends_is_not_the_output(log: str, told: str) -> None:
    assert last_lines(log, "spark") == told


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
    assert (found.create, found.apply, found.start, found.patch) == ([], [], [], [])


@pytest.mark.parametrize("end", ["Complete", "Failed"])
def test_the_own_cluster_goes_at_the_end(end: str) -> None:
    item = finished(end, 5, **TEMPLATE)
    found = decide(item, cluster=own_cluster(item), driver=batch_job(condition(end, "True")))
    assert found.delete == [Delete(WORKER_CLUSTER, NAMESPACE, "mean", "uid-mean")]
    assert (found.apply, found.start) == ([], [])


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
    assert (found.apply, found.start, found.delete) == ([], [], [])


def test_an_ended_job_is_not_run_again() -> None:
    found = decide(finished("Failed", 5), cluster=READY)
    assert found == Plan()


@pytest.mark.parametrize(
    ("pods", "trouble", "suspend", "expected"),
    [
        ([], Trouble("QuotaExceeded", "too much"), False, ("QuotaExceeded", "too much")),
        ([pod()], None, True, ("Stopped", "spec.suspend holds the driver")),
        ([], Trouble("QuotaExceeded", "too much"), True, ("Stopped", "spec.suspend holds the driver")),
    ],
)
def test_why_the_driver_has_no_pod(
    pods: list[Object], trouble: Trouble | None, suspend: bool, expected: tuple[str, str]
) -> None:
    found = tell(job(suspend=suspend), cluster=READY, driver=batch_job(), pods=pods, trouble=trouble)
    told = conditions(found)["DriverRunning"]
    assert (told["status"], told["reason"], told["message"]) == ("False", *expected)


RUNS = condition("DriverRunning", "True", since=STAMP)
WAITS = condition("DriverRunning", "False", since=STAMP)


@pytest.mark.parametrize(
    ("told", "seen", "waited", "again"),
    [
        ([], {"cluster": READY}, 0, None),
        ([], {"cluster": READY, "driver": batch_job()}, 0, 3),
        ([WAITS], {"cluster": READY, "driver": batch_job()}, 0, 3),
        # Rarer as time goes by.
        ([WAITS], {"cluster": READY, "driver": batch_job()}, 40, 10),
        ([WAITS], {"cluster": READY, "driver": batch_job(), "pods": [pod(phase="Pending")]}, 4000, 30),
        ([RUNS], {"cluster": READY, "driver": batch_job(), "pods": [pod()]}, 0, None),
        ([WAITS], {"cluster": READY, "driver": batch_job(COMPLETE)}, 0, None),
        ([WAITS], {"cluster": READY, "driver": batch_job(FAILED)}, 0, None),
    ],
)
def test_a_driver_that_does_not_run_is_looked_at_again(
    told: list[Object], seen: Object, waited: float, again: float | None
) -> None:
    found = plan(job(status={"conditions": told}), observe(**seen), NOW + timedelta(seconds=waited))
    assert found.again == again


def test_a_suspended_driver_is_not_looked_at_again() -> None:
    item = job(suspend=True, status={"conditions": [WAITS]})
    assert decide(item, cluster=READY, driver=batch_job(suspend=True)).again is None


INVALID = Trouble("Invalid", "Job mean-driver: no")
NOT_NOW = Trouble("QuotaExceeded", "Job mean-driver: no")


@pytest.mark.parametrize(
    ("refusal", "type_", "state"),
    [(INVALID, "Failed", "Failed"), (NOT_NOW, "DriverRunning", "Starting")],
)
def test_a_refused_driver(refusal: Trouble, type_: str, state: str) -> None:
    found = tell(job(), refusal, cluster=READY)
    told = conditions(found)
    assert (told[type_]["status"], told[type_]["reason"]) == (str(type_ == "Failed"), refusal.reason)
    assert told[type_]["message"] == refusal.message
    assert found["state"] == state
    assert ("Failed" in told) is (type_ == "Failed")


@pytest.mark.parametrize("refusal", [INVALID, NOT_NOW])
def test_a_refused_change_does_not_end_a_driver_that_runs(refusal: Trouble) -> None:
    found = tell(OWN, refusal, cluster=OWN_READY, driver=batch_job(), pods=[pod()])
    assert not {"Complete", "Failed"} & conditions(found).keys()
    assert found["state"] != "Failed"


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
    found = tell(item, **seen)
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
    found = tell(job(), cluster=READY, driver=complete)
    assert found["duration"] == duration


def test_the_duration_of_a_failure_is_until_it_was_seen() -> None:
    assert tell(job(), cluster=READY, driver=batch_job(FAILED, startTime=EARLIER))["duration"] == "1d3h"
    # It never started.
    assert tell(job(), cluster=READY, driver=batch_job(FAILED))["duration"] == "0s"
