"""What a Spark master's answers ask for: real ones of Spark 4.3.0, recorded, and those that no master gives.

Its workers have 2 cores and 1000 MiB, its executors 2 cores and 470 MiB, unless a name says otherwise.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trireme_operator.api import Object
from trireme_operator.engines.adapter import Driver
from trireme_operator.engines.demand import Demand, Nonsense
from trireme_operator.engines.spark import SPARK, Limit, applications, demand, executor_limit

RECORDED = Path(__file__).parent / "recorded" / "spark"
PODS = {"127.0.0.11": "one", "127.0.0.12": "two", "127.0.0.13": "three"}
CAPACITY = {"cores": "2", "memory": str(1000 * 2**20)}


def answer(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


def pages(name: str) -> dict[str, str]:
    """Return the pages recorded with an answer, by the application's id."""
    found = [path.read_text() for path in RECORDED.glob(f"{name}.*.html")]
    return {re.findall(r"<strong>ID:</strong> (\S+)</li>", page)[0]: page for page in found}


def limits(name: str) -> dict[str, Limit]:
    return {key: executor_limit(page) for key, page in pages(name).items()}


def asked(workers: int, waiting: int, running: int, least: int, slots: int = 1, **costs: int) -> Demand:
    return Demand(workers, waiting, running, slots, least, "executors", costs)


# Real answers


@pytest.mark.parametrize("name", sorted({path.name.split(".")[0] for path in RECORDED.glob("*.json")}))
def test_the_pages_to_read_are_those_of_the_applications(name: str) -> None:
    assert sorted(applications(answer(name))) == sorted(pages(name))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing", asked(0, 0, 0, 0)),
        # A driver has come to a cluster without workers, and soon wants more.
        ("waiting", asked(1, 1, 0, 0)),
        ("waiting-more", asked(6, 6, 0, 0)),
        ("backlog", asked(6, 5, 1, 1, one=2)),
        ("backlog-two-workers", asked(7, 5, 2, 2, one=2, two=2)),
        # By spark.cores.max 2 executors, though it has use for 6.
        ("capped-waiting", asked(2, 2, 0, 0)),
        ("capped", asked(2, 1, 1, 1, one=2)),
        ("capped-full", asked(2, 0, 2, 2, one=2, two=2, three=0)),
        # Without dynamic allocation: nobody knows what it could use, or spark.cores.max tells.
        ("fixed", asked(3, 0, 3, 3, one=2, two=2, three=2)),
        ("fixed-capped", asked(5, 2, 3, 3, one=2, two=2, three=2)),
        ("two-apps", asked(3, 0, 3, 3, one=2, two=2, three=2)),
        ("fixed-and-waiting", asked(5, 2, 3, 3, one=2, two=2, three=2)),
        # Idle, then released; the application runs on.
        ("idle", asked(1, 0, 1, 1, one=2)),
        ("released", asked(0, 0, 0, 0, one=0)),
        # The master still counts the cores of these.
        ("decommissioned", asked(7, 6, 1, 1, one=2)),
        ("dead", asked(6, 5, 1, 1, one=2)),
        # After a restart the master has forgotten what was asked for, until the driver asks for something else.
        ("restarted", asked(0, 0, 0, 0)),
        # Executors of one core, by an application that is called like a limit.
        ("small", asked(3, 0, 4, 3, slots=2, one=1, two=1, three=2)),
        # Executors of 2000 MiB.
        ("too-large", asked(0, 2, 0, 0, one=0, two=0, three=0)),
    ],
)
def test_recorded_answers(name: str, expected: Demand) -> None:
    assert demand(answer(name), limits(name), PODS, CAPACITY) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("waiting-more", Limit(6, None, 0)),
        ("backlog", Limit(6, None, 2)),
        ("capped", Limit(6, 4, 2)),
        ("fixed", Limit(None, None, 2)),
        ("fixed-capped", Limit(None, 10, 2)),
        ("released", Limit(0, None, 0)),
        ("small", Limit(4, None, 1)),
    ],
)
def test_recorded_pages(name: str, expected: Limit) -> None:
    assert [*limits(name).values()] == [expected]


