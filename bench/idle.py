"""What many autoscaled clusters that have nothing to do cost the operator."""

import json
import threading
import time
from collections.abc import Iterator
from itertools import islice

from reconcile import Cluster, is_true, kubectl, metrics, until, worker_cluster
from work import TASKS, namespace

WAVE = 20
SETTLE_SECONDS, IDLE_SECONDS = 60, 120
# For pods that come and go by themselves, and the cluster's own.
SPARE_PODS = 6
# Each of 40: an idle broker takes some 10 MB, a scheduler 100, a master 160; 200 of the two latter do not fit.
MIX = ("dask",) * 9 + ("spark",) * 1 + ("celery",) * 30
EVENLY = 7


def idle(wanted: int) -> list[str]:
    """Measure.

    Args:
        wanted: as many clusters, if the nodes take so many pods.
    """
    with namespace() as cluster:
        nothing = share(cluster)[0]
        count = min(wanted, room())
        names = start_all(cluster, count)
        cpu, writes, requests = share(cluster)
    for_wanted = nothing + (cpu - nothing) * wanted / count
    engines = ", ".join(f"{names.count(engine)} {engine}" for engine in ("dask", "spark", "celery"))
    return [
        f"## What {count} idle autoscaled clusters cost the operator",
        "",
        f"{engines}; each has its control pod and from 0 to 4 workers, now none. Over {IDLE_SECONDS} s, after",
        f"{SETTLE_SECONDS} s of rest. The nodes take {'as many' if count == wanted else 'no more'} pods.",
        "",
        "| what | measured | wanted |",
        "| --- | --- | --- |",
        f"| CPU with {count} | {cpu:.2%} of a core | |",
        f"| CPU with {wanted}, in proportion | {for_wanted:.2%} of a core | less than 3% |",
        f"| CPU with no cluster | {nothing:.2%} of a core | |",
        f"| writes to the API server | {writes} | none |",
        f"| all requests to it, watches and leases left out | {requests} | |",
    ]


def share(cluster: Cluster) -> tuple[float, int, int]:
    """Return the operator's CPU time over wall time, its writes and its requests, of some quiet time."""
    pause = threading.Event()
    pause.wait(SETTLE_SECONDS)  # what was started before is to have settled: that is no cost of idling
    before, begun = metrics(), time.monotonic()
    pause.wait(IDLE_SECONDS)  # between the two samples
    after, seconds = metrics(), time.monotonic() - begun
    ready = sum(is_true(item, "AutoscalingActive") for item in cluster.all("WorkerCluster"))
    print(f"{ready} clusters autoscale", before, after, flush=True)
    cpu, writes, requests = (after[name] - before[name] for name in ("cpu", "writes", "requests"))
    return cpu / seconds, round(writes), round(requests)


def room() -> int:
    """Return for how many pods more there is room on the nodes."""
    nodes = json.loads(kubectl("get", "nodes", "--output=json"))["items"]
    pods = json.loads(kubectl("get", "pods", "--all-namespaces", "--output=json"))["items"]
    there = sum(pod["status"]["phase"] not in ("Succeeded", "Failed") for pod in pods)
    return sum(int(node["status"]["allocatable"]["pods"]) for node in nodes) - there - SPARE_PODS


def engines() -> Iterator[str]:
    """Yield engines for ever, in the mix, evenly."""
    index = 0
    while True:
        yield MIX[index * EVENLY % len(MIX)]
        index += 1


def start_all(cluster: Cluster, count: int) -> list[str]:
    """Start so many clusters, a wave at a time, and return their engines."""
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"}, "data": {"tasks.py": TASKS}}
    cluster.apply(code)
    names = list(islice(engines(), count))
    for first in range(0, count, WAVE):
        last = min(first + WAVE, count)
        for index in range(first, last):
            autoscaling = {"minReplicas": 0, "maxReplicas": 4}
            cluster.apply(worker_cluster(names[index], 0, f"idle{index}", autoscaling=autoscaling))
        until(lambda last=last: _autoscaling(cluster) == last, 600, 1)
        print(f"{last} of {count} are ready", flush=True)
    return names


def _autoscaling(cluster: Cluster) -> int:
    items = cluster.all("WorkerCluster")
    return sum(is_true(item, "Ready") and is_true(item, "AutoscalingActive") for item in items)
