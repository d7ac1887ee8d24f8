"""Dask: a scheduler, which drivers find by their Dask configuration."""

from trireme_operator.api import DEPLOYMENT, Object
from trireme_operator.engines.adapter import Adapter, Endpoint, add_env, mount_config_map

_CONF = "/opt/trireme/conf"


def _driver(pod: Object, cluster: str, namespace: str) -> None:
    address = f"tcp://{cluster}-scheduler.{namespace}.svc:8786"
    add_env(pod, {"name": "DASK_SCHEDULER_ADDRESS", "value": address}, {"name": "DASK_CONFIG", "value": _CONF})
    mount_config_map(pod, "conf", f"{cluster}-conf", _CONF)


DASK = Adapter(
    name="dask",
    control="scheduler",
    control_kind=DEPLOYMENT,
    endpoints=(Endpoint("scheduler", "tcp://{host}:8786"), Endpoint("dashboard", "http://{host}:8787/status")),
    has_password=False,
    driver=_driver,
)
