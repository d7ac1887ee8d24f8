"""How autoscaling shows in a cluster's status."""

from dataclasses import dataclass

from trireme_operator.api import Object
from trireme_operator.plan.conditions import Condition, find

CONDITION = "AutoscalingActive"


@dataclass(frozen=True)
class Scaling:
    """What the autoscaler last saw and decided about a cluster.

    Args:
        desired: workers that it wants; None while it can't tell.
        demand: the work that there is, for people.
        reason: why it wants as many, for people.
        problem: what keeps it from telling: a reason in one word and a message; None if nothing does.
        last_scale: when it last changed the size, as in JSON; None if not since it started.
    """

    desired: int | None
    demand: str
    reason: str
    problem: tuple[str, str] | None = None
    last_scale: str | None = None


def is_on(cluster: Object) -> bool:
    """Tell whether a cluster is to be sized by its work now."""
    return "autoscaling" in cluster["spec"] and not cluster["spec"].get("suspend")


def status(cluster: Object, scaling: Scaling | None) -> Object | None:
    """Return status.autoscaling; what was there before, where the autoscaler has nothing to tell yet or now."""
    if "autoscaling" not in cluster["spec"]:
        return None
    before: Object = cluster.get("status", {}).get("autoscaling", {})
    if scaling is None or scaling.desired is None:
        return before or None
    found = {"desiredReplicas": scaling.desired, "demand": scaling.demand, "reason": scaling.reason}
    last = scaling.last_scale or before.get("lastScaleTime")
    return {**found, "lastScaleTime": last} if last else found


def condition(cluster: Object, scaling: Scaling | None) -> Condition | None:
    """Return the condition that says whether the cluster is sized by its work; None where it is not to be."""
    if "autoscaling" not in cluster["spec"]:
        return None
    if cluster["spec"].get("suspend"):
        return Condition(CONDITION, False, "Suspended", "spec.suspend holds the workers at 0")
    if scaling is None:
        before = find(cluster, CONDITION)
        if before and before["reason"] != "Suspended":
            return Condition(CONDITION, before["status"] == "True", before["reason"], before["message"])
        return Condition(CONDITION, False, "Starting", "the demand was not read yet")
    if scaling.problem:
        reason, message = scaling.problem
        return Condition(CONDITION, False, reason, f"{message}; the size is held")
    return Condition(CONDITION, True, "DemandKnown", "the cluster is sized by the work that waits")
