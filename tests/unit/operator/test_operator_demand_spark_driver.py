"""What Spark drivers are about to ask for: real answers of Spark 4.3.0, recorded, and those that no driver gives.

Executors have 2 cores. A recorded driver had less than a second to ask its master, unless a comment says otherwise; of
its environment only Spark's own properties are kept.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trireme_operator.api import Object
from trireme_operator.engines.demand import Nonsense
from trireme_operator.engines.spark import (
    Ahead,
    Allocation,
    Limit,
    ahead,
    allocation,
    executor_limit,
    executors_ahead,
    unheard,
)

RECORDED = Path(__file__).parent / "recorded" / "spark-driver"
NEEDED, TARGET, PRESENT = "numberMaxNeededExecutors", "numberTargetExecutors", "numberAllExecutors"
NO_NUMBERS = [None, "2", 2.0, True, -1, 10**9, 10**30, [], {}]


def answer(name: str, which: str) -> Any:
    return json.loads((RECORDED / name / f"{which}.json").read_text())


# Real answers


@pytest.mark.parametrize(
    ("name", "needed", "target", "present", "expected"),
    [
        # 5 tasks, and no executor for them.
        ("none", 3, 0, 0, 3),
        # Two tasks that have been there for seconds take all slots; 3 more can't begin.
        ("busy", 3, 0, 1, 3),
        # 6 tasks for an idle executor: 2 of them run, though the stage does not say so yet, for who knows how long.
        ("begun", 3, 0, 1, 0),
        # 60 tasks of 8 ms, a third of them done.
        ("short", 23, 0, 1, 1),
        # 40 tasks of 0.36 s: more than one executor does in a second, and less than keeps 19 busy. It has asked for 2
        # already.
        ("some", 19, 2, 1, 7),
        # By maxExecutors it has as many as it may have. For its 5 tasks it would have asked seconds ago.
        ("capped", 3, 1, 1, 0),
        # Its user has set schedulerBacklogTimeout to 30 s.
        ("patient", 3, 0, 0, 0),
    ],
)
def test_recorded_answers(name: str, needed: int, target: int, present: int, expected: int) -> None:
    found = allocation(answer(name, "metrics"))
    assert found
    assert found == Allocation(found.application, needed, target, present)
    assert found.is_behind == (target <= present)
    properties = dict(answer(name, "environment")["sparkProperties"])
    assert found.application == properties["spark.app.id"]
    assert executors_ahead(found, answer(name, "environment"), answer(name, "stages")) == expected


def test_a_driver_without_work_asks_for_nothing() -> None:
    found = allocation(answer("idle", "metrics"))
    assert found
    assert (found.needed, found.is_behind, found.at_least) == (0, False, 0)


def test_a_driver_without_dynamic_allocation_does_not_tell() -> None:
    assert allocation(answer("fixed", "metrics")) is None


@pytest.mark.parametrize(("name", "executors", "expected"), [("none", 3, 3), ("none", 0, 0), ("busy", 3, 3)])
def test_what_a_driver_is_about_to_ask_for_raises_its_limit(name: str, executors: int, expected: int) -> None:
    limit = executor_limit((RECORDED / name / "page.html").read_text())
    assert ahead(limit, executors).executors == expected


def test_a_limit_that_is_higher_stays() -> None:
    assert ahead(Limit(4, 8, 2), 3) == Limit(4, 8, 2)
    assert ahead(Limit(2, 8, 2), 3) == Limit(3, 8, 2)


def test_a_fixed_application_gets_what_it_has() -> None:
    assert ahead(Limit(None, 4, 2), 9) == Limit(None, 4, 2)


@pytest.mark.parametrize(
    ("limit", "told", "expected"),
    [
        (Limit(0, None, 0), {"app-1": Ahead(2, 2)}, ["app-1"]),
        (Limit(1, None, 0), {"app-1": Ahead(2, 2)}, ["app-1"]),
        (Limit(2, None, 0), {"app-1": Ahead(3, 2)}, []),
        # It has some: by the end of their tasks at the latest it asks again.
        (Limit(0, None, 1), {"app-1": Ahead(2, 2)}, []),
        # Without dynamic allocation nothing is asked for.
        (Limit(None, 4, 0), {"app-1": Ahead(2, 2)}, []),
        (Limit(0, None, 0), {"app-1": Ahead(), "app-2": Ahead(2, 2)}, []),
        (Limit(0, None, 0), {}, []),
    ],
)
def test_what_drivers_asked_for_and_their_master_does_not_know(
    limit: Limit, told: dict[str, Ahead], expected: list[str]
) -> None:
    assert unheard({"app-1": limit}, told) == expected


# The rules


def metrics(needed: Any = 3, target: Any = 1, present: Any = 1, application: str = "app-1") -> Object:
    said = {NEEDED: needed, TARGET: target, PRESENT: present}
    prefix = f"{application}.driver.ExecutorAllocationManager.executors"
    return {"gauges": {f"{prefix}.{name}": {"value": value} for name, value in said.items()}}


def environment(**properties: str) -> Object:
    given = {
        "spark.executor.cores": "1",
        **{f"spark.{name.replace('_', '.')}": properties[name] for name in properties},
    }
    return {"sparkProperties": [list(pair) for pair in given.items()]}


def stage(tasks: int, complete: int = 0, run: int = 0, second: float = 0) -> Object:
    return {
        "numTasks": tasks,
        "numCompleteTasks": complete,
        "executorRunTime": run,
        "submissionTime": f"2026-11-25T10:13:{second:06.3f}GMT",
    }


@pytest.mark.parametrize(
    ("needed", "target", "present", "behind", "at_least"),
    [
        (1, 0, 0, True, 1),
        (9, 0, 0, True, 1),
        (2, 1, 1, True, 1),
        (2, 0, 1, True, 0),
        # It has asked for some of them, and they are still to come: it goes on by itself.
        (3, 1, 0, False, 1),
        (9, 3, 2, False, 3),
        (0, 0, 0, False, 0),
        (1, 1, 0, False, 1),
        # It has asked for more than it has use for by now.
        (1, 5, 3, False, 1),
        (0, 5, 3, False, 0),
        # Idle ones are there.
        (1, 0, 1, False, 0),
        (1, 0, 5, False, 0),
        # A master that was restarted may have forgotten what it was asked for: its driver thinks that all is well.
        (6, 6, 0, False, 6),
    ],
)
def test_who_is_behind(needed: int, target: int, present: int, behind: bool, at_least: int) -> None:
    found = Allocation("app-1", needed, target, present)
    assert (found.is_behind, found.at_least) == (behind, at_least)


@pytest.mark.parametrize(
    ("stages", "present", "expected"),
    [
        # Nobody knows yet how long these take: if long, the driver asks itself.
        ([stage(9)], 1, 0),
        ([stage(9), stage(9, second=0.1)], 1, 1),
        # As none of the first has ended in 0.3 s, it is the others' turn in 2.7 s at the earliest.
        ([stage(9), stage(9, second=0.3)], 1, 12),
        # The first has kept the only slot for a second, and for less than one.
        ([stage(1), stage(1, second=1)], 1, 2),
        ([stage(1), stage(1, second=0.9)], 1, 1),
        ([stage(1), stage(4, second=59)], 1, 5),
        # One slot is free.
        ([stage(1), stage(4, second=59)], 2, 1),
        ([stage(2), stage(4, second=59)], 2, 6),
        # An executor said so between its heartbeats.
        ([stage(1, run=10_000), stage(1)], 1, 2),
        # Short ones: done within a second, within more than that, and all others wait as long.
        ([stage(50, 30, 1500)], 1, 1),
        ([stage(50, 10, 500)], 1, 2),
        ([stage(50, 10, 500), stage(3)], 1, 5),
        ([stage(50, 10, 500), stage(3)], 2, 5),
        ([stage(50, 10, 500), stage(3)], 3, 2),
        # Of no length at all, as far as milliseconds tell.
        ([stage(50, 10)], 1, 0),
        ([stage(50, 10), stage(9, second=5)], 1, 0),
        # Long ones, of which each is worth a slot.
        ([stage(9, 2, 100_000)], 1, 7),
        ([stage(9, 9, 100_000)], 1, 0),
        # Some were done twice.
        ([stage(9, 11, 100_000)], 1, 0),
        ([], 1, 0),
    ],
)
def test_tasks_count_as_far_as_they_keep_a_slot_busy_for_a_second(
    stages: list[Object], present: int, expected: int
) -> None:
    assert executors_ahead(Allocation("app-1", 100, 1, present), environment(), stages) == expected


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({}, 9),
        ({"executor_cores": "2"}, 5),
        ({"executor_cores": "4", "task_cpus": "2"}, 5),
        # As Spark says itself, this can't be.
        ({"executor_cores": "1", "task_cpus": "2"}, 9),
        ({"executor_cores": ""}, 9),
        ({"dynamicAllocation_maxExecutors": "4"}, 4),
        ({"dynamicAllocation_maxExecutors": "infinity"}, 9),
        ({"dynamicAllocation_maxExecutors": "2147483647"}, 9),
        ({"dynamicAllocation_schedulerBacklogTimeout": "1s"}, 9),
        ({"dynamicAllocation_schedulerBacklogTimeout": "1"}, 9),
        ({"dynamicAllocation_schedulerBacklogTimeout": "1m"}, 0),
        ({"dynamicAllocation_schedulerBacklogTimeout": "10s"}, 0),
    ],
)
def test_properties(properties: dict[str, str], expected: int) -> None:
    found = Allocation("app-1", 100, 1, 1)
    assert executors_ahead(found, environment(**properties), [stage(9, 1, 9000), stage(1, second=9)]) == expected


def test_never_more_than_are_needed() -> None:
    assert executors_ahead(Allocation("app-1", 2, 1, 1), environment(), [stage(90, 1, 9000)]) == 2


# Nonsense


@pytest.mark.parametrize("said", [None, 1, "x", True, [], {}, {"gauges": None}, {"gauges": []}, {"gauges": "x"}])
def test_what_are_no_metrics_is_nonsense(said: object) -> None:
    with pytest.raises(Nonsense, match=r"^gauges is "):
        allocation(said)


@pytest.mark.parametrize("wrong", NO_NUMBERS)
@pytest.mark.parametrize("name", ["needed", "target", "present"])
def test_a_gauge_that_makes_no_sense_is_nonsense(name: str, wrong: object) -> None:
    with pytest.raises(Nonsense, match=r"^value is "):
        allocation(metrics(**{name: wrong}))


@pytest.mark.parametrize("missing", [NEEDED, TARGET, PRESENT])
def test_a_gauge_that_is_missing_is_nonsense(missing: str) -> None:
    said = metrics()
    said["gauges"] = {name: value for name, value in said["gauges"].items() if not name.endswith(missing)}
    with pytest.raises(Nonsense, match=r"^value is None"):
        allocation(said)


@pytest.mark.parametrize("wrong", [None, 3, "x", [], [{"value": 1}]])
def test_a_gauge_that_is_none_is_nonsense(wrong: object) -> None:
    with pytest.raises(Nonsense, match=r"^value is "):
        allocation({"gauges": dict.fromkeys(metrics()["gauges"], wrong)})


@pytest.mark.parametrize("bad", ["", "a/../b", "a b", "a?b", "my.namespace", "x" * 129, "app-1\n"])
def test_an_application_that_does_not_belong_into_an_address_is_nonsense(bad: str) -> None:
    with pytest.raises(Nonsense, match=r"^id is "):
        allocation(metrics(application=bad))


FOUND = Allocation("app-1", 3, 1, 1)


@pytest.mark.parametrize("said", [None, 1, "x", [], {}, {"sparkProperties": None}, {"sparkProperties": {}}])
def test_what_is_no_environment_is_nonsense(said: object) -> None:
    with pytest.raises(Nonsense, match=r"^sparkProperties is "):
        executors_ahead(FOUND, said, [stage(9, 1, 9000)])


@pytest.mark.parametrize("pair", [None, 1, "ab", [], ["a"], ["a", 1], [[], "b"], ["a", "b", "c"], {"a": "b"}])
def test_what_is_no_property_is_none(pair: object) -> None:
    said = {"sparkProperties": [pair, *environment()["sparkProperties"]]}
    assert executors_ahead(FOUND, said, [stage(9, 1, 9000)]) == 3


@pytest.mark.parametrize("said", [None, 1, "x", {}, [None], [1], [[]]])
def test_what_are_no_stages_is_nonsense(said: object) -> None:
    with pytest.raises(Nonsense):
        executors_ahead(FOUND, environment(), said)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *((name, wrong) for name in ("numTasks", "numCompleteTasks", "executorRunTime") for wrong in NO_NUMBERS),
        *(("submissionTime", wrong) for wrong in [None, 1, "", "x", "2026-11-25", "2026-11-25T10:13:00.000+01:00", []]),
        ("submissionTime", "2026-13-25T10:13:00.000GMT"),
        ("submissionTime", "٢٠٢٦" * 1000),
    ],
)
def test_a_field_that_makes_no_sense_is_named(name: str, wrong: object) -> None:
    with pytest.raises(Nonsense, match=f"^{name} is "):
        executors_ahead(FOUND, environment(), [stage(9), {**stage(9), name: wrong}])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["gauges", "value", "sparkProperties", *metrics()["gauges"], *stage(1)])
            | st.text(max_size=5),
            inner,
            max_size=8,
        )
    ),
    max_leaves=30,
)
NUMBER = st.integers(0, 64) | st.integers(0, 10**9 - 1)
STAGES = st.lists(st.builds(stage, NUMBER, NUMBER, NUMBER, st.integers(0, 59)), max_size=4)


@settings(max_examples=300, deadline=None)
@given(said=JSON, also=JSON)
def test_any_json_is_an_answer_or_nonsense(said: Any, also: Any) -> None:
    with suppress(Nonsense):
        allocation(said)
    with suppress(Nonsense):
        assert 0 <= executors_ahead(FOUND, environment(), said) <= FOUND.needed
    with suppress(Nonsense):
        assert 0 <= executors_ahead(FOUND, said, also) <= FOUND.needed


@settings(max_examples=300, deadline=None)
@given(needed=NUMBER, target=NUMBER, present=NUMBER, stages=STAGES)
def test_any_driver_asks_for_something_possible(needed: int, target: int, present: int, stages: list[Object]) -> None:
    found = executors_ahead(Allocation("app-1", needed, target, present), environment(), stages)
    assert type(found) is int
    assert 0 <= found <= needed
