"""Start a Celery worker as a container's first process: the application, then `celery worker`'s arguments."""

import signal
import sys

# The kernel drops signals that a container's first process has no handler for, and imports take a while.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

import importlib.util  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import uuid  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import trireme_anew  # noqa: E402
import trireme_begun  # noqa: E402
import trireme_dead  # noqa: E402
import trireme_health  # noqa: E402
import trireme_holdings  # noqa: E402
import trireme_interrupt  # noqa: E402
from celery import Celery, signals  # noqa: E402
from celery.worker import state  # noqa: E402
from celery.worker.consumer import Consumer  # noqa: E402
from kombu import Connection  # noqa: E402
from kombu.exceptions import OperationalError  # noqa: E402
from trireme_app import GROUP, is_redis, load, refuses, unacked_keys  # noqa: E402
from trireme_left import left_behind, tell  # noqa: E402
from trireme_stranded import PREFIX, Watch, held, written  # noqa: E402

logger = logging.getLogger(__name__)

# What Kubernetes keeps of a container that has ended: the operator tells of it.
TOLD = Path(os.environ.get("TRIREME_TERMINATION_LOG", "/dev/termination-log"))
POD = os.environ.get("POD_NAME", "")
# A container that is started again in its pod is another worker, which holds nothing.
NAME = f"{PREFIX}{POD}.{uuid.uuid4().hex[:8]}"
DRAIN_SECONDS = float(os.environ.get("TRIREME_DRAIN_SECONDS", "30"))
# A cold shutdown takes about 3 s; the rest is for a slow machine.
REQUEUE_SECONDS = min(10.0, DRAIN_SECONDS / 2)
# Whether tasks that fail for good are kept.
KEEP_FAILURES = os.environ.get("TRIREME_KEEP_FAILURES") == "true"
# On Redis, the names of the groups that have workers, or of which workers left something.
GROUPS = "trireme.groups"
CONNECT_RETRY_SECONDS = 0.2
PUBLISH_SECONDS = 2.0
# For as long a worker that says nothing more counts as busy with what it said last.
PUBLISHED_SECONDS = 30


def bound_drain(how: str, **_: object) -> None:
    """End a warm shutdown in time: QUIT stops the running tasks and queues late-acknowledged ones again."""
    if how == "Warm":
        timer = threading.Timer(DRAIN_SECONDS - REQUEUE_SECONDS, os.kill, (os.getpid(), signal.SIGQUIT))
        timer.daemon = True
        timer.start()


def look_after_what_is_stopped(consumer: Consumer) -> None:
    """Have a cold shutdown leave word of the tasks that it stops, and see to those that were stopped before."""
    # Celery 5.5 has the latter.
    name = "cancel_active_requests" if hasattr(consumer, "cancel_active_requests") else "cancel_all_unacked_requests"
    cancel = getattr(consumer, name)
    queues: dict[str, str] = {}

    def note_queues(**_: object) -> None:
        # Before it consumes no more, and forgets them.
        queues.update(trireme_anew.queues(consumer))

    def tell_and_cancel() -> None:
        tell(TOLD, *left_behind(state.active_requests, state.successful_requests))
        # Those, too, of which it was not heard yet that they have begun.
        held = {*state.reserved_requests, *state.active_requests}
        unfinished = [request for request in held if request.id not in state.successful_requests]
        again = trireme_anew.handed_back_before(unfinished) if queues else []
        try:
            cancel()
        finally:
            # A pool of threads can't stop what runs, and says so; the process ends soon.
            trireme_anew.send(consumer.app, again, queues)

    signals.worker_shutting_down.connect(note_queues, weak=False)
    setattr(consumer, name, tell_and_cancel)


