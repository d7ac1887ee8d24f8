"""Dask scheduler preload: a route that tells what the work asks for, at once or when that may have changed.

As a script, it starts a scheduler that has the route. Arguments: `dask scheduler`'s.
"""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

import dask
from dask.utils import parse_timedelta
from distributed import Scheduler
from distributed.cli import dask_scheduler
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.http.utils import RequestHandler
from distributed.metrics import monotonic
from distributed.scheduler import TaskPrefix, TaskState, WorkerState

# As many tasks, or kinds of them, are looked at in one place, so that an answer costs the same in any graph.
SAMPLE = 100
# Longer than anyone needs who asks again, and short enough for connections that nobody uses any more.
LONGEST_WAIT_SECONDS = 60.0
# A worker of any other status is on its way out.
STAYING = (Status.init, Status.running, Status.paused)

Kinds = Mapping[TaskPrefix, int]
# Names that the pods of a group's workers have before this and a hash.
WORKERS = "-worker-"
# The cluster's own workers, of no further group.
OWN = ""


class Offer(NamedTuple):
    """What one worker of a group offers.

    Args:
        threads: in which it runs tasks, at least 1.
        resources: amounts of Dask's abstract resources.
    """

    threads: int
    resources: Mapping[str, float]


# By group, the cluster's own workers first. None at all where there is no further group.
Groups = Mapping[str, Offer]


class Share(NamedTuple):
    """Tasks that a worker has for the group that is asked about.

    Args:
        begun: those that it executes.
        left: those that it has yet to begin.
        threads: that each of them keeps from others.
    """

    begun: int
    left: int
    threads: float


class News(SchedulerPlugin):
    """Notes when the newest worker came, and wakes those who wait for work to begin, or workers to come or go.

    One plugin for both: Dask calls each at every step of a task, if only to find that it has nothing to do.
    """

    def __init__(self) -> None:
        self.newest = -math.inf
        self._waiting: set[asyncio.Future[None]] = set()

    def expected(self) -> "asyncio.Future[None]":
        """Return what is done at the next news; it has to be given to `forget` in the end."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        return waiter

    def forget(self, waiter: "asyncio.Future[None]") -> None:
        """Wait for it no more."""
        self._waiting.discard(waiter)

    def update_graph(self, scheduler: Scheduler, **_: Any) -> None:
        """Tell it: who waits goes on when the tasks are where they belong. Dask calls this."""
        self._tell()

    def add_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Note and tell it: Dask calls this."""
        self.newest = monotonic()
        self._tell()

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Tell it: Dask calls this."""
        self._tell()

    async def close(self) -> None:
        """Have nobody wait for a scheduler that ends: Dask calls this."""
        self._tell()

    def _tell(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)


def demand(scheduler: Scheduler, newest: float, groups: Groups | None = None, asked: str = OWN) -> dict[str, Any]:
    """Return what there is to do, and who does it, for the workers of one group.

    A task is for the first group whose workers offer the resources that it asks for, the cluster's own before all; so
    is one that waits in another group's worker. One that runs counts where it does.

    Args:
        scheduler: the scheduler.
        newest: when the newest worker came.
        groups: what each group offers; none for a cluster of one.
        asked: the group asked about.

    The answer's fields:

    - group: the group asked about.
    - waiting: tasks that a thread could begin now. Not those that one more worker could not run, either.
    - executing: tasks that workers execute, seceded ones among them.
    - threads: as many as the work keeps busy for `distributed.adaptive.target-duration`, at least 1 if there is any.
    - stored: bytes of results in memory, copies included.
    - held: number of these results.
    - workers: those that are not leaving, by name. Actors count as processing, because they go down with the worker.
      Those that are paused have no threads: they begin nothing.
    """
    groups = groups or {}
    target = max(1e-3, parse_timedelta(dask.config.get("distributed.adaptive.target-duration")))
    # Tasks that ask for anything are never queued.
    queued = len(scheduler.queued) if asked == OWN else 0
    some = ends(scheduler.unrunnable)
    runnable = [ts for ts in some if whose(ts, groups) == asked and has_hope(scheduler, ts, newest, groups)]
    unrunnable = math.ceil(len(scheduler.unrunnable) * len(runnable) / len(some)) if some else 0
    threads = busy_threads(scheduler, target, queued, queued_kinds(scheduler))
    each = threads_each(runnable, groups.get(asked))
    threads += each * busy_threads(scheduler, target, unrunnable, Counter(ts.prefix for ts in runnable))
    waiting, executing, stored, held = queued + unrunnable, 0, 0, 0
    workers = {}
    for ws in scheduler.workers.values():
        share = share_of(ws, groups, asked)
        takes_work = ws.status in (Status.init, Status.running)
        # Others finish what they have begun, with threads that nobody else can use, and begin nothing.
        wanting = share.left + (share.begun if takes_work else 0)
        if wanting:
            threads += share.threads * busy_threads(scheduler, target, wanting, worker_kinds(scheduler, ws))
        waiting += share.left
        if group_of(ws, groups) != asked:
            continue
        executing += share.begun + len(ws.long_running)
        stored += ws.nbytes
        held += len(ws.has_what)
        if ws.status in STAYING:
            workers[str(ws.name)] = {
                "processing": len(ws.processing) + sum(ts not in ws.processing for ts in ws.actors),
                "threads": ws.nthreads if takes_work else 0,
                "stored": ws.nbytes,
                "limit": ws.memory_limit,
            }
    return {
        "group": asked,
        "waiting": waiting,
        "executing": executing,
        # Rounded first, because a sum of tenths may be a hair above a whole number.
        "threads": max(math.ceil(round(threads, 6)), min(1, waiting + executing)),
        "stored": stored,
        "held": held,
        "workers": workers,
    }


def group_of(ws: WorkerState, groups: Groups) -> str:
    """Return the group that a worker is of, by its name, which is its pod's."""
    found = str(ws.name).rpartition(WORKERS)[0]
    return found if found in groups else OWN


