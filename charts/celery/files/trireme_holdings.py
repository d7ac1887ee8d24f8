"""How many tasks a worker holds, told with its heartbeats, as events `worker-held` that have the field `held`.

That is the only way to learn of them where the broker does not tell, and Celery's own heartbeats leave out those that
wait for their time. More is told at once, so that a task is never seen neither in its queue nor with a worker for long.
"""

from typing import Any

from celery import signals
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.heartbeat import Heart
from celery.worker.request import Request

EVENT = "worker-held"


class Holdings:
    """Tells for one worker; its methods run in the thread that takes tasks."""

    def __init__(self) -> None:
        self._scheduled = 0
        self._said = 0

    def on_heartbeat(self, sender: Heart, **_: Any) -> None:
        """Tell what is so now."""
        self._scheduled = scheduled(sender.timer)
        self._say(sender.eventer, len(state.reserved_requests) + self._scheduled)

    def on_received(self, sender: Consumer, request: Request, **_: Any) -> None:
        """Tell of a task that is about to be noted as held, unless as many were told of already."""
        self._scheduled += bool(request.eta)
        number = len(state.reserved_requests) + self._scheduled + (not request.eta)
        if number > self._said:
            self._say(sender.event_dispatcher, number)

    def _say(self, eventer: Any, number: int) -> None:
        self._said = number
        eventer.send(EVENT, held=number)


def scheduled(timer: Any) -> int:
    """Count tasks that wait for their time, by a worker's timer."""
    # Celery 5.7 notes them.
    noted = getattr(state, "scheduled_requests", None)
    if noted is not None:
        return len(noted)
    calls = (waiting.entry.args for waiting in timer.schedule.queue)
    return sum(bool(arguments) and isinstance(arguments[0], Request) for arguments in calls)


def tell() -> None:
    """Have the worker of this process tell."""
    holdings = Holdings()
    signals.heartbeat_sent.connect(holdings.on_heartbeat, weak=False)
    signals.task_received.connect(holdings.on_received, weak=False)
