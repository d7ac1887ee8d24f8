"""The command line as a whole."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import trireme
from trireme.cli import completion, connection, logs, main, output, sources, top
from trireme.errors import TriremeError
from trireme.local import run as local_run


def test_the_groups_help_has_each_commands_own_first_line() -> None:
    context = click.Context(main.trireme)
    for name, (_, line) in main.COMMANDS.items():
        command = main.trireme.get_command(context, name)
        assert command is not None
        assert (command.help or "").split("\n")[0].strip("\f") == line, name


def test_help_lists_the_commands_without_loading_them() -> None:
    script = (
        "import sys\nfrom trireme.cli.main import run\nassert run(['--help']) == 0\n"
        "heavy = {'kubernetes', 'yaml', 'rich', 'jsonschema', 'trireme.cli.values'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in main.COMMANDS)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain text, Zoë 😀\tand a tab", "plain text, Zoë 😀\tand a tab"),
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m\x1b[0m"),
        ("\x1b[31mred to the end", "\x1b[31mred to the end\x1b[0m"),
        # To the clipboard, a title, what a terminal answers, where the cursor is, how keys are sent, a bell.
        ("a\x1b]52;c;cm0gLXJmIH4=\x07b", "ab"),
        ("a\x1b]0;title\x1b\\b", "ab"),
        ("a\x9d0;title\x9cb", "ab"),
        ("a\x1b]52;c;never ends", "a"),
        ("a\x1bP$qm\x1b\\b", "ab"),
        ("a\x1b[2A\x1b[2Kb\x1b[6nc", "abc"),
        ("a\x1b[>4;2mb\x1b[?25lc", "abc"),
        ("a\x1bcb\x1b(0c", "abc"),
        ("a\x07\x08\x9b\x7fb\x1b", "ab"),
        ("\r10%\r 20%\r", " 20%"),
    ],
)
def test_of_a_log_a_terminal_obeys_colours_alone(line: str, shown: str) -> None:
    assert output.harmless(line) == shown


@pytest.mark.parametrize(("terminal", "printed"), [(True, "pod ab\n"), (False, "pod a\x07b\n")])
def test_who_reads_logs_by_a_program_has_them_as_they_are(
    terminal: bool, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.isatty", lambda _: terminal)
    logs.printer()("pod", "a\x07b")
    assert capsys.readouterr().out == printed


def test_importing_the_package_loads_nothing_but_itself() -> None:
    script = "import sys, trireme\nassert not [name for name in sys.modules if name.startswith('trireme.')]"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_exports_what_it_lists() -> None:
    for name in trireme.__all__:
        assert getattr(trireme, name)
    assert trireme.TriremeError is TriremeError
    with pytest.raises(AttributeError, match="nothing"):
        trireme.nothing  # noqa: B018


def test_a_problem_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **more: object) -> None:
        raise TriremeError("values.yaml is missing: name the file", code=3)

    monkeypatch.setattr(main.trireme, "main", fail)
    assert main.run([]) == 3
    assert capsys.readouterr().err == "error: values.yaml is missing: name the file\n"


def test_a_wrong_call_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        *("--cluster=numbers", "--image=mine", "--driver-cpu=2", "--file=data", "--detach", "--dry-run=client"),
        *("-o yaml", "-n team", "--context=there", "--kubeconfig=file"),
    ],
)
def test_options_for_a_cluster_are_refused_on_this_machine(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["run", "--local", "--engine=dask", "job.py", *words.split()]) == 2
    name = {"-o": "--output", "-n": "--namespace"}.get(words[:2], words.partition("=")[0])
    assert f"{name} does not go with --local: it is for Kubernetes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    [
        *(
            "--engine=dask",
            "--workers=2",
            "--cpu=1",
            "--memory=1Gi",
            "--cluster=numbers",
            "--app=tasks",
            "--image=mine",
        ),
        *("--driver-cpu=1", "--driver-memory=1Gi", "--env=A=b", "--file=data", "--name=mean", "--timeout=60"),
    ],
)
@pytest.mark.parametrize("where", [(), ("--local",)])
def test_options_of_scripts_are_refused_with_a_manifest(
    option: str, where: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["run", *where, "-f", "job.yaml", option]) == 2
    assert f"{option.partition('=')[0]} does not go with --filename: the manifest says it" in capsys.readouterr().err


@pytest.mark.parametrize(("codes", "code"), [((130, 0), 130), ((3, 130, 0), 130), ((3, 0, 1), 3)])
def test_ctrl_c_ends_all_jobs_of_a_manifest_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codes: tuple[int, ...], code: int
) -> None:
    job = (
        "kind: WorkerJob\nmetadata: {name: a%d}\nspec: {clusterTemplate: {spec: {engine: dask}}, driver: {script: ''}}"
    )
    (tmp_path / "job.yaml").write_text("\n---\n".join(job % number for number in range(len(codes))))
    left = [*codes]
    monkeypatch.setattr(local_run, "run", lambda work, say: left.pop(0))
    assert main.run(["run", "--local", "-f", str(tmp_path / "job.yaml")]) == code
    assert len(left) == len(codes) - codes.index(130) - 1 if 130 in codes else not left


@pytest.mark.parametrize("words", [("get", "wc"), ("delete", "wj/mean", "--all"), ("scale", "wc/a", "--replicas=2")])
def test_what_kubectl_does_stays_its(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*words]) == 2
    assert f"{words[0]} is kubectl's: kubectl {' '.join(words)}\n" in capsys.readouterr().err


def test_options_that_say_where_may_stand_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--kubeconfig=none-such", "logs", "mean"]) == 1
    assert capsys.readouterr().err.startswith("error: no cluster: ")
    assert main.run(["-n", "team", "run", "--local", "job.py"]) == 2
    assert "--namespace does not go with --local" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("numbers", ("numbers", "")),
        ("wc/numbers", ("numbers", "workerclusters")),
        ("WorkerJob/mean", ("mean", "workerjobs")),
        ("workerjob.trireme.dev/mean", ("mean", "workerjobs")),
        ("workerclusters.trireme.dev/a.b", ("a.b", "workerclusters")),
    ],
)
def test_objects_are_named_as_by_kubectl(text: str, found: tuple[str, str]) -> None:
    option = click.Option(["--name"])
    read = connection.reference("workerclusters", "workerjobs")(click.Context(main.trireme), option, text)
    assert read == connection.Reference(*found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pod/a", "'pod' is none of workerjobs, workerclusters"),
        ("/a", "'' is none of workerjobs, workerclusters"),
        ("wc/", "'' is no name of an object"),
        ("a?dryRun=All", "'a?dryRun=All' is no name of an object"),
        ("..", "'..' is no name of an object"),
        ("", "'' is no name of an object"),
    ],
)
def test_what_names_no_object(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["logs", text]) == 2
    assert message in capsys.readouterr().err


def test_version() -> None:
    assert CliRunner().invoke(main.trireme, ["--version"]).output == "trireme 0.1.0\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_the_command(shell: str) -> None:
    done = CliRunner().invoke(main.trireme, ["completion", shell])
    assert done.exit_code == 0
    assert "_TRIREME_COMPLETE" in done.output


@pytest.mark.parametrize(
    ("words", "offered", "last"),
    [
        (["lo"], ["logs"], ":4"),
        ([], [*main.COMMANDS], ":4"),
        (["run", "--eng"], ["--engine"], ":4"),
        (["run", "--engine", ""], ["dask", "spark", "celery"], ":4"),
        (["run", "jo"], [], ":0"),
        (["run", "-f", ""], [], ":0"),
        (["values", "mer"], ["merge"], ":4"),
        (["nothing", "x"], [], ":4"),
    ],
)
def test_kubectl_completes(
    words: list[str], offered: list[str], last: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-trireme", *words])
    completion.kubectl()
    *found, end = capsys.readouterr().out.splitlines()
    assert (sorted(line.partition("\t")[0] for line in found), end) == (sorted(offered), last)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (200_000, "2d")]
)
def test_ages_are_kubectls(seconds: int, said: str) -> None:
    assert top.age(timedelta(seconds=seconds)) == said


@pytest.mark.parametrize(("said", "seconds"), [("600", 600), ("10m", 600), ("1h30m", 5400), ("1500ms", 2)])
def test_how_long_a_driver_may_take(said: str, seconds: int) -> None:
    assert sources.seconds(click.Context(main.trireme), click.Option(["--timeout"]), said) == seconds


@pytest.mark.parametrize("said", ["0", "-1", "0.1", "99999999999", "9" * 400, "\u0661", "ten"])
def test_a_driver_can_not_take_that_long(said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["run", "job.py", "--engine=dask", f"--timeout={said}"]) == 2
    assert "is no duration, such as" in capsys.readouterr().err


@pytest.mark.parametrize("said", ["5", "m", "1h-3m", "0s", "", "5d"])
def test_what_is_no_duration(said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["logs", "a", f"--since={said}"]) == 2
    assert "is no duration, such as 30s, 5m or 1h30m" in capsys.readouterr().err
