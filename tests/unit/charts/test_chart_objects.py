"""What the charts make of their values, beside the figures."""

import json
import os
import re
from pathlib import Path
from subprocess import run
from typing import Any

import dask
import distributed  # noqa: F401, whose defaults are among Dask's once it is imported
import pytest
import yaml
from charting import ENGINES, NAME, NAMESPACE, Object, Render, Rendered, container, environment, limits, workloads
from helm_python import HelmRenderError

CONTROL = {
    "dask": ("Deployment", "scheduler"),
    "spark": ("StatefulSet", "master"),
    "celery": ("StatefulSet", "broker"),
}

VARIANTS: list[tuple[str, Object]] = [
    *((engine, {}) for engine in ENGINES),
    ("spark", {"mode": "connect", "code": {"configMap": "tasks"}}),
    ("spark", {"history": {"enabled": True, "existingClaim": "logs"}}),
    ("spark", {"mode": "connect", "history": {"enabled": True, "directory": "s3a://logs/spark"}}),
    ("spark", {"master": {"persistence": {"enabled": True, "storageClass": "fast"}}}),
    ("celery", {"broker": {"persistence": {"enabled": False}}}),
    ("celery", {"broker": {"type": "rabbitmq"}, "monitor": {"enabled": True}}),
    ("celery", {"beat": {"enabled": True}, "flower": {"enabled": True}, "pool": "threads"}),
    ("celery", {"broker": {"existingSecret": "rabbit"}}),
    ("celery", {"broker": {"url": "amqp://a"}, "monitor": {"enabled": True}}),
    ("celery", {"auth": {"existingSecret": "own"}, "queues": ["a", "b"]}),
    *((engine, {"code": {"configMap": "tasks"}, "podLabels": {"a": "b"}}) for engine in ENGINES),
    *((engine, {"image": "user/image", "replicas": 0, "drainSeconds": 5}) for engine in ENGINES),
]

every_variant = pytest.mark.parametrize(("engine", "values"), VARIANTS)
every_engine = pytest.mark.parametrize("engine", ENGINES)


@every_variant
def test_pod_security_restricted(render: Render, engine: str, values: Object) -> None:
    for workload in workloads(render(engine, values)):
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for item in pod["containers"] + pod.get("initContainers", []):
            assert item["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
        kinds = {key for volume in pod.get("volumes", []) for key in volume} - {"name"}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim"}


@every_variant
def test_labels(render: Render, engine: str, values: Object) -> None:
    objects = render(engine, values)
    expected = {
        "app.kubernetes.io/name": engine,
        "app.kubernetes.io/instance": NAME,
        "app.kubernetes.io/part-of": "trireme",
        "app.kubernetes.io/managed-by": "Helm",
    }
    for item in objects.values():
        assert expected.items() <= item["metadata"]["labels"].items()
    for workload in workloads(objects):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert expected.items() <= labels.items()
        assert values.get("podLabels", {}).items() <= labels.items()
        selector = workload["spec"]["selector"]["matchLabels"]
        assert selector.items() <= labels.items()
        assert selector["app.kubernetes.io/component"] == workload["metadata"]["name"].removeprefix(f"{NAME}-")


@every_engine
def test_pods_keep_the_labels_they_are_selected_by(render: Render, engine: str) -> None:
    mine = {"podLabels": {"app.kubernetes.io/component": "mine", "app.kubernetes.io/instance": "mine"}}
    for workload in workloads(render(engine, mine)):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()


@every_variant
def test_services_and_budgets_select_their_pods(render: Render, engine: str, values: Object) -> None:
    objects = render(engine, values)
    pods = {item["metadata"]["name"]: item["spec"]["template"] for item in workloads(objects)}
    for (kind, name), item in objects.items():
        if kind == "Service":
            assert item["spec"]["selector"].items() <= pods[name]["metadata"]["labels"].items()
            ports = {port["name"] for port in pods[name]["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"] for port in item["spec"]["ports"]} <= ports
        if kind == "PodDisruptionBudget":
            selected = item["spec"]["selector"]["matchLabels"]
            assert selected.items() <= pods[f"{NAME}-worker"]["metadata"]["labels"].items()


@every_variant
def test_only_the_clusters_own_pods_may_connect(render: Render, engine: str, values: Object) -> None:
    """And the operator, in whatever namespace it is, to the one port that tells the demand."""
    policy = render(engine, values)["NetworkPolicy", NAME]["spec"]
    own = {"matchLabels": {"app.kubernetes.io/instance": NAME, "app.kubernetes.io/part-of": "trireme"}}
    operator = {"matchLabels": {"app.kubernetes.io/name": "trireme", "app.kubernetes.io/component": "operator"}}
    port = {"dask": "http-dashboard", "spark": 8080, "celery": "tcp-redis"}[engine]
    if values.get("broker", {}).keys() & {"url", "existingSecret", "type"}:
        port = "http-demand"
    assert policy == {
        "podSelector": own,
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": own}]},
            {"from": [{"namespaceSelector": {}, "podSelector": operator}], "ports": [{"port": port}]},
        ],
    }


