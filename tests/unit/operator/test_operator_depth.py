"""A spec nested without end is refused, and nobody else goes unseen or unserved for it."""

import asyncio
from typing import Any

import pytest
from operating import Twin, cluster, conditions, cron_job, group, job

from trireme_operator.api import Object, key_of
from trireme_operator.plan.depth import MAX_LEVELS, too_deep


def nested(levels: int, within: str = "map") -> Any:
    found: Any = {} if within == "map" else []
    for _ in range(levels - 1):
        found = {"a": found, "b": 1} if within == "map" else [1, found]
    return found


@pytest.mark.parametrize("within", ["map", "list"])
@pytest.mark.parametrize(("levels", "field"), [(1, ""), (MAX_LEVELS, ""), (MAX_LEVELS + 1, "spec.values")])
def test_how_deep_is_too_deep(levels: int, field: str, within: str) -> None:
    assert too_deep(cluster(replicas=1, values=nested(levels, within))) == field


DEEP = nested(5000)
BRINGS = {"clusterTemplate": {"spec": {"engine": "dask", "values": DEEP}}}


@pytest.mark.parametrize(
    ("item", "others", "type_", "reason", "field"),
    [
        (cluster(values=DEEP), [], "Ready", "InvalidSpec", "spec.values"),
        (cluster(dask={"config": DEEP}), [], "Ready", "InvalidSpec", "spec.dask"),
        (cluster("celery", celery={"config": DEEP}), [], "Ready", "InvalidSpec", "spec.celery"),
        (cluster(env=[{"name": "A", "valueFrom": DEEP}]), [], "Ready", "InvalidSpec", "spec.env"),
        (group(values=DEEP), [cluster()], "Ready", "InvalidSpec", "spec.values"),
        (group(), [cluster(values=DEEP)], "Ready", "InvalidSpec", "of WorkerCluster numbers: spec.values"),
        (job(**BRINGS), [], "Failed", "Invalid", "spec.clusterTemplate"),
        (
            job(driver={"command": ["true"], "env": [{"name": "A", "valueFrom": DEEP}]}),
            [cluster()],
            "Failed",
            "Invalid",
            "spec.driver",
        ),
        (cron_job(jobTemplate={"spec": job(**BRINGS)["spec"]}), [], "Ready", "InvalidSpec", "spec.jobTemplate"),
    ],
)
def test_the_field_is_named_and_nothing_is_made(
    item: Object, others: list[Object], type_: str, reason: str, field: str
) -> None:
    twin = Twin()
    for one in (*others, item):
        metadata = {name: value for name, value in one["metadata"].items() if name != "generation"}
        twin.put_uncopied({**one, "metadata": metadata})
    for _ in range(3):
        asyncio.run(twin.reconciler().reconcile(key_of(item)))
    found = conditions(twin.objects[key_of(item)]["status"])[type_]
    assert (found["status"], found["reason"]) == ("True" if type_ == "Failed" else "False", reason)
    assert found["message"] == f"{field}: nested deeper than 100 levels: make it flatter"
    assert {verb for verb, _ in twin.writes} <= {"status", "event", "patch"}


def test_a_cluster_recovers() -> None:
    twin = Twin()
    item = cluster(values=DEEP)
    item["metadata"].pop("generation")
    twin.put_uncopied(item)
    asyncio.run(twin.reconciler().reconcile(key_of(item)))
    seen = twin.objects[key_of(item)]
    twin.put({**seen, "spec": {"engine": "dask"}})
    asyncio.run(twin.settle())
    assert conditions(twin.objects[key_of(item)]["status"])["Ready"]["reason"] == "Ready"
