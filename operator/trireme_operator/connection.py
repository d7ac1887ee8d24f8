"""HTTP to the API server: aiohttp, with the address and credentials that lightkube finds."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
import msgspec
from lightkube import ConfigError, KubeConfig
from lightkube.config import client_adapter

JSON = "application/json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"

WATCH_SECONDS = 300
"""How long the API server keeps a watch open before it is made anew."""

_TIMEOUT = aiohttp.ClientTimeout(total=15)
# Silence for longer than a watch lasts is a connection that is dead.
_WATCHING = aiohttp.ClientTimeout(sock_connect=15, sock_read=WATCH_SECONDS + 30)
_UNAUTHORIZED = 401
# The API server reads 10,000 levels of JSON; who manages which of them is told some levels deeper.
_DEEPEST = 12_000


class ApiError(Exception):
    """The API server answers that it does not do what it was asked.

    Args:
        code: the status of HTTP.
        message: the API server's.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


FAILURES = (ApiError, aiohttp.ClientError, TimeoutError)
"""What a call raises when the API server refuses it or can't be reached."""


class Connection:
    """A pooled connection to the API server of the kubeconfig or the pod; use it in one event loop.

    lightkube's own client would do, but an apply takes it 1.7 ms of CPU time, and 1.1 this way.

    Args:
        answered: called for each request with its method, the status of its answer, and the seconds until that; None
            where no answer came.
    """

    def __init__(self, answered: Callable[[str, int | None, float], None] = lambda *_: None) -> None:
        self._answered = answered
        try:
            config = KubeConfig.from_env().get()
        except ConfigError as error:
            raise SystemExit(f"{error}: name a kubeconfig and its context, or run inside a cluster") from error
        assert config
        found = client_adapter.ConnectionParams().httpx_params(config)
        self._server, self._tls, self._auth = found["base_url"].rstrip("/"), found["verify"], found["auth"]
        self._who: dict[str, str] | None = None
        self._asking_who = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self, method: str, path: str, query: Mapping[str, str], body: Any = None, content_type: str = JSON
    ) -> dict[str, Any]:
        """Send a request and return the JSON of the answer.

        Raises:
            ApiError: the API server refuses.
            ClientError: it can't be reached, or does not answer in JSON.
            TimeoutError: it takes longer than 15 s.
        """
        data = None if body is None else msgspec.json.encode(body)
        async with self.opened(method, path, query, data, content_type) as answer:
            return _decoded(await answer.read())

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[dict[str, Any]]:
        """Yield the events of a watch; raises as `call` does."""
        query = {**query, "watch": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        async with self.opened("GET", path, query, timeout=_WATCHING) as answer:
            rest = b""
            async for piece in answer.content.iter_any():
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    yield _decoded(line)

    @asynccontextmanager
    async def opened(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        data: bytes | None = None,
        content_type: str = JSON,
        timeout: aiohttp.ClientTimeout = _TIMEOUT,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and hold its answer open; raises as `call` does."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls), proxy=_proxy(self._server)
            )
        who = self._who or await self._authorized(None)
        for last in (False, True):
            headers = {**who, "Content-Type": content_type} if data else who
            # A redirect would turn a write into a read.
            request = self._session.request(
                method,
                self._server + path,
                params=query,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            )
            since, status = time.monotonic(), None
            try:
                answer = await request
                status = answer.status
            except ValueError as error:
                # Of an address or a header that can't be sent.
                raise aiohttp.ClientError(str(error)) from error
            finally:
                self._answered(method, status, time.monotonic() - since)
            async with answer:
                if answer.status == _UNAUTHORIZED and not last:
                    who = await self._authorized(refused=who)
                    continue
                if not 200 <= answer.status < 300:
                    raise ApiError(answer.status, await _message(answer))
                yield answer
                return

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()

    async def _authorized(self, refused: dict[str, str] | None) -> dict[str, str]:
        """Return the header that says who asks; anew if it was refused, for tokens are replaced from time to time."""
        async with self._asking_who:
            # Whoever had to wait finds what the one before got.
            if self._who is None or self._who is refused:
                try:
                    self._who = await self._credentials(refused is not None)
                except (ConfigError, OSError, LookupError, TypeError, ValueError) as error:
                    raise ApiError(_UNAUTHORIZED, f"no credentials: {error}") from error
            return self._who

    async def _credentials(self, refused: bool) -> dict[str, str]:
        if self._auth is None:
            return {}
        async with aclosing(self._auth.async_auth_flow(httpx2.Request("GET", self._server))) as flow:
            request = await anext(flow)
            if refused:
                # Some kinds have no others to give.
                with suppress(StopAsyncIteration):
                    request = await flow.asend(httpx2.Response(_UNAUTHORIZED))
            return {"Authorization": request.headers["Authorization"]}


def _proxy(server: str) -> str | None:
    """Return the proxy that the environment wants; aiohttp would look again, in a thread, at every request."""
    address = urlsplit(server)
    proxy = None if proxy_bypass(address.netloc) else getproxies().get(address.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        try:
            found: dict[str, Any] = msgspec.json.decode(data)
        except RecursionError:
            # One object of a list, in a field that takes anything: the others must not go unseen for it.
            with _recursing(_DEEPEST):
                found = msgspec.json.decode(data)
    except ValueError as error:
        raise aiohttp.ClientPayloadError(f"the answer is no JSON: {error}") from error
    return found


@contextmanager
def _recursing(levels: int) -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(levels)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


async def _message(answer: aiohttp.ClientResponse) -> str:
    text = (await answer.read()).decode(errors="replace")
    try:
        return str(msgspec.json.decode(text)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return text or answer.reason or f"status {answer.status}"
