"""Which key is reconciled next, and when."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from operating import run

from trireme_operator.api import Key
from trireme_operator.queue import Queue

A, B, C = (Key("WorkerCluster", "team", name) for name in "abc")


def now() -> float:
    return asyncio.get_running_loop().time()


async def waiting(queue: Queue) -> bool:
    """Tell whether a reader of the queue would have to wait."""
    reader = asyncio.create_task(queue.get())
    for _ in range(10):
        await asyncio.sleep(0)
    if reader.done():
        return False
    reader.cancel()
    return True


def test_keys_come_in_their_order_and_once() -> None:
    async def test() -> None:
        queue = Queue()
        for key in (B, A, B, C, A):
            queue.add(key)
        assert len(queue) == 3
        assert [await queue.get() for _ in range(3)] == [B, A, C]
        assert await waiting(queue)

    run(test)


def test_a_reader_wakes_for_a_key() -> None:
    async def test() -> None:
        queue = Queue()
        readers = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        for key in (A, B, C):
            queue.add(key)
        assert sorted(await asyncio.gather(*readers)) == [A, B, C]

    run(test)


@pytest.mark.parametrize("end", [Queue.done, Queue.failed])
def test_a_key_is_never_out_twice(end: Callable[[Queue, Key], Any]) -> None:
    async def test() -> None:
        queue = Queue()
        queue.add(A)
        assert await queue.get() == A
        # Asked for meanwhile, however often: reconciled once more, after.
        queue.add(A)
        queue.add(A)
        assert await waiting(queue)
        assert len(queue) == 1
        queue.add(B)
        assert await queue.get() == B
        end(queue, A)
        assert await queue.get() == A
        queue.done(A)
        queue.done(B)
        assert len(queue) == 0

    run(test)


def test_a_key_that_is_done_rests() -> None:
    async def test() -> None:
        queue = Queue()
        queue.add(A)
        await queue.get()
        queue.done(A)
        assert await waiting(queue)
        queue.add(A)
        assert await queue.get() == A

    run(test)


def test_a_time_that_comes_while_a_key_is_out_is_kept_for_after() -> None:
    async def test() -> None:
        queue = Queue()
        queue.add(A)
        await queue.get()
        queue.add_after(A, 1)
        queue.add_after(B, 2)
        assert await queue.get() == B
        queue.done(A)
        assert await queue.get() == A

    run(test)


def test_failures_back_off() -> None:
    async def test() -> None:
        queue = Queue()
        queue.add(A)
        due = now()
        for seconds in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60):
            assert await queue.get() == A
            assert now() == pytest.approx(due)
            assert queue.failed(A) == pytest.approx(seconds)
            assert await waiting(queue)
            due = now() + seconds
        assert await queue.get() == A
        queue.done(A)
        queue.add(A)
        await queue.get()
        assert queue.failed(A) == pytest.approx(0.1)

    run(test)


def test_the_failures_of_one_key_are_not_anothers() -> None:
    async def test() -> None:
        queue = Queue()
        for key in (A, B):
            queue.add(key)
            await queue.get()
        assert [queue.failed(A), queue.failed(B)] == [0.1, 0.1]
        assert {await queue.get(), await queue.get()} == {A, B}
        assert queue.failed(A) == 0.2
        queue.done(B)
        queue.add(B)
        await queue.get()
        assert queue.failed(B) == 0.1

    run(test)


def test_very_many_failures_are_no_overflow() -> None:
    async def test() -> None:
        queue = Queue()
        queue.add(A)
        for _ in range(3000):
            await queue.get()
            last = queue.failed(A)
        assert last == 60

    run(test)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([(A, 5.0)], [(A, 5)]),
        ([(A, 5.0), (B, 3.0)], [(B, 3), (A, 5)]),
        ([(A, 5.0), (A, 2.0)], [(A, 2)]),
        ([(A, 2.0), (A, 5.0)], [(A, 2)]),
        ([(A, 0.0)], [(A, 0)]),
        ([(A, 4.0), (B, 4.0)], [(A, 4), (B, 4)]),
    ],
)
def test_later(asked: list[tuple[Key, float]], expected: list[tuple[Key, float]]) -> None:
    async def test() -> None:
        queue = Queue()
        for key, seconds in asked:
            queue.add_after(key, seconds)
        found = []
        for _ in expected:
            key = await queue.get()
            queue.done(key)
            found.append((key, now()))
        assert [key for key, _ in found] == [key for key, _ in expected]
        assert [time for _, time in found] == pytest.approx([time for _, time in expected])
        # An earlier wish took the place of a later one.
        queue.add_after(C, 100)
        assert await queue.get() == C

    run(test)


def test_a_reader_that_waits_for_a_time_wakes_for_an_earlier_one() -> None:
    async def test() -> None:
        queue = Queue()
        queue.add_after(A, 50)
        reader = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add_after(B, 1)
        assert await reader == B
        assert now() == pytest.approx(1)

    run(test)
