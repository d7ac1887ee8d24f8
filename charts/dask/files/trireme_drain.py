"""Dask worker preload: a readiness route, and the hand-over that preStop asks for with a flag file."""

import asyncio
import logging
import os
import signal
import threading
import time
from pathlib import Path

from distributed import Worker
from distributed.comm.core import CommClosedError
from distributed.core import Status
from distributed.http.utils import RequestHandler

logger = logging.getLogger("distributed.worker.drain")

STATE = Path(os.environ.get("TRIREME_STATE_DIR", "/tmp/trireme"))
REQUESTED = STATE / "drain"
FINISHED = STATE / "drained"
DRAIN_SECONDS = float(os.environ.get("TRIREME_DRAIN_SECONDS", "30"))
# Time kept for moving results, when tasks do not end in time: a quarter, 60 s at most.
HAND_OVER_SECONDS = min(60.0, DRAIN_SECONDS / 4)
POLL_SECONDS = 0.1
# Closing takes well under a second where nothing goes wrong.
CLOSE_SECONDS = 5.0

_watch: "asyncio.Task[None] | None" = None


def reset() -> None:
    """Forget the requests of an earlier process in the same pod."""
    STATE.mkdir(parents=True, exist_ok=True)
    REQUESTED.unlink(missing_ok=True)
    FINISHED.unlink(missing_ok=True)


def requested() -> bool:
    """Whether the pod is to leave."""
    return REQUESTED.exists()


def finish() -> None:
    """Let preStop return, and be gone soon after, whatever the closing worker may still wait for."""
    # It comes as soon as preStop returns, and would stop the worker in the middle of closing, where it hangs.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    last = threading.Timer(CLOSE_SECONDS, os._exit, (0,))
    last.daemon = True
    last.start()
    FINISHED.touch()


class Ready(RequestHandler):  # type: ignore[misc, unused-ignore]
    """200 while the worker is registered with its scheduler."""

    def get(self) -> None:
        """Answer a probe."""
        worker = self.server
        registered = worker.status in (Status.running, Status.paused) and not worker.batched_stream.closed()
        self.set_status(200 if registered else 503)
        self.finish(worker.status.name)


async def drain(worker: Worker) -> None:
    """Take no more tasks, finish the running ones, move the results to other workers, leave the scheduler.

    After the time given, running tasks are left behind, and the scheduler runs them again elsewhere;
    results are moved all the same.
    """
    deadline = time.monotonic() + DRAIN_SECONDS - HAND_OVER_SECONDS
    executing, held = worker.state.executing_count, len(worker.data)
    logger.info("Draining: %d tasks executing, %d results held", executing, held)
    # The scheduler sends a worker in this state nothing more and gives its queue to others.
    worker.status = Status.closing_gracefully
    while (worker.state.executing or worker.state.long_running) and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS)
    try:
        retired = await asyncio.wait_for(
            worker.scheduler.retire_workers(workers=[worker.address]), timeout=HAND_OVER_SECONDS
        )
    except (OSError, CommClosedError, TimeoutError) as error:
        logger.warning("Leaving without the scheduler: %r", error)
    else:
        if not retired and worker.data:
            logger.warning("Leaving with %d results that no other worker could take", len(worker.data))


async def watch(worker: Worker) -> None:
    """Wait for the flag, then drain and close."""
    while not requested():
        await asyncio.sleep(POLL_SECONDS)
    if worker.status not in (Status.running, Status.paused):
        finish()
        return
    await drain(worker)
    finish()
    await worker.close()


async def dask_setup(worker: Worker) -> None:
    """Set up the worker as it starts: Dask calls this."""
    global _watch
    worker.http_application.add_handlers(".*", [(r"/ready", Ready, {"dask_server": worker})])
    _watch = asyncio.create_task(watch(worker))


async def dask_teardown(worker: Worker) -> None:
    """Outlive preStop, which would be reported as failed otherwise: Dask calls this as the worker closes."""
    if not requested():
        return
    finish()
    deadline = time.monotonic() + 10 * POLL_SECONDS
    while FINISHED.exists() and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS / 2)
