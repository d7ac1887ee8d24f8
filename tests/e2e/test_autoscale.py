"""Clusters sized by the work that waits: from nothing, up, and back, without a loss."""

import json
import re

import pytest

from on_cluster import Kubectl, condition, until

SYSTEM = Kubectl("trireme-system")

WORKER = {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "20m"}}
LARGE = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "20m"}}
CONTROL = {
    "dask": {"scheduler": {"resources": WORKER}},
    "spark": {"master": {"resources": LARGE}},
    "celery": {"app": "tasks", "broker": {"resources": {"limits": {"cpu": "500m", "memory": "128Mi"}}}},
}
QUICKLY = {"scaleDown": {"stabilizationWindowSeconds": 5}}
# Each task says that it ran, in a place that outlives its worker.
TASKS = """
import time
from celery import Celery
app = Celery("tasks")

@app.task
def slow(number, seconds):
    app.backend.client.incr(f"ran-{number}")
    time.sleep(seconds)  # this is the work, as long as it is to be: nothing is waited for
    return number
"""
# A task that lasts until its driver lets it go, and tells it where it begins, each time that it does.
HELD = """
import socket

def held(where):
    with socket.create_connection(where) as line:
        line.sendall(socket.gethostname().encode())
        line.recv(1)
    return 0
"""
TASKS += f"{HELD}\nheld = app.task(held)\n"
# The driver's end: `calls` has a line to each that has begun.
DOOR = """
import os, socket, threading, time

door = socket.create_server(("", 0))
where = socket.gethostbyname(socket.gethostname()), door.getsockname()[1]
calls = []

def answer():
    while True:
        line = door.accept()[0]
        print("held by", line.recv(100).decode(), flush=True)
        calls.append(line)

threading.Thread(target=answer, daemon=True).start()

def let_go_when(is_time):
    def wait():
        while not is_time():
            time.sleep(0.1)  # between two looks: nothing tells
        for line in calls:
            line.close()
    threading.Thread(target=wait, daemon=True).start()
"""
# Some tasks, and one that is begun twice, since its first worker has not enough time to leave.
WORK = {
    "dask": DOOR
    + HELD
    + """
from distributed import Client

def slow(number):
    time.sleep(3)  # this is the work: nothing is waited for
    return number

let_go_when(lambda: len(calls) == 2)
with Client() as client:
    some, last = client.map(slow, range(12)), client.submit(held, where)
    print(sum(client.gather(some)) + last.result())
print(len(calls), "times")
""",
    "spark": DOOR
    + HELD
    + """
from pyspark.sql import SparkSession

def slow(number):
    if number == 12:
        return held(where)
    time.sleep(3)  # this is the work: nothing is waited for
    return number

let_go_when(lambda: len(calls) == 2)
spark = SparkSession.builder.getOrCreate()
print(spark.sparkContext.parallelize(range(13), 13).map(slow).sum())
print(len(calls), "times")
spark.stop()
""",
    "celery": DOOR
    + """
from celery import group
from tasks import app, held, slow

let_go_when(lambda: len(calls) == 2)
some, last = group(slow.s(number, 3) for number in range(12)).apply_async(), held.delay(where)
print(sum(some.get(timeout=240)) + last.get(timeout=240))
print(len(calls), "times")
print(sum(int(app.backend.client.get(f"ran-{number}")) for number in range(12)), "runs")
""",
}
PRINTED = {"dask": "66\n2 times", "spark": "66\n2 times", "celery": "66\n2 times\n12 runs"}

BACK = "1 running task went back to the queue"
LEFT = {"dask": BACK, "spark": "1 executor was stopped with what it ran and held", "celery": BACK}


def cluster(engine, **autoscaling):
    """Return a cluster that starts with nothing. A Spark application that borrows it gets half of the largest size."""
    spec = {
        "engine": engine,
        "resources": LARGE if engine == "spark" else WORKER,
        "replicas": 0,
        "drainSeconds": 30,
        "autoscaling": {"minReplicas": 0, "maxReplicas": 4, "behavior": QUICKLY, **autoscaling},
        engine: CONTROL[engine],
    }
    if engine == "celery":
        spec["code"] = {"configMap": "tasks"}
    if engine == "spark":
        spec["spark"]["config"] = {"spark.dynamicAllocation.executorIdleTimeout": "5s"}
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerCluster", "metadata": {"name": "it"}, "spec": spec}


def job(script):
    driver = {"resources": LARGE, "script": script}
    spec = {"clusterRef": {"name": "it"}, "driver": driver}
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerJob", "metadata": {"name": "work"}, "spec": spec}


def workers(kubectl):
    """Return the names of the worker pods, and of those among them that are leaving."""
    pods = kubectl.get("pods", "--selector=app.kubernetes.io/component=worker")["items"]
    names = {pod["metadata"]["name"]: "deletionTimestamp" in pod["metadata"] for pod in pods}
    return {*names}, {name for name, leaves in names.items() if leaves}


