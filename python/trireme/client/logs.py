"""Logs of pods, followed across lost connections."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from trireme.client.kube import ConnectionLost, Kube, NotFound, Object
from trireme.client.patience import Patience
from trireme.errors import TriremeError

_PAUSE_SECONDS = 0.5
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)

Moment = tuple[datetime, int]
"""A second in UTC, and the nanoseconds after it."""


def follow(
    kube: Kube, pod: str, over: threading.Event, container: str = "", first: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Read a pod's log to its end, which comes when its container ends.

    What was read before a connection broke off is not read again.

    Args:
        kube: where the pod is.
        pod: its name.
        over: set when nobody reads any more.
        container: which of it; the only one if left out.
        first: the API's parameters of where to begin, such as tailLines.

    Raises:
        TriremeError: it can't be read; or nothing came of it for ten minutes on end, as the cluster did not answer.
    """
    last: Moment | None = None
    printed = 0
    query = {"follow": "true", "timestamps": "true", **({"container": container} if container else {})}
    patience = Patience()
    while not over.is_set():
        # A log is read on from a full second: what was printed of that is skipped.
        before, repeated = last, printed
        try:
            since = {"sinceTime": f"{last[0]:%Y-%m-%dT%H:%M:%SZ}"} if last else first or {}
            for line in kube.lines(pod, **query, **since):
                moment, text = stamped(line)
                if moment and before:
                    if moment < before:
                        continue
                    if moment == before and repeated:
                        repeated -= 1
                        continue
                if moment and (last is None or moment > last):
                    last, printed = moment, 0
                if moment and moment == last:
                    printed += 1
                patience = Patience()
                yield text
        except NotFound:
            return
        except ConnectionLost:
            with patience:
                raise
        except TriremeError as error:
            if "waiting to start" not in str(error):
                raise
        else:
            with patience:
                if _has_ended(kube, pod):
                    return
        over.wait(_PAUSE_SECONDS)


def stamped(line: str) -> tuple[Moment | None, str]:
    """Return a log line's timestamp and its text; of one without a timestamp, None and all of it."""
    stamp, _, text = line.partition(" ")
    match = _STAMP.fullmatch(stamp)
    if not match:
        return None, line
    try:
        second = datetime.fromisoformat(match[1] + match[3]).astimezone(UTC)
    except (ValueError, OverflowError):
        return None, line
    return (second, int(f"{match[2] or '':0<9}")), text


def _has_ended(kube: Kube, pod: str) -> bool:
    found = kube.find("pods", pod)
    return found is None or found.get("status", {}).get("phase") in ("Succeeded", "Failed")


def containers(pod: Object) -> list[str]:
    """Return the names of a pod's containers that do the work: called as its component, with a number if several."""
    component = pod["metadata"]["labels"].get("app.kubernetes.io/component", "").removeprefix("group-")
    names = [str(one["name"]) for one in pod["spec"]["containers"]]
    working = [name for name in names if re.fullmatch(rf"{re.escape(component)}(-\d+)?", name)]
    return working or names[:1]


class Followers:
    """Follows several pods at once, each in a thread of its own.

    Args:
        kube: where they are.
        write: told each pod's name and line, one at a time.
        fail: told each pod's name and why it is followed no more.
    """

    def __init__(
        self, kube: Kube, write: Callable[[str, str], None], fail: Callable[[str, TriremeError], None]
    ) -> None:
        self._kube, self._write, self._fail = kube, write, fail
        self._threads: dict[tuple[str, str], threading.Thread] = {}
        self._over = threading.Event()
        self._writing = threading.Lock()

    def add(self, pods: list[Object], container: str, first: Mapping[str, str] | None = None) -> None:
        """Follow those that are not followed yet; `first` is where to begin in them, as for `follow`."""
        for pod in pods:
            key = pod["metadata"]["name"], container
            if key not in self._threads and pod.get("status", {}).get("phase") != "Pending":
                self._threads[key] = threading.Thread(target=self._run, args=(*key, first), daemon=True)
                self._threads[key].start()

    def _run(self, pod: str, container: str, first: Mapping[str, str] | None) -> None:
        try:
            for line in follow(self._kube, pod, self._over, container, first):
                with self._writing:
                    self._write(pod, line)
        except TriremeError as error:
            with self._writing:
                self._fail(pod, error)

    def finish(self, seconds: float) -> None:
        """Wait some seconds for the rest of what they say, and stop."""
        deadline = time.monotonic() + seconds
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        self._over.set()
