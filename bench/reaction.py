"""How soon a worker comes for work: from none, and beside one that is busy."""

import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keda
import peer
import plots
from reconcile import DASK_KUBERNETES, Object
from watching import Life, Pods
from work import NAME, WORKERS, drive, namespace, percentile_95, program, start

PEER = DASK_KUBERNETES.replace("==", " ")
KEDA = f"celery by KEDA {keda.VERSION}"
WANTED_SECONDS = 1.5
# Down again soon, so that the next run can begin.
QUICKLY = {"scaleDown": {"stabilizationWindowSeconds": 5}}
# Dask counts a task by the part of its target duration, 5 s, that it takes: a second worker has to be worth it.
WORK_SECONDS = {"dask": 6, "spark": 1, "celery": 1}
# How long all is quiet before work comes, in seconds. The peer looks every 5 s, and not within 15 s of a change.
REST = (1, 10)
PEER_REST = (15, 20)
# A JVM starts, work is done, executors time out, the window passes, the worker leaves.
MOST_SECONDS_A_RUN = 120
LOOP = """
def rest():
    while workers() > BASE:
        time.sleep(0.2)  # between two looks: not every engine tells a program that a worker has gone
    time.sleep(random.uniform(*REST))  # between two runs: work comes at any moment, once all has been quiet

run(SECONDS, 1)  # so that Dask knows how long it takes, and no run is anything's first
if BASE:
    hold()
for _ in range(RUNS):
    rest()
    submitted = time.time()
    [begun] = run(SECONDS, 1)
    print(json.dumps({"submitted": submitted, "begun": begun}))
end()
"""


@dataclass(frozen=True)
class Reaction:
    """Seconds from the submission until a worker pod was created, until it was Ready, until the work began on it."""

    created: float
    ready: float | None
    begun: float


def reaction(engines: Sequence[str], runs: int, with_keda: bool, results: Path) -> list[str]:
    """Measure every engine from 0 and from 1, and the peers.

    Args:
        engines: which.
        runs: of each.
        with_keda: whether KEDA is to be one of the peers.
        results: a folder for the plot.
    """
    names = [*engines, *([PEER] if "dask" in engines else []), *([KEDA] if with_keda else [])]
    # Side by side: each waits most of the time, and all are disturbed alike.
    with keda.running() if with_keda else nullcontext(), ThreadPoolExecutor(len(names)) as pool:
        found_of = dict(zip(names, pool.map(lambda name: _both(name, runs), names), strict=True))
    measured = {(name, base): found for name in names for base, found in found_of[name].items()}
    drawn = {f"{name}, from {base}": _by_kind(found) for (name, base), found in measured.items()}
    plots.dots(results / "reaction.svg", drawn, WANTED_SECONDS)
    return [
        "## From work submitted to a worker, in seconds",
        "",
        "The clusters of the table are measured side by side.",
        "The size is at most 2. From 1: that worker is busy. Median / 95th percentile; the peer's pods have no",
        "readiness probe. When work began is said by the task itself, on the new worker.",
        *(["KEDA looks once a second (`pollingInterval: 1`; its default is 30)."] if with_keda else []),
        "Spark's driver tells its master 1 s after a task had to wait (`schedulerBacklogTimeout`, at least 1 s); so",
        "the operator asks the driver, too.",
        "",
        "| cluster | from | worker pod created | Ready | work began | created at most (p95) | runs |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_row(name, base, found) for (name, base), found in measured.items()),
        "",
        "![each run](reaction.svg)",
    ]


def _both(name: str, runs: int) -> dict[int, list[Reaction]]:
    """Measure one from 0 and from 1."""
    measured = {}
    measure = {PEER: the_peers, KEDA: by_keda}.get(name, partial(ours, name))
    # KEDA knows nothing of the task that a busy worker has: one that waits is one worker, which is there.
    for base in (0,) if name == KEDA else (0, 1):
        measured[base] = measure(base, runs)
        # Lest all is lost with what fails an hour later.
        print(_row(name, base, measured[base]), flush=True)
    return measured


def ours(engine: str, base: int, runs: int) -> list[Reaction]:
    """Measure a cluster of ours."""
    autoscaling = {"minReplicas": base, "maxReplicas": 2, "behavior": QUICKLY}
    more = {"spark": {"config": {"spark.dynamicAllocation.executorIdleTimeout": "5s"}}} if engine == "spark" else {}
    with namespace() as cluster, Pods(cluster, WORKERS) as pods:
        start(cluster, engine, base, autoscaling=autoscaling, drainSeconds=10, **more)
        said = drive(cluster, _script(engine, base, runs, REST), _limit(runs))
        return reactions(said, pods.lives)


def the_peers(base: int, runs: int) -> list[Reaction]:
    """Measure a DaskAutoscaler."""
    with namespace() as cluster, Pods(cluster, peer.WORKERS) as pods, peer.autoscaled(cluster, base, base, 2):
        said = peer.drive(cluster, _script("dask", base, runs, PEER_REST), _limit(runs))
        return [Reaction(one.created, None, one.begun) for one in reactions(said, pods.lives)]


def by_keda(base: int, runs: int) -> list[Reaction]:
    """Measure a cluster of ours that KEDA sizes."""
    with namespace() as cluster, Pods(cluster, WORKERS) as pods:
        start(cluster, "celery", base, drainSeconds=10)
        keda.scale(cluster, 2)
        return reactions(drive(cluster, _script("celery", base, runs, REST), _limit(runs)), pods.lives)


def reactions(said: list[Object], lives: Sequence[Life]) -> list[Reaction]:
    """Match what a driver said with the pods that came; a run whose pod was there already is no run."""
    found = []
    for run in said:
        submitted, begun = run["submitted"], run["begun"]
        came = [life for life in lives if submitted <= life.created <= begun]
        if came:
            ready = came[0].ready and came[0].ready - submitted
            found.append(Reaction(came[0].created - submitted, ready, begun - submitted))
        else:
            print(f"left out, because no worker came: {run}", flush=True)
    if not found:
        raise RuntimeError("no worker came in any run")
    return found


def _limit(runs: int) -> float:
    return MOST_SECONDS_A_RUN * (runs + 2)


def _script(engine: str, base: int, runs: int, rest: tuple[int, int]) -> str:
    constants = f"BASE, RUNS, SECONDS, REST = {base}, {runs}, {WORK_SECONDS[engine]}, {rest}\n"
    return program(engine, 2, constants + f"random.seed({NAME!r})\n" + LOOP)


def _by_kind(found: list[Reaction]) -> dict[str, list[float]]:
    return {
        "pod created": [one.created for one in found],
        "Ready": [one.ready for one in found if one.ready is not None],
        "work began": [one.begun for one in found],
    }


def _row(name: str, base: int, found: list[Reaction]) -> str:
    kinds = _by_kind(found)
    figures = [
        f"{statistics.median(values):.2f} / {percentile_95(values):.2f}" if values else "" for values in kinds.values()
    ]
    wanted = "" if name in (PEER, KEDA) else f"{WANTED_SECONDS:g}"
    return f"| {name} | {base} | {' | '.join(figures)} | {wanted} | {len(found)} |"
