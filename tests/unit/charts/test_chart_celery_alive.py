"""When a Celery worker is started again: if that would help, and only then."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from charting import CHARTS

pytest.importorskip("celery", reason="celery is not installed: uv sync")

SCRIPT = CHARTS / "celery" / "files" / "alive.sh"


@pytest.fixture
def gone() -> Iterator[str]:
    """Return the URL of a broker that nobody listens at."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{closed.getsockname()[1]}"


def is_alive(folder: Path, broker: str, silent: float | None) -> bool:
    """Tell what the probe says of a worker whose heartbeat is so many seconds old; None for one that had none yet."""
    if silent is not None:
        heartbeat = folder / "heartbeat"
        heartbeat.touch()
        then = heartbeat.stat().st_mtime - silent
        os.utime(heartbeat, (then, then))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {"PATH": path, "TRIREME_STATE_DIR": str(folder), "CELERY_BROKER_URL": broker}
    return subprocess.run(["sh", str(SCRIPT)], env=env, check=False).returncode == 0


@pytest.mark.parametrize(("silent", "alive"), [(0, True), (290, True), (310, False), (None, False)])
def test_a_worker_whose_broker_answers_has_to_be_heard(tmp_path: Path, silent: float | None, alive: bool) -> None:
    assert is_alive(tmp_path, "memory://", silent) is alive


@pytest.mark.parametrize("silent", [310, 86400])
def test_an_outage_of_the_broker_starts_no_worker_again(tmp_path: Path, gone: str, silent: float) -> None:
    assert is_alive(tmp_path, gone, silent)
