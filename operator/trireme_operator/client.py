"""The Kubernetes client: all that the operator says to the API server."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Protocol

from trireme_operator import connection, metrics
from trireme_operator.api import (
    DELETION_COST,
    EVENT,
    KINDS,
    LEASE,
    POD,
    SCALER,
    WORKER_CLUSTER,
    WORKER_GROUP,
    Key,
    Kind,
    Object,
    share_texts,
)
from trireme_operator.connection import APPLY, MERGE, ApiError, Connection
from trireme_operator.plan.action import Delete, Patch

MANAGER = "trireme-operator"

_MANAGED: dict[str, str] = {"fieldManager": MANAGER}
_BAD_REQUEST = 400
_NOT_FOUND = 404
_CONFLICT = 409
_GONE = 410
_INVALID = 422
_TOO_MANY = 429
_LOG_BYTES = 64 * 1024


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


FAILURES = (*connection.FAILURES, Refused)
"""What a call raises when the API server refuses it or can't be reached."""


class Client(Protocol):
    """What reconciling asks of a client; every call may raise one of `FAILURES`."""

    async def apply(self, item: Object) -> Object:
        """Apply an object, taking over its fields; return it as it is then."""

    async def check(self, item: Object) -> None:
        """Ask whether an object could be applied, and change nothing."""

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

    async def failed_mount(self, pod: Object) -> str | None:
        """Return why a pod's volume last could not be mounted, by its event; None if it does not say so."""

    async def record(self, event: Object) -> None:
        """Record an event."""


class ClusterClient:
    """The client that talks to an API server.

    Args:
        namespace: the only namespace to work in; None for all.
    """

    def __init__(self, namespace: str | None) -> None:
        self._http = Connection(_answered)
        self._namespace = namespace

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()

    async def list(self, kind: Kind, selector: str | None) -> tuple[list[Object], str]:
        """Return all objects of a kind, and the version of the list."""
        _count("list", kind.kind)
        found = await self._http.call("GET", _path(kind, self._namespace), _selected(selector))
        # Items of a list say neither apiVersion nor kind.
        items = [_lean({**item, "apiVersion": kind.api_version, "kind": kind.kind}) for item in found["items"]]
        return items, found["metadata"]["resourceVersion"]

    async def watch(self, kind: Kind, selector: str | None, version: str) -> AsyncIterator[tuple[str, Object]]:
        """Yield what changes after a version of the list: ADDED, MODIFIED or DELETED, and the object.

        Raises:
            ApiError: the list has to be taken anew, such as when its version is too old.
        """
        query = {"resourceVersion": version, **_selected(selector)}
        async with aclosing(self._http.watch(_path(kind, self._namespace), query)) as events:
            async for event in events:
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", _GONE), event["object"].get("message", "unknown"))
                yield event["type"], _lean(event["object"])

    async def apply(self, item: Object) -> Object:
        """Apply an object, taking over its fields; return it as it is then."""
        _count("apply", item["kind"])
        with _refusals(item):
            return _lean(await self._http.call("PATCH", _path_of(item), {**_MANAGED, "force": "true"}, item, APPLY))

    async def check(self, item: Object) -> None:
        """Ask whether an object could be applied, and change nothing."""
        _count("check", item["kind"])
        query = {**_MANAGED, "force": "true", "dryRun": "All"}
        with _refusals(item):
            await self._http.call("PATCH", _path_of(item), query, item, APPLY)

    async def create(self, item: Object) -> bool:
        """Create an object; False when one of its name is there already."""
        _count("create", item["kind"])
        path = _path(KINDS[item["kind"]], item["metadata"]["namespace"])
        with _refusals(item):
            try:
                await self._http.call("POST", path, _MANAGED, item)
            except ApiError as error:
                if error.code != _CONFLICT:
                    raise
                return False
        return True

    async def patch(self, patch: Patch) -> None:
        """Change an object, if it is there."""
        _count("patch", patch.kind.kind)
        await self._merge(_path(patch.kind, patch.namespace, patch.name), patch.body)

    async def delete(self, delete: Delete) -> None:
        """Delete an object and what it owns, if it is there and still the one that was seen."""
        _count("delete", delete.kind.kind)
        options = {"propagationPolicy": "Background", "preconditions": {"uid": delete.uid}}
        try:
            await self._http.call("DELETE", _path(delete.kind, delete.namespace, delete.name), {}, options)
        except ApiError as error:
            if error.code not in (_NOT_FOUND, _CONFLICT):
                raise

    async def write_status(self, key: Key, status: Object) -> None:
        """Merge into the status of a cluster or job, if it is there; None removes a field."""
        _count("patch", f"{key.kind}/status")
        await self._merge(_path(KINDS[key.kind], key.namespace, key.name) + "/status", {"status": status})

    async def _merge(self, path: str, body: Object, manager: str = MANAGER) -> None:
        try:
            await self._http.call("PATCH", path, {"fieldManager": manager}, body, MERGE)
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise

    async def scale(self, cluster: Key, replicas: int) -> None:
        """Set the size of a WorkerCluster or WorkerGroup, if it is there."""
        _count("patch", f"{cluster.kind}/scale")
        path = _path(KINDS[cluster.kind], cluster.namespace, cluster.name) + "/scale"
        await self._merge(path, {"spec": {"replicas": replicas}}, SCALER)

    async def set_deletion_cost(self, namespace: str, pod: str, cost: int) -> None:
        """Say how dear a pod is, if it is there."""
        _count("patch", "Pod/status")
        # By way of its status, because who may patch a pod may change what it runs.
        path = _path(POD, namespace, pod) + "/status"
        await self._merge(path, {"metadata": {"annotations": {DELETION_COST: str(cost)}}}, SCALER)

    async def log_tail(self, namespace: str, pod: str, lines: int) -> str:
        """Return the last lines of a pod's log; nothing if it is gone."""
        _count("get", "Pod/log")
        path = f"{_path(POD, namespace, pod)}/log"
        tail = b""
        try:
            # Read in pieces, because a line may be as long as a program likes.
            async with self._http.opened("GET", path, {"tailLines": str(lines)}) as answer:
                async for piece in answer.content.iter_chunked(_LOG_BYTES):
                    tail = (tail + piece)[-_LOG_BYTES:]
        except ApiError as error:
            # A container that never started has no log, which is a bad request.
            if error.code not in (_NOT_FOUND, _BAD_REQUEST):
                raise
        return tail.decode(errors="replace")

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return an object, if it is there."""
        _count("get", kind.kind)
        try:
            return await self._http.call("GET", _path(kind, namespace, name), {})
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise
            return None

    async def failed_create(self, item: Object) -> str | None:
        """Return why a controller last could not make pods, by its event; None if it does not say so."""
        return await self._last_event(item, "FailedCreate")

    async def failed_mount(self, pod: Object) -> str | None:
        """Return why a pod's volume last could not be mounted, by its event; None if it does not say so."""
        return await self._last_event(pod, "FailedMount")

    async def _last_event(self, item: Object, reason: str) -> str | None:
        _count("list", EVENT.kind)
        query = {"fieldSelector": f"involvedObject.uid={item['metadata']['uid']},reason={reason}"}
        found = await self._http.call("GET", _path(EVENT, item["metadata"]["namespace"]), query)
        events = found["items"]
        return str(max(events, key=_last_seen).get("message", "")) if events else None

    async def record(self, event: Object) -> None:
        """Record an event."""
        _count("create", EVENT.kind)
        await self._http.call("POST", _path(EVENT, event["metadata"]["namespace"]), _MANAGED, event)

    async def put_lease(self, lease: Object) -> bool:
        """Create or replace a Lease; False when another one was quicker."""
        _count("update", LEASE.kind)
        new = "resourceVersion" not in lease["metadata"]
        path = _path(LEASE, lease["metadata"]["namespace"]) if new else _path_of(lease)
        try:
            await self._http.call("POST" if new else "PUT", path, _MANAGED, lease)
        except ApiError as error:
            if error.code != _CONFLICT:
                raise
            return False
        return True


