"""Why a job's drivers failed, how long they may wait, and what is kept of them."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from operating import (
    EARLIER,
    NAMESPACE,
    NOW,
    STAMP,
    STATUS,
    Crash,
    Twin,
    cluster,
    condition,
    conditions,
    job,
    workers_of,
)

from trireme_operator.api import JOB, Key, Object
from trireme_operator.client import Refused
from trireme_operator.connection import ApiError
from trireme_operator.plan import attempts
from trireme_operator.plan.action import Delete, Patch, Plan
from trireme_operator.plan.conditions import moment, timestamp
from trireme_operator.plan.job import Observed, plan, status
from trireme_operator.plan.pods import Trouble

READY = cluster(status={"observedGeneration": 3, "conditions": [condition("Ready", "True", "Ready")]})
MEAN = Key("WorkerJob", NAMESPACE, "mean")
DRIVER = Key("Job", NAMESPACE, "mean-driver")


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def stamp(seconds: float) -> str:
    return timestamp(later(seconds))


def batch_job(*conditions_: Object, suspend: bool = False, **counts: Any) -> Object:
    return {
        "kind": "Job",
        "metadata": {"name": "mean-driver", "namespace": NAMESPACE, "uid": "uid-driver", "creationTimestamp": EARLIER},
        "spec": {"suspend": suspend},
        "status": {**counts, "conditions": [*conditions_]},
    }


def disrupted(reason: str = "EvictionByEvictionAPI", message: str = "Eviction API: evicting") -> Object:
    return {**condition("DisruptionTarget", "True", reason), "message": message}


def pod(
    name: str = "a",
    phase: str = "Failed",
    code: int | None = None,
    said: str = "",
    ended: str = "Error",
    deleted: str = "",
    **status_: Any,
) -> Object:
    state: Object = {"running": {}}
    if code is not None:
        state = {"terminated": {"exitCode": code, "reason": ended, "message": said, "finishedAt": STAMP}}
    metadata = {"name": name, "namespace": NAMESPACE}
    if deleted:
        metadata |= {"deletionTimestamp": deleted, "deletionGracePeriodSeconds": 30}
    statuses = [{"name": "driver", "image": "mine", "state": state}]
    return {
        "kind": "Pod",
        "metadata": metadata,
        "status": {"phase": phase, "containerStatuses": statuses, **status_},
    }


@pytest.mark.parametrize(
    ("failed", "reason", "words", "counted"),
    [
        (pod(code=1, said="a\nValueError: no\n"), "DriverFailed", "exit code 1: ValueError: no", True),
        (pod(code=137, ended="OOMKilled"), "OOMKilled", "spec.driver.resources.limits.memory", True),
        (pod(code=143, conditions=[disrupted()]), "EvictionByEvictionAPI", "evicted", False),
        (pod(code=143, conditions=[disrupted("PreemptionByScheduler")]), "PreemptionByScheduler", "priority", False),
        (pod(conditions=[disrupted("DeletionByTaintManager")]), "DeletionByTaintManager", "node was lost", False),
        (pod(conditions=[disrupted("DeletionByPodGC", "")]), "DeletionByPodGC", "node was lost", False),
        (
            pod(code=137, reason="Evicted", conditions=[disrupted("TerminationByKubelet", "low on memory")]),
            "TerminationByKubelet",
            "low on memory",
            False,
        ),
        (pod(code=143, conditions=[disrupted("SomethingNew")]), "SomethingNew", "ended by Kubernetes", False),
        # Nothing ended it for others' sake.
        (pod(code=1, conditions=[{**disrupted(), "status": "False"}]), "DriverFailed", "exit code 1", True),
        # It used more of the node's disk than it may, or the node refused it.
        (pod(code=137, reason="Evicted", message="exceeds its limit of 1Gi"), "Evicted", "its limit of 1Gi", True),
        (pod(reason="UnexpectedAdmissionError"), "UnexpectedAdmissionError", "UnexpectedAdmissionError", True),
        (pod(code=143, deleted=STAMP), "DriverFailed", "exit code 143", True),
    ],
)
def test_why_a_driver_failed(failed: Object, reason: str, words: str, counted: bool) -> None:
    told = status(job(), Observed(READY, driver=batch_job(active=1), pods=[failed]), NOW)
    STATUS["WorkerJob"].validate(told)
    (one,) = told["failures"]
    assert (one["attempt"], one["pod"], one["reason"], one["counted"]) == (1, "a", reason, counted)
    assert words in one["message"]
    assert told.get("disruptions", 0) == (not counted)
    running = conditions(told)["DriverRunning"]
    assert (running["status"], running["reason"]) == ("False", reason)
    assert running["message"] == f"attempt 1: {one['message']}"


@pytest.mark.parametrize(
    "going",
    [
        pod(phase="Running"),
        pod(phase="Running", deleted=STAMP, conditions=[disrupted()]),
        pod(phase="Succeeded", code=0),
        pod(phase="Pending"),
    ],
)
def test_what_has_not_failed(going: Object) -> None:
    assert "failures" not in status(job(), Observed(READY, driver=batch_job(active=1), pods=[going]), NOW)


def test_a_driver_whose_container_has_ended_has_ended() -> None:
    """Its phase, which tells how, follows: no other reason in between."""
    seen = Observed(READY, driver=batch_job(active=1), pods=[pod(phase="Running", code=1)])
    found = status(job(), seen, NOW)
    assert (found["state"], conditions(found)["DriverRunning"]["reason"]) == ("Running", "Ended")


def test_a_container_that_others_added_does_not_tell_how_the_driver_ended() -> None:
    failed = pod(code=3, said="ValueError: no")
    proxy = {"name": "a-proxy", "image": "x", "state": {"terminated": {"exitCode": 143, "message": "bye"}}}
    failed["status"]["containerStatuses"].insert(0, proxy)
    (one,) = status(job(), Observed(READY, driver=batch_job(active=1), pods=[failed]), NOW)["failures"]
    assert "exit code 3: ValueError: no" in one["message"]
    assert one["output"] == "ValueError: no"
    # It goes on beside one that has ended.
    going = pod(phase="Running")
    going["status"]["containerStatuses"].append(proxy)
    assert attempts.terminated(going) is None


FORGETTING = attempts.Forgetting("master", stamp(60), "spec.spark.master.persistence keeps what a master knows")


def began(seconds: float, phase: str = "Running", **more: Any) -> Object:
    found = pod(phase=phase, **more)
    found["metadata"]["creationTimestamp"] = EARLIER
    state = found["status"]["containerStatuses"][0]["state"]
    next(iter(state.values()))["startedAt"] = stamp(seconds)
    return found


def test_a_driver_that_a_new_master_does_not_know_is_started_anew() -> None:
    seen = Observed(READY, driver=batch_job(active=1), pods=[began(59)], forgetting=FORGETTING)
    assert [patch.body for patch in plan(job(), seen, NOW).patch] == [{"spec": {"suspend": True}}]
    first = status(job(), seen, NOW)
    STATUS["WorkerJob"].validate(first)
    (one,) = first["failures"]
    assert (one["attempt"], one["reason"], one["counted"], one["time"]) == (1, "ControlReplaced", False, stamp(60))
    assert first["disruptions"] == 1
    running = conditions(first)["DriverRunning"]
    assert (running["status"], running["reason"]) == ("False", "ControlReplaced")
    assert FORGETTING.fix in running["message"]
    # It ends, which is told once, however it does; and as long as it runs, the next one waits.
    item = job(status=first)
    for ends in (began(59, deleted=stamp(90)), began(59, phase="Failed", code=143, deleted=stamp(90))):
        seen = Observed(READY, driver=batch_job(suspend=True), pods=[ends], forgetting=FORGETTING)
        assert status(item, seen, NOW)["failures"] == first["failures"]
        resumes = ends["status"]["phase"] == "Failed"
        assert [patch.body for patch in plan(item, seen, NOW).patch] == [{"spec": {"suspend": False}}] * resumes
    seen = Observed(READY, driver=batch_job(active=1), pods=[began(80, name="b")], forgetting=FORGETTING)
    second = status(item, seen, NOW)
    assert not plan(item, seen, NOW).patch
    assert (second["attempts"], second["disruptions"], second["state"]) == (2, 1, "Running")


@pytest.mark.parametrize(
    ("item", "one", "forgetting"),
    [
        # It began with this master, or with one that keeps what it knows.
        (job(), began(60), FORGETTING),
        (job(), began(10), None),
        # It has not begun, or has ended.
        (job(), pod(phase="Pending"), FORGETTING),
        (job(), began(10, phase="Succeeded", code=0), FORGETTING),
    ],
)
def test_a_driver_that_goes_on_when_its_master_is_replaced(
    item: Object, one: Object, forgetting: attempts.Forgetting | None
) -> None:
    seen = Observed(READY, driver=batch_job(active=1), pods=[one], forgetting=forgetting)
    assert not plan(item, seen, NOW).patch
    assert "failures" not in status(item, seen, NOW)


@pytest.mark.parametrize(
    ("item", "one", "reason"),
    [
        # It failed by itself, or its node was lost at the same time.
        (job(), began(10, phase="Failed", code=1), "DriverFailed"),
        (job(), began(10, phase="Failed", code=143, deleted=STAMP, conditions=[disrupted()]), "EvictionByEvictionAPI"),
        # Deleted for that, though nobody had time to tell.
        (job(), began(10, phase="Failed", code=143, deleted=STAMP), "ControlReplaced"),
    ],
)
def test_why_a_driver_ended_as_its_master_was_replaced(item: Object, one: Object, reason: str) -> None:
    seen = Observed(READY, driver=batch_job(active=1), pods=[one], forgetting=FORGETTING)
    assert [failed["reason"] for failed in status(item, seen, NOW)["failures"]] == [reason]


def test_a_suspended_driver_is_nobodys_to_start_anew() -> None:
    item = job(suspend=True, status={"conditions": [condition("Suspended", "True")]})
    seen = Observed(READY, driver=batch_job(suspend=True), pods=[began(10)], forgetting=FORGETTING)
    assert not plan(item, seen, NOW).patch
    assert "failures" not in status(item, seen, NOW)


def test_what_batch_v1_counts_is_what_is_told_as_counted() -> None:
    (rule,) = attempts.POLICY["rules"]
    (ignored,) = rule["onPodConditions"]
    assert rule["action"] == "Ignore"
    for counted, failed in ((False, pod(conditions=[disrupted()])), (True, pod(code=1))):
        there = [one for one in failed["status"].get("conditions", []) if one.items() >= ignored.items()]
        (told,) = attempts.failures(job(), [failed], STAMP)
        assert told["counted"] is counted is not bool(there)


def test_failures_are_told_once_and_in_order() -> None:
    first = status(job(), Observed(READY, driver=batch_job(active=1), pods=[pod("a", code=1, said="one\n")]), NOW)
    seen = [pod("a", code=1), pod("b", code=143, conditions=[disrupted()]), pod("c", phase="Running")]
    item = job(status=first)
    second = status(item, Observed(READY, driver=batch_job(active=1, failed=1), pods=seen), NOW)
    assert [(one["attempt"], one["pod"]) for one in second["failures"]] == [(1, "a"), (2, "b")]
    assert second["failures"][0]["output"] == "one"
    assert (second["attempts"], second["disruptions"]) == (3, 1)
    # Though the pods, or the Job's counts, are gone.
    third = status(job(status=second), Observed(READY, driver=batch_job(), pods=[]), NOW)
    assert [third[name] for name in ("failures", "attempts", "disruptions")] == [
        second[name] for name in ("failures", "attempts", "disruptions")
    ]


def test_only_the_last_failures_are_told() -> None:
    pods = []
    for number in range(attempts.MOST + 3):
        one = pod(f"p{number}", code=1, said="x" * 3000)
        one["metadata"]["creationTimestamp"] = stamp(10 * number)
        one["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = stamp(10 * number + 5)
        pods.append(one)
    told = status(job(), Observed(READY, driver=batch_job(), pods=pods), NOW)
    STATUS["WorkerJob"].validate(told)
    assert [one["attempt"] for one in told["failures"]] == list(range(4, attempts.MOST + 4))
    # Those that are told no more, and whose pods are there still, are not told anew.
    assert status(job(status=told), Observed(READY, driver=batch_job(), pods=pods), NOW) == told


@pytest.mark.parametrize(
    ("suspend", "resumed", "deleted", "told"),
    [
        (True, None, stamp(30), False),
        # Deleted by the suspension, and gone after it.
        (False, 5, stamp(30), False),
        # Resumed, and then deleted by somebody.
        (False, 5, stamp(40), True),
        (False, None, stamp(30), True),
    ],
)
def test_a_driver_that_was_suspended_has_not_failed(
    suspend: bool, resumed: float | None, deleted: str, told: bool
) -> None:
    since = EARLIER if resumed is None else stamp(resumed)
    item = job(suspend=suspend, status={"conditions": [condition("Suspended", str(suspend), since=since)]})
    seen = Observed(READY, driver=batch_job(suspend=suspend), pods=[pod(code=143, deleted=deleted)])
    found = status(item, seen, NOW)
    assert bool(found.get("failures")) is told


def test_a_driver_that_went_with_a_suspension_has_not_failed_when_its_job_is_resumed() -> None:
    """Kubernetes may have deleted it a second after its job was told to be suspended."""
    item = job(status={"conditions": [condition("Suspended", "True", since=stamp(-60))]})
    gone = pod(code=143, deleted=stamp(-28))
    found = status(item, Observed(READY, driver=batch_job(suspend=True), failed=[gone]), NOW)
    assert "failures" not in found
    after = status({**item, "status": found}, Observed(READY, driver=batch_job(active=1), failed=[gone]), later(9))
    assert "failures" not in after


def test_a_disruption_of_a_driver_that_is_suspended_is_told() -> None:
    seen = Observed(READY, driver=batch_job(suspend=True), pods=[pod(conditions=[disrupted()], deleted=STAMP)])
    assert status(job(suspend=True), seen, NOW)["disruptions"] == 1


def test_the_last_words_of_a_driver_whose_pod_is_gone() -> None:
    first = status(job(), Observed(READY, driver=batch_job(active=1), pods=[pod(code=1, said="a\nno\n")]), NOW)
    over = batch_job(condition("Failed", "True", "BackoffLimitExceeded"), failed=1)
    for pods, output in (([], None), ([pod("a", code=1, said="a\nno\n")], None)):
        told = status(job(status=first), Observed(READY, driver=over, pods=pods, output=output), NOW)
        assert told["output"] == "a\nno"
        failed = conditions(told)["Failed"]
        assert (failed["reason"], failed["message"]) == ("DriverFailed", "the driver ended with exit code 1: no")


PENDING = pod(phase="Pending")
UNSCHEDULABLE = {**condition("PodScheduled", "False", "Unschedulable"), "message": "0/1 nodes: no room"}
WAITS_NOW: Object = {"waitingSince": STAMP, "conditions": []}


@pytest.mark.parametrize(
    ("before", "item", "seen", "since"),
    [
        # From its creation, for whatever it waits.
        (None, {}, Observed(None), EARLIER),
        (None, {}, Observed(READY), EARLIER),
        ({"conditions": []}, {}, Observed(READY), stamp(100)),
        (WAITS_NOW, {}, Observed(None), STAMP),
        (WAITS_NOW, {}, Observed(READY, driver=batch_job()), STAMP),
        (WAITS_NOW, {}, Observed(READY, driver=batch_job(active=1), pods=[PENDING]), STAMP),
        (WAITS_NOW, {}, Observed(READY, driver=batch_job(suspend=True)), STAMP),
        # It runs, or is not to run.
        (WAITS_NOW, {}, Observed(READY, driver=batch_job(), pods=[pod(phase="Running")]), None),
        (WAITS_NOW, {"suspend": True}, Observed(READY, driver=batch_job()), None),
        (None, {"suspend": True}, Observed(READY), None),
        (WAITS_NOW, {}, Observed(READY, driver=batch_job(condition("Complete", "True"))), None),
        # Its turn to be tried again has not come: unless something keeps it from coming.
        (WAITS_NOW, {}, Observed(READY, driver=batch_job(), pods=[pod(code=1)]), None),
        (
            {**WAITS_NOW, "failures": [{"pod": "a", "attempt": 1, "time": EARLIER}]},
            {},
            Observed(READY, driver=batch_job()),
            None,
        ),
        (
            {**WAITS_NOW, "failures": [{"pod": "a", "attempt": 1, "time": EARLIER}]},
            {},
            Observed(READY, driver=batch_job(), trouble=Trouble("QuotaExceeded", "x")),
            STAMP,
        ),
        # And when it has, anew.
        ({"conditions": []}, {}, Observed(READY, driver=batch_job(), pods=[pod("a", code=1), PENDING]), stamp(100)),
    ],
)
def test_since_when_a_driver_waits(before: Object | None, item: Object, seen: Observed, since: str | None) -> None:
    made = job(status=before, **item)
    made["metadata"]["creationTimestamp"] = EARLIER
    assert status(made, seen, later(100)).get("waitingSince") == since


IMAGE: Object = {"waiting": {"reason": "ImagePullBackOff"}}
NO_IMAGE = pod(phase="Pending")
NO_IMAGE["status"]["containerStatuses"][0]["state"] = IMAGE


@pytest.mark.parametrize(
    ("seen", "refusal", "why"),
    [
        (Observed(None), None, "NotFound: spec.clusterRef.name: there is no WorkerCluster numbers"),
        (
            Observed(cluster(status={"conditions": [condition("Ready", "False", "QuotaExceeded")]})),
            None,
            "QuotaExceeded: so it is",
        ),
        (Observed(READY, driver=batch_job(active=1), pods=[NO_IMAGE]), None, "ImagePullBackOff: spec.driver.image: "),
        (
            Observed(READY, driver=batch_job(active=1), pods=[pod(phase="Pending", conditions=[UNSCHEDULABLE])]),
            None,
            "Unschedulable: no node takes a pod: 0/1 nodes: no room",
        ),
        (
            Observed(READY, driver=batch_job(), trouble=Trouble("QuotaExceeded", "exceeded quota: full")),
            None,
            "QuotaExceeded: exceeded quota: full",
        ),
        (Observed(READY), Trouble("NameTaken", "Job mean-driver is there"), "NameTaken: Job mean-driver is there"),
    ],
)
def test_a_driver_that_waits_for_too_long(seen: Observed, refusal: Trouble | None, why: str) -> None:
    item = job(status=WAITS_NOW, startDeadlineSeconds=60)
    before = plan(item, seen, later(59.5))
    assert before.again is not None
    assert before.again <= 0.5
    assert not before.delete
    assert "Failed" not in conditions(status(item, seen, later(59.5), refusal))
    assert plan(item, seen, later(60)) == Plan(
        delete=[Delete(JOB, NAMESPACE, "mean-driver", "uid-driver")] if seen.driver else []
    )
    told = status(item, seen, later(60), refusal)
    STATUS["WorkerJob"].validate(told)
    failed = conditions(told)["Failed"]
    assert (failed["status"], failed["reason"]) == ("True", "StartDeadlineExceeded")
    assert "spec.startDeadlineSeconds, 60 s" in failed["message"]
    assert why in failed["message"]
    assert told["state"] == "Failed"
    assert "waitingSince" not in told
    # Nobody set a deadline.
    assert "Failed" not in conditions(status(job(status=WAITS_NOW), seen, later(10**6), refusal))


def test_how_a_driver_may_be_placed() -> None:
    placed = {
        "priorityClassName": "low",
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
    }
    for driver, expected in (({"command": ["true"], **placed}, placed), ({"command": ["true"]}, {})):
        (made,) = plan(job(driver=driver), Observed(READY, workers_of(READY)), NOW).start
        found = made["spec"]["template"]["spec"]
        assert {name: found[name] for name in placed if name in found} == expected
        assert made["spec"]["podFailurePolicy"] == attempts.POLICY


@pytest.mark.parametrize(
    ("cluster_", "resumed"),
    [
        (READY, True),
        (None, False),
        ({**READY, "spec": {**READY["spec"], "suspend": True}}, False),
        (cluster(status={"observedGeneration": 2, "conditions": [condition("Ready", "True", "Ready")]}), False),
        (cluster(status={"observedGeneration": 3, "conditions": [condition("Ready", "False", "NoWorkers")]}), True),
        (cluster(status={"observedGeneration": 3, "conditions": [condition("Ready", "False", "Suspended")]}), False),
    ],
)
def test_a_driver_goes_on_once_its_engine_answers(cluster_: Object | None, resumed: bool) -> None:
    found = plan(job(), Observed(cluster_, driver=batch_job(suspend=True)), NOW)
    assert found.patch == ([Patch(JOB, NAMESPACE, "mean-driver", {"spec": {"suspend": False}})] if resumed else [])
    # It stops in any case.
    found = plan(job(suspend=True), Observed(cluster_, driver=batch_job()), NOW)
    assert found.patch == [Patch(JOB, NAMESPACE, "mean-driver", {"spec": {"suspend": True}})]


TEMPLATE: Object = {"clusterTemplate": {"spec": {"engine": "dask", "replicas": 2, "suspend": False}}}


def fresh(item: Object) -> Object:
    return {**item, "metadata": {name: value for name, value in item["metadata"].items() if name != "generation"}}


def change(twin: Twin, key: Key, **spec: Any) -> None:
    item = twin.objects[key]
    twin.put({**item, "spec": {**item["spec"], **spec}})


def test_what_does_not_start_leaves_nothing_behind() -> None:
    twin = Twin()
    stuck = {"engine": "dask", "values": {"replicas": 1}}
    twin.put(fresh(job(startDeadlineSeconds=60, clusterTemplate={"spec": stuck})))
    asyncio.run(twin.settle())
    assert "Failed" not in conditions(twin.objects[MEAN]["status"])
    twin.clock.pass_(60)
    asyncio.run(twin.settle())
    failed = conditions(twin.objects[MEAN]["status"])["Failed"]
    assert failed["reason"] == "StartDeadlineExceeded"
    assert "InvalidSpec: spec.values.replicas" in failed["message"]
    assert twin.objects.keys() == {MEAN}


@pytest.mark.parametrize(
    ("lines", "kept"), [(1, None), (10, None), (11, 11), (1500, 1000)], ids=["one", "ten", "eleven", "many"]
)
def test_a_longer_log_is_kept(lines: int, kept: int | None) -> None:
    twin = Twin()
    twin.output = "".join(f"{number}\n" for number in range(lines))
    twin.put(fresh(job(driver={"command": ["true"]}, **TEMPLATE)))
    asyncio.run(twin.settle())
    assert twin.objects[MEAN]["status"]["output"].splitlines() == [str(n) for n in range(max(0, lines - 10), lines)]
    log = twin.objects.get(Key("ConfigMap", NAMESPACE, "mean-log"))
    assert (len(log["data"]["driver.log"].splitlines()) if log else None) == kept
    if log:
        # Nobody has to keep it in memory, and it goes with its job.
        assert "app.kubernetes.io/part-of" not in log["metadata"]["labels"]
        twin.remove(MEAN)
        assert twin.objects == {}


@pytest.mark.parametrize("goes", [True, False])
def test_a_log_of_an_earlier_job_is_not_taken_for_its_own(goes: bool) -> None:
    twin, log = Twin(), Key("ConfigMap", NAMESPACE, "mean-log")
    # Its driver ends then.
    twin.clock.now = moment(EARLIER) + timedelta(seconds=10)
    twin.output = "".join(f"{number}\n" for number in range(20))
    earlier = {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerJob", "name": "mean", "uid": "earlier"}
    metadata = {"name": "mean-log", "namespace": NAMESPACE, "ownerReferences": [earlier]}
    twin.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"driver.log": "old"}})
    twin.put(fresh(job(driver={"command": ["true"]}, **TEMPLATE)))
    with pytest.raises(Refused, match="ConfigMap mean-log"):
        asyncio.run(twin.settle())
    assert "Complete" not in conditions(twin.objects[MEAN]["status"])
    if goes:
        twin.remove(log)
        asyncio.run(twin.settle())
        assert twin.objects[log]["data"]["driver.log"].splitlines()[0] == "0"
    else:
        # Then it ends without one, and says why.
        twin.clock.pass_(20)
        with pytest.raises(Refused):
            asyncio.run(twin.settle())
        assert twin.objects[log]["data"]["driver.log"] == "old"
        told = conditions(twin.objects[MEAN]["status"])["ClusterReady"]
        assert told["reason"] == "NameTaken"
        assert "ConfigMap mean-log" in told["message"]
    assert conditions(twin.objects[MEAN]["status"])["Complete"]["status"] == "True"


def test_a_node_that_does_not_answer_does_not_hold_up_the_end() -> None:
    twin = Twin()
    # Its driver ends then.
    twin.clock.now = moment(EARLIER) + timedelta(seconds=10)
    twin.put(fresh(job(driver={"command": ["true"]}, **TEMPLATE)))

    async def log_tail(namespace: str, pod: str, lines: int) -> str:
        raise ApiError(500, "no route to host")

    twin.log_tail = log_tail  # type: ignore[method-assign]
    with pytest.raises(ApiError):
        asyncio.run(twin.settle())
    twin.clock.pass_(19)
    with pytest.raises(ApiError):
        asyncio.run(twin.settle())
    twin.clock.pass_(1)
    asyncio.run(twin.settle())
    assert conditions(twin.objects[MEAN]["status"])["Complete"]["status"] == "True"
    assert twin.objects[MEAN]["status"]["output"] == ""


def test_a_crash_at_any_write_of_a_job_that_is_suspended_and_resumed() -> None:
    def story(crash_after: int | None) -> Twin:
        twin = Twin(crash_after)
        twin.output = "\n".join(map(str, range(30)))
        twin.put(fresh(job(driver={"command": ["true"]}, **TEMPLATE)))

        def once(key: Key) -> None:
            for _ in range(2):
                try:
                    asyncio.run(twin.reconciler().reconcile(key))
                    return
                except Crash:
                    twin.restart()

        # Until its driver is there, and no longer.
        while DRIVER not in twin.objects:
            for key in [key for key in twin.objects if key.kind in ("WorkerCluster", "WorkerJob")]:
                once(key)
            for item in list(twin.objects.values()):
                if item["kind"] in ("Deployment", "StatefulSet"):
                    twin.control()
                    break
        for suspend in (True, False):
            change(twin, MEAN, suspend=suspend)
            if suspend:
                once(MEAN)
                once(Key("WorkerCluster", NAMESPACE, "mean"))
        asyncio.run(twin.settle())
        return twin

    whole = story(None)
    expected = whole.state()
    assert conditions(whole.objects[MEAN]["status"])["Complete"]["status"] == "True"
    assert ("patch", DRIVER) in whole.writes
    for crash_after in range(1, len(whole.writes) + 1):
        assert story(crash_after).state() == expected, crash_after
