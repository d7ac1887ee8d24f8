"""Dask, Spark and Celery on Kubernetes or a laptop.

Everything public is loaded at its first use, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trireme.errors import TriremeError as TriremeError

_WHERE = {"TriremeError": "trireme.errors"}

__all__ = ["TriremeError"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
