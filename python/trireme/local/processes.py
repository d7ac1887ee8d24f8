"""The processes of one run: each with a log of its own, all gone at the end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from trireme.errors import TriremeError
from trireme.signals import deferred, uninterrupted

_POLL_SECONDS = 0.05
_TERM_SECONDS = 5
_LOG_LINES = 20


class Processes:
    """Starts processes in a folder, and ends all of them, their children included.

    Each has a session of its own, so that Ctrl-C in the terminal reaches none of them by itself.

    Args:
        folder: for their logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], stdin: str = "") -> None:
        """Start a process.

        Args:
            name: for its log and for messages.
            command: what to run.
            env: all of its environment.
            stdin: what it reads.
        """
        with (self._folder / f"{name}.log").open("ab") as log, deferred():
            process = self._running[name] = subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        assert process.stdin
        process.stdin.write(stdin.encode())
        process.stdin.close()

    def wait_until(self, what: str, is_so: Callable[[], bool], seconds: float) -> None:
        """Wait for something that the processes do.

        Raises:
            TriremeError: it took too long, or one of them ended.
        """
        deadline = time.monotonic() + seconds
        while not is_so():
            self.check()
            if time.monotonic() > deadline:
                raise TriremeError(f"{what} took longer than {seconds:.0f} s:\n{self._logs()}")
            time.sleep(_POLL_SECONDS)  # between two questions: a process does not tell when it listens

    def check(self) -> None:
        """Tell whether all live.

        Raises:
            TriremeError: one has ended; with its last lines.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                raise TriremeError(f"{name} ended with exit code {process.returncode}:\n{self._tail(name)}")

    def _tail(self, name: str) -> str:
        lines = (self._folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:])

    def _logs(self) -> str:
        return "\n".join(self._tail(name) for name in self._running)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What came first is what the others talk to, so it goes last.
        with uninterrupted():
            first, *others = self._running.values() or (None,)
            for process in others:
                _signal(process, signal.SIGTERM)
            deadline = time.monotonic() + _TERM_SECONDS
            for process in others:
                end(process, seconds=max(0.0, deadline - time.monotonic()))
            if first:
                end(first)


def end(process: "subprocess.Popen[bytes]", first: int = signal.SIGTERM, seconds: float = _TERM_SECONDS) -> None:
    """End a process, asked by a signal, and after some seconds everything that is left of its session."""
    if process.poll() is None:
        _signal(process, first)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    # macOS says the latter of a group whose last process is a zombie.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