@every_variant
def test_the_operator_may_ask_spark_drivers_and_nobody_else(render: Render, engine: str, values: Object) -> None:
    objects = render(engine, values)
    names = {name for kind, name in objects if kind == "NetworkPolicy"}
    assert names == ({NAME, f"{NAME}-driver"} if engine == "spark" else {NAME})
    if engine == "spark":
        operator = {"matchLabels": {"app.kubernetes.io/name": "trireme", "app.kubernetes.io/component": "operator"}}
        assert objects["NetworkPolicy", f"{NAME}-driver"]["spec"] == {
            "podSelector": {
                "matchLabels": {"app.kubernetes.io/name": "spark", "app.kubernetes.io/instance": NAME},
                "matchExpressions": [
                    {"key": "app.kubernetes.io/component", "operator": "In", "values": ["driver", "connect"]}
                ],
            },
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"namespaceSelector": {}, "podSelector": operator}], "ports": [{"port": 4040}]}],
        }


@every_engine
def test_names(render: Render, engine: str) -> None:
    kind, component = CONTROL[engine]
    objects = render(engine)
    assert {
        (kind, f"{NAME}-{component}"),
        ("Service", f"{NAME}-{component}"),
        ("Deployment", f"{NAME}-worker"),
        ("ConfigMap", f"{NAME}-conf"),
        ("ConfigMap", f"{NAME}-scripts"),
    } <= objects.keys()
    assert ("Secret", f"{NAME}-auth") in objects or engine == "dask"


@every_engine
@pytest.mark.parametrize("name", ["1st", "a" * 46, "a.b"])
def test_names_that_would_not_do(render: Render, engine: str, name: str) -> None:
    with pytest.raises(HelmRenderError, match="release name"):
        render(engine, name=name)


@every_engine
@pytest.mark.parametrize("name", ["on", "n", "yes", "null", "true"])
@pytest.mark.parametrize("cluster", ["", "off", "no"])
def test_a_name_is_one_whatever_else_yaml_takes_it_for(render: Render, engine: str, name: str, cluster: str) -> None:
    def texts(item: Any) -> list[Any]:
        if isinstance(item, dict):
            return [found for value in item.values() for found in texts(value)]
        return [found for value in item for found in texts(value)] if isinstance(item, list) else [item]

    words = (bool, type(None))
    objects = render(engine, {"cluster": cluster}, name=name)
    usual = render(engine, {"cluster": cluster and "others"})
    assert {(kind, found.removeprefix(name)) for kind, found in objects} == {
        (kind, found.removeprefix(NAME)) for kind, found in usual
    }
    assert [one for one in texts([*objects.values()]) if isinstance(one, words)] == [
        one for one in texts([*usual.values()]) if isinstance(one, words)
    ]


@pytest.mark.parametrize("name", ["123", "1e3", "null", "0.5"])
@pytest.mark.parametrize(
    ("engine", "values"),
    [
        *((engine, {"code": {"configMap": "NAME"}, "priorityClassName": "NAME"}) for engine in ENGINES),
        ("dask", {"spill": {"size": "1Gi", "storageClassName": "NAME"}}),
        ("spark", {"auth": {"existingSecret": "NAME"}, "history": {"enabled": True, "existingClaim": "NAME"}}),
        ("spark", {"master": {"persistence": {"enabled": True, "storageClass": "NAME"}}}),
        ("celery", {"auth": {"existingSecret": "NAME"}, "flower": {"enabled": True}, "beat": {"enabled": True}}),
        ("celery", {"broker": {"existingSecret": "NAME", "tls": {"secretName": "NAME"}}}),
        ("celery", {"broker": {"type": "rabbitmq", "persistence": {"enabled": True, "storageClass": "NAME"}}}),
    ],
)
def test_names_of_other_objects_are_texts(render: Render, engine: str, values: Object, name: str) -> None:
    given = json.loads(json.dumps(values).replace("NAME", name))
    usual = json.dumps([*render(engine, json.loads(json.dumps(values).replace("NAME", "other-name"))).values()])
    known = json.loads(usual.replace("other-name", name))
    for item in (*known, *(found := [*render(engine, given).values()])):
        for metadata in (item.get("spec", {}).get("template") or {}).get("metadata", {}), item["metadata"]:
            metadata.pop("annotations", None)
        if item["kind"] == "Secret":
            item.pop("data")
    assert found == known


@every_engine
def test_the_longest_name_fits(render: Render, engine: str) -> None:
    for kind, name in render(engine, name="a" * 45):
        # A StatefulSet's pods carry its name and a hash of 10 in a label.
        assert len(name) <= (52 if kind == "StatefulSet" else 63)


@every_engine
def test_scaling_changes_nothing_but_the_number(render: Render, engine: str) -> None:
    def sized(replicas: int) -> Rendered:
        password = {} if engine == "dask" else {"auth": {"existingSecret": "own"}}
        objects = render(engine, {"replicas": replicas, **password})
        assert objects["Deployment", f"{NAME}-worker"]["spec"].pop("replicas") == replicas
        return objects

    assert sized(0) == sized(7)


