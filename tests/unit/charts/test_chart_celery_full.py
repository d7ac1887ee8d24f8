"""What a Celery worker still does on a Redis that is full, on a real one (Valkey)."""

import sys
from importlib import import_module
from typing import Any

import pytest
from charting import CHARTS

pytest.importorskip("celery", reason="celery is not installed: uv sync")

import celery
import redis
from kombu import transport
from redis.client import Pipeline
from redis.exceptions import ExecAbortError, OutOfMemoryError, ResponseError

sys.path.insert(0, str(CHARTS / "celery" / "files"))
_before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
trireme_full = import_module("trireme_full")
trireme_priorities = import_module("trireme_priorities")
sys.dont_write_bytecode = _before


@pytest.fixture
def url(valkey_url: str) -> str:
    """A server that takes nothing more, with a list of tasks."""
    with redis.Redis.from_url(valkey_url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.rpush("filled", "x" * 10**6)
        client.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            client.set("a", 1)
    return valkey_url


@pytest.fixture
def client(url: str) -> Any:
    with trireme_full.Client.from_url(url) as client:
        yield client


def test_all_but_tasks_that_are_sent_are_taken(client: Any) -> None:
    assert client.hset("held", "tag", "message") == 1
    assert client.set("a", b"\x00\xff") is True
    assert client.get("a") == b"\x00\xff"
    with pytest.raises(OutOfMemoryError):
        client.lpush("filled", "task")
    with pytest.raises(OutOfMemoryError), client.pipeline() as pipe:
        pipe.lpush("filled", "task").pexpire("filled", 1000).execute()
    assert client.llen("filled") == 1


@pytest.mark.parametrize("transaction", [True, False])
def test_a_pipelines_results_are_those_of_its_commands(client: Any, transaction: bool) -> None:
    with client.pipeline(transaction=transaction) as pipe:
        zadd, time, none, found = pipe.zadd("index", {"tag": 1.5}).time().get("none").hget("held", "x").execute()
    assert (zadd, none, found) == (1, None, None)
    assert [type(part) for part in time] == [int, int]
    assert client.zscore("index", "tag") == 1.5


@pytest.mark.parametrize("why", ["OOM command not allowed when used memory > 'maxmemory'.", "previous errors."])
def test_a_transaction_may_begin_before_it_is_full(client: Any, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    def execute(self: Pipeline, raise_on_error: bool = True) -> None:
        self.reset()
        raise ExecAbortError(f"Transaction discarded because of: {why}")

    monkeypatch.setattr(Pipeline, "execute", execute)
    pipe = client.pipeline().hset("held", "tag", "message")
    if "maxmemory" in why:
        assert pipe.execute() == [1]
    else:
        with pytest.raises(ResponseError):
            pipe.execute()


def test_what_is_given_back_is_so_once(client: Any) -> None:
    client.hset("held", "tag", "message")
    for _ in range(2):
        with client.pipeline() as pipe:
            pipe.zrem("index", "tag").hdel("held", "tag").lpush("tasks", "message").execute()
    assert client.lrange("tasks", 0, -1) == [b"message"]


def test_scripts_of_others_run(client: Any) -> None:
    script = client.register_script("redis.call('SADD', KEYS[1], ARGV[1]) return redis.call('SCARD', KEYS[1])")
    assert script(keys=["names"], args=["one"]) == 1


def test_who_may_run_no_script_is_refused_as_before(client: Any) -> None:
    client.execute_command("ACL", "SETUSER", "default", "-eval")
    with pytest.raises(OutOfMemoryError):
        client.set("a", 1)


def test_a_worker_takes_and_gives_back_what_waits(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TRANSPORT_ALIASES", dict(transport.TRANSPORT_ALIASES))
    trireme_priorities.count_upwards()
    app = celery.Celery(broker=valkey_url, backend=valkey_url, set_as_current=False)
    monkeypatch.setattr(type(app.backend), "_get_client", type(app.backend)._get_client)
    trireme_full.keep_results()
    app.send_task("add", (1, 2), task_id="one")
    with redis.Redis.from_url(valkey_url) as client, app.connection_for_read() as connection:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        for _ in range(2):
            message = app.amqp.queues["celery"](connection.default_channel).get()
            assert client.hlen("unacked") == 1
            assert client.llen("celery") == 0
            message.reject(requeue=True)
            assert client.hlen("unacked") == 0
            assert client.llen("celery") == 1
        app.amqp.queues["another"](connection.default_channel).declare()
        app.backend.store_result("one", 3, "SUCCESS")
        assert app.AsyncResult("one").get(timeout=10) == 3
        with pytest.raises(celery.exceptions.OperationalError, match="maxmemory"):
            app.send_task("add", (1, 2), retry=False)
