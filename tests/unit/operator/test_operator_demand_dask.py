"""What Dask's answers are understood as."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trireme_operator.engines.dask import demand
from trireme_operator.engines.demand import Demand, Nonsense

MI = 2**20
CAPACITY = {"threads": "2", "memory": str(100 * MI)}
IDLE = {"processing": 0, "threads": 2, "stored": 0, "limit": 100 * MI}
BUSY = {**IDLE, "processing": 3}
PAUSED = {**IDLE, "threads": 0}
ANSWER: dict[str, Any] = {"waiting": 0, "executing": 0, "threads": 0, "stored": 0, "held": 0, "workers": {}}


def understood(capacity: dict[str, str] = CAPACITY, **answer: Any) -> Demand:
    return demand({**ANSWER, **answer}, capacity)


@pytest.mark.parametrize(
    ("answer", "workers", "least"),
    [
        ({}, 0, 0),
        ({"workers": {"a": IDLE}}, 0, 0),
        ({"waiting": 5, "threads": 5}, 3, 0),
        ({"waiting": 5, "threads": 1}, 1, 0),
        ({"waiting": 4, "executing": 2, "threads": 6, "workers": {"a": BUSY, "b": IDLE}}, 3, 1),
        # Short work on many workers: none is taken from it.
        ({"executing": 3, "threads": 1, "workers": {"a": BUSY, "b": BUSY, "c": BUSY}}, 3, 3),
        # 60 MiB each.
        ({"held": 1, "stored": 0}, 1, 1),
        ({"held": 1, "stored": 60 * MI}, 1, 1),
        ({"held": 1, "stored": 60 * MI + 1}, 2, 2),
        ({"held": 9, "stored": 600 * MI, "threads": 4, "workers": {"a": BUSY}}, 10, 10),
        ({"waiting": 2, "threads": 30, "held": 9, "stored": 600 * MI}, 15, 10),
        # The paused begin nothing; nor are they in the way of nothing.
        ({"waiting": 3, "threads": 3, "workers": {"a": PAUSED, "b": IDLE}}, 3, 0),
        ({"executing": 3, "threads": 3, "workers": {"a": PAUSED, "b": BUSY}}, 2, 1),
        ({"workers": {"a": PAUSED}}, 0, 0),
    ],
)
def test_workers(answer: dict[str, Any], workers: int, least: int) -> None:
    found = understood(**answer)
    assert (found.workers, found.least) == (workers, least)
    assert (found.waiting, found.running) == (answer.get("waiting", 0), answer.get("executing", 0))
    assert (found.unit, found.slots) == ("tasks", 2)


@pytest.mark.parametrize(
    ("answer", "workers", "least", "costs"),
    [
        ({"waiting": 9, "threads": 9}, 3, 0, {}),
        # Two busy processes of one pod keep one pod.
        ({"executing": 6, "threads": 6, "workers": {"a.0": BUSY, "a.1": BUSY}}, 2, 1, {"a": 6 << 20}),
        (
            {"executing": 3, "threads": 1, "workers": {"a.0": BUSY, "b.0": BUSY, "b.1": IDLE}},
            2,
            2,
            {"a": 3 << 20, "b": 3 << 20},
        ),
        # One that is paused is in the way of nothing while its pod has another.
        ({"waiting": 4, "threads": 4, "workers": {"a.0": PAUSED, "a.1": IDLE}}, 1, 0, {}),
        ({"waiting": 4, "threads": 4, "workers": {"a.0": PAUSED, "a.1": PAUSED}}, 2, 0, {}),
        # 120 MiB a pod.
        ({"held": 1, "stored": 120 * MI}, 1, 1, {}),
        ({"held": 1, "stored": 120 * MI + 1}, 2, 2, {}),
    ],
)
def test_processes_of_a_pod_count_together(
    answer: dict[str, Any], workers: int, least: int, costs: dict[str, int]
) -> None:
    found = understood({**CAPACITY, "processes": "2"}, **answer)
    assert (found.workers, found.least, found.slots) == (workers, least, 4)
    assert found.costs == costs


def test_nothing() -> None:
    assert understood(workers={"a": IDLE, "b": PAUSED}, more="fields").is_nothing


@pytest.mark.parametrize(
    ("capacity", "slots", "workers"),
    [
        ({}, 1, 9),
        ({"threads": "4"}, 4, 3),
        ({"threads": "0"}, 1, 9),
        ({"threads": "-4"}, 1, 9),
        ({"threads": "2.5"}, 1, 9),
        ({"threads": "many"}, 1, 9),
        ({"threads": ""}, 1, 9),
        ({"threads": "9" * 5000}, 1, 9),
        ({"threads": "9", "memory": "10485760"}, 9, 2),
        ({"threads": "9", "memory": "10Mi"}, 9, 1),
    ],
)
def test_capacity(capacity: dict[str, str], slots: int, workers: int) -> None:
    found = understood(capacity, waiting=9, threads=9, held=1, stored=10 * MI)
    assert (found.slots, found.workers) == (slots, workers)


def test_memory_is_the_workers_where_the_capacity_has_none() -> None:
    assert understood({"threads": "1"}, held=1, stored=61 * MI, workers={"a": IDLE}).least == 2
    assert understood({"threads": "1"}, held=1, stored=61 * MI, workers={"a": {**IDLE, "limit": 0}}).least == 1


def test_costs() -> None:
    ordered = [
        {"stored": 1},
        {"stored": 2 * MI},
        {"stored": 2**60 // 2},
        {"processing": 1},
        {"processing": 1, "stored": MI},
        {"processing": 1, "stored": 2**40},
        {"processing": 2},
        {"processing": 10**8},
    ]
    costs = understood(workers={str(i): {**IDLE, **worker} for i, worker in enumerate(ordered)}).costs
    found = [costs[str(i)] for i in range(len(ordered))]
    assert found == sorted(set(found))
    assert found[:2] == [1, 2]
    assert found[0] > 0
    assert found[-1] < 2**31
    most = {**IDLE, "processing": 10**9 - 1, "stored": 10**18 - 1}
    assert understood(workers={"a": most}).costs["a"] == 2**31 - 1
    assert understood(workers={"a": IDLE, "b": PAUSED}).costs == {}


@pytest.mark.parametrize("field", sorted(ANSWER))
@pytest.mark.parametrize("wrong", [None, -1, 1.0, 1.5, float("nan"), True, "1", [], 10**18])
def test_nonsense(field: str, wrong: Any) -> None:
    with pytest.raises(Nonsense, match=rf"^{field} is "):
        understood(**{field: wrong})
    with pytest.raises(Nonsense, match=rf"^{field} is None"):
        demand({key: value for key, value in ANSWER.items() if key != field}, CAPACITY)


@pytest.mark.parametrize("field", ["waiting", "executing", "threads", "held"])
def test_too_many(field: str) -> None:
    assert understood(**{field: 10**9 - 1})
    with pytest.raises(Nonsense, match=rf"^{field} is 1000000000"):
        understood(**{field: 10**9})


@pytest.mark.parametrize("field", sorted(IDLE))
@pytest.mark.parametrize("wrong", [None, -1, 1.5, False, "1", {}, 10**18])
def test_nonsense_about_a_worker(field: str, wrong: Any) -> None:
    answer = deepcopy({**ANSWER, "workers": {"a": BUSY, "numbers-worker-b": {**IDLE, field: wrong}}})
    with pytest.raises(Nonsense, match=rf"^workers\.numbers-worker-b\.{field} is "):
        demand(answer, CAPACITY)
    del answer["workers"]["numbers-worker-b"][field]
    with pytest.raises(Nonsense, match=rf"^workers\.numbers-worker-b\.{field} is None"):
        demand(answer, CAPACITY)


@pytest.mark.parametrize("answer", [None, [], "", 3, True])
def test_no_object(answer: Any) -> None:
    with pytest.raises(Nonsense):
        demand(answer, CAPACITY)
    with pytest.raises(Nonsense, match=r"^workers\.a\.processing is None"):
        understood(workers={"a": answer})


def test_message_is_short() -> None:
    with pytest.raises(Nonsense) as caught:
        understood(workers="x" * 10**6)
    assert len(str(caught.value)) <= 200


ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(ODD, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
NUMBER = st.integers(0, 10**18) | st.integers(0, 100)


def like(example: dict[str, Any], **more: Any) -> st.SearchStrategy[Any]:
    return JSON | st.fixed_dictionaries({key: more.get(key, NUMBER | ODD) for key in example})


def check(answer: Any, capacity: dict[str, str]) -> None:
    try:
        found = demand(answer, capacity)
    except Nonsense:
        return
    numbers = [found.workers, found.waiting, found.running, found.least]
    assert all(type(number) is int and number >= 0 for number in numbers)
    assert found.slots >= 1
    assert found.workers >= found.least
    assert all(isinstance(name, str) and 0 <= cost < 2**31 for name, cost in found.costs.items())


@given(like(ANSWER, workers=JSON | st.dictionaries(st.text(), like(IDLE))), st.dictionaries(st.text(), st.text()))
def test_anything(answer: Any, capacity: dict[str, str]) -> None:
    check(answer, capacity)


@given(
    st.fixed_dictionaries(
        {
            **{key: st.integers(0, 10**9 - 1) for key in ANSWER},
            "workers": st.dictionaries(st.text(), st.fixed_dictionaries({key: st.integers(0, 99) for key in IDLE})),
        }
    ),
    st.fixed_dictionaries({"threads": st.text(), "memory": st.integers(0, 10**12).map(str)}),
)
def test_any_possible_answer(answer: Any, capacity: dict[str, str]) -> None:
    check(answer, capacity)
    assert demand(answer, capacity)
