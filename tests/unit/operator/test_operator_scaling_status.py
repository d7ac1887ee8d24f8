"""How autoscaling shows in a cluster's status: its own block, and one condition."""

from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operating import EARLIER, ENGINES, NOW, STAMP, STATUS, cluster, condition, conditions

from trireme_operator.api import Object
from trireme_operator.plan.cluster import Observed
from trireme_operator.plan.cluster import status as cluster_status
from trireme_operator.plan.conditions import Condition, moment
from trireme_operator.plan.pods import Trouble
from trireme_operator.plan.scaling import CONDITION, Scaling, is_on, next_scale, sets_size, status
from trireme_operator.plan.scaling import condition as as_condition

KNOWN = Scaling(5, "9 tasks waiting, 1 running", "9 tasks waiting and so on: 5 workers")
UNKNOWN = Scaling(None, "", "demand unknown: 3 workers", ("NoAnswer", "dask does not answer within 2 s"))
BLOCK: Object = {"desiredReplicas": 5, "demand": KNOWN.demand, "reason": KNOWN.reason}
BEFORE: Object = {"desiredReplicas": 2, "demand": "old", "reason": "older", "lastScaleTime": EARLIER}
SOON = "2026-01-02T03:04:35Z"
WAITING: Object = {**BEFORE, "nextScaleTime": SOON}


def sized(status: Object | None = None, **spec: Any) -> Object:
    return cluster(status=status, **{"autoscaling": {"maxReplicas": 9}, **spec})


def observed(**spec: Any) -> Object:
    return sized(autoscaling={"maxReplicas": 9, "mode": "Observe"}, **spec)


def was(reason: str, status: str = "False", **more: Any) -> Object:
    return {"conditions": [condition("Ready", "True"), condition(CONDITION, status, reason)], **more}


@pytest.mark.parametrize(
    ("item", "is_so"),
    [
        (cluster(), False),
        (cluster(suspend=True), False),
        (sized(), True),
        (sized(suspend=False), True),
        (sized(suspend=True), False),
    ],
)
def test_which_cluster_is_sized(item: Object, is_so: bool) -> None:
    assert is_on(item) is is_so


@pytest.mark.parametrize(
    ("item", "is_so"),
    [(sized(), True), (sized(autoscaling={"maxReplicas": 9, "mode": "Auto"}), True), (observed(), False)],
)
def test_whose_size_is_set(item: Object, is_so: bool) -> None:
    assert sets_size(item) is is_so
    assert is_on(item)


@pytest.mark.parametrize(
    ("item", "scaling", "expected"),
    [
        # Without autoscaling there is none, whatever was.
        (cluster(), None, None),
        (cluster(), KNOWN, None),
        (cluster(status={"autoscaling": BEFORE}), None, None),
        # Nothing yet.
        (sized(), None, None),
        (sized(status={}), None, None),
        (sized(), UNKNOWN, None),
        (sized(), KNOWN, BLOCK),
        (sized(), replace(KNOWN, last_scale=STAMP), {**BLOCK, "lastScaleTime": STAMP}),
        (sized(), replace(KNOWN, desired=0), {**BLOCK, "desiredReplicas": 0}),
        # What was before stays while nothing better is known,
        (sized(status={"autoscaling": BEFORE}), None, BEFORE),
        (sized(status={"autoscaling": BEFORE}), UNKNOWN, BEFORE),
        (sized(status={"autoscaling": BEFORE}), replace(UNKNOWN, last_scale=STAMP), BEFORE),
        (sized(status={"autoscaling": BEFORE}, suspend=True), None, BEFORE),
        # and the time of the last change, by an operator before this one.
        (sized(status={"autoscaling": BEFORE}), KNOWN, {**BLOCK, "lastScaleTime": EARLIER}),
        (sized(status={"autoscaling": BEFORE}), replace(KNOWN, last_scale=STAMP), {**BLOCK, "lastScaleTime": STAMP}),
        # When it could change next, as long as that is so.
        (sized(), replace(KNOWN, next_scale=SOON), {**BLOCK, "nextScaleTime": SOON}),
        (sized(status={"autoscaling": WAITING}), KNOWN, {**BLOCK, "lastScaleTime": EARLIER}),
        (sized(status={"autoscaling": WAITING}), None, WAITING),
        (sized(status={"autoscaling": WAITING}), UNKNOWN, BEFORE),
        (sized(status={"autoscaling": WAITING}, suspend=True), None, BEFORE),
        (sized(suspend=True), replace(KNOWN, next_scale=SOON), BLOCK),
        # One that only observes tells the same.
        (observed(), replace(KNOWN, next_scale=SOON), {**BLOCK, "nextScaleTime": SOON}),
    ],
)
def test_the_block(item: Object, scaling: Scaling | None, expected: Object | None) -> None:
    before = deepcopy(item)
    assert status(item, scaling) == expected
    assert item == before


def after(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("again", "late", "told", "expected"),
    [
        (None, 0, None, None),
        (None, 0, SOON, None),
        (30, 0, None, SOON),
        # Never before it is so.
        (30.001, 0, None, after(31)),
        (29.2, 0.7, None, SOON),
        (0.25, 0, None, after(1)),
        # What was told is as good.
        (30, 0, after(28), after(28)),
        (30, 0, after(32), after(32)),
        (30.9, 0.1, after(29), after(29)),
        (30, 0, after(27), SOON),
        (30, 0, after(33), SOON),
        (604800, 0, None, "2026-01-09T03:04:05Z"),
    ],
)
def test_when_a_size_could_change_next(
    again: float | None, late: float, told: str | None, expected: str | None
) -> None:
    assert next_scale(again, NOW + timedelta(seconds=late), told) == expected


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(0.001, 1e5), st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_looking_again_does_not_tell_another_time(again: float, jitters: list[float]) -> None:
    """Nor does a clock that another one is a little ahead of."""
    first = told = next_scale(again, NOW, None)
    assert first
    assert 0 <= (moment(first) - NOW).total_seconds() - again < 1.001
    for second, jitter in enumerate(jitters):
        told = next_scale(again - second, NOW + timedelta(seconds=second + jitter), told)
        assert told == first


