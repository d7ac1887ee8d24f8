"""Watching: what is seen goes into the store, whom it concerns into the queue, and a broken watch is made anew."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from operating import run

from trireme_operator import watch
from trireme_operator.api import JOB, RESOURCE_QUOTA, WATCHED, WORKER_CLUSTER, Key, Kind, Object
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


class Denying(Server):
    """Does not let a kind be listed."""

    def __init__(self, kind: Kind, code: int) -> None:
        super().__init__()
        self.denied: Kind | None = kind
        self.code = code

    async def list(self, kind: Kind, selector: str | None) -> tuple[list[Object], str]:
        if kind is self.denied:
            raise ApiError(self.code, "no")
        return await super().list(kind, selector)


def told(caplog: pytest.LogCaptureFixture) -> set[tuple[str, str]]:
    return {(record.levelname, getattr(record, "missing", "")) for record in caplog.records}


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        (WORKER_CLUSTER, 404, ("ERROR", "the CRD workerclusters.trireme.dev: install it")),
        (
            JOB,
            403,
            ("ERROR", "the right to list and watch jobs.batch: give it to the operator's service account"),
        ),
        (JOB, 404, ("ERROR", "the API batch/v1 with jobs.batch")),
        # It may pass.
        (JOB, 500, ("WARNING", "")),
        (RESOURCE_QUOTA, 500, ("WARNING", "")),
    ],
)
def test_what_keeps_a_kind_from_being_listed_is_named(
    caplog: pytest.LogCaptureFixture, kind: Kind, code: int, expected: tuple[str, str]
) -> None:
    async def listing() -> None:
        server = Denying(kind, code)
        client: Any = server
        watches = Watches(client, Store(), lambda _: None)
        task = asyncio.create_task(watches.run())
        await asyncio.sleep(60)
        assert not watches.is_synced()
        server.denied = None
        async with asyncio.timeout(60):
            await watches.synced()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(listing)
    assert told(caplog) == {expected}


@pytest.mark.parametrize("code", [403, 404])
def test_without_quotas_the_rest_goes_on(caplog: pytest.LogCaptureFixture, code: int) -> None:
    async def listing() -> None:
        client: Any = Denying(RESOURCE_QUOTA, code)
        store, asked = Store(), list[Key]()
        quota = {"kind": "ResourceQuota", "metadata": {"name": "team", "namespace": "team"}, "spec": {}}
        # From before that was forbidden.
        store.put(quota)
        watches = Watches(client, store, asked.append)
        task = asyncio.create_task(watches.run())
        async with asyncio.timeout(60):
            await watches.synced()
        assert store.quotas("team") == []
        assert KEY in asked
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(listing)
    ((level, missing),) = told(caplog)
    assert level == "ERROR"
    assert "resourcequotas" in missing
