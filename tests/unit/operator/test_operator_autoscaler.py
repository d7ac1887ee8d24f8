"""The autoscaler: whom it looks after, what it writes and when, what it keeps; against an API server in memory."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operating import NAMESPACE, STAMP, STATUS, Result, Twin, charts, cluster, conditions, group, job, owned, run

from trireme_operator import metrics
from trireme_operator.api import DELETION_COST, SCALER, Key, Object, key_of
from trireme_operator.autoscale import loop
from trireme_operator.autoscale.loop import Autoscaler
from trireme_operator.autoscale.sources import Unreadable
from trireme_operator.client import Refused
from trireme_operator.connection import ApiError
from trireme_operator.engines.demand import Demand
from trireme_operator.plan import cluster as cluster_plan
from trireme_operator.plan.scaling import Scaling
from trireme_operator.reconcile import Reconciler

NUMBERS = Key("WorkerCluster", NAMESPACE, "numbers")
UID = "uid-numbers"
UNREADABLE = Unreadable("NoAnswer", "dask does not answer within 2 s")
AT_ONCE: Object = {"scaleDown": {"stabilizationWindowSeconds": 0}}


@pytest.fixture(autouse=True)
def _time_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the autoscaler's time be that of the loop, in which nothing waits."""
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time()))


def sized(
    replicas: int = 1, least: int = 0, most: int = 10, name: str = "numbers", engine: str = "dask", **spec: Any
) -> Object:
    autoscaling = {"minReplicas": least, "maxReplicas": most, **spec.pop("autoscaling", {})}
    return cluster(engine, name, replicas=replicas, autoscaling=autoscaling, **spec)


def work(workers: int, least: int = 0, **costs: int) -> Demand:
    """Return the demand of as many tasks as workers, all of them waiting."""
    return Demand(workers, waiting=workers, running=0, slots=1, least=least, unit="tasks", costs=costs)


