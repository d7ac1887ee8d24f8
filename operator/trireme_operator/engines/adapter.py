"""The shape of an engine's adapter."""

from collections.abc import Callable
from dataclasses import dataclass

from trireme_operator.api import Kind, Object


@dataclass(frozen=True)
class Endpoint:
    """Where an engine answers: `{host}` stands for the control pod's Service."""

    name: str
    url: str


@dataclass(frozen=True)
class Adapter:
    """One engine.

    Args:
        name: as in spec.engine; also the name of its chart and of its block in the spec.
        control: component of the control pod, which ends the names of its objects.
        control_kind: kind of the control pod's controller.
        endpoints: where it answers.
        has_password: whether its clients need the password in the Secret `<cluster>-auth`.
        driver: adds to a driver's pod spec what connects it, given the spec, the cluster's name and namespace.
    """

    name: str
    control: str
    control_kind: Kind
    endpoints: tuple[Endpoint, ...]
    has_password: bool
    driver: Callable[[Object, str, str], None]


def add_env(pod: Object, *variables: Object) -> None:
    """Put variables before those that the container of a pod spec has; the container's own win."""
    container = pod["containers"][0]
    own = {variable["name"] for variable in container["env"]}
    container["env"] = [variable for variable in variables if variable["name"] not in own] + container["env"]


def mount_config_map(pod: Object, volume: str, name: str, path: str) -> None:
    """Mount a ConfigMap's keys as files into the container of a pod spec."""
    pod["volumes"].append({"name": volume, "configMap": {"name": name}})
    pod["containers"][0]["volumeMounts"].append({"name": volume, "mountPath": path, "readOnly": True})
