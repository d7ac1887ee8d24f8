"""Priorities on a Redis broker that count as everywhere else: the larger, the more urgent.

Kombu keeps a list for each step of priority, and has workers look into that of the smallest first. Here they look into
that of the largest first. Who sends tasks needs to know nothing of it, and tasks without a priority stay in the list
that is called as the queue, as priority 0.
"""

import os
from typing import Any

from kombu import transport
from kombu.transport import redis
from redis import Redis
from trireme_full import Client

# Messages that were taken when the broker went, before it noted who has them, and from which queue: they are in no list
# and in no hash. Of this process alone, whose threads may have a connection each.
_taken: list[tuple[Any, str]] = []
os.register_at_fork(after_in_child=_taken.clear)


class QoS(redis.QoS):
    """Notes who has a message, and keeps it where that fails: the next connection puts it back."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message that was taken."""
        try:
            super().append(message, delivery_tag)
        except self.channel.connection_errors:
            _taken.append((message._raw, self.channel.connection.taken_from))
            raise


class _Knowing:
    # A new connection may not know an exchange yet, so where a message was is noted, and not where it was sent.
    taken_from = ""

    def _deliver(self, message: Any, queue: str) -> None:
        self.taken_from = queue
        super()._deliver(message, queue)  # type: ignore[misc]


class _LargestFirst:
    QoS = QoS
    priority_steps: list[int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In this order it looks into the lists.
        self.priority_steps = sorted(self.priority_steps, reverse=True)
        self._put_back()

    def _put_back(self) -> None:
        while True:
            try:
                message, queue = _taken.pop()
            except IndexError:
                return
            try:
                with self.conn_or_acquire() as client:  # type: ignore[attr-defined]
                    self._do_restore_message(message, "", queue, client)  # type: ignore[attr-defined]
            except BaseException:
                _taken.append((message, queue))
                raise

    def _get_client(self) -> Any:
        found = super()._get_client()  # type: ignore[misc]
        # One that puts a prefix before keys has to stay that.
        return Client if found is Redis else found

    def _get(self, queue: str) -> Any:
        self.connection.taken_from = queue  # type: ignore[attr-defined]
        return super()._get(queue)  # type: ignore[misc]

    def priority(self, n: int) -> int:
        """Return the step that a priority belongs to."""
        return next((step for step in self.priority_steps if step <= n), self.priority_steps[-1])


class Channel(_LargestFirst, redis.Channel):
    """A channel to Redis."""


class Transport(_Knowing, redis.Transport):
    """Redis."""

    Channel = Channel


class SentinelChannel(_LargestFirst, redis.SentinelChannel):
    """A channel to whichever Redis the sentinels name."""


class SentinelTransport(_Knowing, redis.SentinelTransport):
    """Redis by its sentinels."""

    Channel = SentinelChannel


def count_upwards() -> None:
    """Have this process take tasks in that order."""
    transport.TRANSPORT_ALIASES |= {
        "redis": f"{__name__}:Transport",
        "rediss": f"{__name__}:Transport",
        "sentinel": f"{__name__}:SentinelTransport",
    }
