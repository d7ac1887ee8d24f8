"""How autoscaling shows in a cluster's status."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from trireme_operator.api import Object, is_group
from trireme_operator.plan.conditions import Condition, find, moment, timestamp

CONDITION = "AutoscalingActive"
# By as much a time may differ from what was told of it: each look computes it anew.
_SAME_SECONDS = 2.0


@dataclass(frozen=True)
class Scaling:
    """What the autoscaler last saw and decided about a cluster.

    Args:
        desired: workers that it wants; None while it can't tell.
        demand: the work that there is, for people.
        reason: why it wants as many, for people.
        problem: what keeps it from telling: a reason in one word and a message; None if nothing does.
        last_scale: when it last changed the size, as in JSON; None if not since it started.
        next_scale: when the size could change next by itself, as in JSON; None if time alone changes nothing.
        rivals: the field managers that keep replacing its sizes; none unless it is a fight.
    """

    desired: int | None
    demand: str
    reason: str
    problem: tuple[str, str] | None = None
    last_scale: str | None = None
    next_scale: str | None = None
    rivals: tuple[str, ...] = ()


def is_on(cluster: Object) -> bool:
    """Tell whether a cluster is to be sized by its work now."""
    return "autoscaling" in cluster["spec"] and not cluster["spec"].get("suspend")


def held_at_0(cluster: Object) -> str:
    """Say why there are no workers while a cluster, or a group or the cluster that it is of, is suspended."""
    return f"spec.suspend{', here or of the cluster,' if is_group(cluster) else ''} holds the workers at 0"


def sets_size(cluster: Object) -> bool:
    """Tell whether the size of a cluster with autoscaling is written, and not only told."""
    return bool(cluster["spec"]["autoscaling"].get("mode", "Auto") == "Auto")


def next_scale(again: float | None, now: datetime, told: str | None) -> str | None:
    """Return when a size could change next, in whole seconds: never earlier than so, and never told in two ways.

    Args:
        again: seconds until then; None if time alone changes nothing.
        now: the time.
        told: what was last said about it, as in JSON.
    """
    if again is None:
        return None
    at = now + timedelta(seconds=again)
    if told and abs((at - moment(told)).total_seconds()) <= _SAME_SECONDS:
        return told
    return timestamp(at + timedelta(microseconds=-at.microsecond % 1_000_000))


def status(cluster: Object, scaling: Scaling | None) -> Object | None:
    """Return status.autoscaling; what was there before, where the autoscaler has nothing to tell yet or now."""
    if "autoscaling" not in cluster["spec"]:
        return None
    before: Object = cluster.get("status", {}).get("autoscaling", {})
    found = dict(before)
    if scaling and scaling.desired is not None:
        found = {"desiredReplicas": scaling.desired, "demand": scaling.demand, "reason": scaling.reason}
        if last := scaling.last_scale or before.get("lastScaleTime"):
            found["lastScaleTime"] = last
        if scaling.next_scale:
            found["nextScaleTime"] = scaling.next_scale
    # While it can't tell, or may not act, time alone changes nothing.
    if (scaling and scaling.desired is None) or not is_on(cluster):
        found.pop("nextScaleTime", None)
    return found or None


def condition(cluster: Object, scaling: Scaling | None) -> Condition | None:
    """Return the condition that says whether the cluster is sized by its work; None where it is not to be."""
    if "autoscaling" not in cluster["spec"]:
        return None
    if cluster["spec"].get("suspend"):
        return Condition(CONDITION, False, "Suspended", held_at_0(cluster))
    if scaling is None:
        before = find(cluster, CONDITION)
        if before and before["reason"] != "Suspended":
            return Condition(CONDITION, before["status"] == "True", before["reason"], before["message"])
        return Condition(CONDITION, False, "Starting", "the demand was not read yet")
    if scaling.problem:
        reason, message = scaling.problem
        return Condition(CONDITION, False, reason, f"{message}; the size is held" if sets_size(cluster) else message)
    if not sets_size(cluster):
        return Condition(
            CONDITION, False, "Observing", "spec.autoscaling.mode is Observe: the demand is told, no size is set"
        )
    return Condition(CONDITION, True, "DemandKnown", "the cluster is sized by the work that waits")
