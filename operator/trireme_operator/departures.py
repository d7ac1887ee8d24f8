"""Tells in events what workers could not hand over when they left."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from trireme_operator import events, metrics
from trireme_operator.api import (
    GROUP_LABEL,
    LABEL_COMPONENT,
    LABEL_INSTANCE,
    LABEL_NAME,
    POD,
    WORKER_CLUSTER,
    WORKER_GROUP,
    Key,
    Object,
)
from trireme_operator.client import FAILURES
from trireme_operator.plan.conditions import timestamp
from trireme_operator.plan.departure import left_behind
from trireme_operator.store import Store

logger = logging.getLogger(__name__)

# A node that goes takes some hundred pods with it at most.
_MOST = 1000
_WORKERS = ("worker", "group-worker")


class Recorder(Protocol):
    """What telling asks of a client."""

    async def record(self, event: Object) -> None:
        """Record an event; may raise one of `FAILURES`."""


class Departures:
    """Looks at pods that went, while it runs; an object that is gone can't be looked at again later.

    Args:
        store: where their clusters are.
        client: to record events with.
        clock: tells the time, with its zone.
    """

    def __init__(self, store: Store, client: Recorder, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._client = client
        self._clock = clock
        self._gone: asyncio.Queue[tuple[Object, str]] | None = None

    def gone(self, item: Object) -> None:
        """Take note of an object that is gone, as it was last seen."""
        labels = item["metadata"].get("labels", {})
        if self._gone is None or self._gone.full() or item["kind"] != POD.kind:
            return
        if labels.get(LABEL_COMPONENT) in _WORKERS and (message := left_behind(item)):
            self._gone.put_nowait((item, message))

    async def run(self) -> None:
        """Tell until cancelled."""
        self._gone = asyncio.Queue(_MOST)
        while True:
            pod, message = await self._gone.get()
            metadata = pod["metadata"]
            labels = metadata["labels"]
            kind, label = (WORKER_GROUP, GROUP_LABEL) if GROUP_LABEL in labels else (WORKER_CLUSTER, LABEL_INSTANCE)
            cluster = self._store.get(Key(kind.kind, metadata["namespace"], labels.get(label, "")))
            # With the whole cluster goes all that was left, and nobody waits for it.
            if cluster is None or "deletionTimestamp" in cluster["metadata"]:
                continue
            metrics.LEFT_BEHIND.labels(metadata["namespace"], metadata["labels"].get(LABEL_NAME, "")).inc()
            logger.warning("work left behind", extra={"object": f"Pod/{metadata['name']}", "what": message})
            try:
                now = timestamp(self._clock())
                await self._client.record(events.event(cluster, "WorkLeftBehind", message, "Warning", now))
            except FAILURES as error:
                logger.warning("can't record an event", extra={"error": str(error)})
