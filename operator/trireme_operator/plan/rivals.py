"""Two who drive one size: the autoscaler, and whoever else keeps writing spec.replicas."""

import math
from dataclasses import dataclass, replace

from trireme_operator.api import SCALER, Object
from trireme_operator.plan.conditions import Condition, find
from trireme_operator.plan.scaling import Scaling, is_on, sets_size

CONDITION = "ScalingContended"

# One size set by hand is corrected; more of them, each within this time of the one before, are a fight.
_CALM_SECONDS = 300.0
_FIGHT = 2
# As many are named.
_MOST = 4
_KNOWN = {
    "kube-controller-manager": "a HorizontalPodAutoscaler, perhaps KEDA's",
    "kubectl-client-side-apply": "kubectl apply",
}


@dataclass(frozen=True)
class Contest:
    """How often others have replaced sizes that the autoscaler set.

    Args:
        ours: the generation of the cluster before a size was set, and that size; None if others have replaced it since.
        last: when one was last replaced, in seconds of a monotonic clock.
        times: how often one was, each time within 5 minutes of the one before.
        by: the field managers that did, in the order in which they came; the first few.
    """

    ours: tuple[int, int] | None = None
    last: float = -math.inf
    times: int = 0
    by: tuple[str, ...] = ()

    @property
    def rivals(self) -> tuple[str, ...]:
        """Whom the autoscaler fights with: none before it set a size, lost it, and lost the next as well."""
        return self.by if self.times >= _FIGHT else ()


def wrote(contest: Contest, generation: int, size: int) -> Contest:
    """Note that the autoscaler set a size.

    Args:
        contest: what was known.
        generation: the cluster's, before that.
        size: the workers.
    """
    return replace(contest, ours=(generation, size))


def saw(contest: Contest, cluster: Object, now: float) -> Contest:
    """Look at a cluster's size, and at who set it.

    Args:
        contest: what was known.
        cluster: the WorkerCluster, with its managedFields.
        now: seconds of a monotonic clock.
    """
    # A clock that was set back must not make a fight last.
    contest = replace(contest, last=min(contest.last, now))
    if now - contest.last >= _CALM_SECONDS:
        contest = Contest(contest.ours)
    owners = _owners_of_size(cluster)
    if contest.ours is None or not owners or SCALER in owners:
        return contest
    generation, size = contest.ours
    # Of the generation before, it does not show our size yet.
    if cluster["metadata"]["generation"] <= generation or cluster["spec"].get("replicas", 1) == size:
        return contest
    by = tuple(dict.fromkeys((*contest.by, *owners)))[:_MOST]
    return Contest(None, now, contest.times + 1, by)


def _owners_of_size(cluster: Object) -> list[str]:
    """Return the field managers of spec.replicas; more than one if several have applied the same size."""
    return sorted(
        entry.get("manager", "")
        for entry in cluster["metadata"].get("managedFields", [])
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    )


def condition(cluster: Object, scaling: Scaling | None) -> Condition | None:
    """Return the condition that says that two drive one size; None where that is not so."""
    if not is_on(cluster) or not sets_size(cluster):
        return None
    if scaling is None:
        # An operator that has just started does not know better than the one before.
        before = find(cluster, CONDITION)
        return Condition(CONDITION, True, before["reason"], before["message"]) if before else None
    if not scaling.rivals:
        return None
    return Condition(
        CONDITION,
        True,
        "TwoWriters",
        f"{SCALER} and {', '.join(map(_named, scaling.rivals))} set spec.replicas in turn, again and again: "
        "remove spec.autoscaling, or set spec.autoscaling.mode to Observe, or let nothing else set spec.replicas",
    )


def _named(manager: str) -> str:
    return f"{manager} ({_KNOWN[manager]})" if manager in _KNOWN else manager
