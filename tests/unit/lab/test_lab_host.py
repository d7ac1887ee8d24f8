"""Facts about the machine."""

import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from trireme_lab import host

ALL = (1 << 41) - 1
Usage = namedtuple("Usage", "free")


@pytest.mark.parametrize(
    ("capabilities", "lacks"),
    [
        (ALL, False),
        (1 << 24, False),
        (ALL & ~(1 << 24), True),
        (ALL & ~(1 << 23) & ~(1 << 25), False),
        (1 << 23 | 1 << 25, True),
        (0, True),
    ],
)
def test_the_bounding_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capabilities: int, lacks: bool) -> None:
    status = tmp_path / "status"
    others = "".join(f"{name}:\t{ALL - capabilities:016x}\n" for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
    status.write_text(f"Name:\tpython\n{others}CapBnd:\t{capabilities:016x}\nSeccomp:\t0\n")
    monkeypatch.setattr(host, "Path", lambda _: status)
    assert host.lacks_sys_resource() is lacks


def test_no_bounding_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\n")
    monkeypatch.setattr(host, "Path", lambda _: tmp_path / "status")
    assert host.lacks_sys_resource() is False


def test_free_space_where_nothing_is_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sizes = {tmp_path: Usage(3 * 1024**3 // 2)}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: sizes[path])
    assert host.free_gib(tmp_path / "not" / "yet") == 1.5
    assert host.free_gib(tmp_path) == 1.5


def test_a_port_is_free_once_nobody_listens() -> None:
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not host.port_is_free(port)
    assert host.port_is_free(port)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"SSL_CERT_FILE": "a.pem"}, "a.pem"),
        ({"REQUESTS_CA_BUNDLE": "b.pem", "SSL_CERT_FILE": "a.pem"}, "b.pem"),
        ({"PIP_CERT": "missing.pem", "REQUESTS_CA_BUNDLE": "", "SSL_CERT_FILE": "a.pem"}, "a.pem"),
        ({"PIP_CERT": "."}, None),
    ],
)
def test_the_ca_bundle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], expected: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.pem", "b.pem"):
        Path(name).touch()
    for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert host.ca_bundle() == (Path(expected) if expected else None)
