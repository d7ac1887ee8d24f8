"""What a Celery worker tells probes: whether it consumes, and whether to start it again would help."""

import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from charting import CHARTS

pytest.importorskip("celery", reason="celery is not installed: uv sync")

import celery
from amqp import AccessRefused, NotFound
from kombu.exceptions import OperationalError

sys.path.insert(0, str(CHARTS / "celery" / "files"))
_before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
# Its import is a container's first process's beginning.
_handler = signal.getsignal(signal.SIGTERM)
trireme_worker = import_module("trireme_worker")
signal.signal(signal.SIGTERM, _handler)
trireme_health = import_module("trireme_health")
trireme_app = import_module("trireme_app")
sys.dont_write_bytecode = _before


@pytest.fixture
def gone() -> Iterator[str]:
    """Return the URL of a broker that nobody listens at."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{closed.getsockname()[1]}"


@contextmanager
def refusing(word: str) -> Iterator[str]:
    """Lend the URL of a Redis that says the same to whatever it is asked."""

    def refuse(listens: socket.socket) -> None:
        while True:
            try:
                connection, _ = listens.accept()
            except OSError:
                return
            with connection:
                while connection.recv(1000):
                    connection.sendall(f"-{word}\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=refuse, args=[server], daemon=True)
        thread.start()
        yield f"redis://:old@127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def answers(folder: Path, broker: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Tell whether a broker answers, by the chart's settings."""
    for name in ("defaults.json", "config.json"):
        (folder / name).write_text("{}")
    monkeypatch.setattr(trireme_app, "CONF", folder)
    monkeypatch.setattr(trireme_app, "TLS", folder)
    app = celery.Celery(broker=broker, set_as_current=False)
    trireme_app.settle(app)
    return bool(trireme_health.broker_answers(app))


@pytest.mark.parametrize(
    ("silent", "answers", "ready", "alive"),
    [
        (0, True, 200, 200),
        (15, True, 200, 200),
        (16, True, 503, 200),
        (30, True, 503, 200),
        (31, True, 503, 503),
        # An outage of the broker starts no worker again.
        (31, False, 503, 200),
        (86400, False, 503, 200),
        (None, True, 503, 503),
        (None, False, 503, 200),
    ],
)
def test_probes(silent: float | None, answers: bool, ready: int, alive: int) -> None:
    now = 1000.0
    health = trireme_health.Health(lambda: answers, lambda: now)
    if silent is not None:
        health.beat(sender=None)
        now += silent
    with trireme_health.Server(health, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def asked(path: str) -> int:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with opener.open(f"http://127.0.0.1:{server.server_port}{path}", timeout=5) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code

        assert (asked("/ready"), asked("/alive"), asked("/")) == (ready, alive, 404)
        server.shutdown()


def test_a_worker_that_is_heard_has_nobody_asked() -> None:
    def ask() -> bool:
        raise AssertionError

    health = trireme_health.Health(ask)
    health.beat()
    assert health.is_alive()


def test_whether_the_broker_answers(tmp_path: Path, gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers(tmp_path, "memory://", monkeypatch)
    assert not answers(tmp_path, gone, monkeypatch)


def test_a_broker_that_hangs_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trireme_app.TIMEOUTS["redis"], "socket_timeout", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not answers(tmp_path, f"redis://127.0.0.1:{server.getsockname()[1]}", monkeypatch)


@pytest.mark.parametrize(
    "refusal", ["WRONGPASS invalid username-password pair or user is disabled.", "NOAUTH Authentication required."]
)
def test_a_broker_that_refuses_the_password_answers(
    tmp_path: Path, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a worker whose password has changed is started again, and reads the new one."""
    with refusing(refusal) as url:
        assert answers(tmp_path, url, monkeypatch)


def test_a_worker_whose_password_is_refused_does_not_start(caplog: pytest.LogCaptureFixture) -> None:
    """Rather than wait without a word: what it says last becomes the reason that the cluster is not Ready."""
    with refusing("WRONGPASS invalid username-password pair or user is disabled.") as url:
        connection = celery.Celery(broker=url, set_as_current=False).connection_for_read()
        with pytest.raises(OperationalError, match="invalid username-password pair"):
            connection.ensure_connection(trireme_worker.hear_of(connection.as_uri()))
    assert caplog.messages == []
    # One that is away is waited for, and each reason is told once.
    hear = trireme_worker.hear_of("redis://queue:6379/0")
    for reason in ("refused", "refused", "no such host", "refused"):
        hear(ConnectionRefusedError(reason), 0.2)
    told = "Cannot connect to redis://queue:6379/0: {}. Trying again until it answers."
    assert caplog.messages == [told.format("refused"), told.format("no such host")]


@pytest.mark.parametrize(("error", "is_refused"), [(AccessRefused(), True), (OSError(), False), (NotFound(), False)])
def test_of_rabbitmq_too_it_is_known_whether_it_refuses(error: Exception, is_refused: bool) -> None:
    with pytest.raises(OperationalError) as raised:
        raise OperationalError from error
    assert trireme_app.refuses(raised.value) is is_refused


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed: install it")
@pytest.mark.parametrize("known", [True, False])
def test_the_password_is_for_the_broker_alone(tmp_path: Path, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert not answers(tmp_path, f"rediss://:xyzzy@localhost:{server.getsockname()[1]}", monkeypatch)
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert (b"xyzzy" in heard) is known
