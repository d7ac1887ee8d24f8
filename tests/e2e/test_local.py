"""Laptop mode: the samples and each engine on this machine, and nothing left after them."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from reader import Reader

from on_cluster import first_line, started, until
from pages import commands, missing, snippets
from trireme.errors import TriremeError
from trireme.local.run import run
from trireme.local.work import Work

ADD = """
from celery import Celery

app = Celery("tasks")


@app.task
def add(x, y):
    return x + y
"""

SCRIPT = """
import sys

from distributed import Client

if __name__ == "__main__":
    with Client() as client:
        print(client.submit(int, sys.argv[1]).result())
"""
RESULTS = (r"^8$", r"^0\.(499|500)\d*$", r"^2\.0$")


def test_make_try_prints_the_three_results(make):
    ((command, documented),) = commands(*snippets("README.md", "First contact: no Kubernetes", "console"))
    # PySpark is built from its 456 MB the first time.
    done = make(command.removeprefix("make "), seconds=900)
    printed = done.stdout.splitlines()
    assert len(printed) == len(RESULTS), printed
    for line, result in zip(printed, RESULTS, strict=True):
        assert re.match(result, line), printed
    # What is not a result is on standard error.
    said = [*done.stderr.splitlines(), *printed]
    assert [line for line in documented if missing([line], said)] == [], said


def test_the_quick_start(tmp_path):
    """Its commands as they stand there."""
    (block,) = snippets("docs/quickstart.md", "On this machine", "sh")
    reader = Reader(tmp_path)
    reader.write("script.py", SCRIPT)
    assert reader.does(block) == "10\n8\n"


def test_celery_with_a_private_broker(capfd):
    script = "from tasks import add\nprint(add.delay(4, 4).get(timeout=60))"
    cluster = {"engine": "celery", "celery": {"app": "tasks"}, "resources": {"limits": {"memory": "512Mi"}}}
    assert run(Work("add", cluster, {"main.py": script.encode()}, {"tasks.py": ADD.encode()})) == 0
    assert capfd.readouterr().out == "8\n"


def test_celery_with_an_application_that_is_not_there():
    cluster = {"engine": "celery", "celery": {"app": "missing"}}
    with pytest.raises(TriremeError, match=r"worker-0 ended with exit code 1:(.|\n)*No module named 'missing'"):
        run(Work("add", cluster, {"main.py": b"import time; time.sleep(60)"}))


def test_dask_with_limits(capfd):
    script = """
from distributed import Client
if __name__ == "__main__":
    with Client() as client:
        client.wait_for_workers(2)
        print(*((worker["nthreads"], worker["memory_limit"]) for worker in client.scheduler_info()["workers"].values()))
"""
    cluster = {"engine": "dask", "replicas": 2, "resources": {"limits": {"cpu": "1", "memory": "512Mi"}}}
    assert run(Work("mean", cluster, {"main.py": script.encode()})) == 0
    assert capfd.readouterr().out == "(1, 483183820) (1, 483183820)\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path, number):
    script = tmp_path / "job.py"
    script.write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)")
    command = [sys.executable, "-m", "trireme", "run", "--local", "--engine=celery", "--app=tasks", str(script)]
    (tmp_path / "tasks.py").write_text(ADD)
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with started(*command, env=env) as process:
        assert first_line(process) == "begun\n"
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert not list(tmp_path.glob("trireme-*"))
    until(lambda: not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in _read(path)])


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""
