"""What workers could not hand over is told once, of clusters that stay."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from trireme_operator.departures import Departures
from trireme_operator.plan.departure import left_behind
from trireme_operator.store import Store


def pod(message="", exit_code=0, reason="Completed", component="worker"):
    ended = {"exitCode": exit_code, "reason": reason, "message": message}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "it-worker-1",
            "namespace": "space",
            "labels": {"app.kubernetes.io/instance": "it", "app.kubernetes.io/component": component},
        },
        "spec": {"terminationGracePeriodSeconds": 30},
        "status": {"containerStatuses": [{"state": {"terminated": ended}}]},
    }


def said(**counts):
    return json.dumps({"trireme": counts})


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (
            pod(said(requeued=2, recomputed=1)),
            "2 running tasks went back to the queue, 1 result that no other worker took",
        ),
        (pod(said(requeued=1, recomputed=0)), "1 running task went back to the queue; raise"),
        (pod(said(requeued=0, lost=3)), "3 tasks that were acknowledged early are lost"),
        (pod(said(executors=1), 137, "Error"), "1 executor was stopped with what it ran and held"),
        (pod("", 137, "Error"), "what it ran and held is done again elsewhere"),
    ],
)
def test_what_was_left_behind_is_said_in_words(gone, told):
    assert told in left_behind(gone)
    assert left_behind(gone).startswith("it-worker-1 could not hand over all within 30 s: ")


def test_what_several_processes_left_is_added_up():
    ends = [pod(said(requeued=2)), pod(""), pod(said(requeued=1, recomputed=1))]
    states = [state for one in ends for state in one["status"]["containerStatuses"]]
    together = {**pod(), "status": {"containerStatuses": [{"state": {"running": {}}}, *states]}}
    assert "3 running tasks went back to the queue, 1 result that no other worker took" in left_behind(together)


@pytest.mark.parametrize(
    "message",
    ["", "Killed", "[]", "{}", '{"trireme": 1}', said(requeued=0), said(requeued=-1), said(requeued="1"), "[" * 9999],
)
def test_any_other_last_word_is_none(message):
    assert left_behind(pod(message)) is None


def test_a_pod_that_never_ran_left_nothing():
    assert left_behind({**pod(), "status": {}}) is None
    assert left_behind({**pod(), "status": {"containerStatuses": [{"state": {"waiting": {}}}]}}) is None


def test_running_out_of_memory_is_another_story():
    assert left_behind(pod("", 137, "OOMKilled")) is None


def test_an_end_that_nobody_saw_tells_nothing():
    """The kubelet gives it the code of a kill."""
    assert left_behind(pod("The container could not be located", 137, "ContainerStatusUnknown")) is None


class Client:
    def __init__(self):
        self.events = []

    async def record(self, event):
        if event["involvedObject"]["name"] == "bad":
            raise TimeoutError("refused")
        self.events.append((event["reason"], event["type"], event["involvedObject"]["name"]))


def told(gone, *clusters, running=True):
    store, client = Store(), Client()
    for cluster in clusters:
        store.put(cluster)

    async def main():
        departures = Departures(store, client, lambda: datetime(2026, 1, 1, tzinfo=UTC))
        task = asyncio.create_task(departures.run()) if running else None
        await asyncio.sleep(0)
        for item in gone:
            departures.gone(item)
        for _ in range(10):
            await asyncio.sleep(0)
        if task:
            assert not task.done()
            task.cancel()

    asyncio.run(main())
    return client.events


CLUSTER = {
    "apiVersion": "trireme.dev/v1alpha1",
    "kind": "WorkerCluster",
    "metadata": {"name": "it", "namespace": "space", "uid": "u"},
}
LEFT = pod(said(requeued=1))


def test_an_event_of_the_cluster_and_a_metric_tell():
    labels = {"namespace": "space", "engine": LEFT["metadata"]["labels"].get("app.kubernetes.io/name", "")}
    before = REGISTRY.get_sample_value("trireme_work_left_behind_total", labels) or 0
    assert told([LEFT], CLUSTER) == [("WorkLeftBehind", "Warning", "it")]
    assert REGISTRY.get_sample_value("trireme_work_left_behind_total", labels) == before + 1


def test_a_worker_of_a_group_is_told_of_by_the_group():
    gone = pod(said(requeued=1), component="group-worker")
    gone["metadata"]["labels"]["trireme.dev/group"] = "big"
    group = {**CLUSTER, "kind": "WorkerGroup", "metadata": {**CLUSTER["metadata"], "name": "big", "uid": "g"}}
    group["spec"] = {"clusterRef": {"name": "it"}}
    assert told([gone], CLUSTER, group) == [("WorkLeftBehind", "Warning", "big")]
    assert told([gone], CLUSTER) == []


@pytest.mark.parametrize(
    ("gone", "cluster", "running"),
    [
        (LEFT, CLUSTER | {"metadata": {**CLUSTER["metadata"], "name": "other"}}, True),
        (LEFT, {**CLUSTER, "metadata": {**CLUSTER["metadata"], "deletionTimestamp": "now"}}, True),
        (pod(said(requeued=1), component="driver"), CLUSTER, True),
        ({**LEFT, "kind": "Job"}, CLUSTER, True),
        (pod(), CLUSTER, True),
        (LEFT, CLUSTER, False),
    ],
)
def test_nothing_is_told_where_nobody_lost_anything(gone, cluster, running):
    assert told([gone], cluster, running=running) == []


def test_a_refused_event_does_not_end_it():
    bad = {**CLUSTER, "metadata": {**CLUSTER["metadata"], "name": "bad"}}
    of_bad = pod(said(requeued=1))
    of_bad["metadata"]["labels"]["app.kubernetes.io/instance"] = "bad"
    assert told([of_bad, LEFT], bad, CLUSTER) == [("WorkLeftBehind", "Warning", "it")]
