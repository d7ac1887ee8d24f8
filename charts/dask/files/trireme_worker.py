"""Start a Dask worker with the drain loaded, as a container's first process. Arguments: `dask worker`'s."""

import os
import signal
import sys
import time

# The kernel drops signals that a container's first process has no handler for, and imports take a while.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

import socket  # noqa: E402

import dask  # noqa: E402
from distributed.cli import dask_worker  # noqa: E402
from distributed.comm.addressing import parse_host_port  # noqa: E402

RETRY_SECONDS = 0.2
PRELOADS = ("trireme_drain", "trireme_memory")
# More than tasks at one time could use up.
ENOUGH = 1e9


def wait_for_scheduler(address: str) -> None:
    """Wait until the scheduler listens.

    The worker would wait by itself, but backs off by seconds between its attempts.
    """
    host, port = parse_host_port(address.partition("://")[2])
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            time.sleep(RETRY_SECONDS)  # between two questions: nothing tells when a port begins to listen
        else:
            return


def add_preload() -> None:
    """Have the worker load what is the chart's, after whatever the configuration preloads."""
    given = dask.config.get("distributed.worker.preload")
    preload = [given] if isinstance(given, str) else given
    argv = dask.config.get("distributed.worker.preload-argv")
    dask.config.set({"distributed.worker.preload": [*preload, *PRELOADS]})
    if argv and not isinstance(argv[0], str):
        dask.config.set({"distributed.worker.preload-argv": [*argv, *([] for _ in PRELOADS)]})


def offer_node(arguments: list[str]) -> None:
    """Have the worker offer its node as a resource, so that tasks can be kept to where their data is."""
    node = os.environ.get("NODE_NAME")
    if not node:
        return
    for position, argument in enumerate(arguments):
        # It takes the place of what the configuration says.
        if argument.startswith("--resources="):
            arguments[position] = f"{argument} node:{node}={ENOUGH:g}"
            return
    given = dask.config.get("distributed.worker.resources")
    dask.config.set({"distributed.worker.resources": {**given, f"node:{node}": ENOUGH}})


if __name__ == "__main__":
    wait_for_scheduler(sys.argv[1])
    add_preload()
    offer_node(sys.argv)
    dask_worker.main()
