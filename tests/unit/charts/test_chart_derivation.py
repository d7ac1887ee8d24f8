"""What a process gets of its pod's limits."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from charting import NAME, Object, Render, container, environment, limits
from helm_python import HelmRenderError

MI = 1024**2
GI = 1024**3

CPUS = [
    ("1", 1),
    (1, 1),
    ("100m", 1),
    (0.5, 1),
    ("0.5", 1),
    ("999m", 1),
    ("1000m", 1),
    ("1999m", 1),
    ("2000m", 2),
    ("1.5", 1),
    ("2.", 2),
    ("+3", 3),
    ("2e0", 2),
    ("0.4e1", 4),
    ("30E-1", 3),
    ("3000000u", 3),
    ("5000000000n", 5),
    (".25k", 250),
    ("64", 64),
]

MEMORIES = [
    ("1Gi", GI),
    ("1.5Gi", 3 * GI // 2),
    ("0.5Ti", 512 * GI),
    ("1Ti", 1024 * GI),
    ("2048Mi", 2 * GI),
    ("1048576Ki", GI),
    ("1.0005Gi", 1074278694),
    ("2G", 2 * 10**9),
    ("1500M", 1500 * 10**6),
    ("2000000k", 2 * 10**9),
    ("0.002T", 2 * 10**9),
    ("2e9", 2 * 10**9),
    ("2E9", 2 * 10**9),
    ("2e+9", 2 * 10**9),
    ("20e8", 2 * 10**9),
    (str(2 * GI), 2 * GI),
    (2 * GI, 2 * GI),
    (2e9, 2 * 10**9),
    (f"{GI}000m", GI),
]

Worker = Callable[..., Object]


def capacity(workload: Object) -> Object:
    offered: Object = json.loads(workload["metadata"]["annotations"]["trireme.dev/capacity"])
    return offered


def flag(workload: Object, name: str) -> str:
    (found,) = [word for word in container(workload)["command"] if word.startswith(f"--{name}=")]
    return str(found).partition("=")[2]


@pytest.mark.parametrize(("cpu", "threads"), CPUS)
def test_dask_threads(worker: Worker, cpu: Any, threads: int) -> None:
    deployment = worker("dask", limits(cpu=cpu))
    assert flag(deployment, "nthreads") == str(threads)
    assert capacity(deployment)["threads"] == threads


@pytest.mark.parametrize("cpus", range(1, 129))
def test_thousandths_lose_no_cpu(worker: Worker, cpus: int) -> None:
    assert flag(worker("dask", limits(cpu=f"{cpus}000m")), "nthreads") == str(cpus)


@pytest.mark.parametrize(("memory", "size"), MEMORIES)
def test_dask_memory(worker: Worker, memory: Any, size: int) -> None:
    deployment = worker("dask", limits(memory=memory))
    assert flag(deployment, "memory-limit") == str(size * 9 // 10)
    assert capacity(deployment)["memory"] == str(size * 9 // 10)


@pytest.mark.parametrize(("cpu", "cores"), CPUS)
def test_spark_cores(worker: Worker, render: Render, cpu: Any, cores: int) -> None:
    deployment = worker("spark", limits(cpu=cpu))
    assert environment(deployment)["SPARK_WORKER_CORES"] == str(cores)
    assert capacity(deployment)["cores"] == cores
    assert f"spark.executor.cores {cores}\n" in spark_defaults(render, limits(cpu=cpu))


@pytest.mark.parametrize(
    ("memory", "mebibytes"),
    [("1Gi", 512), ("1100Mi", 562), ("2Gi", 1194), ("4Gi", 2560), ("2G", 1100), ("1e12", 635612)],
)
def test_spark_memory(worker: Worker, render: Render, memory: Any, mebibytes: int) -> None:
    deployment = worker("spark", limits(memory=memory))
    assert environment(deployment)["SPARK_WORKER_MEMORY"] == f"{mebibytes}m"
    assert capacity(deployment)["memory"] == str(mebibytes * MI)
    # One executor fills a worker: a larger one would never start.
    assert f"spark.executor.memory {mebibytes}m\n" in spark_defaults(render, limits(memory=memory))


def spark_defaults(render: Render, values: Object) -> str:
    return str(render("spark", values)["ConfigMap", f"{NAME}-conf"]["data"]["spark-defaults.conf"])


def celery_config(render: Render, values: Object) -> Object:
    config: Object = json.loads(render("celery", values)["ConfigMap", f"{NAME}-conf"]["data"]["config.json"])
    return config


@pytest.mark.parametrize(("cpu", "processes"), CPUS)
def test_celery_concurrency(worker: Worker, render: Render, cpu: Any, processes: int) -> None:
    values = limits(cpu=cpu, memory="64Gi")
    assert celery_config(render, values)["worker_concurrency"] == processes
    assert capacity(worker("celery", values))["processes"] == processes


@pytest.mark.parametrize(
    ("cpu", "memory", "kilobytes"),
    [
        ("1", "192Mi", 96 * 1024),
        ("1", "512Mi", 416 * 1024),
        ("2", "512Mi", 208 * 1024),
        ("4", "1Gi", 232 * 1024),
        ("1", "1G", 878258),
    ],
)
def test_celery_memory(worker: Worker, render: Render, cpu: Any, memory: Any, kilobytes: int) -> None:
    values = limits(cpu, memory)
    assert celery_config(render, values)["worker_max_memory_per_child"] == kilobytes
    assert int(capacity(worker("celery", values))["memory"]) // 1024 == kilobytes


@pytest.mark.parametrize(("cpu", "threads"), [("500m", 5), ("1", 5), ("4", 8)])
def test_celery_threads(worker: Worker, render: Render, cpu: str, threads: int) -> None:
    values = {**limits(cpu, "512Mi"), "pool": "threads"}
    config = celery_config(render, values)
    assert config["worker_concurrency"] == threads
    # What a thread has can't be given back by replacing it.
    assert "worker_max_memory_per_child" not in config
    assert capacity(worker("celery", values)) == {"threads": threads, "memory": str(416 * MI)}
    assert "--pool=threads" in container(worker("celery", values))["command"]


def test_celery_concurrency_may_be_set(worker: Worker, render: Render) -> None:
    values = {**limits("1", "1Gi"), "config": {"worker_concurrency": 8}}
    config = celery_config(render, values)
    assert config["worker_concurrency"] == 8
    assert config["worker_max_memory_per_child"] == 116 * 1024
    assert capacity(worker("celery", values))["processes"] == 8


@pytest.mark.parametrize(
    ("engine", "values", "message"),
    [
        ("dask", limits(memory="255Mi"), r"resources\.limits\.memory: 255Mi is too small .* at least 256Mi"),
        ("spark", limits(memory="1G"), r"resources\.limits\.memory: 1G is too small .* at least 1024Mi"),
        ("spark", {"master": limits(memory="256Mi")}, r"master\.resources\.limits\.memory: 256Mi .* 384Mi"),
        ("celery", limits(memory="191Mi"), r"resources\.limits\.memory: 191Mi .* 1 task .* at least 192Mi"),
        ("celery", limits("4", "256Mi"), r"resources\.limits\.memory: 256Mi .* 4 task .* at least 480Mi"),
        ("celery", {**limits(memory="127Mi"), "pool": "threads"}, r"resources\.limits\.memory: 127Mi .* 128Mi"),
        ("celery", {"broker": limits(memory="32Mi")}, r"broker\.resources\.limits\.memory: 32Mi .* 64Mi"),
        (
            "celery",
            {"broker": {"type": "rabbitmq", **limits(memory="255Mi")}},
            r"broker\.resources\.limits\.memory: 255Mi .* 256Mi",
        ),
        ("celery", {"beat": {"enabled": True, **limits(memory="64Mi")}}, r"beat\.resources\.limits\.memory: 64Mi"),
        ("celery", {"flower": {"enabled": True, **limits(memory="64Mi")}}, r"flower\.resources\.limits\.memory: 64Mi"),
        (
            "dask",
            {"scheduler": limits(memory="100Mi")},
            r"scheduler\.resources\.limits\.memory: 100Mi .* 192Mi",
        ),
    ],
)
def test_too_little(render: Render, engine: str, values: Object, message: str) -> None:
    with pytest.raises(HelmRenderError, match=message):
        render(engine, values)


@pytest.mark.parametrize("engine", ["dask", "spark", "celery"])
def test_the_least_is_enough(worker: Worker, engine: str) -> None:
    least = {"dask": "256Mi", "spark": "1024Mi", "celery": "192Mi"}
    assert capacity(worker(engine, limits("100m", least[engine])))


def test_broker_leaves_room_for_rewriting(render: Render) -> None:
    broker = render("celery", {"broker": limits(memory="100Mi")})["StatefulSet", f"{NAME}-broker"]
    assert f"--maxmemory {70 * MI} --maxmemory-policy noeviction" in container(broker)["command"][2]
