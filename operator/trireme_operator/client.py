"""The Kubernetes client: all that the operator says to the API server."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import httpx2
from lightkube import AsyncClient, KubeConfig
from lightkube.config import client_adapter
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.types import PatchType

from trireme_operator import metrics
from trireme_operator.api import EVENT, KINDS, LEASE, Key, Kind, Object
from trireme_operator.plan.action import Delete, Patch

MANAGER = "trireme-operator"
WATCH_SECONDS = 300
"""How long the API server keeps a watch open before it is made anew."""

_BAD_REQUEST = 400
_CONFLICT = 409
_NOT_FOUND = 404

_TOO_MANY = 429
_INVALID = 422
_LOG_BYTES = 16 * 1024


# Once for the process: lightkube keeps a registry of its resources.
_RESOURCES = {kind.kind: create_namespaced_resource(*kind) for kind in KINDS.values()}


class Refused(Exception):
    """The API server refuses a write, and will again until something changes.

    Args:
        about: kind and name of the object.
        message: the API server's.
        for_good: whether only another object could be accepted: it is invalid, or a fixed field would change.
        reason: why, in one word, where that is known.
    """

    def __init__(self, about: str, message: str, for_good: bool, reason: str = "") -> None:
        super().__init__(f"{about}: {message}")
        self.for_good = for_good
        self.reason = reason


FAILURES = (ApiError, httpx2.HTTPError, Refused)
"""What a call raises when the API server refuses it or can't be reached."""


class Client(Protocol):
    """What reconciling asks of a client; every call may raise one of `FAILURES`."""

    async def apply(self, item: Object) -> Object:
        """Apply an object, taking over its fields; return it as it is then."""

    async def create(self, item: Object) -> bool:
        """Create an object; False when one of its name is there already."""

    async def patch(self, patch: Patch) -> None:
        """Change an object, if it is there."""

    async def delete(self, delete: Delete) -> None:
        """Delete an object and what it owns, if it is there and still the one that was seen."""

    async def write_status(self, key: Key, status: Object) -> None:
        """Merge into the status of a cluster or job, if it is there; None removes a field."""

    async def log_tail(self, namespace: str, pod: str, lines: int) -> str:
        """Return the last lines of a pod's log; nothing if it is gone."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return an object, if it is there."""

    async def failed_create(self, item: Object) -> str | None:
        """Return why a controller last could not make pods, by its event; None if it does not say so."""

    async def record(self, event: Object) -> None:
        """Record an event."""


