"""A Celery cluster's own Redis broker: counts what waits there, and hears when more comes."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import redis.asyncio
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from trireme_operator.api import Object
from trireme_operator.engines import celery
from trireme_operator.engines.demand import Demand, Unavailable

SECONDS = 2.0
"""In which a broker has to answer."""

_CHANNEL = "__keyspace@0__:"


class Broker:
    """Two connections at most, which are kept: one to ask, and one to listen while nothing happens.

    Every call but `demand` may raise what redis-py does, at a server that is none, too.

    Args:
        host: its address.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        # Once, at once, for a connection that broke while nobody used it; by default it would take seconds.
        self._client = _client(host, tries=1)
        self._lists: list[str] = []
        self._unacked = ""
        self._listener: redis.asyncio.Redis | None = None
        self._ears: PubSub | None = None
        self._channels: list[str] = []

    async def demand(self, spec: Object, pods: Sequence[str], capacity: Mapping[str, str], group: str) -> Demand:
        """Return what its tasks ask for.

        Args:
            spec: spec.celery of its cluster, or group.
            pods: names of the workers' pods.
            capacity: what one worker offers.
            group: name of their group; empty for the cluster's own.

        Raises:
            Nonsense: it answers what can't be.
            Unavailable: it can't be asked.
        """
        try:
            return await self._demand(spec, pods, capacity, group)
        except RedisError as error:
            raise Unavailable(str(error) or type(error).__name__) from error

    async def _demand(self, spec: Object, pods: Sequence[str], capacity: Mapping[str, str], group: str) -> Demand:
        said = await _awaited(self._client.hgetall(f"trireme.work.{group}" if group else "trireme.work"))
        self._lists, self._unacked = celery.places(said, spec, group)
        answers = await self._count(pods)
        told = dict(zip(pods, answers[len(self._lists) + 1], strict=True)) if pods else {}
        found = celery.demand(answers[: len(self._lists)], answers[len(self._lists)], told, capacity)
        if found.waiting or found.running:
            # It is asked anyway now, and would tell of every single task.
            await self._stop_listening()
        return found

    async def news(self, seconds: float) -> bool:
        """Wait until tasks come where `demand` found none, or for some seconds; tell whether any did."""
        channels = [f"{_CHANNEL}{name}" for name in (*self._lists, self._unacked)]
        came = True
        try:
            if channels != self._channels:
                await self._stop_listening()
                async with asyncio.timeout(SECONDS):
                    await self._listen(channels)
                    # Of what came before that, nothing was heard.
                    if any(await self._count([])):
                        return True
            assert self._ears
            came = await self._ears.get_message(timeout=seconds) is not None
            return came
        finally:
            # Nobody hears the rest; and a connection that failed is no good any more.
            if came:
                await self._stop_listening()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._stop_listening()
        with suppress(OSError, RedisError):
            await self._client.aclose()

    async def _count(self, pods: Sequence[str]) -> list[Any]:
        """Return the lengths of the lists, that of the hash, and what pods say they run, if there are any."""
        async with self._client.pipeline(transaction=False) as pipe:
            for name in self._lists:
                pipe.llen(name)
            pipe.hlen(self._unacked)
            if pods:
                pipe.mget([f"trireme.active.{pod}" for pod in pods])
            answers: list[Any] = await pipe.execute()
            return answers

    async def _listen(self, channels: list[str]) -> None:
        """Subscribe, and wait until that is so."""
        # A connection that breaks is not to be made again unnoticed: what came meanwhile was not heard.
        self._listener = _client(self.host, tries=0)
        self._ears = self._listener.pubsub()
        await self._ears.subscribe(*channels)
        for _ in channels:
            await self._ears.get_message(timeout=None)
        self._channels = channels

    async def _stop_listening(self) -> None:
        ears, listener = self._ears, self._listener
        self._ears, self._listener, self._channels = None, None, []
        with suppress(OSError, RedisError):
            if ears:
                await ears.aclose()  # type: ignore[no-untyped-call]
            if listener:
                await listener.aclose()


def _client(host: str, tries: int) -> redis.asyncio.Redis:
    """Return a client for the broker's user `demand`, who needs no password, and may do no more than is done here."""
    return redis.asyncio.Redis(
        host=host,
        username="demand",
        password="",
        decode_responses=True,
        socket_timeout=SECONDS,
        retry=Retry(NoBackoff(), tries),
    )


async def _awaited(answer: Any) -> Any:
    """Wait for an answer that redis-py's types say may be there at once."""
    return await answer