@every_engine
def test_requests_default_to_limits(render: Render, engine: str) -> None:
    values = {"resources": {"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "100m"}}}
    assert container(render(engine, values)["Deployment", f"{NAME}-worker"])["resources"] == {
        "limits": {"cpu": "1", "memory": "2Gi"},
        "requests": {"cpu": "100m", "memory": "2Gi"},
    }


@every_engine
def test_every_container_is_limited(render: Render, engine: str) -> None:
    for workload in workloads(render(engine)):
        resources = container(workload)["resources"]
        assert resources["limits"].keys() == {"cpu", "memory"}
        assert resources["requests"] == resources["limits"]


@every_engine
def test_probes_start_at_once(render: Render, engine: str) -> None:
    for workload in workloads(render(engine)):
        only = container(workload)
        assert only["startupProbe"]["periodSeconds"] == 1
        assert "readinessProbe" in only
        probes = [only[name] for name in ("startupProbe", "readinessProbe", "livenessProbe") if name in only]
        assert not any("initialDelaySeconds" in probe for probe in probes)


@every_engine
def test_drain(render: Render, engine: str) -> None:
    objects = render(engine, {"drainSeconds": 77})
    worker = objects["Deployment", f"{NAME}-worker"]
    assert worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 77
    assert environment(worker)["TRIREME_DRAIN_SECONDS"] == "77"
    scripts = objects["ConfigMap", f"{NAME}-scripts"]["data"]
    commands = [container(worker)["command"]]
    if engine == "spark":
        commands.append(container(worker)["lifecycle"]["preStop"]["exec"]["command"])
    for command in commands:
        assert command[1].removeprefix("/opt/trireme/scripts/") in scripts


@every_engine
def test_environment_has_each_name_once_and_the_users_wins(render: Render, engine: str) -> None:
    given = [
        {"name": "HOME", "value": "/home/me"},
        {"name": "OWN", "value": "1"},
        {"name": "OWN", "value": "1"},
    ]
    worker = render(engine, {"env": given})["Deployment", f"{NAME}-worker"]
    names = [item["name"] for item in container(worker)["env"]]
    assert len(names) == len(set(names))
    assert environment(worker)["HOME"] == "/home/me"
    assert environment(worker)["OWN"] == "1"
    # A reference reaches only what stands before it.
    for item in container(worker)["env"]:
        for other in names[names.index(item["name"]) :]:
            assert f"$({other})" not in item.get("value", "")


@every_engine
def test_code_is_mounted(render: Render, engine: str) -> None:
    worker = render(engine, {"code": {"configMap": "tasks"}})["Deployment", f"{NAME}-worker"]
    pod = worker["spec"]["template"]["spec"]
    assert {"name": "code", "configMap": {"name": "tasks"}} in pod["volumes"]
    (mount,) = [mount for mount in container(worker)["volumeMounts"] if mount["name"] == "code"]
    assert environment(worker)["PYTHONPATH"].split(":")[0] == mount["mountPath"]
    assert mount["readOnly"] is True


def test_a_dask_scheduler_can_unpickle_what_workers_can(render: Render) -> None:
    scheduler = render("dask", {"code": {"configMap": "tasks"}})["Deployment", f"{NAME}-scheduler"]
    assert {"name": "code", "configMap": {"name": "tasks"}} in scheduler["spec"]["template"]["spec"]["volumes"]
    (mount,) = [mount for mount in container(scheduler)["volumeMounts"] if mount["name"] == "code"]
    assert environment(scheduler)["PYTHONPATH"] == mount["mountPath"]
    assert "PYTHONPATH" not in environment(render("dask")["Deployment", f"{NAME}-scheduler"])


PLACEMENT: Object = {
    "nodeSelector": {"disk": "fast"},
    "affinity": {"nodeAffinity": {}},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "priorityClassName": "high",
}


@every_engine
def test_pod_words(render: Render, engine: str) -> None:
    values = {
        **PLACEMENT,
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "envFrom": [{"secretRef": {"name": "keys"}}],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "podAnnotations": {"note": "x"},
    }
    objects = render(engine, values)
    worker = objects["Deployment", f"{NAME}-worker"]
    template = worker["spec"]["template"]
    for word in (*PLACEMENT, "topologySpreadConstraints"):
        assert template["spec"][word] == values[word]
    assert container(worker)["envFrom"] == values["envFrom"]
    assert values["volumes"][0] in template["spec"]["volumes"]
    assert values["volumeMounts"][0] in container(worker)["volumeMounts"]
    for workload in workloads(objects):
        template = workload["spec"]["template"]
        assert template["spec"]["imagePullSecrets"] == values["imagePullSecrets"]
        assert container(workload)["imagePullPolicy"] == "Always"
        assert template["metadata"]["annotations"]["note"] == "x"


def test_a_connect_server_reaches_what_workers_reach(render: Render) -> None:
    """It is the driver of its sessions: it plans reads of the same files, with the same credentials."""
    own = [{"name": "HOME", "value": "/home/me"}, {"name": "AWS_REGION", "value": "here"}]
    values = {
        "mode": "connect",
        "env": own,
        "envFrom": [{"secretRef": {"name": "keys"}}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "code": {"configMap": "tasks"},
    }
    connect = render("spark", values)["Deployment", f"{NAME}-connect"]
    names = [item["name"] for item in container(connect)["env"]]
    assert len(names) == len(set(names))
    assert names.index("POD_IP") < names.index("SPARK_LOCAL_IP")
    assert {"HOME": "/home/me", "AWS_REGION": "here", "SPARK_LOCAL_IP": "$(POD_IP)"}.items() <= environment(
        connect
    ).items()
    assert container(connect)["envFrom"] == values["envFrom"]
    assert values["volumeMounts"][0] in container(connect)["volumeMounts"]
    assert values["volumes"][0] in connect["spec"]["template"]["spec"]["volumes"]
    mounts = [mount["name"] for mount in container(connect)["volumeMounts"]]
    assert sorted(mounts) == sorted(volume["name"] for volume in connect["spec"]["template"]["spec"]["volumes"])
    assert len(mounts) == len(set(mounts))


@every_engine
def test_control_pod_is_placed_by_itself(render: Render, engine: str) -> None:
    kind, component = CONTROL[engine]
    objects = render(engine, {component: PLACEMENT})
    control = objects[kind, f"{NAME}-{component}"]["spec"]["template"]["spec"]
    assert PLACEMENT.items() <= control.items()
    assert not PLACEMENT.keys() & objects["Deployment", f"{NAME}-worker"]["spec"]["template"]["spec"].keys()


CONFIG: dict[str, Object] = {
    "dask": {"distributed": {"worker": {"memory": {"spill": False}}}},
    "spark": {"spark.sql.shuffle.partitions": 8},
    "celery": {"task_time_limit": 60},
}


@every_engine
def test_changed_configuration_rolls_the_pods(render: Render, engine: str) -> None:
    def annotations(values: Object) -> list[Any]:
        return [item["spec"]["template"]["metadata"]["annotations"] for item in workloads(render(engine, values))]

    before, after = annotations({}), annotations({"config": CONFIG[engine]})
    assert before == annotations({})
    assert all(one != other for one, other in zip(before, after, strict=True) if one or other)


def test_whoever_looks_at_a_dask_scheduler_sends_no_worker_away(render: Render) -> None:
    routes = {"distributed": {"scheduler": {"http": {"routes": ["distributed.http.scheduler.api"]}, "bandwidth": 9}}}
    text = render("dask", {"config": routes})["ConfigMap", f"{NAME}-conf"]["data"]["dask.yaml"]
    scheduler = yaml.safe_load(text)["distributed"]["scheduler"]
    assert sorted(scheduler["http"]["routes"]) == sorted(dask.config.get("distributed.scheduler.http.routes"))
    assert scheduler["bandwidth"] == 9


def test_dask_scheduler_tells_its_demand(render: Render) -> None:
    objects = render("dask")
    scheduler = objects["Deployment", f"{NAME}-scheduler"]
    assert container(scheduler)["command"][:2] == ["python", "/opt/trireme/scripts/trireme_demand.py"]
    assert "trireme_demand.py" in objects["ConfigMap", f"{NAME}-scripts"]["data"]
    template = scheduler["spec"]["template"]
    assert {"name": "scripts", "configMap": {"name": f"{NAME}-scripts"}} in template["spec"]["volumes"]
    mount = {"name": "scripts", "mountPath": "/opt/trireme/scripts", "readOnly": True}
    assert mount in container(scheduler)["volumeMounts"]
    # What it holds is lost when it is replaced, so a new script waits for its next start.
    assert template["metadata"]["annotations"].keys() == {"checksum/conf"}


def test_whoever_looks_at_a_spark_master_changes_nothing(render: Render, tmp_path: Path) -> None:
    (tmp_path / "spark-class").write_text('#!/bin/sh\necho "$SPARK_DAEMON_JAVA_OPTS"')
    (tmp_path / "spark-class").chmod(0o755)
    script = render("spark")["ConfigMap", f"{NAME}-scripts"]["data"]["master.sh"]
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "POD_IP": "10.0.0.1", "SPARK_DAEMON_JAVA_OPTS": "-Xms8m"}
    told = run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True).stdout.split()
    assert {
        "-Xms8m",
        "-Dspark.master.rest.enabled=false",
        "-Dspark.master.ui.decommission.allow.mode=DENY",
        "-Dspark.ui.killEnabled=false",
    } <= set(told)


def test_spark_config(render: Render) -> None:
    given = {
        "spark.master": "local",
        "spark.decommission.enabled": False,
        "spark.executor.cores": 2,
        "a.b": "x y",
        "c": 1e7,
    }
    text = render("spark", {"config": given})["ConfigMap", f"{NAME}-conf"]["data"]["spark-defaults.conf"]
    properties = dict(line.split(" ", 1) for line in text.splitlines())
    assert properties["spark.master"] == f"spark://{NAME}-master.{NAMESPACE}.svc:7077"
    assert properties["spark.decommission.enabled"] == "false"
    assert properties["spark.executor.cores"] == "2"
    assert properties["a.b"] == "x y"
    assert properties["c"] == "10000000"
    assert properties["spark.storage.decommission.enabled"] == "true"


@pytest.mark.parametrize("text", ["a:", "a\n---\nkind:\tPod", '"a\\'])
def test_a_name_of_a_queue_is_that_and_nothing_else(render: Render, text: str) -> None:
    objects = render("celery", {"queues": [text, "b"], "excludeQueues": [text], "monitor": {"enabled": True}})
    for component in ("worker", "monitor"):
        command = container(objects["Deployment", f"{NAME}-{component}"])["command"]
        assert command[-2:] == [f"--queues={text},b", f"--exclude-queues={text}"]


@pytest.mark.parametrize("type_", ["redis", "rabbitmq"])
def test_a_result_store_is_that_and_nothing_else(render: Render, type_: str) -> None:
    url = "file:///a #b: c\n- name: HOME"
    worker = render("celery", {"broker": {"type": type_, "resultBackend": url}})["Deployment", f"{NAME}-worker"]
    assert environment(worker)["CELERY_RESULT_BACKEND"] == url


def test_celery_settings_lose_no_task(render: Render) -> None:
    data = render("celery")["ConfigMap", f"{NAME}-conf"]["data"]
    defaults = json.loads(data["defaults.json"])
    assert defaults["task_acks_late"] is True
    assert defaults["worker_prefetch_multiplier"] == 1


def test_connections(render: Render) -> None:
    dask = environment(render("dask")["Deployment", f"{NAME}-worker"])
    assert dask["DASK_SCHEDULER_ADDRESS"] == f"tcp://{NAME}-scheduler.{NAMESPACE}.svc:8786"
    spark = environment(render("spark")["Deployment", f"{NAME}-worker"])
    assert spark["SPARK_MASTER"] == f"spark://{NAME}-master.{NAMESPACE}.svc:7077"
    celery = environment(render("celery")["Deployment", f"{NAME}-worker"])
    assert celery["REDIS_PASSWORD"] == {"secretKeyRef": {"name": f"{NAME}-auth", "key": "password"}}
    broker = f"redis://:$(REDIS_PASSWORD)@{NAME}-broker.{NAMESPACE}.svc:6379"
    assert celery["CELERY_BROKER_URL"] == f"{broker}/0"
    assert celery["CELERY_RESULT_BACKEND"] == f"{broker}/1"


@pytest.mark.parametrize(("engine", "variable"), [("celery", "REDIS_PASSWORD"), ("spark", "_SPARK_AUTH_SECRET")])
def test_password(render: Render, engine: str, variable: str) -> None:
    first, second = (render(engine)["Secret", f"{NAME}-auth"]["data"]["password"] for _ in range(2))
    assert first != second
    more = {"mode": "connect", "history": {"enabled": True, "existingClaim": "logs"}} if engine == "spark" else {}
    given = render(engine, {"auth": {"existingSecret": "own"}, **more})
    assert not any(kind == "Secret" for kind, _ in given)
    reference = {"secretKeyRef": {"name": "own", "key": "password"}}
    for workload in workloads(given):
        assert environment(workload)[variable] == reference


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"executor": {"cores": 3}}, r"executor\.cores: no worker has 3 cores: use at most 2, or raise resources"),
        ({"executor": {"memory": "4Gi"}}, r"executor\.memory: no worker has 4Gi for an executor: use at most 1877Mi"),
        (
            {"executor": {"memory": "100Mi"}},
            r"executor\.memory: 100Mi is too small for a Spark executor: use at least 470Mi",
        ),
        ({"history": {"enabled": True}}, r"history\.enabled: .* history\.existingClaim or by history\.directory"),
        (
            {"history": {"enabled": True, "existingClaim": "a", "directory": "s3a://b"}},
            r"history\.enabled: .* either by history\.existingClaim or by history\.directory",
        ),
        ({"config": {"spark.authenticate.secret": "x"}}, r"spark\.authenticate\.secret .* auth\.existingSecret"),
        ({"mode": "connect", "connect": limits(memory="512Mi")}, r"connect\.resources\.limits\.memory: .* least 768Mi"),
        (
            {"history": {"enabled": True, "existingClaim": "a", **limits(memory="64Mi")}},
            r"history\.resources\.limits\.memory: 64Mi is too small .* least 512Mi",
        ),
    ],
)
def test_spark_values_that_would_not_do(render: Render, values: Object, words: str) -> None:
    with pytest.raises(HelmRenderError, match=words):
        render("spark", {**limits(cpu="2", memory="3Gi"), **values})