class LightkubeClient:
    """The client that talks to an API server.

    Args:
        namespace: the only namespace to work in; None for all.
    """

    def __init__(self, namespace: str | None) -> None:
        config, timeout = KubeConfig.from_env().get(), httpx2.Timeout(15)
        if config is None:
            raise SystemExit("the kubeconfig has no current context: name one, or run inside a cluster")
        self._client = AsyncClient(config=config, field_manager=MANAGER, timeout=timeout)
        self._http = client_adapter.AsyncClient(config, client_adapter.ConnectionParams(timeout=timeout))
        self._namespace = namespace or "*"

    async def list(self, kind: Kind, selector: str | None) -> tuple[list[Object], str]:
        """Return all objects of a kind, and the version of the list."""
        _count("list", kind.kind)
        found = self._client.list(_RESOURCES[kind.kind], namespace=self._namespace, labels=_labels(selector))
        items = [_complete(item, kind) async for item in found]
        return items, str(found.resourceVersion)

    async def watch(self, kind: Kind, selector: str | None, version: str) -> AsyncIterator[tuple[str, Object]]:
        """Yield what changes after a version of the list: ADDED, MODIFIED or DELETED, and the object.

        Raises:
            ApiError: with code 410 when the version is too old, and the list has to be taken anew.
        """
        watch = self._client.watch(
            _RESOURCES[kind.kind],
            namespace=self._namespace,
            labels=_labels(selector),
            resource_version=version,
            server_timeout=WATCH_SECONDS,
        )
        async for change, item in watch:
            yield change, _complete(item, kind)

    async def apply(self, item: Object) -> Object:
        """Apply an object, taking over its fields; return it as it is then."""
        _count("apply", item["kind"])
        with _refusals(item):
            applied = dict(await self._client.apply(self._typed(item), force=True))
        return _complete(applied, KINDS[item["kind"]])

    async def create(self, item: Object) -> bool:
        """Create an object; False when one of its name is there already."""
        _count("create", item["kind"])
        with _refusals(item):
            try:
                await self._client.create(self._typed(item))
            except ApiError as error:
                if error.status.code != _CONFLICT:
                    raise
                return False
        return True

    async def patch(self, patch: Patch) -> None:
        """Change an object, if it is there."""
        _count("patch", patch.kind.kind)
        await self._merge(_RESOURCES[patch.kind.kind], patch.namespace, patch.name, patch.body)

    async def delete(self, delete: Delete) -> None:
        """Delete an object and what it owns, if it is there and still the one that was seen."""
        kind = delete.kind
        _count("delete", kind.kind)
        root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        answer = await self._http.request(
            "DELETE",
            f"{root}/namespaces/{delete.namespace}/{kind.plural}/{delete.name}",
            json={"propagationPolicy": "Background", "preconditions": {"uid": delete.uid}},
        )
        if answer.status_code not in (_NOT_FOUND, _CONFLICT):
            answer.raise_for_status()

    async def write_status(self, key: Key, status: Object) -> None:
        """Merge into the status of a cluster or job, if it is there; None removes a field."""
        _count("patch", f"{key.kind}/status")
        await self._merge(_RESOURCES[key.kind].Status, key.namespace, key.name, {"status": status})

    async def _merge(self, resource: Any, namespace: str, name: str, body: Object) -> None:
        try:
            await self._client.patch(resource, name, body, namespace=namespace, patch_type=PatchType.MERGE)
        except ApiError as error:
            if error.status.code != _NOT_FOUND:
                raise

    async def log_tail(self, namespace: str, pod: str, lines: int) -> str:
        """Return the last lines of a pod's log; nothing if it is gone."""
        _count("get", "Pod/log")
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        tail = b""
        # Read in pieces, because a line may be as long as a program likes.
        async with self._http.stream("GET", path, params={"tailLines": lines}) as answer:
            # A container that never started has no log, which is a bad request.
            if answer.status_code in (_NOT_FOUND, _BAD_REQUEST):
                return ""
            answer.raise_for_status()
            async for piece in answer.aiter_bytes():
                tail = (tail + piece)[-_LOG_BYTES:]
        return tail.decode(errors="replace")

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return an object, if it is there."""
        _count("get", kind.kind)
        try:
            return _complete(dict(await self._client.get(_RESOURCES[kind.kind], name, namespace=namespace)), kind)
        except ApiError as error:
            if error.status.code != _NOT_FOUND:
                raise
            return None

    async def failed_create(self, item: Object) -> str | None:
        """Return why a controller last could not make pods, by its event; None if it does not say so."""
        _count("list", EVENT.kind)
        fields = {"involvedObject.uid": item["metadata"]["uid"], "reason": "FailedCreate"}
        found = self._client.list(_RESOURCES[EVENT.kind], namespace=item["metadata"]["namespace"], fields=fields)
        events = [dict(event) async for event in found]
        return str(max(events, key=_last_seen).get("message", "")) if events else None

    async def record(self, event: Object) -> None:
        """Record an event."""
        _count("create", EVENT.kind)
        await self._client.create(self._typed(event))

    async def put_lease(self, lease: Object) -> bool:
        """Create or replace a Lease; False when another one was quicker."""
        _count("update", LEASE.kind)
        write = self._client.replace if "resourceVersion" in lease["metadata"] else self._client.create
        try:
            await write(self._typed(lease))
        except ApiError as error:
            if error.status.code != _CONFLICT:
                raise
            return False
        return True

    def _typed(self, item: Object) -> Any:
        return _RESOURCES[item["kind"]].from_dict(item)


@contextmanager
def _refusals(item: Object) -> Iterator[None]:
    """Tell a refusal, which needs something else to change, from a failure that may pass by itself."""
    try:
        yield
    except ApiError as error:
        code = error.status.code or 0
        if code in (_CONFLICT, _TOO_MANY) or not _BAD_REQUEST <= code < 500:
            raise
        about = f"{item['kind']} {item['metadata']['name']}"
        for_good = code in (_BAD_REQUEST, _INVALID)
        raise Refused(about, error.status.message or str(error), for_good, "Invalid" if for_good else "") from error


def _count(verb: str, kind: str) -> None:
    metrics.API_REQUESTS.labels(verb, kind).inc()


def _last_seen(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _labels(selector: str | None) -> dict[str, Any] | None:
    if selector is None:
        return None
    name, _, value = selector.partition("=")
    return {name: value}


def _complete(item: Object, kind: Kind) -> Object:
    """Items of a list say neither apiVersion nor kind."""
    return {**item, "apiVersion": kind.api_version, "kind": kind.kind}
