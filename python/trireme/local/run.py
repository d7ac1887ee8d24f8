"""One run on this machine: the engine, the driver, and nothing left after it."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from trireme.errors import TriremeError
from trireme.local import engines, limits
from trireme.local.processes import Processes, end
from trireme.local.work import Work
from trireme.requirements import CannotInstall, install
from trireme.signals import deferred, terminable, uninterrupted

_POLL_SECONDS = 0.1
_INTERRUPT_SECONDS = 10


def run(work: Work, say: Callable[[str], None] = lambda _: None) -> int:
    """Run a job here: the engine's processes, then the driver, whose output is this process's.

    Args:
        work: the job.
        say: told in a line what is started.

    Returns:
        The driver's exit code; 128 and the signal's number if one ended it; 130 after Ctrl-C.

    Raises:
        TriremeError: this machine lacks something, or the engine failed.
    """
    engines.check(work)
    limit = limits.limits(work.cluster)
    workers = limits.size(work.cluster, limit.cpus, os.cpu_count() or 1)
    say(
        f"{work.name}: {work.engine} on this machine,"
        f" {workers} worker(s) of {limit.cpus} CPU(s) and {limit.memory >> 20} MiB"
    )
    with terminable(), _folder() as folder:
        program = work.script.parent if work.script else _write(folder / "script", work.program)
        # Workers import what stands beside the script, as they do where it goes along to them.
        code = program if work.script else _write(folder / "code", work.code)
        if work.requirements:
            say(f"{work.name}: installing {' '.join(work.requirements)}")
        also = _installed(work.requirements, folder / "requirements", work.env)
        env = {**os.environ, **_python_path(code, also), "PYTHONUNBUFFERED": "1"}
        with Processes(folder) as processes:
            shared = engines.start(work, workers, folder, {**env, **work.worker_env}, processes)
            command = [*work.command] if work.command else [sys.executable, str(work.script or program / "main.py")]
            return _drive(
                [*command, *work.args],
                {**env, **shared, **work.env},
                None if work.script else program,
                processes,
                work.deadline,
            )


def _drive(
    command: list[str], env: Mapping[str, str], folder: Path | None, processes: Processes, deadline: float | None
) -> int:
    driver: subprocess.Popen[bytes] | None = None
    late = threading.Event()

    def too_late() -> None:
        late.set()
        if driver:
            end(driver)

    timer = threading.Timer(deadline or 0, too_late)
    try:
        with deferred():
            # Looked for where the driver's own PATH says.
            try:
                driver = subprocess.Popen(command, env=env, cwd=folder, start_new_session=True)
            except OSError as error:
                raise TriremeError(f"{command[0]}: {error.strerror}") from error
        if deadline:
            timer.start()
        while driver.poll() is None:
            processes.check()
            try:
                driver.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    except KeyboardInterrupt:
        if driver:
            end(driver, signal.SIGINT, _INTERRUPT_SECONDS)
        return 130
    finally:
        with uninterrupted():
            timer.cancel()
            if driver:
                end(driver)
    if late.is_set():
        raise TriremeError("the driver took longer than activeDeadlineSeconds allows")
    return driver.returncode if driver.returncode >= 0 else 128 - driver.returncode


def _write(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def _python_path(folder: Path, also: Sequence[Path]) -> dict[str, str]:
    given = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(folder), *([given] if given else []), *map(str, also)])}


def _installed(requirements: Sequence[str], folder: Path, env: Mapping[str, str]) -> list[Path]:
    """Return where packages are found, which are gone when the run is over."""
    if not requirements:
        return []
    try:
        return [install([*requirements], folder, {name: env[name] for name in env if name.startswith("PIP_")})]
    except CannotInstall as error:
        raise TriremeError(str(error)) from None


@contextmanager
def _folder() -> Iterator[Path]:
    made = tempfile.TemporaryDirectory(prefix="trireme-")
    try:
        yield Path(made.name)
    finally:
        with uninterrupted():
            made.cleanup()
