"""How autoscaling shows in a cluster's status: its own block, and one condition."""

from dataclasses import replace
from typing import Any

import pytest
from operating import EARLIER, ENGINES, NOW, STAMP, STATUS, cluster, condition, conditions

from trireme_operator.api import Object
from trireme_operator.plan.cluster import Observed
from trireme_operator.plan.cluster import status as cluster_status
from trireme_operator.plan.conditions import Condition
from trireme_operator.plan.pods import Trouble
from trireme_operator.plan.scaling import CONDITION, Scaling, is_on, status
from trireme_operator.plan.scaling import condition as as_condition

KNOWN = Scaling(5, "9 tasks waiting, 1 running", "9 tasks waiting and so on: 5 workers")
UNKNOWN = Scaling(None, "", "demand unknown: 3 workers", ("NoAnswer", "dask does not answer within 2 s"))
BLOCK: Object = {"desiredReplicas": 5, "demand": KNOWN.demand, "reason": KNOWN.reason}
BEFORE: Object = {"desiredReplicas": 2, "demand": "old", "reason": "older", "lastScaleTime": EARLIER}


def sized(status: Object | None = None, **spec: Any) -> Object:
    return cluster(status=status, **{"autoscaling": {"maxReplicas": 9}, **spec})


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
    ],
)
def test_the_block(item: Object, scaling: Scaling | None, expected: Object | None) -> None:
    assert status(item, scaling) == expected


SUSPENDED = Condition(CONDITION, False, "Suspended", "spec.suspend holds the workers at 0")
STARTING = Condition(CONDITION, False, "Starting", "the demand was not read yet")
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
    for scaling in (None, KNOWN, UNKNOWN, replace(KNOWN, last_scale=STAMP)):
        item = sized(status=was("NoAnswer", autoscaling=BEFORE))
        first = told(item, scaling)
        assert told({**item, "status": first}, scaling) == first
        # Nor does a restart.
        assert told({**item, "status": first}, None) == first


def test_what_is_observed_says_nothing_of_it_by_itself() -> None:
    assert Observed.of(sized(), []).scaling is None
