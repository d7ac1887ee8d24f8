"""What Celery is told in every process of a cluster: settings, priorities, and where tasks go that never work."""

import json
import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from charting import CHARTS

pytest.importorskip("celery", reason="celery is not installed: uv sync")

from celery import Celery, signals
from kombu import transport as kombu_transport

sys.path.insert(0, str(CHARTS / "celery" / "files"))
_before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
trireme_app, trireme_dead, trireme_priorities = (
    import_module(name) for name in ("trireme_app", "trireme_dead", "trireme_priorities")
)
sys.dont_write_bytecode = _before


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of the chart, for a process that is not told otherwise."""
    (tmp_path / "defaults.json").write_text('{"task_acks_late": true, "worker_prefetch_multiplier": 1}')
    (tmp_path / "config.json").write_text('{"task_routes": {"tasks.eat": {"queue": "fast"}}}')
    monkeypatch.setattr(trireme_app, "CONF", tmp_path)
    monkeypatch.setattr(trireme_app, "TLS", tmp_path)
    monkeypatch.setenv("CELERY_LOADER", "trireme_app:Loader")
    return tmp_path


@pytest.mark.usefixtures("conf")
def test_a_program_has_the_settings_without_knowing_of_them() -> None:
    app = Celery("tasks", broker="memory://", set_as_current=False)
    app.conf.worker_prefetch_multiplier = 7
    assert app.conf.task_acks_late is True
    assert app.conf.worker_prefetch_multiplier == 7
    assert app.amqp.router.route({}, "tasks.eat")["queue"].name == "fast"


@pytest.mark.usefixtures("conf")
def test_a_redis_that_has_gone_is_not_waited_for() -> None:
    app = Celery("tasks", broker="redis://there", backend="redis://there", set_as_current=False)
    app.conf.broker_transport_options = {"visibility_timeout": 5}
    trireme_app.settle(app)
    assert app.conf.broker_transport_options["visibility_timeout"] == 5
    assert app.conf.broker_transport_options["socket_connect_timeout"] == 5
    assert app.conf.redis_socket_connect_timeout == 5


@pytest.mark.usefixtures("conf")
@pytest.mark.parametrize(
    ("scheme", "own", "expected"),
    [
        ("amqp", {}, {"confirm_publish": True}),
        ("pyamqp", {}, {"confirm_publish": True}),
        ("amqps", {"read_timeout": 9}, {"confirm_publish": True, "read_timeout": 9}),
        ("amqp", {"confirm_publish": False}, {"confirm_publish": False}),
    ],
)
def test_rabbitmq_confirms_what_is_sent(scheme: str, own: dict[str, Any], expected: dict[str, Any]) -> None:
    app = Celery(broker=f"{scheme}://nowhere", set_as_current=False)
    app.conf.broker_transport_options = own
    trireme_app.settle(app)
    assert app.conf.broker_transport_options == expected


@pytest.mark.parametrize(
    ("url", "result", "expected"),
    [
        ("redis://there", "rpc://", {}),
        ("amqp://there", "redis://there", {}),
        ("rediss://there", "rediss://there", {"broker_use_ssl": "redis", "redis_backend_use_ssl": "redis"}),
        ("amqps://there", "rpc://", {"broker_use_ssl": "amqp"}),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_tls(conf: Path, url: str, result: str, expected: dict[str, str], own: bool) -> None:
    if own:
        (conf / "ca.crt").touch()
    app = Celery("tasks", broker=url, backend=result, set_as_current=False)
    # Else the system's are asked.
    ca = {"ca_certs": str(conf / "ca.crt")} if own else {}
    kinds = {
        "redis": {"ssl_cert_reqs": ssl.CERT_REQUIRED, **{f"ssl_{name}": path for name, path in ca.items()}},
        "amqp": {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None, **ca},
    }
    for name in ("broker_use_ssl", "redis_backend_use_ssl"):
        assert (app.conf[name] or None) == (kinds[expected[name]] if name in expected else None)


@pytest.mark.usefixtures("conf")
@pytest.mark.parametrize(
    ("query", "options", "verified"),
    [
        ("", {}, ssl.CERT_REQUIRED),
        ("?ssl_cert_reqs=none", {}, ssl.CERT_NONE),
        ("", {"ssl_cert_reqs": ssl.CERT_OPTIONAL}, ssl.CERT_OPTIONAL),
    ],
)
def test_who_is_verified_can_be_said_otherwise(query: str, options: dict[str, Any], verified: int) -> None:
    url = f"rediss://there/0{query}"
    app = Celery("tasks", broker=url, backend=url, set_as_current=False)
    if options:
        app.conf.update(broker_use_ssl=options, redis_backend_use_ssl=options)
    trireme_app.settle(app)
    assert app.connection_for_read().ssl["ssl_cert_reqs"] == verified
    assert app.backend.connparams["ssl_cert_reqs"] == verified


def test_a_broker_that_asks_for_a_certificate_gets_it(conf: Path) -> None:
    for name in ("ca.crt", "tls.crt", "tls.key"):
        (conf / name).touch()
    app = Celery("tasks", broker="amqps://there", set_as_current=False)
    assert app.conf.broker_use_ssl["certfile"] == str(conf / "tls.crt")
    assert app.conf.broker_use_ssl["keyfile"] == str(conf / "tls.key")


class Steps:
    sep = trireme_priorities.redis.Channel.sep

    def __init__(self) -> None:
        self.priority_steps = [0, 3, 6, 9]


class LargestFirst(trireme_priorities._LargestFirst, Steps):
    pass


def test_the_largest_priority_is_looked_for_first() -> None:
    channel = LargestFirst()
    assert channel.priority_steps == [9, 6, 3, 0]
    # In the same lists as kombu has for those who send.
    assert [channel.priority(n) for n in range(10)] == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
    assert trireme_priorities.Channel._q_for_pri(channel, "celery", 0) == "celery"
    assert trireme_priorities.Channel._q_for_pri(channel, "celery", 9) == "celery\x06\x169"


def test_transports_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kombu_transport, "TRANSPORT_ALIASES", {**kombu_transport.TRANSPORT_ALIASES})
    trireme_priorities.count_upwards()
    for name in ("redis", "rediss"):
        found = kombu_transport.resolve_transport(name)
        assert issubclass(found.Channel, trireme_priorities._LargestFirst)
        assert found.driver_type == "redis"
    assert issubclass(kombu_transport.resolve_transport("sentinel").Channel, trireme_priorities._LargestFirst)


class Expected(Exception):
    pass


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Celery:
    # Its broker is this process's, and other tests use it, too.
    app = Celery(request.node.name, broker="memory://", set_as_current=False)
    app.conf.task_always_eager = False
    return app


def dead(app: Celery) -> list[Any]:
    """Take what is in the queue."""
    found = []
    with app.connection_for_read() as connection:
        queue = app.amqp.queues["trireme.dead"](connection.default_channel)
        queue.declare()
        while message := queue.get(no_ack=True):
            found.append(message)
    return found


@pytest.mark.parametrize(("error", "kept"), [(ValueError("no"), True), (Expected("as it may be"), False)])
def test_a_task_that_failed_for_good_is_kept_as_it_was_sent(app: Celery, error: Exception, kept: bool) -> None:
    @app.task(name="eat", throws=(Expected,), max_retries=3)
    def eat(*_: Any) -> None:
        raise error

    def keep(sender: Any, **options: Any) -> None:
        sender.request.delivery_info = {"exchange": "", "routing_key": "celery", "priority": 6}
        trireme_dead.keep(sender, **options)

    signals.task_failure.connect(keep)
    eat.apply(args=["fish"], task_id="7", retries=3, headers={"traceparent": "00-1"})
    messages = dead(app)
    assert bool(messages) is kept
    if kept:
        (message,) = messages
        headers = message.headers
        assert (headers["task"], headers["id"], headers["retries"]) == ("eat", "7", 0)
        assert headers["trireme_failure"] == "ValueError: no"
        assert headers["traceparent"] == "00-1"
        assert json.loads(message.body)[0] == ["fish"]
        assert message.properties["priority"] == 6


def test_a_task_that_fails_again_as_it_is_run_from_there_ends(app: Celery) -> None:
    @app.task(name="eat")
    def eat() -> None:
        return None

    for queue, kept in (("celery", 1), ("trireme.dead", 0)):
        eat.push_request(id="7", args=[], kwargs={}, delivery_info={"exchange": "", "routing_key": queue})
        trireme_dead.keep(eat, ValueError("no"))
        assert len(dead(app)) == kept


def test_a_failure_that_cant_be_kept_is_told(
    app: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(name="eat")
    def eat() -> None:
        return None

    def fails(*_: Any, **__: Any) -> None:
        raise OSError("gone")

    monkeypatch.setattr(eat, "signature_from_request", fails)
    trireme_dead.keep(eat, ValueError("no"))
    assert "could not be put into trireme.dead" in caplog.text


class Connected(Steps):
    """A channel's connection to a server on which lists are; it may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[str, list[Any]] = {}
        self.away = False
        self.connection = SimpleNamespace(taken_from="")

    def conn_or_acquire(self) -> Any:
        if self.away:
            raise ConnectionError("gone")
        return nullcontext(self)

    def rpush(self, key: str, text: str) -> None:
        # Or another thread's connection would put it back as well.
        assert not trireme_priorities._taken
        self.lists.setdefault(key, []).append(json.loads(text))

    # As kombu has it on a new connection.
    connection_errors = (ConnectionError,)
    state = SimpleNamespace(exchanges={})
    deadletter_queue = None
    _lookup = trireme_priorities.redis.Channel._lookup
    _q_for_pri = trireme_priorities.redis.Channel._q_for_pri
    _get_message_priority = trireme_priorities.redis.Channel._get_message_priority
    min_priority, max_priority, default_priority = 0, 9, 0
    _do_restore_message = trireme_priorities.redis.Channel._do_restore_message


