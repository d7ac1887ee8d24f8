"""What to do about a WorkerCronJob: batch/v1's CronJob for WorkerJobs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from trireme_operator.api import (
    API_VERSION,
    CRON_LABEL,
    LABEL_MANAGED_BY,
    LABEL_PART_OF,
    PART_OF,
    SCHEDULED_ANNOTATION,
    WORKER_JOB,
    Object,
    owner_reference,
)
from trireme_operator.plan.action import Delete, Plan
from trireme_operator.plan.cluster import MANAGER
from trireme_operator.plan.conditions import Condition, is_true, merge, moment, timestamp
from trireme_operator.plan.job import has_ended
from trireme_operator.plan.pods import Trouble
from trireme_operator.plan.schedule import MANY, BadSchedule, Schedule

# A timer may fire a little early; and a clock that is set is noticed within so long.
_AFTER_SECONDS = 0.1
_LONGEST_SLEEP_SECONDS = 600.0
_ACTIVE_TOLD = 1000


@dataclass(frozen=True)
class _Due:
    """How the schedule stands.

    Args:
        problem: what is wrong with it; all else counts only if nothing is.
        time: when the job that is to be started now was due; None if there is none.
        next: when the next one is due.
        waits_for: the job that a forbidden one waits for.
        missed: when one was due that is too late now.
        many: whether more starts were missed than anybody could want.
    """

    problem: BadSchedule | None = None
    time: datetime | None = None
    next: datetime | None = None
    waits_for: str | None = None
    missed: datetime | None = None
    many: bool = False


def plan(cron: Object, jobs: Sequence[Object], now: datetime) -> Plan:
    """Decide what to do about a cron job.

    Args:
        cron: the WorkerCronJob.
        jobs: the WorkerJobs that it owns.
        now: the time.
    """
    made = Plan(delete=_history(cron, jobs))
    due = _due(cron, jobs, now)
    if due.next:
        left = (due.next - now).total_seconds() + _AFTER_SECONDS
        made.again = min(max(left, _AFTER_SECONDS), _LONGEST_SLEEP_SECONDS)
    active = _active(jobs)
    if due.time and active and _policy(cron) == "Replace":
        # The new one is started when they are seen to be gone.
        made.delete += [_delete(job) for job in active]
    elif due.time:
        made.start.append(_job(cron, due.time))
    return made


def status(
    cron: Object, jobs: Sequence[Object], now: datetime, started: Plan, refusal: Trouble | None = None
) -> Object:
    """Return the status of a cron job.

    Args:
        cron: the WorkerCronJob.
        jobs: the WorkerJobs that it owns.
        now: the time.
        started: what was done.
        refusal: what the API server did not accept of that.
    """
    before, found = cron.get("status", {}), {"observedGeneration": cron["metadata"]["generation"]}
    active = sorted(_active(jobs), key=_scheduled)
    found["active"] = [
        {
            "apiVersion": job["apiVersion"],
            "kind": job["kind"],
            "name": job["metadata"]["name"],
            "namespace": job["metadata"]["namespace"],
            "uid": job["metadata"]["uid"],
        }
        for job in active[-_ACTIVE_TOLD:]
    ]
    found["activeCount"] = len(active)
    began = [] if refusal else started.start
    if last := _last(before, "lastScheduleTime", (_scheduled(job) for job in (*jobs, *began))):
        found["lastScheduleTime"] = last
    complete = (job["status"].get("completionTime", "") for job in jobs if is_true(job, "Complete"))
    if last := _last(before, "lastSuccessfulTime", complete):
        found["lastSuccessfulTime"] = last
    suspended = bool(cron["spec"].get("suspend"))
    conditions = [
        Condition("Ready", False, refusal.reason, refusal.message) if refusal else _ready(cron, jobs, now),
        Condition("Suspended", True, "Suspended", "spec.suspend holds the schedule")
        if suspended
        else Condition("Suspended", False, "NotSuspended", "spec.suspend is false"),
    ]
    stamp = timestamp(now)
    found["conditions"] = merge(before.get("conditions", []), conditions, cron["metadata"]["generation"], stamp)
    return found


def _ready(cron: Object, jobs: Sequence[Object], now: datetime) -> Condition:
    due = _due(cron, jobs, now)
    if due.problem:
        return Condition("Ready", False, due.problem.reason, str(due.problem))
    if cron["spec"].get("suspend"):
        return Condition("Ready", False, "Suspended", "spec.suspend holds the schedule")
    then = f"the next job is due at {timestamp(due.next)}" if due.next else "no other job is due"
    if due.many:
        text = f"more than {MANY} starts were missed, of which the last counts: set or lower startingDeadlineSeconds"
        return Condition("Ready", True, "TooManyMissedTimes", f"{text}; {then}")
    if due.waits_for:
        text = f"spec.concurrencyPolicy Forbid: a job that is due waits until {due.waits_for} has ended"
        return Condition("Ready", True, "JobAlreadyActive", text)
    if due.missed:
        text = f"the job due at {timestamp(due.missed)} is later than spec.startingDeadlineSeconds allows"
        return Condition("Ready", True, "MissSchedule", f"{text}; {then}")
    return Condition("Ready", True, "Scheduled", then)


def _due(cron: Object, jobs: Sequence[Object], now: datetime) -> _Due:
    spec = cron["spec"]
    try:
        schedule = Schedule(spec["schedule"], spec.get("timeZone"))
    except BadSchedule as problem:
        return _Due(problem)
    if spec.get("suspend"):
        return _Due()
    made = _last(cron.get("status", {}), "lastScheduleTime", map(_scheduled, jobs))
    latest, missed = schedule.latest(moment(made or cron["metadata"]["creationTimestamp"]), now)
    following = schedule.after(now)
    if latest is None:
        return _Due(next=following)
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None and latest + timedelta(seconds=deadline) < now:
        return _Due(next=following, missed=latest)
    active = _active(jobs)
    if active and _policy(cron) == "Forbid":
        return _Due(next=following, waits_for=active[0]["metadata"]["name"])
    return _Due(time=latest, next=following, many=missed > MANY and deadline is None)


def _policy(cron: Object) -> str:
    return str(cron["spec"].get("concurrencyPolicy", "Allow"))


def _active(jobs: Sequence[Object]) -> list[Object]:
    return [job for job in jobs if not has_ended(job)]


def _scheduled(job: Object) -> str:
    """Return when a job was due; times as Kubernetes writes them are in order as text, too."""
    return str(job["metadata"].get("annotations", {}).get(SCHEDULED_ANNOTATION, ""))


def _last(before: Object, field: str, seen: Iterable[str]) -> str:
    return max((str(before.get(field, "")), *seen))


def _delete(job: Object) -> Delete:
    metadata = job["metadata"]
    return Delete(WORKER_JOB, metadata["namespace"], metadata["name"], metadata["uid"])


def _history(cron: Object, jobs: Sequence[Object]) -> list[Delete]:
    """Return the deletions of ended jobs beyond the limits: the oldest, and none that the status tells not of."""
    last = cron.get("status", {}).get("lastScheduleTime", "")
    found = []
    for end, field, default in (("Complete", "successfulJobsHistoryLimit", 3), ("Failed", "failedJobsHistoryLimit", 1)):
        ended = sorted((job for job in jobs if is_true(job, end)), key=_scheduled)
        keep = cron["spec"].get(field, default)
        found += [_delete(job) for job in ended[: max(0, len(ended) - keep)] if _scheduled(job) <= last]
    return found


def _job(cron: Object, due: datetime) -> Object:
    """Return the job of a time; its name tells the time, so that it is made once whoever makes it how often."""
    template = cron["spec"]["jobTemplate"]
    given = template.get("metadata", {})
    metadata = cron["metadata"]
    return {
        "apiVersion": API_VERSION,
        "kind": WORKER_JOB.kind,
        "metadata": {
            "name": f"{metadata['name']}-{int(due.timestamp()) // 60}",
            "namespace": metadata["namespace"],
            "labels": {
                **given.get("labels", {}),
                LABEL_PART_OF: PART_OF,
                LABEL_MANAGED_BY: MANAGER,
                CRON_LABEL: metadata["name"],
            },
            "annotations": {**given.get("annotations", {}), SCHEDULED_ANNOTATION: timestamp(due)},
            "ownerReferences": [owner_reference(cron)],
        },
        "spec": template["spec"],
    }
