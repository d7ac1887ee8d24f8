"""What a Celery worker could not save when it was told to leave."""

import json
import logging
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def left_behind(running: Iterable[Any], successful: Container[str]) -> tuple[int, int]:
    """Count what a cold shutdown stops.

    Args:
        running: Celery's requests of the running tasks.
        successful: ids of tasks that are done, and whose end only has to be noted.

    Returns:
        requeued: tasks that go back to the broker, since they are acknowledged when they are done.
        lost: tasks that do not come back, since they were acknowledged as they began.
    """
    requests = list(running)
    late = [request for request in requests if request.task.acks_late]
    return sum(not r.acknowledged and r.id not in successful for r in late), len(requests) - len(late)


def tell(path: Path, requeued: int, lost: int) -> None:
    """Leave word of that where Kubernetes keeps it when a container has ended, if there is anything to tell."""
    if not requeued and not lost:
        return
    logger.warning("Leaving: %d running tasks go back to the broker, %d are lost", requeued, lost)
    try:
        path.write_text(json.dumps({"trireme": {"requeued": requeued, "lost": lost}}) + "\n")
    except OSError as error:
        logger.warning("Nobody is told: %r", error)
