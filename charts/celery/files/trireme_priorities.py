"""Priorities on a Redis broker that count as everywhere else: the larger, the more urgent.

Kombu keeps a list for each step of priority, and has workers look into that of the smallest first. Here they look into
that of the largest first. Who sends tasks needs to know nothing of it, and tasks without a priority stay in the list
that is called as the queue, as priority 0.
"""

from typing import Any

from kombu import transport
from kombu.transport import redis

# Messages that were taken when the broker went, before it noted who has them: they are in no list and in no hash.
_taken: list[tuple[Any, str, str]] = []


class QoS(redis.QoS):
    """Notes who has a message, and keeps it where that fails: the next connection puts it back."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message that was taken."""
        try:
            super().append(message, delivery_tag)
        except self.channel.connection_errors:
            info = message.delivery_info
            _taken.append((message._raw, info["exchange"], info["routing_key"]))
            raise


class _LargestFirst:
    QoS = QoS
    priority_steps: list[int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In this order it looks into the lists.
        self.priority_steps = sorted(self.priority_steps, reverse=True)
        while _taken:
            with self.conn_or_acquire() as client:  # type: ignore[attr-defined]
                self._do_restore_message(*_taken[-1], client)  # type: ignore[attr-defined]
            _taken.pop()

    def priority(self, n: int) -> int:
        """Return the step that a priority belongs to."""
        return next((step for step in self.priority_steps if step <= n), self.priority_steps[-1])


class Channel(_LargestFirst, redis.Channel):
    """A channel to Redis."""


class Transport(redis.Transport):
    """Redis."""

    Channel = Channel


class SentinelChannel(_LargestFirst, redis.SentinelChannel):
    """A channel to whichever Redis the sentinels name."""


class SentinelTransport(redis.SentinelTransport):
    """Redis by its sentinels."""

    Channel = SentinelChannel


def count_upwards() -> None:
    """Have this process take tasks in that order."""
    transport.TRANSPORT_ALIASES |= {
        "redis": f"{__name__}:Transport",
        "rediss": f"{__name__}:Transport",
        "sentinel": f"{__name__}:SentinelTransport",
    }
