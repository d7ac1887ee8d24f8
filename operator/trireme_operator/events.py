"""Events: what `kubectl describe` tells about a change."""

import uuid
from collections.abc import Iterable

from trireme_operator.api import Object
from trireme_operator.plan.scaling import CONDITION
from trireme_operator.reasons import REASONS, Told

_COMPONENT = "trireme-operator"
_QUIET = {reason.name for reason in REASONS if reason.told is Told.NO}
_GOOD = {reason.name for reason in REASONS if reason.told is Told.NORMAL}
# What autoscaling says while all is well.
_SEEING = {"DemandKnown", "Observing"}


def for_conditions(about: Object, before: Iterable[Object], after: Iterable[Object], now: str) -> list[Object]:
    """Return the events that a change of conditions is worth.

    Args:
        about: the object that the conditions are of.
        before: the conditions as they were.
        after: as they are now.
        now: the time, as in JSON.
    """
    old = {condition["type"]: condition for condition in before}
    found = []
    for new in after:
        was = old.get(new["type"], {})
        if (was.get("status"), was.get("reason")) == (new["status"], new["reason"]):
            continue
        reason = "Resumed" if was.get("reason") == "Suspended" else new["reason"]
        lost = new["type"] == "Ready" and was.get("status") == "True"
        # What Progressing has to tell, Ready tells as well.
        if (reason in _QUIET and not lost) or new["type"] == "Progressing":
            continue
        # Autoscaling begins and pauses with the cluster, which tells so itself.
        if new["type"] == CONDITION and ("Suspended" in (new["reason"], was.get("reason")) or _begins(was, new)):
            continue
        found.append(event(about, reason, new["message"], "Normal" if reason in _GOOD else "Warning", now))
    return found


def for_runs(about: Object, before: Iterable[Object], after: Iterable[Object], now: str) -> list[Object]:
    """Return the events of jobs that a cron job started, and of those that have ended since, in batch/v1's words.

    Args:
        about: the cron job.
        before: references of the jobs that ran, as they were.
        after: as they are now.
        now: the time, as in JSON.
    """
    old, new = ({run["name"] for run in runs} for runs in (before, after))
    began = [event(about, "SuccessfulCreate", f"created job {name}", "Normal", now) for name in sorted(new - old)]
    ended = [event(about, "SawCompletedJob", f"saw job {name} end", "Normal", now) for name in sorted(old - new)]
    return began + ended


def _begins(was: Object, new: Object) -> bool:
    return new["reason"] in _SEEING and was.get("reason", "Starting") in _QUIET


def event(about: Object, reason: str, message: str, type_: str, now: str) -> Object:
    """Return an event about an object; `type_` is Normal or Warning, `now` the time as in JSON."""
    metadata = about["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": type_,
        "reason": reason,
        "message": message[:1024],
        "source": {"component": _COMPONENT},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