def test_a_master_that_recovers_does_not_know() -> None:
    with pytest.raises(Nonsense, match="status is 'RECOVERING'"):
        demand(answer("recovering"), limits("recovering"), PODS)
    assert demand({**answer("recovering"), "status": "ALIVE"}, limits("recovering"), PODS) == asked(3, 2, 1, 1, one=2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("waiting-more", asked(1, 1, 0, 0)),
        ("backlog", asked(1, 0, 1, 1, one=2)),
        ("fixed", asked(3, 0, 3, 3, one=2, two=2, three=2)),
        ("fixed-and-waiting", asked(4, 1, 3, 3, one=2, two=2, three=2)),
        ("released", asked(0, 0, 0, 0, one=0)),
        # Two executors share a worker.
        ("small", asked(3, 0, 2, 3, one=1, two=1, three=2)),
    ],
)
def test_without_a_page_an_application_asks_for_what_it_has_or_for_one(name: str, expected: Demand) -> None:
    assert demand(answer(name), {}, PODS, CAPACITY) == expected


def test_the_pods_of_some_addresses_may_not_be_known() -> None:
    found = demand(answer("fixed"), limits("fixed"), {"127.0.0.12": "two", "": "new", "10.0.0.9": "other"})
    assert found.costs == {"two": 2}


# The cores rule


def worker(cores: int, used: int = 0, memory: int = 8000, memory_used: int = 0, state: str = "ALIVE") -> Object:
    return {
        "host": "10.0.0.1",
        "cores": cores,
        "coresused": used,
        "memory": memory,
        "memoryused": memory_used,
        "state": state,
    }


def application(cores: int = 0, memory: int = 1000, state: str = "RUNNING", name: str = "app-1") -> Object:
    return {"id": name, "cores": cores, "memoryperexecutor": memory, "state": state}


def master(workers: list[Object], *apps: Object) -> Object:
    return {"status": "ALIVE", "workers": workers, "activeapps": [*apps]}


def numbers(found: Demand) -> tuple[int, int, int, int, int]:
    return found.workers, found.waiting, found.running, found.slots, found.least


@pytest.mark.parametrize(
    ("workers", "app", "limit", "expected"),
    [
        # An executor fills a worker until the application has one that does not.
        ([worker(4)], application(), Limit(6, None, 0), (6, 6, 0, 1, 0)),
        ([worker(4, 1)], application(1), Limit(6, None, 1), (2, 5, 1, 4, 1)),
        ([worker(4, 2)], application(2), Limit(6, None, 2), (3, 5, 1, 2, 1)),
        ([worker(4, 3)], application(3), Limit(6, None, 3), (6, 5, 1, 1, 1)),
        # The free cores of two workers are no core for one executor.
        ([worker(4, 3), worker(4, 3)], application(6), Limit(3, None, 3), (3, 1, 2, 1, 2)),
        # There is room for 3 beside the one that runs, and memory for 1.
        ([worker(4, 1)], application(1), Limit(4, None, 1), (1, 3, 1, 4, 1)),
        ([worker(4, 1, 2000, 1000)], application(1), Limit(4, None, 1), (2, 3, 1, 2, 1)),
        # Idle workers take what is asked for, before there have to be more.
        ([worker(4, 4), worker(4), worker(4)], application(4), Limit(3, None, 4), (3, 2, 1, 1, 1)),
        # New workers are like the largest.
        ([worker(1), worker(4), worker(16, state="DEAD")], application(), Limit(None, 16, 0), (4, 4, 0, 1, 0)),
        # Executors of an application that did not set their size take what a worker has free.
        ([worker(4, 4), worker(4, 3)], application(7), Limit(None, None, 4), (2, 0, 2, 1, 2)),
        # spark.cores.max: what does not fill an executor is of no use, except to one that is smaller than thought.
        ([worker(4, 4)], application(4), Limit(6, 11, 4), (2, 1, 1, 1, 1)),
        ([worker(4, 4)], application(4), Limit(1, 11, 4), (1, 0, 1, 1, 1)),
        ([worker(4)], application(), Limit(6, 2, 0), (1, 1, 0, 1, 0)),
        ([worker(4)], application(), Limit(0, 2, 0), (0, 0, 0, 1, 0)),
        # Without a limit at all it could use any number, so it keeps what it has.
        ([worker(4)], application(state="WAITING"), Limit(None, None, 0), (1, 1, 0, 1, 0)),
        ([worker(4, 4)], application(4), Limit(None, None, 4), (1, 0, 1, 1, 1)),
        # More than it asks for: they are about to go.
        ([worker(4, 4), worker(4, 4)], application(8), Limit(1, None, 4), (2, 0, 2, 1, 2)),
        # A worker holds something of an application that has just ended.
        ([worker(4, 4), worker(4)], None, None, (1, 0, 0, 1, 1)),
        # Executors that no worker has room for.
        ([worker(4, memory=999)], application(), Limit(6, None, 0), (0, 6, 0, 1, 0)),
        ([worker(4, 1), worker(4)], application(1), Limit(6, None, 5), (1, 5, 1, 1, 1)),
    ],
)
def test_workers_follow_from_the_size_of_executors(
    workers: list[Object], app: Object | None, limit: Limit | None, expected: tuple[int, ...]
) -> None:
    said = {} if limit is None else {"app-1": limit}
    assert numbers(demand(master(workers, *([app] if app else [])), said, {})) == expected


