"""What a Celery worker on Redis tells of itself, and that it goes on to."""

import signal
import sys
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from charting import CHARTS

pytest.importorskip("celery", reason="celery is not installed: uv sync")

sys.path.insert(0, str(CHARTS / "celery" / "files"))
_before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
# Its import is a container's first process's beginning.
_handler = signal.getsignal(signal.SIGTERM)
trireme_worker = import_module("trireme_worker")
signal.signal(signal.SIGTERM, _handler)
sys.dont_write_bytecode = _before


class Enough(BaseException):
    pass


class Connection:
    def __init__(self, errors: list[Exception]) -> None:
        self.errors = errors
        self.closed = 0

    def ensure_connection(self, **_: Any) -> None:
        if not self.errors:
            raise Enough
        raise self.errors.pop(0)

    def close(self) -> None:
        self.closed += 1


def test_no_failure_ends_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection([ConnectionError("gone"), KeyError("unheard of"), ValueError("nor that")])
    conf = SimpleNamespace(broker_transport_options={})
    app = SimpleNamespace(connection_for_write=lambda: connection, conf=conf)
    monkeypatch.setattr(trireme_worker.time, "sleep", lambda _: None)
    with pytest.raises(Enough):
        trireme_worker.Publisher(SimpleNamespace(app=app)).run()
    assert connection.closed == 3
    # A broker that is away is nothing to tell of each time.
    told = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert told == [KeyError, ValueError]


class Server:
    """As much of Redis as is asked of it; a pool of connections to itself."""

    def __init__(self) -> None:
        self.groups = {b"big", b"small"}
        self.names = ["", "trireme.held.numbers-worker-1.2", "trireme.held.big-worker-3.4"]
        self.keys: set[str] = set()

    def smembers(self, key: str) -> set[bytes]:
        assert key == "trireme.groups"
        return {*self.groups}

    def srem(self, key: str, group: str) -> None:
        assert key == "trireme.groups"
        self.groups.remove(group.encode())

    def client_list(self) -> list[dict[str, str]]:
        return [{"name": name} for name in self.names]

    def exists(self, key: str) -> bool:
        return key in self.keys


class Other(Connection):
    """To what the workers of a group hold."""

    def __init__(self, server: Server, transport_options: dict[str, str]) -> None:
        super().__init__([])
        keys = {"global_keyprefix": "p:", "unacked_key": transport_options["unacked_key"]}
        self.default_channel = SimpleNamespace(pool=server, **keys)

    def ensure_connection(self, **_: Any) -> None:
        assert not self.closed


def test_a_group_without_workers_is_forgotten_once_they_left_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    made: dict[str, Other] = {}

    def connection_for_write(transport_options: dict[str, str]) -> Other:
        return made.setdefault(transport_options["unacked_key"], Other(server, transport_options))

    looks = True
    watch = SimpleNamespace(look=lambda *_: looks)
    monkeypatch.setattr("trireme_full.Client", lambda connection_pool: connection_pool)
    monkeypatch.setattr(trireme_worker.Publisher, "_watch", lambda _: watch)
    conf = SimpleNamespace(broker_transport_options={})
    app = SimpleNamespace(connection_for_write=connection_for_write, conf=conf)
    publisher = trireme_worker.Publisher(SimpleNamespace(app=app))

    def look() -> set[bytes]:
        publisher._look_after_others(server)
        return server.groups

    server.keys.add("p:unacked.small")
    assert look() == {b"big", b"small"}
    server.keys.clear()
    looks = False
    assert look() == {b"big", b"small"}
    looks = True
    assert look() == {b"big"}
    assert made.keys() == {"unacked.big", "unacked.small"}
    look()
    assert [name for name, connection in made.items() if connection.closed] == ["unacked.small"]
    server.names = []
    assert look() == set()
