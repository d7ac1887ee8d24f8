"""Commands, their logs, and waiting."""

from pathlib import Path

import pytest

from trireme_lab.commands import Log, answer, succeeds, wait_for
from trireme_lab.problem import Problem


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log" / "step.log")


def test_run_returns_the_output_and_keeps_all(log: Log) -> None:
    assert log.run("sh", "-c", "echo out; echo err >&2") == "out\n"
    assert log.run(Path("/bin/sh"), "-c", "echo more") == "more\n"
    assert log.path.read_text() == (
        "+ sh -c echo out; echo err >&2\nerr\nout\n"  # what it prints comes below the command
        "+ /bin/sh -c echo more\nmore\n"
    )


def test_a_log_starts_empty(log: Log) -> None:
    log.run("echo", "old")
    assert Log(log.path).path.read_text() == ""


def test_run_hands_on_its_settings(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTER", "outer")
    monkeypatch.setenv("BOTH", "outer")
    script = "echo $OUTER $BOTH; pwd"
    assert log.run("sh", "-c", script, env={"BOTH": "inner"}, cwd=tmp_path) == f"outer inner\n{tmp_path}\n"


def test_run_reads_text_a_file_or_nothing(log: Log, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    assert log.run("cat", stdin="a text") == "a text"
    assert log.run("cat", stdin=tmp_path / "file") == "a file"
    assert log.run("cat") == ""


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("echo first >&2; echo '  last  ' >&2; echo >&2; exit 3", "last"),
        ("echo first; echo last; exit 1", "last"),
        ("exit 1", "it printed nothing"),
        ("kill -9 $$", "it printed nothing"),
        (r"printf '\377' >&2; exit 1", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_the_last_line_of_a_failure(log: Log, script: str, line: str) -> None:
    log.run("echo", "of the command before")
    with pytest.raises(Problem) as problem:
        log.run("sh", "-c", script)
    assert str(problem.value) == f"sh failed: {line} (log: {log.path})"


def test_a_missing_command(log: Log) -> None:
    with pytest.raises(Problem, match=r"^no-such-command is not installed$"):
        log.run("no-such-command", "--version")


def test_an_answer_is_what_was_printed() -> None:
    assert answer("sh", "-c", "echo out; echo err >&2") == "out\n"
    assert answer("true") == ""
    assert answer("cat") == ""


def test_no_answer() -> None:
    assert answer("sh", "-c", "echo out; exit 1") is None
    assert answer("no-such-command") is None
    assert answer("/") is None


def test_no_answer_within_the_time() -> None:
    assert answer("sleep", "5", seconds=0.05) is None
    assert not succeeds("sleep", "5", seconds=0.05)


def test_success_needs_no_output() -> None:
    assert succeeds("true")
    assert not succeeds("false")


def test_waiting_in_vain_names_what_for() -> None:
    with pytest.raises(Problem, match=r"^the moon is full: not so after 0 s$"):
        wait_for("the moon is full", lambda: False, seconds=0, every=0)


def test_waiting_asks_until_it_is_so() -> None:
    coming = [False, False, True, False]
    wait_for("it is so", lambda: coming.pop(0), seconds=60, every=0)
    assert coming == [False]


def test_what_is_so_already_is_asked_once() -> None:
    coming = [True, False]
    wait_for("it is so", lambda: coming.pop(0), seconds=0, every=0)
    assert coming == [False]


def test_the_last_line_is_that_of_the_errors_where_there_are_any(log: Log) -> None:
    with pytest.raises(Problem, match=r"^sh failed: error: boom \(log"):
        log.run("sh", "-c", "echo building; echo 'error: boom' >&2; exit 1")


def test_a_missing_folder_is_not_a_missing_command(log: Log, tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"^true can't be run: .*nowhere"):
        log.run("true", cwd=tmp_path / "nowhere")
