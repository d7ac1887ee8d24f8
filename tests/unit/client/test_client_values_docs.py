"""The page on values: its commands print what it says."""

import shlex
import shutil
from pathlib import Path

import pytest

from pages import commands, every
from trireme.cli.main import run

BLOCKS = every("docs/values.md")
FILES = {block.file: block.text for block in BLOCKS if block.file}
STEPS = [step for block in BLOCKS if block.language == "console" for step in commands(block.text)]


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
        assert capsys.readouterr().out.splitlines() == output, command
