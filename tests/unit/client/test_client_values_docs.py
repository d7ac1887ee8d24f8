"""The page on values: its commands print what it says."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from trireme.cli.main import run

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "values.md").read_text()
FILES = dict(re.findall(r"(?m)^`(\S+)`:\n\n```yaml\n((?:.*\n)*?)```$", PAGE))
STEPS = [
    (command, output)
    for block in re.findall(r"(?m)^```console\n((?:.*\n)*?)```$", PAGE)
    for command, output in re.findall(r"(?m)^\$ (.*)\n((?:(?!\$ ).*\n)*)", block)
]


def test_every_command_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(FILES) == 2
    assert len(STEPS) == 7
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    for command, output in STEPS:
        program, *arguments = shlex.split(command)
        assert program == "trireme"
        if "diff" in arguments and not shutil.which("helm"):
            continue
        run(arguments)
        assert capsys.readouterr().out == output, command
