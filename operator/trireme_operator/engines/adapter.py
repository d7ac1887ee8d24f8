"""The shape of an engine's adapter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from trireme_operator.api import Kind, Object


@dataclass(frozen=True)
class Endpoint:
    """Where an engine answers.

    Args:
        name: what answers.
        url: where; `{host}` stands for the Service.
        component: whose Service that is, and the address is told only if there is one; the control pod's if empty.
        port: the Service's port of which that is true; empty where there is no choice.
    """

    name: str
    url: str
    port: str = ""
    component: str = ""


@dataclass(frozen=True)
class Driver:
    """A driver about to be made.

    Args:
        container: its container, resources included.
        cluster: spec of the WorkerCluster that it uses.
        capacity: what one worker offers.
        properties: the engine's configuration that the cluster sets, as the chart's value `config`.
        borrows: whether others may use that cluster, too.
    """

    container: Object
    cluster: Object
    capacity: Object
    properties: Object
    borrows: bool


def _nothing(_: Driver) -> list[Object]:
    return []


def _fit(_: Object) -> str:
    return ""


def _alone(_: Object, __: Sequence[Object]) -> Object:
    return {}


def _remembers(_: Object) -> str:
    return ""


def _none(_config: Object, _schema: Object) -> list[str]:
    return []


@dataclass(frozen=True)
class Adapter:
    """One engine.

    Args:
        name: as in spec.engine; also the name of its chart and of its block in the spec.
        control: component of the control pod, which ends the names of its objects.
        control_kind: kind of the control pod's controller.
        control_image: the field that sets the control pod's image.
        images: the chart's values for images, as they are called below whatever registry they come from.
        endpoints: where it answers.
        has_password: whether its clients need the password in the Secret `<cluster>-auth`.
        shared_env: the workers' variables by which drivers, too, find the engine.
        shared_volumes: the workers' volumes that drivers mount as well.
        driver_env: further variables of a driver.
        driver_ports: of a driver's container, by which Prometheus finds its metrics.
        servers: components that have to answer for the cluster to be Ready, where its chart renders them.
        monitor: component that tells the demand where the control pod is elsewhere; empty if none does.
        autoscaled: the chart's values for clusters with spec.autoscaling.
        beside: the chart's values for a cluster beside groups: of its spec and theirs.
        unfit: says what is wrong with a group of its spec, as a field and what to do; empty if nothing is.
        forgets: says how to have a control pod keep what it knows, where one that takes its place knows no driver of
            before, which waits for ever then; given a control pod. Empty if it keeps that, or drivers find out.
        afterword: what its client may log behind the last line of a program, as a regular expression.
        unknown: what is wrong with the keys of a configuration that may be another library's, and is taken therefore;
            given the chart's value `config` and its schema.
    """

    name: str
    control: str
    control_kind: Kind
    control_image: str
    images: Object
    endpoints: tuple[Endpoint, ...]
    has_password: bool
    shared_env: tuple[str, ...]
    shared_volumes: tuple[str, ...]
    driver_env: Callable[[Driver], Sequence[Object]] = _nothing
    driver_ports: tuple[Object, ...] = ()
    servers: tuple[str, ...] = ()
    monitor: str = ""
    autoscaled: Object = field(default_factory=dict)
    beside: Callable[[Object, Sequence[Object]], Object] = _alone
    unfit: Callable[[Object], str] = _fit
    forgets: Callable[[Object], str] = _remembers
    afterword: str = ""
    unknown: Callable[[Object, Object], Sequence[str]] = _none