@pytest.mark.parametrize(
    ("executor", "cores", "memory"),
    [
        ({}, "4", "3925m"),
        # Its share, by its cores.
        ({"cores": 2}, "2", "1962m"),
        ({"cores": 1, "memory": "600Mi"}, "1", "600m"),
        ({"memory": "3925Mi"}, "4", "3925m"),
    ],
)
def test_spark_executors_are_as_large_as_they_should_be(
    render: Render, executor: Object, cores: str, memory: str
) -> None:
    objects = render("spark", {**limits(cpu="4", memory="6Gi"), "executor": executor})
    text = objects["ConfigMap", f"{NAME}-conf"]["data"]["spark-defaults.conf"]
    properties = dict(line.split(" ", 1) for line in text.splitlines())
    assert (properties["spark.executor.cores"], properties["spark.executor.memory"]) == (cores, memory)


LARGE_GROUP = {"cpu": "8", "memory": "16Gi"}
NARROW_GROUP = {"cpu": "2", "memory": "32Gi"}


@pytest.mark.parametrize(
    ("executor", "groups", "expected"),
    [
        ({"cores": 8, "memory": "10Gi"}, [LARGE_GROUP], ("8", "10240m")),
        ({"cores": 8, "memory": "10752Mi"}, [NARROW_GROUP, LARGE_GROUP], ("8", "10752m")),
        ({"memory": "5Gi"}, [LARGE_GROUP], ("4", "5120m")),
        # Its share by its cores, as far as the workers that have those go.
        ({"cores": 8}, [LARGE_GROUP], ("8", "7850m")),
        ({"cores": 8}, [{"cpu": 8, "memory": "4Gi"}, NARROW_GROUP], ("8", "2560m")),
        # What fits into a worker of the cluster's own is as without groups, lest they roll it.
        ({}, [LARGE_GROUP], ("4", "3925m")),
        ({"cores": 2}, [NARROW_GROUP], ("2", "1962m")),
        ({"cores": 9}, [LARGE_GROUP], r"executor\.cores: no worker has 9 cores: use at most 8, .* or of a group"),
        ({"cores": 8}, [NARROW_GROUP], r"executor\.cores: no worker has 8 cores: use at most 4, "),
        # No one worker has both.
        (
            {"memory": "20Gi"},
            [LARGE_GROUP, NARROW_GROUP],
            r"executor\.memory: .* use at most 10752Mi, .* or of a group",
        ),
        ({"cores": 8, "memory": "1Gi"}, [{"cpu": "8", "memory": "1Gi"}], r"executor\.memory: .* use at most 512Mi"),
    ],
)
def test_spark_executors_may_be_for_the_workers_of_groups(
    render: Render, executor: Object, groups: list[Object], expected: tuple[str, str] | str
) -> None:
    values = {**limits(cpu="4", memory="6Gi"), "executor": executor, "groups": groups}
    if isinstance(expected, str):
        with pytest.raises(HelmRenderError, match=expected):
            render("spark", values)
    else:
        text = render("spark", values)["ConfigMap", f"{NAME}-conf"]["data"]["spark-defaults.conf"]
        properties = dict(line.split(" ", 1) for line in text.splitlines())
        assert (properties["spark.executor.cores"], properties["spark.executor.memory"]) == expected


