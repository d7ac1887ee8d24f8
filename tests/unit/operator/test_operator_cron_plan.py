"""What is decided about a WorkerCronJob."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from operating import NAMESPACE, STATUS, Crash, Twin, condition, conditions, cron_job

from trireme_operator import events
from trireme_operator.api import WORKER_JOB, Key, Object, owned_by
from trireme_operator.plan.action import Delete, Plan
from trireme_operator.plan.cron import plan, status
from trireme_operator.plan.pods import Trouble

CREATED = "2026-01-02T00:00:30Z"
CRON = Key("WorkerCronJob", NAMESPACE, "nightly")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def run(due: str, end: str = "", completion: str | None = None, name: str = "") -> Object:
    """Make a job of the cron job's, that was due at a time, and has ended if it is said how."""
    name = name or f"nightly-{int(at(due).timestamp()) // 60}"
    told: Object = {"conditions": [condition(end, "True")]} if end else {}
    if completion:
        told["completionTime"] = f"{completion}:00Z"
    return {
        "apiVersion": "trireme.dev/v1alpha1",
        "kind": "WorkerJob",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{name}",
            "annotations": {"trireme.dev/cronjob-scheduled-timestamp": f"{due}:00Z"},
        },
        "status": told,
    }


def nightly(last: str | None = None, **spec: Any) -> Object:
    found = cron_job("nightly", **{"schedule": "0 * * * *", **spec})
    found["metadata"]["creationTimestamp"] = CREATED
    return {**found, "status": {"lastScheduleTime": f"{last}:00Z"}} if last else found


@pytest.mark.parametrize(
    ("item", "jobs", "now", "started", "deleted", "reason"),
    [
        # Not yet due since it was made, due on the minute, and once.
        (nightly(), [], "2026-01-02T00:59:59", None, [], "Scheduled"),
        (nightly(), [], "2026-01-02T01:00", "2026-01-02T01:00", [], "Scheduled"),
        (nightly(), [], "2026-01-02T01:20", "2026-01-02T01:00", [], "Scheduled"),
        (nightly("2026-01-02T01:00"), [], "2026-01-02T01:20", None, [], "Scheduled"),
        # It is there, though the status does not say so yet: whoever made it stopped there.
        (nightly(), [run("2026-01-02T01:00")], "2026-01-02T01:20", None, [], "Scheduled"),
        (nightly(), [run("2026-01-02T01:00", "Complete")], "2026-01-02T01:20", None, [], "Scheduled"),
        # Of those missed, the last one.
        (nightly("2026-01-02T01:00"), [], "2026-01-02T05:20", "2026-01-02T05:00", [], "Scheduled"),
        (nightly("2025-12-01T01:00"), [], "2026-01-02T05:20", "2026-01-02T05:00", [], "TooManyMissedTimes"),
        (
            nightly("2025-12-01T01:00", startingDeadlineSeconds=3600),
            [],
            "2026-01-02T05:20",
            "2026-01-02T05:00",
            [],
            "Scheduled",
        ),
        # A time zone's hours.
        (
            nightly(schedule="0 3 * * *", timeZone="Europe/Rome"),
            [],
            "2026-01-02T02:00",
            "2026-01-02T02:00",
            [],
            "Scheduled",
        ),
        # Too late, and just in time.
        (nightly(startingDeadlineSeconds=60), [], "2026-01-02T01:01:01", None, [], "MissSchedule"),
        (nightly(startingDeadlineSeconds=60), [], "2026-01-02T01:01", "2026-01-02T01:00", [], "Scheduled"),
        (nightly(startingDeadlineSeconds=0), [], "2026-01-02T01:00", "2026-01-02T01:00", [], "Scheduled"),
        # One runs still.
        (
            nightly("2026-01-02T01:00"),
            [run("2026-01-02T01:00")],
            "2026-01-02T02:00",
            "2026-01-02T02:00",
            [],
            "Scheduled",
        ),
        (
            nightly("2026-01-02T01:00", concurrencyPolicy="Forbid"),
            [run("2026-01-02T01:00")],
            "2026-01-02T02:00",
            None,
            [],
            "JobAlreadyActive",
        ),
        (
            nightly("2026-01-02T01:00", concurrencyPolicy="Forbid"),
            [run("2026-01-02T01:00")],
            "2026-01-02T01:30",
            None,
            [],
            "Scheduled",
        ),
        (
            nightly("2026-01-02T01:00", concurrencyPolicy="Forbid"),
            [run("2026-01-02T01:00", "Failed")],
            "2026-01-02T03:30",
            "2026-01-02T03:00",
            [],
            "Scheduled",
        ),
        (
            nightly("2026-01-02T01:00", concurrencyPolicy="Replace"),
            [run("2026-01-02T01:00"), run("2026-01-02T00:00", "Complete")],
            "2026-01-02T02:00",
            None,
            ["2026-01-02T01:00"],
            "Scheduled",
        ),
        (
            nightly("2026-01-02T01:00", concurrencyPolicy="Replace"),
            [run("2026-01-02T01:00")],
            "2026-01-02T01:30",
            None,
            [],
            "Scheduled",
        ),
        # Held, and wrong.
        (nightly(suspend=True), [], "2026-01-02T05:20", None, [], "Suspended"),
        (nightly(schedule="0 0 31 2 *"), [], "2026-01-02T05:20", None, [], "InvalidSchedule"),
        (nightly(timeZone="Mars/Olympus"), [], "2026-01-02T05:20", None, [], "UnknownTimeZone"),
        (nightly(timeZone="Mars/Olympus", suspend=True), [], "2026-01-02T05:20", None, [], "UnknownTimeZone"),
    ],
)
def test_what_is_started(
    item: Object, jobs: list[Object], now: str, started: str | None, deleted: list[str], reason: str
) -> None:
    made = plan(item, jobs, at(now))
    assert [job["metadata"]["name"] for job in made.start] == ([run(started)["metadata"]["name"]] if started else [])
    assert made.delete == [
        Delete(WORKER_JOB, NAMESPACE, run(due)["metadata"]["name"], run(due)["metadata"]["uid"]) for due in deleted
    ]
    assert (made.create, made.apply, made.patch) == ([], [], [])
    told = status(item, jobs, at(now), made)
    STATUS["WorkerCronJob"].validate(told)
    ready = conditions(told)["Ready"]
    assert ready["reason"] == reason
    assert ready["status"] == str(reason not in ("Suspended", "InvalidSchedule", "UnknownTimeZone"))
    if started:
        assert told["lastScheduleTime"] == f"{started}:00Z"


