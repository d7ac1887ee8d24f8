"""Whether a Celery worker consumes, and whether to start it again would help: told over HTTP, which costs no process.

`GET /ready` answers 200 while the worker's heartbeat, every 2 s, goes through its connection to the broker. `GET
/alive` answers 503 when it has not for a while although the broker answers: a restart would help, and only then. It
helps where the broker refuses the worker's password, too, which is read anew then.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from celery import Celery
from trireme_app import connect, refuses

PORT = 8788
READY = "/ready"
ALIVE = "/alive"
READY_SECONDS = 15.0
# The chart's probe asks for minutes before it believes it.
SILENT_SECONDS = 30.0


class Health:
    """Knows when the worker's heart last beat.

    Args:
        broker_answers: asks the broker over a connection of its own; only a worker that is silent has it asked.
        clock: seconds that only rise.
    """

    def __init__(self, broker_answers: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._broker_answers = broker_answers
        self._clock = clock
        self._last = float("-inf")

    def beat(self, **_: object) -> None:
        """Note that the worker's event loop runs and its broker connection works."""
        self._last = self._clock()

    def is_ready(self) -> bool:
        """Tell whether the worker consumes."""
        return self._clock() - self._last <= READY_SECONDS

    def is_alive(self) -> bool:
        """Tell whether the worker was heard, or could not be."""
        return self._clock() - self._last <= SILENT_SECONDS or not self._broker_answers()


def broker_answers(app: Celery) -> bool:
    """Tell whether an application's broker answers, at one attempt, be it that it refuses the application."""
    try:
        connect(app).close()
    except Exception as error:  # whatever the transport raises
        return refuses(error)
    return True


class Server(ThreadingHTTPServer):
    """Answers probes.

    Args:
        health: what is told of.
        port: to listen at.
    """

    daemon_threads = True

    def __init__(self, health: Health, port: int = PORT) -> None:
        super().__init__(("", port), Answer)
        self.answers = {READY: health.is_ready, ALIVE: health.is_alive}


class Answer(BaseHTTPRequestHandler):
    """One answer."""

    server: Server

    def do_GET(self) -> None:
        """Answer."""
        asked = self.server.answers.get(self.path)
        # Who asked may have gone.
        with suppress(OSError):
            self.send_response(404 if asked is None else 200 if asked() else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write no line for each answer."""


def serve(health: Health) -> None:
    """Answer from a thread, for as long as the process lives."""
    threading.Thread(target=Server(health).serve_forever, daemon=True, name="health").start()
