"""Why a driver's pods failed: what ran them ended them, or what they ran."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from trireme_operator.api import Object
from trireme_operator.plan.conditions import find, moment
from trireme_operator.plan.pods import Fields, Trouble, ended

DRIVER = Fields("spec.driver.image", "spec.driver.resources", "spec.driver.priorityClassName")
MOST = 10
"""So many failures are told, the last ones."""
_OUTPUT_CHARACTERS = 1024
_MESSAGE_CHARACTERS = 1024

POLICY: Object = {
    "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}],
}
"""A Job's podFailurePolicy: what Kubernetes does to a pod for others' sake is no failure of its program."""

# The reasons of the condition DisruptionTarget, by Kubernetes' documentation of pod disruption conditions.
_DISRUPTIONS = {
    "PreemptionByScheduler": "the driver's pod made room for one of a higher priority",
    "EvictionByEvictionAPI": "the driver's pod was evicted, as for the drain of its node",
    "DeletionByTaintManager": "the driver's node was lost, or tainted against its pod",
    "DeletionByPodGC": "the driver's node was lost",
    "TerminationByKubelet": "the driver's node was short of something, or went down",
}


@dataclass(frozen=True)
class Forgetting:
    """A control pod that knows none of the drivers that began before it, which wait for it in vain.

    Args:
        component: what it is, such as a master.
        since: when it was made, as in JSON.
        fix: how to have it keep what it knows.
    """

    component: str
    since: str
    fix: str


def failures(job: Object, pods: Iterable[Object], stamp: str, forgetting: Forgetting | None = None) -> list[Object]:
    """Return the driver pods that failed since the last look, oldest first, as in status.failures.

    Args:
        job: the WorkerJob, with the status that tells of the earlier ones.
        pods: its driver's pods, oldest first.
        stamp: the time, for those of which nothing tells when they were made.
        forgetting: the control pod of its cluster, if that forgets drivers.
    """
    before = job.get("status", {}).get("failures", [])
    known, number, since = {one["pod"] for one in before}, 0, ""
    if before:
        number, since = before[-1]["attempt"], before[-1]["time"]
    found = []
    for pod in pods:
        name, forgotten = pod["metadata"]["name"], of_forgotten(job, pod, forgetting)
        trouble = forgotten or of(job, pod)
        made = pod["metadata"].get("creationTimestamp", stamp)
        # One is made after the end of another. Those before the last that is told were told, though not any more.
        if trouble is None or name in known or made < since:
            continue
        number += 1
        one = {
            "attempt": number,
            "pod": name,
            "reason": trouble.reason,
            "message": trouble.message[:_MESSAGE_CHARACTERS],
            "time": _end(pod) or (forgetting.since if forgotten and forgetting else made),
            "counted": of_disruption(pod) is None and forgotten is None,
        }
        if last_words := said(pod)[-_OUTPUT_CHARACTERS:]:
            one["output"] = last_words
        found.append(one)
    return found


def of(job: Object, pod: Object) -> Trouble | None:
    """Return why a driver's pod failed; None if it did not, or because its job was suspended."""
    if pod.get("status", {}).get("phase") != "Failed" or _suspended(job, pod):
        return None
    return of_disruption(pod) or of_failure(pod)


def of_disruption(pod: Object) -> Trouble | None:
    """Return what ended a pod for others' sake; None if nothing did."""
    condition = find(pod, "DisruptionTarget")
    if condition is None or condition["status"] != "True":
        return None
    said_so = condition.get("message", "")
    told = _DISRUPTIONS.get(condition["reason"], "the driver's pod was ended by Kubernetes")
    return Trouble(condition["reason"], f"{told}: {said_so}" if said_so else told)


