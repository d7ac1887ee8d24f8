"""Spark in standalone mode: a master, which drivers find by spark-defaults.conf."""

from trireme_operator.api import STATEFUL_SET, Object
from trireme_operator.engines.adapter import Adapter, Endpoint, add_env, mount_config_map
from trireme_operator.quantity import mebibytes

_CONF = "/opt/trireme/conf"
# The rest of a driver's pod is for Python and for what a JVM takes beside its heap.
_HEAP_SHARE = 0.6
# UnifiedMemoryManager refuses less than 450 MiB.
_LEAST_HEAP = 470


def _driver(pod: Object, cluster: str, namespace: str) -> None:
    limit = pod["containers"][0].get("resources", {}).get("limits", {}).get("memory")
    heap = max(_LEAST_HEAP, int(mebibytes(limit) * _HEAP_SHARE)) if limit is not None else 1024
    add_env(
        pod,
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        # Executors connect back to the driver, whose pod has no name that resolves.
        {"name": "SPARK_LOCAL_IP", "value": "$(POD_IP)"},
        {"name": "SPARK_LOCAL_HOSTNAME", "value": "$(POD_IP)"},
        {"name": "SPARK_MASTER", "value": f"spark://{cluster}-master.{namespace}.svc:7077"},
        {"name": "SPARK_CONF_DIR", "value": _CONF},
        {"name": "SPARK_DRIVER_MEMORY", "value": f"{heap}m"},
    )
    mount_config_map(pod, "conf", f"{cluster}-conf", _CONF)


SPARK = Adapter(
    name="spark",
    control="master",
    control_kind=STATEFUL_SET,
    endpoints=(Endpoint("master", "spark://{host}:7077"), Endpoint("ui", "http://{host}:8080")),
    has_password=False,
    driver=_driver,
)
