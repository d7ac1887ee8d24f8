"""HTTP to the API server, against a server on loopback."""

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, overload

import aiohttp
import pytest
import yaml
from aiohttp import web
from lightkube import KubeConfig

from trireme_operator import client, connection
from trireme_operator.api import Object
from trireme_operator.connection import APPLY, JSON, MERGE, ApiError, Connection

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# Only so that a test that would wait for ever fails.
_GUARD_SECONDS = 30


class Closed(Protocol):
    async def close(self) -> None: ...


Used = TypeVar("Used", bound=Closed)


class Asked(NamedTuple):
    """What the server was asked: `target` as it was sent, `path` and `query` as it is meant."""

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    peer: Any

    @property
    def who(self) -> str | None:
        return self.headers.get("Authorization")


class Pair(NamedTuple):
    """A certificate that vouches for itself, and its key."""

    certificate: Path
    key: Path

    def context(self, asks: bool = False) -> ssl.SSLContext:
        """Return a server's; `asks` for clients' certificates."""
        found = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        found.load_cert_chain(self.certificate, self.key)
        if asks:
            found.load_verify_locations(self.certificate)
            found.verify_mode = ssl.CERT_REQUIRED
        return found


class ApiServer:
    """A server on loopback that answers as told, and `{}` after that; it remembers what it was asked.

    Attributes:
        usual: how it answers when it was not told otherwise.
        user: in the kubeconfig.
        cluster: in the kubeconfig, besides the address.
        prefix: of the path in the address.
        tls: to serve with; None for plain HTTP.
        is_around: whether the client runs in its cluster, as a service account.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.asked: list[Asked] = []
        self.answers: deque[Answer] = deque()
        self.usual = said({})
        self.user: Object = {"token": "static"}
        # Plain HTTP needs no certificates, whose loading would take most of a test's time.
        self.cluster: Object = {"insecure-skip-tls-verify": True}
        self.prefix = ""
        self.tls: ssl.SSLContext | None = None
        self.is_around = False
        self.port = 0
        self._monkeypatch = monkeypatch
        for name in list(os.environ):
            if name.lower().endswith("_proxy") or name.startswith("KUBERNETES_") or name == "REQUEST_METHOD":
                monkeypatch.delenv(name)
        found = KubeConfig.from_env
        self.account = directory / "serviceaccount"
        monkeypatch.setattr(KubeConfig, "from_env", lambda: found(service_account=self.account))
        self.publish("http://127.0.0.1:1")

    def publish(self, address: str) -> None:
        """Write the kubeconfig."""
        config = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "local", "user": "somebody"}}],
            "clusters": [{"name": "local", "cluster": {**self.cluster, "server": address}}],
            "users": [{"name": "somebody", "user": self.user}],
        }
        path = self.directory / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        self._monkeypatch.setenv("KUBECONFIG", str(path))

    def answer(self, *answers: Answer) -> None:
        """Say how to answer what comes next."""
        self.answers.extend(answers)

    @overload
    def run(self, test: Callable[[Connection], Awaitable[None]]) -> None: ...
    @overload
    def run(self, test: Callable[[Used], Awaitable[None]], make: Callable[[], Used]) -> None: ...
    def run(self, test: Any, make: Any = Connection) -> None:
        """Run a test with a new connection to the server."""

        async def whole() -> None:
            server = web.Server(self._answer, handler_cancellation=True, access_log=None)
            runner = web.ServerRunner(server, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.tls).start()
            self.port = runner.addresses[0][1]
            try:
                self._be_found()
                used = make()
                try:
                    async with asyncio.timeout(_GUARD_SECONDS):
                        await test(used)
                finally:
                    await used.close()
            finally:
                await runner.cleanup()

        asyncio.run(whole())

    def _be_found(self) -> None:
        if self.is_around:
            self._monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            self._monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(self.port))
        scheme = "https" if self.tls else "http"
        self.publish(f"{scheme}://127.0.0.1:{self.port}{self.prefix}")

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport
        peer = request.transport.get_extra_info("peername")
        query, headers = dict(request.query), dict(request.headers)
        assert len(query) == len(request.query)
        body = await request.read()
        self.asked.append(Asked(request.method, request.raw_path, request.path, query, headers, body, peer))
        return await (self.answers.popleft() if self.answers else self.usual)(request)


def said(body: Any, status: int = 200) -> Answer:
    """Answer with JSON."""
    return raw(json.dumps(body).encode(), status)


def raw(body: bytes, status: int = 200, content_type: str = JSON, **more: Any) -> Answer:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, status=status, content_type=content_type, **more)

    return answer


def refused(status: int, message: str = "no") -> Answer:
    """Answer as the API server does when it refuses."""
    return said({"kind": "Status", "apiVersion": "v1", "message": message, "code": status}, status)


def streamed(*pieces: bytes) -> Answer:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return answer


class Hanging:
    """Sends something, and no more until the client is gone."""

    def __init__(self, *pieces: bytes) -> None:
        self.gone = asyncio.Event()
        self._pieces = pieces

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if self._pieces:
                await streamed(*self._pieces)(request)
            await asyncio.get_running_loop().create_future()
        finally:
            self.gone.set()
        raise AssertionError


def line(event: Object) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    return ApiServer(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Make two certificates by the command that every machine with ca-certificates has."""
    directory = tmp_path_factory.mktemp("tls")
    made = [Pair(directory / f"{name}.crt", directory / f"{name}.key") for name in "ab"]
    for pair in made:
        what = "req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=test"
        use = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
        out = ["-out", str(pair.certificate), "-keyout", str(pair.key)]
        subprocess.run(["openssl", *what.split(), *use, *out], check=True, capture_output=True)
    return made


