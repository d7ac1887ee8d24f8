"""What tasks do, counted from workers' events, in Prometheus' text format.

The names are those of celery-exporter where it has them. All times are in seconds.
"""

import threading
import time
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any

BUCKETS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
# A worker that says nothing for so long is down; a heartbeat comes every 2 s.
SILENT_SECONDS = 30.0
# Of tasks whose end is not known yet; of the eldest beyond, neither name nor waiting time will be known.
MOST_TASKS = 100_000

Labels = tuple[tuple[str, str], ...]

_ENDS = {"task-succeeded", "task-failed", "task-rejected", "task-revoked"}
_COUNTED = {
    "sent": "sent to a queue, by who tells of it (task_send_sent_event)",
    "received": "taken from a queue by a worker",
    "started": "begun",
    "succeeded": "done",
    "failed": "failed for good",
    "retried": "failed, and to be tried again",
    "rejected": "rejected",
    "revoked": "revoked, or too old",
}
EVENTS = tuple(f"task-{name}" for name in _COUNTED)


@dataclass
class _Task:
    name: str = "unknown"
    queue: str = "unknown"
    # Since when it has waited, by its sender's clock; None if nobody told.
    since: float | None = None


class _Histogram:
    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


class Tasks:
    """Counts what is told of tasks and of workers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._counts: dict[str, Counter[Labels]] = {name: Counter() for name in _COUNTED}
        self._waited: dict[Labels, _Histogram] = {}
        self._ran: dict[Labels, _Histogram] = {}
        self._workers: dict[str, tuple[int, float]] = {}

    def task(self, event: Mapping[str, Any]) -> None:
        """Note an event of a task."""
        kind, uuid = str(event["type"]), str(event["uuid"])
        with self._lock:
            task = self._tasks.pop(uuid, None) or _Task()
            task.name = str(event.get("name") or task.name)
            task.queue = str(event.get("queue") or task.queue)
            labels: Labels = (("name", task.name),)
            if kind == "task-sent":
                task.since = max(float(event["timestamp"]), _moment(event.get("eta")))
            elif kind == "task-started" and task.since is not None:
                waited = max(0.0, float(event["timestamp"]) - task.since)
                queue: Labels = (*labels, ("queue_name", task.queue))
                self._waited.setdefault(queue, _Histogram()).observe(waited)
                task.since = None
            elif kind == "task-succeeded":
                self._ran.setdefault(labels, _Histogram()).observe(float(event.get("runtime") or 0))
            elif kind in ("task-failed", "task-retried"):
                # Of `ValueError('text')`.
                labels = (*labels, ("exception", str(event.get("exception") or "").partition("(")[0]))
            self._counts[kind.removeprefix("task-")][labels] += 1
            if kind not in _ENDS:
                self._tasks[uuid] = task
                while len(self._tasks) > MOST_TASKS:
                    self._tasks.popitem(last=False)

    def heartbeat(self, event: Mapping[str, Any]) -> None:
        """Note that a worker is there."""
        with self._lock:
            self._workers[str(event["hostname"])] = int(event.get("active") or 0), self._clock()

    def offline(self, event: Mapping[str, Any]) -> None:
        """Note that a worker has gone."""
        with self._lock:
            self._workers.pop(str(event["hostname"]), None)

    def text(self, lengths: Mapping[str, int] | None) -> str:
        """Return all of it.

        Args:
            lengths: of queues; None if the broker does not tell.
        """
        with self._lock:
            old = self._clock() - SILENT_SECONDS
            self._workers = {name: said for name, said in self._workers.items() if said[1] > old}
            lines = _metric("celery_broker_up", "gauge", "Whether the broker answers.", [((), lengths is not None)])
            waiting = [((("queue_name", name),), length) for name, length in (lengths or {}).items()]
            lines += _metric("celery_queue_length", "gauge", "Tasks that wait in a queue.", waiting)
            up = [((("hostname", name),), 1) for name in self._workers]
            lines += _metric("celery_worker_up", "gauge", "Whether a worker says that it is there.", up)
            active = [((("hostname", name),), number) for name, (number, _) in self._workers.items()]
            lines += _metric("celery_worker_tasks_active", "gauge", "Tasks that a worker runs.", active)
            for name, what in _COUNTED.items():
                counts = self._counts[name].items()
                lines += _metric(f"celery_task_{name}_total", "counter", f"Tasks {what}.", counts)
            waited = "Seconds from when a task was sent, or was to begin, to its start."
            lines += _histograms("celery_task_queue_wait_time", waited, self._waited)
            lines += _histograms("celery_task_runtime", "Seconds that a task took that succeeded.", self._ran)
        return "\n".join(lines) + "\n"


def _moment(text: object) -> float:
    """Return the time of an ISO 8601 text; 0 if it is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def _metric(name: str, kind: str, about: str, values: Iterable[tuple[Labels, float]]) -> list[str]:
    return [
        f"# HELP {name} {about}",
        f"# TYPE {name} {kind}",
        *(f"{name}{_labels(labels)} {float(value):g}" for labels, value in values),
    ]


def _histograms(name: str, about: str, found: Mapping[Labels, _Histogram]) -> list[str]:
    lines = [f"# HELP {name} {about}", f"# TYPE {name} histogram"]
    for labels, histogram in found.items():
        bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
        for bound, count in zip(bounds, accumulate(histogram.counts), strict=True):
            lines.append(f"{name}_bucket{_labels((*labels, ('le', bound)))} {count}")
        lines.append(f"{name}_sum{_labels(labels)} {histogram.sum:g}")
        lines.append(f"{name}_count{_labels(labels)} {sum(histogram.counts)}")
    return lines


def _labels(labels: Labels) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    inside = ",".join(f'{name}="{escaped(value)}"' for name, value in labels)
    return f"{{{inside}}}" if inside else ""
