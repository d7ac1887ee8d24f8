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