def test_a_spark_connect_server_asks_for_no_executor_before_a_client_does(render: Render) -> None:
    for values, initial in (({}, 1), ({"mode": "connect"}, 0)):
        text = render("spark", values)["ConfigMap", f"{NAME}-conf"]["data"]["spark-defaults.conf"]
        assert f"spark.dynamicAllocation.initialExecutors {initial}\n" in text


def test_no_process_is_started_each_second_until_a_spark_worker_is_ready(render: Render) -> None:
    """The one that asks the master is dear: it begins once the worker answers by itself."""
    worker = container(render("spark")["Deployment", f"{NAME}-worker"])
    assert worker["startupProbe"]["httpGet"] == {"path": "/json/", "port": "http-ui"}
    assert worker["readinessProbe"]["exec"]["command"][-1].endswith("ready.sh")
    assert worker["readinessProbe"]["periodSeconds"] >= 30


def test_a_spark_master_that_remembers_is_reached_once_it_has_recovered(render: Render) -> None:
    """Its Service leads to no pod whose startup probe has not ended, and that one waits by itself."""
    objects = render("spark", {"master": {"persistence": {"enabled": True}}})
    assert not objects["Service", f"{NAME}-master"]["spec"].get("publishNotReadyAddresses")
    startup = container(objects["StatefulSet", f"{NAME}-master"])["startupProbe"]
    assert startup["exec"]["command"][-1].endswith("recovered.sh")
    # As long as it waits for the first answer is left to the probe; for the rest it takes 20 s.
    assert startup["timeoutSeconds"] > 20
    assert startup["timeoutSeconds"] * startup["failureThreshold"] == 300


