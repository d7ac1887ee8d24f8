"""Sizes clusters, and groups of their workers, by the work that waits for them: asks, decides, writes the size."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from trireme_operator import events, metrics
from trireme_operator.api import (
    DELETION_COST,
    WORKER_CLUSTER,
    WORKER_GROUP,
    Key,
    Object,
    cluster_name,
    is_group,
    key_of,
    owned_by,
)
from trireme_operator.autoscale import gauges
from trireme_operator.autoscale.decide import Decision, History, begin, decide, rules
from trireme_operator.autoscale.rest import ASK_SECONDS, Pause, held, pause
from trireme_operator.autoscale.sources import Unreadable
from trireme_operator.client import FAILURES
from trireme_operator.engines.demand import Demand
from trireme_operator.plan.cluster import control_key, monitor_key, worker_key, workers_among
from trireme_operator.plan.conditions import timestamp
from trireme_operator.plan.group import complete, unfit
from trireme_operator.plan.rivals import Contest, saw, wrote
from trireme_operator.plan.scaling import Scaling, is_on, next_scale, sets_size
from trireme_operator.store import Store

logger = logging.getLogger(__name__)

# What only changes in its wording is told less often: each time is a write.
_TELL_SECONDS = 5.0
_BLIND_SECONDS = 30.0
# For as long a size that was set counts though no watch shows it yet.
_SEEN_SECONDS = 10.0


class Asked(Protocol):
    """Where the demand comes from."""

    async def read(self, cluster: Object) -> Demand:
        """Return what a cluster's work asks for; raises Unreadable."""

    async def news(self, cluster: Object, seconds: float) -> bool:
        """Wait until something may have begun in an idle cluster, or for some seconds; tell whether it was that."""

    async def forget(self, cluster_uid: str) -> None:
        """Close what was kept for a cluster."""


class Scaler(Protocol):
    """What autoscaling asks of a client; every call may raise one of `FAILURES`."""

    async def scale(self, cluster: Key, replicas: int) -> None:
        """Set the size of a cluster, if it is there."""

    async def set_deletion_cost(self, namespace: str, pod: str, cost: int) -> None:
        """Say how dear a pod is, if it is there."""

    async def record(self, event: Object) -> None:
        """Record an event."""


