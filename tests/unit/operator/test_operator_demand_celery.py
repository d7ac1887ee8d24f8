"""What a broker's numbers are understood as."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trireme_operator.api import Object
from trireme_operator.engines.celery import demand, monitored, places
from trireme_operator.engines.demand import Demand, Nonsense

SEP = "\x06\x16"
TWO = {"processes": "2"}
reliably = settings(deadline=None, derandomize=True)


def asked(workers: int, waiting: int, running: int, least: int, slots: int = 1, **costs: int) -> Demand:
    return Demand(workers, waiting, running, slots, least, "tasks", costs)


# Where it is


@pytest.mark.parametrize(
    ("lists", "unacked"),
    [
        ([], "unacked"),
        (["celery"], "unacked"),
        (["celery", f"celery{SEP}3", f"celery{SEP}6"], "unacked"),
        # With a global key prefix, and by a name that has more than ASCII.
        (["x:Zoë"], "x:unacked"),
        ([str(number) for number in range(1000)], "unacked"),
    ],
)
def test_places_are_where_the_workers_say(lists: list[str], unacked: str) -> None:
    said = {"lists": json.dumps(lists), "unacked": unacked}
    assert places(said, {}) == (lists, unacked)
    # Whatever the spec says: their own configuration may say otherwise.
    assert places(said, {"queues": ["other"], "config": {"task_default_queue": "another"}}) == (lists, unacked)


@pytest.mark.parametrize(
    ("celery", "queues"),
    [
        ({}, ["celery"]),
        ({"app": "tasks:app", "config": {}}, ["celery"]),
        ({"queues": []}, ["celery"]),
        ({"queues": ["a"]}, ["a"]),
        ({"queues": ["a", "b c"]}, ["a", "b c"]),
        ({"config": {"task_default_queue": "mine"}}, ["mine"]),
        ({"config": {"task_default_queue": ""}}, ["celery"]),
        ({"config": {"task_default_queue": None}}, ["celery"]),
        ({"queues": ["a"], "config": {"task_default_queue": "mine"}}, ["a"]),
        # What no schema forbids there.
        ({"config": {"task_default_queue": 3}}, ["3"]),
    ],
)
def test_before_any_worker_ran_places_are_those_of_the_spec(celery: Object, queues: list[str]) -> None:
    lists, unacked = places({}, celery)
    assert unacked == "unacked"
    assert lists == [
        name for queue in queues for name in [queue, *(f"{queue}{SEP}{priority}" for priority in range(1, 10))]
    ]


def test_what_a_group_holds_is_apart_from_what_others_hold() -> None:
    lists, unacked = places({}, {"queues": ["a"]}, "big")
    assert (lists[0], unacked) == ("a", "unacked.big")
    assert places({"lists": "[]", "unacked": "x:unacked.big"}, {}, "big") == ([], "x:unacked.big")


def test_of_many_queues_the_first_are_looked_at() -> None:
    lists, _ = places({}, {"queues": [f"q{number}" for number in range(200)]})
    assert len(lists) == 1000
    assert lists[-1] == f"q99{SEP}9"


@pytest.mark.parametrize(
    "said",
    [
        {"lists": "[]"},
        {"unacked": "unacked"},
        {"other": "x"},
        {"lists": "", "unacked": "unacked"},
        {"lists": "[", "unacked": "unacked"},
        {"lists": "null", "unacked": "unacked"},
        {"lists": "{}", "unacked": "unacked"},
        {"lists": '"celery"', "unacked": "unacked"},
        {"lists": "[1]", "unacked": "unacked"},
        {"lists": '["a", null]', "unacked": "unacked"},
        {"lists": '[["a"]]', "unacked": "unacked"},
        {"lists": json.dumps(["a"] * 1001), "unacked": "unacked"},
        {"lists": "[" * 200_000, "unacked": "unacked"},
        {"lists": "9" * 5000, "unacked": "unacked"},
        {"lists": "x" * 10**6, "unacked": "unacked"},
    ],
    ids=lambda said: f"{said!r:.30}",
)
def test_places_that_make_no_sense(said: dict[str, str]) -> None:
    with pytest.raises(Nonsense, match=r"^trireme\.work") as problem:
        places(said, {})
    assert len(str(problem.value)) <= 200


# What it asks for


@pytest.mark.parametrize(
    ("lengths", "unacked", "active", "capacity", "expected"),
    [
        # Nothing to do.
        ([], 0, {}, {}, asked(0, 0, 0, 0)),
        ([0, 0], 0, {"a": "0", "b": None}, TWO, asked(0, 0, 0, 0, slots=2, a=0)),
        # Only waiting: nobody has to stay.
        ([1], 0, {}, TWO, asked(1, 1, 0, 0, slots=2)),
        ([2], 0, {}, TWO, asked(1, 2, 0, 0, slots=2)),
        ([3], 0, {}, TWO, asked(2, 3, 0, 0, slots=2)),
        ([1, 0, 2, 4], 0, {}, TWO, asked(4, 7, 0, 0, slots=2)),
        # Only running.
        ([0], 1, {"a": "1"}, TWO, asked(1, 0, 1, 1, slots=2, a=1)),
        ([0], 3, {"a": "2", "b": "1"}, TWO, asked(2, 0, 3, 2, slots=2, a=2, b=1)),
        # As many as have work have to stay, though fewer could do it.
        ([0], 3, {"a": "1", "b": "1", "c": "1"}, TWO, asked(2, 0, 3, 3, slots=2, a=1, b=1, c=1)),
        # Acknowledged early, tasks are with the workers alone.
        ([0], 0, {"a": "2", "b": "2"}, TWO, asked(2, 0, 4, 2, slots=2, a=2, b=2)),
        ([4], 1, {"a": "2", "b": "2"}, TWO, asked(4, 4, 4, 2, slots=2, a=2, b=2)),
        # Held by workers that say nothing, such as those that are gone: somebody has to give them back.
        ([0], 1, {}, TWO, asked(1, 0, 1, 1, slots=2)),
        ([0], 5, {"a": None}, TWO, asked(3, 0, 5, 3, slots=2)),
        # Held and not begun.
        ([1], 4, {"a": "2"}, TWO, asked(3, 1, 4, 2, slots=2, a=2)),
        ([10**9 - 1], 10**9 - 1, {}, {}, asked(2 * 10**9 - 2, 10**9 - 1, 10**9 - 1, 10**9 - 1)),
    ],
)
def test_what_it_asks_for(
    lengths: list[object],
    unacked: object,
    active: dict[str, object],
    capacity: dict[str, str],
    expected: Demand,
) -> None:
    assert demand(lengths, unacked, active, capacity) == expected


@pytest.mark.parametrize(
    ("processes", "slots"),
    [
        (None, 1),
        ("", 1),
        ("0", 1),
        ("1", 1),
        ("8", 8),
        ("-2", 1),
        ("1.5", 1),
        ("two", 1),
        ("²", 1),
        ("9" * 5000, 1),
    ],
    ids=lambda value: f"{value!r:.10}",
)
def test_slots_are_what_a_worker_offers(processes: str | None, slots: int) -> None:
    capacity = {"cores": "5"} if processes is None else {"processes": processes}
    assert demand([16], 0, {}, capacity) == asked(16 // slots, 16, 0, 0, slots=slots)
    if processes:
        assert demand([16], 0, {}, {"threads": processes}) == demand([16], 0, {}, capacity)


@pytest.mark.parametrize(
    "number", [None, -1, 10**9, 10**400, 1.0, True, "1", [], {}], ids=lambda number: f"{number!r:.9}"
)
def test_counts_that_cant_be(number: object) -> None:
    for lengths, unacked, name in (([1, number], 0, "length"), ([1], number, "unacked")):
        with pytest.raises(Nonsense, match=f"^{name} is "):
            demand(lengths, unacked, {}, {})


@pytest.mark.parametrize(
    "number",
    ["", "-1", "1.0", "x", "1 ", "1000000000", "9" * 11, "9" * 5000, "x" * 10**6, 1, 1.0, True, [], b"1"],
    ids=lambda number: f"{number!r:.9}",
)
def test_a_worker_that_says_what_cant_be(number: object) -> None:
    with pytest.raises(Nonsense, match=r"^(trireme\.)?active is ") as problem:
        demand([1], 0, {"a": "1", "b": number}, {})
    assert len(str(problem.value)) <= 200


COUNT = st.integers(0, 10**9 - 1)


@reliably
@given(
    st.lists(COUNT, max_size=9),
    COUNT,
    st.dictionaries(st.sampled_from("abcde"), st.none() | COUNT.map(str)),
    st.integers(1, 64),
)
def test_whatever_is_counted(lengths: list[int], unacked: int, active: dict[str, Any], slots: int) -> None:
    found = demand(lengths, unacked, active, {"processes": str(slots)})
    tasks = found.waiting + found.running
    assert found.waiting == sum(lengths)
    assert found.running >= unacked
    # Enough for all, and not one more.
    assert (found.workers - 1) * slots < tasks <= found.workers * slots
    assert found.is_nothing is (tasks == 0)
    assert (found.least == 0) is (found.running == 0)
    assert found.costs.keys() == {pod for pod, number in active.items() if number is not None}
    # A pod's deletion cost is an int32.
    assert all(0 <= cost < 2**31 for cost in found.costs.values())


# What a monitor tells


@pytest.mark.parametrize(
    ("waiting", "unacknowledged", "held", "expected"),
    [
        (0, 0, {}, asked(0, 0, 0, 0, 2)),
        (3, 0, {}, asked(2, 3, 0, 0, 2)),
        (3, 0, {"a": 2, "b": 0}, asked(3, 3, 2, 1, 2, a=2, b=0)),
        # A broker that knows better what is held: by workers that were killed, too.
        (0, 5, {"a": 1}, asked(3, 0, 5, 3, 2, a=1)),
        (0, 1, {"a": 1, "b": 1}, asked(1, 0, 2, 2, 2, a=1, b=1)),
        # Somebody else's workers.
        (0, 0, {"laptop": 4}, asked(0, 0, 0, 0, 2)),
    ],
)
def test_what_a_monitor_tells(waiting: int, unacknowledged: int, held: dict[str, int], expected: Demand) -> None:
    answer = {"waiting": waiting, "unacknowledged": unacknowledged, "held": held}
    assert monitored(answer, ["a", "b", "c"], TWO) == expected


@pytest.mark.parametrize("field", ["waiting", "unacknowledged", "held"])
@pytest.mark.parametrize("value", [None, -1, 10**9, 1.5, "1", [], {"a": -1}, {"a": "1"}, "absent"], ids=repr)
def test_a_monitor_that_tells_what_cant_be(field: str, value: object) -> None:
    answer = {"waiting": 0, "unacknowledged": 0, "held": {}, field: value}
    if value == "absent":
        del answer[field]
    with pytest.raises(Nonsense):
        monitored(answer, ["a"], {})


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text(max_size=2), below, max_size=2),
    max_leaves=3,
)


@reliably
@given(st.lists(ANYTHING, max_size=3), ANYTHING, st.dictionaries(st.text(max_size=3), ANYTHING, max_size=3))
def test_whatever_is_answered_is_counted_or_nonsense(
    lengths: list[object], unacked: object, active: dict[str, object]
) -> None:
    try:
        found = demand(lengths, unacked, active, {})
    except Nonsense:
        return
    assert all(isinstance(number, int) and number >= 0 for number in (found.workers, found.least, found.waiting))


@reliably
@given(ANYTHING | st.fixed_dictionaries({"waiting": ANYTHING, "unacknowledged": ANYTHING, "held": ANYTHING}))
def test_whatever_a_monitor_tells_is_counted_or_nonsense(answer: object) -> None:
    try:
        found = monitored(answer, ["a", ""], {})
    except Nonsense:
        return
    assert all(isinstance(number, int) and number >= 0 for number in (found.workers, found.least, found.waiting))


@reliably
@given(st.dictionaries(st.sampled_from(["lists", "unacked", "x"]), st.text(max_size=8)))
def test_whatever_is_written_is_places_or_nonsense(said: dict[str, str]) -> None:
    try:
        lists, unacked = places(said, {})
    except Nonsense:
        return
    assert all(isinstance(name, str) for name in [*lists, unacked])
