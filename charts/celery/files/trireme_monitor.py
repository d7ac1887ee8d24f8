"""Tell how many tasks wait in a broker and how many its workers hold, for an application and some workers' queues.

`GET /trireme/demand` answers `{"waiting": TASKS, "unacknowledged": TASKS, "held": {POD: TASKS}}`, in JSON; with
`?wait=SECONDS` as soon as there are any, or after that time. While that can't be told, it answers 503 and why.
The broker is asked when somebody asks, and only then. `GET /metrics` has more, in Prometheus' text format.
"""

import os
import signal

if __name__ == "__main__":
    # The kernel drops signals that a container's first process has no handler for. Nothing is left to be done then.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

import argparse
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from celery import Celery
from kombu import Connection, Consumer
from trireme_app import connect, load, refuses
from trireme_holdings import EVENT
from trireme_metrics import EVENTS, Tasks
from trireme_stranded import DEAD, POISON

PORT = 8787
PATH = "/trireme/demand"
METRICS = "/metrics"
ALIVE = "/alive"
# Who asks waits for 2 s.
ANSWER_SECONDS = 1.5
# Between two looks while somebody waits for tasks.
LOOK_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
# A heartbeat comes every 2 s, so all that there are have come within that time.
HEARD_SECONDS = 3.0
# For as long a worker that says nothing more counts with what it said last.
REMEMBER_SECONDS = 30.0
RETRY_SECONDS = 1.0


class Unknown(Exception):
    """Why nothing can be told now, for people."""


class Waiting(NamedTuple):
    """Numbers of tasks in the broker."""

    ready: int
    # Of these it says itself that workers hold them; 0 for a broker that does not.
    unacknowledged: int


class Queues:
    """Counts what waits in queues, over one connection that is kept.

    Args:
        app: the application.
        names: of the queues.
    """

    def __init__(self, app: Celery, names: Sequence[str]) -> None:
        self._app = app
        self._names = names
        self._connection: Connection | None = None
        self._channel: Any = None
        self._pool = futures.ThreadPoolExecutor(1)
        self._pending: dict[str, futures.Future[Any]] = {}
        self._lock = threading.Lock()

    def count(self) -> Waiting:
        """Return what waits at this moment.

        Raises:
            Unknown: the broker does not tell in time.
        """
        found: Waiting = self._ask("count", lambda: Waiting(sum(map(self._ready, self._names)), self._unacknowledged()))
        return found

    def lengths(self) -> dict[str, int]:
        """Return how many tasks each queue has, those of tasks that never work among them.

        Raises:
            Unknown: the broker does not tell in time.
        """
        names = (*self._names, DEAD, POISON)
        found: dict[str, int] = self._ask("lengths", lambda: {name: self._ready(name) for name in names})
        return found

    def _ask(self, what: str, question: Callable[[], Any]) -> Any:
        with self._lock:
            pending = self._pending.get(what)
            if pending is None or pending.done():
                pending = self._pending[what] = self._pool.submit(self._answer, question)
        try:
            return pending.result(ANSWER_SECONDS)
        except futures.TimeoutError as error:  # Python 3.10 has one of its own
            raise Unknown(f"{address(self._app)} does not answer within {ANSWER_SECONDS:g} s") from error

    def _answer(self, question: Callable[[], Any]) -> Any:
        try:
            if self._connection is None:
                self._connection = connect(self._app)
                self._channel = self._connection.channel()
            return question()
        except Exception as error:
            # Whatever the transport raises: a new connection may do.
            broken, self._connection = self._connection, None
            if broken:
                with suppress(Exception):
                    broken.collect()
            raise Unknown(f"{address(self._app)}: {str(error) or type(error).__name__}") from error

    def _ready(self, queue: str) -> int:
        try:
            return int(self._channel.queue_declare(queue, passive=True).message_count)
        except self._connection.channel_errors as error:  # type: ignore[union-attr]
            if str(error.reply_code) != "404":
                raise
            # Nobody has sent anything there yet. An AMQP channel is closed by that.
            self._channel = self._connection.channel()  # type: ignore[union-attr]
            return 0

    def _unacknowledged(self) -> int:
        if self._connection.transport.driver_type != "redis":  # type: ignore[union-attr]
            return 0
        with self._channel.conn_or_acquire() as client:
            return int(client.hlen(self._channel.unacked_key))


class Held:
    """What workers say that they hold."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, tuple[int, float]] = {}
        self._since: float | None = None
        self._problem = "nothing was heard yet"
        self._is_refused = False
        self._lock = threading.Lock()

    def listens(self) -> None:
        """Note that from now on all workers are heard."""
        with self._lock:
            self._since, self._is_refused = self._clock(), False

    def is_deaf(self, problem: str, is_refused: bool = False) -> None:
        """Note that workers are not heard any more, and why: whether the broker refuses the password, too."""
        with self._lock:
            self._since, self._problem, self._is_refused = None, problem, is_refused

    def is_refused(self) -> bool:
        """Tell whether the broker refuses the password, which is read anew at a start."""
        with self._lock:
            return self._is_refused

    def says(self, event: Mapping[str, Any]) -> None:
        """Note what a worker says."""
        with self._lock:
            self._said[pod(event)] = int(event["held"]), self._clock()

    def goes(self, event: Mapping[str, Any]) -> None:
        """Note that a worker has gone."""
        with self._lock:
            self._said.pop(pod(event), None)

    def by_pod(self) -> dict[str, int]:
        """Return how many tasks each worker holds.

        Raises:
            Unknown: not every worker may have been heard.
        """
        with self._lock:
            now = self._clock()
            if self._since is None:
                raise Unknown(self._problem)
            if now - self._since < HEARD_SECONDS:
                raise Unknown("workers are yet to say what they hold")
            self._said = {
                name: (number, at) for name, (number, at) in self._said.items() if now - at < REMEMBER_SECONDS
            }
            return {name: number for name, (number, _) in self._said.items()}


def pod(event: Mapping[str, Any]) -> str:
    """Return the pod of the worker that sent an event."""
    return str(event["hostname"]).rpartition("@")[2]


def address(app: Celery) -> str:
    """Return the broker's URL, without its password."""
    return f"the broker {app.connection_for_read().as_uri()}"