@dataclass
class _Rest:
    """Whether something moves in a cluster; the times are seconds of the monotonic clock.

    Args:
        moved: when something last did.
        lost: since when the demand is unknown; None while it is known.
        objects: what was last seen of its own objects, as far as that counts.
        changed: set when they are not so any more.
    """

    moved: float
    lost: float | None = None
    objects: tuple[object, ...] = ()
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Autoscaler:
    """Looks after every cluster and group with spec.autoscaling, each in a task of its own.

    A group is looked after as if it were a cluster, with all that it takes from its own.

    Args:
        store: what was last seen of the cluster.
        client: to write sizes with.
        sources: tell the demand.
        ask: called with the key of a cluster that has something new to say in its status.
        clock: tells the time, with its zone.
    """

    def __init__(
        self,
        store: Store,
        client: Scaler,
        sources: Asked,
        ask: Callable[[Key], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._client = client
        self._sources = sources
        self._ask = ask
        self._clock = clock
        self._said: dict[str, Scaling] = {}
        self._told: dict[str, tuple[float, Scaling]] = {}
        self._history: dict[str, History] = {}
        self._known: dict[str, float] = {}
        # The cluster's generation before, the size, and the time.
        self._set: dict[str, tuple[int, int, float]] = {}
        self._contests: dict[str, Contest] = {}
        self._rests: dict[str, _Rest] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def said(self, cluster: Object) -> Scaling | None:
        """Return what was last decided about a cluster; None if nothing was since the start."""
        return self._said.get(cluster["metadata"]["uid"])

    async def choose(self, cluster: Object) -> None:
        """Say which workers may go first where somebody else has set a smaller size; that does not depend on it.

        Args:
            cluster: any WorkerCluster, with autoscaling or without, or a group with all it takes from its cluster.
        """
        uid = cluster["metadata"]["uid"]
        if uid in self._set and cluster["metadata"]["generation"] == self._set[uid][0] + 1:
            # The size is ours, and it was said before.
            return
        try:
            demand = await self._sources.read(cluster)
            await self._mark(cluster, demand.costs)
        except (Unreadable, *FAILURES) as error:
            logger.warning("any worker may go", extra={"object": str(key_of(cluster)), "error": str(error)})
        finally:
            if uid not in self._tasks:
                # Nobody asks it again soon.
                await self._sources.forget(uid)

    async def run(self) -> None:
        """Look after clusters until cancelled."""
        try:
            while True:
                self._begin_and_end()
                await asyncio.sleep(ASK_SECONDS)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self._tasks.clear()

    def _begin_and_end(self) -> None:
        found = (*self._store.of_kind(WORKER_CLUSTER.kind), *self._store.of_kind(WORKER_GROUP.kind))
        whole = [self._whole(item) for item in found if "autoscaling" in item["spec"]]
        clusters = {item["metadata"]["uid"]: item for item in whole if item and _on(item)}
        for uid, cluster in clusters.items():
            if uid not in self._tasks or self._tasks[uid].done():
                self._tasks[uid] = asyncio.create_task(self._follow(uid, key_of(cluster)))
            elif (rest := self._rests.get(uid)) and rest.objects != (objects := self._objects(cluster)):
                rest.objects = objects
                rest.changed.set()
        for uid in self._tasks.keys() - clusters.keys():
            self._tasks.pop(uid).cancel()

    def _seen(self, key: Key) -> Object | None:
        return self._whole(self._store.get(key))

    def _whole(self, item: Object | None) -> Object | None:
        """Return a cluster, or a group with all that it takes from its cluster; None if that is not there or unfit."""
        if item is None or not is_group(item):
            return item
        cluster = self._store.get(Key(WORKER_CLUSTER.kind, item["metadata"]["namespace"], cluster_name(item)))
        return None if cluster is None or unfit(item, cluster) else complete(item, cluster)

    def _objects(self, cluster: Object) -> tuple[object, ...]:
        """Return what may make it worth asking a cluster that rests; a thousand of them are compared each second."""
        controllers = (self._store.get(key(cluster)) for key in (control_key, monitor_key, worker_key))
        return (cluster["metadata"]["generation"], *(item.get("status") if item else None for item in controllers))

    async def _follow(self, uid: str, key: Key) -> None:
        begun = self._seen(key)
        rest = self._rests[uid] = _Rest(moved=time.monotonic(), objects=self._objects(begun) if begun else ())
        try:
            # Until cancelled, lest that came while it ended by itself and was closing what was kept.
            while True:
                cluster, wait = self._seen(key), Pause(ASK_SECONDS, listens=False)
                if rest.changed.is_set():
                    rest.moved = time.monotonic()
                    rest.changed.clear()
                try:
                    if cluster and cluster["metadata"]["uid"] == uid:
                        wait = await self.look(cluster)
                except FAILURES as error:
                    logger.warning("can't scale now", extra={"object": str(key), "error": str(error)})
                except Exception as error:
                    # Whatever it is, it is one cluster's, and may pass.
                    logger.exception("autoscaling failed", extra={"object": str(key), "error": str(error)})
                since = time.monotonic()
                if cluster and wait.seconds > ASK_SECONDS:
                    await self._rest(cluster, rest, wait)
                await asyncio.sleep(max(0.0, since + ASK_SECONDS - time.monotonic()))
        finally:
            kept = (self._said, self._told, self._history, self._known, self._set, self._contests, self._rests)
            for one in kept:
                one.pop(uid, None)
            if begun:
                gauges.forget(begun)
            await self._sources.forget(uid)

    async def _rest(self, cluster: Object, rest: _Rest, wait: Pause) -> None:
        """Ask nobody until something may have changed, or for as long as a pause says."""
        uid = cluster["metadata"]["uid"]
        waits: set[asyncio.Task[bool]] = {asyncio.create_task(rest.changed.wait())}
        news = asyncio.create_task(self._sources.news(cluster, wait.seconds)) if wait.listens else None
        if news:
            waits.add(news)
        try:
            # News come back by themselves in time, lest their connection is to be made anew each time.
            await asyncio.wait(
                waits, timeout=None if wait.listens else wait.seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in waits:
                task.cancel()
            await asyncio.wait(waits)
        now = time.monotonic()
        if any(not task.cancelled() and task.result() for task in waits):
            rest.moved = now
        if wait.listens:
            # As of the last time that somebody would have asked who does so all the time. Nor was that silence.
            self._history[uid] = held(self._history[uid], now - ASK_SECONDS)
            self._known[uid] = now
        if news and not news.cancelled() and news.result():
            # There may have been work, though it is over by the time that somebody looks.
            self._history[uid] = replace(self._history[uid], idle_since=None)

    async def look(self, cluster: Object) -> Pause:
        """Ask once, decide, and set the size if it is to change; return how long not to ask."""
        uid, key = cluster["metadata"]["uid"], key_of(cluster)
        demand, problem = None, None
        try:
            self._must_be_ready(cluster)
            demand = await self._sources.read(cluster)
        except Unreadable as unreadable:
            problem = (unreadable.reason, str(unreadable))
        # It may have changed, or gone, meanwhile.
        now, seen = time.monotonic(), self._seen(key)
        if seen is None or not _on(seen) or seen["metadata"]["uid"] != uid:
            return Pause(ASK_SECONDS, listens=False)
        cluster, current = seen, self._size(seen, now)
        history = self._history.get(uid) or begin(current, now)
        if demand:
            if now - self._known.get(uid, now) >= _BLIND_SECONDS:
                # What was seen before says nothing about now: hold, as after a start.
                history = replace(history, recommendations=begin(current, now).recommendations, idle_since=None)
            self._known[uid] = now
        decision = decide(rules(cluster["spec"]["autoscaling"]), current, demand, history, now)
        gauges.tell(cluster, demand, decision.replicas, current)
        # What was asked for, and since when nothing was, is so whether or not the size is written.
        self._history[uid] = replace(decision.history, changes=history.changes)
        writes = sets_size(cluster)
        contest = self._contests[uid] = saw(self._contests.get(uid, Contest()), cluster, now)
        last = None
        if writes and decision.replicas != current:
            if decision.replicas < current and demand:
                await self._mark(cluster, demand.costs)
            await self._client.scale(key, decision.replicas)
            direction = "down" if decision.replicas < current else "up"
            metrics.SCALINGS.labels(cluster["spec"]["engine"], direction).inc()
            self._set[uid] = cluster["metadata"]["generation"], decision.replicas, now
            self._contests[uid] = wrote(contest, cluster["metadata"]["generation"], decision.replicas)
            last = timestamp(self._clock())
        # Only now, so that a size that could not be written does not count as a change.
        if writes:
            self._history[uid] = decision.history
        self._say(cluster, decision, demand, problem, last)
        if last:
            await self._tell_event(cluster, current, decision, last)
        return self._pause(uid, demand, decision.again, last is not None, now)

    def _pause(self, uid: str, demand: Demand | None, again: float | None, was_set: bool, now: float) -> Pause:
        rest = self._rests.setdefault(uid, _Rest(moved=now))
        if demand is None or demand.waiting or demand.running or was_set:
            rest.moved = now
        if demand:
            rest.lost = None
        elif rest.lost is None:
            rest.lost = now
        return pause(now, rest.moved, rest.lost, again)

    def _size(self, cluster: Object, now: float) -> int:
        """Return the size of a cluster, as it was last set if that was not seen yet: no change counts twice."""
        generation, size, since = self._set.get(cluster["metadata"]["uid"], (None, 0, 0.0))
        if generation == cluster["metadata"]["generation"] and now - since < _SEEN_SECONDS:
            return size
        return int(cluster["spec"].get("replicas", 1))

    def _must_be_ready(self, cluster: Object) -> None:
        """Ask nobody who is just starting.

        Raises:
            Unreadable: the control pod is not ready.
        """
        key = control_key(cluster)
        name = Key(WORKER_CLUSTER.kind, key.namespace, cluster_name(cluster))
        asked = self._own(key, self._store.get(name))
        # Workers are made after their control pod: where they alone are there, it is elsewhere.
        if not asked and self._own(worker_key(cluster), cluster):
            key = monitor_key(cluster)
            asked = self._own(key, cluster)
            if not asked:
                # Whoever asks finds nobody.
                return
        if not (asked and asked.get("status", {}).get("readyReplicas")):
            raise Unreadable("ControlNotReady", f"{key.name} is not ready yet")

    def _own(self, key: Key, owner: Object | None) -> Object | None:
        found = self._store.get(key)
        return found if found and owner and owned_by(found, owner) else None

    async def _mark(self, cluster: Object, costs: Mapping[str, int]) -> None:
        """Say which pods may go: idle ones before those that have work."""
        namespace = cluster["metadata"]["namespace"]
        for pod in workers_among(self._store.pods(namespace, cluster_name(cluster)), cluster):
            cost = costs.get(pod["metadata"]["name"], 0)
            if pod["metadata"].get("annotations", {}).get(DELETION_COST, "0") != str(cost):
                await self._client.set_deletion_cost(namespace, pod["metadata"]["name"], cost)

    async def _tell_event(self, cluster: Object, current: int, decision: Decision, now: str) -> None:
        message = f"from {current} to {decision.replicas} workers: {decision.message}"
        logger.info("scaling", extra={"object": str(key_of(cluster)), "why": message})
        try:
            await self._client.record(events.event(cluster, "Scaled", message, "Normal", now))
        except FAILURES as error:
            logger.warning("can't record an event", extra={"error": str(error)})

    def _say(
        self,
        cluster: Object,
        decision: Decision,
        demand: Demand | None,
        problem: tuple[str, str] | None,
        last: str | None,
    ) -> None:
        uid, now = cluster["metadata"]["uid"], time.monotonic()
        before = self._said.get(uid)
        work = f"{demand.waiting} {demand.unit} waiting, {demand.running} running" if demand else ""
        if demand and demand.remark:
            work = f"{work}: {demand.remark}"
        said = Scaling(
            desired=decision.replicas if demand else None,
            demand=work,
            reason=decision.message,
            problem=problem,
            last_scale=last or (before.last_scale if before else None),
            next_scale=next_scale(decision.again, self._clock(), before.next_scale if before else None),
            rivals=self._contests[uid].rivals,
        )
        self._said[uid] = said
        since, told = self._told.get(uid, (0.0, None))
        changed = told is None or last or (told.desired, _reason(told)) != (said.desired, _reason(said))
        if changed or (said != told and now - since >= _TELL_SECONDS):
            self._told[uid] = now, said
            self._ask(key_of(cluster))


def _reason(scaling: Scaling) -> str:
    return scaling.problem[0] if scaling.problem else ""


def _on(cluster: Object) -> bool:
    return is_on(cluster) and "deletionTimestamp" not in cluster["metadata"]