@pytest.mark.parametrize(
    ("item", "now", "again"),
    [
        (nightly(), "2026-01-02T00:59:50", 10.1),
        (nightly(), "2026-01-02T00:00:50", 600),
        (nightly("2026-01-02T01:00"), "2026-01-02T01:59:59", 1.1),
        (nightly("2026-01-02T01:00", schedule="* * * * *"), "2026-01-02T01:00:00", 60.1),
        # What will not start by itself is not looked at again by itself.
        (nightly(suspend=True), "2026-01-02T00:59:50", None),
        (nightly(schedule="x"), "2026-01-02T00:59:50", None),
    ],
)
def test_when_it_is_looked_at_again(item: Object, now: str, again: float | None) -> None:
    found = plan(item, [], at(now)).again
    assert found == (None if again is None else pytest.approx(again))


def test_the_job_is_as_the_template_says() -> None:
    item = nightly(
        jobTemplate={
            "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
            "spec": {"clusterRef": {"name": "numbers"}, "driver": {"script": "print(1)"}},
        }
    )
    (made,) = plan(item, [], at("2026-01-02T01:00")).start
    assert made["metadata"]["name"] == f"nightly-{int(at('2026-01-02T01:00').timestamp()) // 60}"
    assert made["metadata"]["namespace"] == NAMESPACE
    assert made["metadata"]["labels"].items() >= {"team": "a", "trireme.dev/cronjob": "nightly"}.items()
    assert made["metadata"]["annotations"] == {
        "note": "b",
        "trireme.dev/cronjob-scheduled-timestamp": "2026-01-02T01:00:00Z",
    }
    assert owned_by(made, item)
    assert made["spec"] == item["spec"]["jobTemplate"]["spec"]


HOURS = [f"2026-01-02T{hour:02}:00" for hour in range(1, 7)]


