"""Priorities on a Redis broker that count as everywhere else: the larger, the more urgent.

Kombu keeps a list for each step of priority, and has workers look into that of the smallest first. Here they look into
that of the largest first. Who sends tasks needs to know nothing of it, and tasks without a priority stay in the list
that is called as the queue, as priority 0.
"""

from typing import Any

from kombu import transport
from kombu.transport import redis


class _LargestFirst:
    priority_steps: list[int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In this order it looks into the lists.
        self.priority_steps = sorted(self.priority_steps, reverse=True)

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
