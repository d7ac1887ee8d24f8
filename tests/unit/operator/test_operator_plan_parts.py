"""What plans are made with: conditions, differences, troubles of pods, quantities."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from operating import EARLIER, NOW, STAMP, condition, merged

from trireme_operator.api import Object
from trireme_operator.plan.conditions import Condition, find, is_true, merge, moment, timestamp
from trireme_operator.plan.difference import correction, holds, merge_patch, must_apply, sealed
from trireme_operator.plan.pods import (
    Fields,
    Trouble,
    ended,
    long_about_to_start,
    not_made,
    not_mounted,
    of_deployment,
    of_pods,
    waits_for_secret,
)
from trireme_operator.quantity import mebibytes, number


@pytest.mark.parametrize(
    ("before", "wanted", "status", "since"),
    [
        (None, True, "True", STAMP),
        (None, False, "False", STAMP),
        (None, None, "Unknown", STAMP),
        ("True", True, "True", EARLIER),
        ("False", False, "False", EARLIER),
        ("Unknown", None, "Unknown", EARLIER),
        ("False", True, "True", STAMP),
        ("True", False, "False", STAMP),
        ("Unknown", True, "True", STAMP),
        ("True", None, "Unknown", STAMP),
    ],
)
@pytest.mark.parametrize("reason", ["Because", "Another"])
def test_a_condition_keeps_its_time_while_its_status_stays(
    before: str | None, wanted: bool | None, status: str, since: str, reason: str
) -> None:
    old = [] if before is None else [condition("Ready", before)]
    (found,) = merge(old, [Condition("Ready", wanted, reason, "new words")], 7, STAMP)
    assert found == {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": "new words",
        "lastTransitionTime": since,
        "observedGeneration": 7,
    }


def test_conditions_are_those_that_are_wanted_in_their_order() -> None:
    old = [condition("Gone", "True"), condition("B", "True"), condition("A", "True")]
    found = merge(old, [Condition(name, True, "Because", "") for name in ("A", "B", "New")], 1, STAMP)
    assert [one["type"] for one in found] == ["A", "B", "New"]
    assert [one["lastTransitionTime"] for one in found] == [EARLIER, EARLIER, STAMP]


@pytest.mark.parametrize(
    ("item", "true", "found"),
    [
        ({}, False, None),
        ({"status": {}}, False, None),
        ({"status": {"conditions": [condition("Other", "True")]}}, False, None),
        ({"status": {"conditions": [condition("Ready", "False")]}}, False, "False"),
        ({"status": {"conditions": [condition("Ready", "Unknown")]}}, False, "Unknown"),
        ({"status": {"conditions": [condition("Other", "False"), condition("Ready", "True")]}}, True, "True"),
    ],
)
def test_looking_up_a_condition(item: Object, true: bool, found: str | None) -> None:
    assert is_true(item, "Ready") is true
    one = find(item, "Ready")
    assert (one["status"] if one else None) == found


def test_times_are_written_and_read_as_kubernetes_does() -> None:
    assert timestamp(datetime(2026, 1, 2, 3, 4, 5, 999999, tzinfo=UTC)) == STAMP
    assert moment(STAMP) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert moment("2026-01-02T04:04:05+01:00").astimezone(timezone(timedelta(0))) == moment(STAMP)


HOLDS = [
    (1, 1),
    ("a", "a"),
    (True, True),
    (None, None),
    ({}, {"a": 1}),
    ({"a": 1}, {"a": 1, "added": 2}),
    ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2], "c": 3}}),
    ([{"name": "x"}], [{"name": "x", "protocol": "TCP"}]),
    # What is empty, an API server may leave out.
    ({"a": {}}, {}),
    ({"a": []}, {}),
    ({"a": ""}, {}),
    ({"a": ""}, {"a": ""}),
    ({"a": {"b": {}}}, {"a": {}}),
    ({"a": None}, {}),
    ({"limits": {"cpu": "1000m", "memory": "1024Mi"}}, {"limits": {"cpu": "1", "memory": "1Gi"}}),
    ([{"resources": {"requests": {"cpu": 1}}}], [{"resources": {"requests": {"cpu": "1"}}}]),
    ({"requests": {}}, {}),
]
DIFFERS = [
    (1, 2),
    ("a", "b"),
    ("1", 1),
    (False, None),
    (0, None),
    ({"a": 1}, {}),
    ({"a": 1}, None),
    ({"a": 1}, {"a": 2}),
    ({"a": 1}, [1]),
    ({"a": {"b": [1, 2]}}, {"a": {"b": [2, 1]}}),
    ([1], [1, 2]),
    ([1, 2], [1]),
    ([], [1]),
    ([1], None),
    ([1], {"0": 1}),
    ({}, "x"),
    ([], "x"),
    ("", "x"),
    # Only of limits and requests are other words the same.
    ({"cpu": "1000m"}, {"cpu": "1"}),
    ({"limits": {"cpu": "1001m"}}, {"limits": {"cpu": "1"}}),
    ({"limits": {"cpu": "1"}}, {"limits": {}}),
    ({"requests": {"cpu": "many"}}, {"requests": {"cpu": "1"}}),
    # A limit that was added, or that is to go, is a limit.
    ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1", "memory": "1Gi"}}),
    ({"limits": {}}, {"limits": {"memory": "1Gi"}}),
    # What somebody added to one of these changes what it selects, or says.
    *(
        ({name: {"a": "b"}}, {name: {"a": "b", "c": "d"}})
        for name in ("data", "matchLabels", "nodeSelector", "selector")
    ),
    (
        {"spec": {"selector": {"matchLabels": {"a": "b"}}}},
        {"spec": {"selector": {"matchLabels": {"a": "b", "c": "d"}}}},
    ),
    ([{"requests": {"cpu": "1"}}], [{"requests": {"cpu": "1", "gpu": 1}}]),
]


@pytest.mark.parametrize(("wanted", "found"), HOLDS)
def test_holds(wanted: Any, found: Any) -> None:
    assert holds(wanted, found) is True


@pytest.mark.parametrize(("wanted", "found"), DIFFERS)
def test_differs(wanted: Any, found: Any) -> None:
    assert holds(wanted, found) is False


@pytest.mark.parametrize(
    ("found", "expected"), [(None, True), ({"a": 2}, True), ({}, True), ({"a": 1}, False), ({"a": 1, "b": 2}, False)]
)
def test_must_apply(found: Object | None, expected: bool) -> None:
    assert must_apply({"a": 1}, found) is expected


def test_an_empty_object_that_is_missing_must_be_applied() -> None:
    assert must_apply({}, None) is True


def test_an_object_is_sealed_with_all_that_is_in_it() -> None:
    item = {"metadata": {"name": "x", "annotations": {"mine": "yes"}}, "spec": {"a": {"b": 1, "c": [2]}}}
    before = deepcopy(item)
    found = sealed(item)
    assert item == before
    seal = found["metadata"]["annotations"].pop("trireme.dev/applied")
    assert found == item
    # It is a value of an annotation, and the same however the keys come.
    other_order = {"spec": {"a": {"c": [2], "b": 1}}, "metadata": item["metadata"]}
    assert sealed(other_order)["metadata"]["annotations"]["trireme.dev/applied"] == seal
    for changed in (
        {**item, "spec": {"a": {"b": 1}}},
        {**item, "spec": {"a": {"b": 2, "c": [2]}}},
        {**item, "metadata": {"name": "x"}},
    ):
        assert sealed(changed)["metadata"]["annotations"]["trireme.dev/applied"] != seal


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ({"a": 1}, {"a": 1, "added": 2}, {}),
        ({"a": 1}, {"a": 2}, {"a": 1}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3, "d": 4}}, {"a": {"c": 2}}),
        ({"a": {"b": 1}}, {"a": None}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {}, {"a": {"b": 1}}),
        # A list goes whole: a merge patch replaces it.
        ({"a": [1]}, {"a": [1, 2]}, {"a": [1]}),
        ({"a": []}, {"a": [1]}, {"a": []}),
        ({"a": [{"b": 1}], "c": 1}, {"a": [{"b": 1, "default": 2}], "c": 1}, {}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "default": 2}, {"b": 3}]}, {"a": [{"b": 1}]}),
        ({"a": {}, "b": "", "c": []}, {}, {}),
        ({"selector": {"a": "b"}}, {"selector": {"a": "b", "c": "d"}}, {"selector": {"c": None}}),
        ({"data": {"a": "b"}}, {"data": {"a": "x", "c": "d"}}, {"data": {"a": "b", "c": None}}),
        # Of limits and requests, all that is not wanted goes, and other words for the same stay.
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1000m", "memory": "9Gi"}}, {"limits": {"memory": None}}),
    ],
)
def test_what_others_added_to_lists_is_corrected(wanted: Object, found: Object, expected: Object) -> None:
    assert correction(wanted, found) == expected
    assert holds(wanted, merged(found, expected))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {}, {"a": None}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        # A key that is gone from a map below goes, too.
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": None}}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": None}}),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"d": 3}}}, {"a": {"b": {"c": None, "d": 3}}}),
        ({"a": {"b": 1}}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1}]}, {"a": [{"b": 1}]}),
        ({"a": [1, 2]}, {"a": [1, 2]}, {}),
    ],
)
def test_a_merge_patch_leads_from_one_map_to_another(before: Object, after: Object, expected: Object) -> None:
    assert merge_patch(before, after) == expected
    assert merged(before, expected) == after


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        ("1", 1),
        (1, 1),
        (0, 0),
        ("500m", 0.5),
        ("0.5", 0.5),
        (".5", 0.5),
        ("2.", 2),
        ("+3", 3),
        ("-1", -1),
        ("250u", 0.00025),
        ("5000000000n", 5),
        ("1k", 1000),
        ("2M", 2e6),
        ("1.5G", 1.5e9),
        ("3T", 3e12),
        ("1P", 1e15),
        ("2E", 2e18),
        ("2E3", 2000),
        ("2e9", 2e9),
        ("2e+9", 2e9),
        ("30E-1", 3),
        ("1Ki", 1024),
        ("1.5Mi", 1.5 * 2**20),
        ("1Gi", 2**30),
        ("1Ti", 2**40),
        ("1Pi", 2**50),
        ("1Ei", 2**60),
    ],
)
def test_quantities(quantity: str | int, value: float) -> None:
    assert number(quantity) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "quantity", ["", "Gi", "1 Gi", "1gi", "1KI", "1K", "1mi", "one", "1..2", ".", "1e", "--1", "1Gi ", "1m\n", "0x10"]
)
def test_no_quantities(quantity: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        number(quantity)


@pytest.mark.parametrize(("quantity", "size"), [("1Gi", 1024), ("512Mi", 512), (2**20, 1), ("1G", 1e9 / 2**20)])
def test_mebibytes(quantity: str | int, size: float) -> None:
    assert mebibytes(quantity) == pytest.approx(size)


def pod(state: Object | None = None, **more: Any) -> Object:
    container = {"name": "worker", "image": "mine:1", "state": state or {}, "lastState": more.pop("last", {})}
    status = {"containerStatuses": [container] if state is not None or container["lastState"] else [], **more}
    return {"metadata": {"name": "x", "labels": {}}, "status": status}


def waits(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": message}}


def stopped(code: int, reason: str = "Error", message: str = "") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


FIELDS = Fields("spec.image", "spec.resources")
IMAGE = Trouble("ImagePullBackOff", "spec.image: mine:1 can't be pulled: correct its name, or give access to it")
MEMORY = Trouble("OOMKilled", "the worker used more memory than spec.resources.limits.memory gives it (exit code 137)")
CRASHES = Trouble("CrashLoopBackOff", "the worker ended with exit code 1: no module")
NO_CLAIM = 'persistentvolumeclaim "data" not found'
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are.",
}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            'MountVolume.SetUp failed for volume "broker-tls" : secret "ca" not found',
            'volume broker-tls can\'t be mounted: secret "ca" not found: create it, or correct its name',
        ),
        (
            'MountVolume.SetUp failed for volume "a" : references non-existent secret key: ca.crt',
            "volume a can't be mounted: references non-existent secret key: ca.crt: create it, or correct its name",
        ),
        # These pass.
        ('MountVolume.SetUp failed for volume "a" : failed to sync secret cache: timed out waiting', None),
        ("Unable to attach or mount volumes: unmounted volumes=[a]: timed out waiting for the condition", None),
    ],
)
def test_what_can_not_be_mounted(message: str, told: str | None) -> None:
    assert not_mounted(message) == (Trouble("FailedMount", told) if told else None)


def test_who_is_about_to_start_for_long() -> None:
    starting, running = pod(waits("ContainerCreating"), startTime=STAMP), pod({"running": {}}, startTime=STAMP)
    others = [pod(), running, pod(waits("ErrImagePull"), startTime=STAMP), pod(waits("ContainerCreating"))]
    assert long_about_to_start([*others, starting], NOW + timedelta(seconds=10)) is starting
    assert long_about_to_start([*others, starting], NOW + timedelta(seconds=9)) is None
    assert long_about_to_start(others, NOW + timedelta(seconds=10)) is None


@pytest.mark.parametrize(
    ("message", "waits_for_it"),
    [
        ('secret "auth" not found', True),
        ('failed to sync: secrets "auth" not found', True),
        ('secret "other-auth" not found', False),
        ('secret "auth-other" not found', False),
        ('configmap "auth" not found', False),
        ("couldn't find key password in Secret team/auth", False),
    ],
)
def test_who_waits_for_a_secret(message: str, waits_for_it: bool) -> None:
    missing = pod(waits("CreateContainerConfigError", message))
    assert waits_for_secret([pod(), pod({"running": {}}), missing], "auth") is waits_for_it


@pytest.mark.parametrize(
    ("pods", "trouble"),
    [
        ([], None),
        ([pod()], None),
        ([pod({"running": {}})], None),
        ([pod(waits("ContainerCreating"))], None),
        ([pod(waits("PodInitializing"))], None),
        # One reason for what the kubelet alternates between.
        ([pod(waits("ErrImagePull", "rpc error"))], IMAGE),
        ([pod(waits("ImagePullBackOff", "back-off"))], IMAGE),
        ([pod(waits("InvalidImageName"))], IMAGE),
        (
            [pod(waits("CreateContainerConfigError", "secret not found"))],
            Trouble("CreateContainerConfigError", "a container can't be started: secret not found"),
        ),
        *(
            (
                [pod(waits("CreateContainerConfigError", what))],
                Trouble(
                    "CreateContainerConfigError",
                    f"a container can't be started: {what}: create it, or correct its name",
                ),
            )
            for what in ('secret "a" not found', 'configmap "a" not found', "couldn't find key url in Secret team/a")
        ),
        ([pod(stopped(1, message="Traceback\nno module\n"))], CRASHES),
        ([pod(waits("CrashLoopBackOff"), last=stopped(1, message="no module"))], CRASHES),
        ([pod({"running": {}}, last=stopped(1, message="no module"))], CRASHES),
        ([pod(stopped(137, "OOMKilled"))], MEMORY),
        ([pod(waits("CrashLoopBackOff"), last=stopped(137, "OOMKilled"))], MEMORY),
        ([pod(stopped(0, "Completed"))], None),
        (
            [pod(waits("CrashLoopBackOff"), last=stopped(0, "Completed"))],
            Trouble("CrashLoopBackOff", "the worker ended with exit code 0"),
        ),
        (
            [pod(conditions=[UNSCHEDULABLE])],
            Trouble(
                "Unschedulable",
                "no node takes a pod: 0/1 nodes are available: 1 Insufficient cpu: lower spec.resources.requests, "
                "or add nodes",
            ),
        ),
        ([pod(conditions=[{**UNSCHEDULABLE, "status": "True"}])], None),
        (
            [pod(conditions=[{**UNSCHEDULABLE, "message": f"0/2 nodes are available: {NO_CLAIM}. preemption: 0/2."}])],
            Trouble(
                "Unschedulable",
                f"no node takes a pod: 0/2 nodes are available: {NO_CLAIM}: "
                "create the claim, or correct its name among the volumes",
            ),
        ),
        ([pod(reason="Evicted", message="low on memory")], Trouble("Evicted", "low on memory")),
        ([pod({"running": {}}), pod(waits("ErrImagePull"))], IMAGE),
        ([pod(waits("ErrImagePull")), pod(stopped(1))], IMAGE),
        # A pod that is going has no trouble any more.
        ([{**pod(stopped(1)), "metadata": {"name": "x", "deletionTimestamp": EARLIER}}], None),
    ],
)
def test_why_pods_do_not_run(pods: list[Object], trouble: Trouble | None) -> None:
    assert of_pods(pods, FIELDS) == trouble


@pytest.mark.parametrize(
    ("message", "trouble"),
    [
        (
            'Error creating: pods "a-x7x2k" is forbidden: exceeded quota: small, requested: cpu=1',
            Trouble(
                "QuotaExceeded", "exceeded quota: small, requested: cpu=1: lower the resources, or raise the quota"
            ),
        ),
        (
            'Error creating: Pod "a-0" is invalid: spec.x: no',
            Trouble("FailedCreate", "can't be made: spec.x: no"),
        ),
        (
            'create Pod a-broker-0 in StatefulSet a-broker failed error: pods "a-broker-0" is forbidden: '
            "exceeded quota: small, requested: cpu=1",
            Trouble(
                "QuotaExceeded", "exceeded quota: small, requested: cpu=1: lower the resources, or raise the quota"
            ),
        ),
        ("no such account", Trouble("FailedCreate", "can't be made: no such account")),
    ],
)
def test_why_pods_are_not_made(message: str, trouble: Trouble) -> None:
    assert not_made(message) == trouble
    failure = {"type": "ReplicaFailure", "status": "True", "message": message}
    assert of_deployment({"status": {"conditions": [condition("Available", "True"), failure]}}) == trouble
    assert of_deployment({"status": {"conditions": [{**failure, "status": "False"}]}}) is None
    assert of_deployment({}) is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("", "ended with exit code 3"),
        ("  \n", "ended with exit code 3"),
        ("a\n b \n\n", "ended with exit code 3: b"),
    ],
)
def test_the_last_line_tells_how_a_container_ended(message: str, expected: str) -> None:
    assert ended(stopped(3, message=message)["terminated"], FIELDS) == expected


def test_a_crash_says_what_it_may_come_from() -> None:
    assert "another Python version" in ended(stopped(139)["terminated"], FIELDS)