@pytest.mark.parametrize(
    ("first", "free", "memory", "expected"),
    [
        # All of them go where the first has an executor already.
        (Limit(1, None, 1), 3, 6000, (2, 1, 2, 2, 2)),
        (Limit(2, None, 1), 3, 6000, (2, 2, 2, 2, 2)),
        # The first leaves no two cores, or not the memory.
        (Limit(3, None, 1), 3, 6000, (3, 3, 2, 2, 2)),
        (Limit(2, None, 1), 3, 3000, (3, 2, 2, 1, 2)),
    ],
)
def test_applications_share_the_room_beside_others(
    first: Limit, free: int, memory: int, expected: tuple[int, ...]
) -> None:
    workers = [worker(1 + free, 1, memory, 1000), worker(2, 2, 2000, 2000)]
    apps = application(1, name="first"), application(2, 2000, name="second")
    said = {"first": first, "second": Limit(2, None, 2)}
    assert numbers(demand(master(workers, *apps), said, {})) == expected


@pytest.mark.parametrize(
    ("capacity", "expected"),
    [
        (CAPACITY, (4, 4, 0, 1, 0)),
        ({**CAPACITY, "cores": "4"}, (2, 2, 0, 1, 0)),
        # It would not fit.
        ({**CAPACITY, "memory": str(999 * 2**20)}, (0, 4, 0, 1, 0)),
        # Not known: an executor has a core at least.
        *((nothing, (6, 6, 0, 1, 0)) for nothing in (None, {}, {"cores": "x", "memory": "-1"}, {"cores": "9" * 5000})),
    ],
)
def test_while_there_is_no_worker_its_capacity_counts(
    capacity: dict[str, str] | None, expected: tuple[int, ...]
) -> None:
    app = application(state="WAITING")
    for workers in ([], [worker(1, state="DEAD")]):
        assert numbers(demand(master(workers, app), {"app-1": Limit(6, 8, 0)}, {}, capacity)) == expected


# Nonsense

ERROR_PAGE = """<html>
<head><title>Error 500 org.apache.spark.SparkException: Exception thrown in awaitResult</title></head>
<body><h2>HTTP ERROR 500</h2></body>
</html>
"""
NO_NUMBERS = [None, "2", 2.0, True, -1, 10**9, 10**30, [], {}]
NO_TEXTS = [None, "", 1, True, [], {"a": 1}]
NO_LISTS = [None, 1, "activeapps", {}, True]


def broken(change: Callable[[Any], Any]) -> Any:
    found = master([worker(2, 1), worker(2)], application(1))
    change(found)
    return found


@pytest.mark.parametrize("said", [None, 1, "x", True, [], {}, [{}], ERROR_PAGE])
def test_what_is_no_answer_is_nonsense(said: object) -> None:
    with pytest.raises(Nonsense, match="activeapps is"):
        applications(said)
    with pytest.raises(Nonsense, match="status is"):
        demand(said, {}, {})


