"""Clusters sized by the work that waits: from nothing, up, and back, without a loss."""

import json

import pytest

from on_cluster import until

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
WORK = {
    "dask": """
import time
from distributed import Client

def slow(number):
    time.sleep(3)  # this is the work: nothing is waited for
    return number

with Client() as client:
    print(sum(client.gather(client.map(slow, range(12)))))
""",
    "spark": """
import time
from pyspark.sql import SparkSession

def slow(number):
    time.sleep(3)  # this is the work: nothing is waited for
    return number

spark = SparkSession.builder.getOrCreate()
print(spark.sparkContext.parallelize(range(12), 12).map(slow).sum())
spark.stop()
""",
    "celery": """
from celery import group
from tasks import app, slow

print(sum(group(slow.s(number, 3) for number in range(12)).apply_async().get(timeout=240)))
print(sum(int(app.backend.client.get(f"ran-{number}")) for number in range(12)), "runs")
""",
}
PRINTED = {"dask": "66", "spark": "66", "celery": "66\n12 runs"}


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


def condition(item, type_="AutoscalingActive"):
    found = [one for one in item.get("status", {}).get("conditions", []) if one["type"] == type_]
    return found[0] if found else {}


@pytest.mark.parametrize("engine", WORK)
def test_work_starts_workers_and_its_end_lets_them_go(kubectl, engine):
    kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
    kubectl.apply(cluster(engine))
    kubectl.wait("wc/it", "condition=Ready", seconds=180)
    kubectl.wait("wc/it", "condition=AutoscalingActive")
    assert kubectl.get("wc/it")["spec"]["replicas"] == 0
    kubectl.apply(job(WORK[engine]))
    until(lambda: kubectl.get("wc/it")["spec"]["replicas"] > 1, seconds=120)
    kubectl.wait("wj/work", "condition=Complete", seconds=300)
    # Dask's client may tell on stderr, after the answer, of a request that was under way as it closed.
    assert PRINTED[engine] in kubectl.get("wj/work")["status"]["output"]
    until(lambda: kubectl.get("wc/it")["status"].get("replicas") == 0, seconds=120)
    found = kubectl.get("wc/it")
    assert found["status"]["autoscaling"]["desiredReplicas"] == 0
    assert condition(found, "Ready")["status"] == "True"
    told = kubectl("describe", "wc/it").partition("Events:")[2]
    assert "from 0 to" in told
    assert "to 0 workers" in told


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
    ups = [one["firstTimestamp"] for one in scaled if "from 0 to 1" in one["message"]]
    assert len(ups) == 1
    assert ups[0] >= found["metadata"]["creationTimestamp"]
    assert any("to 0 workers" in one["message"] for one in scaled)


def test_an_engine_that_does_not_answer_holds_the_size(kubectl):
    kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
    kubectl.apply(cluster("celery", minReplicas=0) | {})
    kubectl.wait("wc/it", "condition=AutoscalingActive", seconds=120)
    kubectl("scale", "wc/it", "--replicas=1")
    # The Service leads nowhere, until the operator mends it: what answers is nobody.
    kubectl("delete", "pod/it-broker-0", "--grace-period=0", "--force")
    until(lambda: condition(kubectl.get("wc/it")).get("status") == "False")
    assert "held" in condition(kubectl.get("wc/it"))["message"]
    kubectl.wait("wc/it", "condition=AutoscalingActive", seconds=120)


def test_the_smallest_above_the_largest_is_refused(kubectl):
    bad = cluster("dask", minReplicas=5)
    with pytest.raises(AssertionError, match="minReplicas can't be above maxReplicas"):
        kubectl.apply(bad)


STRANDED = """
from tasks import app, slow

result = slow.delay(7, 15)
print(result.get(timeout=240), int(app.backend.client.get("ran-7")), "runs")
"""


def test_a_task_whose_worker_was_killed_comes_back(kubectl):
    kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
    kubectl.apply(cluster("celery"), job(STRANDED))
    begun = ("get", "wc/it", "--output=jsonpath={.status.autoscaling.demand}")
    until(lambda: "1 running" in kubectl(*begun), seconds=120)
    # Two seconds are not enough to end the task or to give it back.
    workers = "--selector=app.kubernetes.io/component=worker"
    kubectl("delete", "pods", workers, "--grace-period=0", "--force")
    kubectl.wait("wj/work", "condition=Complete", seconds=240)
    assert kubectl.get("wj/work")["status"]["output"] == "7 2 runs"


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
    until(lambda: kubectl.get("wc/it")["spec"]["replicas"] == 2, seconds=180)
    kubectl.wait("hpa/it", "condition=ScalingActive")
    assert not condition(kubectl.get("wc/it"), "ScalingContended")
    kubectl("patch", "wc/it", "--type=merge", f"--patch={json.dumps({'spec': {'autoscaling': autoscaling}})}")
    kubectl.wait("wc/it", "condition=ScalingContended", seconds=240)
    message = condition(kubectl.get("wc/it"), "ScalingContended")["message"]
    assert "trireme-autoscaler" in message
    assert "kube-controller-manager" in message
    assert "TwoWriters" in kubectl("describe", "wc/it").partition("Events:")[2]
