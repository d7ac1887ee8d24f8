"""What the tests of the lab share: made-up answers of commands, scripts on PATH, and a user who is not root."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from trireme_lab import cluster, commands, demo, deploy, engine, images, node_image, programs, tools

_NOBODY = 65534


def answers(monkeypatch: pytest.MonkeyPatch, known: Mapping[str, str]) -> None:
    """Let quick commands print what is known by the words they start with; all others fail."""

    def answer(*command: str | Path, seconds: float = 10) -> str | None:
        words = " ".join(map(str, command))
        return next((text for start, text in known.items() if words.startswith(start)), None)

    for module in (cluster, commands, demo, deploy, engine, images, node_image, programs, tools):
        monkeypatch.setattr(module, "answer", answer)


def only_scripts(monkeypatch: pytest.MonkeyPatch, folder: Path, **scripts: str) -> None:
    """Make these shell scripts in the folder all that is on PATH."""
    folder.mkdir(exist_ok=True)
    for name, text in scripts.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@contextmanager
def nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in the folder, which is given away first, without root's right to write everywhere."""
    monkeypatch.chdir(folder)
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, _NOBODY, -1, follow_symlinks=False)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