def whose(ts: TaskState, groups: Groups) -> str:
    """Return the first group that offers what a task asks for; the cluster's own workers if none does."""
    asks = ts.resource_restrictions or {}
    for name, offer in groups.items() if asks else ():
        if all(needed <= offer.resources.get(resource, 0) for resource, needed in asks.items()):
            return name
    return OWN


def threads_each(tasks: Iterable[TaskState], offer: Offer | None) -> float:
    """Return how many of a worker's threads each of some tasks takes: more than one where resources are out before."""
    taken = [
        max(needed / offer.resources[name] for name, needed in ts.resource_restrictions.items()) * offer.threads
        for ts in tasks
        if offer and ts.resource_restrictions and ts.resource_restrictions.keys() <= offer.resources.keys()
    ]
    return max(1.0, sum(taken) / len(taken)) if taken else 1.0


def share_of(ws: WorkerState, groups: Groups, asked: str) -> Share:
    """Return what a worker has to do for a group: of tasks that have not begun, those that are for it."""
    pooled = len(ws.processing) - len(ws.long_running)
    if not groups:
        # The scheduler is told late which of a worker's tasks run, but knows how many can.
        begun = min(pooled, ws.nthreads)
        return Share(begun, pooled - begun, 1.0)
    mine = group_of(ws, groups)
    some = [ts for ts in islice(ws.processing, SAMPLE) if ts not in ws.long_running]
    own = [ts for ts in some if whose(ts, groups) == mine]
    each = threads_each(own, groups.get(mine))
    number = round(pooled * len(own) / len(some)) if some else 0
    begun = min(number, max(1, int(ws.nthreads / each)))
    others_begun = min(pooled - number, max(0, ws.nthreads - begun))
    if asked == mine:
        # A task of others takes one thread, and those that wait here may be run elsewhere.
        together = begun + others_begun
        return Share(together, number - begun, (each * number + others_begun) / max(1, number + others_begun))
    fraction = sum(whose(ts, groups) == asked for ts in some) / max(1, len(some) - len(own))
    return Share(0, round((pooled - number - others_begun) * fraction), 1.0)


def busy_threads(scheduler: Scheduler, target: float, tasks: int, kinds: Kinds) -> float:
    """Return how many threads a number of tasks keeps busy for a target duration, where some are known by their kind.

    A task that takes that long or longer keeps one busy, whatever the others are; a shorter one a part.
    """
    known = sum(kinds.values())
    if not known:
        return 0.0
    parts = sum(number * min(1.0, duration(scheduler, kind) / target) for kind, number in kinds.items())
    return tasks * parts / known


def duration(scheduler: Scheduler, kind: TaskPrefix) -> float:
    """Return how many seconds a task of a kind takes, as the scheduler reckons; how it is asked differs by version."""
    if kind.duration_average >= 0:
        return kind.duration_average
    # None has ended yet.
    return 2 * kind.max_exec_time if kind.max_exec_time > 0 else scheduler.UNKNOWN_TASK_DURATION


def queued_kinds(scheduler: Scheduler) -> Kinds:
    """Count the queued tasks of the newest kinds, and of those that a sample of them has: of all, in most graphs."""
    kinds = {ts.prefix for ts in islice(scheduler.queued, SAMPLE)}
    kinds.update(islice(reversed(scheduler.task_prefixes.values()), SAMPLE))
    return {kind: kind.states["queued"] for kind in kinds}


