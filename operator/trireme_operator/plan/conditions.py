"""Conditions by the conventions of metav1.Condition."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from trireme_operator.api import Object


@dataclass(frozen=True)
class Condition:
    """One condition as it should be; the time of its last change follows from the one before."""

    type: str
    status: bool | None
    reason: str
    message: str


def merge(before: Iterable[Object], wanted: Iterable[Condition], generation: int, now: str) -> list[Object]:
    """Return the conditions for a status.

    Args:
        before: those in the status now; kept where nothing changed, dropped where no longer wanted.
        wanted: those to have.
        generation: the generation that they are about.
        now: the time of the changes, as in JSON.
    """
    old = {condition["type"]: condition for condition in before}
    merged = []
    for condition in wanted:
        status = {True: "True", False: "False", None: "Unknown"}[condition.status]
        same = old.get(condition.type, {}).get("status") == status
        merged.append(
            {
                "type": condition.type,
                "status": status,
                "reason": condition.reason,
                "message": condition.message,
                "lastTransitionTime": old[condition.type]["lastTransitionTime"] if same else now,
                "observedGeneration": generation,
            }
        )
    return merged


def is_true(item: Object, type_: str) -> bool:
    """Tell whether an object has a condition with status True."""
    return any(
        condition["type"] == type_ and condition["status"] == "True"
        for condition in item.get("status", {}).get("conditions", [])
    )


def find(item: Object, type_: str) -> Object | None:
    """Return an object's condition of a type."""
    for condition in item.get("status", {}).get("conditions", []):
        if condition["type"] == type_:
            found: Object = condition
            return found
    return None


def timestamp(moment: datetime) -> str:
    """Return a time as Kubernetes writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """Read a time that Kubernetes wrote."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
