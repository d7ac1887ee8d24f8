"""Every condition type and every reason of conditions and events: what it means, what to do, whether an event tells it.

`python -m trireme_operator.reasons write` makes docs/conditions.md of it. A test compares it with what the code says.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
DOCUMENT = TOP / "docs" / "conditions.md"

_CLUSTER = "WorkerCluster"
_GROUP = "WorkerGroup"
_JOB = "WorkerJob"
_CRON = "WorkerCronJob"
_WORKERS = (_CLUSTER, _GROUP)


class Told(Enum):
    """How an event tells that a condition has a reason now."""

    NO = "–"
    """Not at all: a step of a start or a change that goes well."""
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True)
class Type:
    """A type of conditions.

    Args:
        name: the type.
        kinds: of the resources that have it.
        true: what it means that it is True.
    """

    name: str
    kinds: tuple[str, ...]
    true: str


@dataclass(frozen=True)
class Reason:
    """A reason of conditions, of events, or of both.

    Args:
        name: the reason.
        of: the condition types that have it; none for a reason of events only.
        told: the event that tells it.
        meaning: what is so.
        fix: what to do about it; empty where nothing is wrong.
        passed_on: whether Kubernetes says it, and the operator only passes it on.
    """

    name: str
    of: tuple[str, ...]
    told: Told
    meaning: str
    fix: str = ""
    passed_on: bool = False


TYPES = (
    Type(
        "Ready",
        (*_WORKERS, _CRON),
        "the engine answers and, where workers are desired, at least one takes work; a schedule starts jobs",
    ),
    Type("Progressing", _WORKERS, "workers come or go"),
    Type("Suspended", (*_WORKERS, _JOB, _CRON), "`spec.suspend` is true, the group's own or its cluster's"),
    Type("AutoscalingActive", _WORKERS, "the demand is read, and the size follows it"),
    Type("ScalingContended", _WORKERS, "two set the size in turn; the condition is there only then"),
    Type(
        "QuotaShort",
        (*_WORKERS, _JOB),
        "a ResourceQuota has no room for pods that are to come, or may; the condition is there only then",
    ),
    Type("ConfigUnknown", (_CLUSTER,), "the engine's configuration has keys that it does not know; there only then"),
    Type("ClusterReady", (_JOB,), "the cluster that the job uses is Ready; reason and message are the cluster's"),
    Type("DriverRunning", (_JOB,), "the driver's pod runs"),
    Type("Complete", (_JOB,), "the driver ended with exit code 0; terminal, as in `batch/v1`"),
    Type("Failed", (_JOB,), "the job has failed for good; terminal, as in `batch/v1`"),
)

_READY = ("Ready", "Progressing", "ClusterReady")
_WAITS = (*_READY, "DriverRunning")

REASONS = (
    # All is well.
    Reason(
        "Ready", ("Ready", "ClusterReady"), Told.NORMAL, "the engine answers, and workers are ready if any should be"
    ),
    Reason("Settled", ("Progressing",), Told.NO, "as many workers are ready as are desired"),
    Reason("WorkersChanging", ("Progressing",), Told.NO, "workers come or go"),
    Reason(
        "ControlNotReady",
        ("Ready", "ClusterReady", "AutoscalingActive"),
        Told.NO,
        "the scheduler, master or broker is not ready yet",
        "wait; if it stays so, look at the control pod: `kubectl describe pod`, `kubectl logs`",
    ),
    Reason(
        "ControlReplaced",
        ("DriverRunning",),
        Told.WARNING,
        "a Spark master took the place of another one, and does not know the driver of before, which is started anew;"
        " `spec.backoffLimit` does not count it",
        "set `spec.spark.master.persistence` of the cluster, and drivers go on",
    ),
    Reason(
        "ClusterNotReady",
        ("Ready",),
        Told.NO,
        "the scheduler, master or broker of the group's cluster is not ready yet",
        "wait; if it stays so, look at the conditions of the WorkerCluster",
    ),
    Reason(
        "NoWorkers",
        ("Ready", "ClusterReady"),
        Told.NO,
        "the engine answers, but no worker is ready yet",
        "wait; if it stays so, look at a worker's pod: `kubectl describe pod`, `kubectl logs`",
    ),
    Reason("Creating", ("ClusterReady",), Told.NO, "the job's cluster is being made"),
    Reason("Starting", ("DriverRunning", "AutoscalingActive"), Told.NO, "it begins: nothing is known yet"),
    Reason("Running", ("DriverRunning",), Told.NO, "the driver's pod runs"),
    Reason("Ended", ("DriverRunning",), Told.NO, "the driver's pod has ended; Complete or Failed says how"),
    Reason("Completed", ("Complete",), Told.NORMAL, "the driver ended with exit code 0"),
    Reason(
        "Suspended",
        ("Suspended", "Ready", "ClusterReady", "AutoscalingActive"),
        Told.NORMAL,
        "`spec.suspend` holds the workers at 0, or the schedule",
        "set `spec.suspend` to false to go on",
    ),
    Reason("NotSuspended", ("Suspended",), Told.NO, "`spec.suspend` is false"),
    Reason("Stopped", ("DriverRunning",), Told.NO, "`spec.suspend` holds the driver", "set `spec.suspend` to false"),
    Reason("Resumed", (), Told.NORMAL, "`spec.suspend` was set to false"),
    Reason("DemandKnown", ("AutoscalingActive",), Told.NORMAL, "the cluster is sized by the work that waits"),
    Reason(
        "Observing",
        ("AutoscalingActive",),
        Told.NORMAL,
        "`spec.autoscaling.mode` is Observe: the demand is told, no size is set",
    ),
    Reason("Scaled", (), Told.NORMAL, "the autoscaler set `spec.replicas`; the message says why"),
    # What the spec, or what it refers to, has wrong.
    Reason(
        "InvalidSpec",
        _READY,
        Told.WARNING,
        "the chart refuses the values that the spec stands for, or a field is nested too deeply; nothing was changed",
        "correct the field that the message names",
    ),
    Reason(
        "Invalid",
        (*_READY, "Failed"),
        Told.WARNING,
        "the API server refuses an object that the spec asks for, and always will",
        "correct the field that the message names; a job has failed by that: make a new one",
    ),
    Reason(
        "UnknownKeys",
        ("ConfigUnknown",),
        Told.WARNING,
        "Dask has no such keys, and they are passed on all the same: they may be another library's",
        "correct the keys that the message names, or leave them out",
    ),
    Reason(
        "NameTaken",
        _WAITS,
        Told.WARNING,
        "an object of that name is there and belongs to somebody else; it is left alone",
        "delete it, or choose another name",
    ),
    Reason(
        "CodeNotFound",
        _WAITS,
        Told.WARNING,
        "the ConfigMap with the code is not there",
        "create it in the same namespace; everything goes on by itself then",
    ),
    Reason(
        "ClusterNotFound",
        ("Ready", "Progressing"),
        Told.WARNING,
        "there is no WorkerCluster of the name in a group's `spec.clusterRef`; workers that are there stay",
        "create it; a group for another cluster is another group",
    ),
    Reason(
        "NotFound",
        ("ClusterReady",),
        Told.WARNING,
        "there is no WorkerCluster of the name in `spec.clusterRef`",
        "create it, or correct the name",
    ),
    # What keeps pods from running.
    Reason(
        "QuotaExceeded",
        _WAITS,
        Told.WARNING,
        "a ResourceQuota of the namespace has no room for a pod",
        "lower the resources, or raise the quota that the message names",
    ),
    Reason(
        "DesiredExceedsQuota",
        ("QuotaShort",),
        Told.WARNING,
        "a ResourceQuota of the namespace has no room for `spec.replicas` workers",
        "raise the quota that the message names, or lower `spec.replicas` or `spec.resources`",
    ),
    Reason(
        "MaximumExceedsQuota",
        ("QuotaShort",),
        Told.WARNING,
        "a ResourceQuota of the namespace has no room for `spec.autoscaling.maxReplicas` workers",
        "raise the quota that the message names, or lower `spec.autoscaling.maxReplicas` or `spec.resources`",
    ),
    Reason(
        "DriverExceedsQuota",
        ("QuotaShort",),
        Told.WARNING,
        "a ResourceQuota of the namespace has no room for the driver",
        "raise the quota that the message names, or lower `spec.driver.resources`",
    ),
    Reason(
        "LimitRangeViolated",
        _WAITS,
        Told.WARNING,
        "a LimitRange of the namespace does not allow the resources of a pod",
        "change the resources that the message names, or the LimitRange",
    ),
    Reason(
        "FailedCreate",
        _WAITS,
        Told.WARNING,
        "the API server refuses the pods, such as for Pod Security or a PriorityClass that is not there",
        "do what the message asks for",
    ),
    Reason(
        "Unschedulable",
        _WAITS,
        Told.WARNING,
        "no node has room for a pod, or its placement excludes them all",
        "lower `requests`, correct the placement, or add nodes: [debugging](debugging.md#no-capacity)",
    ),
    Reason(
        "SchedulingGated",
        _WAITS,
        Told.WARNING,
        "something put a scheduling gate on the pod, and has not lifted it",
        "look for what manages the gate: `kubectl get pod -o yaml`",
        passed_on=True,
    ),
    Reason(
        "SchedulerError",
        _WAITS,
        Told.WARNING,
        "the scheduler could not place a pod for an error of its own, such as a conflict over a volume claim",
        "wait: it tries again; if it stays so, look at the message",
        passed_on=True,
    ),
    Reason(
        "ImagePullBackOff",
        _WAITS,
        Told.WARNING,
        "an image can't be pulled",
        "correct its name, or give access to it by `imagePullSecrets`: [debugging](debugging.md#bad-image)",
    ),
    Reason(
        "FailedMount",
        _WAITS,
        Told.WARNING,
        "a volume of a pod is made from a Secret or ConfigMap that is not there",
        "create what the message names, or correct the name",
    ),
    Reason(
        "CreateContainerConfigError",
        _WAITS,
        Told.WARNING,
        "a container refers to a Secret or ConfigMap, or a key of it, that is not there",
        "create what the message names",
    ),
    Reason(
        "CreateContainerError",
        _WAITS,
        Told.WARNING,
        "the container runtime can't make a container",
        "look at the message; mostly a volume or the command",
    ),
    Reason(
        "RunContainerError",
        _WAITS,
        Told.WARNING,
        "the container runtime can't start a container",
        "look at the message; mostly a command that is not in the image",
    ),
    Reason(
        "CrashLoopBackOff",
        _WAITS,
        Told.WARNING,
        "a container ends again and again; the message has its exit code and last line",
        "`kubectl logs --previous` of the pod",
    ),
    Reason(
        "OOMKilled",
        (*_WAITS, "Failed"),
        Told.WARNING,
        "a process used more memory than its pod's limit",
        "raise the limit that the message names, or make the work smaller: [debugging](debugging.md#out-of-memory)",
    ),
    Reason(
        "Evicted",
        _WAITS,
        Told.WARNING,
        "a node had too little memory or disk, and evicted a pod",
        "raise `requests` towards what is used",
    ),
    # What ends a driver's pod for others' sake: the reasons of Kubernetes' pod condition DisruptionTarget.
    *(
        Reason(
            name,
            ("DriverRunning",),
            Told.WARNING,
            f"{meaning}; it is tried again, and `spec.backoffLimit` does not count it",
            fix,
            passed_on=True,
        )
        for name, meaning, fix in (
            (
                "PreemptionByScheduler",
                "the driver's pod made room for one of a higher priority",
                "give the driver a higher `priorityClassName`, if it should stay",
            ),
            ("EvictionByEvictionAPI", "the driver's pod was evicted, as for the drain of its node", "nothing"),
            (
                "DeletionByTaintManager",
                "the driver's node was lost, or tainted",
                "look at the node, or tolerate it; the next pod comes when the old one has ended, so a node that stays"
                " away has to be deleted, or tainted `node.kubernetes.io/out-of-service`",
            ),
            ("DeletionByPodGC", "the driver's node was lost", "look at the node"),
            (
                "TerminationByKubelet",
                "the driver's node was short of something, or went down",
                "raise `requests` towards what is used",
            ),
        )
    ),
    # How jobs end.
    Reason(
        "StartDeadlineExceeded",
        ("Failed",),
        Told.WARNING,
        "the driver did not run within `spec.startDeadlineSeconds`",
        "see to what it waited for, which the message tells; then make a new job",
    ),
    Reason(
        "DriverFailed",
        ("Failed", "DriverRunning"),
        Told.WARNING,
        "the driver ended with another exit code than 0",
        "the message has its last lines; `kubectl logs` of its pod has all, as long as the job is there",
    ),
    Reason(
        "DeadlineExceeded",
        ("Failed",),
        Told.WARNING,
        "the driver took longer than `spec.activeDeadlineSeconds`",
        "raise it, or find what the driver waits for",
        passed_on=True,
    ),
    Reason(
        "BackoffLimitExceeded",
        ("Failed",),
        Told.WARNING,
        "the driver failed more often than `spec.backoffLimit` allows, and no pod is left to say how",
        "`kubectl describe job` of the driver",
        passed_on=True,
    ),
    # Schedules.
    Reason("Scheduled", ("Ready",), Told.NO, "the next job is started when it is due; the message says when"),
    Reason(
        "JobAlreadyActive",
        ("Ready",),
        Told.NORMAL,
        "a job is due, and waits for the end of another one: `spec.concurrencyPolicy` is Forbid",
    ),
    Reason(
        "MissSchedule",
        ("Ready",),
        Told.WARNING,
        "a job could not be started within `spec.startingDeadlineSeconds`",
        "raise it, or find what took the operator so long",
    ),
    Reason(
        "TooManyMissedTimes",
        ("Ready",),
        Told.WARNING,
        "more than 100 starts were missed, of which the last was made up for",
        "set or lower `spec.startingDeadlineSeconds`, or set the clock right",
    ),
    Reason(
        "InvalidSchedule",
        ("Ready",),
        Told.WARNING,
        "`spec.schedule` means nothing, or is never due",
        "give five fields (minute, hour, day, month, weekday), or a macro such as @hourly",
    ),
    Reason(
        "UnknownTimeZone",
        ("Ready",),
        Told.WARNING,
        "`spec.timeZone` is not known",
        "give a name of the IANA database, such as Europe/Rome",
    ),
    Reason("SuccessfulCreate", (), Told.NORMAL, "a WorkerCronJob started a job"),
    Reason("SawCompletedJob", (), Told.NORMAL, "a job of a WorkerCronJob ended; its own conditions say how"),
    # Autoscaling.
    Reason(
        "NoAnswer",
        ("AutoscalingActive",),
        Told.WARNING,
        "the demand can't be read; the size is held",
        "look at what the message names: [debugging](debugging.md#lost-broker)",
    ),
    Reason(
        "BadAnswer",
        ("AutoscalingActive",),
        Told.WARNING,
        "what should tell the demand answers something else; the size is held",
        "look at what the message names: another version of the engine, or something else listens there",
    ),
    Reason(
        "NoControlPod",
        ("AutoscalingActive",),
        Told.WARNING,
        "the control pod is elsewhere, and nothing tells the demand; the size is held",
        "set `spec.values.monitor.enabled` to true, or remove `spec.autoscaling`",
    ),
    Reason(
        "TwoWriters",
        ("ScalingContended",),
        Told.WARNING,
        "the autoscaler and somebody else set `spec.replicas` in turn",
        "remove one of them: `spec.autoscaling`, or whom the message names",
    ),
    # Work.
    Reason(
        "WorkLeftBehind",
        (),
        Told.WARNING,
        "a worker went before it could hand over all that it ran and held; the work is done again",
        "raise `spec.drainSeconds` for longer tasks",
    ),
)

_HEAD = """<!-- Generated by `make generate` from operator/trireme_operator/reasons.py. -->
# Conditions and events

