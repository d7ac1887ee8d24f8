"""Tasks that a leaving worker sends anew, so that RabbitMQ does not count them as lost with their workers."""

import sys
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from charting import CHARTS

pytest.importorskip("celery", reason="celery is not installed: uv sync")

sys.path.insert(0, str(CHARTS / "celery" / "files"))
_before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
trireme_anew = import_module("trireme_anew")
sys.dont_write_bytecode = _before


class Request:
    """Celery's, as far as it is looked at."""

    def __init__(self, tag: str = "1", late: bool = True, acknowledged: bool = False, again: bool = True) -> None:
        self.task = SimpleNamespace(acks_late=late)
        self.acknowledged = acknowledged
        self.message = SimpleNamespace(
            body=b"[]",
            headers={"task": "shop.eat", "x-delivery-count": 3},
            properties={"priority": 7, "content_type": "application/json", "application_headers": {"task": "old"}},
            delivery_info={"redelivered": again, "consumer_tag": tag},
        )

    def acknowledge(self) -> None:
        self.acknowledged = True


class Broker:
    """A connection and its channel: notes what is published, and what had been acknowledged by then."""

    def __init__(self, watched: Request, error: Exception | None = None) -> None:
        self.watched, self.error = watched, error
        self.default_channel = self
        self.published: list[Any] = []

    def __enter__(self) -> "Broker":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def basic_publish(self, message: Any, exchange: str, routing_key: str) -> None:
        if self.error:
            raise self.error
        self.published.append((message, exchange, routing_key, self.watched.acknowledged))


def consumer(driver: str | None, tags: dict[str, str] | None) -> Any:
    connection = driver and SimpleNamespace(transport=SimpleNamespace(driver_type=driver))
    return SimpleNamespace(connection=connection, task_consumer=tags and SimpleNamespace(_active_tags=tags))


@pytest.mark.parametrize(
    ("driver", "tags", "queues"),
    [
        ("amqp", {"celery": "1", "fast": "2"}, {"1": "celery", "2": "fast"}),
        ("redis", {"celery": "1"}, {}),
        ("amqp", None, {}),
        (None, {"celery": "1"}, {}),
    ],
)
def test_queues_by_tag_of_rabbitmq_alone(driver: str | None, tags: dict[str, str] | None, queues: Any) -> None:
    assert trireme_anew.queues(consumer(driver, tags)) == queues


@pytest.mark.parametrize(
    ("request_", "chosen"),
    [
        (Request(), True),
        # Left to the broker, which puts it before all others.
        (Request(again=False), False),
        # Gone when it began, or done.
        (Request(late=False), False),
        (Request(acknowledged=True), False),
    ],
)
def test_what_is_sent_anew(request_: Request, chosen: bool) -> None:
    assert (trireme_anew.handed_back_before([request_]) == [request_]) is chosen


def test_the_broker_has_it_before_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    request, unknown = Request("2"), Request("9")
    broker, asked = Broker(request), []

    def connect(_: object, **options: object) -> Broker:
        asked.append(options)
        return broker

    monkeypatch.setattr(trireme_anew, "connect", connect)
    trireme_anew.send(object(), [request, unknown], {"1": "celery", "2": "fast"})
    assert asked == [{"confirm_publish": True}]
    [(message, exchange, queue, acknowledged)] = broker.published
    assert (exchange, queue, acknowledged) == ("", "fast", False)
    assert message.body == b"[]"
    assert message.properties == {
        "priority": 7,
        "content_type": "application/json",
        # The count begins anew.
        "application_headers": {"task": "shop.eat"},
    }
    assert request.acknowledged
    assert not unknown.acknowledged


def test_a_broker_that_takes_nothing_takes_it_back_by_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    request = Request()
    monkeypatch.setattr(trireme_anew, "connect", lambda *_, **__: Broker(request, ConnectionError("gone")))
    trireme_anew.send(object(), [request], {"1": "celery"})
    assert not request.acknowledged
    assert "gone" in caplog.text


def test_without_any_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trireme_anew, "connect", None)
    trireme_anew.send(object(), [Request("9")], {"1": "celery"})
