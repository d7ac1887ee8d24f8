"""Spark in standalone mode: a master, which drivers find by spark-defaults.conf."""

from trireme_operator.api import STATEFUL_SET, Object
from trireme_operator.engines.adapter import Adapter, Endpoint
from trireme_operator.quantity import mebibytes

# The rest of a driver's pod is for Python and for what a JVM takes beside its heap.
_HEAP_SHARE = 0.6
# UnifiedMemoryManager refuses less than 450 MiB.
_LEAST_HEAP = 470
_DEFAULT_HEAP = 1024


def _driver_env(container: Object) -> list[Object]:
    limit = container.get("resources", {}).get("limits", {}).get("memory")
    heap = max(_LEAST_HEAP, int(mebibytes(limit) * _HEAP_SHARE)) if limit is not None else _DEFAULT_HEAP
    return [
        # Executors connect back to the driver, whose pod has no name that resolves.
        {"name": "SPARK_LOCAL_IP", "value": "$(POD_IP)"},
        {"name": "SPARK_DRIVER_MEMORY", "value": f"{heap}m"},
    ]


SPARK = Adapter(
    name="spark",
    control="master",
    control_kind=STATEFUL_SET,
    control_image="spec.image",
    endpoints=(Endpoint("master", "spark://{host}:7077"), Endpoint("ui", "http://{host}:8080")),
    has_password=False,
    shared_env=("POD_IP", "SPARK_LOCAL_HOSTNAME", "SPARK_MASTER", "SPARK_CONF_DIR"),
    shared_volumes=("code", "conf"),
    driver_env=_driver_env,
)
