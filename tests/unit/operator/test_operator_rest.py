"""How seldom a cluster in which nothing moves is asked, and that nobody can tell by its sizes."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_operator_autoscaler import (
    AT_ONCE,
    CONTROL,
    NUMBERS,
    UID,
    UNREADABLE,
    Operator,
    Server,
    Work,
    _time_of_the_loop,
    operate,
    parts,
    scale,
    sized,
    work,
)

from trireme_operator.api import Object
from trireme_operator.autoscale.decide import History, Rules, begin, decide, rules
from trireme_operator.autoscale.rest import Pause, held, pause
from trireme_operator.autoscale.sources import spark_seconds
from trireme_operator.engines.demand import Demand

__all__ = ["_time_of_the_loop"]

ASK, REST = Pause(1.0, listens=False), Pause(15.0, listens=True)


@pytest.mark.parametrize(
    ("moved", "lost", "again", "expected"),
    [
        (100.0, None, None, ASK),
        (95.1, None, None, ASK),
        (95.0, None, None, REST),
        (0.0, None, None, REST),
        # What is held back comes in time, but never within a second.
        (0.0, None, 7.5, Pause(7.5, listens=True)),
        (0.0, None, 0.0, Pause(1.0, listens=True)),
        (0.0, None, 600.0, REST),
        (99.0, None, 7.5, ASK),
        # An engine that is away tells no news.
        (100.0, 100.0, None, ASK),
        (0.0, 70.1, None, ASK),
        (0.0, 70.0, None, Pause(5.0, listens=False)),
    ],
)
def test_pause(moved: float, lost: float | None, again: float | None, expected: Pause) -> None:
    assert pause(100.0, moved, lost, again) == expected


def test_what_was_recommended_last_holds_on() -> None:
    history = History(recommendations=((1.0, 3), (2.0, 5)), changes=((2.0, 2),))
    assert held(history, 9.0) == History(recommendations=((1.0, 3), (2.0, 5), (9.0, 5)), changes=((2.0, 2),))
    assert held(history, 2.0) == held(history, 1.5) == history
    assert held(History(), 9.0) == History()


def driver(phase: str | None) -> Object:
    return {"metadata": {"name": "mean-driver-1"}, "status": {"phase": phase} if phase else {}}


@pytest.mark.parametrize(
    ("phases", "seconds"),
    [
        ([], 3.0),
        (["Succeeded", "Failed"], 3.0),
        (["Running"], 1.0),
        (["Failed", "Pending"], 1.0),
        ([None], 1.0),
    ],
)
def test_a_spark_cluster_with_a_driver_is_asked_more_often(phases: list[str | None], seconds: float) -> None:
    assert spark_seconds([driver(phase) for phase in phases]) == seconds


# That nobody can tell

WORK = st.sampled_from([work(0), work(0), work(2), work(3, least=3), work(9), Demand(2, 0, 0, 1, 2, "tasks")])
POLICIES = [{"type": "Pods", "value": 2, "periodSeconds": 20}, {"type": "Percent", "value": 50, "periodSeconds": 7}]
DIRECTION = st.fixed_dictionaries(
    {"stabilizationWindowSeconds": st.sampled_from([0, 1, 4, 16, 30, 90])},
    optional={"policies": st.sampled_from([POLICIES[:1], POLICIES[1:], POLICIES])},
)
# What there is to do from some second on; the size that somebody sets, or None.
STORY = st.lists(st.tuples(st.integers(1, 40), WORK, st.sampled_from([None, None, None, 1, 8])), max_size=8)
TAIL = 60


def sizes(story: list[tuple[int, Demand, int | None]], by: Rules, rests: bool) -> list[int]:
    """Return the size at each second, by somebody who looks each second, or rests where the loop would."""
    changes, second = {}, 0
    for seconds, demand, hand in story:
        changes[second] = (demand, hand)
        second += seconds
    found, now_is, current = [], work(0), 4
    history, moved, due, resting = begin(current, 0.0), 0.0, 0.0, False
    for now in map(float, range(second + TAIL)):
        if int(now) in changes:
            now_is, hand = changes[int(now)]
            current = current if hand is None else hand
            if resting or hand is not None:
                due, moved = now, now
        if now >= due or not rests:
            if resting:
                history = held(history, now - 1)
            decision = decide(by, current, now_is, history, now)
            if now_is.waiting or now_is.running or decision.replicas != current:
                moved = now
            history, current = decision.history, decision.replicas
            wait = pause(now, moved, None, decision.again)
            due, resting = now + (wait.seconds if rests else 1.0), rests and wait.listens
        found.append(current)
    return found


@settings(max_examples=400, deadline=None, derandomize=True)
@given(STORY, DIRECTION, DIRECTION, st.integers(0, 2), st.sampled_from([None, 5, 25]))
@example([(6, work(0), 8), (40, Demand(2, 0, 0, 1, 2, "tasks"), None), (1, work(0), None)], {}, {}, 0, None)
def test_who_rests_sets_the_same_sizes(
    story: list[tuple[int, Demand, int | None]], up: Object, down: Object, least: int, idle: int | None
) -> None:
    autoscaling = {"minReplicas": least, "maxReplicas": 10, "behavior": {"scaleUp": up, "scaleDown": down}}
    by = rules(autoscaling if idle is None else {**autoscaling, "idleTimeoutSeconds": idle})
    assert sizes(story, by, rests=True) == sizes(story, by, rests=False)


# How seldom


def looks(source: Work) -> list[float]:
    """Note when a cluster is asked."""
    times: list[float] = []
    source.meanwhile = lambda: times.append(asyncio.get_running_loop().time())
    return times


def test_who_has_nothing_to_do_is_asked_seldom_and_costs_no_write() -> None:
    server, source = Server(sized(2, least=2)), Work(work(0))
    times = looks(source)
    operator = scale(server, source, 100)
    assert times == [0, 1, 2, 3, 4, 5, 20, 35, 50, 65, 80, 95]
    assert server.writes == []
    assert len(operator.asks) == 1


@pytest.mark.parametrize("demand", [work(2), Demand(2, 0, 3, 1, 2, "tasks")])
def test_who_has_something_to_do_is_asked_each_second(demand: Demand) -> None:
    source = Work(demand)
    times = looks(source)
    scale(Server(sized(2)), source, 60.5)
    assert times == [*range(61)]


def test_news_are_followed_up_at_once() -> None:
    server, source = Server(sized(0)), Work(work(0))
    times = looks(source)

    async def test(_: Operator) -> None:
        await asyncio.sleep(12.25)
        source.demands[UID] = work(3)
        source.begins[UID].set()
        await asyncio.sleep(0.25)
        assert server.size() == 3
        source.demands[UID] = work(0)
        await asyncio.sleep(15)

    operate(test, server, source)
    # And each second for some time after its size changed: engines tell late of what began.
    assert times[5:] == [5, 12.25, 13.25, 14.25, 15.25, 16.25, 17.25, 18.25]


def test_news_that_come_to_nothing_are_followed_up_as_well() -> None:
    """A task that was pushed may be with a worker by then, and counted nowhere yet."""
    server, source = Server(sized(0)), Work(work(0))
    times = looks(source)

    async def test(_: Operator) -> None:
        await asyncio.sleep(12.25)
        source.begins[UID].set()
        await asyncio.sleep(10)

    operate(test, server, source)
    assert times[5:] == [5, 12.25, 13.25, 14.25, 15.25, 16.25, 17.25]


def test_news_without_end_are_followed_up_once_a_second() -> None:
    server, source = Server(sized(0)), Work(work(0))
    times = looks(source)

    async def test(_: Operator) -> None:
        event = asyncio.Event()
        event.set()
        source.begins = {UID: event}
        source.news = lambda *_: asyncio.sleep(0, True)  # type: ignore[method-assign]
        await asyncio.sleep(60.5)

    operate(test, server, source)
    assert times == [*range(61)]


def test_where_no_news_can_be_had_each_second_is_asked() -> None:
    server, source = Server(sized(0)), Work(work(0))
    times = looks(source)

    async def test(_: Operator) -> None:
        source.news = lambda *_: asyncio.sleep(0, False)  # type: ignore[method-assign]
        await asyncio.sleep(60.5)

    operate(test, server, source)
    assert times == [*range(61)]


def shows(server: Server, name: str, ready: int) -> None:
    item = server.objects[parts("Deployment", name)]
    server.put({**item, "status": {**item["status"], "readyReplicas": ready}})


CHANGES: dict[str, Callable[[Server], None]] = {
    "its spec": lambda server: server.change(autoscaling={"minReplicas": 3, "maxReplicas": 9}),
    "its size": lambda server: server.change(replicas=5),
    "a worker": lambda server: shows(server, "numbers-worker", 1),
    "the scheduler": lambda server: shows(server, "numbers-scheduler", 0),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_about_a_cluster_ends_its_rest(what: str) -> None:
    server, source = Server(sized(2, least=2)), Work(work(0))
    times = looks(source)

    async def test(operator: Operator) -> None:
        await asyncio.sleep(22.25)
        assert times[-1] == 20
        CHANGES[what](server)
        await asyncio.sleep(1)
        said = operator.scaler.said(sized())
        assert said
        assert (times[-1] == 23) == (said.problem is None)
        assert (said.problem is not None) == (what == "the scheduler")

    operate(test, server, source)


def test_nothing_else_ends_it() -> None:
    server, source = Server(sized(2, least=2)), Work(work(0))
    times = looks(source)

    async def test(_: Operator) -> None:
        await asyncio.sleep(22.25)
        item = server.objects[NUMBERS]
        server.put({**item, "status": {"replicas": 2}})
        await asyncio.sleep(10)

    operate(test, server, source)
    assert times[-1] == 20


def test_what_is_held_back_is_done_in_time() -> None:
    server, source = Server(sized(2)), Work(work(2))

    async def test(_: Operator) -> None:
        await asyncio.sleep(10.5)
        source.demands[UID] = work(0)
        # What was wanted at 10 s counts for 20.
        await asyncio.sleep(19)
        assert server.size() == 2
        await asyncio.sleep(1)
        assert server.size() == 0

    operate(test, server, source)
    assert len(source.asked) < 25


def test_a_rest_counts_as_if_it_was_asked_all_the_time() -> None:
    """Results that were held through a rest keep the size for a whole window after it."""
    server, source = Server(sized(2)), Work(Demand(2, 0, 0, 1, 2, "tasks"))

    async def test(_: Operator) -> None:
        await asyncio.sleep(60)
        source.demands[UID] = work(0)
        source.begins[UID].set()
        await asyncio.sleep(18.5)
        assert server.size() == 2
        await asyncio.sleep(1)
        assert server.size() == 0

    operate(test, server, source)


def test_a_rest_is_no_silence() -> None:
    """After 30 s without an answer everything is held for a window; a rest before that does not count."""
    behavior: Object = {"scaleDown": {"stabilizationWindowSeconds": 20}}
    server, source = Server(sized(2, autoscaling={"behavior": behavior})), Work(Demand(2, 0, 0, 1, 2, "tasks"))

    async def test(_: Operator) -> None:
        await asyncio.sleep(34)
        source.demands[UID] = UNREADABLE
        source.begins[UID].set()
        await asyncio.sleep(27.5)
        source.demands[UID] = work(0)
        await asyncio.sleep(1)
        assert server.size() == 0

    operate(test, server, source)


# When nobody answers


def test_an_engine_that_is_away_for_long_is_asked_seldom_and_found_again_soon() -> None:
    server, source = Server(sized(2, autoscaling={"behavior": AT_ONCE})), Work(UNREADABLE)
    times = looks(source)

    async def test(operator: Operator) -> None:
        await asyncio.sleep(56)
        source.demands[UID] = work(3)
        await asyncio.sleep(5)
        said = operator.scaler.said(sized())
        assert said
        assert (said.problem, server.size()) == (None, 3)
        source.demands[UID] = UNREADABLE
        await asyncio.sleep(3)

    operate(test, server, source)
    # What was away before does not count.
    assert times == [*range(31), 35, 40, 45, 50, 55, 60, 61, 62, 63]


def test_an_engine_that_comes_back_is_asked_as_soon_as_that_is_seen() -> None:
    server, source = Server(sized(3)), Work(work(9))
    item = server.objects[CONTROL["dask"]]
    server.put({**item, "status": {"replicas": 1}})

    async def test(_: Operator) -> None:
        await asyncio.sleep(61.25)
        assert source.asked == []
        server.put({**item, "status": {"replicas": 1, "readyReplicas": 1}})
        await asyncio.sleep(1)
        assert server.size() == 9

    operate(test, server, source)
