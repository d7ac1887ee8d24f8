"""What a Celery worker does for tasks whose worker was killed, and what it tells of those that it stops itself."""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from charting import CHARTS, NAME, Object, Render, container

FILES = CHARTS / "celery" / "files"
US, THEM = "trireme.held.us.1", "trireme.held.them.2"
HOUR_OLD = 1000.0


def load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        specification.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


stranded, left = load("trireme_stranded"), load("trireme_left")


def client(name: str, cmd: str = "brpop", db: str = "0", psub: str = "0") -> dict[str, str]:
    return {"name": name, "cmd": cmd, "db": db, "psub": psub}


@pytest.mark.parametrize(
    ("clients", "names"),
    [
        ([client(US)], {US}),
        ([client(US), client(THEM)], {US, THEM}),
        ([client(US), client(THEM, "set")], {US, THEM}),
        ([client(US), client("", "lpush"), client("", "subscribe", psub="0"), client("flower", "psubscribe")], {US}),
        ([client(US), client("", "brpop", "1"), client(THEM, db="1")], {US}),
        ([client(US, db="3"), client("", "brpop")], {US}),
        ([client(US), client("")], None),
        ([client(US), client("somebody")], None),
        ([client(US), client(US)], None),
        ([client(US), client(US, "set")], {US}),
        ([client(US), client(THEM), client(THEM)], None),
        ([client(THEM)], None),
        ([client("", "set")], None),
        ([], None),
    ],
)
def test_who_may_hold_a_task(clients: list[dict[str, str]], names: set[str] | None) -> None:
    assert stranded.workers(clients, US) == names


def test_who_hears_remote_control() -> None:
    clients = [client(US, psub="1"), client(US), client(THEM, psub="2"), client("", psub="1")]
    assert stranded.hearers(clients, {US, THEM}) == 2


@pytest.mark.parametrize(
    ("seen", "unacked", "claims", "still_seen", "found"),
    [
        # Just seen; since long enough; not yet.
        ({}, {"a": 1.0}, [(100.0, "")], {"a": 100.0}, ""),
        ({"a": 94.0}, {"a": 1.0}, [(99.0, "")], {"a": 94.0}, "a"),
        ({"a": 94.1}, {"a": 1.0}, [(99.0, "")], {"a": 94.1}, ""),
        # A worker has said nothing since, or never did.
        ({"a": 90.0}, {"a": 1.0}, [(99.0, ""), (89.9, "")], {"a": 90.0}, ""),
        ({"a": 90.0}, {"a": 1.0}, [(99.0, ""), (90.0, "")], {"a": 90.0}, "a"),
        ({"a": 90.0}, {"a": 1.0}, [(99.0, ""), None], {"a": 90.0}, ""),
        ({"a": 90.0}, {"a": 1.0}, [], {"a": 90.0}, ""),
        # Somebody holds it, also one who says so late.
        ({"a": 90.0, "b": 90.0}, {"a": 1.0, "b": 2.0}, [(99.0, "b"), (99.0, "c")], {"a": 90.0}, "a"),
        ({"a": 90.0}, {"a": 1.0}, [(99.0, ""), (10.0, "a")], {}, ""),
        # Done meanwhile.
        ({"a": 90.0}, {}, [(99.0, "")], {}, ""),
    ],
)
def test_what_is_stranded(
    seen: dict[str, float],
    unacked: dict[str, float],
    claims: list[tuple[float, str] | None],
    still_seen: dict[str, float],
    found: str,
) -> None:
    taken = {"a": 1.0, "b": 2.0}
    said = [stranded.read(stranded.written(*claim).encode() if claim else None) for claim in claims]
    before = {(tag, taken[tag]): since for tag, since in seen.items()}
    after, result = stranded.stranded(before, 100.0, unacked.items(), said)
    assert after == {(tag, taken[tag]): since for tag, since in still_seen.items()}
    assert [tag for tag, _ in result] == list(found)


def test_a_message_that_was_taken_again_is_another_delivery() -> None:
    said = [stranded.Claim(99.0, frozenset())]
    assert stranded.stranded({("a", 1.0): 90.0}, 100.0, [("a", 50.0)], said) == ({("a", 50.0): 100.0}, [])


