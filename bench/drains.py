"""Whether work is lost or done twice when workers leave under load, and how long they take to leave."""

import json
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import plots
from reconcile import kubectl, until
from watching import Events, Pods
from work import NAME, WORKERS, loads, namespace, percentile_95, under_load

MOST_WORKERS = 3
SEED = 1
# The first one leaves in this time at the latest, and another comes for it: a JVM on busy cores.
SETTLED_SECONDS = 300


@dataclass(frozen=True)
class Drained:
    """What became of a load.

    Args:
        asked: pieces of work.
        lost: those that were not done.
        doubled: those that were finished more than once.
        left_behind: events that tell of work that a worker could not hand over.
        scale_downs: as many there were.
        evictions: as many there were.
        seconds: each leaving pod took from its deletion until it was gone.
        limit: drainSeconds.
    """

    asked: int
    lost: int
    doubled: int
    left_behind: int
    scale_downs: int
    evictions: int
    seconds: list[float]
    limit: int


def drains(engines: Sequence[str], scale_downs: int, evictions: int, results: Path) -> list[str]:
    """Measure every engine.

    Args:
        engines: which.
        scale_downs: as many of them, by `kubectl scale`.
        evictions: as many of them, by the eviction API.
        results: a folder for the plot.
    """
    measured = {}
    for engine in engines:
        measured[engine] = measure(engine, scale_downs, evictions)
        # Lest all is lost with what fails an hour later.
        print(_row(engine, measured[engine]), flush=True)
    seconds = {engine: found.seconds for engine, found in measured.items()}
    plots.shares(results / "drains.svg", seconds, "s from a worker pod's deletion until it is gone")
    return [
        "## Workers that leave under load",
        "",
        "A load of tasks of up to 8 s, over results that other tasks need, on 1 to 3 workers that are scaled down and",
        "evicted all the time. Wanted: nothing lost, nothing doubled, every pod gone within drainSeconds.",
        "",
        "| engine | scale-downs | evictions | pieces of work | lost | finished twice | WorkLeftBehind events "
        "| s to leave: median / p95 / max of pods | drainSeconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(engine, found) for engine, found in measured.items()),
        "",
        "![seconds that pods took to leave](drains.svg)",
    ]


def measure(engine: str, scale_downs: int, evictions: int) -> Drained:
    """Let workers of one engine leave, and count what became of the work."""
    order = random.Random(SEED)
    with (
        namespace() as cluster,
        Pods(cluster, WORKERS) as pods,
        Events(cluster, "WorkLeftBehind") as told,
    ):
        load = under_load(cluster, engine, MOST_WORKERS)
        for what, size in operations(order, scale_downs, evictions):
            if what == "evict":
                evict(load, order.choice(sorted(load.workers())))
            else:
                kubectl("scale", f"wc/{NAME}", f"--replicas={size}", f"--namespace={cluster.name}")
            load.settled(size, seconds=SETTLED_SECONDS)
        counted = load.finish()
        lives = pods.lives
        print(engine, counted, *told.messages, flush=True)
        return Drained(
            asked=counted["asked"],
            lost=counted["asked"] - counted["done"],
            doubled=counted["doubled"],
            left_behind=len(told.messages),
            scale_downs=scale_downs,
            evictions=evictions,
            seconds=[life.gone - life.leaving for life in lives if life.gone and life.leaving],
            limit=loads.cluster(engine)["spec"]["drainSeconds"],
        )


def operations(order: random.Random, scale_downs: int, evictions: int) -> Iterator[tuple[str, int]]:
    """Yield what to do and the size after it: "down" and "evict" as often as asked, "up" where it is needed.

    A worker that is alone has nobody to hand its results to, so it stays.
    """
    kinds = ["down"] * scale_downs + ["evict"] * evictions
    order.shuffle(kinds)
    size = MOST_WORKERS
    for kind in kinds:
        if size == 1:
            size = MOST_WORKERS
            yield "up", size
        if kind == "down":
            size = order.randint(1, size - 1)
        yield kind, size
    if size < MOST_WORKERS:
        yield "up", MOST_WORKERS


def evict(load: loads.Load, name: str) -> None:
    """Evict a pod as soon as its disruption budget lets it go, and wait until it is gone."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    path = f"/api/v1/namespaces/{load.kubectl.namespace}/pods/{name}/eviction"

    def accepted() -> bool:
        try:
            load.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))
        except AssertionError as refused:
            if "disruption budget" not in str(refused):
                raise
            return False
        return True

    until(accepted, SETTLED_SECONDS, 1)
    until(lambda: name not in {*load.workers(), *load.leaving()}, SETTLED_SECONDS, 0.5)


def _row(engine: str, found: Drained) -> str:
    seconds = found.seconds
    figures = f"{statistics.median(seconds):.1f} / {percentile_95(seconds):.1f} / {max(seconds):.1f} of {len(seconds)}"
    return (
        f"| {engine} | {found.scale_downs} | {found.evictions} | {found.asked} | {found.lost} | {found.doubled} "
        f"| {found.left_behind} | {figures} | {found.limit} |"
    )
