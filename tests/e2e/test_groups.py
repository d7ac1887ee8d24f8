"""Further groups of workers: sized by their own work, scaled like a cluster, gone with it; nothing is lost."""

import json
import re

import pytest

from on_cluster import TOP, condition, run, until
from trireme_operator.charts import HelmCommand, InProcess
from trireme_operator.plan import cluster as cluster_plan
from trireme_operator.plan.group import complete

SAMPLES = TOP / "manifests" / "samples"
# Each run is noted where it outlives its worker.
SCALED_WHILE_BUSY = """
import time
from distributed import Client, Queue

def slow(number, runs):
    runs.put(number)
    time.sleep(5)  # this is the work, as long as it is to be: nothing is waited for
    return number

with Client() as client:
    runs = Queue("runs")
    futures = client.map(slow, range(10), runs=runs, resources={"MEMORY": 1})
    print(sum(client.gather(futures)), runs.qsize(), "runs")
"""


def replicas(kubectl, name):
    return kubectl.get(name)["status"].get("replicas")


def test_a_queue_has_workers_of_its_own_when_it_has_tasks(kubectl):
    kubectl("apply", "--filename", SAMPLES / "celery" / "queues.yaml")
    kubectl.wait("wj/shop-day", "condition=Complete", seconds=240)
    assert kubectl.get("wj/shop-day")["status"]["output"] == "8 shop-reports"
    until(lambda: replicas(kubectl, "wg/shop-reports") == 0, seconds=90)
    group, cluster = kubectl.get("wg/shop-reports"), kubectl.get("wc/shop")
    assert condition(group, "Ready")["status"] == "True"
    told = kubectl("describe", "wg/shop-reports").partition("Events:")[2]
    assert "from 0 to 1" in told
    assert "from 1 to 0" in told
    # What the others run is none of its work, and what it runs none of theirs.
    assert cluster["spec"]["replicas"] == 1
    workers = kubectl("get", "deployment/shop-worker", "--output=jsonpath={.spec.template.spec.containers[0].command}")
    assert "--exclude-queues=reports" in workers


def test_tasks_with_a_resource_run_on_their_group_which_may_shrink_meanwhile(kubectl):
    kubectl("apply", "--filename", SAMPLES / "dask" / "memory-heavy-group.yaml")
    kubectl.wait("wj/frames-sum", "condition=Complete", seconds=240)
    assert kubectl.get("wj/frames-sum")["status"]["output"] == "100000000.0 frames-big"
    # The sizes are ours from here on.
    kubectl("patch", "wg/frames-big", "--type=json", '--patch=[{"op": "remove", "path": "/spec/autoscaling"}]')
    kubectl("scale", "wg/frames-big", "--replicas=2")
    kubectl.wait("wg/frames-big", "jsonpath={.status.readyReplicas}=2")
    job = kubectl.get("wj/frames-sum")
    job = {name: job[name] for name in ("apiVersion", "kind")} | {
        "metadata": {"name": "busy"},
        "spec": {"clusterRef": {"name": "frames"}, "driver": {**job["spec"]["driver"], "script": SCALED_WHILE_BUSY}},
    }
    kubectl.apply(job)
    kubectl.wait("wj/busy", "condition=DriverRunning", seconds=120)
    scheduler = "deployment/frames-scheduler"
    executing = (
        "from urllib.request import urlopen; import json;"
        "workers = json.load(urlopen('http://localhost:8787/trireme/demand'))['workers'].items();"
        "print(sum(name.startswith('frames-big') and worker['processing'] > 0 for name, worker in workers))"
    )
    until(lambda: kubectl("exec", scheduler, "--", "python", "-c", executing).strip() == "2", seconds=60)
    kubectl("scale", "wg/frames-big", "--replicas=1")
    kubectl.wait("wj/busy", "condition=Complete", seconds=120)
    assert kubectl.get("wj/busy")["status"]["output"] == "45 10 runs"
    until(lambda: replicas(kubectl, "wg/frames-big") == 1)
    with pytest.raises(AssertionError, match="clusterRef can't change: make another group"):
        kubectl("patch", "wg/frames-big", "--type=merge", '--patch={"spec": {"clusterRef": {"name": "other"}}}')
    # Kubernetes itself takes it down with its cluster.
    kubectl("delete", "wc/frames")
    until(lambda: not kubectl("get", "wg,deployments", "--output=name").strip())
    until(lambda: not kubectl("get", "pods", "--selector=trireme.dev/group", "--output=name").strip())


def test_executors_that_fit_no_other_worker_run_on_larger_ones(kubectl):
    kubectl("apply", "--filename", SAMPLES / "spark" / "larger-workers.yaml")
    kubectl.wait("wj/ledger-where", "condition=Complete", seconds=240)
    assert kubectl.get("wj/ledger-where")["status"]["output"].splitlines()[-1] == "ledger-large"
    assert kubectl.get("wg/ledger-large")["status"]["capacity"]["memory"] == str(1194 * 2**20)
    # Whose work it is can't be told, so only the cluster's own workers are sized by it.
    kubectl("patch", "wg/ledger-large", "--type=merge", '--patch={"spec": {"autoscaling": {"maxReplicas": 2}}}')
    assert kubectl.told("wg/ledger-large", "InvalidSpec").startswith("spec.autoscaling: ")
    assert kubectl.get("deployment/ledger-large-worker")["status"]["readyReplicas"] == 1


@pytest.mark.parametrize("engine", ["dask", "spark", "celery"])
def test_the_operator_renders_a_group_byte_for_byte_as_helm_does(engine):
    metadata = {"name": "big", "namespace": "team"}
    cluster = {"kind": "WorkerCluster", "metadata": {**metadata, "name": "numbers"}, "spec": {"engine": engine}}
    spec = {"clusterRef": {"name": "numbers"}, "replicas": 2, "values": {"nodeSelector": {"disk": "fast"}}}
    group = {"kind": "WorkerGroup", "metadata": metadata, "spec": spec}
    values = cluster_plan.values(complete(group, cluster))
    chart = TOP / "charts" / engine

    def bodies(texts):
        # Helm writes where each text comes from.
        lines = [[line for line in text.splitlines() if not line.startswith("# Source: ")] for text in texts]
        parts = [part.strip() for found in lines for part in re.split(r"(?m)^---$", "\n".join(found))]
        return sorted(filter(None, parts))

    by_helm = bodies(HelmCommand("helm").render(chart, "big", "team", values))
    assert by_helm == bodies(InProcess().render(chart, "big", "team", values))
    # As `--set cluster=numbers` does, where nothing else is said.
    arguments = ("--namespace=team", "--set=cluster=numbers", f"--set-json=nodeSelector={json.dumps({'disk': 'fast'})}")
    plain = run("helm", "template", "big", chart, *arguments).stdout
    assert bodies([plain]) == by_helm
