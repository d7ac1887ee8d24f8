"""Runs on this machine: output, exit codes, and nothing left after them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from on_cluster import until
from trireme.errors import TriremeError
from trireme.local import engines
from trireme.local.processes import Processes
from trireme.local.run import run
from trireme.local.work import Work
from trireme.signals import uninterrupted

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def bare(monkeypatch):
    """An engine that starts nothing."""
    monkeypatch.setattr(engines, "check", lambda work: None)
    monkeypatch.setattr(engines, "start", lambda work, workers, folder, env, processes: {"WORKERS": str(workers)})


def work(script, **more):
    return Work("job", {"engine": "dask"}, program={"main.py": script.encode()}, **more)


@pytest.fixture
def failing():
    """No signal ends the tests; one that nobody handles fails them."""

    def fail(number, _):
        raise AssertionError(f"signal {number} was not handled")

    before = {number: signal.signal(number, fail) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("bare", "failing")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_after_a_signal(tmp_path, monkeypatch, number):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = f"import os, pathlib, time\npathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
    script += f"os.kill(os.getppid(), {int(number)})\ntime.sleep(20)"
    with pytest.raises(SystemExit) as caught:
        run(work(script))
    assert caught.value.code == 128 + number
    assert not _lives(int((tmp_path / "pid").read_text()))
    assert not list(tmp_path.glob("trireme-*"))


@pytest.mark.usefixtures("bare", "failing")
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_the_driver_starts_leaves_none(monkeypatch, number):
    class Interrupted(subprocess.Popen):
        def __init__(self, *words, **more):
            super().__init__(*words, **more)
            started.append(self)
            signal.raise_signal(number)

    started = []
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if number == signal.SIGINT:
        assert run(work("import time; time.sleep(20)")) == 130
    else:
        with pytest.raises(SystemExit):
            run(work("import time; time.sleep(20)"))
    assert [process.returncode is None for process in started] == [False]


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_a_process_starts_leaves_none(tmp_path, monkeypatch, number):
    class Interrupted(subprocess.Popen):
        def __init__(self, *words, **more):
            super().__init__(*words, **more)
            started.append(self)
            signal.raise_signal(number)

    started = []
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(AssertionError, match="not handled"), Processes(tmp_path) as processes:
        processes.start("worker", ["sleep", "20"], dict(os.environ))
    assert [process.returncode is None for process in started] == [False]


@pytest.mark.usefixtures("failing")
def test_what_is_uninterrupted_hears_no_signal_and_children_do():
    with uninterrupted():
        child = subprocess.Popen(["sleep", "20"])
        for number in ENDING:
            signal.raise_signal(number)
        child.send_signal(signal.SIGINT)
        assert child.wait() == -signal.SIGINT


@pytest.mark.usefixtures("bare")
class TestDrivers:
    @pytest.mark.parametrize(
        ("script", "code"),
        [
            ("print('well')", 0),
            ("import sys; sys.exit(3)", 3),
            ("1 / 0", 1),
            ("import os; os.kill(os.getpid(), 9)", 137),
        ],
    )
    def test_the_exit_code_is_the_drivers(self, script, code):
        assert run(work(script)) == code

    def test_environment_arguments_and_folder(self, capfd):
        script = "import os, sys, beside; print(sys.argv[1:], os.environ['WORKERS'], os.environ['A'], os.listdir())"
        assert run(work(script, code={"beside.py": b""}, args=["x"], env={"A": "b"})) == 0
        assert capfd.readouterr().out == "['x'] 1 b ['main.py']\n"

    def test_a_script_runs_where_it_is(self, tmp_path, capfd):
        (tmp_path / "beside.py").write_text("x = 1\n")
        (tmp_path / "job.py").write_text("import beside, os; print(beside.x, os.getcwd())")
        assert run(Work("job", {"engine": "dask"}, script=tmp_path / "job.py")) == 0
        assert capfd.readouterr().out == f"1 {Path.cwd()}\n"

    def test_a_deadline(self):
        with pytest.raises(TriremeError, match="longer than activeDeadlineSeconds"):
            run(work("import time; time.sleep(60)", deadline=0.2))

    def test_a_command_that_is_not_there(self):
        with pytest.raises(TriremeError, match="no-such-command: No such file"):
            run(work("", command=["no-such-command"]))


def test_a_process_that_ends_is_told_of_with_its_last_lines(tmp_path):
    with Processes(tmp_path) as processes:
        processes.start("worker", [sys.executable, "-c", "print('what went wrong'); exit(4)"], dict(os.environ))
        with pytest.raises(TriremeError, match="worker ended with exit code 4:\nwhat went wrong"):
            processes.wait_until("it", lambda: False, 30)


def test_all_processes_and_their_children_end(tmp_path):
    stubborn = "import signal, subprocess, sys, time; signal.signal(15, signal.SIG_IGN)\n"
    stubborn += "child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True)"
    with Processes(tmp_path) as processes:
        processes.start("parent", [sys.executable, "-c", stubborn + "\nsys.exit()"], dict(os.environ))
        log = tmp_path / "parent.log"
        while not log.read_text().endswith("\n"):
            time.sleep(0.01)
    until(lambda: not _lives(int(log.read_text())))


def _lives(pid):
    """Whether there is such a process, and not only because nobody has asked how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_what_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(TriremeError, match=r"distributed missing in .*: pip install 'trireme\[dask\]'"):
        engines.check(Work("job", {"engine": "dask"}))


def test_spark_without_java(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(TriremeError, match="Spark needs Java 17 or newer, and there is no java on PATH"):
        engines.check(Work("job", {"engine": "spark"}))


@pytest.mark.parametrize(
    ("release", "said", "version"),
    [
        ('IMPLEMENTOR="Debian"\nJAVA_VERSION="17.0.9"\n', "", 17),
        ('JAVA_VERSION="1.8.0_392"\n', "", 8),
        (None, 'openjdk version "11.0.21" 2023-10-17', 11),
        (None, 'java version "1.8.0_392"', 8),
        (None, 'openjdk version "21" 2023-09-19', 21),
        (None, "something else", None),
    ],
)
def test_javas_version(tmp_path, release, said, version):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    java.chmod(0o755)
    if release:
        (tmp_path / "release").write_text(release)
    assert engines.java_version(java) == version


def test_a_java_that_is_too_old_is_told_of(tmp_path, monkeypatch):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    (tmp_path / "release").write_text('JAVA_VERSION="11.0.21"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    with pytest.raises(TriremeError, match=r"needs Java 17 or newer, and .*/bin/java is 11: install one"):
        engines.check(Work(name="a", cluster={"engine": "spark"}))
