"""What was seen, and whom it concerns."""

from typing import Any

import pytest
from operating import NAMESPACE, cluster, group, job, owned

from trireme_operator.api import CONFIG_MAP, JOB, Key, Object, key_of, owned_by, owner_reference
from trireme_operator.store import Store, concerned


def config_map(name: str, version: str = "1", owner: Object | None = None, **labels: str) -> Object:
    metadata = {"name": name, "namespace": NAMESPACE, "resourceVersion": version, "labels": labels}
    item = {"kind": "ConfigMap", "metadata": metadata}
    return owned(item, owner) if owner else item


def key(kind: str, name: str, namespace: str = NAMESPACE) -> Key:
    return Key(kind, namespace, name)


def names(items: list[Object]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


BATCH_JOB = {"apiVersion": "batch/v1", "kind": "Job"}
ONE, OTHER = cluster(name="one"), cluster(name="other")


def test_what_was_put_last_is_there() -> None:
    store = Store()
    assert store.get(key("ConfigMap", "a")) is None
    store.put(config_map("a", "1"))
    store.put(config_map("a", "2"))
    found = store.get(key("ConfigMap", "a"))
    assert found is not None
    assert found["metadata"]["resourceVersion"] == "2"
    store.remove(key("ConfigMap", "a"))
    assert store.get(key("ConfigMap", "a")) is None
    store.remove(key("ConfigMap", "a"))


def test_kinds_and_namespaces_are_kept_apart() -> None:
    store = Store()
    store.put(config_map("a"))
    elsewhere = {"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "elsewhere"}}
    store.put(elsewhere)
    store.put({"kind": "Service", "metadata": {"name": "a", "namespace": NAMESPACE}})
    store.remove(key("ConfigMap", "a"))
    assert store.get(key("ConfigMap", "a", "elsewhere")) == elsewhere
    assert store.get(key("Service", "a")) is not None
    assert store.of_kind("ConfigMap") == [elsewhere]
    assert store.of_kind("Pod") == []


def test_objects_are_found_by_their_owner() -> None:
    store = Store()
    for item in (config_map("b", owner=ONE), config_map("a", owner=ONE), config_map("c", owner=OTHER), config_map("d")):
        store.put(item)
    assert names(store.owned(ONE)) == ["a", "b"]
    assert names(store.owned(OTHER)) == ["c"]
    store.remove(key("ConfigMap", "b"))
    assert names(store.owned(ONE)) == ["a"]
    # Given to another owner.
    store.put(config_map("a", "2", OTHER))
    assert names(store.owned(ONE)) == []
    assert names(store.owned(OTHER)) == ["a", "c"]
    store.put(config_map("a", "3"))
    assert names(store.owned(OTHER)) == ["c"]


def test_an_owner_is_known_by_its_uid_and_not_by_its_name() -> None:
    store = Store()
    store.put(config_map("a", owner=ONE))
    namesake = {**ONE, "metadata": {**ONE["metadata"], "uid": "another"}}
    assert store.owned(namesake) == []
    assert owned_by(config_map("a", owner=ONE), ONE) is True
    assert owned_by(config_map("a", owner=ONE), namesake) is False
    assert owned_by(config_map("a"), ONE) is False


def test_an_index_of_many_that_went_keeps_nothing() -> None:
    store = Store()
    store.put(config_map("a", owner=ONE))
    store.remove(key("ConfigMap", "a"))
    assert store._by_owner == {}


def test_pods_of_a_job_that_failed_are_told_after_they_went() -> None:
    """Kubernetes deletes what it ends for others' sake: a second later nothing else would tell of it."""
    item = owned({**BATCH_JOB, "metadata": {"name": "mean-driver"}}, job())
    others = owned({**BATCH_JOB, "metadata": {"name": "other-driver"}}, job("other"))

    def went(name: str, phase: str, owner: Object = item, by_list: bool = False) -> None:
        store.put(owned({"kind": "Pod", "metadata": {"name": name}, "status": {"phase": "Running"}}, owner))
        store.put(owned({"kind": "Pod", "metadata": {"name": name}, "status": {"phase": phase}}, owner))
        if by_list:
            store.replace("Pod", [])
        else:
            store.remove(key("Pod", name))

    store = Store()
    store.put(item)
    went("a", "Failed")
    went("b", "Succeeded")
    went("c", "Running")
    # Whose Job is not known, is nobody's; a ReplicaSet's is no driver.
    went("d", "Failed", others)
    went("e", "Failed", {**item, "kind": "ReplicaSet"})
    went("f", "Failed", by_list=True)
    assert names(store.failed(item)) == ["a", "f"]
    assert store.failed(others) == []
    # A change of the Job is not its end, but another Job of its name is another one.
    store.put({**item, "status": {"active": 1}})
    assert names(store.failed(item)) == ["a", "f"]
    assert store.failed({**item, "metadata": {**item["metadata"], "uid": "another"}}) == []
    for number in range(12):
        went(f"g{number}", "Failed")
    assert names(store.failed(item)) == [f"g{number}" for number in range(2, 12)]
    store.remove(key_of(item))
    went("h", "Failed")
    assert (store.failed(item), store._failed) == ([], {})


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([("a", "1"), ("b", "1")], set()),
        ([("a", "2"), ("b", "1")], {"a"}),
        ([("a", "1")], {"b"}),
        ([("a", "1"), ("b", "1"), ("c", "1")], {"c"}),
        ([], {"a", "b"}),
        ([("b", "9"), ("c", "1")], {"a", "b", "c"}),
    ],
)
def test_a_list_takes_the_place_of_what_was_seen(listed: list[tuple[str, str]], expected: set[str]) -> None:
    store = Store()
    store.put(config_map("a", owner=ONE))
    store.put(config_map("b", owner=ONE))
    service = {"kind": "Service", "metadata": {"name": "a", "namespace": NAMESPACE}}
    store.put(service)
    found = store.replace("ConfigMap", [config_map(name, version, OTHER) for name, version in listed])
    assert found == {key("ConfigMap", name) for name in expected}
    assert sorted(names(store.of_kind("ConfigMap"))) == sorted(name for name, _ in listed)
    # The index follows; what did not change is left as it was.
    unchanged = [name for name, version in listed if version == "1" and name in ("a", "b")]
    assert names(store.owned(ONE)) == unchanged
    assert len(store.owned(ONE)) + len(store.owned(OTHER)) == len(listed)
    assert store.get(key("Service", "a")) == service


