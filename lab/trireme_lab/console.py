"""Steps as people see them: a name, the seconds it took, and where its log is."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager

from trireme_lab import commands
from trireme_lab.cache import Cache
from trireme_lab.commands import Log, Stopped
from trireme_lab.problem import Problem

_printing = threading.Lock()


def say(text: str) -> None:
    """Print one line; lines of steps that run side by side do not mix."""
    with _printing:
        print(text, flush=True)


class Steps:
    """Runs named steps, each with a log of its own in the cache's log folder."""

    def __init__(self, cache: Cache) -> None:
        self._logs = cache.root / "log"

    @contextmanager
    def quiet(self, name: str) -> Iterator[Log]:
        """Keep a log, and print nothing: for what takes no time worth telling."""
        yield Log(self._logs / f"{name.replace(' ', '-')}.log")

    @contextmanager
    def step(self, name: str) -> Iterator[Log]:
        """Time what runs inside and print its name, seconds and log when it ends.

        Raises:
            Problem: whatever the step raised, after it is printed as failed.
        """
        log = Log(self._logs / f"{name.replace(' ', '-')}.log")
        start = time.monotonic()
        try:
            yield log
        except Problem:
            say(f"  {name:<34} failed after {time.monotonic() - start:.1f} s, log {log.path}")
            raise
        say(f"  {name:<34} {time.monotonic() - start:6.1f} s  {log.path}")


def together(*works: Callable[[], None]) -> None:
    """Run works side by side; the first failure ends the others' commands and waits.

    Raises:
        Problem: the first one that a work raised of its own.
    """
    with ThreadPoolExecutor(max_workers=len(works) or 1) as pool:
        futures = [pool.submit(work) for work in works]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            if any(future.exception() for future in done):
                commands.stop_all()
        except KeyboardInterrupt:
            commands.stop_all()
            raise
    first_done = sorted(futures, key=lambda future: future not in done)
    raised = [problem for future in first_done if (problem := future.exception())]
    for problem in sorted(raised, key=lambda problem: isinstance(problem, Stopped)):
        raise problem
