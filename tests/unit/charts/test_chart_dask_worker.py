"""What a Dask worker does beside draining: it offers its node, and ends itself where the configuration says so."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from charting import CHARTS

pytest.importorskip("distributed", reason="distributed is not installed: uv sync")

from distributed import Client, Scheduler
from distributed.scheduler import KilledWorker
from distributed.utils_test import gen_cluster

SCRIPT = CHARTS / "dask" / "files" / "trireme_worker.py"
LIMIT = 400_000_000
CONFIG = """
distributed:
  worker:
    resources: {GPU: 1}
    memory: {target: false, spill: false, pause: false, terminate: 0.8, monitor-interval: 10ms}
"""


def start(scheduler: Scheduler, folder: Path, *more: str, **environment: str) -> subprocess.Popen[bytes]:
    (folder / "dask.yaml").write_text(CONFIG)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [
        *(sys.executable, str(SCRIPT), scheduler.address),
        *("--no-nanny", "--no-dashboard", f"--dashboard-address=127.0.0.1:{port}", "--host=127.0.0.1"),
        *("--nthreads=1", f"--memory-limit={LIMIT}", f"--local-directory={folder}", "--name=it"),
        *more,
    ]
    own = {
        **environment,
        "DASK_CONFIG": str(folder / "dask.yaml"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TRIREME_TERMINATION_LOG": str(folder / "told"),
    }
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, env={**os.environ, **own}, stderr=log)


@pytest.mark.parametrize(("more", "own"), [([], {"GPU": 1}), (["--resources=SSD=2 A=3"], {"SSD": 2, "A": 3})])
@gen_cluster(client=True, nthreads=[], timeout=90)
async def test_a_worker_offers_its_node(
    client: Client, scheduler: Scheduler, tmp_path: Path, more: list[str], own: dict[str, float]
) -> None:
    worker = start(scheduler, tmp_path, *more, NODE_NAME="here")
    try:
        assert await client.submit(os.getpid, resources={"node:here": 1}, pure=False) == worker.pid
        (offered,) = [one.resources for one in scheduler.workers.values()]
        # Beside what the configuration gives, or the command line.
        assert offered == {**own, "node:here": 1e9}
        elsewhere = client.submit(os.getpid, resources={"node:elsewhere": 1}, pure=False)
        await client.submit(os.getpid, pure=False)
        assert elsewhere.status == "pending"
    finally:
        worker.kill()


@gen_cluster(client=True, nthreads=[], timeout=90, config={"distributed.scheduler.allowed-failures": 0})
async def test_a_worker_ends_at_the_threshold(client: Client, scheduler: Scheduler, tmp_path: Path) -> None:
    worker = start(scheduler, tmp_path)

    def fits() -> int:
        return len(bytearray(1))

    def takes_too_much(size: int) -> Any:
        import threading

        kept = bytearray(size)
        threading.Event().wait()
        return kept

    try:
        assert await client.submit(fits, pure=False) == 1
        with pytest.raises(KilledWorker):
            await client.submit(takes_too_much, LIMIT, pure=False)
        assert worker.wait(timeout=10) == 1
        assert "beyond distributed.worker.memory.terminate, 0.8 of 400000000" in (tmp_path / "told").read_text()
    finally:
        worker.kill()
