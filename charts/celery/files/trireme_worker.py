"""Start a Celery worker as a container's first process: the application, then `celery worker`'s arguments."""

import signal
import sys

# The kernel drops signals that a container's first process has no handler for, and imports take a while.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

import json  # noqa: E402
import os  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

from celery import Celery, signals  # noqa: E402
from celery.app.utils import find_app  # noqa: E402
from celery.worker import state  # noqa: E402
from kombu import Connection  # noqa: E402
from kombu.exceptions import OperationalError  # noqa: E402

STATE = Path(os.environ.get("TRIREME_STATE_DIR", "/tmp/trireme"))
CONF = Path(os.environ.get("TRIREME_CONF_DIR", "/opt/trireme/conf"))
HEARTBEAT = STATE / "heartbeat"
DRAIN_SECONDS = float(os.environ.get("TRIREME_DRAIN_SECONDS", "30"))
# A cold shutdown takes about 3 s; the rest is for a slow machine.
REQUEUE_SECONDS = min(10.0, DRAIN_SECONDS / 2)
CONNECT_RETRY_SECONDS = 0.2
PUBLISH_SECONDS = 2.0
# For as long a worker that says nothing more counts as busy with what it said last.
PUBLISHED_SECONDS = 30


def beat(**_: object) -> None:
    """Note that the worker's event loop runs and its broker connection works."""
    HEARTBEAT.touch()


def bound_drain(how: str, **_: object) -> None:
    """End a warm shutdown in time: QUIT stops the running tasks and queues late-acknowledged ones again."""
    if how == "Warm":
        timer = threading.Timer(DRAIN_SECONDS - REQUEUE_SECONDS, os.kill, (os.getpid(), signal.SIGQUIT))
        timer.daemon = True
        timer.start()


class Publisher(threading.Thread):
    """Tells on Redis where this application's tasks wait, and how many this worker runs: what autoscaling asks."""

    def __init__(self, app: Celery) -> None:
        super().__init__(daemon=True)
        self._app = app
        self._said_where = False

    def run(self) -> None:
        """Tell for as long as the process lives; a broker that is away now is told later."""
        import redis

        connection = self._app.connection_for_write()
        while True:
            try:
                self._publish(connection, redis.Redis(connection_pool=connection.default_channel.pool))
            except (OSError, OperationalError, redis.RedisError):
                connection.close()
            time.sleep(PUBLISH_SECONDS)  # the time between two reports: it waits for nothing to happen

    def _publish(self, connection: Connection, client: "redis.Redis") -> None:  # type: ignore[name-defined] # noqa: F821
        if not self._said_where:
            channel = connection.default_channel
            lists = [
                f"{channel.global_keyprefix}{queue}{channel.sep}{step}"
                if step
                else f"{channel.global_keyprefix}{queue}"
                for queue in self._app.amqp.queues.consume_from
                for step in channel.priority_steps
            ]
            where = {"lists": json.dumps(lists), "unacked": f"{channel.global_keyprefix}{channel.unacked_key}"}
            client.hset("trireme.work", mapping=where)
            self._said_where = True
        pod = os.environ.get("POD_NAME", "")
        client.set(f"trireme.active.{pod}", len(state.active_requests), ex=PUBLISHED_SECONDS)


def configure(app: Celery) -> None:
    """Set the chart's defaults where the application says nothing, and the chart's settings over all."""
    defaults = json.loads((CONF / "defaults.json").read_text())
    if app.connection_for_read().transport_cls == "redis":
        # Redis alone can fetch no task before a process is free.
        defaults["worker_disable_prefetch"] = True
    app.conf.update({key: value for key, value in defaults.items() if not app.conf.value_set_for(key)})
    app.conf.update(json.loads((CONF / "config.json").read_text()))


def main() -> int:
    """Run the worker until it is told to leave."""
    STATE.mkdir(parents=True, exist_ok=True)
    HEARTBEAT.unlink(missing_ok=True)
    signals.heartbeat_sent.connect(beat)
    signals.worker_shutting_down.connect(bound_drain)
    app = find_app(sys.argv[1])
    configure(app)
    if app.connection_for_read().transport_cls == "redis":
        signals.worker_ready.connect(lambda **_: Publisher(app).start(), weak=False)
    # Celery would wait for its broker by itself, but for seconds longer after each attempt.
    with app.connection_for_read() as connection:
        connection.ensure_connection(
            interval_start=CONNECT_RETRY_SECONDS, interval_step=0, interval_max=CONNECT_RETRY_SECONDS
        )
    return app.start(["worker", *sys.argv[2:]]) or 0


if __name__ == "__main__":
    sys.exit(main())