def of_lost_node(pod: Object) -> Trouble | None:
    """Return what keeps a driver's next pod from coming, while the node of this one may not be there to end it."""
    disruption = of_disruption(pod)
    if disruption is None or disruption.reason != "DeletionByTaintManager":
        return None
    return Trouble(
        disruption.reason,
        f"{disruption.message}: the next one starts when pod {pod['metadata']['name']} has ended; if its node"
        f" {pod.get('spec', {}).get('nodeName', '')} does not answer, bring it back, delete it, or taint it"
        " node.kubernetes.io/out-of-service",
    )


def of_forgotten(job: Object, pod: Object, forgetting: Forgetting | None) -> Trouble | None:
    """Return why a driver is started anew that runs, or was deleted for this; None if it may go on.

    Args:
        job: the WorkerJob; one that is suspended has its driver ended anyway.
        pod: a driver's pod.
        forgetting: the control pod of its cluster, if that forgets drivers.
    """
    runs = pod.get("status", {}).get("phase") == "Running"
    deleted = pod.get("status", {}).get("phase") == "Failed" and "deletionTimestamp" in pod["metadata"]
    if forgetting is None or job["spec"].get("suspend") or of_disruption(pod) or not (runs or deleted):
        return None
    began = began_at(pod, "driver")
    if began is None or began >= forgetting.since:
        return None
    return Trouble(
        "ControlReplaced",
        f"the {forgetting.component} is another one since {forgetting.since}, which does not know the driver of before,"
        f" so that is started anew: {forgetting.fix}",
    )


def began_at(pod: Object, name: str) -> str | None:
    """Return when a container of a pod began, as in JSON; None if it has not."""
    for container in pod.get("status", {}).get("containerStatuses", []):
        if container["name"] == name:
            state = container.get("state", {})
            found: str | None = (state.get("running") or state.get("terminated") or {}).get("startedAt")
            return found
    return None


def of_failure(pod: Object, output: str | None = None) -> Trouble:
    """Return why a pod failed that nothing else ended.

    Args:
        pod: the driver's pod.
        output: the end of its log, where that is known better than from its status.
    """
    status = pod.get("status", {})
    if last := terminated(pod):
        last = {**last, "message": output} if output else last
        reason = "OOMKilled" if last.get("reason") == "OOMKilled" else "DriverFailed"
        if status.get("reason") != "Evicted":
            return Trouble(reason, f"the driver {ended(last, DRIVER)}")
    # A node that refuses a pod, and one whose pod used more of its disk than it may, say so here.
    why = status.get("message") or status.get("reason") or "nothing tells why"
    return Trouble(status.get("reason", "DriverFailed"), f"the driver's pod failed: {why}")


def terminated(pod: Object) -> Object | None:
    """Return how a driver's container ended, unless it ended well."""
    for container in pod.get("status", {}).get("containerStatuses", []):
        found: Object = container.get("state", {}).get("terminated", {})
        # Others may have added containers of their own.
        if container["name"] == "driver" and found.get("exitCode"):
            return found
    return None


def said(pod: Object) -> str:
    """Return the end of what a driver that failed had printed, which is in its pod's status for as long as that is."""
    return str((terminated(pod) or {}).get("message", "")).strip()


def _suspended(job: Object, pod: Object) -> bool:
    """Tell whether a pod was deleted because its job was suspended, or before it was resumed."""
    if "deletionTimestamp" not in pod["metadata"] or of_disruption(pod):
        return False
    if job["spec"].get("suspend"):
        return True
    resumed = find(job, "Suspended")
    if resumed is None:
        return False
    if resumed["status"] == "True":
        # It is about to be resumed: no driver has begun since.
        return True
    grace = timedelta(seconds=pod["metadata"].get("deletionGracePeriodSeconds", 0))
    return moment(pod["metadata"]["deletionTimestamp"]) - grace <= moment(resumed["lastTransitionTime"])


def _end(pod: Object) -> str | None:
    last = terminated(pod) or {}
    condition = find(pod, "DisruptionTarget") or {}
    found: str | None = last.get("finishedAt") or condition.get("lastTransitionTime")
    return found