def _lean(item: Object) -> Object:
    """Leave out who manages which field, a third of most objects, but where it tells who sets a size."""
    share_texts(item)
    if item.get("kind") not in (WORKER_CLUSTER.kind, WORKER_GROUP.kind):
        item.get("metadata", {}).pop("managedFields", None)
    return item


@contextmanager
def _refusals(item: Object) -> Iterator[None]:
    """Tell a refusal, which needs something else to change, from a failure that may pass by itself."""
    try:
        yield
    except ApiError as error:
        code = error.code
        if code in (_CONFLICT, _TOO_MANY) or not _BAD_REQUEST <= code < 500:
            raise
        about = f"{item['kind']} {item['metadata']['name']}"
        for_good = code in (_BAD_REQUEST, _INVALID)
        raise Refused(about, error.message, for_good, "Invalid" if for_good else "") from error


def _path(kind: Kind, namespace: str | None, name: str = "") -> str:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{within}/{kind.plural}" + (f"/{name}" if name else "")


def _path_of(item: Object) -> str:
    return _path(KINDS[item["kind"]], item["metadata"]["namespace"], item["metadata"]["name"])


def _selected(selector: str | None) -> dict[str, str]:
    return {} if selector is None else {"labelSelector": selector}


def _count(verb: str, kind: str) -> None:
    metrics.API_REQUESTS.labels(verb, kind).inc()


def _answered(method: str, status: int | None, seconds: float) -> None:
    metrics.API_SECONDS.labels(method, "none" if status is None else str(status)).observe(seconds)


def _last_seen(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")
