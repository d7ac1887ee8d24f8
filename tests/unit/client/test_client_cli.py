"""The command line as a whole."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import trireme
from trireme.cli import main
from trireme.errors import TriremeError


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


def test_version() -> None:
    assert CliRunner().invoke(main.trireme, ["--version"]).output == "trireme 0.1.0\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_the_command(shell: str) -> None:
    done = CliRunner().invoke(main.trireme, ["completion", shell])
    assert done.exit_code == 0
    assert "_TRIREME_COMPLETE" in done.output
