"""Dask: a scheduler, which drivers find by their Dask configuration."""

from trireme_operator.api import DEPLOYMENT
from trireme_operator.engines.adapter import Adapter, Endpoint

DASK = Adapter(
    name="dask",
    control="scheduler",
    control_kind=DEPLOYMENT,
    control_image="spec.image",
    images={"image": "trireme/dask:dev"},
    endpoints=(Endpoint("scheduler", "tcp://{host}:8786"), Endpoint("dashboard", "http://{host}:8787/status")),
    has_password=False,
    shared_env=("DASK_SCHEDULER_ADDRESS", "DASK_CONFIG"),
    shared_volumes=("code", "conf"),
)