SUSPENDED = Condition(CONDITION, False, "Suspended", "spec.suspend holds the workers at 0")
STARTING = Condition(CONDITION, False, "Starting", "the demand was not read yet")
OBSERVING = Condition(
    CONDITION, False, "Observing", "spec.autoscaling.mode is Observe: the demand is told, no size is set"
)
ACTIVE = Condition(CONDITION, True, "DemandKnown", "the cluster is sized by the work that waits")


@pytest.mark.parametrize(
    ("item", "scaling", "expected"),
    [
        (cluster(), None, None),
        (cluster(), KNOWN, None),
        (cluster(status=was("DemandKnown", "True")), KNOWN, None),
        (sized(), None, STARTING),
        (sized(), KNOWN, ACTIVE),
        (
            sized(),
            UNKNOWN,
            Condition(CONDITION, False, "NoAnswer", "dask does not answer within 2 s; the size is held"),
        ),
        (observed(), None, STARTING),
        (observed(), KNOWN, OBSERVING),
        # No size is held where none is set.
        (observed(), UNKNOWN, Condition(CONDITION, False, "NoAnswer", "dask does not answer within 2 s")),
        (observed(suspend=True), KNOWN, SUSPENDED),
        # Suspended, it does not matter what was last known.
        (sized(suspend=True), None, SUSPENDED),
        (sized(suspend=True), KNOWN, SUSPENDED),
        (sized(suspend=True), UNKNOWN, SUSPENDED),
        (sized(suspend=True, status=was("DemandKnown", "True")), KNOWN, SUSPENDED),
        # Then it begins anew.
        (sized(status=was("Suspended")), None, STARTING),
        (sized(status=was("Suspended")), KNOWN, ACTIVE),
        # An operator that has just started does not know better than the one before.
        (sized(status=was("DemandKnown", "True")), None, Condition(CONDITION, True, "DemandKnown", "so it is")),
        (sized(status=was("NoAnswer")), None, Condition(CONDITION, False, "NoAnswer", "so it is")),
        (sized(status=was("Starting")), None, Condition(CONDITION, False, "Starting", "so it is")),
        (sized(status=was("NoAnswer")), KNOWN, ACTIVE),
    ],
)
def test_the_condition(item: Object, scaling: Scaling | None, expected: Condition | None) -> None:
    assert as_condition(item, scaling) == expected


# In the whole status


def told(item: Object, scaling: Scaling | None = None, problem: Trouble | None = None) -> Object:
    found = cluster_status(item, Observed({}, scaling=scaling), NOW, problem)
    STATUS["WorkerCluster"].validate(found)
    return found


@pytest.mark.parametrize("scaling", [None, KNOWN, UNKNOWN, replace(KNOWN, last_scale=STAMP)])
@pytest.mark.parametrize("suspend", [False, True])
@pytest.mark.parametrize("problem", [None, Trouble("InvalidSpec", "no")])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_status_says_what_both_do(
    engine: str, scaling: Scaling | None, suspend: bool, problem: Trouble | None
) -> None:
    item = cluster(engine, autoscaling={"maxReplicas": 9}, suspend=suspend, status={"autoscaling": BEFORE})
    found = told(item, scaling, problem)
    assert found["autoscaling"] == status(item, scaling)
    expected = as_condition(item, scaling)
    assert expected
    seen = conditions(found)[CONDITION]
    assert (seen["status"], seen["reason"], seen["message"]) == (
        "True" if expected.status else "False",
        expected.reason,
        expected.message,
    )
    assert list(conditions(found)) == ["Ready", "Progressing", "Suspended", CONDITION]


def test_without_autoscaling_a_status_says_nothing_of_it() -> None:
    before = {"autoscaling": BEFORE, "conditions": [condition(CONDITION, "True")]}
    for item in (cluster(), cluster(status=before)):
        found = told(item, KNOWN)
        assert "autoscaling" not in found
        assert CONDITION not in conditions(found)


def test_nothing_is_said_before_something_is_known() -> None:
    for scaling in (None, UNKNOWN):
        assert "autoscaling" not in told(sized(), scaling)


def test_the_condition_has_its_own_time() -> None:
    item = sized(status=was("DemandKnown", "True"))
    assert conditions(told(item, KNOWN))[CONDITION]["lastTransitionTime"] == EARLIER
    assert conditions(told(item, UNKNOWN))[CONDITION]["lastTransitionTime"] == STAMP


def test_telling_it_again_changes_nothing() -> None:
    for scaling in (None, KNOWN, UNKNOWN, replace(KNOWN, last_scale=STAMP, next_scale=SOON)):
        item = sized(status=was("NoAnswer", autoscaling=BEFORE))
        first = told(item, scaling)
        assert told({**item, "status": first}, scaling) == first
        # Nor does a restart.
        assert told({**item, "status": first}, None) == first


def test_what_is_observed_says_nothing_of_it_by_itself() -> None:
    assert Observed.of(sized(), []).scaling is None
