"""Objects follow the spec: made, changed, put back, pruned, collected."""

import pytest
from objects import NOWHERE, children, cluster, job, reason, state

from on_cluster import condition, until

ENGINES = ("dask", "spark", "celery")


def made(kubectl, name="numbers"):
    """Wait until a cluster's current generation was reconciled; return the cluster."""

    # The operator starts beside the test.
    until(lambda: kubectl.get(f"wc/{name}").get("status"))

    def found():
        item = kubectl.get(f"wc/{name}")
        return item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"] and item

    return until(found, seconds=20)


def worker(kubectl):
    return kubectl.get("deployment/numbers-worker")


def container(kubectl):
    return worker(kubectl)["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cluster_is_made(kubectl, operator, engine):
    kubectl.apply(cluster(engine=engine, replicas=3))
    item = made(kubectl)
    until(lambda: kubectl.get("wc/numbers")["status"]["replicas"] == 3)
    assert worker(kubectl)["spec"]["replicas"] == 3
    assert item["status"]["selector"] == (
        f"app.kubernetes.io/name={engine},app.kubernetes.io/instance=numbers,app.kubernetes.io/component=worker"
    )
    assert until(lambda: kubectl.get("wc/numbers")["status"]["capacity"])
    for child in children(kubectl):
        assert [owner["name"] for owner in child["metadata"]["ownerReferences"]] == ["numbers"]
    assert "finalizers" not in item["metadata"]


def test_scale_reaches_the_workers(kubectl, operator):
    kubectl.apply(cluster(replicas=1))
    made(kubectl)
    kubectl("scale", "wc/numbers", "--replicas=4")
    until(lambda: worker(kubectl)["spec"]["replicas"] == 4)
    until(lambda: kubectl.get("wc/numbers")["status"]["replicas"] == 4)
    scale = kubectl("get", "--raw", _scale_path(kubectl))
    assert '"replicas":4' in scale
    assert "component=worker" in scale


def _scale_path(kubectl):
    return f"/apis/trireme.dev/v1alpha1/namespaces/{kubectl.namespace}/workerclusters/numbers/scale"


@pytest.mark.parametrize(
    "edit",
    [
        ("set", "image", "deployment/numbers-worker", "worker=other"),
        ("scale", "deployment/numbers-worker", "--replicas=5"),
        ("set", "env", "deployment/numbers-worker", "BY_HAND=1"),
        ("set", "env", "deployment/numbers-worker", "OMP_NUM_THREADS=9"),
        ("set", "resources", "deployment/numbers-worker", "--limits=cpu=3,memory=3Gi"),
        ("patch", "service/numbers-scheduler", "--patch", '{"spec": {"selector": {"app.kubernetes.io/name": "x"}}}'),
        ("patch", "configmap/numbers-conf", "--patch", '{"data": {"dask.yaml": "{}"}}'),
        ("patch", "service/numbers-scheduler", "--patch", '{"spec": {"selector": {"added": "by-hand"}}}'),
        ("patch", "configmap/numbers-conf", "--patch", '{"data": {"added.yaml": "{}"}}'),
        ("patch", "networkpolicy/numbers", "--patch", '{"spec": {"podSelector": {"matchLabels": {"added": "x"}}}}'),
        ("delete", "deployment/numbers-worker"),
        ("delete", "service/numbers-scheduler"),
        ("delete", "configmap/numbers-scripts"),
        ("delete", "networkpolicy/numbers"),
        ("delete", "poddisruptionbudget/numbers-worker"),
    ],
    ids=lambda edit: "-".join(edit[:2]).replace("/", "-"),
)
def test_a_child_changed_by_hand_is_put_back(kubectl, operator, edit):
    kubectl.apply(cluster(replicas=1))
    made(kubectl)
    before = until(lambda: len(found := state(kubectl)) == 7 and found)
    kubectl(*edit)
    until(lambda: state(kubectl) == before, seconds=20)


def test_a_restart_by_kubectl_is_let_be(kubectl, operator):
    kubectl.apply(cluster(replicas=1))
    made(kubectl)
    kubectl("rollout", "restart", "deployment/numbers-worker")
    kubectl("scale", "wc/numbers", "--replicas=2")
    until(lambda: worker(kubectl)["spec"]["replicas"] == 2)
    assert "kubectl.kubernetes.io/restartedAt" in worker(kubectl)["spec"]["template"]["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("change", "look"),
    [
        ({"image": "other/image:1"}, lambda c: c["image"] == "other/image:1"),
        ({"env": [{"name": "NEW", "value": "1"}]}, lambda c: {"name": "NEW", "value": "1"} in c["env"]),
        (
            {"resources": {"limits": {"cpu": "2", "memory": "3Gi"}}},
            lambda c: c["resources"]["limits"] == {"cpu": "2", "memory": "3Gi"} and "--nthreads=2" in c["command"],
        ),
        ({"drainSeconds": 7}, lambda c: {"name": "TRIREME_DRAIN_SECONDS", "value": "7"} in c["env"]),
    ],
)
def test_a_changed_spec_rolls_the_workers(kubectl, operator, change, look):
    kubectl.apply(cluster(replicas=1))
    made(kubectl)
    kubectl.apply(cluster(replicas=1, **change))
    until(lambda: look(container(kubectl)))
    # And what is taken out again goes.
    kubectl.apply(cluster(replicas=1))
    until(lambda: not look(container(kubectl)))


def test_what_is_no_longer_rendered_is_pruned(kubectl, operator):
    kubectl.apply(cluster(engine="celery"))
    made(kubectl)
    until(lambda: "StatefulSet/numbers-broker" in state(kubectl))
    kubectl.apply(cluster(engine="celery", values={**NOWHERE, "broker": {"url": "redis://elsewhere:6379/0"}}))
    until(lambda: not {"StatefulSet/numbers-broker", "Service/numbers-broker"} & state(kubectl).keys())
    assert "Deployment/numbers-worker" in state(kubectl)


def test_the_password_is_made_once(kubectl, operator):
    kubectl.apply(cluster(engine="celery"))
    made(kubectl)
    password = kubectl.get("secret/numbers-auth")["data"]["password"]
    kubectl.apply(cluster(engine="celery", replicas=2))
    until(lambda: worker(kubectl)["spec"]["replicas"] == 2)
    assert kubectl.get("secret/numbers-auth")["data"]["password"] == password


def test_suspend_and_resume(kubectl, operator):
    kubectl.apply(cluster(replicas=2))
    made(kubectl)
    kubectl("patch", "wc/numbers", "--type=merge", '--patch={"spec": {"suspend": true}}')
    until(lambda: worker(kubectl)["spec"]["replicas"] == 0)
    until(lambda: condition(kubectl.get("wc/numbers"), "Suspended").get("status") == "True")
    kubectl("patch", "wc/numbers", "--type=merge", '--patch={"spec": {"suspend": false}}')
    until(lambda: worker(kubectl)["spec"]["replicas"] == 2)


def test_what_another_one_owns_is_not_taken_over(kubectl, operator):
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "numbers-scheduler", "labels": {"app.kubernetes.io/part-of": "trireme"}},
        "spec": {"ports": [{"port": 1}]},
    }
    kubectl.apply(foreign)
    kubectl.apply(cluster())
    until(lambda: reason(kubectl, "wc/numbers") == "NameTaken")
    assert kubectl.get("service/numbers-scheduler")["spec"]["ports"][0]["port"] == 1
    assert len(state(kubectl)) == 1
    kubectl("delete", "service/numbers-scheduler")
    kubectl("annotate", "wc/numbers", "look=again")
    until(lambda: reason(kubectl, "wc/numbers") != "NameTaken")


@pytest.mark.parametrize(
    ("what", "operator_runs"), [("cluster", False), ("namespace", False), ("cluster", True), ("namespace", True)]
)
def test_deleting_needs_no_operator_and_is_not_held_up_by_one(kubectl, operated, what, operator_runs):
    def delete():
        if what == "namespace":
            kubectl("delete", "namespace", kubectl.namespace, "--timeout=60s")
            return
        kubectl("delete", "wc/numbers", "wj/mean", "--timeout=30s")
        until(lambda: not children(kubectl), seconds=60)

    with operated():
        # Without a claim, which is nothing to the operator and delays a namespace's end.
        values = {**NOWHERE, "broker": {**NOWHERE, "persistence": {"enabled": False}}}
        kubectl.apply(cluster(engine="celery", values=values), job(driver={"command": ["true"]}))
        made(kubectl)
        until(lambda: len(state(kubectl)) == 8)
        if operator_runs:
            delete()
    if not operator_runs:
        delete()
