"""Tasks that a process has been given, and of which Celery has not heard yet that they have begun.

As it stops, and as its broker goes, Celery forgets them, for the broker gives them to another worker. They are run all
the same: with a pool of processes, what has been written to one can't be taken back. So they would be run twice; a
worker that leaves would not end them in time, and wait half a minute for a process that waits to be heard. Of short
tasks that is how every other worker leaves.
"""

from typing import Any


def remember() -> None:
    """Have Celery await what its processes have been given, as it does with what they say has begun."""
    from celery.concurrency.asynpool import AsynPool

    flush = AsynPool.flush

    def flush_the_others(pool: Any) -> None:
        unheard = [job for job in pool._cache.values() if job._write_to is not None and not job._accepted]
        begun = [job for job in unheard if job._write_to._is_alive()]
        busy = pool._busy_workers & {job._write_to.inqW_fd for job in begun}
        for job in begun:
            job.discard = _keep
        flush(pool)
        # What is given to their processes as well would wait for them.
        pool._busy_workers |= busy & {job._write_to.inqW_fd for job in begun if job._write_to._is_alive()}

    AsynPool.flush = flush_the_others


def _keep() -> None:
    """Take the place of a job's `discard`."""
