"""Many short tasks at once: from no worker to all that are allowed, and back, against as many that are always there."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import peer
import plots
from reconcile import DASK_KUBERNETES, RESOURCES, Cluster, Object, until
from watching import Pods, Series, Sizes, direction_changes, pod_seconds, ready_over_time
from work import NAME, WORKERS, drive, namespace, program, start

PEER = DASK_KUBERNETES.replace("==", " ")
MOST_WORKERS = 8
TASK_SECONDS = 1
# The peer takes away a quarter every 15 to 20 s.
DOWN_SECONDS = 600
BURST = """
submitted = time.time()
run(SECONDS, COUNT)
print(json.dumps({"submitted": submitted, "finished": time.time()}))
end()
"""


@dataclass(frozen=True)
class Run:
    """A burst; times in seconds since its submission.

    Args:
        finished: when the last result was there.
        end: when the last worker was gone; as `finished` where they stay.
        worker_seconds: for how long in all worker pods existed until then.
        replicas: the size asked for.
        ready: workers.
        demand: pieces of work that waited or ran.
    """

    finished: float
    end: float
    worker_seconds: float
    replicas: Series
    ready: Series
    demand: Series


def burst(engines: Sequence[str], tasks: int, results: Path) -> list[str]:
    """Measure every engine, and the peer.

    Args:
        engines: which.
        tasks: as many.
        results: a folder for the plot.
    """
    rows, panels = [], []
    for engine in engines:
        fixed, scaled = ours_fixed(engine, tasks), ours_autoscaled(engine, tasks)
        rows += [_fixed_row(engine, fixed, tasks), _row(engine, scaled, fixed, tasks)]
        panels.append(_panel(engine, scaled))
        if engine == "dask":
            theirs = the_peers(tasks)
            rows.append(_row(PEER, theirs, fixed, tasks))
            panels.append(_panel(PEER, theirs))
        # Lest all is lost with what fails later.
        print(*rows, sep="\n", flush=True)
    plots.sizes(results / "burst.svg", panels)
    return [
        f"## {tasks} tasks of {TASK_SECONDS} s at once, from 0 to {MOST_WORKERS} workers and back",
        "",
        "Workers have a slot each, and tasks sleep. Worker-seconds: for how long worker pods existed, from the",
        f"submission until the last one was gone; ideally {tasks * TASK_SECONDS}. With the default behavior: a",
        "stabilization window of 20 s. Of the fixed cluster, until the last result. The peer is against our fixed one.",
        "",
        "| cluster | last result, s | against fixed (at most 1.3) | worker-seconds | against ideal (at most 1.5) "
        "| back at 0, s | changes of direction (at most 2) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        "![demand, size and workers over time](burst.svg)",
    ]


def ours_fixed(engine: str, tasks: int) -> Run:
    """Measure workers that are all there."""
    with namespace() as cluster, _seen(cluster) as (pods, sizes):
        start(cluster, engine, MOST_WORKERS)
        said = drive(cluster, _script(engine, tasks), _limit(tasks))
        return _run(said, pods, sizes, stays=True)


def ours_autoscaled(engine: str, tasks: int) -> Run:
    """Measure workers that come and go."""
    with namespace() as cluster, _seen(cluster) as (pods, sizes):
        start(cluster, engine, 0, autoscaling={"minReplicas": 0, "maxReplicas": MOST_WORKERS})
        said = drive(cluster, _script(engine, tasks), _limit(tasks))
        until(lambda: not pods.there, DOWN_SECONDS, 0.5)
        return _run(said, pods, sizes)


def the_peers(tasks: int) -> Run:
    """Measure a DaskAutoscaler."""
    with namespace() as cluster, peer.autoscaled(cluster, 0, 0, MOST_WORKERS):
        size = Sizes(cluster, peer.DASK_GROUP, f"{peer.NAME}-default", ("worker", "replicas"))
        with Pods(cluster, peer.WORKERS) as pods, size:
            said = peer.drive(cluster, _script("dask", tasks), _limit(tasks))
            until(lambda: not pods.there, DOWN_SECONDS, 0.5)
            return _run(said, pods, size)


@contextlib.contextmanager
def _seen(cluster: Cluster) -> Iterator[tuple[Pods, Sizes]]:
    with Pods(cluster, WORKERS) as pods, Sizes(cluster, RESOURCES["WorkerCluster"], NAME) as sizes:
        yield pods, sizes


def _script(engine: str, tasks: int) -> str:
    return program(engine, MOST_WORKERS, f"SECONDS, COUNT = {TASK_SECONDS}, {tasks}\n{BURST}")


def _limit(tasks: int) -> float:
    return 300 + 2 * tasks * TASK_SECONDS


def _run(said: list[Object], pods: Pods, sizes: Sizes, stays: bool = False) -> Run:
    [times] = said
    start_, finished = times["submitted"], times["finished"]
    lives = pods.lives
    end = finished if stays else max(life.gone or finished for life in lives)
    return Run(
        finished=finished - start_,
        end=end - start_,
        worker_seconds=pod_seconds(lives, start_, end),
        replicas=_since(sizes.replicas, start_),
        ready=_since(ready_over_time(lives), start_),
        demand=_since(sizes.demand, start_),
    )


def _since(series: Series, start_: float) -> Series:
    """Return a series in seconds since a time; what was so before is so at 0."""
    before = [value for moment, value in series if moment <= start_]
    return [(0.0, before[-1] if before else 0), *((t - start_, value) for t, value in series if t > start_)]


def _panel(name: str, run: Run) -> plots.Panel:
    # Of those that nobody tells the work of, nothing but a 0 is known.
    demand = run.demand if any(value for _, value in run.demand) else ()
    return plots.Panel(name, run.end + 2, run.finished, run.replicas, run.ready, demand)


def _fixed_row(name: str, run: Run, tasks: int) -> str:
    share = run.worker_seconds / (tasks * TASK_SECONDS)
    workers = f"{name}, {MOST_WORKERS} fixed"
    return f"| {workers} | {run.finished:.1f} | 1 | {run.worker_seconds:.0f} | {share:.2f} | | |"


def _row(name: str, run: Run, fixed: Run, tasks: int) -> str:
    ratio, share = run.finished / fixed.finished, run.worker_seconds / (tasks * TASK_SECONDS)
    return (
        f"| {name}, 0 to {MOST_WORKERS} | {run.finished:.1f} | {ratio:.2f} | {run.worker_seconds:.0f} | {share:.2f} "
        f"| {run.end:.0f} | {direction_changes(run.replicas)} |"
    )