class Server(Twin):
    """An API server that lets clusters be scaled.

    Attributes:
        fails: what a call raises, by its verb.
    """

    def __init__(self, *items: Object, **options: Any) -> None:
        super().__init__(**options)
        self.fails: dict[str, BaseException] = {}
        for item in items:
            self.add(item)

    def add(self, item: Object) -> None:
        """Put a cluster, and what its chart makes, all of it ready."""
        self.put(item)
        if item["kind"] != "WorkerCluster":
            return
        metadata, values = item["metadata"], cluster_plan.values(item)
        for one in charts.render(item["spec"]["engine"], metadata["name"], NAMESPACE, values):
            if key_of(one) not in self.objects:
                self.put(owned(one, item))
        self.control()

    async def scale(self, key: Key, replicas: int) -> None:
        self._may("scale")
        if key in self.objects:
            self._resize(key, replicas, SCALER)
        self._wrote("scale", key)

    def _resize(self, key: Key, replicas: int, manager: str) -> None:
        item = self.objects[key]
        owner = {"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        metadata = {**item["metadata"], "managedFields": [owner]}
        self._save({**item, "metadata": metadata, "spec": {**item["spec"], "replicas": replicas}})

    def resize(self, replicas: int, manager: str) -> None:
        """Set a size as somebody else does."""
        self._resize(NUMBERS, replicas, manager)

    async def set_deletion_cost(self, namespace: str, pod: str, cost: int) -> None:
        self._may("cost")
        key = Key("Pod", namespace, pod)
        if key in self.objects:
            item = self.objects[key]
            self._save({**item, "metadata": {**item["metadata"], "annotations": {DELETION_COST: str(cost)}}})
        self._wrote("cost", key)

    async def record(self, event: Object) -> None:
        self._may("event")
        await super().record(event)

    def _may(self, verb: str) -> None:
        if verb in self.fails:
            raise self.fails[verb]

    def change(self, key: Key = NUMBERS, **spec: Any) -> None:
        """Change a spec as a user does; None removes a field."""
        item = self.objects[key]
        changed = {**item["spec"], **spec}
        self.put({**item, "spec": {name: value for name, value in changed.items() if value is not None}})

    def size(self, key: Key = NUMBERS) -> int:
        return int(self.objects[key]["spec"]["replicas"])

    def scaled(self) -> list[Key]:
        return [key for verb, key in self.writes if verb == "scale"]

    def told(self) -> list[str]:
        return [event["message"] for event in self.events if event["reason"] == "Scaled"]


class Work:
    """A source that says what it is told to, by a cluster's uid.

    Attributes:
        demands: what it says or raises.
        meanwhile: called while it is asked.
        takes: seconds until it answers.
        begins: set for news, by uid.
    """

    def __init__(self, demand: Demand | BaseException | None = None) -> None:
        self.demands: dict[str, Demand | BaseException] = {} if demand is None else {UID: demand}
        self.meanwhile: Callable[[], None] = lambda: None
        self.takes = 0.0
        self.begins: dict[str, asyncio.Event] = {}
        self.asked: list[str] = []
        self.forgotten: list[str] = []

    async def read(self, cluster: Object) -> Demand:
        uid = cluster["metadata"]["uid"]
        self.asked.append(uid)
        await asyncio.sleep(self.takes)
        self.meanwhile()
        said = self.demands.get(uid, work(0))
        if isinstance(said, BaseException):
            raise said
        return said

    async def news(self, cluster: Object, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.begins.setdefault(cluster["metadata"]["uid"], asyncio.Event()).wait()
        return self.begins.pop(cluster["metadata"]["uid"]).is_set()

    async def forget(self, cluster_uid: str) -> None:
        # To hang up takes more than one turn of the loop.
        for _ in range(5):
            await asyncio.sleep(0)
        self.forgotten.append(cluster_uid)


def kept(scaler: Autoscaler) -> set[str]:
    """Return the uids of all that an autoscaler keeps."""
    return {
        *scaler._said,
        *scaler._told,
        *scaler._history,
        *scaler._set,
        *scaler._contests,
        *scaler._rests,
        *scaler._tasks,
    }


class Operator:
    """An autoscaler and a reconciler at one API server."""

    def __init__(self, server: Server, source: Work) -> None:
        self.asks: list[tuple[float, Key]] = []
        self.server = server
        self.scaler = Autoscaler(server.store, server, source, self._ask, server.clock)

    def _ask(self, key: Key) -> None:
        self.asks.append((asyncio.get_running_loop().time(), key))

    async def reconcile(self, key: Key = NUMBERS) -> Object:
        """Reconcile, and return the status."""
        server = self.server
        await Reconciler(server.store, server, charts, server.clock, scaling=self.scaler.said).reconcile(key)
        found: Object = server.objects[key]["status"]
        return found

    async def look(self, key: Key = NUMBERS) -> None:
        found = self.server.store.get(key)
        assert found
        await self.scaler.look(found)


def operate(test: Callable[[Operator], Awaitable[Result]], server: Server, source: Work) -> tuple[Result, Operator]:
    """Run a test beside an autoscaler; nothing is kept in the end."""

    async def whole() -> tuple[Result, Operator]:
        operator = Operator(server, source)
        task = asyncio.create_task(operator.scaler.run())
        try:
            return await test(operator), operator
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert kept(operator.scaler) == set()

    return run(whole)


def scale(server: Server, source: Work, seconds: float = 1.5) -> Operator:
    """Let an autoscaler run for a time."""

    async def test(_: Operator) -> None:
        await asyncio.sleep(seconds)

    return operate(test, server, source)[1]


# Whom it looks after


def test_a_cluster_that_appears_is_followed() -> None:
    server, source = Server(), Work(work(4))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(5)
        assert source.asked == []
        server.add(sized())
        await asyncio.sleep(2)
        assert server.size() == 4
        assert len(source.asked) in (1, 2)
        await asyncio.sleep(10)
        # Once a second, from then on.
        assert len(source.asked) in (11, 12)

    operate(test, server, source)
    assert server.scaled() == [NUMBERS]


LEAVES: dict[str, Callable[[Server], None]] = {
    "is deleted": lambda server: server.remove(NUMBERS),
    "is being deleted": lambda server: server.put(
        {
            **server.objects[NUMBERS],
            "metadata": {**server.objects[NUMBERS]["metadata"], "deletionTimestamp": STAMP},
        }
    ),
    "is suspended": lambda server: server.change(suspend=True),
    "loses spec.autoscaling": lambda server: server.change(autoscaling=None),
}


@pytest.mark.parametrize("how", LEAVES)
def test_a_cluster_that_leaves_is_not_followed_any_more(how: str) -> None:
    server, source = Server(sized()), Work(work(4))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(3.5)
        assert kept(operator.scaler) == {UID}
        LEAVES[how](server)
        await asyncio.sleep(1.1)
        asked = len(source.asked)
        source.demands[UID] = work(9)
        await asyncio.sleep(60)
        assert len(source.asked) == asked
        assert kept(operator.scaler) == set()
        assert operator.scaler.said(sized()) is None

    operate(test, server, source)
    assert source.forgotten == [UID]
    assert server.scaled() == [NUMBERS]
    assert len(server.events) == 1


@pytest.mark.parametrize("how", LEAVES)
def test_nobody_looks_after_a_cluster_that_has_left_already(how: str) -> None:
    server, source = Server(sized()), Work(work(4))
    LEAVES[how](server)
    scale(server, source, 10)
    assert (source.asked, server.scaled()) == ([], [])


@pytest.mark.parametrize("how", LEAVES)
def test_a_cluster_that_leaves_while_it_is_asked_is_left_alone(how: str) -> None:
    server, source = Server(sized(5, autoscaling={"behavior": AT_ONCE})), Work(work(2))
    source.meanwhile = lambda: LEAVES[how](server) if len(source.asked) == 1 else None
    operator = scale(server, source, 0.5)
    assert source.asked == [UID]
    assert (server.scaled(), server.events, operator.asks) == ([], [], [])


def again(uid: str = "uid-second", **spec: Any) -> Object:
    item = sized(**spec)
    return {**item, "metadata": {**item["metadata"], "uid": uid}}


def test_a_cluster_that_is_made_again_is_another_one() -> None:
    server, source = Server(sized()), Work(work(4))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(3)
        server.remove(NUMBERS)
        server.add(again(replicas=6))
        source.demands["uid-second"] = work(2)
        await asyncio.sleep(3)
        assert kept(operator.scaler) == {"uid-second"}
        assert source.forgotten == [UID]
        # Once a second, by one of its own.
        assert source.asked.count("uid-second") == 3
        # Its history begins with it, and so does its window.
        assert server.size() == 6
        said = operator.scaler.said(again())
        assert said
        assert (said.desired, said.last_scale) == (6, None)
        await asyncio.sleep(30)
        assert server.size() == 2
        assert UID not in source.asked[5:]

    operate(test, server, source)


def test_nobody_follows_the_next_in_place_of_the_one_before() -> None:
    server, source = Server(sized()), Work(work(4))
    source.takes = 0.3

    async def test(operator: Operator) -> None:
        # Between two looks at who is there, the one before would be looked at next.
        await asyncio.sleep(2.2)
        server.remove(NUMBERS)
        server.add(again())
        await asyncio.sleep(0.7)
        assert "uid-second" not in source.asked
        await asyncio.sleep(0.5)
        assert source.asked == [UID, UID, "uid-second"]

    operate(test, server, source)


def test_what_was_asked_of_the_one_before_is_not_done_to_the_next() -> None:
    server, source = Server(sized()), Work(work(9))

    def replace_it() -> None:
        if source.asked == [UID]:
            server.remove(NUMBERS)
            server.add(again(replicas=1))

    source.meanwhile = replace_it
    operator = scale(server, source, 3)
    assert server.size() == 1
    assert server.scaled() == []
    assert {key for _, key in operator.asks} == {NUMBERS}


def test_a_cluster_that_is_paused_and_resumed_begins_anew() -> None:
    server, source = Server(sized(6)), Work(work(2))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(15)
        server.change(suspend=True)
        await asyncio.sleep(60)
        server.change(suspend=None)
        await asyncio.sleep(15)
        assert server.size() == 6
        await asyncio.sleep(10)
        assert server.size() == 2

    operate(test, server, source)


def test_a_pause_too_short_to_be_seen_changes_nothing() -> None:
    server, source = Server(sized(6)), Work(work(2))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(15.1)
        server.change(suspend=True)
        server.change(suspend=None)
        await asyncio.sleep(7)
        assert server.size() == 2

    operate(test, server, source)
    assert len(source.forgotten) == 1


# When nobody can be asked


def parts(kind: str, name: str) -> Key:
    return Key(kind, NAMESPACE, name)


CONTROL = {
    "dask": parts("Deployment", "numbers-scheduler"),
    "spark": parts("StatefulSet", "numbers-master"),
    "celery": parts("StatefulSet", "numbers-broker"),
}


@pytest.mark.parametrize("engine", CONTROL)
def test_an_engine_that_is_not_ready_is_not_asked(engine: str) -> None:
    server, source = Server(sized(3, engine=engine)), Work(work(9))
    item = server.objects[CONTROL[engine]]
    server.put({**item, "status": {"replicas": 1}})

    async def test(operator: Operator) -> None:
        await asyncio.sleep(3)
        assert source.asked == []
        said = operator.scaler.said(sized())
        assert said
        assert said.problem == ("ControlNotReady", f"{CONTROL[engine].name} is not ready yet")
        assert (said.desired, server.size()) == (None, 3)
        server.put({**item, "status": {"replicas": 1, "readyReplicas": 1}})
        await asyncio.sleep(2)
        assert server.size() == 9

    operate(test, server, source)


ELSEWHERE: Object = {"broker": {"url": "redis://elsewhere:6379"}}
MONITOR = parts("Deployment", "numbers-monitor")


@pytest.mark.parametrize(("engine", "values"), [*((engine, {}) for engine in CONTROL), ("celery", ELSEWHERE)])
def test_a_cluster_that_was_just_made_does_not_complain(engine: str, values: Object) -> None:
    """Not even when it is looked at between its objects."""
    server, source = Server(), Work(Unreadable("NoControlPod", "there is no Service: a broker elsewhere"))
    server.put(sized(engine=engine, values=values))

    async def test(operator: Operator) -> None:
        for verb, key in [("", NUMBERS), *steps]:
            if verb:
                server.objects[key] = made[key]
                server.store.put(made[key])
            await operator.look()
            status = await operator.reconcile() if not verb else None
            said = operator.scaler.said(sized())
            assert said
            assert said.problem
            assert said.problem[0] == "ControlNotReady"
            if status:
                assert conditions(status)["AutoscalingActive"]["reason"] == "ControlNotReady"
        assert source.asked == []

    whole = Server(sized(engine=engine, values=values))
    made = {key: {**item, "status": {}} for key, item in whole.objects.items() if key != NUMBERS}
    steps = [("apply", key) for key in made]
    operate_once(test, server, source)
    assert [event for event in server.events if event["type"] == "Warning"] == []


def operate_once(test: Callable[[Operator], Awaitable[None]], server: Server, source: Work) -> None:
    """Run a test with an autoscaler that looks only when it is told to."""

    async def whole() -> None:
        await test(Operator(server, source))

    run(whole)


def test_a_monitor_that_is_not_ready_is_not_asked() -> None:
    server, source = Server(sized(3, engine="celery", values=ELSEWHERE)), Work(work(9))
    assert CONTROL["celery"] not in server.objects
    item = server.objects[MONITOR]
    server.put({**item, "status": {"replicas": 1}})

    async def test(operator: Operator) -> None:
        await asyncio.sleep(3)
        assert source.asked == []
        said = operator.scaler.said(sized())
        assert said
        assert said.problem == ("ControlNotReady", "numbers-monitor is not ready yet")
        server.put({**item, "status": {"replicas": 1, "readyReplicas": 1}})
        await asyncio.sleep(2)
        assert server.size() == 9

    operate(test, server, source)


def test_a_broker_elsewhere_without_a_monitor_is_told() -> None:
    server = Server(sized(2, engine="celery", values={**ELSEWHERE, "monitor": {"demand": False}}))
    assert CONTROL["celery"] not in server.objects
    assert MONITOR not in server.objects
    source = Work(Unreadable("NoControlPod", "there is no Service numbers-broker: a broker elsewhere can't be asked"))

    async def test(operator: Operator) -> None:
        await operator.look()
        told = conditions(await operator.reconcile())["AutoscalingActive"]
        assert (told["status"], told["reason"]) == ("False", "NoControlPod")
        assert told["message"].endswith("a broker elsewhere can't be asked; the size is held")

    operate_once(test, server, source)
    assert source.asked == [UID]


def test_the_control_pod_of_an_earlier_namesake_is_not_asked() -> None:
    server, source = Server(sized()), Work(work(9))
    server.put(again())
    assert server.objects[CONTROL["dask"]]["metadata"]["ownerReferences"][0]["uid"] == UID
    operator = scale(server, source, 3)
    assert source.asked == []
    assert server.scaled() == []
    assert operator.asks


@pytest.mark.parametrize("size", [0, 1, 5, 10])
@pytest.mark.parametrize("seconds", [1, 29, 31, 4000])
def test_unknown_never_shrinks(size: int, seconds: int) -> None:
    server, source = Server(sized(size, autoscaling={"behavior": AT_ONCE})), Work(UNREADABLE)
    scale(server, source, seconds)
    assert (server.size(), server.scaled(), server.events) == (size, [], [])


def test_unknown_after_known_never_shrinks() -> None:
    server, source = Server(sized(1, autoscaling={"behavior": AT_ONCE})), Work(work(8))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(1.5)
        assert server.size() == 8
        source.demands[UID] = UNREADABLE
        await asyncio.sleep(4000)
        assert server.size() == 8
        assert operator.scaler.said(sized()) == Scaling(
            None, "", "demand unknown: 8 workers", (UNREADABLE.reason, str(UNREADABLE)), STAMP
        )

    operate(test, server, source)


def test_unknown_grows_to_the_least() -> None:
    server, source = Server(sized(1, least=3)), Work(UNREADABLE)
    scale(server, source)
    assert server.size() == 3
    assert server.told() == ["from 1 to 3 workers: demand unknown: 3 workers for minReplicas"]


STEP = st.sampled_from([None, 0, 1, 3, 7, 12])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10), st.lists(STEP, min_size=1, max_size=12), st.booleans())
def test_only_what_is_known_shrinks(size: int, steps: list[int | None], at_once: bool) -> None:
    server = Server(sized(size, autoscaling={"behavior": AT_ONCE if at_once else {}}))
    source = Work()

    async def test(operator: Operator) -> None:
        for step in steps:
            source.demands[UID] = UNREADABLE if step is None else work(step)
            before = server.size()
            await operator.look()
            after = server.size()
            if step is None:
                assert after == before
            elif after < before:
                assert at_once
                assert after == step
            await asyncio.sleep(1)

    operate_once(test, server, source)


