"""What the tests of the charts share: names, and ways into rendered objects."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

CHARTS = Path(__file__).resolve().parents[3] / "charts"
ENGINES = ("dask", "spark", "celery")
NAME = "numbers"
NAMESPACE = "team"

Object = dict[str, Any]
Rendered = dict[tuple[str, str], Object]
Render = Callable[..., Rendered]


def limits(cpu: Any = "1", memory: Any = "2Gi") -> Object:
    return {"resources": {"limits": {"cpu": cpu, "memory": memory}}}


def container(workload: Object) -> Object:
    only: Object
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    return only


def workloads(objects: Rendered) -> list[Object]:
    return [item for (kind, _), item in objects.items() if kind in ("Deployment", "StatefulSet")]


def environment(workload: Object) -> Object:
    """Variables by name: the value, or where it comes from."""
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container(workload)["env"]}
