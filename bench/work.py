"""The work that autoscaling is measured with: clusters, and the programs of their drivers."""

import contextlib
import json
import statistics
import sys
from collections.abc import Iterator
from typing import Any

from measuring import TOP
from reconcile import Cluster, Object, is_true, kubectl, until

# Only here: what else is named there is the tests' own affair.
sys.path.append(str(TOP / "tests"))
import loads
from on_cluster import Kubectl

ENGINES = ("dask", "spark", "celery")
NAME = "load"
WORKERS = {"app.kubernetes.io/instance": NAME, "app.kubernetes.io/component": "worker"}
TASKS = """
import time
from celery import Celery
app = Celery("tasks")

@app.task
def work(seconds):
    begun = time.time()
    time.sleep(seconds)  # this is the work: nothing is waited for
    return begun
"""
# Each offers: run(seconds, count), which returns when each task began; hold(), which keeps one worker busy for good;
# workers(), the number of those that are connected; end(). MOST is the largest number of workers.
PREPARED = {
    "dask": """
import json, random, time
from distributed import Client

client = Client()
held = []

def work(seconds):
    begun = time.time()
    time.sleep(seconds)  # this is the work: nothing is waited for
    return begun

def stay():
    time.sleep(86400)  # this is the work: nothing is waited for

def run(seconds, count):
    return client.gather(client.map(work, [seconds] * count, pure=False))

def hold():
    held.append(client.submit(stay, pure=False))

def workers():
    return len(client.scheduler_info()["workers"])

def end():
    client.close()
""",
    # Without initial executors: they would be asked for before there is work.
    "spark": """
import json, os, random, re, threading, time
from urllib.request import urlopen
from pyspark.sql import SparkSession

config = {"spark.cores.max": str(MOST), "spark.dynamicAllocation.initialExecutors": "0"}
spark = SparkSession.builder.config(map=config).getOrCreate()
context = spark.sparkContext
master = re.sub("spark://(.*):7077", r"http://\\1:8080/json/", os.environ["SPARK_MASTER"])

def work(seconds):
    begun = time.time()
    time.sleep(seconds)  # this is the work: nothing is waited for
    return begun

def run(seconds, count):
    return context.parallelize(range(count), count).map(lambda _: work(seconds)).collect()

def hold():
    threading.Thread(target=run, args=(86400, 1), daemon=True).start()

def workers():
    with urlopen(master, timeout=10) as answer:
        return json.load(answer)["aliveworkers"]

def end():
    spark.stop()
""",
    "celery": """
import json, random, time
from celery import group
from tasks import app, work

def run(seconds, count):
    return group(work.s(seconds) for _ in range(count)).apply_async().get(timeout=900)

def hold():
    work.delay(86400)

def workers():
    return len(app.control.ping(timeout=1))

def end():
    app.close()
""",
}


@contextlib.contextmanager
def namespace() -> Iterator[Cluster]:
    """Lend a namespace, and wait until its pods are gone: they would take part in what is measured next."""
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.end()
        with contextlib.suppress(TimeoutError):
            until(lambda: not cluster.all("Pod"), 180, 1)


def start(cluster: Cluster, engine: str, replicas: int, **spec: Any) -> None:
    """Start a cluster, and wait until all its workers are ready."""
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tasks"}, "data": {"tasks.py": TASKS}}
    item = loads.cluster(engine, replicas)
    block = {**item["spec"][engine], **spec.pop(engine, {})}
    item["spec"] |= {**spec, engine: block}
    cluster.apply(code)
    cluster.apply(item)
    until(lambda: _is_ready(cluster.get("WorkerCluster", NAME), replicas))


def _is_ready(item: Object, replicas: int) -> bool:
    return is_true(item, "Ready") and int(item.get("status", {}).get("readyReplicas", 0)) >= replicas


def under_load(cluster: Cluster, engine: str, workers: int) -> loads.Load:
    """Start a load of the tests: it counts how often each piece of its work is done."""
    return loads.Load.of_resources(Kubectl(cluster.name), engine, workers)


def program(engine: str, most: int, code: str) -> str:
    return f"MOST = {most}\n{PREPARED[engine]}\n{code}"


def drive(cluster: Cluster, script: str, seconds: float) -> list[Object]:
    """Run a driver to its end, and return the JSON that it printed.

    Args:
        cluster: where the cluster is.
        script: the program.
        seconds: that it may take.
    """
    driver = {"resources": loads.LARGE, "script": script}
    spec = {"clusterRef": {"name": NAME}, "driver": driver}
    metadata = {"name": NAME}
    cluster.apply({"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerJob", "metadata": metadata, "spec": spec})

    def ended() -> bool:
        item = cluster.get("WorkerJob", NAME)
        return is_true(item, "Complete") or is_true(item, "Failed")

    until(ended, seconds, 1)
    printed = kubectl("logs", f"job/{NAME}-driver", f"--namespace={cluster.name}")
    if not is_true(cluster.get("WorkerJob", NAME), "Complete"):
        raise RuntimeError(f"the driver failed:\n{printed}")
    return json_lines(printed)


def json_lines(printed: str) -> list[Object]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def percentile_95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
