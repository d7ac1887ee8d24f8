"""A drain that would end while its worker holds a lock that this needs."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from types import SimpleNamespace

import pytest
from charting import CHARTS

pytest.importorskip("celery", reason="celery is not installed: uv sync")

from amqp.method_framing import frame_writer
from billiard.pool import ACK, ResultHandler

sys.path.insert(0, str(CHARTS / "celery" / "files"))
_before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
trireme_interrupt = import_module("trireme_interrupt")
sys.dont_write_bytecode = _before


@pytest.fixture
def called() -> Iterator[threading.Event]:
    """Handle QUIT, which may come while something is held."""
    called = threading.Event()
    before = signal.signal(signal.SIGQUIT, lambda *_: called.set())
    trireme_interrupt.wait_until_nothing_is_held(signal.SIGQUIT)
    yield called
    signal.signal(signal.SIGQUIT, before)


def frames(meanwhile: Callable[[object], None]) -> None:
    """Write a frame to a broker."""
    connection = SimpleNamespace(frame_max=131072, bytes_sent=0)
    frame_writer(connection, SimpleNamespace(write=meanwhile))(1, 1, (60, 80), b"", None)


def states(meanwhile: Callable[[object], None]) -> None:
    """Take note of a task that a process has begun."""
    cache = {1: SimpleNamespace(_ack=lambda *_: meanwhile(None))}
    handler = ResultHandler(None, None, cache, None, None, None, SimpleNamespace(R=0), None, None)
    handler.on_state_change((ACK, (1, 0, 0.0, 1, None)))


@pytest.mark.parametrize("held", [frames, states])
def test_it_waits_until_nothing_is_held(
    called: threading.Event, held: Callable[[Callable[[object], None]], None]
) -> None:
    interrupted = []

    def quit_(_: object) -> None:
        signal.raise_signal(signal.SIGQUIT)
        interrupted.append(called.is_set())

    held(quit_)
    assert interrupted == [False]
    assert called.wait(60)


def test_otherwise_it_is_called_at_once(called: threading.Event) -> None:
    signal.raise_signal(signal.SIGQUIT)
    assert called.is_set()