@asynccontextmanager
async def silly(answer: bytes) -> AsyncIterator[str]:
    """Serve the same bytes to all who ask, and hang up; lends the address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def elsewhere(api: ApiServer, address: str) -> AsyncIterator[Connection]:
    """Lend a connection to another address."""
    api.publish(address)
    http = Connection()
    try:
        yield http
    finally:
        await http.close()


async def fails(http: Connection, how: Any, match: str | None = None) -> None:
    with pytest.raises(how, match=match) as failure:
        await http.call("GET", "/", {})
    assert isinstance(failure.value, client.FAILURES)


def against_bytes(api: ApiServer, answer: bytes, how: Any, match: str | None = None) -> None:
    """Call a server that answers with these bytes, and see how that fails."""

    async def test(_: Connection) -> None:
        async with silly(answer) as address, elsewhere(api, address) as http:
            await fails(http, how, match)

    api.run(test)


def encoded(path: Path) -> str:
    return b64encode(path.read_bytes()).decode()


def test_each_request_is_told_of_with_its_status(api: ApiServer) -> None:
    told: list[tuple[str, int | None]] = []

    async def test(http: Connection) -> None:
        counting = Connection(lambda method, status, seconds: told.append((method, status)) if seconds >= 0 else None)
        try:
            await counting.call("PUT", "/", {}, {})
            api.answer(refused(404))
            await fails(counting, ApiError)
        finally:
            await counting.close()

    api.run(test)
    assert told == [("PUT", 200), ("GET", 404)]

    async def nobody(_: Connection) -> None:
        api.publish("http://127.0.0.1:1")
        gone = Connection(lambda method, status, _: told.append((method, status)))
        try:
            await fails(gone, aiohttp.ClientError)
        finally:
            await gone.close()

    api.run(nobody)
    assert told[2:] == [("GET", None)]


@pytest.mark.parametrize(
    ("method", "content_type"),
    [("POST", JSON), ("PUT", JSON), ("PATCH", MERGE), ("PATCH", APPLY), ("DELETE", JSON)],
)
def test_a_call(api: ApiServer, method: str, content_type: str) -> None:
    body = {"name": "Zoë \u2028", "count": [1, 2.5, None, True]}
    api.answer(said({"found": "Zoë"}))

    async def test(http: Connection) -> None:
        found = await http.call(method, "/api/v1/pods", {"a": "b c", "d": ""}, body, content_type)
        assert found == {"found": "Zoë"}

    api.run(test)
    (asked,) = api.asked
    assert (asked.method, asked.path, asked.query) == (method, "/api/v1/pods", {"a": "b c", "d": ""})
    assert (asked.headers["Content-Type"], json.loads(asked.body)) == (content_type, body)
    assert asked.who == "Bearer static"


def test_a_call_without_a_body(api: ApiServer) -> None:
    async def test(http: Connection) -> None:
        assert await http.call("GET", "/version", {}) == {}

    api.run(test)
    (asked,) = api.asked
    assert (asked.target, asked.body) == ("/version", b"")
    assert "Content-Type" not in asked.headers


@pytest.mark.parametrize(
    "value",
    [
        "app.kubernetes.io/part-of=trireme",
        "a=b,c!=d,e in (f, g)",
        "involvedObject.uid=1-2,reason=FailedCreate",
        "1+2 & 3=4? #5 %2B ü",
    ],
)
def test_a_query_arrives_as_it_is(api: ApiServer, value: str) -> None:
    async def test(http: Connection) -> None:
        await http.call("GET", "/api/v1/pods", {"labelSelector": value})

    api.run(test)
    (asked,) = api.asked
    assert asked.query == {"labelSelector": value}
    # The name ends at the first =, and nothing after it is another parameter.
    assert asked.target.startswith("/api/v1/pods?labelSelector=")
    assert "&" not in asked.target


@pytest.mark.parametrize("prefix", ["", "/", "/k8s/clusters/c-1", "/k8s/clusters/c-1/"])
def test_an_address_with_a_path(api: ApiServer, prefix: str) -> None:
    api.prefix = prefix

    async def test(http: Connection) -> None:
        await http.call("GET", "/api/v1/pods", {"a": "b"})

    api.run(test)
    assert api.asked[0].target == f"{prefix.rstrip('/')}/api/v1/pods?a=b"


def test_one_connection_serves_many_calls(api: ApiServer) -> None:
    api.answer(said({}), refused(404), said({}), refused(500), streamed(line({})))

    async def test(http: Connection) -> None:
        for _ in range(4):
            with suppress(ApiError):
                await http.call("POST", "/", {}, {})
        async with aclosing(http.watch("/", {})) as events:
            assert [event async for event in events] == [{}]
        await http.call("GET", "/", {})

    api.run(test)
    assert len(api.asked) == 6
    assert len({asked.peer for asked in api.asked}) == 1


def test_a_compressed_answer(api: ApiServer) -> None:
    many = {"items": [{"metadata": {"name": f"number-{number}"}} for number in range(20_000)]}

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.json_response(many)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    api.answer(answer)

    async def test(http: Connection) -> None:
        assert await http.call("GET", "/", {}) == many

    api.run(test)
    assert "gzip" in api.asked[0].headers["Accept-Encoding"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"body": b'{"kind": "Status", "message": "so it is: \xc3\xab"}'}, "so it is: ë"),
        ({"body": b'{"kind": "Status"}'}, '{"kind": "Status"}'),
        ({"body": b'["message"]'}, '["message"]'),
        ({"body": b'"message"'}, '"message"'),
        ({"body": b"null"}, "null"),
        ({"body": b"<html>Bad Gateway</html>", "content_type": "text/html"}, "<html>Bad Gateway</html>"),
        ({"body": b"caf\xe9"}, "caf\ufffd"),
        ({"body": b"plain", "content_type": "text/plain", "charset": "hex"}, "plain"),
        ({"body": b"", "reason": "Out of order"}, "Out of order"),
    ],
)
def test_a_refusal(api: ApiServer, answer: Object, message: str) -> None:
    codes = (400, 403, 404, 409, 410, 422, 429, 500, 502, 503, 504)

    async def test(http: Connection) -> None:
        for code in codes:
            api.answer(raw(status=code, **answer), raw(status=code, **answer))
            with pytest.raises(ApiError) as refusal:
                await http.call("PUT", "/", {}, {"a": 1})
            assert (refusal.value.code, refusal.value.message, str(refusal.value)) == (code, message, message)
            with pytest.raises(ApiError) as refusal:
                await anext(http.watch("/", {}))
            assert (refusal.value.code, refusal.value.message) == (code, message)

    api.run(test)
    # What is refused is not asked again.
    assert len(api.asked) == 2 * len(codes)


def test_a_refusal_without_a_word(api: ApiServer) -> None:
    against_bytes(api, b"HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n", ApiError, "^status 599$")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(api: ApiServer, code: int) -> None:
    api.answer(raw(b"", code, headers={"Location": "/login"}))

    async def test(http: Connection) -> None:
        with pytest.raises(ApiError) as refusal:
            await http.call("POST", "/", {}, {"a": 1})
        assert refusal.value.code == code

    api.run(test)
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    "body", [b"", b"<html>Log in</html>", b'{"items": [', b'{"a": "\xff"}', b'{"a": 1} {"a": 2}', b"NaN"]
)
def test_an_answer_that_is_no_json(api: ApiServer, body: bytes) -> None:
    api.answer(raw(body), raw(body + b"\n"))

    async def test(http: Connection) -> None:
        with pytest.raises(client.FAILURES, match="no JSON"):
            await http.call("GET", "/", {})
        with pytest.raises(client.FAILURES, match="no JSON"):
            await anext(http.watch("/", {}))
        # The next one is.
        assert await http.call("GET", "/", {}) == {}

    api.run(test)


# Who asks.


def test_a_token_that_was_replaced_is_read_again(api: ApiServer) -> None:
    token = api.directory / "token"
    token.write_text("old\n")
    api.user = {"tokenFile": str(token)}
    api.answer(said({}), refused(401), said({"found": 1}))

    async def test(http: Connection) -> None:
        await http.call("GET", "/", {})
        token.write_text("new\n")
        assert await http.call("POST", "/path", {"a": "b"}, {"c": "d"}, MERGE) == {"found": 1}
        await http.call("GET", "/", {})

    api.run(test)
    assert [asked.who for asked in api.asked] == ["Bearer old", "Bearer old", "Bearer new", "Bearer new"]
    # All of it is asked again.
    first, second = api.asked[1:3]
    assert (first.method, first.target, first.body) == (second.method, second.target, second.body)
    assert second.body == b'{"c":"d"}'
    assert second.headers["Content-Type"] == MERGE


def test_a_watch_reads_the_token_again(api: ApiServer) -> None:
    token = api.directory / "token"
    token.write_text("old")
    api.user = {"tokenFile": str(token)}
    api.answer(said({}), refused(401), streamed(line({"a": 1})))

    async def test(http: Connection) -> None:
        await http.call("GET", "/", {})
        token.write_text("new")
        assert [event async for event in http.watch("/", {})] == [{"a": 1}]

    api.run(test)
    assert [asked.who for asked in api.asked] == ["Bearer old", "Bearer old", "Bearer new"]


def test_who_is_refused_twice_is_refused(api: ApiServer) -> None:
    token = api.directory / "token"
    token.write_text("old")
    api.user = {"tokenFile": str(token)}
    api.answer(refused(401), refused(401, "Unauthorized"), refused(401), said({"found": 1}))

    async def test(http: Connection) -> None:
        await fails(http, ApiError, "Unauthorized")
        # Later it is tried anew.
        token.write_text("new")
        assert await http.call("GET", "/", {}) == {"found": 1}

    api.run(test)
    assert [asked.who for asked in api.asked] == ["Bearer old"] * 3 + ["Bearer new"]


@pytest.mark.parametrize(
    ("user", "who"),
    [
        ({"token": "static"}, "Bearer static"),
        ({"username": "anna", "password": "secret"}, "Basic " + b64encode(b"anna:secret").decode()),
        ({}, None),
    ],
)
def test_credentials_that_stay_the_same(api: ApiServer, user: Object, who: str | None) -> None:
    api.user = user
    api.answer(*[refused(401, "Unauthorized")] * 4)

    async def test(http: Connection) -> None:
        for _ in range(2):
            with pytest.raises(ApiError, match="Unauthorized") as refusal:
                await http.call("GET", "/", {})
            assert refusal.value.code == 401
        assert await http.call("GET", "/", {}) == {}

    api.run(test)
    assert {asked.who for asked in api.asked} == {who}


class Plugin:
    """A credential plugin that gives the token in a file, and counts how often it was run."""

    def __init__(self, directory: Path) -> None:
        self.token = directory / "plugin-token"
        self._runs = directory / "runs"
        self._script = directory / "plugin.sh"
        self._script.write_text(
            "#!/bin/sh\n"
            'echo ran >>"$RUNS"\n'
            'token=$(cat "$1") || exit 3\n'
            'echo "{\\"apiVersion\\": \\"client.authentication.k8s.io/v1beta1\\", \\"kind\\": \\"ExecCredential\\","\n'
            'echo " \\"status\\": {\\"token\\": \\"$token\\"}}"\n'
        )
        self._script.chmod(0o755)

    @property
    def runs(self) -> int:
        return len(self._runs.read_text().splitlines())

    @property
    def user(self) -> Object:
        plugin = {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": str(self._script),
            "args": [str(self.token)],
            "env": [{"name": "RUNS", "value": str(self._runs)}],
        }
        return {"exec": plugin}


@pytest.fixture
def plugin(api: ApiServer) -> Plugin:
    made = Plugin(api.directory)
    made.token.write_text("old")
    api.user = made.user
    return made


def test_a_plugin_gives_a_token(api: ApiServer, plugin: Plugin) -> None:
    api.answer(said({}), said({}), refused(401), said({"found": 1}))

    async def test(http: Connection) -> None:
        await http.call("GET", "/", {})
        plugin.token.write_text("new")
        await http.call("GET", "/", {})
        assert plugin.runs == 1
        assert await http.call("GET", "/", {}) == {"found": 1}
        await http.call("GET", "/", {})

    api.run(test)
    assert [asked.who for asked in api.asked] == ["Bearer old"] * 3 + ["Bearer new"] * 2
    assert plugin.runs == 2


def test_nobody_asks_before_it_is_known_who(api: ApiServer, plugin: Plugin) -> None:
    async def test(http: Connection) -> None:
        await asyncio.gather(*(http.call("GET", "/", {}) for _ in range(5)))

    api.run(test)
    assert [asked.who for asked in api.asked] == ["Bearer old"] * 5
    assert plugin.runs == 1


def test_a_token_that_many_were_refused_with_is_replaced_once(api: ApiServer, plugin: Plugin) -> None:
    everybody = asyncio.Barrier(5)

    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        await everybody.wait()
        return await refused(401)(request)

    api.answer(said({}), *[refuse] * 5)

    async def test(http: Connection) -> None:
        await http.call("GET", "/", {})
        plugin.token.write_text("new")
        await asyncio.gather(*(http.call("GET", "/", {}) for _ in range(5)))

    api.run(test)
    assert [asked.who for asked in api.asked] == ["Bearer old"] * 6 + ["Bearer new"] * 5
    assert plugin.runs == 2


def test_a_plugin_that_fails_is_run_again(api: ApiServer, plugin: Plugin) -> None:
    plugin.token.unlink()

    async def test(http: Connection) -> None:
        await fails(http, ApiError, "no credentials: .*returned 3: .*plugin-token")
        plugin.token.write_text("found")
        assert await http.call("GET", "/", {}) == {}
        # It is kept while it can't be replaced.
        plugin.token.unlink()
        api.answer(refused(401))
        await fails(http, ApiError, "no credentials")
        plugin.token.write_text("new")
        api.answer(refused(401))
        assert await http.call("GET", "/", {}) == {}

    api.run(test)
    assert [asked.who for asked in api.asked] == ["Bearer found"] * 3 + ["Bearer new"]


@pytest.mark.parametrize("output", ["", "token", "[]", "null", '"token"', "{}", '{"status": null}', '{"status": {}}'])
def test_a_plugin_that_says_something_else(api: ApiServer, output: str) -> None:
    api.user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "echo", "args": [output]}}

    async def test(http: Connection) -> None:
        for _ in range(2):
            await fails(http, ApiError, "no credentials")

    api.run(test)
    assert api.asked == []


@pytest.mark.parametrize(
    "user",
    [
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "/no/such/program"}},
        {"exec": {"apiVersion": "unheard.of/v1", "command": "true"}},
        {"tokenFile": "/no/such/file"},
        {"tokenFile": "/"},
    ],
)
def test_credentials_that_can_not_be_had(api: ApiServer, user: Object) -> None:
    api.user = user

    async def test(http: Connection) -> None:
        for _ in range(2):
            with pytest.raises(ApiError, match="no credentials") as refusal:
                await http.call("GET", "/", {})
            assert refusal.value.code == 401
            with pytest.raises(ApiError, match="no credentials"):
                await anext(http.watch("/", {}))

    api.run(test)
    assert api.asked == []


# Watches.


def test_a_watch_asks_for_its_end(api: ApiServer) -> None:
    async def test(http: Connection) -> None:
        assert [event async for event in http.watch("/api/v1/pods", {"labelSelector": "a=b,c"})] == []

    api.answer(streamed())
    api.run(test)
    (asked,) = api.asked
    assert (asked.method, asked.path) == ("GET", "/api/v1/pods")
    assert asked.query == {"labelSelector": "a=b,c", "watch": "true", "timeoutSeconds": "300"}
    # The server ends it before the client takes it for dead.
    assert connection._WATCHING.total is None
    assert connection._WATCHING.sock_read == 330


EVENTS = [
    {"type": "ADDED", "object": {"metadata": {"name": "first"}}},
    {"type": "MODIFIED", "object": {"message": "a\u0085b\u2028c\u2029d\r\n\x1ce\ffü€😀"}},
    {"type": "DELETED", "object": {"metadata": {"name": "last"}}},
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_events_however_they_are_cut(api: ApiServer, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    # What the network would do by chance.
    monkeypatch.setattr(aiohttp.StreamReader, "iter_any", lambda stream: stream.iter_chunked(size))
    data = b"".join(map(line, EVENTS))
    assert "\u2028".encode() in data
    api.answer(streamed(*(data[start : start + 5] for start in range(0, len(data), 5))), streamed(data))

    async def test(http: Connection) -> None:
        for _ in range(2):
            assert [event async for event in http.watch("/", {})] == EVENTS

    api.run(test)


def test_an_event_is_there_once_it_is_whole(api: ApiServer) -> None:
    async def test(http: Connection) -> None:
        first, second, third = map(line, EVENTS)
        go_on = asyncio.Semaphore(0)

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for piece in (first + second[:40], second[40:] + third[:-1], b"\n"):
                await response.write(piece)
                await go_on.acquire()
            return response

        api.answer(answer)
        events = http.watch("/", {})
        for event in EVENTS:
            assert await anext(events) == event
            go_on.release()
        with pytest.raises(StopAsyncIteration):
            await anext(events)

    api.run(test)


def test_a_large_event(api: ApiServer) -> None:
    event = {"type": "ADDED", "object": {"data": "x" * 1_500_000}}
    api.answer(streamed(line(EVENTS[0]) + line(event), line(EVENTS[2])))

    async def test(http: Connection) -> None:
        assert [event async for event in http.watch("/", {})] == [EVENTS[0], event, EVENTS[2]]

    api.run(test)


@pytest.mark.parametrize("levels", [500, 5000, 9990])
def test_an_object_that_is_nested_as_deeply_as_an_api_server_lets_it(api: ApiServer, levels: int) -> None:
    """A list without it would be one without all others, too."""
    text = b'{"items": [{"a": 1}, ' + b'{"a":' * levels + b"1" + b"}" * levels + b"]}"
    limit = sys.getrecursionlimit()
    api.answer(raw(text), streamed(text + b"\n"))

    async def test(http: Connection) -> None:
        answers = [await http.call("GET", "/", {}), *[event async for event in http.watch("/", {})]]
        for answer in answers:
            first, second = answer["items"]
            assert first == {"a": 1}
            depth = 0
            while second != 1:
                second, depth = second["a"], depth + 1
            assert depth == levels

    api.run(test)
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize("rest", [line(EVENTS[1])[:20], line(EVENTS[1])[:-1]])
def test_an_event_that_is_cut_off_at_the_end_is_none(api: ApiServer, rest: bytes) -> None:
    api.answer(streamed(line(EVENTS[0]) + rest))

    async def test(http: Connection) -> None:
        assert [event async for event in http.watch("/", {})] == EVENTS[:1]

    api.run(test)


def test_a_watch_that_breaks_off(api: ApiServer) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = await streamed(line(EVENTS[0]))(request)
        assert request.transport
        request.transport.close()
        return response

    api.answer(answer)

    async def test(http: Connection) -> None:
        events = http.watch("/", {})
        assert await anext(events) == EVENTS[0]
        with pytest.raises(client.FAILURES):
            await anext(events)

    api.run(test)


def test_a_watch_that_nobody_follows_any_more_is_let_go(api: ApiServer) -> None:
    async def test(http: Connection) -> None:
        hanging = Hanging(line(EVENTS[0]))
        api.answer(hanging)
        events = http.watch("/", {})
        assert await anext(events) == EVENTS[0]
        assert not hanging.gone.is_set()
        await events.aclose()
        await hanging.gone.wait()
        await http.call("GET", "/", {})

    api.run(test)


def test_a_call_that_is_cancelled_is_let_go(api: ApiServer) -> None:
    async def test(http: Connection) -> None:
        hanging, asked = Hanging(), asyncio.Event()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            asked.set()
            return await hanging(request)

        api.answer(answer)
        task = asyncio.create_task(http.call("POST", "/", {}, {"a": 1}))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await hanging.gone.wait()
        assert await http.call("GET", "/", {}) == {}

    api.run(test)


# What goes wrong on the way.


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nWarning: " + b"a" * 10_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 503 No\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
def test_a_broken_answer(api: ApiServer, answer: bytes) -> None:
    against_bytes(api, answer, client.FAILURES)


def test_a_server_that_is_not_there(api: ApiServer) -> None:
    async def test(_: Connection) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with elsewhere(api, address) as http:
            await fails(http, aiohttp.ClientConnectorError)
            with pytest.raises(client.FAILURES):
                await anext(http.watch("/", {}))

    api.run(test)


@pytest.mark.parametrize("user", [{}, {"token": "static"}])
@pytest.mark.parametrize("address", ["kubernetes:6443", "127.0.0.1", "http://", "http://a..b", "ftp://127.0.0.1"])
def test_an_address_that_is_none(api: ApiServer, address: str, user: Object) -> None:
    api.user = user

    async def test(_: Connection) -> None:
        async with elsewhere(api, address) as http:
            await fails(http, client.FAILURES)

    api.run(test)


@pytest.mark.parametrize("token", ["a\nb", "a\0b", "a\r\nX: y"])
def test_a_token_that_is_none(api: ApiServer, token: str) -> None:
    api.user = {"token": token}

    async def test(http: Connection) -> None:
        await fails(http, client.FAILURES)
        with pytest.raises(client.FAILURES):
            await anext(http.watch("/", {}))

    api.run(test)
    assert api.asked == []


@pytest.mark.parametrize("sent", [(), (b'{"a": ',)])
def test_a_server_that_falls_silent(api: ApiServer, monkeypatch: pytest.MonkeyPatch, sent: tuple[bytes, ...]) -> None:
    opened: Any = Connection.opened
    *before, usual = opened.__wrapped__.__defaults__
    assert usual.total == 15

    async def test(http: Connection) -> None:
        # Whether a request arrives before its time is over, or not.
        api.usual = Hanging(*sent)
        with monkeypatch.context() as patches:
            patches.setattr(opened.__wrapped__, "__defaults__", (*before, aiohttp.ClientTimeout(total=0.05)))
            patches.setattr(connection, "_WATCHING", aiohttp.ClientTimeout(sock_read=0.05))
            await fails(http, TimeoutError)
            with pytest.raises(TimeoutError):
                await http.call("PATCH", "/", {}, {"a": 1})
            # Not for how long it goes on, but for how long it is silent.
            with pytest.raises(aiohttp.SocketTimeoutError):
                await anext(http.watch("/", {}))
        api.usual = said({"found": 1})
        assert await http.call("GET", "/", {}) == {"found": 1}

    api.run(test)


def test_closing(api: ApiServer) -> None:
    async def test(http: Connection) -> None:
        # Never used.
        await http.close()
        await http.call("GET", "/", {})
        await http.close()
        await http.close()

    api.run(test)


# TLS.


def test_tls(api: ApiServer, pairs: list[Pair]) -> None:
    api.tls = pairs[0].context()
    api.cluster = {"certificate-authority-data": encoded(pairs[0].certificate)}
    api.answer(said({"found": 1}), streamed(*map(line, EVENTS)))

    async def test(http: Connection) -> None:
        assert await http.call("GET", "/", {}) == {"found": 1}
        assert [event async for event in http.watch("/", {})] == EVENTS

    api.run(test)
    assert [asked.who for asked in api.asked] == ["Bearer static"] * 2


def test_a_watch_over_tls_is_let_go(api: ApiServer, pairs: list[Pair]) -> None:
    api.tls = pairs[0].context()
    api.cluster = {"certificate-authority": str(pairs[0].certificate)}

    async def test(http: Connection) -> None:
        hanging = Hanging(line(EVENTS[0]))
        api.answer(hanging)
        events = http.watch("/", {})
        assert await anext(events) == EVENTS[0]
        await events.aclose()
        await hanging.gone.wait()

    api.run(test)


@pytest.mark.parametrize("cluster", [{}, {"certificate-authority": "another"}])
def test_a_server_that_nobody_vouches_for(api: ApiServer, pairs: list[Pair], cluster: Object) -> None:
    api.tls = pairs[0].context()
    api.cluster = {key: str(pairs[1].certificate) for key in cluster}

    async def test(http: Connection) -> None:
        await fails(http, client.FAILURES, "certificate")

    api.run(test)
    assert api.asked == []


def test_a_server_that_need_not_be_vouched_for(api: ApiServer, pairs: list[Pair]) -> None:
    api.tls = pairs[0].context()

    async def test(http: Connection) -> None:
        assert await http.call("GET", "/", {}) == {}

    api.run(test)


@pytest.mark.parametrize(("own", "accepted"), [([0], True), ([1], False), ([], False)])
def test_a_certificate_says_who_asks(api: ApiServer, pairs: list[Pair], own: list[int], accepted: bool) -> None:
    api.tls = pairs[0].context(asks=True)
    api.cluster = {"certificate-authority-data": encoded(pairs[0].certificate)}
    api.user = {}
    for number in own:
        certificate, key = map(encoded, pairs[number])
        api.user = {"client-certificate-data": certificate, "client-key-data": key}

    async def test(http: Connection) -> None:
        if accepted:
            assert await http.call("GET", "/", {}) == {}
        else:
            await fails(http, client.FAILURES)

    api.run(test)
    assert len(api.asked) == accepted
    assert all(asked.who is None for asked in api.asked)


def test_tls_where_there_is_none(api: ApiServer) -> None:
    async def test(_: Connection) -> None:
        async with elsewhere(api, f"https://127.0.0.1:{api.port}") as http:
            await fails(http, client.FAILURES)

    api.run(test)


def test_no_tls_where_there_is(api: ApiServer, pairs: list[Pair]) -> None:
    api.tls = pairs[0].context()

    async def test(_: Connection) -> None:
        async with elsewhere(api, f"http://127.0.0.1:{api.port}") as http:
            await fails(http, client.FAILURES)

    api.run(test)


def test_in_the_cluster(api: ApiServer, pairs: list[Pair]) -> None:
    api.tls = pairs[0].context()
    api.is_around = True
    api.account.mkdir()
    shutil.copy(pairs[0].certificate, api.account / "ca.crt")
    (api.account / "namespace").write_text("trireme-system")
    token = api.account / "token"
    token.write_text("old")
    api.answer(said({}), refused(401))

    async def test(http: Connection) -> None:
        await http.call("GET", "/", {})
        token.write_text("new")
        await http.call("GET", "/", {})

    api.run(test)
    assert [asked.who for asked in api.asked] == ["Bearer old"] * 2 + ["Bearer new"]


# Where to find it.


@pytest.mark.parametrize("config", [None, {"clusters": [], "contexts": []}, {"current-context": "gone"}])
def test_no_address(api: ApiServer, monkeypatch: pytest.MonkeyPatch, config: Object | None) -> None:
    path = api.directory / "other"
    monkeypatch.setenv("KUBECONFIG", str(path))
    if config is not None:
        path.write_text(yaml.safe_dump({"clusters": [], "contexts": [], **config}))
    with pytest.raises(SystemExit, match="name a kubeconfig"):
        Connection()


PROXY, OTHER = "http://proxy.example:3128", "http://other.example:3128"


@pytest.mark.parametrize(
    ("server", "environment", "expected"),
    [
        ("https://10.0.0.1:6443", {}, None),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://10.0.0.1:6443", {"https_proxy": PROXY}, PROXY),
        ("https://10.0.0.1:6443", {"https_proxy": PROXY, "HTTPS_PROXY": OTHER}, PROXY),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": ""}, None),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": "http://anna:secret@proxy:1"}, "http://anna:secret@proxy:1"),
        # Each scheme has its own.
        ("https://10.0.0.1:6443", {"HTTP_PROXY": PROXY}, None),
        ("http://10.0.0.1:6443", {"HTTP_PROXY": PROXY, "HTTPS_PROXY": OTHER}, PROXY),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "10.0.0.1"}, None),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "10.0.0.1:6443"}, None),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "10.0.0.1:443"}, PROXY),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "10.0.0.2, 10.0.0.1"}, None),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "10.0.0.10"}, PROXY),
        ("https://kube.team.example/path", {"HTTPS_PROXY": PROXY, "NO_PROXY": "team.example"}, None),
        ("https://kube.team.example/path", {"HTTPS_PROXY": PROXY, "NO_PROXY": ".team.example"}, None),
        ("https://kube.team.example/path", {"HTTPS_PROXY": PROXY, "no_proxy": "am.example"}, PROXY),
    ],
)
def test_the_proxy_of_the_environment(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch, server: str, environment: dict[str, str], expected: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert connection._proxy(server) == expected


def test_a_proxy_is_asked(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(_: Connection) -> None:
        monkeypatch.setenv("HTTP_PROXY", f"anna:secret@127.0.0.1:{api.port}")
        async with elsewhere(api, "http://kubernetes.invalid:8080/prefix") as http:
            await http.call("GET", "/api/v1/pods", {"a": "b"})

    api.run(test)
    (asked,) = api.asked
    assert asked.target == "http://kubernetes.invalid:8080/prefix/api/v1/pods?a=b"
    assert asked.who == "Bearer static"
    assert asked.headers["Proxy-Authorization"] == "Basic " + b64encode(b"anna:secret").decode()
