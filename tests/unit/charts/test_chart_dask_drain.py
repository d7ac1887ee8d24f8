"""How a Dask worker leaves: a real one, in a process of its own, as the chart starts it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from charting import CHARTS

pytest.importorskip("distributed", reason="distributed is not installed: uv sync")

from distributed import Client, Event, Scheduler, Worker
from distributed.utils_test import async_poll_for, gen_cluster
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPResponse

SCRIPT = CHARTS / "dask" / "files" / "trireme_worker.py"
HEADER = {"Trireme-Drain": "yes"}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Process:
    """A worker with one thread.

    Args:
        scheduler: its scheduler.
        told: where it leaves its last word.
        drain_seconds: what it may use to leave.
    """

    def __init__(self, scheduler: Scheduler, told: Path, drain_seconds: float) -> None:
        self.port = free_port()
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            # Where it finds what these tests send it.
            "PYTHONPATH": str(Path(__file__).parent),
            "TRIREME_DRAIN_SECONDS": str(drain_seconds),
            "TRIREME_TERMINATION_LOG": str(told),
        }
        given = [
            *("--no-nanny", "--no-dashboard", f"--dashboard-address=127.0.0.1:{self.port}", "--host=127.0.0.1"),
            *("--nthreads=1", "--memory-limit=0", f"--local-directory={told.parent}", f"--name={self.port}"),
        ]
        command = [sys.executable, str(SCRIPT), scheduler.address, *given]
        self.log = told.parent / f"{self.port}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log)

    async def drain(self, headers: dict[str, str] = HEADER) -> HTTPResponse:
        return await AsyncHTTPClient().fetch(
            f"http://127.0.0.1:{self.port}/trireme/drain", headers=headers, request_timeout=60
        )

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 30)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def held(number: int) -> int:
    return number


def blocked(_: int) -> int:
    Event("go").wait()
    return 1


def stuck(_: int) -> None:
    threading.Event().wait()


def scenario(**arguments: Any) -> Any:
    return gen_cluster(client=True, timeout=90, config={"distributed.comm.timeouts.connect": "5s"}, **arguments)


def on(process: Process) -> dict[str, Any]:
    """Return arguments for work that is to begin on a worker."""
    return {"workers": [str(process.port)], "allow_other_workers": True}


def test_results_are_handed_over(tmp_path: Path) -> None:
    @scenario(nthreads=[("127.0.0.1", 1)])
    async def check(client: Client, scheduler: Scheduler, *_: Any) -> None:
        with Process(scheduler, tmp_path / "told", 20) as process:
            await client.wait_for_workers(2)
            futures = client.map(held, range(5), **on(process))
            await client.gather(futures)
            assert (await process.drain()).body == b"drained"
            assert await process.ended() == 0
            assert await client.gather(futures) == [*range(5)]
            assert len(scheduler.workers) == 1
        assert not (tmp_path / "told").exists()

    check()


def test_running_tasks_are_waited_for(tmp_path: Path) -> None:
    @scenario(nthreads=[])
    async def check(client: Client, scheduler: Scheduler) -> None:
        with Process(scheduler, tmp_path / "told", 60) as process:
            future = client.submit(blocked, 1)
            await client.wait_for_workers(1)
            await async_poll_for(lambda: any(ws.processing for ws in scheduler.workers.values()), 30)
            ours = next(iter(scheduler.workers.values()))
            stays = await Worker(scheduler.address)
            leaving = asyncio.create_task(process.drain())
            await async_poll_for(lambda: ours.status.name == "closing_gracefully", 10)
            assert not leaving.done()
            await Event("go").set()
            assert (await leaving).body == b"drained"
            assert await future == 1
            await stays.close()
        assert not (tmp_path / "told").exists()

    check()


def test_what_does_not_end_in_time_is_told(tmp_path: Path) -> None:
    @scenario(nthreads=[])
    async def check(client: Client, scheduler: Scheduler) -> None:
        with Process(scheduler, tmp_path / "told", 2) as process:
            future = client.submit(blocked, 1)
            await client.wait_for_workers(1)
            await async_poll_for(lambda: any(ws.processing for ws in scheduler.workers.values()), 30)
            stays = await Worker(scheduler.address)
            await process.drain()
            assert await process.ended() == 0
            await Event("go").set()
            assert await future == 1
            await stays.close()
        assert json.loads((tmp_path / "told").read_text()) == {"trireme": {"requeued": 1, "recomputed": 0}}

    check()


def test_results_that_nobody_takes_are_told(tmp_path: Path) -> None:
    @scenario(nthreads=[])
    async def check(client: Client, scheduler: Scheduler) -> None:
        with Process(scheduler, tmp_path / "told", 4) as process:
            await client.gather(futures := client.map(held, range(3)))
            await process.drain()
            assert await process.ended() == 0
            assert futures
        assert json.loads((tmp_path / "told").read_text()) == {"trireme": {"requeued": 0, "recomputed": 3}}

    check()


def test_results_that_could_not_be_moved_in_time_are_told(tmp_path: Path) -> None:
    async def hang(**_: Any) -> None:
        await asyncio.Event().wait()

    @scenario(nthreads=[])
    async def check(client: Client, scheduler: Scheduler) -> None:
        with Process(scheduler, tmp_path / "told", 4) as process:
            await client.gather(futures := client.map(held, range(3)))
            scheduler.handlers["retire_workers"] = hang
            await process.drain()
            assert await process.ended() == 0
            assert futures
        assert json.loads((tmp_path / "told").read_text()) == {"trireme": {"requeued": 0, "recomputed": 3}}

    check()


def test_a_link_that_is_followed_ends_nothing(tmp_path: Path) -> None:
    @scenario(nthreads=[])
    async def check(client: Client, scheduler: Scheduler) -> None:
        with Process(scheduler, tmp_path / "told", 20) as process:
            await client.wait_for_workers(1)
            with pytest.raises(HTTPClientError, match="403"):
                await process.drain(headers={})
            assert await client.submit(held, 7) == 7
            assert process.process.poll() is None

    check()


def test_a_scheduler_that_is_gone_holds_nobody_up(tmp_path: Path) -> None:
    @scenario(nthreads=[])
    async def check(client: Client, scheduler: Scheduler) -> None:
        with Process(scheduler, tmp_path / "told", 60) as process:
            await client.wait_for_workers(1)
            future = client.submit(blocked, 1)
            ours = next(iter(scheduler.workers.values()))
            await async_poll_for(lambda: ours.processing, 10)
            leaving = asyncio.create_task(process.drain())
            await async_poll_for(lambda: ours.status.name == "closing_gracefully", 10)
            await client.close()
            await scheduler.close()
            assert await process.ended() == 0
            leaving.cancel()
            assert future.status != "finished"
        assert not (tmp_path / "told").exists()

    check()


def test_term_while_it_closes_does_not_hold_it_up(tmp_path: Path) -> None:
    @scenario(nthreads=[])
    async def check(client: Client, scheduler: Scheduler) -> None:
        with Process(scheduler, tmp_path / "told", 60) as process:
            future = client.submit(stuck, 1)
            await client.wait_for_workers(1)
            await async_poll_for(lambda: any(ws.processing for ws in scheduler.workers.values()), 30)
            await scheduler.close()
            await async_poll_for(lambda: "Closing within" in process.log.read_text(), 10)
            process.process.terminate()
            assert await process.ended() == 0
            assert future.status != "finished"

    check()