# What it writes


def test_a_size_is_written_once_and_told_once() -> None:
    server, source = Server(sized(2)), Work(replace(work(5), waiting=10, running=4, slots=2))
    scale(server, source, 20)
    assert server.writes == [("scale", NUMBERS), ("event", key_of(server.events[0]))]
    (event,) = server.events
    assert (event["type"], event["reason"], event["involvedObject"]["uid"]) == ("Normal", "Scaled", UID)
    assert event["message"] == "from 2 to 5 workers: 10 tasks waiting and 4 running for 2 slots a worker: 5 workers"
    assert event["firstTimestamp"] == STAMP


def test_an_event_says_what_limited_the_size() -> None:
    server, source = Server(sized(2, most=4)), Work(work(9))
    scale(server, source)
    assert server.told() == [
        "from 2 to 4 workers: 9 tasks waiting and 0 running for 1 slot a worker: 9 workers, 4 for maxReplicas"
    ]


def test_a_size_set_by_hand_while_it_is_asked_is_what_is_decided_on() -> None:
    server, source = Server(sized(2)), Work(work(5))
    source.meanwhile = lambda: server.change(replicas=5) if len(source.asked) == 1 else None
    scale(server, source, 5)
    assert (server.size(), server.scaled(), server.events) == (5, [], [])


