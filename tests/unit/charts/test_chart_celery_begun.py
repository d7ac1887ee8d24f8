"""Tasks of which Celery has not heard yet that they have begun, with a process of its own pool."""

import subprocess
import sys

import pytest
from charting import CHARTS

pytest.importorskip("celery", reason="celery is not installed: uv sync")

# One task is written to the process, one waits; nothing is heard before the pool is to forget what the broker gives on.
PROGRAM = """
import os, sys
from celery.concurrency.asynpool import SCHED_STRATEGY_FAIR, AsynPool
from kombu.asynchronous import Hub, set_event_loop
import trireme_begun

(hear, begin), (wait, end) = os.pipe(), os.pipe()
trireme_begun.remember()

def task(name):
    os.write(begin, b"1")
    os.read(wait, 1)
    return name

hub = Hub()
set_event_loop(hub)
pool = AsynPool(1, threads=False, sched_strategy=SCHED_STRATEGY_FAIR)
pool.register_with_event_loop(hub)
done = []
written, waiting = [pool.apply_async(task, (name,), callback=done.append) for name in ("written", "waiting")]
while written._write_to is None:
    hub.run_once()
os.read(hear, 1)
if "killed" in sys.argv:
    written._write_to.terminate()
    written._write_to.join()
pool.flush()
print(*(name for name, job in (("written", written), ("waiting", waiting)) if job._job in pool._cache))
print(len(pool._busy_workers), written.ready())
os.write(end, b"1")
pool.close()
pool.join()
print(*done)
"""


@pytest.mark.parametrize(
    ("how", "said"), [("alive", ["written", "1 False", "written"]), ("killed", ["", "0 False", ""])]
)
def test_what_a_process_was_given_is_awaited(how: str, said: list[str]) -> None:
    command = [sys.executable, "-c", PROGRAM, how]
    env = {"PYTHONPATH": str(CHARTS / "celery" / "files"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split("\n") == [*said, ""], done.stderr
