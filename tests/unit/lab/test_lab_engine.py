"""The Docker engine: whether it will do, whether it may be started, and what an old one left."""

import os
import subprocess
from pathlib import Path

import pytest
from lab_room import answers, only_scripts

from trireme_lab import engine, host
from trireme_lab.cache import Cache
from trireme_lab.commands import Log
from trireme_lab.problem import Problem


def fact(monkeypatch: pytest.MonkeyPatch, name: str, value: bool) -> None:
    monkeypatch.setattr(host, name, lambda: value)


def line(problem: Problem) -> str:
    assert "\n" not in str(problem)
    return str(problem)


def test_an_engine_without_the_shim(monkeypatch: pytest.MonkeyPatch) -> None:
    fact(monkeypatch, "lacks_sys_resource", True)
    answers(monkeypatch, {"docker info --format {{.DefaultRuntime}}": "runc\n"})
    with pytest.raises(Problem) as problem:
        engine.check_runtime()
    assert "lacks CAP_SYS_RESOURCE" in line(problem.value)
    assert "stop that engine and run this again" in line(problem.value)


@pytest.mark.parametrize(("lacks", "runtime"), [(True, engine.RUNTIME), (False, "runc"), (False, engine.RUNTIME)])
def test_an_engine_that_will_do(monkeypatch: pytest.MonkeyPatch, lacks: bool, runtime: str) -> None:
    fact(monkeypatch, "lacks_sys_resource", lacks)
    answers(monkeypatch, {"docker info --format {{.DefaultRuntime}}": f"{runtime}\n"})
    engine.check_runtime()


@pytest.mark.parametrize(
    ("root", "debian", "dockerd", "elsewhere", "message"),
    [
        (True, True, False, "tcp://x:1", "no Docker engine answers at DOCKER_HOST=tcp://x:1: start it, or unset"),
        (False, False, True, "tcp://x:1", "no Docker engine answers at DOCKER_HOST=tcp://x:1: start it, or unset"),
        (False, True, True, "", "only root could start one: install Docker Engine (https://docs.docker.com/"),
        (True, False, False, "", "no Docker engine answers: install Docker Engine (https://docs.docker.com/"),
        (True, True, False, "", None),
        (True, False, True, "", None),
    ],
)
def test_an_engine_that_may_be_started(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    root: bool,
    debian: bool,
    dockerd: bool,
    elsewhere: str,
    message: str | None,
) -> None:
    fact(monkeypatch, "is_root", root)
    fact(monkeypatch, "is_debian", debian)
    only_scripts(monkeypatch, tmp_path / "bin", **({"dockerd": ""} if dockerd else {}))
    monkeypatch.setenv("DOCKER_HOST", elsewhere)
    if message is None:
        engine.may_start()
        return
    with pytest.raises(Problem) as problem:
        engine.may_start()
    assert message in line(problem.value)


@pytest.mark.parametrize("present", [("docker",), ("dockerd",), ()])
def test_a_missing_engine_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, present: tuple[str]) -> None:
    apt = {"apt-get": 'echo "$DEBIAN_FRONTEND $*"'}
    only_scripts(monkeypatch, tmp_path / "bin", **dict.fromkeys(present, ""), **apt)
    log = Log(tmp_path / "log")
    engine.install(log)
    assert "noninteractive update\n" in log.path.read_text()
    assert "noninteractive install --yes --no-install-recommends docker.io iptables\n" in log.path.read_text()


def test_an_engine_is_not_installed_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only_scripts(monkeypatch, tmp_path / "bin", docker="", dockerd="")
    log = Log(tmp_path / "log")
    engine.install(log)
    assert log.path.read_text() == ""


def test_an_engine_that_ends_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine, "_PID_FILES", ())
    fact(monkeypatch, "has_systemd", False)
    only_scripts(monkeypatch, tmp_path / "bin", docker="exit 1", dockerd='echo first; echo "no: $*" >&2; exit 1')
    cache = Cache(tmp_path)
    with pytest.raises(Problem) as problem:
        engine.start(Log(tmp_path / "log" / "start.log"), cache, None)
    assert line(problem.value) == (
        "the Docker engine ended at once: no: --host=unix:///var/run/docker.sock "
        f"(log: {tmp_path / 'log' / 'dockerd.log'})"
    )


def ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    "content", [str(os.getpid()), str(ended_process()), "", "x\n"], ids=["another", "ended", "empty", "nonsense"]
)
def test_a_stale_pid_file_goes(tmp_path: Path, content: str) -> None:
    pid_file = tmp_path / "docker.pid"
    pid_file.write_text(content)
    engine._forget_if_stale(pid_file)
    assert not pid_file.exists()


def test_no_pid_file(tmp_path: Path) -> None:
    engine._forget_if_stale(tmp_path / "docker.pid")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["dockerd", "containerd"])
def test_the_pid_file_stays_while_the_engine_runs(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.write_text("#!/bin/sh\necho it runs\nread line\n")
    program.chmod(0o755)
    pid_file = tmp_path / "docker.pid"
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"it runs\n"
        pid_file.write_text(f"{process.pid}\n")
        engine._forget_if_stale(pid_file)
        runs = pid_file.exists()
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped
        engine._forget_if_stale(pid_file)
        dead = pid_file.exists()
    assert (runs, dead) == (True, False)


@pytest.mark.parametrize(
    ("known", "client"),
    [
        ({"docker buildx version": "v0.20"}, "docker"),
        ({"docker version": "20.10.24+dfsg1\n"}, "docker"),
        ({"docker version": "28.1.0\n", "/usr/bin/docker version": "20.10.24\n"}, "/usr/bin/docker"),
        ({"docker version": "28.1.0\n", "/usr/bin/docker buildx version": "v0.20"}, "/usr/bin/docker"),
    ],
)
def test_a_client_that_builds(monkeypatch: pytest.MonkeyPatch, known: dict[str, str], client: str) -> None:
    answers(monkeypatch, known)
    assert engine.buildkit_client() == client


@pytest.mark.parametrize("known", [{}, {"docker version": "23.0.0\n", "/usr/bin/docker version": "28.1.0\n"}])
def test_no_client_that_builds(monkeypatch: pytest.MonkeyPatch, known: dict[str, str]) -> None:
    answers(monkeypatch, known)
    with pytest.raises(Problem, match="install the buildx plugin"):
        engine.buildkit_client()


def test_where_the_engine_keeps_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for text, expected in ((f"{tmp_path}\n", tmp_path), (f"{tmp_path}/elsewhere\n", None), ("", None)):
        answers(monkeypatch, {"docker info --format {{.DockerRootDir}}": text})
        assert engine.root_dir() == expected
    answers(monkeypatch, {})
    assert engine.root_dir() is None


def test_the_pid_file_of_a_killed_engine_that_nobody_reaped_goes(tmp_path: Path) -> None:
    program = tmp_path / "dockerd"
    program.write_text("#!/bin/sh\nread line\n")
    program.chmod(0o755)
    pid_file = tmp_path / "docker.pid"
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        pid_file.write_text(f"{process.pid}\n")
        engine._forget_if_stale(pid_file)
    assert not pid_file.exists()
