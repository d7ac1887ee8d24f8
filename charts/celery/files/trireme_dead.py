"""The queue of tasks that never work: nobody consumes it, so they are kept for people to look at, and to run again."""

import logging
from typing import Any

from celery import Task, signals
from trireme_stranded import DEAD

logger = logging.getLogger(__name__)

# What a task there died of, for people.
HEADER = "trireme_failure"
_MOST_CHARACTERS = 500


def keep(sender: Task, exception: BaseException, **_: Any) -> None:
    """Put a task that failed for good into the queue, as it was sent, with as many retries left as at first.

    Failures that a task expects (`throws`) are none. One that fails when it is run again from that queue has failed:
    whoever consumes it would take it again and again.
    """
    if isinstance(exception, sender.throws) or (sender.request.delivery_info or {}).get("routing_key") == DEAD:
        return
    reason = f"{type(exception).__name__}: {exception}"[:_MOST_CHARACTERS]
    try:
        # Those that its sender gave it stay: what traces tasks, for one, is in them.
        headers = {**(sender.request.as_execution_options()["headers"] or {}), HEADER: reason}
        again = sender.signature_from_request(queue=DEAD, retries=0, headers=headers)
        again.apply_async(add_to_parent=False)
    except Exception:  # whatever a broker or serializer raises: the task has failed already, and the log keeps it
        logger.exception("Task %s[%s] failed and could not be put into %s", sender.name, sender.request.id, DEAD)
        return
    logger.error("Task %s[%s] failed for good: it is put aside in %s", sender.name, sender.request.id, DEAD)


def keep_failures() -> None:
    """Have this process, and those that it forks, keep every task that fails for good."""
    signals.task_failure.connect(keep, weak=False)
