"""The demand, and news of it, from the engines over the network."""

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import aiohttp
import msgspec

from trireme_operator.api import WORKER_CLUSTER, Key, Object, cluster_name, is_group, key_of, owned_by
from trireme_operator.engines import celery, dask, spark
from trireme_operator.engines.demand import Demand, Nonsense, Unavailable
from trireme_operator.plan.cluster import of_component, values, workers_among
from trireme_operator.plan.group import complete, unfit
from trireme_operator.plan.scaling import is_on, sets_size
from trireme_operator.store import Store

if TYPE_CHECKING:
    from trireme_operator.autoscale.broker import Broker

logger = logging.getLogger(__name__)

_SECONDS = 2.0
# What a Spark driver says comes early or not at all. It is not hung up on: for that, Spark prints a trace of 90 lines.
_DRIVER_SECONDS = 0.5
_LONGEST_DRIVER_SECONDS = 15.0
# By then a Spark master knows what a driver has asked it for, or never will.
_HEARD_SECONDS = 10.0
# Two clocks, of which one may be ahead, or it wakes early.
_EARLY_SECONDS = 0.1
# A Spark master tells no news. A driver that is known may begin its work at any moment.
_SPARK_DRIVER_SECONDS = 1.0
_SPARK_SECONDS = 3.0
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
        self._brokers: dict[str, Broker] = {}
        # Those that have yet to answer, by address.
        self._drivers: dict[str, asyncio.Task[tuple[str, spark.Ahead]]] = {}
        # Since when applications of a cluster have asked for what their master does not know, by the cluster's uid.
        self._unheard: dict[str, dict[str, float]] = {}

    async def read(self, cluster: Object) -> Demand:
        """Return what the work of a cluster asks for, or that of a group with all it takes from its cluster.

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
        except (aiohttp.ClientError, OSError) as error:
            raise Unreadable("NoAnswer", f"{engine} can't be asked: {str(error) or type(error).__name__}") from error
        except Unavailable as error:
            raise Unreadable("NoAnswer", f"{engine} can't be asked: {error}") from error
        except Nonsense as error:
            raise Unreadable("BadAnswer", f"{engine} answers what can't be: {error}") from error
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            # Of a client that takes its server at its word, such as that text is UTF-8.
            raise Unreadable("BadAnswer", f"{engine} answers what nobody understands: {error!r}") from error

    async def news(self, cluster: Object, seconds: float) -> bool:
        """Wait until it may be worth asking a cluster again in which nothing happened, or for some seconds.

        What fails ends it, too: whoever asks then is told.

        Args:
            cluster: one that was read, and in which nothing waits or runs.
            seconds: when to come back at the latest, but for an engine that hangs, which takes 2 s more.

        Returns:
            Whether something happened.
        """
        engine = cluster["spec"]["engine"]
        news = {"dask": self._dask_news, "spark": self._spark_news, "celery": self._celery_news}[engine]
        try:
            return await news(cluster, seconds)
        except Exception as error:
            # Whatever it is, the question that follows meets it, and says so.
            logger.debug("no news", extra={"object": str(key_of(cluster)), "error": repr(error)})
            return False

    async def forget(self, cluster_uid: str) -> None:
        """Close what was kept for a cluster."""
        self._unheard.pop(cluster_uid, None)
        broker = self._brokers.pop(cluster_uid, None)
        if broker:
            await broker.aclose()

    async def close(self) -> None:
        """Close all connections."""
        for uid in [*self._brokers]:
            await self.forget(uid)
        for task in self._drivers.values():
            task.cancel()
        if self._http:
            await self._http.close()

    async def _dask(self, cluster: Object) -> Demand:
        root = _root(self._address(cluster, "scheduler"), 8787)
        query = self._dask_groups(cluster)
        answer = await self._json(f"{root}/trireme/demand" + (f"?{urlencode(query)}" if query else ""))
        return dask.demand(answer, _capacity(cluster), query.get("group", ""))

    def _dask_groups(self, cluster: Object) -> dict[str, str]:
        """Return the query that has a scheduler tell one group's work alone; none where there are no groups."""
        namespace, name = cluster["metadata"]["namespace"], cluster_name(cluster)
        whole = self._store.get(Key(WORKER_CLUSTER.kind, namespace, name))
        groups = self._store.groups(namespace, name)
        if not groups or not whole:
            return {}
        offers = {"": dask.offer(values(whole), _capacity(whole))}
        # A task is for the first that offers what it asks for: one that grows by it, if there is any.
        for group in sorted(groups, key=lambda one: not _grows(complete(one, whole))):
            full = complete(group, whole)
            offered = dask.offer(values(full), _capacity(group))
            if full["spec"]["suspend"] or unfit(group, whole):
                # It is named still: workers that it has left are none of the cluster's own.
                offered["resources"] = {}
            offers[group["metadata"]["name"]] = offered
        asked = cluster["metadata"]["name"] if is_group(cluster) else ""
        return {"group": asked, "groups": json.dumps(offers)}

    async def _spark(self, cluster: Object) -> Demand:
        root = _root(self._address(cluster, "master"), 8080)
        ahead = asyncio.create_task(self._spark_ahead(cluster))
        asked: list[asyncio.Task[bytes]] = []
        try:
            master = await self._json(f"{root}/json/")
            names = spark.applications(master)
            asked = [asyncio.create_task(self._get(f"{root}/app/?appId={name}")) for name in names]
            pages = await asyncio.gather(*asked)
            told = await ahead
        finally:
            # What one of them says may end it before the others have answered.
            for task in (ahead, *asked):
                task.cancel()
        shown = {name: page.decode(errors="replace") for name, page in zip(names, pages, strict=True)}
        heard = {name: spark.executor_limit(page) for name, page in shown.items()}
        # By their addresses those whose metrics do not say which application's they are.
        told |= {name: told[at] for name, page in shown.items() if (at := spark.driver_address(page)) in told}
        limits = {
            name: spark.ahead(heard[name], told[name].executors) if name in told else heard[name] for name in heard
        }
        addresses = {pod.get("status", {}).get("podIP", ""): pod["metadata"]["name"] for pod in self._workers(cluster)}
        others = {pod.get("status", {}).get("podIP", "") for pod in of_component(self._pods(cluster), "group-worker")}
        found = spark.demand(master, limits, addresses, _capacity(cluster), others)
        forgotten = self._forgotten(cluster["metadata"]["uid"], spark.unheard(heard, told))
        return replace(found, remark=spark.forgotten(forgotten)) if forgotten else found

    def _forgotten(self, uid: str, unheard: Sequence[str]) -> list[str]:
        """Return the applications of a cluster that were not heard for so long that they won't be any more."""
        now, before = time.monotonic(), self._unheard.get(uid, {})
        since = self._unheard[uid] = {name: before.get(name, now) for name in unheard}
        return [name for name, first in since.items() if now - first >= _HEARD_SECONDS]

    async def _spark_ahead(self, cluster: Object) -> dict[str, spark.Ahead]:
        """Return what applications ask for, or are about to, as far as drivers of ours tell at once."""
        found = [pod["status"] for pod in self._spark_drivers(cluster) if "status" in pod]
        # Of a pod that has ended the address may be another's by now. What an application says of its is never asked.
        addresses = {status["podIP"] for status in found if status.get("phase") == "Running" and status.get("podIP")}
        for address in addresses - self._drivers.keys():
            self._drivers[address] = asyncio.create_task(self._spark_driver(address))
        if not addresses:
            return {}
        answered, _ = await asyncio.wait([self._drivers[address] for address in addresses], timeout=_DRIVER_SECONDS)
        return dict(task.result() for task in answered)

    def _spark_drivers(self, cluster: Object) -> list[Object]:
        """Return the pods with drivers that the operator made: its jobs', and a Connect server."""
        pods = self._pods(cluster)
        return [*of_component(pods, "driver"), *of_component(pods, "connect")]

    async def _spark_driver(self, address: str) -> tuple[str, spark.Ahead]:
        """Return a driver's application, and what it asks for: nothing if it does not tell."""
        root, application, ahead = _root(address, 4040), "", spark.Ahead()
        try:
            async with asyncio.timeout(_LONGEST_DRIVER_SECONDS):
                # Without the last slash it answers by a redirect.
                found = spark.allocation(await self._json(f"{root}/metrics/json/"))
                if found:
                    is_named = found.application != spark.NAMESPACE
                    application = found.application if is_named else address
                    ahead = spark.Ahead(found.at_least, found.asked)
                    # Its first answer to that costs it 2 s of CPU time: not while all waits for the first worker.
                    if found.is_behind and found.present:
                        name = found.application
                        if not is_named:
                            [name] = spark.applications({"activeapps": await self._json(f"{root}/api/v1/applications")})
                        api = f"{root}/api/v1/applications/{name}"
                        environment = await self._json(f"{api}/environment")
                        stages = await self._json(f"{api}/stages?status=active")
                        more = spark.executors_ahead(found, environment, stages)
                        ahead = replace(ahead, executors=max(ahead.executors, more))
        except Exception as error:
            # It runs what users like; and what it does not tell, its master will in a second.
            logger.debug("a driver does not tell", extra={"address": address, "error": repr(error)})
        finally:
            self._drivers.pop(address, None)
        return application, ahead

    async def _celery(self, cluster: Object) -> Demand:
        pods = [pod["metadata"]["name"] for pod in self._workers(cluster)]
        if root := self._monitor(cluster):
            return celery.monitored(await self._json(f"{root}/trireme/demand"), pods, _capacity(cluster))
        broker = await self._broker(cluster)
        group = cluster["metadata"]["name"] if is_group(cluster) else ""
        return await broker.demand(cluster["spec"].get("celery", {}), pods, _capacity(cluster), group)

    async def _dask_news(self, cluster: Object, seconds: float) -> bool:
        root = _root(self._address(cluster, "scheduler"), 8787)
        return await self._told(root, seconds, self._dask_groups(cluster))

    async def _told(self, root: str, seconds: float, query: dict[str, str]) -> bool:
        """Wait for an answer that comes early if there is work."""
        since = time.monotonic()
        async with asyncio.timeout(seconds + _SECONDS):
            await self._get(f"{root}/trireme/demand?{urlencode({'wait': f'{seconds:g}', **query})}")
        return time.monotonic() - since < seconds - _EARLY_SECONDS

    async def _spark_news(self, cluster: Object, seconds: float) -> bool:
        await asyncio.sleep(min(seconds, spark_seconds(self._spark_drivers(cluster))))
        return False

    async def _celery_news(self, cluster: Object, seconds: float) -> bool:
        if root := self._monitor(cluster):
            return await self._told(root, seconds, {})
        return await (await self._broker(cluster)).news(seconds)

    def _monitor(self, cluster: Object) -> str:
        """Return where a monitor counts in place of the operator; empty if a Redis of the cluster's own tells."""
        broker = self._control(cluster, celery.CELERY.control)
        is_rabbitmq = broker and any(port["name"] == celery.AMQP_PORT for port in broker["spec"].get("ports", []))
        if broker and not is_rabbitmq:
            return ""
        # A group has one of its own, which counts its queues.
        found = self._store.get(Key("Service", cluster["metadata"]["namespace"], _monitor_name(cluster)))
        if found is not None and owned_by(found, cluster):
            return _root(_service_address(found), 8787)
        if is_rabbitmq:
            raise Unreadable("NoControlPod", "there is no monitor, and RabbitMQ tells nobody else what waits")
        return ""

    async def _broker(self, cluster: Object) -> "Broker":
        """Return the broker of a cluster; a Service that was made anew has another address."""
        uid, host = cluster["metadata"]["uid"], self._address(cluster, "broker")
        if uid in self._brokers and self._brokers[uid].host != host:
            await self.forget(uid)
        if uid not in self._brokers:
            # Not at the top of the module: redis-py takes 20 MB, and most have no use for it.
            from trireme_operator.autoscale.broker import Broker

            self._brokers[uid] = Broker(host)
        return self._brokers[uid]

    def _address(self, cluster: Object, component: str) -> str:
        """Return the address of a control pod's Service, which needs no name server."""
        found = self._service(cluster, component)
        if not found:
            name = f"{cluster_name(cluster)}-{component}"
            raise Unreadable("NoControlPod", f"there is no Service {name}: a {component} elsewhere can't be asked")
        return found

    def _service(self, cluster: Object, component: str) -> str:
        """Return the address of the Service of a cluster's control pod; empty if there is none."""
        service = self._control(cluster, component)
        return _service_address(service) if service else ""

    def _control(self, cluster: Object, component: str) -> Object | None:
        """Return the Service of a cluster's control pod."""
        name, namespace = f"{cluster_name(cluster)}-{component}", cluster["metadata"]["namespace"]
        service = self._store.get(Key("Service", namespace, name))
        owner = self._store.get(Key(WORKER_CLUSTER.kind, namespace, cluster_name(cluster))) or cluster
        return service if service and owned_by(service, owner) else None

    def _pods(self, cluster: Object) -> Sequence[Object]:
        return self._store.pods(cluster["metadata"]["namespace"], cluster_name(cluster))

    def _workers(self, cluster: Object) -> Sequence[Object]:
        return workers_among(self._pods(cluster), cluster)

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
                # Who waits for all that is asked has a timer already.
                timeout=aiohttp.ClientTimeout(total=None),
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
            if answer.status == 503:
                found = text.decode(errors="replace")
                raise Unavailable("".join(letter if letter.isprintable() else " " for letter in found))
            if answer.status != 200:
                raise Nonsense(f"HTTP {answer.status}: {bytes(text[:80])!r}")
            return bytes(text)


def spark_seconds(drivers: Iterable[Object]) -> float:
    """Return for how long a Spark cluster in which nothing moves is left alone.

    Args:
        drivers: pods of this operator's drivers that use it.
    """
    there = any(pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") for pod in drivers)
    return _SPARK_DRIVER_SECONDS if there else _SPARK_SECONDS


def _root(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _monitor_name(cluster: Object) -> str:
    return f"{cluster['metadata']['name']}-{celery.CELERY.monitor}"


def _service_address(service: Object) -> str:
    metadata = service["metadata"]
    return str(service["spec"].get("clusterIP") or f"{metadata['name']}.{metadata['namespace']}.svc")


def _grows(group: Object) -> bool:
    return is_on(group) and sets_size(group)


def _capacity(cluster: Object) -> dict[str, str]:
    found: dict[str, str] = cluster.get("status", {}).get("capacity", {})
    return found
