"""The variables by which a program finds a cluster's engine, as drivers get them; from outside, through forwards."""

import base64
import json
import re
import shlex
import socket
from collections.abc import Mapping

from trireme.client.forward import Forward
from trireme.client.kube import Kube, NotFound, Object
from trireme.errors import TriremeError

_NAMES = {
    "dask": ("DASK_SCHEDULER_ADDRESS",),
    "spark": ("SPARK_REMOTE", "SPARK_MASTER", "_SPARK_AUTH_SECRET"),
    "celery": ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"),
}
_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_SERVICE = r"([a-z][-a-z0-9]*)\.{namespace}\.svc(?:\.cluster\.local)?:([0-9]+)"
_REACH_SECONDS = 3
_DRIVERS = "trireme.dev/drivers"
"""On a worker Deployment: what drivers get beside what workers have, as JSON."""


def inside(kube: Kube, cluster: Object) -> dict[str, str]:
    """Return the variables as they are in the cluster.

    Raises:
        TriremeError: its workers are not there yet, or a Secret can't be read.
    """
    name, engine = cluster["metadata"]["name"], cluster["spec"]["engine"]
    try:
        workers = kube.get("deployments", f"{name}-worker")
    except NotFound:
        raise TriremeError(f"cluster {name} has no workers' Deployment yet: wait until it is Ready") from None
    containers = workers["spec"]["template"]["spec"]["containers"]
    given = list(next(one for one in containers if one["name"] == "worker").get("env", []))
    for_drivers = workers["metadata"].get("annotations", {}).get(_DRIVERS)
    if for_drivers:
        given += json.loads(for_drivers).get("env", [])
    values: dict[str, str] = {}
    wanted = _closure(given, _NAMES[engine])
    for variable in given:
        if variable["name"] in wanted:
            found = _value(kube, variable)
            if found is not None:
                values[variable["name"]] = _REFERENCE.sub(lambda match: values.get(match[1], match[0]), found)
    result = {key: values[key] for key in _NAMES[engine] if key in values}
    # A Connect client refuses a master beside it, and has the secret in its URL.
    return {"SPARK_REMOTE": result["SPARK_REMOTE"]} if "SPARK_REMOTE" in result else result


def _closure(given: list[Object], names: tuple[str, ...]) -> set[str]:
    """Return the names of variables and of those that they refer to: no other Secret is to be read."""
    wanted = set(names)
    for variable in reversed(given):
        if variable["name"] in wanted:
            wanted |= set(_REFERENCE.findall(str(variable.get("value", ""))))
    return wanted


def _value(kube: Kube, variable: Object) -> str | None:
    if "valueFrom" not in variable:
        return str(variable.get("value", ""))
    reference = variable["valueFrom"].get("secretKeyRef")
    if not reference:
        return None
    try:
        data = kube.get("secrets", reference["name"]).get("data", {})
    except NotFound:
        if reference.get("optional"):
            return None
        raise
    if reference["key"] not in data:
        return None
    return base64.b64decode(data[reference["key"]]).decode()


def services(values: Mapping[str, str], namespace: str) -> set[tuple[str, int]]:
    """Return the Services and ports that variables name."""
    pattern = re.compile(_SERVICE.format(namespace=re.escape(namespace)))
    return {(match[1], int(match[2])) for value in values.values() for match in pattern.finditer(value)}


def rewritten(values: Mapping[str, str], namespace: str, addresses: Mapping[tuple[str, int], str]) -> dict[str, str]:
    """Return variables with other addresses in place of Services."""
    pattern = re.compile(_SERVICE.format(namespace=re.escape(namespace)))
    return {
        name: pattern.sub(lambda match: addresses.get((match[1], int(match[2])), match[0]), value)
        for name, value in values.items()
    }


def _own_address(host: str, port: int) -> str:
    """Return this pod's address towards a Service; none if a NetworkPolicy, or anything else, closes that way."""
    try:
        with socket.create_connection((host, port), _REACH_SECONDS) as connection:
            return str(connection.getsockname()[0])
    except OSError:
        return ""


def of_a_driver(properties: Mapping[str, str], address: str) -> dict[str, str]:
    """Return the variables by which PySpark in a pod is a driver of a standalone Spark.

    Args:
        properties: the cluster's.
        address: the pod's; its name is none that executors could resolve.
    """
    words = [word for key, value in properties.items() for word in ("--conf", f"{key}={value}")]
    return {"SPARK_LOCAL_HOSTNAME": address, "PYSPARK_SUBMIT_ARGS": shlex.join([*words, "pyspark-shell"])}


def spark_properties(kube: Kube, name: str) -> dict[str, str]:
    """Return the properties that the drivers of a standalone Spark have.

    Args:
        kube: where it is.
        name: of the cluster.
    """
    lines = kube.get("configmaps", f"{name}-conf")["data"]["spark-defaults.conf"].splitlines()
    pairs = (line.split(None, 1) for line in lines if line.strip() and not line.startswith("#"))
    return {pair[0]: pair[1] if len(pair) > 1 else "" for pair in pairs}


def celery_settings(kube: Kube, name: str) -> tuple[Object, Object]:
    """Return the settings that the workers and drivers of a Celery cluster have.

    Args:
        kube: where it is.
        name: of the cluster.

    Returns:
        Those for applications that say nothing themselves, such as the kind of queues, and those over all.
    """
    data = kube.get("configmaps", f"{name}-conf")["data"]
    return json.loads(data["defaults.json"]), json.loads(data["config.json"])


class Connection:
    """A way to a cluster's engine from here, open until it is closed.

    Args:
        kube: where the cluster is.
        cluster: the WorkerCluster.

    Raises:
        TriremeError: there is none from here.
    """

    def __init__(self, kube: Kube, cluster: Object) -> None:
        self._forwards: list[Forward] = []
        self.env = inside(kube, cluster)
        found = sorted(services(self.env, kube.namespace))
        if kube.inside:
            own = [_own_address(f"{service}.{kube.namespace}.svc", port) for service, port in found]
            if all(own):
                if own and "SPARK_MASTER" in self.env:
                    self.env |= of_a_driver(spark_properties(kube, cluster["metadata"]["name"]), own[0])
                return
        if "SPARK_MASTER" in self.env:
            raise TriremeError(
                f"cluster {cluster['metadata']['name']} is a standalone Spark, whose executors must reach the driver:"
                " connect from a pod, submit a script by trireme run --cluster, or set spec.spark.mode to connect"
            )
        try:
            for service, port in found:
                self._forwards.append(Forward(kube, service, port))
        except BaseException:
            self.close()
            raise
        addresses = {key: forward.address for key, forward in zip(found, self._forwards, strict=True)}
        self.env = rewritten(self.env, kube.namespace, addresses)

    def close(self) -> None:
        """Close it."""
        for forward in self._forwards:
            forward.close()
        self._forwards = []

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
