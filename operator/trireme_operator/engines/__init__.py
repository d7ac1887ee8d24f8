"""What the operator must know of each engine; all else is in its chart."""

from trireme_operator.engines.adapter import Adapter, Driver, Endpoint
from trireme_operator.engines.celery import CELERY
from trireme_operator.engines.dask import DASK
from trireme_operator.engines.spark import SPARK

ENGINES: dict[str, Adapter] = {adapter.name: adapter for adapter in (DASK, SPARK, CELERY)}

__all__ = ["ENGINES", "Adapter", "Driver", "Endpoint"]
