"""The shape of an engine's adapter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trireme_operator.api import Kind, Object


@dataclass(frozen=True)
class Endpoint:
    """Where an engine answers: `{host}` stands for the control pod's Service."""

    name: str
    url: str


def _nothing(_: Object) -> list[Object]:
    return []


@dataclass(frozen=True)
class Adapter:
    """One engine.

    Args:
        name: as in spec.engine; also the name of its chart and of its block in the spec.
        control: component of the control pod, which ends the names of its objects.
        control_kind: kind of the control pod's controller.
        control_image: the field that sets the control pod's image.
        endpoints: where it answers.
        has_password: whether its clients need the password in the Secret `<cluster>-auth`.
        shared_env: the workers' variables by which drivers, too, find the engine.
        shared_volumes: the workers' volumes that drivers mount as well.
        driver_env: further variables of a driver, given its container.
    """

    name: str
    control: str
    control_kind: Kind
    control_image: str
    endpoints: tuple[Endpoint, ...]
    has_password: bool
    shared_env: tuple[str, ...]
    shared_volumes: tuple[str, ...]
    driver_env: Callable[[Object], Sequence[Object]] = _nothing
