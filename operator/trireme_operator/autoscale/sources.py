"""The demand, read from the engines over the network."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from trireme_operator.api import Key, Object, owned_by
from trireme_operator.engines import celery, dask, spark
from trireme_operator.engines.demand import Demand, Nonsense
from trireme_operator.plan.cluster import of_component
from trireme_operator.store import Store

_SECONDS = 2.0
# A Spark master's page about a thousand executors takes 1 MiB. As objects, JSON may take twenty times its length.
_MOST_BYTES = 4 * 2**20
# Of an answer that is told to people.
_MOST_CHARACTERS = 400


class Unreadable(Exception):
    """The demand can't be told now.

    Args:
        reason: in one word.
        message: for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message[:_MOST_CHARACTERS])
        self.reason = reason


class Sources:
    """Asks the control pods of clusters, over connections that are kept.

    Args:
        store: where their Services and pods are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._http: aiohttp.ClientSession | None = None
        self._redis: dict[str, tuple[str, redis.asyncio.Redis]] = {}

    async def read(self, cluster: Object) -> Demand:
        """Return what a cluster's work asks for.

        Raises:
            Unreadable: the engine does not answer within 2 s, or nothing that makes sense.
        """
        engine = cluster["spec"]["engine"]
        read = {"dask": self._dask, "spark": self._spark, "celery": self._celery}[engine]
        try:
            # Not wait_for: that of Python 3.11 may swallow that the caller is cancelled.
            async with asyncio.timeout(_SECONDS):
                return await read(cluster)
        except TimeoutError as error:
            raise Unreadable("NoAnswer", f"{engine} does not answer within {_SECONDS:g} s") from error
        except (aiohttp.ClientError, RedisError, OSError) as error:
            raise Unreadable("NoAnswer", f"{engine} can't be asked: {str(error) or type(error).__name__}") from error
        except Nonsense as error:
            raise Unreadable("BadAnswer", f"{engine} answers what can't be: {error}") from error
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            # Of a client that takes its server at its word, such as that text is UTF-8.
            raise Unreadable("BadAnswer", f"{engine} answers what nobody understands: {error!r}") from error

    async def forget(self, cluster_uid: str) -> None:
        """Close what was kept for a cluster."""
        _, client = self._redis.pop(cluster_uid, (None, None))
        if client:
            with suppress(OSError, RedisError):
                await client.aclose()

    async def close(self) -> None:
        """Close all connections."""
        for uid in [*self._redis]:
            await self.forget(uid)
        if self._http:
            await self._http.close()

    async def _dask(self, cluster: Object) -> Demand:
        root = _root(self._address(cluster, "scheduler"), 8787)
        return dask.demand(await self._json(f"{root}/trireme/demand"), _capacity(cluster))

    async def _spark(self, cluster: Object) -> Demand:
        root = _root(self._address(cluster, "master"), 8080)
        master = await self._json(f"{root}/json/")
        names = spark.applications(master)
        pages = await asyncio.gather(*(self._get(f"{root}/app/?appId={name}") for name in names))
        limits = {
            name: spark.executor_limit(page.decode(errors="replace")) for name, page in zip(names, pages, strict=True)
        }
        addresses = {pod.get("status", {}).get("podIP", ""): pod["metadata"]["name"] for pod in self._workers(cluster)}
        return spark.demand(master, limits, addresses, _capacity(cluster))

    async def _celery(self, cluster: Object) -> Demand:
        client = await self._broker(cluster["metadata"]["uid"], self._address(cluster, "broker"))
        lists, unacked = celery.places(
            await _awaited(client.hgetall("trireme.work")), cluster["spec"].get("celery", {})
        )
        pods = [pod["metadata"]["name"] for pod in self._workers(cluster)]
        async with client.pipeline(transaction=False) as pipe:
            for name in lists:
                pipe.llen(name)
            pipe.hlen(unacked)
            if pods:
                pipe.mget([f"trireme.active.{pod}" for pod in pods])
            answers: list[Any] = await pipe.execute()
        active = dict(zip(pods, answers[len(lists) + 1], strict=True)) if pods else {}
        return celery.demand(answers[: len(lists)], answers[len(lists)], active, _capacity(cluster))

    async def _broker(self, uid: str, host: str) -> redis.asyncio.Redis:
        """Return the client of a broker; a Service that was made anew has another address."""
        if uid in self._redis and self._redis[uid][0] != host:
            await self.forget(uid)
        if uid not in self._redis:
            # The broker has such a user, who may count what waits and no more.
            client = redis.asyncio.Redis(
                host=host,
                username="demand",
                password="",
                decode_responses=True,
                socket_timeout=_SECONDS,
                # Once, at once, for a connection that broke while nobody used it; by default it would take seconds.
                retry=Retry(NoBackoff(), 1),
            )
            self._redis[uid] = host, client
        return self._redis[uid][1]

    def _address(self, cluster: Object, component: str) -> str:
        """Return the address of a control pod's Service, which needs no name server."""
        name, namespace = f"{cluster['metadata']['name']}-{component}", cluster["metadata"]["namespace"]
        service = self._store.get(Key("Service", namespace, name))
        if service is None or not owned_by(service, cluster):
            raise Unreadable("NoControlPod", f"there is no Service {name}: a {component} elsewhere can't be asked")
        return str(service["spec"].get("clusterIP") or f"{name}.{namespace}.svc")

    def _workers(self, cluster: Object) -> Sequence[Object]:
        pods = self._store.pods(cluster["metadata"]["namespace"], cluster["metadata"]["name"])
        return of_component(pods, "worker")

    async def _json(self, url: str) -> object:
        text = await self._get(url)
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Nonsense(f"no JSON: {text[:80]!r}") from error

    async def _get(self, url: str) -> bytes:
        if self._http is None:
            # Control pods run what users like: nothing that they send is unpacked or kept.
            self._http = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_SECONDS),
                connector=aiohttp.TCPConnector(limit=0),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        async with self._http.get(url, allow_redirects=False) as answer:
            text = bytearray()
            async for piece in answer.content.iter_any():
                text += piece
                if len(text) > _MOST_BYTES:
                    raise Nonsense(f"more than {_MOST_BYTES} bytes: {bytes(text[:80])!r}")
            if answer.status != 200:
                raise Nonsense(f"HTTP {answer.status}: {bytes(text[:80])!r}")
            return bytes(text)


def _root(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _awaited(answer: Any) -> Any:
    """Wait for an answer that redis-py's types say may be there at once."""
    return await answer


def _capacity(cluster: Object) -> dict[str, str]:
    found: dict[str, str] = cluster.get("status", {}).get("capacity", {})
    return found