def test_a_size_set_by_hand_is_corrected_from_where_it_is() -> None:
    server, source = Server(sized(2)), Work(work(5))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(2.5)
        server.change(replicas=1)
        await asyncio.sleep(2)
        server.change(replicas=9)
        await asyncio.sleep(40)

    operate(test, server, source)
    assert server.size() == 5
    assert [told.partition(":")[0] for told in server.told()] == [
        "from 2 to 5 workers",
        "from 1 to 5 workers",
        "from 9 to 5 workers",
    ]


def test_without_a_size_a_cluster_has_one_worker() -> None:
    item = sized()
    del item["spec"]["replicas"]
    server, source = Server(item), Work(work(1))
    scale(server, source, 3)
    assert server.scaled() == []
    source.demands[UID] = work(3)
    scale(server, source)
    assert server.told()[0].startswith("from 1 to 3 workers")


@pytest.mark.parametrize("lag", [3, 9])
def test_a_size_that_no_watch_shows_yet_is_set_once(lag: int) -> None:
    pods = {"scaleUp": {"policies": [{"type": "Pods", "value": 3, "periodSeconds": 60}]}}
    server = Server(sized(2, autoscaling={"behavior": pods}), watches_lag=True)
    server.catch_up()
    source = Work(work(9))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(lag)
        assert server.scaled() == [NUMBERS]
        assert server.size() == 5
        assert len(server.events) == 1
        # Nor does it count twice.
        assert [change for _, change in operator.scaler._history[UID].changes] == [3]
        server.catch_up()
        await asyncio.sleep(62)
        assert server.size() == 8

    operate(test, server, source)
    assert [told.partition(":")[0] for told in server.told()] == ["from 2 to 5 workers", "from 5 to 8 workers"]


def test_a_size_that_is_never_seen_is_set_again() -> None:
    """As when somebody else takes it back at once."""
    server = Server(sized(2), watches_lag=True)
    server.catch_up()
    scale(server, Work(work(9)), 35)
    assert len(server.scaled()) == 4


def test_a_size_set_by_hand_counts_at_once_whatever_was_set_before() -> None:
    server, source = Server(sized(2)), Work(work(5))

    async def test(operator: Operator) -> None:
        await operator.look()
        server.change(replicas=3)
        await operator.look()

    operate_once(test, server, source)
    assert [told.partition(":")[0] for told in server.told()] == ["from 2 to 5 workers", "from 3 to 5 workers"]


FAILED = [
    ApiError(500, "etcdserver: request timed out"),
    ApiError(403, "forbidden"),
    Refused("WorkerCluster numbers", "no", for_good=False),
    aiohttp.ClientConnectionError("gone"),
    TimeoutError(),
]


