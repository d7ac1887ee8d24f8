"""What a plan consists of."""

from dataclasses import dataclass, field

from trireme_operator.api import Kind, Object


@dataclass(frozen=True)
class Delete:
    """An object to delete, only while it still is the one that was seen."""

    kind: Kind
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Patch:
    """A merge patch of an object that can't be applied again as a whole."""

    kind: Kind
    namespace: str
    name: str
    body: Object


@dataclass
class Plan:
    """What one reconcile does, in this order.

    Args:
        create: objects to create unless they are there, not to change after: Secrets, which the operator can't read.
        renew: changes once one of those was made: pods that began with what was there before it begin anew.
        apply: objects to apply where they are not so already.
        start: objects to create unless they are there as their owner's, when all that they need is: Jobs, whose
            template is fixed, and what a driver that has ended had printed.
        patch: changes to such objects.
        delete: objects to delete.
        again: seconds after which to look again although nothing was seen to change; None for never.
    """

    create: list[Object] = field(default_factory=list)
    renew: list[Patch] = field(default_factory=list)
    apply: list[Object] = field(default_factory=list)
    start: list[Object] = field(default_factory=list)
    patch: list[Patch] = field(default_factory=list)
    delete: list[Delete] = field(default_factory=list)
    again: float | None = None
