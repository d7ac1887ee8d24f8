"""Which of several operators leads."""

import asyncio
from collections.abc import Awaitable, Callable
from copy import deepcopy
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from operating import NOW, Result, run

from trireme_operator import lease
from trireme_operator.api import LEASE, Kind, Object
from trireme_operator.lease import Leadership, claim

WRITTEN = "2026-01-02T03:04:05.000000Z"


def held(by: str | None, transitions: int | None = None, valid: int | None = 15) -> Object:
    spec: Object = {"holderIdentity": by, "leaseDurationSeconds": valid, "leaseTransitions": transitions}
    spec = {name: value for name, value in spec.items() if value is not None}
    spec |= {"acquireTime": "long ago", "renewTime": "just now"}
    return {"metadata": {"name": "trireme-operator", "resourceVersion": "7"}, "spec": spec}


@pytest.mark.parametrize(
    ("seen", "unchanged", "expected"),
    [
        # None is there, or nobody holds it.
        (None, 0, {"acquireTime": WRITTEN}),
        (held(None), 0, {"acquireTime": WRITTEN}),
        (held("", 3), 0, {"acquireTime": WRITTEN, "leaseTransitions": 3}),
        # One's own is renewed.
        (held("me", 3), 0, {"acquireTime": "long ago", "leaseTransitions": 3}),
        (held("me"), 1000, {"acquireTime": "long ago"}),
        # Another's is waited for, by the time it was seen here, whatever it says itself.
        (held("other"), 0, None),
        (held("other"), 14.9, None),
        (held("other"), 15, {"acquireTime": WRITTEN, "leaseTransitions": 1}),
        (held("other", 3), 60, {"acquireTime": WRITTEN, "leaseTransitions": 4}),
        (held("other", valid=30), 29, None),
        (held("other", valid=30), 30, {"acquireTime": WRITTEN, "leaseTransitions": 1}),
        (held("other", valid=None), 14, None),
        (held("other", valid=None), 15, {"acquireTime": WRITTEN, "leaseTransitions": 1}),
    ],
)
def test_who_may_hold_it(seen: Object | None, unchanged: float, expected: Object | None) -> None:
    before = deepcopy(seen)
    found = claim(seen, "me", NOW, NOW - timedelta(seconds=unchanged))
    assert seen == before
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert found["spec"] == {
        "holderIdentity": "me",
        "renewTime": WRITTEN,
        "leaseDurationSeconds": 15,
        **expected,
    }
    assert (found["apiVersion"], found["kind"]) == ("coordination.k8s.io/v1", "Lease")
    # Written only over what was read.
    assert found["metadata"] == (seen["metadata"] if seen else {})


class Leases:
    """The one Lease, of which a write over an old version is refused."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.broken = False
        self.silent = False
        self.writes = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        assert (kind, namespace, name) == (LEASE, "trireme-system", "trireme-operator")
        await self._answer()
        return deepcopy(self.lease)

    async def put_lease(self, wanted: Object) -> bool:
        await self._answer()
        assert (wanted["metadata"]["namespace"], wanted["metadata"]["name"]) == ("trireme-system", "trireme-operator")
        version = self.lease["metadata"]["resourceVersion"] if self.lease else None
        if wanted["metadata"].get("resourceVersion") != version:
            return False
        self.writes += 1
        self.lease = deepcopy(wanted)
        self.lease["metadata"]["resourceVersion"] = str(self.writes)
        return True

    def holder(self) -> str:
        assert self.lease
        return str(self.lease["spec"]["holderIdentity"])

    async def _answer(self) -> None:
        if self.broken:
            raise aiohttp.ClientError("no route")
        if self.silent:
            await asyncio.get_running_loop().create_future()


class World:
    """Leases, and the loop's clock, which goes on only while an operator waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.leases = Leases()
        self.on_sleep: Any = lambda: None
        self.ended = 0.0
        monkeypatch.setattr(lease, "asyncio", SimpleNamespace(sleep=self._sleep, wait_for=asyncio.wait_for))

    @property
    def waited(self) -> float:
        return asyncio.get_running_loop().time()

    def clock(self) -> datetime:
        return NOW + timedelta(seconds=self.waited)

    def run(self, test: Callable[[], Awaitable[Result]]) -> Result:
        async def whole() -> Result:
            try:
                return await test()
            finally:
                self.ended = self.waited

        return run(whole)

    def operator(self, identity: str) -> Leadership:
        return Leadership(self.leases, "trireme-system", identity, self.clock)  # type: ignore[arg-type]

    async def lead(self) -> None:
        """Lead until the lease is lost."""
        leader = self.operator("a")
        await leader.acquire()
        await leader.keep()

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        assert self.waited < 600, "waits for ever"
        self.on_sleep()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_the_first_leads_at_once(world: World) -> None:
    world.run(world.operator("a").acquire)
    assert (world.leases.holder(), world.ended) == ("a", 0)


