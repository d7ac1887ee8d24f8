"""What a worker could not save when it left, by the last word that its container leaves behind."""

import json
from collections import Counter
from collections.abc import Mapping

from trireme_operator.api import Object
from trireme_operator.engines.demand import Nonsense, count
from trireme_operator.plan.pods import was_killed

# What the charts' drains write, in the order in which it is told: a word for one and one for several.
_WORDS = {
    "requeued": ("running task went back to the queue", "running tasks went back to the queue"),
    "recomputed": (
        "result that no other worker took is computed again where it is needed",
        "results that no other worker took are computed again where they are needed",
    ),
    "lost": ("task that was acknowledged early is lost", "tasks that were acknowledged early are lost"),
    "executors": (
        "executor was stopped with what it ran and held",
        "executors were stopped with what they ran and held",
    ),
}


def left_behind(pod: Object) -> str | None:
    """Return what a worker's pod that is gone could not hand over, for people; None if nothing.

    Args:
        pod: as it was last seen, its containers' ends with it: more than one where it has several processes.
    """
    states = [container.get("state", {}) for container in pod.get("status", {}).get("containerStatuses", [])]
    ends = [state["terminated"] for state in states if state.get("terminated")]
    counts: Counter[str] = Counter()
    for end in ends:
        counts.update(_counts(end.get("message", "")))
    told = [f"{counts[name]} {words[counts[name] > 1]}" for name, words in _WORDS.items() if counts[name]]
    if not told and any(was_killed(end) and end.get("reason") != "OOMKilled" for end in ends):
        told = ["what it ran and held is done again elsewhere"]
    if not told:
        return None
    name, grace = pod["metadata"]["name"], pod["spec"].get("terminationGracePeriodSeconds")
    return (
        f"{name} could not hand over all within {grace} s: {', '.join(told)}; raise spec.drainSeconds for longer tasks"
    )


def _counts(message: str) -> Mapping[str, int]:
    """Read the counts in a last word; anything else, such as a program's own, is none."""
    try:
        said = json.loads(message)["trireme"]
        return {name: number for name in _WORDS if name in said and (number := count(said, name))}
    except (KeyError, Nonsense, RecursionError, TypeError, ValueError):
        return {}
