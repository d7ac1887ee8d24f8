"""Tasks that a worker hands back to RabbitMQ for the second time as it leaves: they are sent anew.

A quorum queue counts how often it has given a task to a worker, and puts it aside beyond `delivery-limit`: so a task
that kills its workers comes to an end. Until 4.3, RabbitMQ counts what workers hand back as well, and later still what
comes back with a closed connection, as all of a cold shutdown does. A long task that met as many leaving workers would
be put aside for nothing. Sent anew it is not counted yet; it is acknowledged when the broker has it, and so is never in
no queue. The first time it is left to the broker, which puts it before all others.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import amqp
from celery import Celery
from trireme_app import connect

logger = logging.getLogger(__name__)

# They are the broker's, of the message as it was.
_COUNTS = ("x-delivery-count", "x-acquired-count")


def queues(consumer: Any) -> dict[str, str]:
    """Return the queues that a worker consumes on RabbitMQ, by consumer tag; none on other brokers."""
    connection, tasks = consumer.connection, consumer.task_consumer
    if connection is None or tasks is None or connection.transport.driver_type != "amqp":
        return {}
    return {tag: name for name, tag in tasks._active_tags.items()}


def handed_back_before(requests: Iterable[Any]) -> list[Any]:
    """Return those of a worker's requests that go back to RabbitMQ, and have come back from a worker before."""
    return [
        request
        for request in requests
        if request.task.acks_late and not request.acknowledged and request.message.delivery_info.get("redelivered")
    ]


def send(app: Celery, requests: Iterable[Any], names: Mapping[str, str]) -> None:
    """Send tasks anew to the queues that they came from, and acknowledge them.

    Args:
        app: the application.
        requests: of tasks that run no more.
        names: of queues, by consumer tag.
    """
    found = [
        (request, names[tag]) for request in requests if (tag := request.message.delivery_info["consumer_tag"]) in names
    ]
    if not found:
        return
    try:
        with connect(app, confirm_publish=True) as connection:
            for request, queue in found:
                connection.default_channel.basic_publish(_copy(request.message), exchange="", routing_key=queue)
                request.acknowledge()
    except Exception as error:  # whatever the transport raises: the broker takes them back by itself
        logger.warning("Tasks go back to the broker, which counts that against them: %r", error)


def _copy(message: Any) -> amqp.Message:
    headers = {name: value for name, value in message.headers.items() if name not in _COUNTS}
    return amqp.Message(message.body, **{**message.properties, "application_headers": headers})