def holders(kubectl):
    """Return the workers that the held tasks have begun on, one for each time."""
    return re.findall(r"^held by (\S+)$", kubectl("logs", "job/work-driver", check=False), flags=re.MULTILINE)


@pytest.mark.parametrize("engine", WORK)
def test_work_starts_workers_and_its_end_lets_them_go(kubectl, engine):
    """On the way back the idle ones go first, and what the last one can't hand over in time is told and done again."""
    kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
    own = cluster(engine)
    # Spark's workers ask their drivers first, for up to 9 s.
    drain = own["spec"]["drainSeconds"] = 20 if engine == "spark" else 10
    kubectl.apply(own)
    kubectl.wait("wc/it", "condition=Ready", seconds=180)
    kubectl.wait("wc/it", "condition=AutoscalingActive")
    assert kubectl.get("wc/it")["spec"]["replicas"] == 0
    kubectl.apply(job(WORK[engine]))
    until(lambda: kubectl.get("wc/it")["spec"]["replicas"] > 1, seconds=120)
    until(lambda: kubectl.get("wc/it")["status"].get("readyReplicas"), seconds=120)
    until(lambda: holders(kubectl), seconds=120)
    until(lambda: len(workers(kubectl)[0]) == 1, seconds=120)
    [busy] = holders(kubectl)
    assert workers(kubectl) == ({busy}, set())
    kubectl("delete", f"pod/{busy}", "--wait=false")
    kubectl.wait("wj/work", "condition=Complete", seconds=300)
    # Dask's client may tell on stderr, after the answer, of a request that was under way as it closed.
    assert PRINTED[engine] in kubectl.get("wj/work")["status"]["output"]
    until(lambda: kubectl.get("wc/it")["status"].get("replicas") == 0, seconds=120)
    found = kubectl.get("wc/it")
    assert found["status"]["autoscaling"]["desiredReplicas"] == 0
    assert condition(found, "Ready")["status"] == "True"
    # An event follows what it tells of.
    left = f"{busy} could not hand over all within {drain} s: {LEFT[engine]}"
    for words in ("from 0 to", "to 0 workers", left):
        until(lambda words=words: words in kubectl("describe", "wc/it").partition("Events:")[2])


TWO = (
    DOOR
    + """
from celery import group
from tasks import held

let_go_when(lambda: os.path.exists("/tmp/go"))
print(sum(group(held.s(where) for _ in range(2)).apply_async().get(timeout=240)), len(calls), "times")
"""
)


@pytest.mark.alone
def test_an_operator_that_is_started_anew_while_a_worker_leaves(kubectl):
    kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
    own = cluster("celery", minReplicas=1, maxReplicas=2)
    own["spec"] |= {"replicas": 1, "drainSeconds": 120}
    kubectl.apply(own, job(TWO))
    until(lambda: len(holders(kubectl)) == 2, seconds=180)
    smaller = {"spec": {"autoscaling": {"maxReplicas": 1}}}
    kubectl("patch", "wc/it", "--type=merge", f"--patch={json.dumps(smaller)}")
    until(lambda: workers(kubectl)[1], seconds=60)
    before = kubectl.get("wc/it")
    everyone, leaving = workers(kubectl)
    SYSTEM("delete", "pods", "--selector=app.kubernetes.io/component=operator", "--timeout=60s")
    SYSTEM("rollout", "status", "deployment/trireme-operator", "--timeout=90s")
    assert workers(kubectl) == (everyone, leaving)
    kubectl("exec", "job/work-driver", "--", "touch", "/tmp/go")
    kubectl.wait("wj/work", "condition=Complete", seconds=120)
    assert kubectl.get("wj/work")["status"]["output"].endswith("0 2 times")
    until(lambda: kubectl.get("wc/it")["status"]["autoscaling"]["demand"] == "0 tasks waiting, 0 running")
    until(lambda: workers(kubectl) == (everyone - leaving, set()), seconds=60)
    kubectl.wait("wc/it", "condition=AutoscalingActive")
    found = kubectl.get("wc/it")
    assert found["metadata"]["generation"] == before["metadata"]["generation"]
    assert found["status"]["autoscaling"]["desiredReplicas"] == found["spec"]["replicas"] == 1
    assert condition(found, "AutoscalingActive")["status"] == "True"
    told = [(one["reason"], one["message"]) for one in kubectl.get("events")["items"]]
    scaled = sorted(message.partition(":")[0] for reason, message in told if reason == "Scaled")
    assert scaled == ["from 1 to 2 workers", "from 2 to 1 workers"]
    assert "WorkLeftBehind" not in dict(told)
    # Then nothing is left to do, for as long as it may be so.
    idle = {"spec": {"autoscaling": {"idleTimeoutSeconds": 1}}}
    kubectl("patch", "wc/it", "--type=merge", f"--patch={json.dumps(idle)}")
    until(lambda: kubectl.get("wc/it")["status"].get("replicas") == 0)
    assert "0 as idle for 1 s" in kubectl("describe", "wc/it")