@pytest.mark.parametrize(
    ("limits", "last", "gone"),
    [
        # Three that completed and one that failed are kept if nobody says otherwise.
        ({}, "2026-01-02T06:00", [HOURS[0], HOURS[1]]),
        ({"successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0}, HOURS[5], HOURS[:2] + HOURS[3:] + [HOURS[2]]),
        ({"successfulJobsHistoryLimit": 9, "failedJobsHistoryLimit": 9}, HOURS[5], []),
        # The start of one that the status does not tell of is told by the job alone.
        ({"successfulJobsHistoryLimit": 0}, HOURS[4], HOURS[:2] + HOURS[3:5]),
    ],
)
def test_how_many_are_kept(limits: Object, last: str, gone: list[str]) -> None:
    ended = [run(due, "Failed" if due == HOURS[2] else "Complete") for due in reversed(HOURS)]
    made = plan(nightly(last, suspend=True, **limits), [*ended, run("2026-01-02T00:00")], at("2026-01-02T06:30"))
    assert [delete.name for delete in made.delete] == [run(due)["metadata"]["name"] for due in gone]


def test_what_the_status_tells() -> None:
    jobs = [
        run("2026-01-02T03:00"),
        run("2026-01-02T01:00", "Complete", "2026-01-02T01:10"),
        run("2026-01-02T02:00", "Failed"),
        run("2026-01-02T00:00", "Complete", "2026-01-02T02:10"),
    ]
    told = status(nightly("2026-01-02T02:00"), jobs, at("2026-01-02T03:30"), Plan())
    assert [one["name"] for one in told["active"]] == [jobs[0]["metadata"]["name"]]
    assert told["active"][0]["uid"] == jobs[0]["metadata"]["uid"]
    assert told["activeCount"] == 1
    assert (told["lastScheduleTime"], told["lastSuccessfulTime"]) == ("2026-01-02T03:00:00Z", "2026-01-02T02:10:00Z")
    # Kept, though the jobs are gone.
    later = status({**nightly(), "status": told}, [], at("2026-01-02T03:30"), Plan())
    assert (later["lastScheduleTime"], later["lastSuccessfulTime"]) == ("2026-01-02T03:00:00Z", "2026-01-02T02:10:00Z")
    assert (later["active"], later["activeCount"]) == ([], 0)


def test_a_job_that_is_refused_is_not_taken_for_started() -> None:
    item, now = nightly(), at("2026-01-02T01:00")
    told = status(item, [], now, plan(item, [], now), Trouble("Invalid", "WorkerJob nightly-1: spec.driver: no"))
    assert "lastScheduleTime" not in told
    ready = conditions(told)["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "Invalid")
    assert "spec.driver" in ready["message"]


def test_events_of_runs() -> None:
    found = events.for_runs(nightly(), [{"name": "a"}, {"name": "b"}], [{"name": "b"}, {"name": "c"}], CREATED)
    assert [(one["reason"], one["message"]) for one in found] == [
        ("SuccessfulCreate", "created job c"),
        ("SawCompletedJob", "saw job a end"),
    ]


def turn(twin: Twin) -> None:
    asyncio.run(twin.settle())


def jobs_of(twin: Twin) -> list[str]:
    return sorted(key.name for key in twin.objects if key.kind == "WorkerJob")


TEMPLATE: Object = {
    "spec": {"clusterTemplate": {"spec": {"engine": "dask", "suspend": False}}, "driver": {"command": ["true"]}}
}


@pytest.mark.parametrize("policy", ["Allow", "Forbid", "Replace"])
def test_each_time_one_job(policy: str) -> None:
    twin = Twin()
    twin.put(cron_job("nightly", schedule="0 * * * *", concurrencyPolicy=policy, jobTemplate=TEMPLATE))
    turn(twin)
    assert jobs_of(twin) == []
    for hours in (1, 2):
        twin.clock.pass_(3600)
        turn(twin)
        # From start to end, its cluster included.
        assert len(jobs_of(twin)) == hours
        assert not [key for key in twin.objects if key.kind == "WorkerCluster"]
    told = twin.objects[CRON]["status"]
    assert told["lastScheduleTime"] == "2026-01-02T05:00:00Z"
    assert told["activeCount"] == 0
    reasons = [event["reason"] for event in twin.events if event["involvedObject"]["kind"] == "WorkerCronJob"]
    assert reasons == ["SuccessfulCreate", "SawCompletedJob"] * 2
    writes = len(twin.writes)
    twin.clock.pass_(60)
    turn(twin)
    assert len(twin.writes) == writes
    twin.clock.pass_(5 * 3600)
    turn(twin)
    assert len(jobs_of(twin)) == 3
    # Its jobs go with it.
    twin.remove(CRON)
    assert twin.objects == {}


@pytest.mark.parametrize("policy", ["Forbid", "Replace"])
def test_one_at_a_time(policy: str) -> None:
    twin = Twin()
    stuck: Object = {"spec": {"clusterRef": {"name": "nowhere"}, "driver": {"command": ["true"]}}}
    twin.put(cron_job("nightly", schedule="0 * * * *", concurrencyPolicy=policy, jobTemplate=stuck))
    twin.clock.pass_(3600)
    turn(twin)
    (first,) = jobs_of(twin)
    twin.clock.pass_(3600)
    turn(twin)
    (second,) = jobs_of(twin)
    assert (first == second) is (policy == "Forbid")
    if policy == "Forbid":
        assert conditions(twin.objects[CRON]["status"])["Ready"]["reason"] == "JobAlreadyActive"
        twin.remove(Key("WorkerJob", NAMESPACE, first))
        turn(twin)
        assert jobs_of(twin) == [f"nightly-{int(at('2026-01-02T05:00').timestamp()) // 60}"]


@pytest.mark.parametrize("lag", [False, True])
def test_a_crash_after_any_write_runs_nothing_twice(lag: bool) -> None:
    def story(crash_after: int | None) -> Twin:
        twin = Twin(crash_after)
        limits = {"successfulJobsHistoryLimit": 1, "concurrencyPolicy": "Replace"}
        twin.put(cron_job("nightly", schedule="0 * * * *", jobTemplate=TEMPLATE, **limits))
        for _ in range(3):
            twin.clock.pass_(3600)
            if lag:
                # Two operators that each look at what was.
                before = twin.store
                for _ in range(2):
                    twin.store = before
                    try:
                        asyncio.run(twin.reconciler().reconcile(CRON))
                    except Crash:
                        twin.restart()
            turn(twin)
        return twin

    whole = story(None)
    expected = whole.state()
    created = {key.name for verb, key in whole.writes if (verb, key.kind) == ("create", "WorkerJob")}
    assert len(created) == 3
    for crash_after in range(1, len(whole.writes) + 1):
        twin = story(crash_after)
        assert twin.state() == expected, crash_after
        assert {key.name for verb, key in twin.writes if (verb, key.kind) == ("create", "WorkerJob")} == created
