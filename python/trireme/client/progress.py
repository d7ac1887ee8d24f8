"""How many tasks a job's engine has done, asked while its driver runs."""

import http.client
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from typing import Any

from trireme.client.environment import Connection
from trireme.client.forward import Forward, PodForward
from trireme.client.kube import Kube, Object

_POLL_SECONDS = 2.0
_SECONDS = 5
_ANSWER_SECONDS = 1.0
_MOST_BYTES = 4 * 2**20
_DASK = re.compile(r'^dask_scheduler_prefix_state_totals_total\{[^}]*\bstate="memory"[^}]*\} (\S+)', re.MULTILINE)
_SPARK = re.compile(r"^metrics_executor_completedTasks_total\{[^}]*\} (\S+)", re.MULTILINE)


class TasksDone:
    """Counts the tasks that are done, in a thread of its own, until it is closed.

    Nothing depends on it: where the engine can't be asked, as without the right to forward ports, there is no count.

    Args:
        kube: where the job is.
        cluster: the WorkerCluster that it uses.
        driver: its driver's pod, which tells of Spark's tasks.
        borrowed: whether others may use the cluster, too: then what was done before does not count, but what they do
            meanwhile does, for no engine tells whose a task is.
    """

    def __init__(self, kube: Kube, cluster: Object, driver: Object | None, borrowed: bool) -> None:
        self.count: int | None = None
        self._kube, self._cluster, self._driver = kube, cluster, driver
        # Of Spark, the driver is asked, which knows of its own tasks alone.
        self._before: int | None = None if borrowed and cluster["spec"]["engine"] != "spark" else 0
        self._over = threading.Event()
        threading.Thread(target=self._run, name="tasks done", daemon=True).start()

    def close(self) -> None:
        """Ask no more."""
        self._over.set()

    def _run(self) -> None:
        ways: dict[str, Callable[[ExitStack], Callable[[], int]]] = {
            "dask": self._dask,
            "spark": self._spark,
            "celery": self._celery,
        }
        # The clients' errors are of all kinds, and what can't be asked now may be later.
        while not self._over.is_set():
            with suppress(Exception), ExitStack() as stack:
                ask = ways[self._cluster["spec"]["engine"]](stack)
                while not self._over.is_set():
                    self._note(ask())
                    self._over.wait(_POLL_SECONDS)
            self._over.wait(_SECONDS)

    def _note(self, found: int) -> None:
        if self._before is None:
            self._before = found
        # Workers that leave take their figures along.
        self.count = max(self.count or 0, found - self._before)

    def _dask(self, stack: ExitStack) -> Callable[[], int]:
        forward = Forward(self._kube, f"{self._cluster['metadata']['name']}-scheduler", 8787, quiet=True)
        return _pages(stack.enter_context(forward), "/metrics", _DASK, stack)

    def _spark(self, stack: ExitStack) -> Callable[[], int]:
        assert self._driver is not None
        forward = PodForward(self._kube, self._driver["metadata"]["name"], 4040, quiet=True)
        return _pages(stack.enter_context(forward), "/metrics/executors/prometheus/", _SPARK, stack)

    def _celery(self, stack: ExitStack) -> Callable[[], int]:
        from celery import Celery

        connection = stack.enter_context(Connection(self._kube, self._cluster))
        app = Celery(broker=connection.env["CELERY_BROKER_URL"], set_as_current=False)
        stack.callback(app.close)
        inspect = app.control.inspect(timeout=_ANSWER_SECONDS)

        def ask() -> int:
            running = inspect.active() or {}
            return celery_done((inspect.stats() or {}).values(), sum(map(len, running.values())))

        return ask


def celery_done(stats: Iterable[Any], running: int) -> int:
    """Return how many tasks are done.

    Args:
        stats: what workers say of themselves, with the tasks that each has begun by name.
        running: how many they are at.
    """
    return max(0, sum(sum(one.get("total", {}).values()) for one in stats) - running)


def summed(pattern: re.Pattern[str], page: str) -> int:
    """Return the sum of a metric's samples on a page for Prometheus."""
    return int(sum(float(number) for number in pattern.findall(page)))


def _pages(forward: Forward, path: str, pattern: re.Pattern[str], stack: ExitStack) -> Callable[[], int]:
    # One connection for all: each of its own would be a forward of its own.
    connection = http.client.HTTPConnection("127.0.0.1", forward.port, timeout=_SECONDS)
    stack.callback(connection.close)

    def ask() -> int:
        connection.request("GET", path)
        answer = connection.getresponse()
        page = answer.read(_MOST_BYTES)
        if answer.status != 200:
            raise OSError(f"HTTP {answer.status}")
        return summed(pattern, page.decode(errors="replace"))

    return ask