@pytest.mark.parametrize("text", [None, b"", b"[]", b"{}", b'{"at": 1}', b'{"at": "x", "tags": []}'])
def test_a_claim_that_says_nothing(text: bytes | None) -> None:
    assert stranded.read(text) == stranded.NOTHING_SAID


def test_what_a_worker_holds() -> None:
    def channel(delivered: str, dirty: str) -> Any:
        return SimpleNamespace(qos=SimpleNamespace(_delivered=dict.fromkeys(delivered), _dirty=set(dirty)))

    outlived = SimpleNamespace(message=SimpleNamespace(delivery_tag="o"))
    assert stranded.held([outlived], [channel("abc", "b"), channel("d", "")]) == set("oacd")
    assert stranded.held([outlived], []) == {"o"}


class Redis:
    """As much of a server as is asked of it; one for everything, and its own pipeline."""

    def __init__(self) -> None:
        self.now = 100.0
        self.values: dict[str, bytes] = {}
        self.unacked: dict[str, str] = {}
        self.index: dict[str, float] = {}
        self.lists: dict[str, list[str]] = {}
        self.clients = [client(US, psub="1")]
        self.uptime = 10_000
        self.heard = 1
        self.looked = 0
        self._answers: list[Any] = []

    def pipeline(self) -> "Redis":
        self._answers = []
        return self

    def __enter__(self) -> "Redis":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def execute(self) -> list[Any]:
        return self._answers

    def set(self, key: str, value: str, nx: bool, ex: int) -> bool:
        assert nx
        assert ex
        fresh = key not in self.values
        self.values.setdefault(key, value.encode())
        return fresh

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def expire(self, key: str, seconds: int) -> None:
        assert seconds > 0

    def time(self) -> None:
        self._answers.append((int(self.now), int(self.now % 1 * 1e6)))

    def zrange(self, key: str, first: int, last: int, withscores: bool) -> None:
        assert (key, first, last, withscores) == ("p:unacked_index", 0, -1, True)
        self.looked += 1
        self._answers.append([[tag.encode(), score] for tag, score in self.index.items()])

    def client_list(self) -> list[dict[str, str]]:
        return self.clients

    def info(self, section: str) -> dict[str, int]:
        return {"uptime_in_seconds": self.uptime}

    def mget(self, names: list[str]) -> list[bytes | None]:
        return [self.values.get(name) for name in names]

    def publish(self, topic: str, message: str) -> int:
        assert (topic, message) == ("p:/0.celery.pidbox", "")
        return self.heard

    def hget(self, key: str, tag: str) -> str | None:
        assert key == "p:unacked"
        return self.unacked.get(tag)

    def zscore(self, key: str, tag: str) -> float | None:
        assert key == "p:unacked_index"
        return self.index.get(tag)

    def incr(self, key: str) -> None:
        self.values[key] = str(int(self.values.get(key, b"0")) + 1).encode()
        self._answers.append(int(self.values[key]))

    def zrem(self, key: str, tag: str) -> None:
        del self.index[tag]

    def hdel(self, key: str, tag: str) -> None:
        del self.unacked[tag]

    def delete(self, key: str) -> None:
        del self.values[key]

    def lpush(self, key: str, text: str) -> None:
        self.lists.setdefault(key, []).insert(0, text)


class Channel:
    """As much of kombu's."""

    global_keyprefix = "p:"
    unacked_key, unacked_index_key, unacked_mutex_key = "unacked", "unacked_index", "unacked_mutex"
    unacked_mutex_expire = 300
    keyprefix_fanout = "/0."

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.queues = {"": ["celery"], "shop": ["celery"]}
        self.state = SimpleNamespace(exchanges={"shop": {"type": "topic"}})
        self.qos = self
        self.restored: list[str] = []

    @contextmanager
    def conn_or_acquire(self) -> Iterator[Redis]:
        yield self.redis

    def _lookup(self, exchange: str, routing_key: str) -> list[str]:
        return self.queues[exchange]

    def restore_by_tag(self, tag: str, redis: Redis) -> None:
        self.restored.append(tag)
        del redis.index[tag], redis.unacked[tag]


