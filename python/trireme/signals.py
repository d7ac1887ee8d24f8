"""Signals that end a process, held back where work must not be torn in two."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Windows has no HUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore INT, TERM and HUP for a while: for what cleans up."""
    with _held():
        yield


@contextmanager
def deferred() -> Iterator[None]:
    """Put INT, TERM and HUP off to the end: for what must be done and noted, or not done at all."""
    with _held() as come:
        yield
    if come:
        signal.raise_signal(come[0])


@contextmanager
def terminable() -> Iterator[None]:
    """Leave by SystemExit at TERM and HUP, so that all is cleaned up as after Ctrl-C; the code is a shell's for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in ENDING if number != signal.SIGINT}
    try:
        for number, handler in before.items():
            # One that is ignored stays so: `nohup` does that.
            if handler is not signal.SIG_IGN:
                signal.signal(number, leave)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def _held() -> Iterator[list[int]]:
    come: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield come
        return
    # A function, for what is started meanwhile would inherit SIG_IGN.
    before = {number: signal.signal(number, lambda number, _: come.append(number)) for number in ENDING}
    try:
        yield come
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