@pytest.mark.parametrize(
    ("where", "name", "wrong"),
    [
        *(((), "status", wrong) for wrong in [*NO_TEXTS, "STANDBY", "RECOVERING", "COMPLETING_RECOVERY", "alive"]),
        *(((), name, wrong) for name in ("workers", "activeapps") for wrong in NO_LISTS),
        *(
            (("workers", 1), name, wrong)
            for name in ("cores", "coresused", "memory", "memoryused")
            for wrong in NO_NUMBERS
        ),
        *((("workers", 1), name, wrong) for name in ("host", "state") for wrong in NO_TEXTS),
        (("workers", 1), "state", "alive"),
        (("workers", 1), "coresused", 3),
        (("workers", 1), "memoryused", 8001),
        *((("activeapps", 0), name, wrong) for name in ("cores", "memoryperexecutor") for wrong in NO_NUMBERS),
        *((("activeapps", 0), name, wrong) for name in ("id", "state") for wrong in NO_TEXTS),
    ],
)
def test_a_field_that_makes_no_sense_is_named(where: tuple[str | int, ...], name: str, wrong: object) -> None:
    def part(said: Any) -> Any:
        for step in where:
            said = said[step]
        return said

    with pytest.raises(Nonsense, match=f"^{name} is "):
        demand(broken(lambda said: part(said).update({name: wrong})), {}, {})
    if wrong is None:
        with pytest.raises(Nonsense, match=f"^{name} is "):
            demand(broken(lambda said: part(said).pop(name)), {}, {})


@pytest.mark.parametrize("name", ["workers", "activeapps"])
@pytest.mark.parametrize("wrong", [None, 1, "x", []])
def test_an_entry_that_is_no_object_is_nonsense(name: str, wrong: object) -> None:
    with pytest.raises(Nonsense):
        demand(broken(lambda said: said[name].append(wrong)), {}, {})


@pytest.mark.parametrize("good", ["app-20261124141932-0000", "a", "A_b-9", "x" * 128])
def test_ids(good: str) -> None:
    assert applications({"activeapps": [application(name=good)]}) == [good]


@pytest.mark.parametrize("bad", ["", "x" * 129, "a b", "a/../b", "a&b", "a?b", "a#b", "a%20", "äpp", "app-1\n", "١"])
def test_ids_that_do_not_belong_into_an_address(bad: str) -> None:
    said = master([], application(name=bad))
    with pytest.raises(Nonsense, match=r"^id is "):
        applications(said)
    with pytest.raises(Nonsense, match=r"^id is "):
        demand(said, {}, {})


def test_a_page_without_an_application_is_nonsense() -> None:
    unknown = (RECORDED / "unknown.html").read_text()
    assert "No running application with ID" in unknown
    for page in (unknown, ERROR_PAGE, "", "Executor Limit: 6 (1 granted)", json.dumps(answer("backlog"))):
        with pytest.raises(Nonsense, match="Executor Limit is missing"):
            executor_limit(page)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("6\n", "-1\n", "Executor Limit"),
        ("6\n", "6.5\n", "Executor Limit"),
        ("6\n", "1000000000\n", "Executor Limit"),
        ("6\n", "9" * 5000 + "\n", "Executor Limit"),
        ("6\n", "٦\n", "Executor Limit"),
        ("6\n", "unlimited\n", "Executor Limit"),
        ("(1 granted)", "(-1 granted)", "Executor Limit"),
        ("(1 granted)", "(1000000000 granted)", "Executor Limit"),
        ("Unlimited (2 granted)", "", "Cores"),
        ("Unlimited (2 granted)", "-1 (2 granted, 2 left)", "Cores"),
        ("Unlimited (2 granted)", "4 (1000000000 granted, 2 left)", "Cores"),
        ("Unlimited (2 granted)", "1000000000 (2 granted, 2 left)", "Cores"),
    ],
)
def test_a_page_that_makes_no_sense_is_nonsense(old: str, new: str, named: str) -> None:
    (page,) = pages("backlog").values()
    assert page.count(old) == 1
    with pytest.raises(Nonsense, match=f"^{named} is "):
        executor_limit(page.replace(old, new))


def test_a_page_that_ends_early_is_nonsense_or_says_the_same() -> None:
    (page,) = pages("capped").values()
    whole, end = executor_limit(page), page.index("(1 granted)") + len("(1 granted)")
    for length in range(len(page)):
        if length < end:
            with pytest.raises(Nonsense):
                executor_limit(page[:length])
        else:
            assert executor_limit(page[:length]) == whole


# Anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["status", "workers", "activeapps", *worker(1), *application()]) | st.text(max_size=5),
            inner,
            max_size=8,
        )
    ),
    max_leaves=30,
)
NUMBER = st.integers(0, 64) | st.integers(0, 10**9 - 1)


