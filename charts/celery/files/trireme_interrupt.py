"""Ends a drain only where the worker can be interrupted.

Celery ends its tasks within the handler of a signal, which interrupts the main thread anywhere. Where that was about to
tell the broker something, or to take note of what a process told it, the handler would wait for a lock of the very
thread that it holds up: the worker would do nothing more until it is killed.
"""

import os
import signal
import threading
from types import FrameType

# What holds a lock of a connection, and of a task, by module and function.
_HOLDING = {("amqp.method_framing", "write_frame"), ("billiard.pool", "on_state_change")}
_AGAIN_SECONDS = 0.02


def wait_until_nothing_is_held(number: int) -> None:
    """Have a signal's handler called when the main thread holds none of these locks; to be called in that thread."""
    handler = signal.getsignal(number)

    def handle(number: int, frame: FrameType | None) -> None:
        if _holds(frame):
            again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
        elif callable(handler):
            handler(number, frame)

    signal.signal(number, handle)


def _holds(frame: FrameType | None) -> bool:
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in _HOLDING:
            return True
        frame = frame.f_back
    return False