def worker_kinds(scheduler: Scheduler, ws: WorkerState) -> Kinds:
    """Count a worker's tasks by kind, without those that have seceded."""
    return {scheduler.task_prefixes[name]: number for name, number in islice(ws.task_prefix_count.items(), SAMPLE)}


def ends(tasks: dict[TaskState, float]) -> list[TaskState]:
    """Return the oldest and the newest of some tasks, or all if they are few."""
    if len(tasks) <= SAMPLE:
        return list(tasks)
    return [*islice(tasks, SAMPLE // 2), *islice(reversed(tasks), SAMPLE // 2)]


def has_hope(scheduler: Scheduler, ts: TaskState, newest: float, groups: Groups) -> bool:
    """Whether one more worker like the others could run a task that has no worker."""
    if ts.loose_restrictions:
        return True
    if ts.worker_restrictions or ts.host_restrictions:
        # New workers have addresses of their own.
        return False
    if not ts.resource_restrictions:
        return True
    if any(
        all(needed <= offer.resources.get(name, 0) for name, needed in ts.resource_restrictions.items())
        for offer in groups.values()
    ):
        return True
    if not scheduler.workers:
        # What they would offer is not known, unless one has come since and left the task behind.
        return newest < scheduler.unrunnable[ts]
    return all(
        needed <= most(scheduler.resources.get(name, {}).values()) for name, needed in ts.resource_restrictions.items()
    )


def most(amounts: Iterable[float]) -> float:
    """Return the largest amount, or 0."""
    return max(amounts, default=0.0)


def read_groups(text: str) -> dict[str, Offer]:
    """Read what groups offer: `{NAME: {"threads": NUMBER, "resources": {NAME: AMOUNT}}}`, as JSON.

    Raises:
        ValueError: it is something else; the message says so to people.
    """
    try:
        return {
            name: Offer(max(1, int(said["threads"])), {key: float(value) for key, value in said["resources"].items()})
            for name, said in json.loads(text).items()
        }
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"groups is {text[:80]!r}, where what groups offer should be, as JSON") from error


def wait_seconds(text: str) -> float:
    """Read how long somebody would wait: a number of seconds, of which no more than the longest count.

    Raises:
        ValueError: it is none; the message says so to people.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise ValueError(f"wait is {text[:80]!r}, where a number of seconds should be: 0 or more")
    return min(seconds, LONGEST_WAIT_SECONDS)


class Demand(RequestHandler):  # type: ignore[misc, unused-ignore]
    """What the work asks for, as JSON: with `?wait=SECONDS` when there is some or other news, or after that time."""

    waiter: "asyncio.Future[None] | None" = None

    async def get(self) -> None:
        """Answer an autoscaler."""
        try:
            seconds = wait_seconds(self.get_query_argument("wait", "0"))
            groups = read_groups(self.get_query_argument("groups", "{}"))
        except ValueError as problem:
            self.set_status(400)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(str(problem))
            return
        asked = self.get_query_argument("group", OWN)
        found = self.demand(groups, asked)
        if seconds and not found["waiting"] and not found["executing"]:
            await self.news(seconds)
            found = self.demand(groups, asked)
        self.finish(found)

    def demand(self, groups: Groups, asked: str) -> dict[str, Any]:
        """Return the answer of this moment."""
        return demand(self.server, self.extra["news"].newest, groups, asked)

    async def news(self, seconds: float) -> None:
        """Wait for news, or until the client is gone."""
        news = self.extra["news"]
        self.waiter = news.expected()
        try:
            await asyncio.wait([self.waiter], timeout=seconds)
        finally:
            news.forget(self.waiter)

    def on_connection_close(self) -> None:
        """Wait no more for a client that is gone: Tornado calls this."""
        if self.waiter and not self.waiter.done():
            self.waiter.set_result(None)


async def dask_setup(scheduler: Scheduler) -> None:
    """Set up the scheduler as it starts: Dask calls this."""
    news = News()
    scheduler.add_plugin(news, name="trireme-demand")
    given = {"dask_server": scheduler, "extra": {"news": news}}
    scheduler.http_application.add_handlers(".*", [(r"/trireme/demand", Demand, given)])


def add_preload() -> None:
    """Have the scheduler load this file, after whatever the configuration preloads."""
    given = dask.config.get("distributed.scheduler.preload")
    preload = [given] if isinstance(given, str) else given
    argv = dask.config.get("distributed.scheduler.preload-argv")
    dask.config.set({"distributed.scheduler.preload": [*preload, __file__]})
    if argv and not isinstance(argv[0], str):
        dask.config.set({"distributed.scheduler.preload-argv": [*argv, []]})


if __name__ == "__main__":
    add_preload()
    dask_scheduler.main()
