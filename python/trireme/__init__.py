"""Dask, Spark and Celery on Kubernetes or a laptop.

Everything public is loaded at its first use, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trireme.client.cluster import Cluster as Cluster
    from trireme.client.job import Job as Job
    from trireme.client.job import JobFailed as JobFailed
    from trireme.client.job import submit as submit
    from trireme.errors import TriremeError as TriremeError

_WHERE = {
    "Cluster": "trireme.client.cluster",
    "Job": "trireme.client.job",
    "JobFailed": "trireme.client.job",
    "TriremeError": "trireme.errors",
    "submit": "trireme.client.job",
}

__all__ = ["Cluster", "Job", "JobFailed", "TriremeError", "submit"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
