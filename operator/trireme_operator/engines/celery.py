"""Celery: a Redis broker, which drivers find by the variables that Celery itself reads."""

from trireme_operator.api import STATEFUL_SET, Object
from trireme_operator.engines.adapter import Adapter, Endpoint, add_env


def _driver(pod: Object, cluster: str, namespace: str) -> None:
    address = f"redis://:$(REDIS_PASSWORD)@{cluster}-broker.{namespace}.svc:6379"
    secret = {"name": f"{cluster}-auth", "key": "password"}
    add_env(
        pod,
        {"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": secret}},
        {"name": "CELERY_BROKER_URL", "value": f"{address}/0"},
        {"name": "CELERY_RESULT_BACKEND", "value": f"{address}/1"},
    )


CELERY = Adapter(
    name="celery",
    control="broker",
    control_kind=STATEFUL_SET,
    endpoints=(Endpoint("broker", "redis://{host}:6379"),),
    has_password=True,
    driver=_driver,
)