`kubectl describe` shows both; `kubectl wait --for=condition=Ready` works on the types. Reasons keep their spelling from
release to release, messages are for people. [debugging.md](debugging.md) shows five failures from symptom to fix.

## Condition types

"""

_REASONS_HEAD = """
## Reasons

The event is written when a condition gets that reason; where there is none, the condition alone tells it, unless a
cluster is not Ready any more, which always is worth a Warning.

"""


def text() -> str:
    """Return the document."""
    types = _table(("Type", "On", "True when"), [(f"`{one.name}`", ", ".join(one.kinds), one.true) for one in TYPES])
    rows = [
        (
            f"`{one.name}`",
            ", ".join(one.of) or "event only",
            one.told.value,
            one.meaning,
            one.fix or "–",
        )
        for one in sorted(REASONS, key=lambda one: one.name)
    ]
    return _HEAD + types + _REASONS_HEAD + _table(("Reason", "Of", "Event", "Means", "What to do"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def main() -> int:
    """Write or check; return the exit status."""
    mode = sys.argv[1] if len(sys.argv) == 2 else ""
    if mode not in ("write", "check"):
        print("usage: python -m trireme_operator.reasons write|check", file=sys.stderr)
        return 2
    if mode == "write":
        DOCUMENT.write_text(text())
    elif not DOCUMENT.exists() or DOCUMENT.read_text() != text():
        print(f"{DOCUMENT.relative_to(TOP)} is out of date: run `make generate`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
