"""The lab's commands as `make` calls them."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab_room import only_scripts

from trireme_lab import __main__ as lab
from trireme_lab import paths
from trireme_lab.cache import LOCK
from trireme_lab.problem import Problem


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a machine with no commands at all."""
    only_scripts(monkeypatch, tmp_path / "bin")
    monkeypatch.setenv("TRIREME_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(monkeypatch: pytest.MonkeyPatch, command: str) -> int:
    monkeypatch.setattr(sys, "argv", ["trireme_lab", command])
    return lab.main()


@pytest.mark.parametrize("command", ["up", "down", "status", "demo", "cache-clean"])
def test_a_second_run_says_so(root: Path, command: str) -> None:
    root.mkdir()
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.run(
            [sys.executable, "-m", "trireme_lab", command],
            env={**os.environ, "PYTHONPATH": str(paths.LAB)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode == 1
    assert second.stdout == ""
    assert second.stderr == "error: another run of the lab is at work: wait for it to end\n"
    assert (root / "lock").exists()


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (Problem("no room: make some"), "no room: make some"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
    ],
)
def test_a_problem_is_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], problem: Exception, line: str
) -> None:
    def broken(_: object) -> None:
        raise problem

    monkeypatch.setitem(lab._COMMANDS, "demo", broken)
    assert run(monkeypatch, "demo") == 1
    assert capsys.readouterr() == ("", f"error: {line}\n")


def test_an_interrupted_run(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(lab._COMMANDS, "demo", interrupted)
    assert run(monkeypatch, "demo") == 130
    assert capsys.readouterr() == ("", "error: interrupted\n")


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_long_run_tells_its_time(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setitem(lab._COMMANDS, command, lambda _: None)
    assert run(monkeypatch, command) == 0
    out, err = capsys.readouterr()
    assert out.startswith("done in ")
    assert err == ""


def test_a_run_frees_the_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lab._COMMANDS, "demo", lambda _: None)
    assert [run(monkeypatch, "demo"), run(monkeypatch, "demo")] == [0, 0]


def test_up_sweeps_first(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "room.partial").mkdir(parents=True)
    monkeypatch.setenv("DOCKER_HOST", "tcp://nowhere:1")
    assert run(monkeypatch, "up") == 1
    out, err = capsys.readouterr()
    assert out == "cluster-up\n"
    assert err.startswith("error: no Docker engine answers at DOCKER_HOST=tcp://nowhere:1: ")
    assert not (root / "room.partial").exists()


def test_status_without_an_engine(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "status") == 1
    out, err = capsys.readouterr()
    assert out.split() == ["Docker", "engine", "does", "not", "answer"]
    assert err == "error: 1 broken: `make cluster-up` mends it\n"


def test_down_without_an_engine(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "down") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: no Docker engine answers, ")
    assert err.count("\n") == 1


def test_cache_clean(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "thing").mkdir(parents=True)
    with (root / "thing" / "part").open("wb") as part:
        part.truncate(3 * 1024**3)
    assert run(monkeypatch, "cache-clean") == 0
    assert capsys.readouterr() == (f"  3.0 GiB freed in {root}\n", "")
    assert [entry.name for entry in root.iterdir()] == [LOCK]


def test_an_unknown_command(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, "upp")
    assert end.value.code == 2
    assert "cache-clean" in capsys.readouterr().err
    assert not root.exists()
