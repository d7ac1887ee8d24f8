"""How news of engines are waited for: HTTP on loopback, and a stand-in for Redis that speaks its protocol."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from operating import Result, cluster
from test_operator_sources import (
    _ADDRESS,
    IDLE,
    NUMBERS,
    Engine,
    broken,
    closed_port,
    endless,
    engine,
    hanging,
    pod,
    run,
    said,
    service,
    store,
    with_real_client,
)

from trireme_operator.api import Key, Object
from trireme_operator.autoscale import broker, sources
from trireme_operator.autoscale.sources import Sources
from trireme_operator.engines.demand import Demand

__all__ = ["closed_port", "engine"]

# So long that a test which waits for its end fails.
_LONG = 600
_SHORT = 0.05
CELERY = cluster("celery", celery={"queues": ["a"]})


# Dask


def test_dask_is_asked_to_answer_when_there_is_news(engine: Engine) -> None:
    item = NUMBERS["dask"]
    engine.answers.append(said(IDLE))
    assert engine.run(lambda sources: sources.news(item, 14.5), service(item))
    assert [asked.url for asked in engine.asked] == [f"http://{_ADDRESS}:8787/trireme/demand?wait=14.5"]


def test_the_monitor_of_a_broker_elsewhere_is_asked_as_dask_is(engine: Engine) -> None:
    engine.answers.append(said({"waiting": 1, "unacknowledged": 0, "held": {}}))
    assert engine.run(lambda sources: sources.news(CELERY, 14.5), service(CELERY, component="monitor"))
    assert [asked.url for asked in engine.asked] == [f"http://{_ADDRESS}:8787/trireme/demand?wait=14.5"]


def test_dask_has_no_news_when_the_time_is_over(engine: Engine) -> None:
    item = NUMBERS["dask"]

    async def answer(request: Any) -> Any:
        await asyncio.sleep(float(request.query["wait"]))
        return await said(IDLE)(request)

    engine.answers.append(answer)
    assert not engine.run(lambda sources: sources.news(item, 0.3), service(item))


def test_to_ask_and_to_wait_is_one_connection(engine: Engine) -> None:
    item = NUMBERS["dask"]
    engine.answers.append(said(IDLE))

    async def test(found: Sources) -> None:
        for _ in range(3):
            await found.read(item)
            await found.news(item, 15)

    engine.run(test, service(item))
    assert len(engine.asked) == 6
    assert len({asked.peer for asked in engine.asked}) == 1


@pytest.mark.parametrize(
    "answer", [said(b"no", 400), said(b"", 500), broken(b"\x00"), broken(b""), endless(b" " * 2**16)]
)
def test_what_goes_wrong_at_dask_is_no_news(engine: Engine, answer: Any) -> None:
    item = NUMBERS["dask"]
    engine.answers.append(answer)
    assert not engine.run(lambda sources: sources.news(item, _LONG), service(item))


def test_a_dask_scheduler_that_hangs_is_no_news(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_SECONDS", _SHORT)
    item = NUMBERS["dask"]
    engine.answers.append(hanging())
    assert not engine.run(lambda sources: sources.news(item, _SHORT), service(item))


@pytest.mark.parametrize("name", ["dask", "celery"])
def test_nobody_is_waited_for_who_is_not_there(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, closed_port: int, name: str
) -> None:
    item = NUMBERS[name]
    with_real_client(monkeypatch, closed_port)

    async def test() -> None:
        engine.lead_to(closed_port)
        for there in ([], [service(item, "127.0.0.1")]):
            found = Sources(store(*there))
            assert not await found.news(item, _LONG)
            await found.close()

    run(test)


def test_who_waits_can_be_cancelled(engine: Engine) -> None:
    item = NUMBERS["dask"]
    engine.answers.append(hanging())

    async def test(found: Sources) -> None:
        task = asyncio.create_task(found.news(item, _LONG))
        while not engine.asked:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    engine.run(test, service(item))


# Spark


@pytest.mark.parametrize(("component", "seconds"), [("worker", 3.0), ("driver", 1.0), ("connect", 1.0)])
def test_spark_tells_no_news(monkeypatch: pytest.MonkeyPatch, component: str, seconds: float) -> None:
    waited: list[float] = []

    async def sleep(given: float) -> None:
        waited.append(given)

    async def test() -> None:
        found = Sources(store(pod("a", component=component), pod("b", component="driver", of="others")))
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "sleep", sleep)
            assert not await found.news(NUMBERS["spark"], 15)
            assert not await found.news(NUMBERS["spark"], 0.5)

    run(test)
    assert waited == [seconds, 0.5]


# Celery


GREETING = b"%1\r\n$5\r\nproto\r\n:3\r\n"


class Redis:
    """Speaks RESP3, as far as that is used.

    Attributes:
        lengths: of lists and hashes.
        heard: the commands of each connection, in order, but for those that greet.
        refuses: a command that is not allowed.
        meanwhile: called before a command is answered, with its words.
    """

    def __init__(self) -> None:
        self.lengths: dict[str, int] = {}
        self.heard: list[list[list[str]]] = []
        self.open = 0
        self.refuses = ""
        self.meanwhile: Callable[[list[str]], None] = lambda _: None
        self.writers: dict[str, list[asyncio.StreamWriter]] = {}
        self.subscribed = asyncio.Event()
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard: list[list[str]] = []
        self.heard.append(heard)
        self.open += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            while True:
                words = [await self._word(reader) for _ in range(int((await reader.readuntil(b"\r\n"))[1:]))]
                if words[0] not in ("HELLO", "CLIENT"):
                    heard.append(words)
                self.meanwhile(words)
                writer.write(self._answer(words, writer))
        self.open -= 1
        self.closed.set()
        writer.close()

    async def _word(self, reader: asyncio.StreamReader) -> str:
        length = int((await reader.readuntil(b"\r\n"))[1:])
        return (await reader.readexactly(length + 2))[:-2].decode()

    def _answer(self, words: list[str], writer: asyncio.StreamWriter) -> bytes:
        match words:
            case [verb, *_] if verb == self.refuses:
                return b"-NOPERM this user has no permissions to access one of the channels used as arguments\r\n"
            case ["HELLO", *_]:
                return GREETING
            case ["HGETALL", _]:
                return b"%0\r\n"
            case ["LLEN" | "HLEN", name]:
                return b":%d\r\n" % self.lengths.get(name, 0)
            case ["SUBSCRIBE", *channels]:
                for channel in channels:
                    self.writers.setdefault(channel, []).append(writer)
                self.subscribed.set()
                return b"".join(b">3\r\n" + bulk("subscribe") + bulk(channel) + b":1\r\n" for channel in channels)
        return b"+OK\r\n"

    def push(self, name: str) -> None:
        """Put a task into a list, and tell those who listen there."""
        self.lengths[name] = self.lengths.get(name, 0) + 1
        channel = f"__keyspace@0__:{name}"
        for writer in self.writers.get(channel, []):
            writer.write(b">3\r\n" + bulk("message") + bulk(channel) + bulk("lpush"))


def bulk(text: str) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text.encode())


LISTS = ["a", *(f"a\x06\x16{priority}" for priority in range(1, 10))]
COUNTED = [*(["LLEN", name] for name in LISTS), ["HLEN", "unacked"]]
SUBSCRIBED = ["SUBSCRIBE", *(f"__keyspace@0__:{name}" for name in [*LISTS, "unacked"])]


def with_redis(
    monkeypatch: pytest.MonkeyPatch, test: Callable[[Redis, Sources], Awaitable[Result]], *items: Object
) -> Result:
    async def whole() -> Result:
        redis = Redis()
        async with await asyncio.start_server(redis.serve, "127.0.0.1", 0) as server:
            with_real_client(monkeypatch, server.sockets[0].getsockname()[1])
            found = Sources(store(service(CELERY, "127.0.0.1"), *items))
            try:
                assert (await found.read(CELERY)).is_nothing
                return await test(redis, found)
            finally:
                await found.close()
                while redis.open:
                    await asyncio.sleep(0)

    return run(whole)


def test_celery_listens_where_its_tasks_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(redis: Redis, found: Sources) -> None:
        task = asyncio.create_task(found.news(CELERY, _LONG))
        await redis.subscribed.wait()
        while redis.heard[0][-1] != COUNTED[-1] or len(redis.heard[0]) != 1 + 2 * len(COUNTED):
            await asyncio.sleep(0)
        redis.push("a\x06\x163")
        assert await task
        # And no more: a busy queue would tell of every task.
        while redis.open != 1:
            await asyncio.sleep(0)
        # What is asked first, and once more after it listens; and nothing else is ever sent.
        assert redis.heard == [[["HGETALL", "trireme.work"], *COUNTED, *COUNTED], [SUBSCRIBED]]
        assert await found.read(CELERY) == Demand(1, 1, 0, 1, 0, "tasks")

    with_redis(monkeypatch, test)


@pytest.mark.parametrize("name", [LISTS[0], LISTS[-1], "unacked"])
def test_what_comes_before_it_listens_is_news(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async def test(redis: Redis, found: Sources) -> None:
        def push(words: list[str]) -> None:
            if words[0] == "SUBSCRIBE":
                redis.push(name)

        redis.meanwhile = push
        assert await found.news(CELERY, _LONG)

    with_redis(monkeypatch, test)


def test_what_comes_between_two_rests_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(redis: Redis, found: Sources) -> None:
        assert not await found.news(CELERY, _SHORT)
        await found.read(CELERY)
        # And it is gone again.
        redis.push("a")
        redis.lengths.clear()
        assert await found.news(CELERY, _LONG)

    with_redis(monkeypatch, test)


def test_a_connection_that_listens_is_kept_while_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(redis: Redis, found: Sources) -> None:
        for _ in range(3):
            assert not await found.news(CELERY, _SHORT)
            await found.read(CELERY)
        assert redis.open == len(redis.heard) == 2
        assert redis.heard[1] == [SUBSCRIBED]
        await found.forget("uid-numbers")
        while redis.open:
            await asyncio.sleep(0)

    with_redis(monkeypatch, test)


def test_nobody_listens_beside_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """However its rest ended."""

    async def test(redis: Redis, found: Sources) -> None:
        assert not await found.news(CELERY, _SHORT)
        redis.lengths["unacked"] = 1
        assert (await found.read(CELERY)).running == 1
        while redis.open != 1:
            await asyncio.sleep(0)

    with_redis(monkeypatch, test)


def test_a_rest_that_is_cut_short_listens_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(redis: Redis, found: Sources) -> None:
        task = asyncio.create_task(found.news(CELERY, _LONG))
        await redis.subscribed.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while redis.open != 1:
            await asyncio.sleep(0)
        assert not await found.news(CELERY, _SHORT)

    with_redis(monkeypatch, test)


def test_other_queues_are_listened_to_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    other = cluster("celery", celery={"queues": ["b"]})

    async def test(redis: Redis, found: Sources) -> None:
        assert not await found.news(CELERY, _SHORT)
        await found.read(other)
        redis.subscribed.clear()
        task = asyncio.create_task(found.news(other, _LONG))
        await redis.subscribed.wait()
        redis.push("b")
        assert await task

    with_redis(monkeypatch, test)


def test_a_broker_that_lets_nobody_listen_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(redis: Redis, found: Sources) -> None:
        redis.refuses = "SUBSCRIBE"
        assert not await found.news(CELERY, _LONG)
        # It can be asked as before.
        assert (await found.read(CELERY)).is_nothing
        redis.refuses = ""
        assert not await found.news(CELERY, _SHORT)

    with_redis(monkeypatch, test)


def test_a_broker_that_does_not_say_that_it_listens_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "SECONDS", _SHORT)

    async def test(redis: Redis, found: Sources) -> None:
        answer = redis._answer
        monkeypatch.setattr(redis, "_answer", lambda words, to: b"" if words[0] == "SUBSCRIBE" else answer(words, to))
        assert not await found.news(CELERY, _LONG)

    with_redis(monkeypatch, test)


def test_a_connection_that_breaks_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(redis: Redis, found: Sources) -> None:
        task = asyncio.create_task(found.news(CELERY, _LONG))
        await redis.subscribed.wait()
        for writer in {writer for writers in redis.writers.values() for writer in writers}:
            writer.close()
        # Whoever rests asks then, for what came meanwhile was not heard.
        assert not await task
        redis.writers.clear()
        redis.subscribed.clear()
        task = asyncio.create_task(found.news(CELERY, _LONG))
        await redis.subscribed.wait()
        redis.push("a")
        assert await task

    with_redis(monkeypatch, test)


def test_a_broker_whose_service_is_gone_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(redis: Redis, found: Sources) -> None:
        found._store.remove(Key("Service", CELERY["metadata"]["namespace"], "numbers-broker"))
        assert not await found.news(CELERY, _LONG)

    with_redis(monkeypatch, test)