Watched = tuple[Redis, Channel, Callable[..., None]]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """A server, a channel to it, and a function that looks there after some seconds; nobody holds anything."""
    server = Redis()
    channel = Channel(server)
    watch = stranded.Watch(US, [], "celery.pidbox")

    class MutexHeld(Exception):
        pass

    @contextmanager
    def mutex(redis: Redis, key: str, seconds: int) -> Iterator[None]:
        assert (key, seconds) == ("unacked_mutex", 300)
        if "unacked_mutex" in server.values:
            raise MutexHeld
        yield

    kombu = ModuleType("kombu.transport.redis")
    kombu.Mutex, kombu.MutexHeld = mutex, MutexHeld  # type: ignore[attr-defined]
    for name, module in {"kombu": kombu, "kombu.transport": kombu, "kombu.transport.redis": kombu}.items():
        monkeypatch.setitem(sys.modules, name, module)

    def look(seconds: float = 0.0, **held: list[str]) -> None:
        server.now += seconds
        for name in {item["name"] for item in server.clients}:
            server.values[name] = stranded.written(
                server.now, held.get({US: "us", THEM: "them"}.get(name, ""), [])
            ).encode()
        watch.look(channel, server)

    return server, channel, look


def take(server: Redis, tag: str, taken: float = HOUR_OLD, exchange: str = "", **headers: str) -> str:
    text = json.dumps([{"headers": headers, "body": "x"}, exchange, "celery"])
    server.unacked[tag], server.index[tag] = text, taken
    return text


def test_stranded_tasks_go_back_oldest_first(watched: Watched) -> None:
    server, channel, look = watched
    take(server, "new", 20.0)
    take(server, "old", 10.0)
    take(server, "ours", 5.0)
    look(us=["ours"])
    look(5.9, us=["ours"])
    assert not channel.restored
    look(0.1, us=["ours"])
    # Each is put before all that waits.
    assert channel.restored == ["new", "old"]
    assert server.unacked.keys() == {"ours"}


def test_others_are_asked_too(watched: Watched) -> None:
    server, channel, look = watched
    server.clients.append(client(THEM, "set"))
    take(server, "theirs")
    take(server, "lost")
    for _ in range(5):
        look(2.0, them=["theirs"])
    assert channel.restored == ["lost"]


@pytest.mark.parametrize("doubt", ["foreign", "deaf", "young"])
def test_in_doubt_nothing_goes_back_and_the_time_begins_anew(watched: Watched, doubt: str) -> None:
    server, channel, look = watched
    take(server, "lost")
    look()
    if doubt == "foreign":
        server.clients.append(client(""))
    elif doubt == "deaf":
        server.heard = 2
    else:
        server.uptime = 59
    look(10.0)
    assert not channel.restored
    server.clients, server.heard, server.uptime = [client(US, psub="1")], 1, 60
    look()
    look(5.0)
    assert not channel.restored
    look(1.0)
    assert channel.restored == ["lost"]


def test_one_worker_looks(watched: Watched) -> None:
    server, channel, look = watched
    take(server, "lost")
    server.values["trireme.watch.p:unacked"] = THEM.encode()
    look()
    look(10.0)
    assert (server.looked, channel.restored) == (0, [])
    server.values["trireme.watch.p:unacked"] = US.encode()
    look()
    look(10.0)
    assert (server.looked, channel.restored) == (2, ["lost"])


def test_kombu_puts_back_at_the_same_time(watched: Watched) -> None:
    server, channel, look = watched
    take(server, "lost")
    look()
    server.values["unacked_mutex"] = b"kombu"
    look(10.0)
    assert not channel.restored
    del server.values["unacked_mutex"]
    look()
    assert channel.restored == ["lost"]


