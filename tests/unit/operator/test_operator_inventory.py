"""What there is, as metrics; and what is counted as it happens."""

import asyncio

import pytest
from operating import ENGINES, NAMESPACE, Twin, cluster, condition, group, job
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from trireme_operator.api import Key
from trireme_operator.inventory import Inventory
from trireme_operator.store import Store

MEAN = Key("WorkerJob", NAMESPACE, "mean")


def told(*items, leads=True):
    """Return the samples of a scrape: name and labels to value."""
    store = Store()
    for item in items:
        store.put(item)
    registry = CollectorRegistry()
    registry.register(Inventory(store, lambda: leads))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(one.name, *sorted(one.labels.values())): one.value for family in families for one in family.samples}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_clusters_conditions_and_workers(engine):
    status = {"readyReplicas": 1, "conditions": [condition("Ready", "True"), condition("Progressing", "False", "New")]}
    of = ("WorkerCluster", NAMESPACE, "numbers", engine)
    assert told(cluster(engine, status=status, replicas=3)) == {
        ("trireme_condition", *sorted((*of, "Ready", "Because"))): 1,
        ("trireme_condition", *sorted((*of, "Progressing", "New"))): 0,
        ("trireme_workers", *sorted((*of, "desired"))): 3,
        ("trireme_workers", *sorted((*of, "ready"))): 1,
    }


def test_no_worker_is_desired_of_a_suspended_cluster():
    found = told(cluster(status={"readyReplicas": 0, "conditions": []}, replicas=3, suspend=True))
    assert set(found.values()) == {0}
    assert len(found) == 2


def test_no_worker_is_desired_of_a_group_whose_cluster_is_suspended():
    status = {"readyReplicas": 0, "conditions": [condition("Suspended", "True")]}
    found = told(group(status=status, replicas=3))
    of = ("WorkerGroup", NAMESPACE, "big", "")
    assert found["trireme_workers", *sorted((*of, "desired"))] == 0
    status["conditions"] = [condition("Suspended", "False")]
    assert told(group(status=status, replicas=3))["trireme_workers", *sorted((*of, "desired"))] == 3


def test_a_cluster_without_a_status_tells_nothing():
    assert told(cluster()) == {}


def test_jobs_are_counted_by_state_and_have_no_series_of_their_own():
    own = {"clusterTemplate": {"spec": {"engine": "spark"}}}
    found = told(
        cluster("celery"),
        job("a", status={"state": "Complete"}),
        job("b", status={"state": "Complete"}),
        job("c", status={"state": "Failed"}, **own),
        job("d"),
        job("e", clusterRef={"name": "nowhere"}),
        job("f", managedBy="kueue.x-k8s.io/multikueue"),
    )
    assert found == {
        ("trireme_jobs", *sorted((NAMESPACE, "celery", "Complete"))): 2,
        ("trireme_jobs", *sorted((NAMESPACE, "spark", "Failed"))): 1,
        ("trireme_jobs", *sorted((NAMESPACE, "celery", "WaitingForCluster"))): 1,
        ("trireme_jobs", *sorted((NAMESPACE, "", "WaitingForCluster"))): 1,
    }


def test_only_who_leads_tells():
    assert told(cluster(status={"conditions": [condition("Ready", "True")]}), job(), leads=False) == {}


def value(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_job_that_ends_is_counted_once():
    labels = {"engine": "spark", "result": "Complete"}

    def counted():
        ended = value("trireme_jobs_ended_total", namespace=NAMESPACE, reason="Completed", **labels)
        waits = value("trireme_job_wait_seconds_count", engine="spark")
        return ended, value("trireme_job_seconds_count", **labels), waits

    before = counted()
    twin = Twin()
    twin.put(cluster("spark"))
    twin.put(job())
    asyncio.run(twin.settle())
    assert [after - was for was, after in zip(before, counted(), strict=True)] == [1, 1, 1]
    asyncio.run(twin.reconciler().reconcile(MEAN))
    assert [after - was for was, after in zip(before, counted(), strict=True)] == [1, 1, 1]