REMOTE = """
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
print(spark.range(5).groupBy().sum("id").first()[0])
spark.stop()
"""


def test_a_client_of_spark_connect_wakes_workers_and_its_end_lets_them_go(kubectl):
    """The server is an application all the time, and wants nothing until a client does."""
    own = cluster("spark")
    connect = {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "20m"}}}
    own["spec"]["spark"] |= {"mode": "connect", "connect": connect}
    kubectl.apply(own)
    kubectl.wait("wc/it", "condition=Ready", seconds=180)
    remote = job(REMOTE)
    remote["spec"]["driver"]["resources"] = WORKER
    kubectl.apply(remote)
    kubectl.wait("wj/work", "condition=Complete", seconds=240)
    found = kubectl.get("wj/work")
    assert found["status"]["output"] == "10"
    until(lambda: kubectl.get("wc/it")["status"].get("replicas") == 0, seconds=120)
    scaled = [one for one in kubectl.get("events")["items"] if one["reason"] == "Scaled"]
    ups = [one["firstTimestamp"] for one in scaled if one["message"].startswith("from 0 to ")]
    assert len(ups) == 1
    assert ups[0] >= found["metadata"]["creationTimestamp"]
    assert any("to 0 workers" in one["message"] for one in scaled)


def test_an_engine_that_does_not_answer_holds_the_size(kubectl):
    kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
    kubectl.apply(cluster("celery", minReplicas=0) | {})
    kubectl.wait("wc/it", "condition=AutoscalingActive", seconds=120)
    kubectl("scale", "wc/it", "--replicas=1")
    # What answers is nobody, for as long as there may be no other pod.
    kubectl("create", "quota", "none", "--hard=pods=0")
    kubectl.wait("quota/none", "jsonpath={.status.hard.pods}=0")
    kubectl("delete", "pod/it-broker-0", "--grace-period=0", "--force")

    def inactive():
        found = condition(kubectl.get("wc/it"), "AutoscalingActive")
        return found if found.get("status") == "False" else None

    assert "held" in until(inactive)["message"]
    kubectl("delete", "quota/none")
    kubectl.wait("wc/it", "condition=AutoscalingActive", seconds=120)


def test_the_smallest_above_the_largest_is_refused(kubectl):
    bad = cluster("dask", minReplicas=5)
    with pytest.raises(AssertionError, match="minReplicas can't be above maxReplicas"):
        kubectl.apply(bad)


STRANDED = (
    DOOR
    + """
from tasks import held

let_go_when(lambda: len(calls) == 2)
print(held.delay(where).get(timeout=240), len(calls), "runs")
"""
)


def test_a_task_whose_worker_was_killed_comes_back(kubectl):
    kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
    kubectl.apply(cluster("celery"))
    kubectl.wait("wc/it", "condition=Ready", seconds=180)
    kubectl.apply(job(STRANDED))
    until(lambda: holders(kubectl), seconds=120)
    # Two seconds are not enough to end the task or to give it back.
    workers = "--selector=app.kubernetes.io/component=worker"
    kubectl("delete", "pods", workers, "--grace-period=0", "--force")
    kubectl.wait("wj/work", "condition=Complete", seconds=240)
    assert kubectl.get("wj/work")["status"]["output"].splitlines()[-1] == "0 2 runs"


HPA = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "it"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerCluster", "name": "it"},
        "minReplicas": 1,
        "maxReplicas": 2,
        # An idle worker takes more than 1 % of so little.
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1}},
            }
        ],
    },
}


def test_an_hpa_may_drive_the_size_but_not_beside_the_autoscaler(kubectl):
    own = cluster("dask")
    # An HPA leaves alone what is at 0.
    autoscaling = own["spec"].pop("autoscaling") | {"minReplicas": 1}
    own["spec"]["replicas"] = 1
    kubectl.apply(own, HPA)
    kubectl.wait("wc/it", "condition=Ready", seconds=180)
    until(lambda: kubectl.get("wc/it")["spec"]["replicas"] == 2, seconds=180)
    kubectl.wait("hpa/it", "condition=ScalingActive")
    assert not condition(kubectl.get("wc/it"), "ScalingContended")
    kubectl("patch", "wc/it", "--type=merge", f"--patch={json.dumps({'spec': {'autoscaling': autoscaling}})}")
    kubectl.wait("wc/it", "condition=ScalingContended", seconds=240)
    message = condition(kubectl.get("wc/it"), "ScalingContended")["message"]
    assert "trireme-autoscaler" in message
    assert "kube-controller-manager" in message
    until(lambda: "TwoWriters" in kubectl("describe", "wc/it").partition("Events:")[2])
