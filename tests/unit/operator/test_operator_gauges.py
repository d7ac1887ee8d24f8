"""The demand as metrics: what is told, and that nothing stale stays."""

from collections.abc import Iterator

import pytest
from operating import ENGINES, NAMESPACE, cluster, group

from trireme_operator import metrics
from trireme_operator.api import Object
from trireme_operator.autoscale import gauges
from trireme_operator.engines.demand import Demand

BUSY = Demand(workers=7, waiting=12, running=2, slots=2, least=1, unit="tasks")
IDLE = Demand(workers=0, waiting=0, running=0, slots=4, least=0, unit="tasks")
# Of names that no other test gives to a cluster: metrics are the process's.
NUMBERS, OTHERS = cluster(name="gauged"), cluster("celery", "gauged-too")


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    for item in (NUMBERS, OTHERS, *(cluster(engine, "gauged") for engine in ENGINES)):
        gauges.forget(item)
    assert told() == {}


def told() -> dict[str, float]:
    """Return the metrics of clusters, as they are served."""
    status, body = metrics.answer("/metrics", lambda: True, lambda: True)
    assert status == 200
    lines = [
        line.rsplit(" ", 1)
        for line in body.decode().splitlines()
        if line.startswith("trireme_cluster_") and 'name="gauged' in line
    ]
    return {name.removeprefix("trireme_cluster_"): float(value) for name, value in lines}


def of(item: Object, **values: float) -> dict[str, float]:
    """Return metrics of a cluster, by name; of its work, by state."""
    spec, metadata = item["spec"], item["metadata"]
    labels = f'engine="{spec["engine"]}",group="",name="{metadata["name"]}",namespace="{NAMESPACE}"'
    states = {
        f'work{{{labels},state="{state}"}}': values.pop(state) for state in ("waiting", "running") & values.keys()
    }
    return states | {f"{name}{{{labels}}}": value for name, value in values.items()}


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_told(engine: str) -> None:
    item = cluster(engine, "gauged")
    gauges.tell(item, BUSY, desired=7, current=3)
    busy = of(item, waiting=12, running=2, slots=2, desired_replicas=7, replicas=3, demand_known=1)
    assert told() == busy
    gauges.tell(item, IDLE, desired=0, current=7)
    assert told() == of(item, waiting=0, running=0, slots=4, desired_replicas=0, replicas=7, demand_known=1)


def test_a_group_is_told_of_under_its_clusters_name() -> None:
    big = group("gauged-big", cluster="gauged")
    big["spec"]["engine"] = "dask"
    gauges.tell(NUMBERS, BUSY, desired=7, current=3)
    gauges.tell(big, None, desired=1, current=1)
    labels = f'{{engine="dask",group="gauged-big",name="gauged",namespace="{NAMESPACE}"}}'
    own = of(NUMBERS, waiting=12, running=2, slots=2, desired_replicas=7, replicas=3, demand_known=1)
    assert told() == own | {f"replicas{labels}": 1, f"demand_known{labels}": 0}
    gauges.forget(big)


def test_what_is_unknown_is_not_told_as_it_was() -> None:
    """A HorizontalPodAutoscaler holds the size while it finds no metric."""
    gauges.tell(NUMBERS, BUSY, desired=7, current=3)
    gauges.tell(OTHERS, BUSY, desired=6, current=2)
    gauges.tell(NUMBERS, None, desired=3, current=3)
    others = of(OTHERS, waiting=12, running=2, slots=2, desired_replicas=6, replicas=2, demand_known=1)
    assert told() == others | of(NUMBERS, replicas=3, demand_known=0)
    gauges.tell(NUMBERS, IDLE, desired=1, current=3)
    assert (
        told().keys()
        == (others | of(NUMBERS, **dict.fromkeys(("waiting", "running", "slots"), 0))).keys()
        | of(NUMBERS, desired_replicas=1, replicas=3, demand_known=1).keys()
    )


def test_what_is_forgotten_is_gone() -> None:
    gauges.tell(NUMBERS, BUSY, desired=7, current=3)
    gauges.tell(OTHERS, None, desired=7, current=3)
    for _ in range(2):
        gauges.forget(NUMBERS)
        assert told() == of(OTHERS, replicas=3, demand_known=0)
    gauges.forget(OTHERS)
    assert told() == {}


def test_one_that_was_never_told_is_forgotten_as_well() -> None:
    gauges.forget(cluster(name="gauged-never"))
    assert told() == {}
