"""Commands that the lab runs, their output kept in a log."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from trireme_lab.problem import Problem

_running: set[subprocess.Popen[bytes]] = set()
_stopping = threading.Event()


class Stopped(Problem):
    """Ended only because something beside it failed; what that was is the problem to tell."""


class Log:
    """The log file of one step; every command of the step writes into it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        self.path = path

    def run(
        self,
        *command: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: Path | str | None = None,
    ) -> str:
        """Run a command, its error output into the log.

        Args:
            command: program and arguments.
            env: variables on top of this process's own.
            cwd: working directory.
            stdin: what the command reads: a file's path, or the text itself.

        Returns:
            What it printed on standard output, also kept in the log.

        Raises:
            Problem: it is not installed, or failed; the last line that it printed is in the message.
        """
        words = [str(word) for word in command]
        with self.path.open("ab") as log, _input(stdin) as source:
            log.write(f"+ {' '.join(words)}\n".encode())
            log.flush()
            start = log.tell()
            status, output = _communicate(words, env, cwd, source, log)
            errors = self.path.read_bytes()[start:]
            log.write(output)
        if status:
            said = _last_line(errors) or _last_line(output) or "it printed nothing"
            raise Problem(f"{words[0]} failed: {said} (log: {self.path})")
        return output.decode(errors="replace")


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _input(stdin: Path | str | None) -> IO[bytes]:
    if isinstance(stdin, Path):
        return stdin.open("rb")
    source = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the caller)
    source.write((stdin or "").encode())
    source.seek(0)
    return source


def _communicate(
    words: list[str],
    env: Mapping[str, str] | None,
    cwd: Path | None,
    source: IO[bytes],
    errors: IO[bytes],
) -> tuple[int, bytes]:
    if _stopping.is_set():
        raise Stopped(f"{words[0]} not started: another step failed")
    try:
        process = subprocess.Popen(
            words,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=errors,
            # What it starts ends with it.
            start_new_session=True,
        )
    except OSError as problem:
        if problem.filename == words[0] and isinstance(problem, FileNotFoundError):
            raise Problem(f"{words[0]} is not installed") from problem
        raise Problem(f"{words[0]} can't be run: {problem}") from problem
    _running.add(process)
    try:
        if _stopping.is_set():
            _end(process)
        output, _ = process.communicate()
    except BaseException:
        _end(process)
        raise
    finally:
        _running.discard(process)
    if process.returncode and _stopping.is_set():
        raise Stopped(f"{words[0]} ended: another step failed")
    return process.returncode, output


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def stop_all() -> None:
    """End every command that runs and every wait, and start no further one."""
    _stopping.set()
    for process in list(_running):
        _end(process)


def succeeds(*command: str | Path, seconds: float = 10) -> bool:
    """Tell whether a quick command ends with status 0 within the time."""
    return answer(*command, seconds=seconds) is not None


def answer(*command: str | Path, seconds: float = 10) -> str | None:
    """Return what a quick command prints, or None when it is missing, fails or takes longer than the time."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def wait_for(what: str, ready: Callable[[], bool], seconds: float, every: float = 0.2) -> None:
    """Ask until it is so.

    Raises:
        Problem: it was not so within the time; names what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise Problem(f"{what}: not so after {seconds:.0f} s")
        if _stopping.wait(every):
            raise Stopped(f"{what}: no longer waited for, another step failed")
