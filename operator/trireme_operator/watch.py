"""Watches: events of the API server into the store and the queue."""

import asyncio
import logging
from collections.abc import Callable

from trireme_operator import metrics
from trireme_operator.api import (
    GROUP,
    RESOURCE_QUOTA,
    SELECTOR,
    WATCHED,
    WORKER_CLUSTER,
    WORKER_CRON_JOB,
    WORKER_GROUP,
    WORKER_JOB,
    Key,
    Kind,
    Object,
    key_of,
)
from trireme_operator.client import FAILURES, ClusterClient
from trireme_operator.connection import ApiError
from trireme_operator.store import Store, concerned, limited

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_FORBIDDEN, _NOT_FOUND = 403, 404
# Whose reconciles go on without: the API server minds quotas anyway, and only the early word of them is lost.
_OPTIONAL = (RESOURCE_QUOTA,)
_OPTIONAL_RETRY_SECONDS = 30.0
# Objects of users, who give them labels of their own.
_OWN = (WORKER_CLUSTER, WORKER_GROUP, WORKER_JOB, WORKER_CRON_JOB, RESOURCE_QUOTA)


class Watches:
    """Keeps the store like the cluster, and asks for a reconcile of what changed.

    Args:
        client: to list and watch with.
        store: kept up to date.
        ask: called with each key that is to be reconciled.
        gone: called with each object that is deleted while it is watched, as it was last seen.
    """

    def __init__(
        self,
        client: ClusterClient,
        store: Store,
        ask: Callable[[Key], None],
        gone: Callable[[Object], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._store = store
        self._ask = ask
        self._gone = gone
        self._behind = {kind.kind: asyncio.Event() for kind in WATCHED}

    async def run(self) -> None:
        """Watch every kind until cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind in WATCHED:
                group.create_task(self._follow(kind), name=f"watch {kind.kind}")

    async def synced(self) -> None:
        """Wait until every kind was listed once: before that, what is missing may only be unseen."""
        for seen in self._behind.values():
            await seen.wait()

    def is_synced(self) -> bool:
        """Tell whether every kind was listed once."""
        return all(seen.is_set() for seen in self._behind.values())

    async def _follow(self, kind: Kind) -> None:
        selector = None if kind in _OWN else SELECTOR
        loop = asyncio.get_running_loop()
        while True:
            since = loop.time()
            try:
                items, version = await self._client.list(kind, selector)
                self._take_list(kind, items)
                self._behind[kind.kind].set()
                async for change, item in self._client.watch(kind, selector, version):
                    self._take(change, item)
            except FAILURES as error:
                metrics.WATCHES_BROKEN.labels(kind.kind).inc()
                await asyncio.sleep(self._broken(kind, error))
            # A server, or a proxy before it, that ends watches at once is not to be asked without a pause.
            await asyncio.sleep(max(0.0, since + _RETRY_SECONDS - loop.time()))

    def _broken(self, kind: Kind, error: Exception) -> float:
        """Tell why a kind can't be watched now; return the seconds until it is tried again."""
        told = {"kind": kind.kind, "error": str(error)}
        missing = _missing(kind, error)
        if not missing:
            logger.warning("watch broke off, listing again", extra=told)
        elif kind not in _OPTIONAL:
            logger.error("nothing is done before this is there", extra={**told, "missing": missing})
        else:
            logger.error("going on without this", extra={**told, "missing": missing})
            self._take_list(kind, [])
            self._behind[kind.kind].set()
            return _OPTIONAL_RETRY_SECONDS
        return _RETRY_SECONDS

    def _take_list(self, kind: Kind, items: list[Object]) -> None:
        before = {key_of(item): item for item in self._store.of_kind(kind.kind)}
        for key in self._store.replace(kind.kind, items):
            item = self._store.get(key) or before[key]
            self._ask_for(item, before.get(key))

    def _take(self, change: str, item: Object) -> None:
        before = self._store.get(key_of(item))
        if change == "DELETED":
            self._store.remove(key_of(item))
            self._gone(item)
        elif change in ("ADDED", "MODIFIED"):
            self._store.put(item)
        else:
            return
        self._ask_for(item, before)

    def _ask_for(self, item: Object, before: Object | None) -> None:
        if item["kind"] == RESOURCE_QUOTA.kind:
            for kind in (WORKER_CLUSTER, WORKER_GROUP, WORKER_JOB):
                for key in limited(item, before, self._store.of_kind(kind.kind)):
                    self._ask(key)
            return
        borrowers = [*self._store.of_kind(WORKER_JOB.kind), *self._store.of_kind(WORKER_GROUP.kind)]
        for key in concerned(item, borrowers):
            self._ask(key)


def _missing(kind: Kind, error: Exception) -> str:
    """Return what has to be given before a kind can be listed and watched; empty if trying again may be enough."""
    code = error.code if isinstance(error, ApiError) else None
    name = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    if code == _FORBIDDEN:
        return f"the right to list and watch {name}: give it to the operator's service account"
    if code == _NOT_FOUND and kind.group == GROUP:
        return f"the CRD {name}: install it"
    return f"the API {kind.api_version} with {name}" if code == _NOT_FOUND else ""