class Again(trireme_priorities._LargestFirst, Connected):
    pass


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Take a message of a topic exchange from the queue `fast` as the broker goes; returns what is kept of such."""

    def fails(*_: Any) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(trireme_priorities.redis.QoS, "append", fails)
    qos = trireme_priorities.QoS.__new__(trireme_priorities.QoS)
    transport = trireme_priorities.Transport.__new__(trireme_priorities.Transport)
    qos.channel = SimpleNamespace(connection_errors=(ConnectionError,), connection=transport)
    raw = {"body": "x", "headers": {}, "properties": {"priority": 9, "delivery_info": {}}}
    info = {"exchange": "shop", "routing_key": "shop.eat.now"}
    transport._callbacks = {"fast": lambda raw: qos.append(SimpleNamespace(_raw=raw, delivery_info=info), "7")}
    with pytest.raises(ConnectionError):
        transport._deliver(raw, "fast")
    yield trireme_priorities._taken
    trireme_priorities._taken.clear()


def test_a_message_that_was_taken_as_the_broker_went_is_put_back(taken: list[Any]) -> None:
    channel = Again()
    (message,) = channel.lists.pop("fast\x06\x169")
    assert (message["body"], message["properties"]["priority"]) == ("x", 9)
    assert not channel.lists
    assert not taken
    assert not Again().lists


def test_it_is_kept_for_as_long_as_the_broker_is_away(taken: list[Any]) -> None:
    channel = Again()
    taken.append((channel.lists.popitem()[1][0], "fast"))
    channel.away = True
    with pytest.raises(ConnectionError):
        channel._put_back()
    assert len(taken) == 1


@pytest.mark.usefixtures("taken")
def test_a_child_puts_back_nothing_of_its_parents() -> None:
    process = os.fork()
    if not process:
        os._exit(len(trireme_priorities._taken))
    assert os.waitpid(process, 0)[1] == 0
    assert len(trireme_priorities._taken) == 1
