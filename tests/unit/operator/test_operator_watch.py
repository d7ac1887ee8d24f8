"""Watching: what is seen goes into the store, whom it concerns into the queue, and a broken watch is made anew."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from trireme_operator import watch
from trireme_operator.api import WATCHED, WORKER_CLUSTER, Key, Kind, Object
from trireme_operator.connection import ApiError
from trireme_operator.store import Store
from trireme_operator.watch import Watches


def cluster(version: int = 1) -> Object:
    metadata = {"name": "numbers", "namespace": "team", "uid": "uid", "resourceVersion": str(version)}
    return {"kind": "WorkerCluster", "metadata": metadata, "spec": {"engine": "dask"}}


KEY = Key("WorkerCluster", "team", "numbers")


class Server:
    """Lists and watches WorkerClusters; each watch is what the test gave it, then an end or an error."""

    def __init__(self, *watches: list[tuple[str, Object] | Exception]) -> None:
        self.watches = list(watches)
        self.lists = 0
        self.over = asyncio.Event()

    async def list(self, kind: Kind, selector: str | None) -> tuple[list[Object], str]:
        self.lists += kind is WORKER_CLUSTER
        return ([cluster()] if kind is WORKER_CLUSTER else []), "1"

    async def watch(self, kind: Kind, selector: str | None, version: str) -> AsyncIterator[tuple[str, Object]]:
        if kind is not WORKER_CLUSTER or not self.watches:
            if kind is WORKER_CLUSTER:
                self.over.set()
            await asyncio.get_running_loop().create_future()
        for event in self.watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


def seen(
    monkeypatch: pytest.MonkeyPatch, *watches: list[tuple[str, Object] | Exception]
) -> tuple[Server, Store, list[Key], list[float]]:
    """Watch until the last of the given watches has ended; return also what was asked for, and the pauses."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def following() -> tuple[Server, Store, list[Key], list[float]]:
        server, store, asked = Server(*watches), Store(), list[Key]()
        client: Any = server
        monkeypatch.setattr(watch.asyncio, "sleep", pause)
        task = asyncio.create_task(Watches(client, store, asked.append).run())
        await server.over.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return server, store, asked, pauses

    return asyncio.run(following())


def test_what_changes_is_stored_and_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _, store, asked, _ = seen(monkeypatch, [("MODIFIED", cluster(2)), ("BOOKMARK", cluster(9))])
    found = store.get(KEY)
    assert found
    # Listed again after that watch.
    assert found["metadata"]["resourceVersion"] == "1"
    assert asked == [KEY, KEY, KEY]


def test_what_is_deleted_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, asked, _ = seen(monkeypatch, [("DELETED", cluster(2))])
    assert asked == [KEY, KEY, KEY]


@pytest.mark.parametrize("end", [[], [ApiError(410, "too old resource version")]])
def test_a_watch_that_ends_at_once_is_made_anew_after_a_pause(
    monkeypatch: pytest.MonkeyPatch, end: list[tuple[str, Object] | Exception]
) -> None:
    server, _, _, pauses = seen(monkeypatch, end, end, end)
    assert server.lists == 4
    assert sum(pause > 0.9 for pause in pauses) >= 3


def test_every_kind_has_to_be_listed_before_anything_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def listing() -> None:
        client: Any = Server()
        watches = Watches(client, Store(), lambda _: None)
        assert not watches.is_synced()
        task = asyncio.create_task(watches.run())
        await watches.synced()
        assert watches.is_synced()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(listing())
    assert WORKER_CLUSTER in WATCHED