def test_a_task_that_was_taken_again_meanwhile_stays(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    server, channel, look = watched
    take(server, "lost")
    take(server, "gone")
    look()

    def publish(*_: str) -> int:
        server.index["lost"] += 1
        del server.unacked["gone"]
        return 1

    monkeypatch.setattr(server, "publish", publish)
    look(10.0)
    assert not channel.restored


@pytest.mark.parametrize(
    ("exchange", "queues", "restored"),
    [
        ("", ["celery"], ["lost"]),
        ("shop", ["celery"], ["lost"]),
        ("shop", [], []),
        ("shop", ["celery", "audit"], []),
        ("other", ["celery"], []),
    ],
)
def test_only_where_the_one_queue_is_known(
    watched: Watched, exchange: str, queues: list[str], restored: list[str]
) -> None:
    server, channel, look = watched
    channel.queues[exchange] = queues
    take(server, "lost", exchange=exchange)
    look()
    look(10.0)
    assert channel.restored == restored
    assert ("lost" in server.unacked) is not bool(restored)


def test_a_task_that_kills_its_worker_is_put_aside(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    server, channel, look = watched
    for round in range(5):
        take(server, "bad", HOUR_OLD + round, task="shop.eat", id="7")
        look()
        look(10.0)
    assert channel.restored == ["bad"] * 5
    assert not server.lists
    text = take(server, "bad", HOUR_OLD + 5, task="shop.eat", id="7")
    look()
    look(10.0)
    assert channel.restored == ["bad"] * 5
    # As a message in a queue, from which a worker could take it, and to which it would go back.
    where = {"delivery_info": {"exchange": "", "routing_key": "trireme.dead"}}
    assert server.lists == {"p:trireme.dead": [json.dumps({**json.loads(text)[0], "properties": where})]}
    assert not server.unacked
    assert not server.index
    (error,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert "shop.eat[7] was lost with its worker 6 times: it is put aside in trireme.dead" in error.getMessage()


def test_a_task_that_kills_whoever_runs_it_again_ends_where_nobody_does(watched: Watched) -> None:
    server, channel, look = watched

    def lose(message: Object, routing_key: str) -> None:
        for _ in range(6):
            server.unacked["bad"] = json.dumps([message, "", routing_key])
            server.index["bad"] = server.now
            look()
            look(10.0)

    lose({"headers": {}, "body": "x", "properties": {"priority": 3}}, "celery")
    (text,) = server.lists.pop("p:trireme.dead")
    again = json.loads(text)
    lose(again, again["properties"]["delivery_info"]["routing_key"])
    # As often as at first it may have been the worker's fault.
    assert len(channel.restored) == 10
    assert server.lists.keys() == {"p:trireme.poison"}
    assert json.loads(server.lists["p:trireme.poison"][0])["properties"]["priority"] == 3
    assert not server.unacked


def request(late: bool, acknowledged: bool = False, id: str = "") -> Any:
    return SimpleNamespace(task=SimpleNamespace(acks_late=late), acknowledged=acknowledged, id=id)


@pytest.mark.parametrize(
    ("running", "requeued", "lost"),
    [
        ([], 0, 0),
        ([request(late=True), request(late=True)], 2, 0),
        ([request(late=True), request(late=False, acknowledged=True)], 1, 1),
        ([request(late=True, acknowledged=True), request(late=True, id="done")], 0, 0),
    ],
)
def test_what_is_left_behind(running: list[Any], requeued: int, lost: int) -> None:
    assert left.left_behind(iter(running), {"done"}) == (requeued, lost)


@pytest.mark.parametrize(
    ("requeued", "lost", "told"),
    [
        (2, 0, '{"trireme": {"requeued": 2, "lost": 0}}\n'),
        (0, 1, '{"trireme": {"requeued": 0, "lost": 1}}\n'),
        (0, 0, None),
    ],
)
def test_what_is_told(tmp_path: Path, requeued: int, lost: int, told: str | None) -> None:
    path = tmp_path / "log"
    left.tell(path, requeued, lost)
    assert (path.read_text() if path.exists() else None) == told


def test_nowhere_to_tell(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left.tell(tmp_path, 1, 0)
    assert "Nobody is told" in caplog.text


def test_kubernetes_keeps_what_is_told(render: Render) -> None:
    objects = render("celery")
    worker: Object = container(objects["Deployment", f"{NAME}-worker"])
    # In a file, and not what the worker printed last in place of it.
    assert worker.get("terminationMessagePath", "/dev/termination-log") == "/dev/termination-log"
    assert worker.get("terminationMessagePolicy", "File") == "File"
    scripts = objects["ConfigMap", f"{NAME}-scripts"]["data"]
    assert '"TRIREME_TERMINATION_LOG", "/dev/termination-log"' in scripts["trireme_worker.py"]
    assert {"trireme_left.py", "trireme_stranded.py"} <= scripts.keys()
