"""How the chart's Redis ends without taking a task with it, on a real one (Valkey)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import pytest
import redis
from charting import NAME, Render, container
from redis.backoff import NoBackoff
from redis.retry import Retry

TASKS = 20_000
ONCE = Retry(NoBackoff(), 0)


@contextmanager
def consumers(url: str, number: int) -> Iterator[SimpleQueue[int]]:
    """Take tasks as workers do, as fast as they come; yields what they have got."""
    got = SimpleQueue[int]()
    clients = [redis.Redis.from_url(url, socket_timeout=None, retry=ONCE) for _ in range(number)]
    begun = threading.Barrier(number + 1)

    def consume(client: redis.Redis) -> None:
        begun.wait()
        while (task := int(client.brpop(["tasks"])[1])) >= 0:
            got.put(task)

    threads = [threading.Thread(target=consume, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    begun.wait()
    try:
        yield got
    finally:
        with redis.Redis.from_url(url) as client:
            client.client_unpause()
            client.rpush("tasks", *[-1] * number)
        for thread in threads:
            thread.join()


@pytest.fixture
def before_term(render: Render) -> list[str]:
    """Return what the server is told before it is told to end."""
    broker = container(render("celery")["StatefulSet", f"{NAME}-broker"])
    program, *words = broker["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "redis-cli"
    return words


def test_it_takes_no_task_any_more_and_has_told_of_those_it_took(valkey_url: str, before_term: list[str]) -> None:
    impatient = redis.Redis.from_url(valkey_url, socket_timeout=1, retry=ONCE)
    with redis.Redis.from_url(valkey_url) as client, impatient:
        client.lpush("tasks", *range(TASKS))
        with consumers(valkey_url, 3) as got:
            assert client.execute_command(*before_term) in (True, b"OK")
            left = client.llen("tasks")
            with pytest.raises(redis.TimeoutError):
                impatient.lpush("tasks", TASKS)
            assert client.llen("tasks") == left > 0
            assert sorted(got.get(timeout=30) for _ in range(TASKS - left)) == list(range(TASKS - left))
            assert got.empty()