def test_a_spark_executor_told_to_leave_as_it_starts_waits_for_itself_for_seconds(render: Render) -> None:
    """Spark's own 30 s are how long such a worker would take to leave; who moves blocks there is as patient in all."""
    text = render("spark")["ConfigMap", f"{NAME}-conf"]["data"]["spark-defaults.conf"]
    properties = dict(line.split(" ", 1) for line in text.splitlines())
    seconds = int(properties["spark.storage.shuffleManager.initWaitingTimeout"].removesuffix("s"))
    assert seconds <= 3
    assert seconds * int(properties["spark.storage.decommission.maxReplicationFailuresPerBlock"]) >= 30


def test_small_spark_executors_have_the_least_heap_that_one_can_have(render: Render) -> None:
    objects = render("spark", {**limits(cpu="4", memory="2Gi"), "executor": {"cores": 1}})
    assert (
        "spark.executor.memory 470m" in objects["ConfigMap", f"{NAME}-conf"]["data"]["spark-defaults.conf"].splitlines()
    )


def test_no_secret_is_in_a_spark_configuration(render: Render) -> None:
    text = render("spark")["ConfigMap", f"{NAME}-conf"]["data"]["spark-defaults.conf"]
    properties = dict(line.split(" ", 1) for line in text.splitlines())
    assert properties["spark.authenticate"] == "true"
    assert properties["spark.authenticate.secret"] == "see-_SPARK_AUTH_SECRET"