@pytest.mark.parametrize("error", FAILED, ids=lambda error: f"{type(error).__name__}")
def test_a_size_that_cant_be_written_is_tried_again_and_no_change(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    pods = {"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 600}]}}
    server, source = Server(sized(2, autoscaling={"behavior": pods})), Work(work(2))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(1.5)
        history, said = operator.scaler._history[UID], operator.scaler.said(sized())
        source.demands[UID] = work(9)
        server.fails["scale"] = error
        await asyncio.sleep(30)
        assert operator.scaler._history[UID].changes == history.changes == ()
        assert operator.scaler.said(sized()) == said
        assert (server.size(), server.events) == (2, [])
        assert len([entry for entry in caplog.records if entry.message == "can't scale now"]) == 30
        del server.fails["scale"]
        await asyncio.sleep(1.5)
        # All that the policy allows: nothing was used up.
        assert server.size() == 4

    operate(test, server, source)


def test_an_event_that_cant_be_recorded_does_not_matter(caplog: pytest.LogCaptureFixture) -> None:
    server, source = Server(sized(2)), Work(work(5))
    server.fails["event"] = ApiError(403, "the namespace is being deleted")
    operator = scale(server, source, 3)
    assert server.size() == 5
    assert server.scaled() == [NUMBERS]
    assert len(operator.asks) == 1
    assert [entry.message for entry in caplog.records if entry.levelno >= logging.WARNING] == ["can't record an event"]


# Which workers go


def pod(name: str, cost: str | None = None, component: str = "worker", of: str = "numbers") -> Object:
    labels = {"app.kubernetes.io/instance": of, "app.kubernetes.io/component": component}
    notes = {} if cost is None else {"annotations": {DELETION_COST: cost}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels, **notes},
    }


PODS = [
    pod("a"),
    pod("b", "7"),
    pod("c", "3"),
    pod("d", "0"),
    pod("e"),
    pod("scheduler", component="scheduler"),
    pod("driver", component="driver"),
    pod("other", of="others"),
]
COSTS = {"a": 5, "b": 7, "c": 0, "other": 1, "gone": 1, "driver": 2}


def costs(server: Server) -> dict[str, str]:
    pods = [item for key, item in server.objects.items() if key.kind == "Pod"]
    return {
        item["metadata"]["name"]: item["metadata"]["annotations"][DELETION_COST]
        for item in pods
        if "annotations" in item["metadata"]
    }


def test_costs_are_written_before_the_size_and_only_where_they_differ() -> None:
    server = Server(sized(5, autoscaling={"behavior": AT_ONCE}), *PODS)
    scale(server, Work(work(3, **COSTS)), 5)
    assert [write for write in server.writes if write[0] != "event"] == [
        ("cost", parts("Pod", "a")),
        ("cost", parts("Pod", "c")),
        ("scale", NUMBERS),
    ]
    assert costs(server) == {"a": "5", "b": "7", "c": "0", "d": "0"}


@pytest.mark.parametrize("workers", [5, 6])
def test_costs_are_not_written_unless_it_shrinks(workers: int) -> None:
    server = Server(sized(5, autoscaling={"behavior": AT_ONCE}), *PODS)
    scale(server, Work(work(workers, **COSTS)), 5)
    assert "cost" not in [verb for verb, _ in server.writes]


def test_nor_while_shrinking_is_held_back() -> None:
    server = Server(sized(5), *PODS)
    scale(server, Work(work(3, **COSTS)), 15)
    assert server.writes == []


def test_a_cluster_does_not_shrink_before_the_costs_are_known() -> None:
    """It might be the wrong worker that goes."""
    server = Server(sized(5, autoscaling={"behavior": AT_ONCE}), *PODS)
    server.fails["cost"] = ApiError(403, "forbidden")
    source = Work(work(3, **COSTS))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(3)
        assert server.size() == 5
        del server.fails["cost"]
        await asyncio.sleep(1.5)
        assert server.size() == 3

    operate(test, server, source)


def chosen(server: Server, source: Work) -> None:
    """Choose who goes first, as for a size that somebody else has set."""

    async def test() -> None:
        found = server.store.get(NUMBERS)
        assert found
        await Operator(server, source).scaler.choose(found)

    run(test)


def test_who_goes_first_is_said_for_a_size_of_somebody_elses_too() -> None:
    server, source = Server(cluster(replicas=2), *PODS), Work(work(3, **COSTS))
    chosen(server, source)
    assert costs(server) == {"a": "5", "b": "7", "c": "0", "d": "0"}
    # Nothing is kept of who is not sized by its work.
    assert source.forgotten == [UID]


@pytest.mark.parametrize("fails", [UNREADABLE, ApiError(403, "forbidden")])
def test_a_size_of_somebody_elses_does_not_depend_on_it(fails: Exception) -> None:
    server, source = Server(cluster(replicas=2), *PODS), Work(work(3, **COSTS))
    if isinstance(fails, Unreadable):
        source.demands[UID] = fails
    else:
        server.fails["cost"] = fails
    chosen(server, source)
    assert costs(server) == {"b": "7", "c": "3", "d": "0"}
    assert source.forgotten == [UID]


def test_for_its_own_size_it_is_said_once() -> None:
    server = Server(sized(5, autoscaling={"behavior": AT_ONCE}), *PODS)
    source = Work(work(3, **COSTS))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(1.5)
        assert server.size() == 3
        asked = len(source.asked)
        for size, more in ((3, 0), (2, 1)):
            if server.size() != size:
                server.resize(size, "kubectl")
            found = server.store.get(NUMBERS)
            assert found
            await operator.scaler.choose(found)
            assert len(source.asked) == asked + more
        assert source.forgotten == []

    operate(test, server, source)


# Of a job


def test_a_jobs_own_cluster_keeps_the_size_that_it_is_given() -> None:
    template = {"engine": "dask", "replicas": 2, "autoscaling": {"maxReplicas": 9}}
    server, own = Server(job(clusterTemplate={"spec": template})), Key("WorkerCluster", NAMESPACE, "mean")
    source = Work()

    async def test(operator: Operator) -> None:
        # Its cluster is made, and ready; its driver starts, and stays for good.
        await reconcile(operator)
        server.control()
        for _ in range(3):
            await reconcile(operator)
        assert Key("Job", NAMESPACE, "mean-driver") in server.objects
        assert server.size(own) == 2
        source.demands[server.objects[own]["metadata"]["uid"]] = work(6)
        await asyncio.sleep(1.5)
        assert server.size(own) == 6
        for _ in range(3):
            await reconcile(operator)
        written = len(server.writes)
        await reconcile(operator)
        assert server.writes[written:] == []
        assert server.size(own) == 6

    async def reconcile(operator: Operator) -> None:
        for key in (Key("WorkerJob", NAMESPACE, "mean"), own):
            await operator.reconcile(key)

    operate(test, server, source)
    assert server.scaled() == [own]


# What it tells


def test_nothing_is_said_of_a_decision_before_there_is_one() -> None:
    operator = Operator(Server(sized(2, most=4)), Work(work(9)))
    status = run(operator.reconcile)
    assert "autoscaling" not in status
    told = conditions(status)["AutoscalingActive"]
    assert (told["status"], told["reason"]) == ("False", "Starting")


def test_what_was_decided_arrives_in_the_status() -> None:
    server, source = Server(sized(2, most=4)), Work(work(9))

    async def test(operator: Operator) -> None:
        await operator.reconcile()
        await asyncio.sleep(1.5)
        assert [key for _, key in operator.asks] == [NUMBERS]
        status = await operator.reconcile()
        STATUS["WorkerCluster"].validate(status)
        said = operator.scaler.said(sized())
        assert said
        assert status["autoscaling"] == {
            "desiredReplicas": 4,
            "demand": "9 tasks waiting, 0 running",
            "reason": "9 tasks waiting and 0 running for 1 slot a worker: 9 workers, 4 for maxReplicas",
            "lastScaleTime": STAMP,
        }
        assert status["autoscaling"]["reason"] == said.reason
        told = conditions(status)["AutoscalingActive"]
        assert (told["status"], told["reason"]) == ("True", "DemandKnown")
        source.demands[UID] = UNREADABLE
        await asyncio.sleep(1)
        before, status = status, await operator.reconcile()
        # What it last knew stays, and why it knows no more is a condition.
        assert status["autoscaling"] == before["autoscaling"]
        told = conditions(status)["AutoscalingActive"]
        assert (told["status"], told["reason"]) == ("False", "NoAnswer")
        assert told["message"] == "dask does not answer within 2 s; the size is held"

    operate(test, server, source)
    warnings = [event["reason"] for event in server.events if event["type"] == "Warning"]
    assert warnings == ["NoAnswer"]


def test_what_stays_the_same_is_told_once() -> None:
    server, source = Server(sized(4)), Work(work(4))
    operator = scale(server, source, 100)
    assert len(operator.asks) == 1


def test_words_alone_are_told_every_five_seconds() -> None:
    server, source = Server(sized(4)), Work()
    source.meanwhile = lambda: source.demands.update({UID: replace(work(4), waiting=len(source.asked))})
    operator = scale(server, source, 61.5)
    assert len(source.asked) > 60
    times = [time for time, _ in operator.asks]
    assert len(times) == 13
    assert all(later - time >= 5 for time, later in pairwise(times))


def test_the_last_words_are_told_though_nothing_changes_after_them() -> None:
    server, source = Server(sized(4)), Work(replace(work(4), waiting=9))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(1.5)
        source.demands[UID] = replace(work(4), waiting=3)
        await asyncio.sleep(10)
        assert len(operator.asks) == 2
        source.demands[UID] = replace(work(4), waiting=2)
        await asyncio.sleep(1.1)
        # Long enough after the last.
        assert len(operator.asks) == 3

    operate(test, server, source)


def test_words_that_change_and_change_back_are_not_told() -> None:
    server, source = Server(sized(4)), Work(work(4))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(1.5)
        source.demands[UID] = replace(work(4), waiting=3)
        await asyncio.sleep(1)
        source.demands[UID] = work(4)
        await asyncio.sleep(20)
        assert len(operator.asks) == 1

    operate(test, server, source)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (work(4), UNREADABLE),
        (UNREADABLE, work(4)),
        (UNREADABLE, Unreadable("BadAnswer", "dask answers what can't be: no")),
        (work(4), work(5)),
    ],
)
def test_what_matters_is_told_at_once(before: Demand | BaseException, after: Demand | BaseException) -> None:
    server, source = Server(sized(4)), Work(before)

    async def test(operator: Operator) -> None:
        await operator.look()
        source.demands[UID] = after
        await operator.look()
        assert len(operator.asks) == 2
        await operator.look()
        assert len(operator.asks) == 2

    operate_once(test, server, source)


