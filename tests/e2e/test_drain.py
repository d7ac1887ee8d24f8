"""Workers leave in every way there is, under load: no result is lost, and nothing that was finished is done again."""

import json

import pytest

from loads import SCRIPTS, TASKS, Load, cluster
from on_cluster import TOP, run, until
from trireme_operator.plan import cluster as cluster_plan

pytestmark = pytest.mark.alone  # a node is drained, and the operator is stopped

OPERATOR = ("--namespace=trireme-system", "deployment/trireme-operator")
WORKERS = "app.kubernetes.io/instance=load,app.kubernetes.io/component=worker"


def gone(load, *names):
    """Wait until pods are gone: in less time than they may take."""
    until(lambda: not {*names} & {*load.workers(), *load.leaving()}, seconds=50)


def scale(load):
    load.kubectl("scale", "wc/load", "--replicas=1")
    load.settled(1, seconds=120)
    load.kubectl("scale", "wc/load", "--replicas=3")


def delete(load):
    name = next(iter(load.workers()))
    load.kubectl("delete", f"pod/{name}", "--wait=false")
    return name


def evict(load):
    # The budget counts a worker a moment after it is ready, and who asks before is refused.
    until(lambda: load.kubectl.get("pdb/load-worker")["status"]["disruptionsAllowed"])
    name = next(iter(load.workers()))
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    path = f"/api/v1/namespaces/{load.kubectl.namespace}/pods/{name}/eviction"
    load.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))
    return name


def evict_and_delete(load):
    """Have two leave at the same time, and one stay."""
    gone(load, evict(load), delete(load))


def drain(load):
    """Drain the node that has most of the workers; there is another one."""
    nodes = [pod["spec"]["nodeName"] for pod in load.workers().values()]
    node = max(set(nodes), key=nodes.count)
    try:
        load.kubectl("drain", node, f"--pod-selector={WORKERS}", "--delete-emptydir-data", "--timeout=240s")
        assert node not in {pod["spec"].get("nodeName") for pod in load.workers().values()}
    finally:
        load.kubectl("uncordon", node)


def roll(load):
    """Change the image: the same one by its whole name."""
    before = load.workers().keys()
    image = load.kubectl.get("deployment/load-worker")["spec"]["template"]["spec"]["containers"][0]["image"]
    change = {"spec": {"image": f"docker.io/{image.removeprefix('docker.io/')}"}}
    load.kubectl("patch", "wc/load", "--type=merge", f"--patch={json.dumps(change)}")

    def begun():
        pod = load.kubectl.get("deployment/load-worker")["spec"]["template"]["spec"]
        return pod["containers"][0]["image"] == change["spec"]["image"]

    until(begun)
    load.kubectl("rollout", "status", "deployment/load-worker")
    until(lambda: not before & {*load.workers(), *load.leaving()}, seconds=300)


def without_operator(load):
    load.kubectl("scale", *OPERATOR, "--replicas=0")
    try:
        load.kubectl("wait", OPERATOR[0], "pod", "--selector=app.kubernetes.io/component=operator", "--for=delete")
        load.kubectl("scale", "deployment/load-worker", "--replicas=2")
        until(lambda: len(load.workers()) == 2)
        gone(load, delete(load), *load.leaving())
    finally:
        load.kubectl("scale", *OPERATOR, "--replicas=1")
        load.kubectl("rollout", "status", *OPERATOR)


def autoscale(load):
    """Let the autoscaler take one away, and another when it may."""
    change = {"spec": {"autoscaling": {"minReplicas": 1, "maxReplicas": 2}}}
    load.kubectl("patch", "wc/load", "--type=merge", f"--patch={json.dumps(change)}")
    load.settled(2, seconds=120)
    assert "from 3 to 2" in load.kubectl("describe", "wc/load")


ENGINES = ["dask", "celery", "spark"]


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_lost_or_done_twice(kubectl, engine):
    load = Load.of_resources(kubectl, engine)
    for leave in (scale, evict_and_delete, drain, roll, without_operator):
        leave(load)
        load.settled(3)
    autoscale(load)
    counted = load.finish()
    print(counted, load.kubectl("logs", f"job/{load.driver}", "--tail=100"), sep="\n")
    assert counted["done"] == counted["asked"]
    assert counted["doubled"] == 0
    assert "WorkLeftBehind" not in kubectl("describe", "wc/load")


def driver(kubectl, engine):
    """Return a Job like a worker's pod, without its duties: that is how a user would find the engine."""
    template = kubectl.get("deployment/load-worker")["spec"]["template"]
    template["metadata"]["labels"]["app.kubernetes.io/component"] = "driver"
    container = template["spec"]["containers"][0]
    for duty in ("lifecycle", "startupProbe", "readinessProbe", "livenessProbe"):
        container.pop(duty, None)
    container["command"] = ["python", "-c", SCRIPTS[engine]]
    container["env"].append({"name": "SPARK_LOCAL_IP", "value": "$(POD_IP)"})
    template["spec"]["restartPolicy"] = "Never"
    spec = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "by-hand"}, "spec": spec}


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_lost_by_upgrading_a_chart(kubectl, tmp_path, engine):
    kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
    whole = cluster(engine, workers=2)
    whole["metadata"]["namespace"] = kubectl.namespace
    values = tmp_path / "values.json"
    # The chart makes a password by itself.
    given = cluster_plan.values(whole)
    given.pop("auth", None)
    values.write_text(json.dumps(given))

    def helm(*arguments):
        where = ("--kube-context=kind-trireme", f"--namespace={kubectl.namespace}", f"--values={values}")
        run("helm", *arguments, "load", TOP / "charts" / engine, *where)

    helm("install")
    kubectl("rollout", "status", "deployment/load-worker")
    kubectl.apply(driver(kubectl, engine))
    load = Load(kubectl, 2, "by-hand")
    before = load.workers().keys()
    helm("upgrade", f"--set=image=docker.io/trireme/{engine}:dev")
    until(lambda: not before & {*load.workers(), *load.leaving()}, seconds=300)
    load.settled(2)
    counted = load.finish()
    print(counted, load.kubectl("logs", f"job/{load.driver}", "--tail=100"), sep="\n")
    assert counted["done"] == counted["asked"]
    assert counted["doubled"] == 0