def listen(app: Celery, held: Held, tasks: Tasks) -> None:
    """Hear workers for as long as the connection lasts."""

    def goes(event: Mapping[str, Any]) -> None:
        held.goes(event)
        tasks.offline(event)

    handlers = {EVENT: held.says, "worker-heartbeat": tasks.heartbeat, "worker-offline": goes}
    handlers |= dict.fromkeys(EVENTS, tasks.task)
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        receiver = app.events.Receiver(connection, handlers=handlers)
        channel = connection.default_channel
        [consumer] = receiver.get_consumers(partial(Consumer, channel), channel)
        with consumer:
            held.listens()
            while True:
                with suppress(TimeoutError):
                    connection.drain_events(timeout=1)
                connection.heartbeat_check()


def keep_listening(app: Celery, held: Held, tasks: Tasks) -> None:
    """Hear workers, over a new connection each time that one breaks."""
    while True:
        try:
            listen(app, held, tasks)
        except Exception as error:
            # Whatever the transport raises.
            held.is_deaf(f"{address(app)}: {str(error) or type(error).__name__}", refuses(error))
        time.sleep(RETRY_SECONDS)  # between two attempts: a broker that is away does not tell when it is back


class Monitor(ThreadingHTTPServer):
    """Answers who asks.

    Args:
        address: host and port to listen at.
        queues: tells what waits.
        held: tells what workers hold.
        tasks: tells what tasks do.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], queues: Queues, held: Held, tasks: Tasks) -> None:
        super().__init__(address, Answer)
        self.queues, self.held, self.tasks = queues, held, tasks

    def metrics(self) -> str:
        """Return metrics; one tells whether the broker answers."""
        try:
            return self.tasks.text(self.queues.lengths())
        except Unknown:
            return self.tasks.text(None)

    def demand(self) -> dict[str, Any]:
        """Return what there is to do, and who does it; raises Unknown."""
        # In this order: what is taken meanwhile may count twice, but not as neither.
        waiting = self.queues.count()
        return {"waiting": waiting.ready, "unacknowledged": waiting.unacknowledged, "held": self.held.by_pod()}

    def demand_within(self, seconds: float) -> dict[str, Any]:
        """Return it when there is anything to do, or after some seconds; raises Unknown."""
        end = time.monotonic() + min(seconds, LONGEST_WAIT_SECONDS)
        while True:
            found = self.demand()
            left = end - time.monotonic()
            if left <= 0 or found["waiting"] or found["unacknowledged"] or any(found["held"].values()):
                return found
            time.sleep(min(left, LOOK_SECONDS))  # RabbitMQ never tells when tasks come, and Redis only if set up


class Answer(BaseHTTPRequestHandler):
    """One connection's answers."""

    protocol_version = "HTTP/1.1"
    # Of a client that says nothing more.
    timeout = 2 * LONGEST_WAIT_SECONDS
    server: Monitor

    def do_GET(self) -> None:
        """Answer."""
        asked = urlsplit(self.path)
        if asked.path == "/healthz":
            return self._answer(200, "text/plain", "ok")
        if asked.path == ALIVE:
            refused = self.server.held.is_refused()
            return self._answer(503 if refused else 200, "text/plain", "refused" if refused else "ok")
        if asked.path == METRICS:
            return self._answer(200, "text/plain; version=0.0.4", self.server.metrics())
        if asked.path != PATH:
            return self._answer(404, "text/plain", f"there are only {PATH} and {METRICS}")
        try:
            seconds = wait_seconds(parse_qs(asked.query).get("wait", ["0"])[0])
            self._answer(200, "application/json", json.dumps(self.server.demand_within(seconds)))
        except ValueError as problem:
            self._answer(400, "text/plain", str(problem))
        except Unknown as problem:
            self._answer(503, "text/plain", str(problem))

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        # Who asked may have gone.
        with suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no line for each answer."""


def wait_seconds(text: str) -> float:
    """Read for how long somebody would wait.

    Raises:
        ValueError: it is no number of seconds; the message says so to people.
    """
    with suppress(ValueError):
        if (seconds := float(text)) >= 0:
            return seconds
    raise ValueError(f"wait is {text[:80]!r}, where a number of seconds should be: 0 or more")


def main() -> None:
    """Answer until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("app")
    for name in ("--queues", "--exclude-queues"):
        parser.add_argument(name, type=lambda text: text.split(","), default=[], help="as of `celery worker`")
    given = parser.parse_args()
    app = load(given.app)
    app.amqp.queues.select(given.queues)
    app.amqp.queues.deselect(given.exclude_queues)
    held, tasks = Held(), Tasks()
    threading.Thread(target=keep_listening, args=[app, held, tasks], daemon=True).start()
    Monitor(("", PORT), Queues(app, [*app.amqp.queues.consume_from]), held, tasks).serve_forever()


if __name__ == "__main__":
    main()
