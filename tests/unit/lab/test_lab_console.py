"""Steps as people see them, and works side by side."""

import re
import threading
from pathlib import Path

import pytest

from on_cluster import until
from trireme_lab import commands
from trireme_lab.cache import Cache
from trireme_lab.commands import Log, wait_for
from trireme_lab.console import Steps, together
from trireme_lab.problem import Problem


@pytest.fixture(autouse=True)
def _commands_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_stopping", threading.Event())


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "step.log")


def test_a_step_prints_its_time_and_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Steps(Cache(tmp_path)).step("make a thing") as log:
        log.run("echo", "text")
    assert log.path == tmp_path / "log" / "make-a-thing.log"
    assert re.fullmatch(rf"  make a thing +\d+\.\d s  {log.path}\n", capsys.readouterr().out)


def test_a_failed_step_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Problem, match=r"^why$"), Steps(Cache(tmp_path)).step("make a thing") as log:
        raise Problem("why")
    assert re.fullmatch(rf"  make a thing +failed after \d+\.\d s, log {log.path}\n", capsys.readouterr().out)


def test_a_quiet_step_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Steps(Cache(tmp_path)).quiet("look at it") as log:
        log.run("echo", "text")
    assert log.path == tmp_path / "log" / "look-at-it.log"
    assert capsys.readouterr().out == ""


def test_works_run_side_by_side() -> None:
    meeting = threading.Barrier(3)
    together(*[lambda: (meeting.wait(20), None)[1]] * 3)
    assert not meeting.broken


def test_no_work() -> None:
    together()


def test_success_leaves_commands_possible(log: Log) -> None:
    together(lambda: None, lambda: None)
    assert log.run("echo", "text") == "text\n"


def test_the_first_failure_ends_the_others(log: Log, tmp_path: Path) -> None:
    ends: list[str] = []

    def fails() -> None:
        wait_for("the other's command runs", lambda: bool(commands._running), seconds=20)
        raise Problem("the cause")

    def runs() -> None:
        for command in (("sleep", "5"), ("touch", str(tmp_path / "further"))):
            try:
                log.run(*command)
            except Problem as problem:
                ends.append(str(problem))
        raise Problem("what follows from it")

    with pytest.raises(Problem, match=r"^the cause$"):
        together(runs, lambda: None, fails)
    assert [end.split()[0] for end in ends] == ["sleep", "touch"]
    assert not (tmp_path / "further").exists()


def test_a_failure_at_the_end_is_told() -> None:
    first_is_done = threading.Event()

    def last() -> None:
        first_is_done.wait(20)
        raise Problem("the last one's")

    with pytest.raises(Problem, match=r"^the last one's$"):
        together(first_is_done.set, last)


def test_the_cause_is_told_through_works_within_works(log: Log) -> None:
    def fails() -> None:
        wait_for("the others' commands run", lambda: len(commands._running) == 2, seconds=20)
        raise Problem("the cause")

    with pytest.raises(Problem, match=r"^the cause$"):
        together(
            lambda: together(fails, lambda: (log.run("sh", "-c", "trap 'sleep 0.2; exit 1' TERM; sleep 5"), None)[1]),
            lambda: (log.run("sleep", "5"), None)[1],
        )


def test_a_failure_ends_waits_and_what_commands_started(log: Log, tmp_path: Path) -> None:
    child = tmp_path / "child"

    def fails() -> None:
        wait_for("the other's command runs", lambda: child.exists() and bool(child.read_text()), seconds=20)
        raise Problem("the cause")

    ends: list[str] = []

    def waits() -> None:
        try:
            wait_for("never", lambda: False, seconds=60)
        except Problem as problem:
            ends.append(str(problem))

    with pytest.raises(Problem, match=r"^the cause$"):
        together(fails, waits, lambda: (log.run("sh", "-c", f"sleep 30 & echo $! > {child}; wait"), None)[1])
    assert ends == ["never: no longer waited for, another step failed"]
    stat = Path(f"/proc/{int(child.read_text())}/stat")

    # Not by wait_for, which waits for nothing once a step has failed.
    until(lambda: not stat.exists() or ") Z " in stat.read_text(), seconds=20)