class Publisher(threading.Thread):
    """Tells on Redis where this application's tasks wait, and what this worker runs and holds.

    The number of running tasks is what autoscaling asks; by what is held, tasks of killed workers are found.
    The visibility timeout of what is held begins anew each time, so that no task that takes longer is given to another.
    """

    def __init__(self, consumer: Consumer) -> None:
        super().__init__(daemon=True)
        self._consumer = consumer
        self._app: Celery = consumer.app
        self._said_where = False
        self._server_time = 0.0
        self._claim = written(0.0, ())
        self._others: dict[str, tuple[Connection, Watch]] = {}
        self._tags: set[str] = set()

    def claim(self, **_: object) -> None:
        """Note what this worker holds; in the event loop, so that a task is either held or still in its queue."""
        connection = self._consumer.connection
        channels = connection.transport.channels if connection else ()
        self._tags = held((*state.reserved_requests, *state.active_requests), channels)
        self._claim = written(self._server_time, self._tags)

    def run(self) -> None:
        """Tell for as long as the process lives; a broker that is away now is told later."""
        import redis
        from trireme_full import Client

        connection = self._app.connection_for_write()
        watch = self._watch()
        while True:
            try:
                # By itself kombu would wait half a minute between its attempts.
                connection.ensure_connection(max_retries=1, interval_start=0)
                channel = connection.default_channel
                client = Client(connection_pool=channel.pool)
                self._publish(connection, client)
                if watch:
                    watch.look(channel, client)
                    self._look_after_others(client)
            except (OSError, OperationalError, redis.RedisError):
                connection.close()
            except Exception:  # whatever it is, the thread has to go on
                # Without it this worker would count as idle, and what killed ones held would be lost for an hour.
                logger.exception("Nobody is told what this worker does, which is tried again")
                connection.close()
            time.sleep(PUBLISH_SECONDS)  # the time between two reports: it waits for nothing to happen

    def _look_after_others(self, client: "redis.Redis") -> None:  # type: ignore[name-defined] # noqa: F821
        """Put back what was lost with workers of other groups, too: those may be gone with their group."""
        from trireme_full import Client

        groups = {"", *(name.decode() for name in client.smembers(GROUPS))} - {GROUP}
        for group in self._others.keys() - groups:
            self._others.pop(group)[0].close()
        for group in groups:
            watch = self._watch()
            if group not in self._others and watch:
                options = {**self._app.conf.broker_transport_options, **unacked_keys(group)}
                self._others[group] = self._app.connection_for_write(transport_options=options), watch
            connection, watch = self._others[group]
            connection.ensure_connection(max_retries=1, interval_start=0)
            channel = connection.default_channel
            if watch.look(channel, Client(connection_pool=channel.pool)) and group:
                left = f"{channel.global_keyprefix}{channel.unacked_key}"
                workers = f"{PREFIX}{group}-worker-"
                # In this order: a worker that has gone takes nothing more, and a new one tells of its group again.
                if not any(one["name"].startswith(workers) for one in client.client_list()) and not client.exists(left):
                    client.srem(GROUPS, group)

    def _watch(self) -> Watch | None:
        if self._app.conf.broker_transport_options.get("client_name") != NAME:
            return None
        exchanges = [queue.exchange for queue in self._app.amqp.queues.consume_from.values() if queue.exchange.name]
        return Watch(NAME, exchanges, self._app.control.mailbox.exchange.name)

    def _publish(self, connection: Connection, client: "redis.Redis") -> None:  # type: ignore[name-defined] # noqa: F821
        channel = connection.default_channel
        if not self._said_where:
            lists = [
                f"{channel.global_keyprefix}{queue}{channel.sep}{step}"
                if step
                else f"{channel.global_keyprefix}{queue}"
                for queue in self._app.amqp.queues.consume_from
                for step in channel.priority_steps
            ]
            where = {"lists": json.dumps(lists), "unacked": f"{channel.global_keyprefix}{channel.unacked_key}"}
            client.hset(f"trireme.work.{GROUP}" if GROUP else "trireme.work", mapping=where)
            self._said_where = True
        with client.pipeline(transaction=False) as pipe:
            pipe.set(f"trireme.active.{POD}", len(state.active_requests), ex=PUBLISHED_SECONDS)
            pipe.set(NAME, self._claim, ex=PUBLISHED_SECONDS)
            if GROUP:
                pipe.sadd(GROUPS, GROUP)
            if tags := self._tags:
                # Only those that are there: it may have been acknowledged since.
                index = f"{channel.global_keyprefix}{channel.unacked_index_key}"
                pipe.zadd(index, dict.fromkeys(tags, time.time()), xx=True)
            pipe.time()
            seconds, micros = pipe.execute()[-1]
        self._server_time = seconds + micros / 1e6


def name_connections(app: Celery, connection: Connection) -> None:
    """Give this worker's connections to Redis its name, in place of any other, if the server lets it look at names."""
    import redis

    client = redis.Redis(connection_pool=connection.default_channel.pool)
    try:
        client.client_setname(NAME)
        client.client_list()
        client.info("server")
    except redis.ResponseError:
        return
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "client_name": NAME}


def publish(sender: Consumer) -> None:
    """Have a worker on Redis tell of itself."""
    publisher = Publisher(sender)
    signals.heartbeat_sent.connect(publisher.claim, weak=False)
    publisher.start()


def hear_of(broker: str) -> Callable[[Exception, float], None]:
    """Return what hears why a broker can't be connected to: it tells each reason once.

    It raises the reason where trying again is of no use, as when a password is refused: that is read at the start.
    """
    told = set[str]()

    def hear(error: Exception, _seconds: float) -> None:
        if refuses(error):
            raise error
        if str(error) not in told:
            told.add(str(error))
            logger.warning("Cannot connect to %s: %s. Trying again until it answers.", broker, error)

    return hear


def main() -> int:
    """Run the worker until it is told to leave."""
    signals.worker_shutting_down.connect(bound_drain)
    trireme_begun.remember()
    trireme_holdings.tell()
    # Celery itself brings no redis-py: an image for RabbitMQ need not have it.
    if importlib.util.find_spec("redis"):
        import trireme_full
        import trireme_priorities

        trireme_full.keep_results()
        trireme_priorities.count_upwards()
    if KEEP_FAILURES:
        trireme_dead.keep_failures()
    app = load(sys.argv[1])
    health = trireme_health.Health(lambda: trireme_health.broker_answers(app))
    signals.heartbeat_sent.connect(health.beat, weak=False)
    trireme_health.serve(health)
    signals.worker_ready.connect(lambda sender, **_: look_after_what_is_stopped(sender), weak=False)
    # By then Celery has handlers of its own.
    signals.worker_ready.connect(lambda **_: trireme_interrupt.wait_until_nothing_is_held(signal.SIGQUIT), weak=False)
    # Celery would wait for its broker by itself, but for seconds longer after each attempt.
    with app.connection_for_read() as connection:
        connection.ensure_connection(
            hear_of(connection.as_uri()),
            interval_start=CONNECT_RETRY_SECONDS,
            interval_step=0,
            interval_max=CONNECT_RETRY_SECONDS,
        )
        if is_redis(app):
            name_connections(app, connection)
            signals.worker_ready.connect(lambda sender, **_: publish(sender), weak=False)
    return app.start(["worker", *sys.argv[2:]]) or 0


if __name__ == "__main__":
    sys.exit(main())