def test_pods_are_found_by_their_cluster() -> None:
    def pod(name: str, instance: str, namespace: str = NAMESPACE) -> Object:
        labels = {"app.kubernetes.io/instance": instance}
        return {"kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels}}

    store = Store()
    for item in (pod("b", "one"), pod("a", "one"), pod("c", "other"), pod("d", "one", "elsewhere")):
        store.put(item)
    store.put({"kind": "Pod", "metadata": {"name": "bare", "namespace": NAMESPACE}})
    store.put(config_map("x", **{"app.kubernetes.io/instance": "one"}))
    assert names(store.pods(NAMESPACE, "one")) == ["a", "b"]
    assert names(store.pods("elsewhere", "one")) == ["d"]
    assert store.pods(NAMESPACE, "none") == []
    store.remove(key("Pod", "a"))
    store.put(pod("b", "other"))
    assert store.pods(NAMESPACE, "one") == []
    assert names(store.pods(NAMESPACE, "other")) == ["b", "c"]
    for name in ("b", "c", "bare"):
        store.remove(key("Pod", name))
    store.remove(key("Pod", "d", "elsewhere"))
    assert store._pods == {}


def labelled(kind: str, **labels: Any) -> Object:
    known = {
        "job": "trireme.dev/job",
        "cronjob": "trireme.dev/cronjob",
        "group": "trireme.dev/group",
        "instance": "app.kubernetes.io/instance",
    }
    marks = {known[name]: value for name, value in labels.items()}
    return {"kind": kind, "metadata": {"name": "x", "namespace": NAMESPACE, "labels": marks}}


BORROWERS = [
    job("borrows"),
    job("other", clusterRef={"name": "another"}),
    job("owns", clusterTemplate={"spec": {"engine": "dask"}}),
    {**job("elsewhere"), "metadata": {"name": "elsewhere", "namespace": "elsewhere", "uid": "e"}},
    group("big"),
    group("small"),
    group("others", cluster="another"),
]
NUMBERS = {("WorkerCluster", "numbers"), ("WorkerGroup", "big"), ("WorkerGroup", "small")}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (job("mean"), {("WorkerJob", "mean")}),
        (cluster(), {*NUMBERS, ("WorkerJob", "borrows")}),
        (group("big"), NUMBERS),
        (group("new", cluster="none"), {("WorkerGroup", "new"), ("WorkerCluster", "none")}),
        (labelled("Pod", instance="numbers", group="big"), {("WorkerGroup", "big")}),
        (labelled("WorkerJob", cronjob="nightly"), {("WorkerJob", "x"), ("WorkerCronJob", "nightly")}),
        (labelled("WorkerCronJob", job="mean"), {("WorkerCronJob", "x")}),
        (cluster(name="lonely"), {("WorkerCluster", "lonely")}),
        (labelled("Deployment", instance="numbers"), {("WorkerCluster", "numbers")}),
        (labelled("ConfigMap", job="mean"), {("WorkerJob", "mean")}),
        (labelled("Pod", job="mean", instance="numbers"), {("WorkerJob", "mean"), ("WorkerCluster", "numbers")}),
        (labelled("Pod"), set()),
        ({"kind": "Pod", "metadata": {"name": "bare", "namespace": NAMESPACE}}, set()),
    ],
)
def test_whom_a_change_concerns(item: Object, expected: set[tuple[str, str]]) -> None:
    assert concerned(item, BORROWERS) == {key(kind, name) for kind, name in expected}


def test_a_jobs_own_cluster_concerns_it() -> None:
    item = cluster(name="owns")
    item["metadata"]["labels"] = {"trireme.dev/job": "owns"}
    assert concerned(item, BORROWERS) == {key("WorkerCluster", "owns"), key("WorkerJob", "owns")}


def test_keys_and_references() -> None:
    assert (CONFIG_MAP.api_version, JOB.api_version) == ("v1", "batch/v1")
    assert key_of({"kind": "Node", "metadata": {"name": "n"}}) == Key("Node", "", "n")
    assert str(key_of(ONE)) == "WorkerCluster/team/one"
    assert owner_reference(ONE) == {
        "apiVersion": "trireme.dev/v1alpha1",
        "kind": "WorkerCluster",
        "name": "one",
        "uid": "uid-one",
        "controller": True,
        "blockOwnerDeletion": True,
    }
