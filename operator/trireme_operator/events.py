"""Events: what `kubectl describe` tells about a change."""

import uuid

from trireme_operator.api import Object

_COMPONENT = "trireme-operator"
_BAD = {"InvalidSpec", "NameTaken", "DriverFailed", "OOMKilled", "BackoffLimitExceeded", "DeadlineExceeded", "NotFound"}


def for_condition(about: Object, condition: Object, now: str) -> Object:
    """Return the event that a condition's change is worth.

    Args:
        about: the object that the condition is of.
        condition: as it is now.
        now: the time, as in JSON.
    """
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
        "type": "Warning" if condition["reason"] in _BAD else "Normal",
        "reason": condition["reason"],
        "message": condition["message"][:1024],
        "source": {"component": _COMPONENT},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