@pytest.mark.parametrize(
    ("history", "where"),
    [({"existingClaim": "logs"}, "file:/var/log/spark"), ({"directory": "s3a://a/b"}, "s3a://a/b"), (None, None)],
)
def test_spark_event_logs(render: Render, history: Object | None, where: str | None) -> None:
    objects = render("spark", {"history": {"enabled": True, **history}} if history else {})
    text = objects["ConfigMap", f"{NAME}-conf"]["data"]["spark-defaults.conf"]
    properties = dict(line.split(" ", 1) for line in text.splitlines())
    assert properties.get("spark.eventLog.dir") == where
    assert (("Deployment", f"{NAME}-history") in objects) is bool(history)
    # A claim that is ReadWriteOnce would hold all workers on one node.
    worker = objects["Deployment", f"{NAME}-worker"]["spec"]["template"]["spec"]
    assert not [volume for volume in worker["volumes"] if "persistentVolumeClaim" in volume]


@pytest.mark.parametrize(
    ("broker", "url", "backend"),
    [
        ({"url": "amqp://a"}, "amqp://a", None),
        ({"url": "amqp://a", "resultBackend": "redis://b"}, "amqp://a", "redis://b"),
        (
            {"existingSecret": "rabbit"},
            {"secretKeyRef": {"name": "rabbit", "key": "url"}},
            {"secretKeyRef": {"name": "rabbit", "key": "result-backend", "optional": True}},
        ),
    ],
)
def test_external_broker(render: Render, broker: Object, url: Any, backend: Any) -> None:
    objects = render("celery", {"broker": broker})
    assert not {kind for kind, _ in objects} & {"StatefulSet", "Service", "Secret"}
    variables = environment(objects["Deployment", f"{NAME}-worker"])
    assert variables["CELERY_BROKER_URL"] == url
    assert variables.get("CELERY_RESULT_BACKEND") == backend


def test_rabbitmq(render: Render) -> None:
    objects = render("celery", {"broker": {"type": "rabbitmq"}})
    variables = environment(objects["Deployment", f"{NAME}-worker"])
    assert variables["CELERY_BROKER_URL"] == f"amqp://trireme:$(RABBITMQ_PASSWORD)@{NAME}-broker.{NAMESPACE}.svc:5672//"
    assert variables["CELERY_RESULT_BACKEND"] == "rpc://"
    given = render("celery", {"broker": {"type": "rabbitmq", "resultBackend": "redis://there/1"}})
    assert environment(given["Deployment", f"{NAME}-worker"])["CELERY_RESULT_BACKEND"] == "redis://there/1"
    broker = container(objects["StatefulSet", f"{NAME}-broker"])
    assert broker["image"] == "trireme/rabbitmq:dev"
    assert f"total_memory_available_override_value = {256 * 2**20}\n" in broker["command"][2]
    defaults = json.loads(objects["ConfigMap", f"{NAME}-conf"]["data"]["defaults.json"])
    assert defaults["task_default_queue_type"] == defaults["task_create_missing_queue_type"] == "quorum"
    assert defaults["task_default_exchange_type"] == "topic"


def test_what_rabbitmq_is_told_as_a_shell_writes_it(render: Render, tmp_path: Path) -> None:
    def told(**broker: Any) -> Any:
        found = render("celery", {"broker": {"type": "rabbitmq", **broker}})["StatefulSet", f"{NAME}-broker"]
        script = container(found)["command"][2].replace("/tmp/", f"{tmp_path}/").replace("exec rabbitmq-server", "")
        run(["sh", "-c", script], check=True, env={"PATH": os.environ["PATH"], "RABBITMQ_PASSWORD": "abc"})
        return json.loads((tmp_path / "definitions.json").read_text())

    said = told()
    assert said["users"] == [{"name": "trireme", "password": "abc", "tags": []}]
    *policies, again, kept = said["policies"]
    # Whoever consumes it loses no worker after another to one task.
    assert again["pattern"] == "^trireme[.]dead$"
    assert again["definition"] == {
        "delivery-limit": 5,
        "dead-letter-exchange": "",
        "dead-letter-routing-key": "trireme.poison",
    }
    assert (kept["pattern"], kept["definition"]) == ("^trireme[.]poison$", {"delivery-limit": -1})
    patterns = {policy["pattern"] for policy in policies}
    (pattern,) = patterns
    for queue, dies in (
        ("celery", True),
        ("trireme.dead", False),
        ("trireme.poison", False),
        ("celery_delayed_27", False),
        ("trireme.deadly", True),
    ):
        assert bool(re.search(pattern, queue)) is dies
    assert [policy["definition"].get("delivery-limit") for policy in policies] == [None, 5]
    assert [queue["name"] for queue in said["queues"]] == ["trireme.dead", "trireme.poison"]
    assert all(queue["arguments"] == {"x-queue-type": "quorum"} for queue in said["queues"])
    assert told(queueType="classic")["queues"][0]["arguments"] == {"x-max-priority": 9}