def test_the_next_one_waits_until_the_holder_is_silent(world: World) -> None:
    async def test() -> None:
        await world.operator("a").acquire()
        await world.operator("b").acquire()

    world.run(test)
    assert world.leases.holder() == "b"
    assert world.leases.lease is not None
    assert world.leases.lease["spec"]["leaseTransitions"] == 1
    # Its own clock's, from when it first saw the lease.
    assert 15 <= world.ended <= 17


def test_a_holder_that_renews_is_never_overtaken(world: World) -> None:
    first, second = world.operator("a"), world.operator("b")

    async def test() -> list[bool]:
        await first.acquire()
        tried = []
        for _ in range(20):
            await asyncio.sleep(5)
            assert await first._try()
            tried.append(await second._try())
        return tried

    assert not any(world.run(test))
    assert world.leases.holder() == "a"


def test_a_lease_that_was_given_up_is_had_soon(world: World) -> None:
    async def test() -> None:
        first = world.operator("a")
        await first.acquire()
        await first.release()
        assert world.leases.holder() == ""
        await world.operator("b").acquire()

    world.run(test)
    assert (world.leases.holder(), world.ended) == ("b", 0)


def test_only_ones_own_lease_is_given_up(world: World) -> None:
    async def test() -> None:
        await world.operator("a").release()
        assert world.leases.writes == 0
        await world.operator("b").acquire()
        await world.operator("a").release()

    world.run(test)
    assert (world.leases.holder(), world.leases.writes) == ("b", 1)


def test_of_two_writers_at_once_one_leads(world: World) -> None:
    async def test() -> list[bool]:
        a, b = world.operator("a"), world.operator("b")
        stale = await world.leases.get(LEASE, "trireme-system", "trireme-operator")
        won = await a._try()

        async def late(kind: Kind, namespace: str, name: str) -> Object | None:
            return stale

        world.leases.get = late  # type: ignore[method-assign]
        return [won, await b._try()]

    assert world.run(test) == [True, False]
    assert world.leases.holder() == "a"


def test_a_lease_is_waited_for_while_it_can_not_be_read(world: World) -> None:
    world.leases.broken = True

    def mend() -> None:
        world.leases.broken = world.waited < 20

    world.on_sleep = mend
    world.run(world.operator("a").acquire)
    assert (world.leases.holder(), world.ended) == ("a", 20)


def test_a_lease_is_kept_until_another_has_it(world: World) -> None:
    renewals = []

    def steal() -> None:
        renewals.append(world.leases.writes)
        if len(renewals) == 10:
            assert world.leases.lease
            world.leases.lease["spec"]["holderIdentity"] = "b"
            world.leases.lease["metadata"]["resourceVersion"] = "stolen"

    world.on_sleep = steal

    world.run(world.lead)
    assert world.leases.holder() == "b"
    # One write each time, until the tenth.
    assert renewals[:10] == list(range(1, 11))


def test_a_lease_that_can_not_be_renewed_is_lost_before_another_may_take_it(world: World) -> None:
    def break_() -> None:
        world.leases.broken = world.waited > 20

    world.on_sleep = break_

    world.run(world.lead)
    # The last renewal was at 20 s.
    assert 20 < world.ended < 20 + 15


def test_a_short_failure_does_not_lose_the_lease(world: World) -> None:
    def hiccup() -> None:
        world.leases.broken = round(world.waited) in (5, 15, 25) or world.waited > 100

    world.on_sleep = hiccup

    world.run(world.lead)
    assert world.ended > 100


def test_a_server_that_does_not_answer_does_not_keep_a_lease_past_its_time(world: World) -> None:
    def fall_silent() -> None:
        world.leases.silent = world.waited > 20

    world.on_sleep = fall_silent

    world.run(world.lead)
    assert 20 < world.ended < 20 + 15


def test_a_server_that_answers_again_in_time_does_not_lose_the_lease(world: World) -> None:
    def hiccup() -> None:
        world.leases.silent = 20 < world.waited < 26 or world.waited > 100

    world.on_sleep = hiccup

    world.run(world.lead)
    assert world.ended > 100
