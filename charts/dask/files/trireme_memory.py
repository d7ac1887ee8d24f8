"""Dask worker preload: ends the worker at `distributed.worker.memory.terminate`, as its nanny would if it had one."""

import logging
import os
import threading
import time

import dask
from dask.utils import parse_timedelta
from distributed import Worker
from trireme_drain import TOLD

logger = logging.getLogger("distributed.worker.memory")


def dask_setup(worker: Worker) -> None:
    """Watch the memory if a limit says so: Dask calls this."""
    fraction = dask.config.get("distributed.worker.memory.terminate")
    limit = worker.memory_manager.memory_limit
    if fraction and limit:
        seconds = parse_timedelta(dask.config.get("distributed.worker.memory.monitor-interval"))
        # A thread, because a busy event loop may be the very reason.
        threading.Thread(target=watch, args=(worker, fraction, limit, seconds), daemon=True).start()


def watch(worker: Worker, fraction: float, limit: int, seconds: float) -> None:
    """Look until the worker takes too much."""
    while (used := worker.monitor.get_process_memory()) <= fraction * limit:
        time.sleep(seconds)  # between two looks: nothing tells when memory grows
    end(f"used {used} bytes: beyond distributed.worker.memory.terminate, {fraction:g} of {limit}")


def end(why: str) -> None:
    """End the process at once, and leave word of it; the kubelet starts another."""
    logger.error("Ending: the worker %s", why)
    try:
        TOLD.write_text(why)
    except OSError as error:
        logger.warning("Nobody is told: %r", error)
    os._exit(1)