def test_classic_queues_know_ten_priorities(render: Render) -> None:
    values = {"broker": {"type": "rabbitmq", "queueType": "classic"}}
    defaults = json.loads(render("celery", values)["ConfigMap", f"{NAME}-conf"]["data"]["defaults.json"])
    assert defaults["task_queue_max_priority"] == 9
    assert "task_default_queue_type" not in defaults
    with pytest.raises(HelmRenderError, match=r"config\.task_queue_max_priority: .*set broker\.queueType to classic"):
        render("celery", {"broker": {"type": "rabbitmq"}, "config": {"task_queue_max_priority": 10}})


def test_tls_to_an_external_broker(render: Render) -> None:
    values = {"broker": {"existingSecret": "rabbit", "tls": {"secretName": "ca"}}, "monitor": {"enabled": True}}
    objects = render("celery", {**values, "beat": {"enabled": True}, "flower": {"enabled": True}})
    for name in ("worker", "monitor", "beat", "flower"):
        workload = objects["StatefulSet" if name == "beat" else "Deployment", f"{NAME}-{name}"]
        assert {"name": "broker-tls", "secret": {"secretName": "ca"}} in workload["spec"]["template"]["spec"]["volumes"]
        (mount,) = [one for one in container(workload)["volumeMounts"] if one["name"] == "broker-tls"]
        assert mount["mountPath"] == "/opt/trireme/tls"
    with pytest.raises(HelmRenderError, match=r"broker\.tls\.secretName: the chart's own broker has no TLS"):
        render("celery", {"broker": {"tls": {"secretName": "ca"}}})


def test_flower_asks_for_the_password(render: Render) -> None:
    for broker in ({}, {"url": "amqp://a"}):
        objects = render("celery", {"flower": {"enabled": True}, "broker": broker})
        variables = environment(objects["Deployment", f"{NAME}-flower"])
        assert variables["FLOWER_PASSWORD"] == {"secretKeyRef": {"name": f"{NAME}-auth", "key": "password"}}
        assert variables["FLOWER_BASIC_AUTH"] == "trireme:$(FLOWER_PASSWORD)"
        assert ("Secret", f"{NAME}-auth") in objects


@pytest.mark.parametrize(
    ("values", "sent"), [({}, False), ({"monitor": {"enabled": True}}, True), ({"flower": {"enabled": True}}, True)]
)
def test_events_are_sent_where_somebody_wants_them(render: Render, values: Object, sent: bool) -> None:
    defaults = json.loads(render("celery", values)["ConfigMap", f"{NAME}-conf"]["data"]["defaults.json"])
    assert defaults.get("worker_send_task_events", False) is defaults.get("task_send_sent_event", False) is sent


def test_the_charts_modules_are_found_whatever_the_users_path_is(render: Render) -> None:
    values = {"env": [{"name": "PYTHONPATH", "value": "/shop"}], "beat": {"enabled": True}}
    objects = render("celery", values)
    for workload in (objects["Deployment", f"{NAME}-worker"], objects["StatefulSet", f"{NAME}-beat"]):
        assert environment(workload)["PYTHONPATH"] == "/shop:/opt/trireme/scripts"
        assert environment(workload)["CELERY_LOADER"] == "trireme_app:Loader"


def test_two_brokers_are_one_too_many(render: Render) -> None:
    with pytest.raises(HelmRenderError, match=r"broker\.url and broker\.existingSecret"):
        render("celery", {"broker": {"url": "amqp://a", "existingSecret": "b"}})


def test_celery_command(render: Render) -> None:
    values = {"app": "shop.tasks:app", "queues": ["fast", "slow"]}
    command = container(render("celery", values)["Deployment", f"{NAME}-worker"])["command"]
    assert command[2] == "shop.tasks:app"
    assert {"--without-gossip", "--without-mingle", "--queues=fast,slow"} <= set(command)
    plain = container(render("celery")["Deployment", f"{NAME}-worker"])["command"]
    assert not any(word.startswith("--queues") for word in plain)


@pytest.mark.parametrize(
    ("engine", "component", "volume"), [("spark", "master", "recovery"), ("celery", "broker", "data")]
)
def test_persistence(render: Render, engine: str, component: str, volume: str) -> None:
    def spec(**persistence: Any) -> Object:
        objects = render(engine, {component: {"persistence": persistence}})
        found: Object = objects["StatefulSet", f"{NAME}-{component}"]["spec"]
        return found

    kept = spec(enabled=True, storageClass="fast", size="3Gi")
    (claim,) = kept["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == volume
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"] == {"requests": {"storage": "3Gi"}}
    assert kept["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
    fleeting = spec(enabled=False)
    assert "volumeClaimTemplates" not in fleeting
    assert {"name": volume, "emptyDir": {}} in fleeting["template"]["spec"]["volumes"]
