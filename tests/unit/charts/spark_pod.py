"""The processes of a Spark worker's pod, for test_chart_spark_drain.py: the first one, and its executors.

Run as PID 1 of a namespace, with a script and a driver's host. It takes commands from standard input, `start ID` and
`end ID` for an executor and `drain` for the script, and says on standard output what happened to whom, a line each.
"""

import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
# Signals that wait for an executor until it has started.
HEARD = (signal.SIGPWR, signal.SIGTERM)

children: dict[int, str] = {}


def say(line: str) -> None:
    """Print as signal handlers may, and whole among the lines of other processes."""
    os.write(1, f"{line}\n".encode())


def held(pid: int) -> bool:
    """Tell whether a process is stopped, or is going to be before it does anything else."""
    status = Path(f"/proc/{pid}/status")
    pending = re.search(r"^ShdPnd:\s*(\w+)$", status.read_text(), re.MULTILINE)
    assert pending
    # In this order: a signal that is pending no more has had its effect.
    return bool(int(pending[1], 16) >> (signal.SIGSTOP - 1) & 1) or "\nState:\tT" in status.read_text()


def on_power(_: int, __: FrameType | None) -> None:
    for pid, name in children.items():
        if name != "drain" and held(pid):
            say(f"{name} held")
    say("worker told")


def on_child(_: int, __: FrameType | None) -> None:
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED))[0]:
            pid, status = found
            # What the script started and left is not named.
            name = children.get(pid, "")
            if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                say(f"{name} {'stopped' if os.WIFSTOPPED(status) else 'continued'}")
            elif children.pop(pid, None):
                say(f"{name} ended {os.waitstatus_to_exitcode(status)}")


def spawn(name: str, command: list[str], blocked: Sequence[int] = ()) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    # Python ignores SIGPIPE, and its children would.
    pid = os.posix_spawnp(command[0], command, os.environ, setsigmask=blocked, setsigdef=[signal.SIGPIPE])
    children[pid] = name
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])


def start(name: str, driver: str) -> None:
    """Start an executor with the words of a real one's command line."""
    given = {
        "driver-url": f"spark://CoarseGrainedScheduler@{driver}:44929",
        "executor-id": name,
        "hostname": os.environ["POD_IP"],
        "cores": "1",
        "app-id": "app-1",
        "worker-url": f"spark://Worker@{os.environ['POD_IP']}:7078",
        "resourceProfileId": "0",
    }
    words = [word for key, value in given.items() for word in (f"--{key}", value)]
    spawn(name, [sys.executable, "-IS", __file__, EXECUTOR, *words], blocked=HEARD)


def execute(name: str) -> None:
    """Say when this executor is told to leave, until it is ended."""
    while signal.sigwait(HEARD) == signal.SIGPWR:
        say(f"{name} told")
    if signal.SIGPWR in signal.sigpending():
        say(f"{name} told")


def run(script: str, driver: str) -> None:
    signal.signal(signal.SIGPWR, on_power)
    signal.signal(signal.SIGCHLD, on_child)
    for line in sys.stdin:
        match line.split():
            case ["start", name]:
                start(name, driver)
            case ["end", name]:
                os.kill(next(pid for pid in children if children[pid] == name), signal.SIGTERM)
            case ["drain"]:
                spawn("drain", ["bash", script])


if __name__ == "__main__":
    if sys.argv[1] == EXECUTOR:
        execute(sys.argv[sys.argv.index("--executor-id") + 1])
    else:
        run(*sys.argv[1:])
