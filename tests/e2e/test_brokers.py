"""Celery clusters whose broker is elsewhere: sized by what waits there, and held while that can't be told."""

import json

import pytest
from brokers import ELSEWHERE, authority

from on_cluster import condition, until

WORKER = {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "20m"}}
TASKS = """
import time
from celery import Celery
app = Celery("tasks")

@app.task(bind=True)
def slow(self, seconds):
    time.sleep(seconds)  # this is the work, as long as it is to be: nothing is waited for
    return self.request.delivery_info.get("redelivered")
"""
# A task that waits for its time is with a worker, which has to stay for it.
WORK = """
from celery import group
from tasks import slow

print("given back:", slow.apply_async([1], countdown=20).get(timeout=240), flush=True)
print(len(group(slow.s(3) for _ in range(12)).apply_async().get(timeout=240)), "done")
"""


def cluster(broker, **more):
    """Return a cluster that starts with nothing."""
    spec = {
        "engine": "celery",
        "resources": WORKER,
        "replicas": 0,
        "drainSeconds": 30,
        "autoscaling": {
            "minReplicas": 0,
            "maxReplicas": 4,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}},
        },
        "code": {"configMap": "tasks"},
        "celery": {"app": "tasks"},
        "values": {"broker": {"existingSecret": broker, **more}},
    }
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerCluster", "metadata": {"name": "it"}, "spec": spec}


def job(script):
    spec = {"clusterRef": {"name": "it"}, "driver": {"resources": WORKER, "script": script}}
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerJob", "metadata": {"name": "work"}, "spec": spec}


def active(kubectl):
    return condition(kubectl.get("wc/it"), "AutoscalingActive")


@pytest.fixture
def beside(kubectl):
    """Start a broker, and a cluster that uses it."""

    def start(broker, certificates=None):
        kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
        kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
        more = {"tls": {"secretName": broker}} if certificates else {}
        kubectl.apply(*ELSEWHERE[broker](kubectl.namespace, certificates), cluster(broker, **more))
        kubectl.wait("wc/it", "condition=AutoscalingActive", seconds=180)

    return start


@pytest.mark.parametrize("broker", ELSEWHERE)
def test_a_cluster_is_sized_by_a_broker_elsewhere_that_speaks_tls_alone(kubectl, beside, tmp_path, broker):
    beside(broker, authority(tmp_path, f"{broker}.{kubectl.namespace}.svc"))
    assert kubectl.get("wc/it")["spec"]["replicas"] == 0
    kubectl.apply(job(WORK))
    until(lambda: "given back" in kubectl("logs", "job/work-driver", check=False), seconds=240)
    until(lambda: kubectl.get("wc/it")["spec"]["replicas"] > 1, seconds=120)
    kubectl.wait("wj/work", "condition=Complete", seconds=300)
    assert kubectl.get("wj/work")["status"]["output"] in (
        "given back: False\n12 done",
        # What kombu's Redis has never given back is not marked at all.
        "given back: None\n12 done",
    )
    until(lambda: kubectl.get("wc/it")["status"].get("replicas") == 0, seconds=120)
    told = kubectl("describe", "wc/it").partition("Events:")[2]
    assert "from 0 to" in told
    assert "to 0 workers" in told
    # The operator reads no Secret, and nothing that it tells has the password.
    assert not [
        line for line in kubectl("get", "all,wc,wj", "--output=json").splitlines() if "lettersAndDigits" in line
    ]


@pytest.mark.parametrize("broker", ELSEWHERE)
def test_a_broker_elsewhere_that_cant_be_reached_holds_the_size(kubectl, beside, broker):
    beside(broker)
    idle = {"spec": {"autoscaling": {"minReplicas": 1}}}
    kubectl("patch", "wc/it", "--type=merge", f"--patch={json.dumps(idle)}")
    kubectl.wait("wc/it", "jsonpath={.status.readyReplicas}=1", seconds=120)
    kubectl("scale", f"deployment/{broker}", "--replicas=0")

    def lost():
        found = active(kubectl)
        named = f"@{broker}." in found["message"] or f"//{broker}." in found["message"]
        return found["status"] == "False" and named and found

    found = until(lost, seconds=120)
    assert found["reason"] == "NoAnswer"
    assert "lettersAndDigits" not in found["message"]
    assert found["message"].endswith("the size is held")
    assert kubectl.get("wc/it")["spec"]["replicas"] == 1
    kubectl("scale", f"deployment/{broker}", "--replicas=1")
    until(lambda: active(kubectl)["status"] == "True", seconds=180)
