"""Celery: a Redis broker, or one elsewhere, which drivers find by the variables that Celery itself reads."""

from trireme_operator.api import STATEFUL_SET
from trireme_operator.engines.adapter import Adapter, Endpoint

CELERY = Adapter(
    name="celery",
    control="broker",
    control_kind=STATEFUL_SET,
    control_image="spec.values.broker.image",
    images={"image": "trireme/celery:dev", "broker": {"image": "trireme/redis:dev"}},
    endpoints=(Endpoint("broker", "redis://{host}:6379"),),
    has_password=True,
    shared_env=("REDIS_PASSWORD", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"),
    shared_volumes=("code",),
)
