"""When a Celery worker is started again: if that would help, and only then."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from charting import CHARTS

pytest.importorskip("celery", reason="celery is not installed: uv sync")

SCRIPT = CHARTS / "celery" / "files" / "alive.sh"


@pytest.fixture
def gone() -> Iterator[str]:
    """Return the URL of a broker that nobody listens at."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{closed.getsockname()[1]}"


def is_alive(folder: Path, broker: str, silent: float | None) -> bool:
    """Tell what the probe says of a worker whose heartbeat is so many seconds old; None for one that had none yet."""
    if silent is not None:
        heartbeat = folder / "heartbeat"
        heartbeat.touch()
        then = heartbeat.stat().st_mtime - silent
        os.utime(heartbeat, (then, then))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name in ("defaults.json", "config.json"):
        (folder / name).write_text("{}")
    folders = dict.fromkeys(("TRIREME_STATE_DIR", "TRIREME_CONF_DIR", "TRIREME_TLS_DIR"), str(folder))
    env = {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "CELERY_BROKER_URL": broker, **folders}
    return subprocess.run(["sh", str(SCRIPT)], env=env, check=False).returncode == 0


@pytest.mark.parametrize(("silent", "alive"), [(0, True), (290, True), (310, False), (None, False)])
def test_a_worker_whose_broker_answers_has_to_be_heard(tmp_path: Path, silent: float | None, alive: bool) -> None:
    assert is_alive(tmp_path, "memory://", silent) is alive


@pytest.mark.parametrize("silent", [310, 86400])
def test_an_outage_of_the_broker_starts_no_worker_again(tmp_path: Path, gone: str, silent: float) -> None:
    assert is_alive(tmp_path, gone, silent)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed: install it")
@pytest.mark.parametrize("known", [True, False])
def test_the_password_is_for_the_broker_alone(tmp_path: Path, known: bool) -> None:
    certificate, key = tmp_path / ("ca.crt" if known else "unknown.crt"), tmp_path / "key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"]
    name = ["-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", *kind, *name, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    heard = b""

    def hear() -> None:
        nonlocal heard
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as encrypted:
                    heard += encrypted.recv(1000)
            except OSError:
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=hear, daemon=True)
        thread.start()
        assert is_alive(tmp_path, f"rediss://:xyzzy@localhost:{server.getsockname()[1]}", 310)
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert (b"xyzzy" in heard) is known