@st.composite
def workers_of_masters(draw: st.DrawFn) -> Object:
    cores, memory = draw(NUMBER), draw(NUMBER)
    used = draw(st.sampled_from([0, cores]) | st.integers(0, cores))
    memory_used = draw(st.integers(0, memory))
    state = draw(st.sampled_from(["ALIVE", "ALIVE", "DEAD", "DECOMMISSIONED", "UNKNOWN"]))
    return {**worker(cores, used, memory, memory_used, state), "host": draw(st.sampled_from([*PODS, "10.0.0.9"]))}


APPLICATIONS = st.builds(
    application,
    cores=NUMBER,
    memory=NUMBER,
    state=st.sampled_from(["WAITING", "RUNNING", "HELD"]),
    name=st.sampled_from(["a", "b", "c", "d"]),
)
LIMITS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.builds(Limit, st.none() | NUMBER, st.none() | NUMBER, NUMBER)
)
CAPACITIES = st.none() | st.dictionaries(st.sampled_from(["cores", "memory"]), st.text(max_size=3) | NUMBER.map(str))


def check(found: Demand) -> None:
    assert all(type(number) is int and number >= 0 for number in numbers(found))
    assert found.slots >= 1
    assert found.least <= found.workers <= found.least + found.waiting
    assert found.costs.keys() <= {*PODS.values()}
    assert all(type(cost) is int and 0 <= cost < 2**31 for cost in found.costs.values())


@settings(max_examples=300, deadline=None)
@given(said=JSON)
def test_any_json_is_a_demand_or_nonsense(said: Any) -> None:
    with suppress(Nonsense):
        check(demand(said, {}, PODS))
    with suppress(Nonsense):
        assert all(re.fullmatch("[A-Za-z0-9_-]{1,128}", name) for name in applications(said))


@settings(max_examples=300, deadline=None)
@given(
    workers=st.lists(workers_of_masters(), max_size=5),
    apps=st.lists(APPLICATIONS, max_size=4),
    said=LIMITS,
    capacity=CAPACITIES,
)
def test_any_master_asks_for_something_possible(
    workers: list[Object], apps: list[Object], said: dict[str, Limit], capacity: dict[str, str] | None
) -> None:
    found = demand(master(workers, *apps), said, PODS, capacity)
    check(found)
    assert found.least == sum(one["state"] == "ALIVE" and one["coresused"] > 0 for one in workers)
    # Nothing is asked for that nobody waits for.
    if not apps:
        assert (found.workers, found.waiting, found.running) == (found.least, 0, 0)


@settings(max_examples=200, deadline=None)
@given(page=st.text(max_size=200), limit=st.integers(0, 10**10), granted=st.integers(0, 10**10))
def test_any_page_is_a_limit_or_nonsense(page: str, limit: int, granted: int) -> None:
    with pytest.raises(Nonsense):
        executor_limit(page)
    page += f"<strong>Executor Limit: </strong> {limit} ({granted} granted) <strong>Cores:</strong> {limit} (9 granted,"
    try:
        found = executor_limit(page)
    except Nonsense:
        assert max(limit, granted) >= 10**9
    else:
        assert found == Limit(limit, limit, -(-9 // granted) if granted else 0)


# The largest that an application may take by itself


@pytest.mark.parametrize(
    ("spec", "most"),
    [
        ({"replicas": 4}, 4),
        ({"replicas": 4, "autoscaling": {"maxReplicas": 10}}, 10),
        ({"replicas": 0, "autoscaling": {"minReplicas": 0, "maxReplicas": 7}}, 6),
        # A worker's at least.
        ({"replicas": 9, "autoscaling": {"maxReplicas": 1}}, 2),
        ({"autoscaling": {"maxReplicas": 5}}, 4),
        ({}, 2),
        # One executor's, where those are for a group's workers.
        ({"replicas": 4, "spark": {"executor": {"cores": 8}}}, 8),
        ({"replicas": 4, "spark": {"executor": {"cores": 1}}}, 4),
    ],
)
def test_half_of_the_largest_size_is_for_others(spec: Object, most: int) -> None:
    driver = Driver(container={}, cluster=spec, capacity=CAPACITY, properties={}, borrows=True)
    given = {variable["name"]: variable["value"] for variable in SPARK.driver_env(driver)}
    assert given["PYSPARK_SUBMIT_ARGS"] == f"--conf spark.cores.max={most} pyspark-shell"