def test_a_size_that_somebody_else_set_rightly_is_told_at_once() -> None:
    server, source = Server(sized(4)), Work(work(4))

    async def test(operator: Operator) -> None:
        await operator.look()
        source.demands[UID] = work(5)
        server.change(replicas=5)
        await operator.look()
        assert (len(operator.asks), server.scaled()) == (2, [])

    operate_once(test, server, source)


def test_a_problem_in_other_words_is_no_news() -> None:
    """A broken engine may say something else each time."""
    server, source = Server(sized(4)), Work()
    source.meanwhile = lambda: source.demands.update({UID: Unreadable("BadAnswer", f"no {len(source.asked)}")})
    operator = scale(server, source, 61.5)
    assert len(operator.asks) == 13


# What goes wrong


@pytest.mark.parametrize(
    "error",
    [
        KeyError("cores"),
        ZeroDivisionError(),
        RuntimeError("dictionary changed size during iteration"),
        AssertionError(),
        RecursionError(),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_one_cluster_is_logged_and_is_its_own(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    server, source = Server(sized(), sized(name="others")), Work(error)
    source.demands["uid-others"] = work(3)
    others = Key("WorkerCluster", NAMESPACE, "others")

    async def test(operator: Operator) -> None:
        await asyncio.sleep(3.5)
        assert server.size(others) == 3
        failed = [entry for entry in caplog.records if entry.message == "autoscaling failed"]
        assert len(failed) == 4
        assert all(entry.__dict__["object"] == str(NUMBERS) for entry in failed)
        assert all(entry.exc_info and entry.exc_info[1] is error for entry in failed)
        source.demands[UID] = work(2)
        source.demands["uid-others"] = work(5)
        await asyncio.sleep(1.5)
        assert (server.size(), server.size(others)) == (2, 5)

    operate(test, server, source)


def test_a_task_that_has_ended_is_begun_again() -> None:
    server, source = Server(sized()), Work(work(3))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(1.5)
        operator.scaler._tasks[UID].cancel()
        await asyncio.sleep(0)
        server.change(replicas=1)
        await asyncio.sleep(2)
        assert server.size() == 3
        assert kept(operator.scaler) == {UID}

    operate(test, server, source)


def test_the_end_of_the_autoscaler_is_the_end_of_all() -> None:
    names = [f"c-{number}" for number in range(5)]
    server, source = Server(*(sized(name=name) for name in names)), Work()

    async def test() -> None:
        operator = Operator(server, source)
        task = asyncio.create_task(operator.scaler.run())
        await asyncio.sleep(1.5)
        tasks = [*operator.scaler._tasks.values()]
        assert len(tasks) == 5
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all(one.done() for one in tasks)
        assert sorted(source.forgotten) == [f"uid-{name}" for name in names]
        assert kept(operator.scaler) == set()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(test)


# What another operator takes over


@pytest.mark.parametrize("size", [2, 7, 10])
def test_an_operator_that_starts_does_not_shrink_at_once(size: int) -> None:
    server, source = Server(sized(size)), Work(work(1))

    async def test(operator: Operator) -> None:
        for _ in range(4):
            # As long as it may take until the next crash.
            task = asyncio.create_task(Operator(server, source).scaler.run())
            await asyncio.sleep(18)
            task.cancel()
        assert (server.size(), server.scaled()) == (size, [])

    operate_once(test, server, source)
    scale(server, source, 22)
    assert server.size() == 1


def test_an_operator_that_starts_grows_at_once() -> None:
    server = Server(sized(2))
    scale(server, Work(work(9)), 0.5)
    assert server.size() == 9


def test_an_operator_that_starts_tells_what_was_told_until_it_knows_better() -> None:
    server, source = Server(sized(2)), Work(work(5))

    async def test(operator: Operator) -> None:
        await operator.look()
        before = await operator.reconcile()
        after = Operator(server, source)
        assert await after.reconcile() == before
        await after.look()
        # Nothing changed, and it still knows when the size last did.
        assert (await after.reconcile())["autoscaling"] == before["autoscaling"]

    operate_once(test, server, source)


# Whatever comes


NAMES = ["a", "b"]
DEMANDS = [work(0), work(3), work(30), UNREADABLE, KeyError("x")]
EVENTS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES), st.sampled_from(["on", "off", "suspended", "ending"])),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("again"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("demand"), st.sampled_from(NAMES), st.sampled_from(range(len(DEMANDS)))),
    st.tuples(st.just("fails"), st.sampled_from(["scale", "cost", "event"]), st.booleans()),
    st.tuples(st.just("end"), st.none(), st.none()),
    st.tuples(st.just("wait"), st.none(), st.sampled_from([0, 0.3, 1, 1.7, 40])),
)


