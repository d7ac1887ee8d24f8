"""Dask worker preload: a readiness route, and the route by which preStop asks for the hand-over."""

import asyncio
import json
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

# What Kubernetes keeps of a container that has ended: the operator tells of it.
TOLD = Path(os.environ.get("TRIREME_TERMINATION_LOG", "/dev/termination-log"))
DRAIN_SECONDS = float(os.environ.get("TRIREME_DRAIN_SECONDS", "30"))
# Time kept for moving results, when tasks do not end in time: a quarter, 60 s at most.
HAND_OVER_SECONDS = min(60.0, DRAIN_SECONDS / 4)
POLL_SECONDS = 0.1
# Closing takes well under a second where nothing goes wrong.
CLOSE_SECONDS = 5.0

_draining: "asyncio.Task[None] | None" = None
_answered = asyncio.Event()


class Ready(RequestHandler):  # type: ignore[misc, unused-ignore]
    """200 while the worker is registered with its scheduler."""

    def get(self) -> None:
        """Answer a probe."""
        worker = self.server
        registered = worker.status in (Status.running, Status.paused) and not worker.batched_stream.closed()
        self.set_status(200 if registered else 503)
        self.finish(worker.status.name)


class Drain(RequestHandler):  # type: ignore[misc, unused-ignore]
    """Answers once the worker has handed over what it had; then it closes."""

    async def get(self) -> None:
        """Drain. Kubernetes can only ask so; a header that no page can send keeps out browsers that follow a link."""
        global _draining
        if "Trireme-Drain" not in self.request.headers:
            self.set_status(403)
            self.finish("this ends the worker: the header Trireme-Drain is missing")
            return
        worker = self.server
        if _draining is None:
            _draining = asyncio.create_task(drain(worker))
        await asyncio.shield(_draining)
        close_for_sure()
        try:
            await self.finish("drained")
        finally:
            _answered.set()
            await worker.close()


async def drain(worker: Worker) -> None:
    """Take no more tasks, finish the running ones, move the results to other workers, leave the scheduler.

    After the time given, running tasks are left behind, and the scheduler runs them again elsewhere;
    results are moved all the same. Where there is no scheduler any more, nobody is waited for.
    """
    if worker.status not in (Status.running, Status.paused):
        return
    deadline = time.monotonic() + DRAIN_SECONDS - HAND_OVER_SECONDS
    logger.info("Draining: %d tasks executing, %d results held", worker.state.executing_count, len(worker.data))
    # The scheduler sends a worker in this state nothing more and gives its queue to others.
    worker.status = Status.closing_gracefully
    while running(worker) and time.monotonic() < deadline and not worker.batched_stream.closed():
        await asyncio.sleep(POLL_SECONDS)  # between two looks: a worker tells nobody when its last task ends
    left = running(worker)
    try:
        retired = await asyncio.wait_for(
            worker.scheduler.retire_workers(workers=[worker.address]), timeout=HAND_OVER_SECONDS
        )
    except asyncio.TimeoutError:  # noqa: UP041 (Python 3.10 has one of its own)
        # Before OSError, which it is a kind of from Python 3.11 on.
        retired = {}
    except (OSError, CommClosedError) as error:
        logger.warning("Leaving without the scheduler: %r", error)
        return
    tell(requeued=left, recomputed=0 if retired else len(worker.data))


def running(worker: Worker) -> int:
    """Return how many tasks are with the worker's threads."""
    return len(worker.state.executing) + len(worker.state.long_running)


def tell(requeued: int, recomputed: int) -> None:
    """Leave word of what could not be saved.

    Args:
        requeued: tasks that were running, and run again elsewhere.
        recomputed: results that no other worker took, and that are computed again where they are needed.
    """
    if not requeued and not recomputed:
        return
    logger.warning("Leaving behind %d running tasks and %d results", requeued, recomputed)
    try:
        TOLD.write_text(json.dumps({"trireme": {"requeued": requeued, "recomputed": recomputed}}))
    except OSError as error:
        logger.warning("Nobody is told: %r", error)


async def dask_setup(worker: Worker) -> None:
    """Set up the worker as it starts: Dask calls this."""
    given = {"dask_server": worker}
    worker.http_application.add_handlers(".*", [(r"/ready", Ready, given), (r"/trireme/drain", Drain, given)])


def close_for_sure() -> None:
    """End the process soon, whatever comes.

    TERM, which follows preStop, would stop the worker in the middle of closing, where it can hang.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    last = threading.Timer(CLOSE_SECONDS, os._exit, (0,))
    last.daemon = True
    last.start()
    logger.info("Closing within %g s", CLOSE_SECONDS)


async def dask_teardown(worker: Worker) -> None:
    """Close for sure, and outlive preStop, which would be reported as failed: Dask calls this as the worker closes."""
    close_for_sure()
    if _draining is not None:
        try:
            await asyncio.wait_for(_answered.wait(), timeout=10 * POLL_SECONDS)
        except asyncio.TimeoutError:  # noqa: UP041
            logger.warning("Closing before preStop was answered")
