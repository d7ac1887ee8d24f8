"""What the client asks the API server, and what it makes of the answers."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from aiohttp import web
from test_operator_connection import ApiServer, Hanging, line, raw, refused, said, streamed

from trireme_operator import client, metrics
from trireme_operator.api import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    JOB,
    KINDS,
    LEASE,
    POD,
    SECRET,
    SELECTOR,
    WORKER_CLUSTER,
    WORKER_JOB,
    Key,
    Kind,
    Object,
)
from trireme_operator.client import ClusterClient, Refused
from trireme_operator.connection import APPLY, JSON, MERGE, ApiError
from trireme_operator.plan.action import Delete, Patch

Call = Callable[[ClusterClient], Awaitable[Any]]
Test = Callable[[ClusterClient], Awaitable[None]]

OPERATOR = {"fieldManager": "trireme-operator"}
SCALER = {"fieldManager": "trireme-autoscaler"}
CLUSTER = Key("WorkerCluster", "team", "numbers")
CLUSTERS = "/apis/trireme.dev/v1alpha1/namespaces/team/workerclusters"
NO_BODY: Any = None


def an_object(kind: Kind, name: str = "numbers", **metadata: Any) -> Object:
    found = {"name": name, "namespace": "team", "uid": "uid-1", **metadata}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": found}


WORKERS = an_object(DEPLOYMENT)
DELETE = Delete(DEPLOYMENT, "team", "numbers", "uid-1")
PATCH = Patch(JOB, "team", "mean", {"spec": {"suspend": False}})


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    return ApiServer(tmp_path, monkeypatch)


def run(api: ApiServer, test: Test, namespace: str | None = None) -> None:
    api.run(test, lambda: ClusterClient(namespace))


class Row(NamedTuple):
    """A call, and the request that it is."""

    call: Call
    method: str
    path: str
    query: dict[str, str]
    content_type: str | None
    body: Any


DELETING = {"propagationPolicy": "Background", "preconditions": {"uid": "uid-1"}}

CALLS = {
    "apply": Row(
        lambda client: client.apply(WORKERS),
        "PATCH",
        "/apis/apps/v1/namespaces/team/deployments/numbers",
        {**OPERATOR, "force": "true"},
        APPLY,
        WORKERS,
    ),
    "check": Row(
        lambda client: client.check(WORKERS),
        "PATCH",
        "/apis/apps/v1/namespaces/team/deployments/numbers",
        {**OPERATOR, "force": "true", "dryRun": "All"},
        APPLY,
        WORKERS,
    ),
    "apply to the core": Row(
        lambda client: client.apply(an_object(CONFIG_MAP)),
        "PATCH",
        "/api/v1/namespaces/team/configmaps/numbers",
        {**OPERATOR, "force": "true"},
        APPLY,
        an_object(CONFIG_MAP),
    ),
    "create": Row(
        lambda client: client.create(an_object(JOB)),
        "POST",
        "/apis/batch/v1/namespaces/team/jobs",
        OPERATOR,
        JSON,
        an_object(JOB),
    ),
    "create in the core": Row(
        lambda client: client.create(an_object(SECRET)),
        "POST",
        "/api/v1/namespaces/team/secrets",
        OPERATOR,
        JSON,
        an_object(SECRET),
    ),
    "patch": Row(
        lambda client: client.patch(PATCH),
        "PATCH",
        "/apis/batch/v1/namespaces/team/jobs/mean",
        OPERATOR,
        MERGE,
        {"spec": {"suspend": False}},
    ),
    "delete": Row(
        lambda client: client.delete(DELETE),
        "DELETE",
        "/apis/apps/v1/namespaces/team/deployments/numbers",
        {},
        JSON,
        DELETING,
    ),
    "status of a cluster": Row(
        lambda client: client.write_status(CLUSTER, {"phase": "Ready", "message": None}),
        "PATCH",
        f"{CLUSTERS}/numbers/status",
        OPERATOR,
        MERGE,
        {"status": {"phase": "Ready", "message": None}},
    ),
    "status of a job": Row(
        lambda client: client.write_status(Key("WorkerJob", "team", "mean"), {}),
        "PATCH",
        "/apis/trireme.dev/v1alpha1/namespaces/team/workerjobs/mean/status",
        OPERATOR,
        MERGE,
        {"status": {}},
    ),
    "scale": Row(
        lambda client: client.scale(CLUSTER, 3),
        "PATCH",
        f"{CLUSTERS}/numbers/scale",
        SCALER,
        MERGE,
        {"spec": {"replicas": 3}},
    ),
    "deletion cost": Row(
        lambda client: client.set_deletion_cost("team", "numbers-1", -7),
        "PATCH",
        "/api/v1/namespaces/team/pods/numbers-1/status",
        SCALER,
        MERGE,
        {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-7"}}},
    ),
    "get": Row(
        lambda client: client.get(WORKER_CLUSTER, "team", "numbers"),
        "GET",
        f"{CLUSTERS}/numbers",
        {},
        None,
        NO_BODY,
    ),
    "get of the core": Row(
        lambda client: client.get(CONFIG_MAP, "team", "code"),
        "GET",
        "/api/v1/namespaces/team/configmaps/code",
        {},
        None,
        NO_BODY,
    ),
    "log": Row(
        lambda client: client.log_tail("team", "mean-driver-1", 20),
        "GET",
        "/api/v1/namespaces/team/pods/mean-driver-1/log",
        {"tailLines": "20"},
        None,
        NO_BODY,
    ),
    "record": Row(
        lambda client: client.record(an_object(EVENT)),
        "POST",
        "/api/v1/namespaces/team/events",
        OPERATOR,
        JSON,
        an_object(EVENT),
    ),
    "new lease": Row(
        lambda client: client.put_lease(an_object(LEASE)),
        "POST",
        "/apis/coordination.k8s.io/v1/namespaces/team/leases",
        OPERATOR,
        JSON,
        an_object(LEASE),
    ),
    "old lease": Row(
        lambda client: client.put_lease(an_object(LEASE, resourceVersion="7")),
        "PUT",
        "/apis/coordination.k8s.io/v1/namespaces/team/leases/numbers",
        OPERATOR,
        JSON,
        an_object(LEASE, resourceVersion="7"),
    ),
}


@pytest.mark.parametrize("row", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("namespace", [None, "elsewhere"])
def test_what_is_asked(api: ApiServer, row: Row, namespace: str | None) -> None:
    async def test(client: ClusterClient) -> None:
        await row.call(client)

    # What the client watches is no matter where it knows what it wants.
    run(api, test, namespace)
    (asked,) = api.asked
    assert (asked.method, asked.path, asked.query) == (row.method, row.path, row.query)
    assert asked.headers.get("Content-Type") == row.content_type
    assert (json.loads(asked.body) if asked.body else None) == row.body
    assert asked.who == "Bearer static"


@pytest.mark.parametrize(
    "call",
    [
        *(row.call for row in CALLS.values()),
        lambda client: client.list(POD, None),
        lambda client: anext(client.watch(POD, None, "7")),
        lambda client: client.failed_create(WORKERS),
    ],
    ids=[*CALLS, "list", "watch", "failed create"],
)
@pytest.mark.parametrize("code", [401, 500, 503])
def test_no_call_takes_a_failure_for_an_answer(api: ApiServer, call: Call, code: int) -> None:
    api.usual = refused(code, "out of order")

    async def test(used: ClusterClient) -> None:
        with pytest.raises(client.FAILURES, match="out of order"):
            await call(used)

    run(api, test)


def test_every_call_is_counted(api: ApiServer) -> None:
    def count() -> float:
        samples = [sample for found in metrics.API_REQUESTS.collect() for sample in found.samples]
        return sum(sample.value for sample in samples if sample.name.endswith("_total"))

    async def test(client: ClusterClient) -> None:
        before = count()
        for number, row in enumerate(CALLS.values(), start=1):
            await row.call(client)
            assert count() == before + number

    run(api, test)


# Lists and watches.


@pytest.mark.parametrize(
    ("namespace", "kind", "path"),
    [
        (None, POD, "/api/v1/pods"),
        ("team", POD, "/api/v1/namespaces/team/pods"),
        (None, DEPLOYMENT, "/apis/apps/v1/deployments"),
        ("team", DEPLOYMENT, "/apis/apps/v1/namespaces/team/deployments"),
        (None, WORKER_JOB, "/apis/trireme.dev/v1alpha1/workerjobs"),
        ("team", WORKER_JOB, "/apis/trireme.dev/v1alpha1/namespaces/team/workerjobs"),
    ],
)
@pytest.mark.parametrize("selector", [None, SELECTOR, "a=b,c in (d, e)"])
def test_what_is_listed_and_watched(
    api: ApiServer, namespace: str | None, kind: Kind, path: str, selector: str | None
) -> None:
    items: list[Object] = [{"metadata": {"name": "a"}, "spec": {"b": 1}}, {"metadata": {"name": "c"}}]
    api.answer(said({"kind": f"{kind.kind}List", "metadata": {"resourceVersion": "42"}, "items": items}))
    change = {"type": "ADDED", "object": an_object(kind)}
    api.answer(streamed(line(change)))

    async def test(client: ClusterClient) -> None:
        found, version = await client.list(kind, selector)
        assert version == "42"
        # As they would be by themselves.
        assert found == [{**item, "apiVersion": kind.api_version, "kind": kind.kind} for item in items]
        watched = [event async for event in client.watch(kind, selector, version)]
        assert watched == [("ADDED", an_object(kind))]

    run(api, test, namespace)
    selected = {} if selector is None else {"labelSelector": selector}
    listed, watched = api.asked
    assert (listed.method, listed.path, listed.query) == ("GET", path, selected)
    following = {**selected, "resourceVersion": "42", "watch": "true", "timeoutSeconds": "300"}
    assert (watched.method, watched.path, watched.query) == ("GET", path, following)


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_kind_has_a_place(api: ApiServer, kind: Kind) -> None:
    api.answer(said({"metadata": {"resourceVersion": "42"}, "items": []}))

    async def test(client: ClusterClient) -> None:
        assert await client.list(kind, None) == ([], "42")

    run(api, test)
    root = f"/apis/{kind.group}" if kind.group else "/api"
    assert api.asked[0].target == f"{root}/{kind.version}/{kind.plural}"


def test_changes(api: ApiServer) -> None:
    events = [("ADDED", {"a": "\u2028\u0085"}), ("MODIFIED", {"b": 1}), ("DELETED", {"c": 1}), ("BOOKMARK", {"d": 1})]
    api.answer(streamed(*(line({"type": change, "object": item}) for change, item in events)))

    async def test(client: ClusterClient) -> None:
        assert [event async for event in client.watch(POD, None, "7")] == events

    run(api, test)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        ({"kind": "Status", "code": 410, "message": "too old resource version"}, 410, "too old resource version"),
        ({"kind": "Status", "code": 500, "message": "etcd"}, 500, "etcd"),
        # What does not say what it is, is over too.
        ({}, 410, "unknown"),
    ],
)
def test_an_error_in_a_watch(api: ApiServer, status: Object, code: int, message: str) -> None:
    good, bad = {"type": "ADDED", "object": an_object(POD)}, {"type": "ERROR", "object": status}

    async def test(client: ClusterClient) -> None:
        hanging = Hanging(line(good), line(bad), line(good))
        api.answer(hanging)
        events = client.watch(POD, None, "7")
        assert await anext(events) == ("ADDED", an_object(POD))
        with pytest.raises(ApiError) as refusal:
            await anext(events)
        assert (refusal.value.code, refusal.value.message) == (code, message)
        # Its connection is not left open.
        await hanging.gone.wait()

    run(api, test)


@pytest.mark.parametrize(
    ("kind", "kept"), [(POD, False), (DEPLOYMENT, False), (WORKER_JOB, False), (WORKER_CLUSTER, True)]
)
def test_who_manages_which_field_is_kept_of_clusters_alone(api: ApiServer, kind: Kind, kept: bool) -> None:
    item = an_object(kind, managedFields=[{"manager": "kubectl"}])
    api.answer(said({"metadata": {"resourceVersion": "42"}, "items": [item]}))
    api.answer(streamed(line({"type": "ADDED", "object": item})))
    api.answer(said(item))

    async def test(client: ClusterClient) -> None:
        [listed], version = await client.list(kind, None)
        watched = [item async for _, item in client.watch(kind, None, version)]
        found = [listed, *watched, await client.apply(an_object(kind))]
        assert ["managedFields" in one["metadata"] for one in found] == [kept] * 3

    run(api, test)


def test_equal_texts_of_config_maps_are_one_in_memory(api: ApiServer) -> None:
    both = [{**an_object(CONFIG_MAP, name=name), "data": {"run.sh": "echo it\n" * 100}} for name in ("a", "b")]
    api.answer(said({"metadata": {"resourceVersion": "42"}, "items": both[:1]}))
    api.answer(streamed(line({"type": "ADDED", "object": both[1]})))

    async def test(client: ClusterClient) -> None:
        [listed], version = await client.list(CONFIG_MAP, None)
        [watched] = [item async for _, item in client.watch(CONFIG_MAP, None, version)]
        assert watched["data"]["run.sh"] is listed["data"]["run.sh"]

    run(api, test)


def test_a_watch_that_is_refused(api: ApiServer) -> None:
    api.answer(refused(410, "too old resource version"))

    async def test(client: ClusterClient) -> None:
        with pytest.raises(ApiError, match="too old") as refusal:
            await anext(client.watch(POD, None, "7"))
        assert refusal.value.code == 410

    run(api, test)


def test_a_watch_that_is_given_up(api: ApiServer) -> None:
    async def test(client: ClusterClient) -> None:
        hanging = Hanging(line({"type": "ADDED", "object": {}}))
        api.answer(hanging)
        async with aclosing(cast(AsyncGenerator[Any, None], client.watch(POD, None, "7"))) as events:
            assert await anext(events) == ("ADDED", {})
        await hanging.gone.wait()

    run(api, test)


def test_a_watch_whose_task_is_cancelled(api: ApiServer) -> None:
    async def test(client: ClusterClient) -> None:
        hanging, seen = Hanging(line({"type": "ADDED", "object": {}})), asyncio.Event()
        api.answer(hanging)

        async def follow() -> None:
            async for _ in client.watch(POD, None, "7"):
                seen.set()

        task = asyncio.create_task(follow())
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await hanging.gone.wait()

    run(api, test)


# What is refused.


@pytest.mark.parametrize(
    ("code", "for_good", "reason"),
    [
        (400, True, "Invalid"),
        (422, True, "Invalid"),
        (403, False, ""),
        (404, False, ""),
        (405, False, ""),
        (413, False, ""),
    ],
)
@pytest.mark.parametrize("name", ["apply", "create"])
def test_a_write_that_is_refused(api: ApiServer, name: str, code: int, for_good: bool, reason: str) -> None:
    api.answer(refused(code, 'pods "x" is forbidden: exceeded quota'))

    async def test(client: ClusterClient) -> None:
        with pytest.raises(Refused) as refusal:
            await (client.apply(WORKERS) if name == "apply" else client.create(WORKERS))
        assert (refusal.value.for_good, refusal.value.reason) == (for_good, reason)
        assert str(refusal.value) == 'Deployment numbers: pods "x" is forbidden: exceeded quota'
        assert isinstance(refusal.value.__cause__, ApiError)

    run(api, test)


@pytest.mark.parametrize("code", [302, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("name", ["apply", "create"])
def test_a_failure_that_may_pass_is_no_refusal(api: ApiServer, name: str, code: int) -> None:
    api.answer(refused(code, "not now"))

    async def test(client: ClusterClient) -> None:
        with pytest.raises(ApiError, match="not now") as failure:
            await (client.apply(WORKERS) if name == "apply" else client.create(WORKERS))
        assert failure.value.code == code

    run(api, test)


def test_what_is_applied_comes_back(api: ApiServer) -> None:
    api.answer(said({**WORKERS, "spec": {"replicas": 1}}), refused(409, "changed meanwhile"))

    async def test(client: ClusterClient) -> None:
        assert await client.apply(WORKERS) == {**WORKERS, "spec": {"replicas": 1}}
        with pytest.raises(ApiError, match="changed meanwhile"):
            await client.apply(WORKERS)

    run(api, test)


def test_what_is_there_already_is_not_made(api: ApiServer) -> None:
    api.answer(said(WORKERS, 201), refused(409, 'deployments "numbers" already exists'))

    async def test(client: ClusterClient) -> None:
        assert [await client.create(WORKERS), await client.create(WORKERS)] == [True, False]

    run(api, test)


@pytest.mark.parametrize(
    ("name", "swallowed"),
    [
        ("patch", {404}),
        ("delete", {404, 409}),
        ("status of a cluster", {404}),
        ("scale", {404}),
        ("deletion cost", {404}),
        ("get", {404}),
        ("log", {404, 400}),
        ("record", set()),
        ("new lease", {409}),
        ("old lease", {409}),
    ],
)
def test_what_may_be_gone(api: ApiServer, name: str, swallowed: set[int]) -> None:
    expected = {"log": "", "new lease": False, "old lease": False}

    async def test(client: ClusterClient) -> None:
        for code in (400, 403, 404, 409, 410, 422, 429, 500):
            api.answer(refused(code))
            if code in swallowed:
                assert await CALLS[name].call(client) == expected.get(name)
                continue
            with pytest.raises(ApiError) as failure:
                await CALLS[name].call(client)
            assert failure.value.code == code

    run(api, test)
    assert len(api.asked) == 8


@pytest.mark.parametrize("name", ["new lease", "old lease"])
def test_a_lease_that_is_had(api: ApiServer, name: str) -> None:
    async def test(client: ClusterClient) -> None:
        assert await CALLS[name].call(client) is True

    run(api, test)


def test_what_is_there(api: ApiServer) -> None:
    api.answer(said(WORKERS))

    async def test(client: ClusterClient) -> None:
        assert await client.get(DEPLOYMENT, "team", "numbers") == WORKERS

    run(api, test)


# Logs.


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (b"", ""),
        (b"one\ntwo\n", "one\ntwo\n"),
        (b"caf\xe9 \0 \xf0\x9f\x98\x80\n", "caf\ufffd \0 😀\n"),
        (b"x" * (1 << 20) + b"the end\n", "x" * ((64 << 10) - 8) + "the end\n"),
        (b"a" * (64 << 10), "a" * (64 << 10)),
        (b"b" + b"a" * (64 << 10), "a" * (64 << 10)),
        # Cut within a character.
        (b"a\xe2\x82\xac" + b"a" * ((64 << 10) - 1), "\ufffd" + "a" * ((64 << 10) - 1)),
    ],
    ids=["nothing", "lines", "bytes", "a long line", "just all", "all but one", "a character"],
)
def test_the_tail_of_a_log(api: ApiServer, log: bytes, expected: str) -> None:
    pieces = [log[start : start + 10_000] for start in range(0, len(log), 10_000)]
    api.answer(raw(log, content_type="text/plain"), streamed(*pieces))

    async def test(client: ClusterClient) -> None:
        assert await client.log_tail("team", "mean-driver-1", 20) == expected
        assert await client.log_tail("team", "mean-driver-1", 20) == expected

    run(api, test)


def test_a_log_that_breaks_off(api: ApiServer) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = await streamed(b"one\n")(request)
        assert request.transport
        request.transport.abort()
        return response

    api.answer(answer)

    async def test(used: ClusterClient) -> None:
        with pytest.raises(client.FAILURES):
            await used.log_tail("team", "mean-driver-1", 20)

    run(api, test)


# Why a controller made nothing.


def event(message: str | None, last: str | None = None, first: str | None = None) -> Object:
    told = {"message": message, "lastTimestamp": last, "eventTime": first}
    return {name: value for name, value in told.items() if value is not None}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], None),
        ([event("one", "2026-01-01T00:00:00Z")], "one"),
        ([event("new", "2026-01-02T00:00:00Z"), event("old", "2026-01-01T23:59:59Z")], "new"),
        ([event("old", "2026-01-01T23:59:59Z"), event("new", "2026-01-02T00:00:00Z")], "new"),
        ([event("old", "2026-01-01T00:00:00Z"), event("new", None, "2026-01-01T00:00:01.000000Z")], "new"),
        ([event("new", "2026-01-01T00:00:02Z"), event("old", None, "2026-01-01T00:00:01.000000Z")], "new"),
        ([event("unknown when"), event("new", "2026-01-01T00:00:00Z")], "new"),
        ([event(None, "2026-01-01T00:00:00Z")], ""),
    ],
)
def test_why_pods_can_not_be_made(api: ApiServer, events: list[Object], expected: str | None) -> None:
    api.answer(said({"metadata": {"resourceVersion": "42"}, "items": events}))

    api.answer(said({"metadata": {"resourceVersion": "42"}, "items": events}))

    async def test(client: ClusterClient) -> None:
        assert await client.failed_create(WORKERS) == expected
        assert await client.failed_mount(WORKERS) == expected

    run(api, test, "team")
    assert {(asked.method, asked.path) for asked in api.asked} == {("GET", "/api/v1/namespaces/team/events")}
    assert [asked.query["fieldSelector"] for asked in api.asked] == [
        "involvedObject.uid=uid-1,reason=FailedCreate",
        "involvedObject.uid=uid-1,reason=FailedMount",
    ]


def test_closing(api: ApiServer) -> None:
    async def test(client: ClusterClient) -> None:
        await client.close()
        await client.get(POD, "team", "a")
        await client.close()
        await client.close()

    run(api, test)