class World:
    """Clusters that come and go, each time as others."""

    def __init__(self) -> None:
        self.server, self.source = Server(), Work()
        self.number = 0
        self.uids: dict[str, str] = {}

    def put(self, name: str, how: str) -> None:
        uid = self.uids.setdefault(name, f"uid-{name}-{self.number}")
        spec: Object = {"suspend": True} if how == "suspended" else {}
        item = sized(3, name=name, **spec)
        if how == "off":
            del item["spec"]["autoscaling"]
        ending = {"deletionTimestamp": STAMP} if how == "ending" else {}
        self.server.add({**item, "metadata": {**item["metadata"], "uid": uid, **ending}})

    def remove(self, name: str) -> None:
        self.server.remove(Key("WorkerCluster", NAMESPACE, name))
        self.uids.pop(name, None)
        self.number += 1

    async def do(self, operator: Operator, event: tuple[str, Any, Any]) -> None:
        match event:
            case ("put", name, how):
                self.put(name, how)
            case ("remove", name, _):
                self.remove(name)
            case ("again", name, _):
                self.remove(name)
                self.put(name, "on")
            case ("demand", name, number):
                if uid := self.uids.get(name):
                    self.source.demands[uid] = DEMANDS[number]
            case ("fails", verb, True):
                self.server.fails[verb] = ApiError(500, "no")
            case ("fails", verb, _):
                self.server.fails.pop(verb, None)
            case ("end", _, _):
                for task in [*operator.scaler._tasks.values()][:1]:
                    task.cancel()
            case ("wait", _, seconds):
                await asyncio.sleep(seconds)

    def followed(self) -> set[str]:
        return {
            item["metadata"]["uid"]
            for item in self.server.store.of_kind("WorkerCluster")
            if "autoscaling" in item["spec"]
            and not item["spec"].get("suspend")
            and "deletionTimestamp" not in item["metadata"]
        }


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(EVENTS, max_size=25))
def test_nothing_is_kept_of_what_is_gone(story: list[tuple[str, Any, Any]]) -> None:
    logging.disable(logging.CRITICAL)
    world = World()

    async def test(operator: Operator) -> None:
        for event in story:
            await world.do(operator, event)
        await asyncio.sleep(2.1)
        # All that are there are followed, and nobody else.
        assert operator.scaler._tasks.keys() == world.followed()
        assert kept(operator.scaler) == world.followed()
        asked = len(world.source.asked)
        # As long as the longest rest, and one look.
        await asyncio.sleep(16)
        assert set(world.source.asked[asked:]) == world.followed()
        for name in NAMES:
            world.remove(name)
        await asyncio.sleep(1.1)
        assert kept(operator.scaler) == set()
        assert set(world.source.asked) <= set(world.source.forgotten)

    try:
        operate(test, world.server, world.source)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("seconds", "size"), [(20, 0), (40, 8)])
def test_the_first_answer_after_a_long_silence_shrinks_nothing(seconds: int, size: int) -> None:
    """Nor does one after a short silence, if the window has not passed; here it has."""
    server, source = Server(sized(8)), Work(work(0))

    async def test(operator: Operator) -> None:
        await operator.look()
        source.demands[UID] = Unreadable("NoAnswer", "silence")
        await asyncio.sleep(15)
        await operator.look()
        source.demands[UID] = work(0)
        await operator.look()
        source.demands[UID] = Unreadable("NoAnswer", "silence")
        await asyncio.sleep(seconds)
        await operator.look()
        source.demands[UID] = work(0)
        await operator.look()
        assert server.size() == size

    operate_once(test, server, source)


# Idle for long


def test_a_cluster_that_is_idle_for_long_sleeps_until_there_is_work() -> None:
    server, source = Server(sized(4, least=2, autoscaling={"idleTimeoutSeconds": 600})), Work(work(0))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(45)
        assert server.size() == 2
        status = await operator.reconcile()
        # The server's clock stands still, and this was decided a while ago.
        assert status["autoscaling"]["nextScaleTime"] > STAMP
        await asyncio.sleep(550)
        assert server.size() == 2
        await asyncio.sleep(20)
        assert server.size() == 0
        assert "nextScaleTime" not in (await operator.reconcile())["autoscaling"]
        await asyncio.sleep(5000)
        assert server.size() == 0
        source.demands[UID] = work(1)
        await asyncio.sleep(20)
        assert server.size() == 2

    operate(test, server, source)
    assert [told.rpartition(", ")[2] for told in server.told()] == [
        "2 for minReplicas",
        "0 as idle for 600 s",
        "2 for minReplicas",
    ]


def test_work_that_no_size_could_be_written_for_was_work_all_the_same() -> None:
    server, source = Server(sized(2, least=2, autoscaling={"idleTimeoutSeconds": 60})), Work(work(0))

    async def test(operator: Operator) -> None:
        await operator.look()
        await asyncio.sleep(50)
        source.demands[UID] = work(5)
        server.fails["scale"] = ApiError(500, "no")
        with pytest.raises(ApiError):
            await operator.look()
        del server.fails["scale"]
        source.demands[UID] = work(0)
        await asyncio.sleep(20)
        await operator.look()
        assert server.size() == 2

    operate_once(test, server, source)


@pytest.mark.parametrize("size", [0, 2])
def test_a_long_time_in_which_nobody_looked_is_not_idle(size: int) -> None:
    server, source = Server(sized(2, least=2, autoscaling={"idleTimeoutSeconds": 60})), Work(work(0))

    async def test(operator: Operator) -> None:
        await operator.look()
        # Whoever can't be understood at all says nothing either.
        source.demands[UID] = KeyError("cores") if size else work(0)
        for _ in range(4):
            await asyncio.sleep(10)
            with suppress(KeyError):
                await operator.look()
        source.demands[UID] = work(0)
        await asyncio.sleep(20)
        await operator.look()
        assert server.size() == size

    operate_once(test, server, source)


def test_work_that_was_over_before_anybody_looked_was_work_all_the_same() -> None:
    server, source = Server(sized(2, least=2, autoscaling={"idleTimeoutSeconds": 60})), Work(work(0))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(40)
        source.begins[UID].set()
        await asyncio.sleep(55)
        assert server.size() == 2
        await asyncio.sleep(10)
        assert server.size() == 0

    operate(test, server, source)


# Two who drive one size

HPA = "kube-controller-manager"


def test_two_who_drive_one_size_are_told_once() -> None:
    server, source = Server(sized(5)), Work(work(5))

    async def test(operator: Operator) -> None:
        seen = []
        for _ in range(4):
            await asyncio.sleep(15)
            server.resize(3, HPA)
            await asyncio.sleep(2.5)
            assert server.size() == 5
            seen.append("ScalingContended" in conditions(await operator.reconcile()))
        # The first size set by somebody else is replaced as it was never ours; the second is lost, and so is the third.
        assert seen == [False, False, True, True]
        assert HPA in conditions(await operator.reconcile())["ScalingContended"]["message"]
        asked = len(operator.asks)
        await asyncio.sleep(301)
        assert "ScalingContended" not in conditions(await operator.reconcile())
        assert len(operator.asks) > asked

    operate(test, server, source)
    assert [event["reason"] for event in server.events if event["type"] == "Warning"] == ["TwoWriters"]


