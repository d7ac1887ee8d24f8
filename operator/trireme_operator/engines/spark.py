"""Spark in standalone mode: a master, which drivers find by spark-defaults.conf."""

from trireme_operator.api import STATEFUL_SET, Object
from trireme_operator.engines.adapter import Adapter, Driver, Endpoint
from trireme_operator.quantity import mebibytes

# The rest of a driver's pod is for Python and for what a JVM takes beside its heap.
_HEAP_SHARE = 0.6
# UnifiedMemoryManager refuses less than 450 MiB.
_LEAST_HEAP = 470
_DEFAULT_HEAP = 1024
_CORES_MAX = "spark.cores.max"


def _driver_env(driver: Driver) -> list[Object]:
    limit = driver.container.get("resources", {}).get("limits", {}).get("memory")
    heap = max(_LEAST_HEAP, int(mebibytes(limit) * _HEAP_SHARE)) if limit is not None else _DEFAULT_HEAP
    variables = [
        # Executors connect back to the driver, whose pod has no name that resolves.
        {"name": "SPARK_LOCAL_IP", "value": "$(POD_IP)"},
        {"name": "SPARK_DRIVER_MEMORY", "value": f"{heap}m"},
    ]
    most = _most_cores(driver)
    if most is not None:
        # Goes before spark-defaults.conf, and after what the program itself sets.
        variables.append({"name": "PYSPARK_SUBMIT_ARGS", "value": f"--conf {_CORES_MAX}={most} pyspark-shell"})
    return variables


def _most_cores(driver: Driver) -> int | None:
    """Return how many cores an application may take that does not say so itself: half of a cluster that it borrows.

    At least one worker's. A standalone master gives the first application all there is, and the next one waits.
    """
    cores = driver.capacity.get("cores", "")
    if not driver.borrows or not cores.isdecimal() or _CORES_MAX in driver.properties:
        return None
    return max(1, int(driver.cluster.get("replicas", 1)) // 2) * int(cores)


SPARK = Adapter(
    name="spark",
    control="master",
    control_kind=STATEFUL_SET,
    control_image="spec.image",
    images={"image": "trireme/spark:dev"},
    endpoints=(Endpoint("master", "spark://{host}:7077"), Endpoint("ui", "http://{host}:8080")),
    has_password=False,
    shared_env=("POD_IP", "SPARK_LOCAL_HOSTNAME", "SPARK_MASTER", "SPARK_CONF_DIR"),
    shared_volumes=("code", "conf"),
    driver_env=_driver_env,
)
