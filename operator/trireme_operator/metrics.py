"""Prometheus metrics and health, over HTTP."""

import asyncio
import logging
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest

logger = logging.getLogger(__name__)

RECONCILES = Counter("trireme_reconciles_total", "Reconciles that ended, by kind and result.", ["kind", "result"])
RECONCILE_SECONDS = Histogram("trireme_reconcile_seconds", "Seconds that a reconcile took.", ["kind"])
QUEUE_LENGTH = Gauge("trireme_queue_length", "Keys that wait for a reconcile or are in one.")
API_REQUESTS = Counter("trireme_api_requests_total", "Requests to the API server, watches left out.", ["verb", "kind"])
API_SECONDS = Histogram(
    "trireme_api_request_seconds",
    "Seconds until the API server answered, by status code; `none` where it did not. Watches are in it as requests.",
    ["method", "code"],
    buckets=(0.005, 0.025, 0.1, 0.5, 1, 5, 15),
)
WATCHES_BROKEN = Counter("trireme_watches_broken_total", "Watches that broke off and were made anew.", ["kind"])
SCALINGS = Counter("trireme_scalings_total", "Sizes that the autoscaler set.", ["engine", "direction"])
LEFT_BEHIND = Counter(
    "trireme_work_left_behind_total",
    "Workers that went before they could hand over all that they ran and held.",
    ["namespace", "engine"],
)
JOBS_ENDED = Counter(
    "trireme_jobs_ended_total",
    "WorkerJobs that completed or failed, by the reason of that condition.",
    ["namespace", "engine", "result", "reason"],
)
JOB_SECONDS = Histogram(
    "trireme_job_seconds",
    "Seconds from a WorkerJob's startTime to its end.",
    ["engine", "result"],
    buckets=(5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600),
)
JOB_WAIT_SECONDS = Histogram(
    "trireme_job_wait_seconds",
    "Seconds from a WorkerJob's creation to its startTime: for its cluster, mostly.",
    ["engine"],
    buckets=(1, 5, 15, 60, 300, 900, 3600),
)
LEADER = Gauge("trireme_leader", "1 while this operator reconciles.")

# A probe waits for 10 s.
_TURN_SECONDS = 5.0


def turns(loop: asyncio.AbstractEventLoop, seconds: float = _TURN_SECONDS) -> bool:
    """Tell from another thread whether an event loop takes its turn within some seconds: one that hangs does not."""
    turned = threading.Event()
    try:
        loop.call_soon_threadsafe(turned.set)
    except RuntimeError:  # it is closed: the process is about to end
        return False
    return turned.wait(seconds)


def answer(path: str, ready: Callable[[], bool], alive: Callable[[], bool]) -> tuple[int, bytes]:
    """Return status and body for a path."""
    if path == "/metrics":
        return 200, generate_latest(REGISTRY)
    if path == "/healthz":
        return (200, b"ok") if alive() else (503, b"the event loop hangs")
    if path == "/readyz":
        return (200, b"ok") if ready() else (503, b"not synced yet")
    return 404, b"not found"


class Server(ThreadingHTTPServer):
    """Writes what goes wrong with an answer to the log, in its form."""

    def handle_error(self, _request: object, client_address: object) -> None:
        """Tell of the error that is being handled; who asked may have gone, which is worth no line."""
        if not isinstance(sys.exception(), OSError):
            logger.exception("no answer to %s", client_address)


def serve(port: int, ready: Callable[[], bool], alive: Callable[[], bool]) -> ThreadingHTTPServer:
    """Serve /metrics, /healthz and /readyz from a thread.

    Args:
        port: to listen on.
        ready: whether the operator has seen the cluster.
        alive: whether its event loop takes its turn.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path, ready, alive)
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST if self.path == "/metrics" else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes are not worth a line."""

    server = Server(("", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True, name="metrics").start()
    return server