def test_one_size_set_by_hand_is_only_corrected() -> None:
    server, source = Server(sized(2)), Work(work(5))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(2)
        server.resize(9, "kubectl")
        # For a whole window it is not lowered.
        await asyncio.sleep(40)
        assert server.size() == 5
        assert "ScalingContended" not in conditions(await operator.reconcile())

    operate(test, server, source)


# One that only observes


def test_who_observes_writes_nothing_and_tells_all() -> None:
    server, source = Server(sized(2, autoscaling={"mode": "Observe"})), Work(work(5))

    async def test(operator: Operator) -> None:
        await asyncio.sleep(5)
        status = await operator.reconcile()
        assert status["autoscaling"]["desiredReplicas"] == 5
        told = conditions(status)["AutoscalingActive"]
        assert (told["status"], told["reason"]) == ("False", "Observing")
        assert gauged() == {"desired_replicas": 5, "replicas": 2, "demand_known": 1, "slots": 1}
        for size in (3, 4, 9, 3, 4, 9):
            server.resize(size, HPA)
            await asyncio.sleep(1)
        assert operator.scaler._history[UID].changes == ()
        assert "ScalingContended" not in conditions(await operator.reconcile())
        source.demands[UID] = UNREADABLE
        await asyncio.sleep(1.5)
        assert gauged() == {"replicas": 9, "demand_known": 0}

    operate(test, server, source)
    assert (server.scaled(), gauged()) == ([], {})


def gauged() -> dict[str, float]:
    """Return the metrics of the cluster; those of its work are left out."""
    lines = [line.split() for line in metrics.answer("/metrics", lambda: True, lambda: True)[1].decode().splitlines()]
    return {
        name.removeprefix("trireme_cluster_").partition("{")[0]: float(value)
        for name, *_, value in lines
        if name.startswith("trireme_cluster_")
        and "state=" not in name
        and 'engine="dask",group="",name="numbers"' in name
    }


# Groups


BIG = Key("WorkerGroup", NAMESPACE, "big")
BIG_UID = "uid-group-big"


def grouped(least: int = 0, most: int = 10, replicas: int = 1, **spec: Any) -> Object:
    return group(replicas=replicas, autoscaling={"minReplicas": least, "maxReplicas": most, **AUTO}, **spec)


AUTO: Object = {"behavior": AT_ONCE}


def serving(own: Object, *groups: Object) -> tuple[Server, Work, Operator]:
    """Return a server with a cluster and groups, all made and ready."""
    server, source = Server(own), Work()
    for one in groups:
        server.put(one)
    operator = Operator(server, source)
    asyncio.run(server.settle())
    return server, source, operator


def worker_pod(name: str, of_group: bool) -> Object:
    labels = {"app.kubernetes.io/instance": "numbers", "app.kubernetes.io/component": "worker"}
    if of_group:
        labels |= {"app.kubernetes.io/component": "group-worker", "trireme.dev/group": "big"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}}


async def look_at_big(operator: Operator) -> None:
    found = operator.scaler._seen(BIG)
    assert found
    await operator.scaler.look(found)


def test_a_group_is_sized_by_its_own_work_and_its_own_victims_are_marked() -> None:
    server, source, operator = serving(cluster(replicas=2), grouped(replicas=3))
    for name, of_group in (("g-1", True), ("g-2", True), ("w-1", False)):
        server.put(worker_pod(name, of_group))
    source.demands = {UID: work(9), BIG_UID: work(1, **{"g-1": 5, "w-1": 7})}

    async def test() -> None:
        for _ in range(3):
            await look_at_big(operator)
            await asyncio.sleep(1)

    run(test)
    assert server.size(BIG) == 1
    assert server.size() == 2
    assert set(server.scaled()) == {BIG}
    costs = {
        key.name: item["metadata"].get("annotations", {}).get(DELETION_COST)
        for key, item in server.objects.items()
        if key.kind == "Pod"
    }
    assert costs == {"g-1": "5", "g-2": None, "w-1": None}
    assert source.asked == [BIG_UID] * 3
    (event,) = [event for event in server.events if event["reason"] == "Scaled"]
    assert (event["involvedObject"]["kind"], event["involvedObject"]["name"]) == ("WorkerGroup", "big")
    status = asyncio.run(operator.reconcile(BIG))
    assert conditions(status)["AutoscalingActive"]["reason"] == "DemandKnown"
    assert status["autoscaling"]["desiredReplicas"] == 1


def test_a_group_waits_for_its_clusters_control_pod() -> None:
    server, _, operator = serving(cluster(), grouped())
    key = Key("Deployment", NAMESPACE, "numbers-scheduler")
    server.put({**server.objects[key], "status": {"readyReplicas": 0}})
    run(lambda: look_at_big(operator))
    said = operator.scaler.said(server.objects[BIG])
    assert said
    assert said.problem == ("ControlNotReady", "numbers-scheduler is not ready yet")
    assert server.size(BIG) == 1


@pytest.mark.parametrize(
    ("own", "big", "followed"),
    [
        (cluster(), grouped(), {BIG_UID}),
        (sized(), grouped(), {UID, BIG_UID}),
        (sized(), group(), {UID}),
        (cluster(suspend=True), grouped(), set()),
        (cluster(), grouped(suspend=True), set()),
        (cluster(name="other"), grouped(), set()),
        # What can't be is not sized.
        (cluster("spark"), grouped(), set()),
        (cluster(), grouped(celery={"queues": ["a"]}), set()),
    ],
)
def test_which_groups_are_looked_after(own: Object, big: Object, followed: set[str]) -> None:
    _, _, operator = serving(own, big)

    async def test() -> None:
        operator.scaler._begin_and_end()
        assert set(operator.scaler._tasks) == followed
        for task in operator.scaler._tasks.values():
            task.cancel()
        await asyncio.gather(*operator.scaler._tasks.values(), return_exceptions=True)

    run(test)


def test_a_group_is_left_alone_once_its_cluster_is_gone() -> None:
    server, source, operator = serving(cluster(), grouped())
    source.demands[BIG_UID] = work(5)
    source.meanwhile = lambda: server.store.remove(NUMBERS)
    run(lambda: look_at_big(operator))
    assert server.scaled() == []
