"""What objects become over time, as watches tell it. Times are seconds of time.time(), when a change was received."""

import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from lightkube.types import OnErrorAction, OnErrorResult
from reconcile import RESOURCES, Cluster, Object, is_true

Series = list[tuple[float, int]]
"""Times and what has been so since."""


class Watch(ABC):
    """Follows some objects of a namespace, from `with` to its end.

    Args:
        cluster: in whose namespace.
        resource: lightkube's, of what.
        selectors: labels or fields, as lightkube takes them.
    """

    def __init__(self, cluster: Cluster, resource: Any, **selectors: dict[str, str]) -> None:
        self._cluster = cluster
        self._resource = resource
        self._selectors = selectors
        self._over = threading.Event()

    @abstractmethod
    def note(self, change: str, item: Object, now: float) -> None:
        """Take notice of a change: ADDED, MODIFIED or DELETED; what is added may have been seen before."""

    def __enter__(self) -> Self:
        # Blocked until the next change, or for ever: the namespace's end or the program's is its end, too.
        threading.Thread(target=self._follow, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _follow(self) -> None:
        changes = self._cluster.client.watch(
            self._resource, namespace=self._cluster.name, on_error=_again, **self._selectors
        )
        for change, item in changes:
            if self._over.is_set():
                return
            self.note(change, dict(item), time.time())


def _again(_error: Exception, _count: int) -> OnErrorResult:
    return OnErrorResult(OnErrorAction.RETRY, sleep=0.1)


@dataclass
class Life:
    """When a pod was created, first Ready, told to leave, and gone."""

    name: str
    created: float
    ready: float | None = None
    leaving: float | None = None
    gone: float | None = None


class Pods(Watch):
    """The lives of pods that have some labels, oldest first."""

    def __init__(self, cluster: Cluster, labels: dict[str, str]) -> None:
        super().__init__(cluster, RESOURCES["Pod"], labels=labels)
        self._lives: dict[str, Life] = {}

    def note(self, change: str, item: Object, now: float) -> None:
        metadata = item["metadata"]
        life = self._lives.setdefault(metadata["uid"], Life(metadata["name"], now))
        if life.ready is None and is_true(item, "Ready"):
            life.ready = now
        if life.leaving is None and "deletionTimestamp" in metadata:
            life.leaving = now
        if change == "DELETED":
            life.gone = now

    @property
    def lives(self) -> list[Life]:
        return list(self._lives.values())

    @property
    def there(self) -> int:
        """How many there are now, those that leave among them."""
        return sum(life.gone is None for life in self.lives)


class Sizes(Watch):
    """The size that one object asks for, and the work that its status tells of.

    Args:
        cluster: in whose namespace.
        resource: lightkube's, of what.
        name: the object's.
        path: of the size in its spec.
    """

    def __init__(self, cluster: Cluster, resource: Any, name: str, path: tuple[str, ...] = ("replicas",)) -> None:
        super().__init__(cluster, resource, fields={"metadata.name": name})
        self._path = path
        self.replicas: Series = []
        self.demand: Series = []

    def note(self, change: str, item: Object, now: float) -> None:
        if change == "DELETED":
            return
        size: Any = item["spec"]
        for key in self._path:
            size = size[key]
        _add(self.replicas, now, size)
        # Such as "480 tasks waiting, 8 running".
        work = item.get("status", {}).get("autoscaling", {}).get("demand", "")
        _add(self.demand, now, sum(map(int, re.findall(r"\d+", work))))


class Events(Watch):
    """Events with a reason, as messages."""

    def __init__(self, cluster: Cluster, reason: str) -> None:
        super().__init__(cluster, RESOURCES["Event"], fields={"reason": reason})
        self._messages: dict[str, str] = {}

    def note(self, change: str, item: Object, now: float) -> None:
        self._messages[item["metadata"]["uid"]] = item.get("message", "")

    @property
    def messages(self) -> list[str]:
        return list(self._messages.values())


def _add(series: Series, now: float, value: int) -> None:
    if not series or series[-1][1] != value:
        series.append((now, value))


def pod_seconds(lives: Iterable[Life], start: float, end: float) -> float:
    """Return for how many seconds in all pods existed between two times."""
    return sum(max(0.0, min(life.gone or end, end) - max(life.created, start)) for life in lives)


def ready_over_time(lives: Iterable[Life]) -> Series:
    """Return how many pods were ready and not leaving."""
    changes = []
    for life in lives:
        if life.ready is not None:
            changes.append((life.ready, 1))
            end = life.leaving or life.gone
            if end is not None:
                changes.append((end, -1))
    series, number = [], 0
    for moment, change in sorted(changes):
        number += change
        series.append((moment, number))
    return series


def direction_changes(series: Series) -> int:
    """Return how often what grew began to shrink, or the other way round."""
    steps = [after > before for (_, before), (_, after) in pairwise(series)]
    return sum(a != b for a, b in pairwise(steps))
