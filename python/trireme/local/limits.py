"""What a worker's process may use, from a pod's limits: the same figures as the charts derive."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, inf
from typing import Any

from trireme.errors import TriremeError

_QUANTITY = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([-+]?[0-9]+)|([numkMGTPE]|[KMGTPE]i))?")
_SCALES = {
    **{suffix: 1000.0**power for power, suffix in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)},
    **{f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)},
}
_MEBIBYTE = 2**20
DEFAULTS = {"cpu": "1", "memory": "2Gi"}
"""Limits of a worker whose spec says nothing; the charts' own."""


def quantity(text: object, field: str) -> float:
    """Return a Kubernetes quantity as a number.

    Raises:
        TriremeError: it is none.
    """
    match = _QUANTITY.fullmatch(str(text))
    if not match:
        raise TriremeError(f"{field}: {text!r} is not a positive quantity such as 500m, 2 or 1.5Gi")
    number, exponent, suffix = match.groups()
    try:
        found = float(number) * 10.0 ** int(exponent or 0) * _SCALES[suffix or ""]
    except OverflowError:
        found = inf
    if found == inf:
        raise TriremeError(f"{field}: {str(text)[:40]!r} is too large")
    return found


@dataclass(frozen=True)
class Limits:
    """A worker pod's total.

    Args:
        cpus: whole CPUs that work may use, at least one.
        memory: bytes.
    """

    cpus: int
    memory: int


def limits(spec: Mapping[str, Any], field: str = "resources.limits") -> Limits:
    """Return the limits of a cluster's workers.

    Args:
        spec: of a WorkerCluster.
        field: where the limits stand, for the message.

    Raises:
        TriremeError: one of them is no quantity.
    """
    given = {**DEFAULTS, **spec.get("resources", {}).get("limits", {})}
    cpus = max(1, floor(quantity(given["cpu"], f"{field}.cpu")))
    return Limits(cpus, floor(quantity(given["memory"], f"{field}.memory")))


def size(spec: Mapping[str, Any], cpus: int, machine: int) -> int:
    """Return how many workers to start: as many as the cluster would have at most, as far as the machine has CPUs.

    Args:
        spec: of a WorkerCluster.
        cpus: of one worker.
        machine: CPUs of this machine.
    """
    scaling = spec.get("autoscaling")
    if not scaling:
        return max(1, int(spec.get("replicas", 1)))
    return max(1, int(scaling.get("minReplicas", 1)), min(int(scaling["maxReplicas"]), machine // cpus))


def dask_memory(memory: int, processes: int = 1) -> int:
    """Return the bytes of each process's --memory-limit: nine tenths of its share."""
    why = "a Dask worker" if processes == 1 else f"{processes} Dask workers (nworkers)"
    return floor(_least(memory, 256 * processes, why) / processes * 0.9)


def spark_memory(memory: int) -> int:
    """Return the MiB of an executor's heap: two thirds of what 256 MiB for the worker daemon leave."""
    return 2 * (_least(memory, 1024, "a Spark worker") // _MEBIBYTE - 256) // 3


def spark_driver_memory(limit: object) -> int:
    """Return the MiB of a driver's heap: six tenths of its limit, at least 470; 1024 without a limit."""
    if limit is None:
        return 1024
    return max(470, floor(quantity(limit, "driver.resources.limits.memory") / _MEBIBYTE * 0.6))


def celery_memory(memory: int, processes: int) -> int:
    """Return the KiB that each task process may use: equal shares of what 96 MiB for the parent leave."""
    least = 96 + 96 * processes
    return (_least(memory, least, f"a Celery worker with {processes} task process(es)") - 96 * _MEBIBYTE) // (
        processes * 1024
    )


def _least(memory: int, least: int, why: str) -> int:
    if memory < least * _MEBIBYTE:
        raise TriremeError(
            f"resources.limits.memory: {memory // _MEBIBYTE}Mi is too small for {why}: use at least {least}Mi"
        )
    return memory
